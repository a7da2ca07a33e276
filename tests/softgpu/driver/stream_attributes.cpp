// SPDX-License-Identifier: MIT
// Attributes of streams: hints to the hardware, which are remembered.
#include "stream.h"

using namespace softgpu;

namespace {

CUstreamAttrValue initial(const Stream& stream, CUstreamAttrID which) {
    CUstreamAttrValue value = {};
    switch (which) {
        case CU_STREAM_ATTRIBUTE_ACCESS_POLICY_WINDOW:
        case CU_STREAM_ATTRIBUTE_MEM_SYNC_DOMAIN:
            break;
        case CU_STREAM_ATTRIBUTE_SYNCHRONIZATION_POLICY:
            value.syncPolicy = CU_SYNC_POLICY_AUTO;
            break;
        case CU_STREAM_ATTRIBUTE_PRIORITY:
            value.priority = stream.priority;
            break;
        case CU_STREAM_ATTRIBUTE_MEM_SYNC_DOMAIN_MAP:
            value.memSyncDomainMap.default_ = 0;
            value.memSyncDomainMap.remote = 1;
            break;
        default:
            fail(CUDA_ERROR_INVALID_VALUE);
    }
    return value;
}

}  // namespace

CUresult cuStreamSetAttribute(CUstream handle, CUstreamAttrID which, const CUstreamAttrValue* value) {
    return api([&] {
        require(value);
        auto s = stream(handle);
        initial(*s, which);  // for what it refuses
        std::unique_lock lock(s->context->mutex);
        s->attributes[which] = *value;
    });
}

CUresult cuStreamGetAttribute(CUstream handle, CUstreamAttrID which, CUstreamAttrValue* value) {
    return api([&] {
        require(value);
        auto s = stream(handle);
        *value = initial(*s, which);
        std::unique_lock lock(s->context->mutex);
        if (auto found = s->attributes.find(which); found != s->attributes.end()) *value = found->second;
    });
}

CUresult cuStreamCopyAttributes(CUstream to, CUstream from) {
    return api([&] {
        auto target = stream(to), source = stream(from);
        require(target->context == source->context);
        std::unique_lock lock(target->context->mutex);
        target->attributes = source->attributes;
    });
}
