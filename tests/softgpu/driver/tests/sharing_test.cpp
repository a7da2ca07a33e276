// SPDX-License-Identifier: MIT
// Memory and events of two processes. The other one is forked before this one touches the driver.
#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fixture.h"

namespace {

// What the two say to each other, in turns.
class Other {
  public:
    // `body` runs in the other process, with pipes to and from this one; what it returns is its exit status.
    explicit Other(int (*body)(int from, int to)) {
        int there[2], back[2];
        EXPECT_EQ(pipe(there), 0);
        EXPECT_EQ(pipe(back), 0);
        pid_ = fork();
        if (pid_ == 0) _exit(body(there[0], back[1]));
        to_ = there[1];
        from_ = back[0];
    }
    template <typename T>
    void send(const T& value) {
        EXPECT_EQ(write(to_, &value, sizeof value), static_cast<ssize_t>(sizeof value));
    }
    template <typename T>
    T receive() {
        T value{};
        EXPECT_EQ(read(from_, &value, sizeof value), static_cast<ssize_t>(sizeof value));
        return value;
    }
    int status() {
        int status = 0;
        EXPECT_EQ(waitpid(pid_, &status, 0), pid_);
        return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    }
    pid_t pid() const { return pid_; }

  private:
    pid_t pid_;
    int to_, from_;
};

struct Handles {
    CUipcMemHandle memory;
    CUipcEventHandle event;
    int pid, fd, pool_fd;
    CUmemPoolPtrExportData pointer;
};

#define CHECKED(call)                                                \
    if (CUresult result = (call); result != CUDA_SUCCESS) {          \
        fprintf(stderr, "%s: %s\n", #call, name_of(result).c_str()); \
        return __LINE__ % 250 + 1;                                   \
    }

CUmemAllocationProp shareable() {
    CUmemAllocationProp prop = {};
    prop.type = CU_MEM_ALLOCATION_TYPE_PINNED;
    prop.location = {CU_MEM_LOCATION_TYPE_DEVICE, {0}};
    prop.requestedHandleTypes = CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR;
    return prop;
}

// A descriptor of the other process as one of this: what SCM_RIGHTS does, shorter.
int descriptor_of(int pid, int fd) {
    return open(("/proc/" + std::to_string(pid) + "/fd/" + std::to_string(fd)).c_str(), O_RDWR | O_CLOEXEC);
}

constexpr size_t kSize = 2 << 20;

int importer(int from, int to) {
    Handles handles;
    if (read(from, &handles, sizeof handles) != static_cast<ssize_t>(sizeof handles)) return 1;
    CUcontext context;
    CHECKED(cuInit(0));
    CHECKED(cuDevicePrimaryCtxRetain(&context, 0));
    CHECKED(cuCtxSetCurrent(context));
    CUdeviceptr memory = 0, again = 0, pooled = 0, mapped = 0;
    CHECKED(cuIpcOpenMemHandle(&memory, handles.memory, CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS));
    CHECKED(cuIpcOpenMemHandle(&again, handles.memory, CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS));
    if (again != memory) return 2;
    CUevent event;
    CHECKED(cuIpcOpenEventHandle(&event, handles.event));
    if (cuEventQuery(event) != CUDA_ERROR_NOT_READY) return 3;
    char go = 'g';
    if (write(to, &go, 1) != 1) return 4;
    CHECKED(cuStreamWaitEvent(nullptr, event, 0));
    int value = 0;
    CHECKED(cuMemcpyDtoH(&value, memory + 100, sizeof value));
    if (value != 1234) return 5;
    CHECKED(cuMemsetD32(memory, 77, 1));
    CHECKED(cuCtxSynchronize());
    CHECKED(cuIpcCloseMemHandle(memory));
    CHECKED(cuIpcCloseMemHandle(memory));
    if (cuIpcCloseMemHandle(memory) != CUDA_ERROR_INVALID_VALUE) return 6;

    CUmemGenericAllocationHandle handle;
    auto fd = descriptor_of(handles.pid, handles.fd);
    CHECKED(cuMemImportFromShareableHandle(&handle, reinterpret_cast<void*>(static_cast<intptr_t>(fd)),
                                           CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR));
    CHECKED(cuMemAddressReserve(&mapped, kSize, 0, 0, 0));
    CHECKED(cuMemMap(mapped, kSize, 0, handle, 0));
    CUmemAccessDesc access = {{CU_MEM_LOCATION_TYPE_DEVICE, {0}}, CU_MEM_ACCESS_FLAGS_PROT_READWRITE};
    CHECKED(cuMemSetAccess(mapped, kSize, &access, 1));
    CHECKED(cuMemcpyDtoH(&value, mapped + kSize - 4, sizeof value));
    if (value != 5678) return 7;

    CUmemoryPool pool;
    auto pool_fd = descriptor_of(handles.pid, handles.pool_fd);
    CHECKED(cuMemPoolImportFromShareableHandle(&pool, reinterpret_cast<void*>(static_cast<intptr_t>(pool_fd)),
                                               CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR, 0));
    CHECKED(cuMemPoolImportPointer(&pooled, pool, &handles.pointer));
    CHECKED(cuMemcpyDtoH(&value, pooled, sizeof value));
    if (value != 91011) return 8;
    CHECKED(cuMemFreeAsync(pooled, nullptr));
    CHECKED(cuCtxSynchronize());
    return 0;
}

}  // namespace

TEST(Sharing, BetweenTwoProcesses) {
    Other other(importer);
    CUcontext context = nullptr;
    ASSERT_OK(cuInit(0));
    ASSERT_OK(cuDevicePrimaryCtxRetain(&context, 0));
    ASSERT_OK(cuCtxSetCurrent(context));
    CUdeviceptr first = 0, memory = 0, gate = 0, mapped = 0, pooled = 0, own = 0;
    EXPECT_OK(cuMemAlloc(&first, 1000));
    EXPECT_OK(cuMemAlloc(&memory, 5000));
    EXPECT_OK(cuMemAlloc(&gate, 4));
    EXPECT_OK(cuMemsetD32(gate, 0, 1));
    Handles handles = {};
    handles.pid = getpid();
    EXPECT_OK(cuIpcGetMemHandle(&handles.memory, memory));
    EXPECT_CU(CUDA_ERROR_INVALID_CONTEXT,
              cuIpcOpenMemHandle(&own, handles.memory, CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS));
    CUevent event = nullptr, plain = nullptr;
    EXPECT_OK(cuEventCreate(&event, CU_EVENT_INTERPROCESS | CU_EVENT_DISABLE_TIMING));
    EXPECT_OK(cuEventCreate(&plain, CU_EVENT_DISABLE_TIMING));
    EXPECT_CU(CUDA_ERROR_INVALID_VALUE, cuIpcGetEventHandle(&handles.event, plain));
    EXPECT_OK(cuIpcGetEventHandle(&handles.event, event));
    CUstream stream;
    EXPECT_OK(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
    EXPECT_OK(cuStreamWaitValue32(stream, gate, 1, CU_STREAM_WAIT_VALUE_EQ));
    EXPECT_OK(cuMemsetD32Async(memory + 100, 1234, 1, stream));
    EXPECT_OK(cuEventRecord(event, stream));

    auto prop = shareable();
    CUmemGenericAllocationHandle handle = 0;
    EXPECT_OK(cuMemCreate(&handle, kSize, &prop, 0));
    EXPECT_OK(cuMemExportToShareableHandle(&handles.fd, handle, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR, 0));
    EXPECT_OK(cuMemAddressReserve(&mapped, kSize, 0, 0, 0));
    EXPECT_OK(cuMemMap(mapped, kSize, 0, handle, 0));
    CUmemAccessDesc access = {{CU_MEM_LOCATION_TYPE_DEVICE, {0}}, CU_MEM_ACCESS_FLAGS_PROT_READWRITE};
    EXPECT_OK(cuMemSetAccess(mapped, kSize, &access, 1));
    EXPECT_OK(cuMemsetD32(mapped + kSize - 4, 5678, 1));

    CUmemPoolProps props = {};
    props.allocType = CU_MEM_ALLOCATION_TYPE_PINNED;
    props.location = {CU_MEM_LOCATION_TYPE_DEVICE, {0}};
    props.handleTypes = CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR;
    CUmemoryPool pool = nullptr;
    EXPECT_OK(cuMemPoolCreate(&pool, &props));
    EXPECT_OK(cuMemPoolExportToShareableHandle(&handles.pool_fd, pool,
                                               CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR, 0));
    EXPECT_OK(cuMemAllocFromPoolAsync(&pooled, 64, pool, nullptr));
    EXPECT_OK(cuMemsetD32(pooled, 91011, 1));
    EXPECT_OK(cuMemPoolExportPointer(&handles.pointer, pooled));
    EXPECT_OK(cuStreamSynchronize(nullptr));

    other.send(handles);
    other.receive<char>();  // it has seen the event unfinished
    EXPECT_CU(CUDA_ERROR_NOT_READY, cuEventQuery(event));
    EXPECT_OK(cuMemsetD32(gate, 1, 1));
    EXPECT_OK(cuEventSynchronize(event));
    EXPECT_EQ(other.status(), 0);
    unsigned value = 0;
    EXPECT_OK(cuMemcpyDtoH(&value, memory, sizeof value));
    EXPECT_EQ(value, 77u);
    EXPECT_OK(cuMemFree(memory));
    EXPECT_CU(CUDA_ERROR_INVALID_VALUE, cuIpcGetMemHandle(&handles.memory, mapped));
    EXPECT_OK(cuDevicePrimaryCtxReset(0));
}
