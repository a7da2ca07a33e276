// SPDX-License-Identifier: MIT
#include "device_resources.h"

#include <algorithm>
#include <cstring>

#include "record.h"
#include "session.h"

namespace cricket::server {
namespace {

bool same(const CUdevResource& a, const CUdevResource& b) { return std::memcmp(&a, &b, sizeof a) == 0; }

rpc::Blob blob(const void* data, size_t bytes) {
    rpc::Blob made{};
    made.data = static_cast<char*>(const_cast<void*>(data));
    made.size = static_cast<uint32_t>(bytes);
    made.present = true;
    return made;
}

// What may be compared: the rest is the driver's business.
bool alike(const CUdevResource& a, const CUdevResource& b) {
    return a.type == b.type && (a.type != CU_DEV_RESOURCE_TYPE_SM || std::memcmp(&a.sm, &b.sm, sizeof a.sm) == 0);
}

}  // namespace

CUdevResource DeviceResources::of_driver(const CUdevResource& told) const {
    const auto found = std::ranges::find_if(known_, [&](const Known& one) { return same(one.told, told); });
    return found == known_.end() ? told : found->driver;
}

void DeviceResources::tell(Call& call, const ResourceOrigin& origin, std::vector<CUdevResource>* resources) {
    bool is_new = false;
    for (CUdevResource& one : *resources) {
        const auto known = std::ranges::find_if(known_, [&](const Known& other) { return same(other.driver, one); });
        if (known != known_.end()) {
            one = known->told;
            continue;
        }
        // Bytes of an earlier life may come again and mean something else.
        CUdevResource told = one;
        while (std::ranges::any_of(known_, [&](const Known& other) { return same(other.told, told); })) ++told._internal_padding[0];
        known_.push_back({told, one});
        one = told;
        is_new = true;
    }
    if (!is_new) return;
    cricketDevResources_args args{};
    args.kind = origin.kind;
    args.device = origin.device;
    args.object = origin.object;
    args.type = origin.type;
    args.input = blob(&origin.input, sizeof origin.input);
    args.groups = origin.groups;
    args.flags = origin.flags;
    args.minimum = origin.minimum;
    args.remaining = origin.remaining;
    args.told = blob(resources->data(), resources->size() * sizeof(CUdevResource));
    // The key is its own: what the application was told stays true.
    const uint64_t serial = known_.size();
    record_extra(call, Proc::cricketDevResources, xdr_routine(xdr_cricketDevResources_args), &args,
                 {Effect::Kind::State, 0, 0, {serial, 0}});
}

// What this GPU does not give is none (CU_DEV_RESOURCE_TYPE_INVALID) from now on: only who uses it is told.
void DeviceResources::replace(const std::vector<CUdevResource>& told, const std::vector<CUdevResource>& now) {
    bool same_parts = told.size() == now.size();
    for (size_t i = 0; i < told.size() && same_parts; ++i) same_parts = alike(told[i], now[i]);
    for (size_t i = 0; i < told.size(); ++i)
        if (std::ranges::none_of(known_, [&](const Known& one) { return same(one.told, told[i]); }))
            known_.push_back({told[i], same_parts ? now[i] : CUdevResource{}});
}

CUresult ask_for_resources(Call& call, const ResourceOrigin& origin, std::vector<CUdevResource>* resources) {
    const DriverTable& driver = call.driver;
    if (!driver.cuDeviceGetDevResource || !driver.cuCtxGetDevResource || !driver.cuGreenCtxGetDevResource ||
        !driver.cuDevSmResourceSplitByCount)
        return CUDA_ERROR_NOT_SUPPORTED;
    CUdevResource one{};
    CUresult status = CUDA_SUCCESS;
    switch (origin.kind) {
        case ResourceOrigin::Device:
            status = driver.cuDeviceGetDevResource(origin.device, &one, origin.type);
            break;
        case ResourceOrigin::Context: {
            CUcontext context = nullptr;
            if (!driver_handle(call.objects, HandleKind::Context, origin.object, &context))
                return call.session.home(origin.object) == origin.object ? CUDA_ERROR_INVALID_CONTEXT : CUDA_ERROR_CONTEXT_IS_DESTROYED;
            status = driver.cuCtxGetDevResource(context, &one, origin.type);
            break;
        }
        case ResourceOrigin::Green: {
            CUgreenCtx green = nullptr;
            if (!driver_handle(call.objects, HandleKind::GreenCtx, origin.object, &green)) return no_green_context(origin.object);
            status = driver.cuGreenCtxGetDevResource(green, &one, origin.type);
            break;
        }
        case ResourceOrigin::Split: {
            constexpr uint32_t most = 4096;
            if (origin.groups > most) return CUDA_ERROR_INVALID_VALUE;
            const CUdevResource input = call.session.resources.of_driver(origin.input);
            unsigned groups = origin.groups;
            resources->assign(groups + 1, CUdevResource{});  // never NULL, which would ask how many there are
            status = driver.cuDevSmResourceSplitByCount(resources->data(), &groups, &input, origin.remaining ? &one : nullptr,
                                                        origin.flags, origin.minimum);
            if (status != CUDA_SUCCESS) return status;
            resources->resize(std::min(groups, origin.groups));
            if (origin.remaining) resources->push_back(one);
            return status;
        }
        default:
            return CUDA_ERROR_INVALID_VALUE;
    }
    if (status == CUDA_SUCCESS) resources->assign(1, one);
    return status;
}

}  // namespace cricket::server
