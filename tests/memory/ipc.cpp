// SPDX-License-Identifier: MIT
// Two processes: one gives the other memory (cuIpc, a descriptor, a pool's pointer) and an event, and ends first.
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"

using namespace example;

constexpr size_t small_bytes = 5000, large_bytes = 3 << 20, pool_bytes = 100000;

struct Offer {
    CUipcMemHandle small, again, large;
    CUipcEventHandle event;
    CUmemPoolPtrExportData pointer;
    size_t granule;
};

// Both ways to talk are such as a program may hold while it is dumped: no connected socket.
struct Link {
    sockaddr_un address{};
    socklen_t length = 0;
    int offers = -1;       // the importer's datagram socket
    int done[2] = {-1, -1};  // a pipe: the importer has written
};

static void send_all(const Link& link, const Offer& offer, int memory, int pool) {
    iovec part{const_cast<Offer*>(&offer), sizeof offer};
    alignas(cmsghdr) char control[CMSG_SPACE(2 * sizeof(int))] = {};
    sockaddr_un target = link.address;
    msghdr header{};
    header.msg_name = &target;
    header.msg_namelen = link.length;
    header.msg_iov = &part;
    header.msg_iovlen = 1;
    header.msg_control = control;
    header.msg_controllen = sizeof control;
    cmsghdr* item = CMSG_FIRSTHDR(&header);
    item->cmsg_level = SOL_SOCKET;
    item->cmsg_type = SCM_RIGHTS;
    item->cmsg_len = CMSG_LEN(2 * sizeof(int));
    const int fds[2] = {memory, pool};
    std::memcpy(CMSG_DATA(item), fds, sizeof fds);
    const int socket_fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    EXPECT(sendmsg(socket_fd, &header, 0) == sizeof offer);
    close(socket_fd);
}

static void receive_all(int from, Offer* offer, int fds[2]) {
    iovec part{offer, sizeof *offer};
    alignas(cmsghdr) char control[CMSG_SPACE(2 * sizeof(int))] = {};
    msghdr header{};
    header.msg_iov = &part;
    header.msg_iovlen = 1;
    header.msg_control = control;
    header.msg_controllen = sizeof control;
    if (recvmsg(from, &header, 0) != sizeof *offer) fail("the other process sent nothing");
    std::memcpy(fds, CMSG_DATA(CMSG_FIRSTHDR(&header)), 2 * sizeof(int));
}

static void tell(int to) { EXPECT(write(to, "x", 1) == 1); }
static void await(int from) {
    char byte;
    if (read(from, &byte, 1) != 1) fail("the other process has ended");
}

static void allow(CUdeviceptr address, size_t bytes) {
    CUmemAccessDesc access{};
    access.location = {CU_MEM_LOCATION_TYPE_DEVICE, {0}};
    access.flags = CU_MEM_ACCESS_FLAGS_PROT_READWRITE;
    EXPECT_OK(cuMemSetAccess(address, bytes, &access, 1));
}

