// SPDX-License-Identifier: MIT
// Green contexts. The CUcontext of one is known as a context of the session from when it is asked for.
#include <cstring>

#include "checkpoint_parts.h"
#include "cricket/primary_contexts.h"
#include "device_resources.h"
#include "dispatch.h"
#include "primaries.h"
#include "session.h"

namespace cricket::server {
namespace {

template <typename Res>
void give_resource(Call& call, const ResourceOrigin& origin, Res& res) {
    std::vector<CUdevResource> one;
    res.status = ask_for_resources(call, origin, &one);
    if (res.status != CUDA_SUCCESS) return;
    call.session.resources.tell(call, origin, &one);
    res.resource = one[0];
}

template <typename Args, typename Res>
void give_resource_of_context(Call& call, ResourceOrigin::Kind kind, const Args& args, Res& res) {
    ResourceOrigin origin;
    origin.kind = kind;
    origin.object = args.hCtx;
    origin.type = static_cast<CUdevResourceType>(args.type);
    give_resource(call, origin, res);
}

bool resources_of(const rpc::Blob& bytes, std::vector<CUdevResource>* out) {
    if (!bytes.present || bytes.size % sizeof(CUdevResource) != 0) return false;
    out->resize(bytes.size / sizeof(CUdevResource));
    if (bytes.size) std::memcpy(static_cast<void*>(out->data()), bytes.data, bytes.size);
    return true;
}

}  // namespace

CUresult no_green_context(uint64_t number) {
    return Objects::kind_of(number) == HandleKind::GreenCtx ? CUDA_ERROR_CONTEXT_IS_DESTROYED : CUDA_ERROR_INVALID_CONTEXT;
}

void serve_cuDeviceGetDevResource(Call& call, const cuDeviceGetDevResource_args& args, cuDeviceGetDevResource_res& res) {
    ResourceOrigin origin;
    origin.device = args.device;
    origin.type = static_cast<CUdevResourceType>(args.type);
    give_resource(call, origin, res);
}

void serve_cuCtxGetDevResource(Call& call, const cuCtxGetDevResource_args& args, cuCtxGetDevResource_res& res) {
    give_resource_of_context(call, ResourceOrigin::Context, args, res);
}

void serve_cuGreenCtxGetDevResource(Call& call, const cuGreenCtxGetDevResource_args& args, cuGreenCtxGetDevResource_res& res) {
    give_resource_of_context(call, ResourceOrigin::Green, args, res);
}

void serve_cuDevSmResourceSplitByCount(Call& call, const cuDevSmResourceSplitByCount_args& args,
                                       cuDevSmResourceSplitByCount_res& res) {
    if (!call.driver.cuDevSmResourceSplitByCount) {
        res.status = CUDA_ERROR_NOT_SUPPORTED;
        return;
    }
    if (!args.has_result) {  // how many there would be
        const CUdevResource input = call.session.resources.of_driver(args.input);
        unsigned groups = args.nbGroups;
        CUdevResource remaining{};
        res.status = call.driver.cuDevSmResourceSplitByCount(nullptr, &groups, &input, args.has_remaining ? &remaining : nullptr,
                                                             args.useFlags, args.minCount);
        res.nbGroups = groups;
        res.remaining = remaining;
        return;
    }
    ResourceOrigin origin;
    origin.kind = ResourceOrigin::Split;
    origin.input = args.input;
    origin.groups = args.nbGroups;
    origin.flags = args.useFlags;
    origin.minimum = args.minCount;
    origin.remaining = args.has_remaining;
    std::vector<CUdevResource> parts;
    res.status = ask_for_resources(call, origin, &parts);
    if (res.status != CUDA_SUCCESS) return;
    call.session.resources.tell(call, origin, &parts);
    if (origin.remaining) {
        res.remaining = parts.back();
        parts.pop_back();
    }
    res.nbGroups = static_cast<uint32_t>(parts.size());
    if (!give_bytes(&res.result, parts.data(), parts.size() * sizeof(CUdevResource))) res.status = CUDA_ERROR_OUT_OF_MEMORY;
}

// A restore's: the same question again.
void serve_cricketDevResources(Call& call, const cricketDevResources_args& args, cricketDevResources_res& res) {
    ResourceOrigin origin;
    std::vector<CUdevResource> input, told, now;
    if (!call.replaying || !resources_of(args.input, &input) || input.size() != 1 || !resources_of(args.told, &told)) {
        res.status = CUDA_ERROR_INVALID_VALUE;
        return;
    }
    origin.kind = static_cast<ResourceOrigin::Kind>(args.kind);
    origin.device = args.device;
    origin.object = args.object;
    origin.type = static_cast<CUdevResourceType>(args.type);
    origin.input = input[0];
    origin.groups = args.groups;
    origin.flags = args.flags;
    origin.minimum = args.minimum;
    origin.remaining = args.remaining;
    if (ask_for_resources(call, origin, &now) != CUDA_SUCCESS) now.clear();
    call.session.resources.replace(told, now);
}

void serve_cuDevResourceGenerateDesc(Call& call, const cuDevResourceGenerateDesc_args& args, cuDevResourceGenerateDesc_res& res) {
    std::vector<CUdevResource> resources;
    if (!call.driver.cuDevResourceGenerateDesc) {
        res.status = CUDA_ERROR_NOT_SUPPORTED;
        return;
    }
    if (args.resources.present && (!resources_of(args.resources, &resources) || resources.size() != args.nbResources)) {
        res.status = CUDA_ERROR_INVALID_VALUE;
        return;
    }
    for (CUdevResource& one : resources) {
        const CUdevResource here = call.session.resources.of_driver(one);
        if (call.replaying && here.type != one.type)
            fail_checkpoint("a green context has a part of the session's GPU, " + std::to_string(one.sm.smCount) +
                            " multiprocessors, and this GPU is not split into such parts: it cannot be made again here");
        one = here;
    }
    CUdevResourceDesc desc = nullptr;
    res.status = call.driver.cuDevResourceGenerateDesc(&desc, args.resources.present ? resources.data() : nullptr, args.nbResources);
    if (res.status == CUDA_SUCCESS && desc) res.phDesc = call.objects.add(HandleKind::DevResourceDesc, desc);
}

void serve_cuGreenCtxCreate(Call& call, const cuGreenCtxCreate_args& args, cuGreenCtxCreate_res& res) {
    CUdevResourceDesc desc = nullptr;
    if (!driver_handle(call.objects, HandleKind::DevResourceDesc, args.desc, &desc)) {
        res.status = CUDA_ERROR_INVALID_HANDLE;
        return;
    }
    if (call.session.lost_devices.contains(args.dev)) {
        res.status = CUDA_ERROR_CONTEXT_IS_DESTROYED;
        return;
    }
    CUgreenCtx green = nullptr;
    res.status = call.driver.cuGreenCtxCreate ? call.driver.cuGreenCtxCreate(&green, desc, args.dev, args.flags)
                                              : CUDA_ERROR_NOT_SUPPORTED;
    if (res.status != CUDA_SUCCESS) return;
    const bool first = !primary_held(call.session, args.dev) || call.session.empty_primaries.contains(args.dev);
    res.phCtx = call.objects.add(HandleKind::GreenCtx, green);
    call.session.green_contexts[res.phCtx] = {args.dev, 0};
    if (first) res.status = note_primary(call, args.dev);
}

void serve_cuCtxFromGreenCtx(Call& call, const cuCtxFromGreenCtx_args& args, cuCtxFromGreenCtx_res& res) {
    auto* green = static_cast<CUgreenCtx>(call.objects.get(HandleKind::GreenCtx, args.hCtx));
    auto known = call.session.green_contexts.find(args.hCtx);
    if (!green || known == call.session.green_contexts.end()) {
        res.status = no_green_context(args.hCtx);
        return;
    }
    CUcontext context = nullptr;
    res.status = call.driver.cuCtxFromGreenCtx(&context, green);
    if (res.status != CUDA_SUCCESS) return;
    res.pContext = call.objects.add(HandleKind::Context, context);
    res.device = known->second.device;
    known->second.context = res.pContext;
    call.session.context_devices[res.pContext] = known->second.device;
    call.session.at_home(res.pContext, primary_context_number(known->second.device));
}

void serve_cuGreenCtxDestroy(Call& call, const cuGreenCtxDestroy_args& args, cuGreenCtxDestroy_res& res) {
    auto* green = static_cast<CUgreenCtx>(call.objects.get(HandleKind::GreenCtx, args.hCtx));
    auto known = call.session.green_contexts.find(args.hCtx);
    if (!green || known == call.session.green_contexts.end()) {
        res.status = no_green_context(args.hCtx);
        return;
    }
    const auto [device, context] = known->second;
    if (context) call.session.context_ends(context);
    if (context) call.session.end_own_streams(context);
    if (context && call.session.current() == context) call.session.make_current(0);
    call.session.green_contexts.erase(known);
    const bool last = !primary_held(call.session, device);
    if (last) primary_ends(call.session, device);
    res.status = call.driver.cuGreenCtxDestroy(green);
    if (res.status != CUDA_SUCCESS) {
        call.session.green_contexts[args.hCtx] = {device, context};
        return;
    }
    res.context = context;
    call.objects.remove(HandleKind::GreenCtx, args.hCtx);
    if (last) primary_ended(call, device);
}

}  // namespace cricket::server
