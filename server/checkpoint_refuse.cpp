// SPDX-License-Identifier: MIT
#include <map>

#include "checkpoint_arrays.h"
#include "checkpoint_parts.h"
#include "dispatch.h"
#include "snapshot_kinds.h"
#include "variables.h"

namespace cricket::server {
namespace {

// The first sticky error, without waiting for anything: every call in a broken context answers it.
CUresult sticky_error(Session& session) {
    for (const auto& [number, device] : session.context_devices) {
        size_t free = 0, total = 0;
        CUresult status = session.make_current(number);
        if (status == CUDA_SUCCESS) status = session.driver.cuMemGetInfo(&free, &total);
        if (status != CUDA_SUCCESS) return status;
    }
    return CUDA_SUCCESS;
}

}  // namespace

Refusals find_refusals(Session& session, bool may_wait) {
    Refusals found;
    if (const std::string callbacks = session.callbacks.describe_pending(); !callbacks.empty())
        found.passing.push_back("device work waits for " + callbacks + ": let the program go on until it has run");
    session.forget_destroyed();
    if (session.captures.any()) found.passing.push_back(session.captures.describe() + ", which cannot be restored");

    std::map<std::pair<HandleKind, uint32_t>, unsigned> objects;  // kind and maker -> how many
    for (const auto& [place, entry] : session.journal.entries()) {
        const HandleKind kind = Objects::kind_of(entry.effect.object);
        if (entry.effect.kind == Effect::Kind::Create && refused_by_snapshots(kind)) ++objects[{kind, entry.procedure}];
    }
    for (const auto& [what, count] : objects) {
        const auto& [kind, procedure] = what;
        found.lasting.push_back("the session holds " + (count == 1 ? "a" : std::to_string(count)) + " " + handle_kind_name(kind) +
                                " (made by " + dispatch_table[procedure - wire::first_cuda_proc].name +
                                "), which cannot be restored: " + refused_by_snapshots(kind));
    }
    if (const std::string why = session.device_heaps.refusal(session); !why.empty()) found.lasting.push_back(why);
    try {
        found.graphs = session.graph_history.describe();
    } catch (const std::exception& error) {
        found.lasting.push_back(error.what());
    }
    if (const std::string why = arrays_refusal(session); !why.empty()) found.lasting.push_back(why + " cannot be restored yet");
    if (const std::string why = session.shared_refusal(); !why.empty())
        found.lasting.push_back(why + ", which cannot be restored yet");
    if (const CUresult status = may_wait ? session.synchronize_all() : sticky_error(session); status != CUDA_SUCCESS)
        found.lasting.push_back("a context has the sticky error " + result_name(session.driver, status) +
                                ", which cannot be restored");
    return found;
}

void refuse_passing(Session& session) {
    if (const std::string callbacks = session.callbacks.describe_pending(); !callbacks.empty())
        fail_checkpoint("device work waits for " + callbacks + ": let the program go on until it has run");
    if (session.captures.any()) fail_checkpoint(session.captures.describe() + ", which cannot be restored");
}

nlohmann::json refuse_unrestorable(Session& session) {
    // What waits for a callback would be waited for in vain.
    Refusals found = find_refusals(session, !session.callbacks.pending());
    std::string all;
    for (const auto* list : {&found.passing, &found.lasting})
        for (const std::string& why : *list) all += (all.empty() ? "" : "; ") + why;
    if (!all.empty()) fail_checkpoint(all);
    return std::move(found.graphs);
}

}  // namespace cricket::server
