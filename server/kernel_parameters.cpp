// SPDX-License-Identifier: MIT
#include "kernel_parameters.h"

#include <algorithm>
#include <cstring>

#include "dispatch.h"

namespace cricket::server {
namespace {

CUresult layout_of(CUresult (*info)(Call&, void*, size_t, size_t*, size_t*), Call& call, void* handle,
                   std::vector<KernelParameter>* out) {
    out->clear();
    for (size_t index = 0;; ++index) {
        KernelParameter one{};
        const CUresult status = info(call, handle, index, &one.offset, &one.size);
        if (status == CUDA_ERROR_INVALID_VALUE) return CUDA_SUCCESS;  // past the last one
        if (status != CUDA_SUCCESS) return status;
        out->push_back(one);
    }
}

CUresult function_info(Call& call, void* handle, size_t index, size_t* offset, size_t* size) {
    if (!call.driver.cuFuncGetParamInfo) return CUDA_ERROR_NOT_SUPPORTED;
    return call.driver.cuFuncGetParamInfo(static_cast<CUfunction>(handle), index, offset, size);
}
CUresult kernel_info(Call& call, void* handle, size_t index, size_t* offset, size_t* size) {
    if (!call.driver.cuKernelGetParamInfo) return CUDA_ERROR_NOT_SUPPORTED;
    return call.driver.cuKernelGetParamInfo(static_cast<CUkernel>(handle), index, offset, size);
}

// The driver may know a kernel by the CUkernel that the application gave as a function.
CUresult layout_of_function(Call& call, CUfunction function, std::vector<KernelParameter>* out) {
    const CUresult status = layout_of(function_info, call, function, out);
    if (status == CUDA_SUCCESS || !call.objects.find(HandleKind::Kernel, function)) return status;
    return layout_of(kernel_info, call, function, out);
}

CUevent* event_in(CUlaunchAttributeID id, CUlaunchAttributeValue* value) {
    if (id == CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_EVENT) return &value->programmaticEvent.event;
    if (id == CU_LAUNCH_ATTRIBUTE_LAUNCH_COMPLETION_EVENT) return &value->launchCompletionEvent.event;
    return nullptr;
}

}  // namespace

CUresult kernel_parameters(Call& call, uint64_t number, std::vector<KernelParameter>* out) {
    const HandleKind kind = Objects::kind_of(number) == HandleKind::Kernel ? HandleKind::Kernel : HandleKind::Function;
    void* handle = call.objects.get(kind, number);
    if (!handle) return CUDA_ERROR_INVALID_HANDLE;
    return layout_of(kind == HandleKind::Kernel ? kernel_info : function_info, call, handle, out);
}

void KernelParameters::unpack(Call& call, uint64_t function, const rpc::Blob& packed) {
    if (packed.size == 0) return;
    bytes_.resize(packed.size / sizeof(std::max_align_t) + 1);
    auto* bytes = reinterpret_cast<std::byte*>(bytes_.data());
    std::memcpy(bytes, packed.data, packed.size);
    std::vector<KernelParameter> layout;
    bool known = kernel_parameters(call, function, &layout) == CUDA_SUCCESS;
    for (const KernelParameter& one : layout) known = known && one.offset + one.size <= packed.size;
    if (known && !layout.empty()) {
        for (const KernelParameter& one : layout) pointers_.push_back(bytes + one.offset);
        return;
    }
    size_ = packed.size;
    void* extra[] = {CU_LAUNCH_PARAM_BUFFER_POINTER, bytes, CU_LAUNCH_PARAM_BUFFER_SIZE, &size_, CU_LAUNCH_PARAM_END};
    std::memcpy(extra_, extra, sizeof extra);
}

CUresult pack_parameters(Call& call, const CUDA_KERNEL_NODE_PARAMS_v3& kernel, rpc::Blob* packed) {
    if (kernel.kernelParams) {
        std::vector<KernelParameter> layout;
        const CUresult status = kernel.func ? layout_of_function(call, kernel.func, &layout)
                                            : layout_of(kernel_info, call, kernel.kern, &layout);
        if (status != CUDA_SUCCESS) return status;
        size_t bytes = 0;
        for (const KernelParameter& one : layout) bytes = std::max(bytes, one.offset + one.size);
        std::vector<std::byte> bytes_at_offsets(bytes);
        for (size_t i = 0; i < layout.size(); ++i)
            std::memcpy(bytes_at_offsets.data() + layout[i].offset, kernel.kernelParams[i], layout[i].size);
        return give_bytes(packed, bytes_at_offsets.data(), bytes) ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
    }
    const void* buffer = nullptr;
    size_t bytes = 0;
    for (void** at = kernel.extra; at && *at != CU_LAUNCH_PARAM_END; at += 2) {
        if (*at == CU_LAUNCH_PARAM_BUFFER_POINTER) buffer = at[1];
        if (*at == CU_LAUNCH_PARAM_BUFFER_SIZE) bytes = *static_cast<size_t*>(at[1]);
    }
    if (!buffer) return CUDA_SUCCESS;
    return give_bytes(packed, buffer, bytes) ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
}

bool attribute_to_driver(Call& call, CUlaunchAttributeID id, CUlaunchAttributeValue* value) {
    CUevent* event = event_in(id, value);
    return !event || driver_handle(call.objects, HandleKind::Event, to_number(*event), event);
}

void attribute_from_driver(Call& call, CUlaunchAttributeID id, CUlaunchAttributeValue* value) {
    CUevent* event = event_in(id, value);
    if (event && *event) *event = from_number<CUevent>(call.objects.add(HandleKind::Event, *event));
}

}  // namespace cricket::server
