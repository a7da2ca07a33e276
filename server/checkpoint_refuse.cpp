// SPDX-License-Identifier: MIT
#include "checkpoint_arrays.h"
#include "checkpoint_parts.h"
#include "dispatch.h"
#include "variables.h"

namespace cricket::server {

void refuse_unrestorable(Session& session) {
    if (const std::string callbacks = session.callbacks.describe_pending(); !callbacks.empty())
        fail_checkpoint("device work waits for " + callbacks + ": let the program go on until it has run");
    session.forget_destroyed();
    if (session.captures.any()) fail_checkpoint(session.captures.describe() + ", which cannot be restored");
    for (const auto& [place, entry] : session.journal.entries()) {
        if (entry.effect.kind != Effect::Kind::Create) continue;
        switch (const HandleKind kind = Objects::kind_of(entry.effect.object)) {
            case HandleKind::Context:
            case HandleKind::Module:
            case HandleKind::Library:
            case HandleKind::Kernel:
            case HandleKind::Function:
            case HandleKind::Stream:
            case HandleKind::Event:
            case HandleKind::LogsCallback:
            case HandleKind::AsyncCallback:
            case HandleKind::Array:
            case HandleKind::MipmappedArray:
            case HandleKind::TexObject:
            case HandleKind::SurfObject:
                break;
            default:
                fail_checkpoint(std::string("the session holds a ") + handle_kind_name(kind) + " (made by " +
                     dispatch_table[entry.procedure - wire::first_cuda_proc].name + "), which cannot be restored yet");
        }
    }
    each_loaded_image(session, [](const LoadedImage& image) {
        if (!image.facts.heap_user.empty())
            fail_checkpoint("the module with kernel " + image.facts.heap_user +
                 " calls malloc() on the device, and the device heap cannot be restored yet");
    });
    if (const std::string why = arrays_refusal(session); !why.empty()) fail_checkpoint(why + " cannot be restored yet");
    if (const std::string why = session.shared_refusal(); !why.empty()) fail_checkpoint(why + ", which cannot be restored yet");
    if (const CUresult status = session.synchronize_all(); status != CUDA_SUCCESS)
        fail_checkpoint("a context has the sticky error " + result_name(session.driver, status) + ", which cannot be restored");
}

}  // namespace cricket::server