static int exporter(const Link& link) {
    begin();
    Offer offer{};
    CUdeviceptr small = 0, neighbour = 0, large = 0, mapped = 0, pooled = 0;
    EXPECT_OK(cuMemAlloc(&neighbour, small_bytes));
    EXPECT_OK(cuMemAlloc(&small, small_bytes));
    EXPECT_OK(cuMemAlloc(&large, large_bytes));
    EXPECT_OK(cuMemsetD8(neighbour, 200, small_bytes));
    EXPECT_OK(cuMemsetD8(small, 11, small_bytes));
    EXPECT_OK(cuMemsetD8(large, 22, large_bytes));
    EXPECT_OK(cuIpcGetMemHandle(&offer.small, small));
    EXPECT_OK(cuIpcGetMemHandle(&offer.again, small));
    EXPECT_OK(cuIpcGetMemHandle(&offer.large, large));
    EXPECT_RESULT(CUDA_ERROR_INVALID_VALUE, cuIpcGetMemHandle(&offer.large, 0x1234));
    CUdeviceptr own = 0;
    EXPECT_RESULT(CUDA_ERROR_INVALID_CONTEXT, cuIpcOpenMemHandle(&own, offer.small, CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS));

    CUmemAllocationProp prop{};
    prop.type = CU_MEM_ALLOCATION_TYPE_PINNED;
    prop.location = {CU_MEM_LOCATION_TYPE_DEVICE, {0}};
    prop.requestedHandleTypes = CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR;
    EXPECT_OK(cuMemGetAllocationGranularity(&offer.granule, &prop, CU_MEM_ALLOC_GRANULARITY_MINIMUM));
    CUmemGenericAllocationHandle handle = 0;
    EXPECT_OK(cuMemCreate(&handle, offer.granule, &prop, 0));
    EXPECT_OK(cuMemAddressReserve(&mapped, offer.granule, 0, 0, 0));
    EXPECT_OK(cuMemMap(mapped, offer.granule, 0, handle, 0));
    allow(mapped, offer.granule);
    EXPECT_OK(cuMemsetD8(mapped, 33, offer.granule));
    int memory_fd = -1, pool_fd = -1;
    EXPECT_OK(cuMemExportToShareableHandle(&memory_fd, handle, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR, 0));

    CUmemPoolProps props{};
    props.allocType = CU_MEM_ALLOCATION_TYPE_PINNED;
    props.handleTypes = CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR;
    props.location = {CU_MEM_LOCATION_TYPE_DEVICE, {0}};
    CUmemoryPool pool = nullptr;
    EXPECT_OK(cuMemPoolCreate(&pool, &props));
    EXPECT_OK(cuMemPoolExportToShareableHandle(&pool_fd, pool, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR, 0));
    CUstream stream = nullptr;
    EXPECT_OK(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
    EXPECT_OK(cuMemAllocFromPoolAsync(&pooled, pool_bytes, pool, stream));
    EXPECT_OK(cuMemsetD8Async(pooled, 44, pool_bytes, stream));
    EXPECT_OK(cuStreamSynchronize(stream));
    EXPECT_OK(cuMemPoolExportPointer(&offer.pointer, pooled));

    CUevent event = nullptr;
    EXPECT_OK(cuEventCreate(&event, CU_EVENT_INTERPROCESS | CU_EVENT_DISABLE_TIMING));
    EXPECT_OK(cuEventRecord(event, stream));
    EXPECT_OK(cuIpcGetEventHandle(&offer.event, event));
    EXPECT_OK(cuCtxSynchronize());
    send_all(link, offer, memory_fd, pool_fd);
    close(memory_fd);
    close(pool_fd);
    await(link.done[0]);
    // What the other process wrote, and only that.
    expect_bytes(small, small_bytes, 111, "memory that the importer wrote");
    expect_bytes(neighbour, small_bytes, 200, "memory beside what was shared");
    expect_bytes(mapped, offer.granule, 133, "mapped memory that the importer wrote");
    expect_bytes(pooled, pool_bytes, 144, "pooled memory that the importer wrote");
    return 0;
}

int main() {
    Link link;
    EXPECT(pipe(link.done) == 0);
    link.offers = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    link.address.sun_family = AF_UNIX;
    // Binding to a family alone gives an abstract name that nobody else has.
    EXPECT(bind(link.offers, reinterpret_cast<sockaddr*>(&link.address), sizeof(sa_family_t)) == 0);
    link.length = sizeof link.address;
    EXPECT(getsockname(link.offers, reinterpret_cast<sockaddr*>(&link.address), &link.length) == 0);
    const pid_t child = fork();
    EXPECT(child >= 0);
    if (child == 0) {
        close(link.done[1]);
        exit(exporter(link));
    }
    close(link.done[0]);
    begin();
    Offer offer{};
    int fds[2] = {-1, -1};
    receive_all(link.offers, &offer, fds);
    CUdeviceptr small = 0, again = 0, large = 0, mapped = 0, pooled = 0;
    EXPECT_RESULT(CUDA_ERROR_INVALID_VALUE, cuIpcOpenMemHandle(&small, offer.small, 0));
    EXPECT_OK(cuIpcOpenMemHandle(&small, offer.small, CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS));
    EXPECT_OK(cuIpcOpenMemHandle(&again, offer.again, CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS));
    EXPECT(again == small);
    EXPECT_OK(cuIpcOpenMemHandle(&large, offer.large, CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS));
    expect_bytes(small, small_bytes, 11, "small shared memory");
    expect_bytes(large, large_bytes, 22, "large shared memory");
    CUdeviceptr base = 0;
    size_t size = 0;
    EXPECT_OK(cuMemGetAddressRange(&base, &size, large + 77));
    EXPECT(base == large && size >= large_bytes);
    EXPECT_OK(cuMemsetD8(small, 111, small_bytes));

    CUmemGenericAllocationHandle handle = 0;
    EXPECT_OK(cuMemImportFromShareableHandle(&handle, reinterpret_cast<void*>(static_cast<long>(fds[0])),
                                             CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR));
    EXPECT_OK(cuMemAddressReserve(&mapped, offer.granule, 0, 0, 0));
    EXPECT_OK(cuMemMap(mapped, offer.granule, 0, handle, 0));
    allow(mapped, offer.granule);
    expect_bytes(mapped, offer.granule, 33, "memory by its descriptor");
    EXPECT_OK(cuMemsetD8(mapped, 133, offer.granule));

    CUmemoryPool pool = nullptr;
    EXPECT_OK(cuMemPoolImportFromShareableHandle(&pool, reinterpret_cast<void*>(static_cast<long>(fds[1])),
                                                 CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR, 0));
    EXPECT_OK(cuMemPoolImportPointer(&pooled, pool, &offer.pointer));
    expect_bytes(pooled, pool_bytes, 44, "memory of another process's pool");
    EXPECT_OK(cuMemsetD8(pooled, 144, pool_bytes));
    CUdeviceptr none = 0;
    EXPECT(cuMemAllocFromPoolAsync(&none, 100, pool, nullptr) != CUDA_SUCCESS);  // it is not ours to allocate from

    CUevent event = nullptr;
    EXPECT_OK(cuIpcOpenEventHandle(&event, offer.event));
    EXPECT_OK(cuStreamWaitEvent(nullptr, event, 0));
    EXPECT_OK(cuEventSynchronize(event));
    EXPECT_OK(cuEventQuery(event));
    EXPECT_OK(cuCtxSynchronize());
    EXPECT_OK(cuEventDestroy(event));
    EXPECT_OK(cuMemFree(pooled));
    tell(link.done[1]);
    int status = 0;
    EXPECT(waitpid(child, &status, 0) == child);
    if (status != 0) return 1;  // it said why

    // The exporter is gone; what is open stays.
    expect_bytes(mapped, offer.granule, 133, "memory whose maker has ended");
    EXPECT_OK(cuIpcCloseMemHandle(small));
    EXPECT_OK(cuIpcCloseMemHandle(small));  // it was opened twice
    EXPECT_RESULT(CUDA_ERROR_INVALID_VALUE, cuIpcCloseMemHandle(small));
    EXPECT_OK(cuIpcCloseMemHandle(large));
    EXPECT_OK(cuMemUnmap(mapped, offer.granule));
    EXPECT_OK(cuMemRelease(handle));
    EXPECT_OK(cuMemAddressFree(mapped, offer.granule));
    close(fds[0]);
    close(fds[1]);
    return pass("memory and an event of another process");
}
