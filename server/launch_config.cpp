// SPDX-License-Identifier: MIT
#include "launch_config.h"

#include <cstring>

#include "dispatch.h"

namespace cricket::server {

CUresult launch_attributes(Call& call, const rpc::Blob& bytes, std::vector<CUlaunchAttribute>* attributes) {
    if (bytes.size % sizeof(CUlaunchAttribute)) return CUDA_ERROR_INVALID_VALUE;
    attributes->resize(bytes.size / sizeof(CUlaunchAttribute));
    if (bytes.size) std::memcpy(static_cast<void*>(attributes->data()), bytes.data, bytes.size);
    for (CUlaunchAttribute& attribute : *attributes) {
        CUevent* event = nullptr;
        if (attribute.id == CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_EVENT) event = &attribute.value.programmaticEvent.event;
        if (attribute.id == CU_LAUNCH_ATTRIBUTE_LAUNCH_COMPLETION_EVENT) event = &attribute.value.launchCompletionEvent.event;
        if (event && !driver_handle(call.objects, HandleKind::Event, reinterpret_cast<uint64_t>(*event), event))
            return CUDA_ERROR_INVALID_HANDLE;
    }
    return CUDA_SUCCESS;
}

}  // namespace cricket::server
