// SPDX-License-Identifier: MIT
// Kernel launches. Parameters arrive packed at their offsets, as the driver's `extra` takes them.
#include <algorithm>
#include <cstring>
#include <deque>
#include <memory>
#include <vector>

#include "cricket/multi_launch.h"
#include "dispatch.h"
#include "kernel_parameters.h"
#include "launch_config.h"
#include "session.h"
#include "transfer.h"

namespace cricket::server {
namespace {

// Asked of the driver once for each function; null when it does not tell.
const ParameterOffsets* offsets_of(Call& call, uint64_t number) {
    const bool is_kernel = Objects::kind_of(number) == HandleKind::Kernel;
    Objects::Entry* entry = call.objects.entry(is_kernel ? HandleKind::Kernel : HandleKind::Function, number);
    if (!entry) return nullptr;
    if (!entry->parameters) [[unlikely]] {
        std::vector<KernelParameter> layout;
        auto made = std::make_unique<ParameterOffsets>();
        if (kernel_parameters(call, number, &layout) == CUDA_SUCCESS)
            for (const KernelParameter& one : layout) {
                made->offsets.push_back(static_cast<uint32_t>(one.offset));
                made->bytes = std::max<uint64_t>(made->bytes, one.offset + one.size);
            }
        entry->parameters = std::move(made);
    }
    return entry->parameters->offsets.empty() ? nullptr : entry->parameters.get();
}

CUresult launch_now(Call& call, const CUlaunchConfig& config, CUfunction function, uint64_t number, const rpc::Blob& params) {
    if (call.session.captures.any()) {
        // What becomes a node shows its parameters as it was given them: one by one.
        KernelParameters unpacked;
        unpacked.unpack(call, number, params);
        return call.driver.cuLaunchKernelEx(&config, function, unpacked.pointers(), unpacked.extra());
    }
    size_t bytes = params.size;
    // The driver reads the buffer; the copy keeps what it reads from changing under it.
    alignas(16) std::byte small[4096];
    std::vector<std::byte> large;
    std::byte* buffer = small;
    if (bytes > sizeof small) {
        large.resize(bytes);
        buffer = large.data();
    }
    if (bytes) std::memcpy(buffer, params.data, bytes);
    // Pointers to the parameters cost the driver 0.2 us less than the buffer as a whole (tests/bench/driver_costs.cpp).
    constexpr size_t most_pointers = 128;
    void* pointers[most_pointers];
    const ParameterOffsets* layout = bytes ? offsets_of(call, number) : nullptr;
    if (layout && layout->bytes <= bytes && layout->offsets.size() <= most_pointers) {
        for (size_t i = 0; i < layout->offsets.size(); ++i) pointers[i] = buffer + layout->offsets[i];
        if (config.numAttrs == 0)  // the shorter way through the driver
            return call.driver.cuLaunchKernel(function, config.gridDimX, config.gridDimY, config.gridDimZ, config.blockDimX,
                                              config.blockDimY, config.blockDimZ, config.sharedMemBytes, config.hStream, pointers,
                                              nullptr);
        return call.driver.cuLaunchKernelEx(&config, function, pointers, nullptr);
    }
    void* extra[] = {CU_LAUNCH_PARAM_BUFFER_POINTER, buffer, CU_LAUNCH_PARAM_BUFFER_SIZE, &bytes, CU_LAUNCH_PARAM_END};
    if (config.numAttrs == 0)
        return call.driver.cuLaunchKernel(function, config.gridDimX, config.gridDimY, config.gridDimZ, config.blockDimX,
                                          config.blockDimY, config.blockDimZ, config.sharedMemBytes, config.hStream, nullptr,
                                          bytes ? extra : nullptr);
    return call.driver.cuLaunchKernelEx(&config, function, nullptr, bytes ? extra : nullptr);
}

CUresult launch(Call& call, const CUlaunchConfig& config, CUfunction function, uint64_t number, const rpc::Blob& params) {
    const CUresult status = launch_now(call, config, function, number, params);
    const bool wait = call.credential.flags & wire::launch_blocking && call.wants_reply();
    return status == CUDA_SUCCESS && wait ? answer_after(call, config.hStream) : status;
}

template <class Args>
bool configure(Call& call, const Args& args, CUlaunchConfig* config, CUfunction* function, int32_t* status) {
    *config = {args.gridDimX, args.gridDimY, args.gridDimZ, args.blockDimX, args.blockDimY, args.blockDimZ,
               args.sharedMemBytes, nullptr, nullptr, 0};
    if (args.f && driver_function(call, args.f, function) && call.stream(args.hStream, &config->hStream)) {
        call.session.device_heaps.before_launch(call, args.f);
        return true;
    }
    *status = CUDA_ERROR_INVALID_HANDLE;
    return false;
}

}  // namespace

void serve_cuLaunchKernel(Call& call, const cuLaunchKernel_args& args, cuLaunchKernel_res& res) {
    CUlaunchConfig config;
    CUfunction function = nullptr;
    if (configure(call, args, &config, &function, &res.status)) res.status = launch(call, config, function, args.f, args.params);
}

void serve_cuLaunchCooperativeKernel(Call& call, const cuLaunchCooperativeKernel_args& args,
                                     cuLaunchCooperativeKernel_res& res) {
    CUlaunchConfig config;
    CUfunction function = nullptr;
    if (!configure(call, args, &config, &function, &res.status)) return;
    CUlaunchAttribute cooperative{};
    cooperative.id = CU_LAUNCH_ATTRIBUTE_COOPERATIVE;
    cooperative.value.cooperative = 1;
    config.attrs = &cooperative;
    config.numAttrs = 1;
    res.status = launch(call, config, function, args.f, args.params);
}

void serve_cuLaunchKernelEx(Call& call, const cuLaunchKernelEx_args& args, cuLaunchKernelEx_res& res) {
    CUlaunchConfig config;
    std::vector<CUlaunchAttribute> attributes;
    CUfunction function = nullptr;
    res.status = args.f && driver_function(call, args.f, &function) ? launch_config(call, args, &attributes, &config)
                                                                            : CUDA_ERROR_INVALID_HANDLE;
    if (res.status == CUDA_SUCCESS) {
        call.session.device_heaps.before_launch(call, args.f);
        res.status = launch(call, config, function, args.f, args.params);
    }
    // The driver tells which node kernels may update: an address that they know.
    for (const CUlaunchAttribute& attribute : attributes)
        if (attribute.id == CU_LAUNCH_ATTRIBUTE_DEVICE_UPDATABLE_KERNEL_NODE)
            res.device_node = to_number(attribute.value.deviceUpdatableKernelNode.devNode);
}

void serve_cuLaunchCooperativeKernelMultiDevice(Call& call, const cuLaunchCooperativeKernelMultiDevice_args& args,
                                                cuLaunchCooperativeKernelMultiDevice_res& res) {
    const size_t count = args.launches.size / sizeof(MultiLaunch);
    if (count != args.numDevices || count > most_multi_launches || !call.driver.cuLaunchCooperativeKernelMultiDevice) {
        res.status = count != args.numDevices ? CUDA_ERROR_INVALID_VALUE : CUDA_ERROR_NOT_SUPPORTED;
        return;
    }
    std::vector<CUDA_LAUNCH_PARAMS> launches(count);
    std::deque<KernelParameters> parameters(count);
    uint64_t used = 0;
    for (size_t i = 0; i < count; ++i) {
        MultiLaunch one;
        std::memcpy(&one, static_cast<const std::byte*>(args.launches.data) + i * sizeof one, sizeof one);
        CUfunction function = nullptr;
        CUstream stream = nullptr;
        res.status = CUDA_SUCCESS;
        if (!one.function || !driver_function(call, one.function, &function) || !call.stream(one.stream, &stream))
            res.status = CUDA_ERROR_INVALID_HANDLE;
        else if (one.param_bytes > args.params.size - used)
            res.status = CUDA_ERROR_INVALID_VALUE;
        if (res.status != CUDA_SUCCESS) return;
        parameters[i].unpack(call, one.function,
                             {static_cast<const std::byte*>(args.params.data) + used, one.param_bytes, true, false});
        call.session.device_heaps.before_launch(call, one.function);
        used += one.param_bytes;
        launches[i] = {function,     one.grid[0],      one.grid[1], one.grid[2],           one.block[0],
                       one.block[1], one.block[2],     one.shared_bytes, stream, parameters[i].pointers()};
    }
    res.status = call.driver.cuLaunchCooperativeKernelMultiDevice(launches.data(), args.numDevices, args.flags);
}

void serve_cuFuncLoad(Call& call, const cuFuncLoad_args& args, cuFuncLoad_res& res) {
    CUfunction function = nullptr;
    if (!args.function || !driver_function(call, args.function, &function))
        res.status = CUDA_ERROR_INVALID_HANDLE;
    else
        res.status = call.driver.cuFuncLoad ? call.driver.cuFuncLoad(function) : CUDA_ERROR_NOT_SUPPORTED;  // says why not
}

// For each parameter 8 bytes of offset and 8 of size.
void serve_cricketParameterLayout(Call& call, const cricketParameterLayout_args& args, cricketParameterLayout_res& res) {
    static_assert(sizeof(KernelParameter) == 16);
    std::vector<KernelParameter> layout;
    res.status = kernel_parameters(call, args.function, &layout);
    if (res.status == CUDA_SUCCESS && !give_bytes(&res.layout, layout.data(), layout.size() * sizeof(KernelParameter)))
        res.status = CUDA_ERROR_OUT_OF_MEMORY;
}

}  // namespace cricket::server
