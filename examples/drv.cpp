// SPDX-License-Identifier: MIT
// A program of the driver API, without the CUDA runtime: it loads a module from a file of PTX, a cubin or a
// fatbin, launches its kernel with kernelParams on even steps and with an argument buffer ("extra") on odd
// ones, and does the same sums on the host. A `__device__` variable of the module counts the launches.
#include <cuda.h>

#include <cstddef>
#include <fstream>
#include <iterator>
#include <vector>

#include "example.h"

using namespace example;

#define CU_CHECK(call)                                                                             \
    do {                                                                                           \
        const CUresult cu_check_result = (call);                                                   \
        if (cu_check_result != CUDA_SUCCESS) {                                                     \
            const char* cu_check_name = nullptr;                                                   \
            cuGetErrorName(cu_check_result, &cu_check_name);                                       \
            fail("%s:%d: %s: %s", __FILE__, __LINE__, #call, cu_check_name ? cu_check_name : "?"); \
        }                                                                                          \
    } while (false)

constexpr unsigned kCount = 3000, kThreads = 128, kOffset = 12345;

// As in drv_kernel.cu.
struct Line {
    unsigned char shift;
    unsigned slope;
};

static std::vector<char> read_image(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    if (!file) fail("drv: cannot read the module %s", path.c_str());
    std::vector<char> image(std::istreambuf_iterator<char>(file), {});
    image.push_back('\0');  // PTX is text, and ends where C text ends
    return image;
}

static std::string beside_me(const char* name) {
    char path[4096];
    const ssize_t length = readlink("/proc/self/exe", path, sizeof path - 1);
    if (length < 0) fail("drv: cannot tell where I am");
    return std::string(path, std::string(path, length).rfind('/') + 1) + name;
}

static void launch(CUfunction kernel, CUstream stream, CUdeviceptr values, Line line,
                   unsigned long long step) {
    const unsigned blocks = (kCount + kThreads - 1) / kThreads;
    unsigned short count = kCount;
    if (step % 2 == 0) {
        void* parameters[] = {&values, &count, &line, &step};
        CU_CHECK(cuLaunchKernel(kernel, blocks, 1, 1, kThreads, 1, 1, 0, stream, parameters, nullptr));
        return;
    }
    struct {
        CUdeviceptr values;
        unsigned short count;
        Line line;
        unsigned long long step;
    } buffer = {values, count, line, step};
    static_assert(offsetof(decltype(buffer), line) == 12 && offsetof(decltype(buffer), step) == 24);
    size_t size = sizeof buffer;
    void* extra[] = {CU_LAUNCH_PARAM_BUFFER_POINTER, &buffer, CU_LAUNCH_PARAM_BUFFER_SIZE, &size,
                     CU_LAUNCH_PARAM_END};
    CU_CHECK(cuLaunchKernel(kernel, blocks, 1, 1, kThreads, 1, 1, 0, stream, nullptr, extra));
}

int main(int argc, char** argv) {
    Common common = {.steps = 500};
    std::string image_path, context_kind = "primary";
    parse(argc, argv, common,
          {{"image", "file with the module: PTX, cubin or fatbin (drv_kernel.fatbin beside the program)",
            nullptr, &image_path},
           {"context", "primary or created (primary)", nullptr, &context_kind}});
    if (context_kind != "primary" && context_kind != "created")
        fail("drv: --context must be primary or created");
    if (image_path.empty()) image_path = beside_me("drv_kernel.fatbin");
    const std::vector<char> image = read_image(image_path);

    CUdevice device = 0;
    CUcontext context = nullptr, current = nullptr;
    CU_CHECK(cuInit(0));
    CU_CHECK(cuDeviceGet(&device, 0));
    if (context_kind == "primary") {
        CU_CHECK(cuDevicePrimaryCtxRetain(&context, device));
        CU_CHECK(cuCtxPushCurrent(context));
    } else {
        CU_CHECK(cuCtxCreate(&context, nullptr, 0, device));
    }
    CU_CHECK(cuCtxGetCurrent(&current));
    if (current != context) fail("drv: the current context is not the one just made current");

    CUmodule module = nullptr;
    CUfunction kernel = nullptr;
    CUdeviceptr launches_variable = 0, offset_variable = 0, values = 0;
    size_t launches_size = 0, offset_size = 0;
    CUstream stream = nullptr;
    CUevent before = nullptr, after = nullptr;
    unsigned* seen = nullptr;
    int weakest = 0, strongest = 0;
    CU_CHECK(cuModuleLoadData(&module, image.data()));
    CU_CHECK(cuModuleGetFunction(&kernel, module, "advance"));
    CU_CHECK(cuModuleGetGlobal(&launches_variable, &launches_size, module, "launches"));
    CU_CHECK(cuModuleGetGlobal(&offset_variable, &offset_size, module, "offset"));
    if (launches_size != sizeof(unsigned) || offset_size != sizeof(unsigned))
        fail("drv: the module's variables have %zu and %zu bytes", launches_size, offset_size);
    CU_CHECK(cuMemcpyHtoD(offset_variable, &kOffset, sizeof kOffset));
    CU_CHECK(cuMemAlloc(&values, kCount * sizeof(unsigned)));
    CU_CHECK(cuMemsetD32(values, 7, kCount));
    CU_CHECK(cuMemHostAlloc(reinterpret_cast<void**>(&seen), kCount * sizeof(unsigned), 0));
    CU_CHECK(cuCtxGetStreamPriorityRange(&weakest, &strongest));
    CU_CHECK(cuStreamCreateWithPriority(&stream, CU_STREAM_NON_BLOCKING, strongest));
    CU_CHECK(cuEventCreate(&before, CU_EVENT_DEFAULT));
    CU_CHECK(cuEventCreate(&after, CU_EVENT_DEFAULT));
    CU_CHECK(
        cuCtxSynchronize());  // what was set up on the default stream does not order itself before `stream`

    unsigned expected = 7;
    long step = 0;
    for (; !done(common, step); ++step) {
        const Line line = {static_cast<unsigned char>(step % 13), unsigned(2 * step + 1)};
        CU_CHECK(cuEventRecord(before, stream));
        launch(kernel, stream, values, line, step);
        CU_CHECK(cuEventRecord(after, stream));
        expected = expected * line.slope + (unsigned(step) << line.shift) + kOffset;

        unsigned launches = 0;
        CU_CHECK(cuMemcpyDtoHAsync(seen, values, kCount * sizeof(unsigned), stream));
        CU_CHECK(cuStreamSynchronize(stream));
        CU_CHECK(cuMemcpyDtoH(&launches, launches_variable, sizeof launches));
        if (launches != unsigned(step) + 1) fail("drv: step %ld: %u launches were counted", step, launches);
        for (unsigned i = 0; i < kCount; ++i)
            if (seen[i] != expected)
                fail("drv: step %ld: value %u is %u, should be %u", step, i, seen[i], expected);
        float milliseconds = -1;
        CU_CHECK(cuEventElapsedTime(&milliseconds, before, after));
        if (!(milliseconds >= 0)) fail("drv: step %ld took %g ms", step, milliseconds);
        if (time_to_report(common)) {
            std::printf("step %ld value %u\n", step, expected);
            std::fflush(stdout);
        }
        example::pause(common);
    }

    CU_CHECK(cuEventDestroy(after));
    CU_CHECK(cuEventDestroy(before));
    CU_CHECK(cuStreamDestroy(stream));
    CU_CHECK(cuMemFreeHost(seen));
    CU_CHECK(cuMemFree(values));
    CU_CHECK(cuModuleUnload(module));
    if (context_kind == "primary") {
        CU_CHECK(cuCtxPopCurrent(&current));
        CU_CHECK(cuDevicePrimaryCtxRelease(device));
    } else {
        CU_CHECK(cuCtxDestroy(context));
    }
    return pass("drv: %ld steps, module from %s, %s context", step, image_path.c_str(), context_kind.c_str());
}
