// SPDX-License-Identifier: MIT
// The JIT linker. A link's options hold buffers that the driver writes into until the link is destroyed; what is in them
// goes back with each of its calls. Its cubin is fetched in pieces.
#include <memory>

#include "call_image.h"
#include "dispatch.h"
#include "jit_options.h"
#include "links.h"
#include "record.h"
#include "session.h"

namespace cricket::server {
namespace {

Link* find(Call& call, uint64_t number, CUlinkState* state) {
    *state = static_cast<CUlinkState>(call.objects.get(HandleKind::LinkState, number));
    auto found = call.session.links.find(number);
    return *state && found != call.session.links.end() ? found->second.get() : nullptr;
}

template <class Res>
void give_state(Link& link, Res& res) {
    link.options->give_back(&res.state_values, &res.state_info, &res.state_error);
}

// A restore does again, in this order, all that was done to a link that is still there.
template <class Args>
void journal(Call& call, Proc procedure, xdrproc_t xdr_args, const Args& args, uint64_t state, Link* link) {
    record_extra(call, procedure, xdr_args, const_cast<Args*>(&args), {Effect::Kind::State, state, 0, {++link->steps, 0}});
}

}  // namespace

void serve_cuLinkCreate_v2(Call& call, const cuLinkCreate_v2_args& args, cuLinkCreate_v2_res& res) {
    auto link = std::make_shared<Link>();
    link->options = std::make_unique<JitOptions>(args.jit_options, args.jit_values, args.numOptions);
    if (!link->options->ok()) {
        res.status = CUDA_ERROR_INVALID_VALUE;
        return;
    }
    CUlinkState state = nullptr;
    res.status = call.driver.cuLinkCreate_v2(link->options->count(), link->options->codes(), link->options->values(), &state);
    link->options->give_back(res);
    if (res.status != CUDA_SUCCESS) return;
    res.stateOut = call.objects.add(HandleKind::LinkState, state);
    call.session.links[res.stateOut] = std::move(link);
}

void serve_cuLinkAddData_v2(Call& call, const cuLinkAddData_v2_args& args, cuLinkAddData_v2_res& res) {
    CUlinkState state = nullptr;
    Link* link = find(call, args.state, &state);
    if (!link) {
        res.status = CUDA_ERROR_INVALID_HANDLE;
        return;
    }
    const Attachment image = take_image(call, args.image);
    JitOptions options(args.jit_options, args.jit_values, args.numOptions);
    if (!image || !options.ok()) {
        res.status = image ? CUDA_ERROR_INVALID_VALUE : no_image(args.image);
        return;
    }
    const auto* name = args.name.present ? static_cast<const char*>(args.name.data) : nullptr;
    res.status = call.driver.cuLinkAddData_v2(state, static_cast<CUjitInputType>(args.type),
                                              const_cast<std::byte*>(image->data()), image->size(), name, options.count(),
                                              options.codes(), options.values());
    options.give_back(res);
    give_state(*link, res);
    if (res.status == CUDA_SUCCESS) journal(call, Proc::cuLinkAddData_v2, xdr_routine(xdr_cuLinkAddData_v2_args), args, args.state, link);
}

void serve_cuLinkComplete(Call& call, const cuLinkComplete_args& args, cuLinkComplete_res& res) {
    CUlinkState state = nullptr;
    Link* link = find(call, args.state, &state);
    if (!link) {
        res.status = CUDA_ERROR_INVALID_HANDLE;
        return;
    }
    void* cubin = nullptr;
    size_t size = 0;
    res.status = call.driver.cuLinkComplete(state, &cubin, &size);
    give_state(*link, res);
    if (res.status != CUDA_SUCCESS) return;
    link->cubin = {static_cast<const std::byte*>(cubin), size};
    res.sizeOut = size;
    journal(call, Proc::cuLinkComplete, xdr_routine(xdr_cuLinkComplete_args), args, args.state, link);
}

void serve_cricketLinkCubin(Call& call, const cricketLinkCubin_args& args, cricketLinkCubin_res& res) {
    CUlinkState state = nullptr;
    Link* link = find(call, args.state, &state);
    if (!link || args.offset > link->cubin.size() || args.bytes > link->cubin.size() - args.offset)
        res.status = CUDA_ERROR_INVALID_VALUE;
    else if (!give_bytes(&res.cubin, link->cubin.data() + args.offset, args.bytes))
        res.status = CUDA_ERROR_OUT_OF_MEMORY;
}

void serve_cuLinkDestroy(Call& call, const cuLinkDestroy_args& args, cuLinkDestroy_res& res) {
    CUlinkState state = nullptr;
    if (!find(call, args.state, &state)) {
        res.status = CUDA_ERROR_INVALID_HANDLE;
        return;
    }
    res.status = call.driver.cuLinkDestroy(state);
    if (res.status != CUDA_SUCCESS) return;
    call.session.links.erase(args.state);
    call.objects.remove(HandleKind::LinkState, args.state);
}

}  // namespace cricket::server
