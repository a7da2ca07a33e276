// SPDX-License-Identifier: MIT
// NVIDIA's driver with a watch: `cricket-server --driver BUILD/tests/bench/libtimed_driver.so` measures in the worker what the
// driver takes for each of the calls below, and what passes between two of them, which is our own. Everything else goes
// straight to libcuda.so.1. The sums lie in the file that CRICKET_TIMED_DRIVER names, for where_time_goes.py.
#include <cuda.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>

namespace {

struct Sum {  // as where_time_goes.py reads it
    char name[32];
    uint64_t calls, ns;          // in the driver
    uint64_t gaps, gap_ns;       // from the end of the call before, whichever it was, when that is at most gap_limit
};
constexpr unsigned functions = 32;
constexpr uint64_t gap_limit = 30'000;

Sum* sums() {
    static Sum* const all = [] {
        static Sum nowhere[functions];
        const char* path = std::getenv("CRICKET_TIMED_DRIVER");
        const int fd = path ? ::open(path, O_RDWR | O_CREAT, 0600) : -1;
        if (fd < 0 || ::ftruncate(fd, sizeof nowhere) != 0) return nowhere;
        void* memory = ::mmap(nullptr, sizeof nowhere, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        ::close(fd);
        return memory == MAP_FAILED ? nowhere : static_cast<Sum*>(memory);
    }();
    return all;
}

uint64_t now() {
    timespec t{};
    ::clock_gettime(CLOCK_MONOTONIC, &t);
    return static_cast<uint64_t>(t.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(t.tv_nsec);
}

thread_local uint64_t last_end = 0;

template <class Function>
Function* real(const char* name) {
    static void* const driver = ::dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
    return reinterpret_cast<Function*>(driver ? ::dlsym(driver, name) : nullptr);
}

template <class Call>
CUresult timed(unsigned index, const char* name, Call call) {
    Sum& sum = sums()[index];
    if (!sum.calls) std::strncpy(sum.name, name, sizeof sum.name - 1);
    const uint64_t begin = now();
    const CUresult result = call();
    const uint64_t end = now();
    ++sum.calls;
    sum.ns += end - begin;
    if (last_end && begin - last_end <= gap_limit) {
        ++sum.gaps;
        sum.gap_ns += begin - last_end;
    }
    last_end = end;
    return result;
}

}  // namespace

// The parameters twice: as declared, and by name.
#define TIMED(index, function, parameters, arguments)                            \
    extern "C" __attribute__((visibility("default"))) CUresult function parameters { \
        static auto* const target = real<CUresult parameters>(#function);        \
        if (!target) return CUDA_ERROR_NOT_SUPPORTED;                            \
        return timed(index, #function, [&] { return target arguments; });        \
    }

using U = unsigned;
TIMED(0, cuLaunchKernel,
      (CUfunction f, U gx, U gy, U gz, U bx, U by, U bz, U shared, CUstream s, void** parameters, void** extra),
      (f, gx, gy, gz, bx, by, bz, shared, s, parameters, extra))
TIMED(1, cuLaunchKernelEx, (const CUlaunchConfig* config, CUfunction f, void** parameters, void** extra), (config, f, parameters, extra))
TIMED(2, cuEventRecord, (CUevent event, CUstream s), (event, s))
TIMED(3, cuEventQuery, (CUevent event), (event))
TIMED(4, cuStreamQuery, (CUstream s), (s))
TIMED(5, cuStreamSynchronize, (CUstream s), (s))
TIMED(6, cuEventSynchronize, (CUevent event), (event))
TIMED(7, cuMemcpyHtoDAsync_v2, (CUdeviceptr to, const void* from, size_t bytes, CUstream s), (to, from, bytes, s))
TIMED(8, cuMemcpyDtoHAsync_v2, (void* to, CUdeviceptr from, size_t bytes, CUstream s), (to, from, bytes, s))
TIMED(9, cuMemsetD8Async, (CUdeviceptr to, unsigned char value, size_t bytes, CUstream s), (to, value, bytes, s))
TIMED(10, cuCtxGetApiVersion, (CUcontext context, unsigned* version), (context, version))
TIMED(11, cuCtxSetCurrent, (CUcontext context), (context))
TIMED(12, cuMemCreate, (CUmemGenericAllocationHandle* handle, size_t bytes, const CUmemAllocationProp* properties, unsigned long long flags),
      (handle, bytes, properties, flags))
TIMED(13, cuMemMap, (CUdeviceptr at, size_t bytes, size_t offset, CUmemGenericAllocationHandle handle, unsigned long long flags),
      (at, bytes, offset, handle, flags))
TIMED(14, cuMemSetAccess, (CUdeviceptr at, size_t bytes, const CUmemAccessDesc* access, size_t count), (at, bytes, access, count))
TIMED(15, cuMemUnmap, (CUdeviceptr at, size_t bytes), (at, bytes))
TIMED(16, cuMemRelease, (CUmemGenericAllocationHandle handle), (handle))
TIMED(17, cuCtxSynchronize, (), ())
TIMED(18, cuStreamWaitEvent, (CUstream s, CUevent event, unsigned flags), (s, event, flags))
