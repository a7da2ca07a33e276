// SPDX-License-Identifier: MIT
#include "executor.h"

#include <cstring>
#include <string_view>

#include "cricket/clock.h"
#include "procedures.h"
#include "record.h"
#include "rpc/ring/message.h"
#include "rpc/ring/spinning.h"

namespace cricket::server {
namespace {

constexpr uint32_t largest_reply = 1u << 20;
constexpr uint64_t between_questions_ns = 20'000;

int32_t& status_of(void* res) {
    return *static_cast<int32_t*>(res);
}

void free_xdr(xdrproc_t routine, void* value) {
    XDR xdrs{};
    xdrs.x_op = XDR_FREE;
    (*routine)(&xdrs, value, 0);
}

// Whether its answer, where it is given at once, tells that work is over.
bool tells_of_work(uint32_t procedure) {
    switch (static_cast<Proc>(procedure)) {
        case Proc::cuStreamQuery:
        case Proc::cuStreamSynchronize:
        case Proc::cuEventQuery:
        case Proc::cuEventSynchronize:
        case Proc::cuCtxSynchronize:
        case Proc::cuCtxSynchronize_v2:
            return true;
        default:
            return false;
    }
}

}  // namespace

Executor::Executor(Session& session)
    : session_(session),
      args_(max_args_bytes / sizeof(std::max_align_t) + 1),
      res_(max_res_bytes / sizeof(std::max_align_t) + 1) {}

void record_call(Call& call, uint32_t procedure, xdrproc_t xdr_args, void* args, const Effect& effect) {
    JournalEntry record;
    record.seq = call.credential.seq;
    record.procedure = procedure;
    record.effect = effect;
    record.attachment = call.attachment;
    if (call.attachment) call.session.device_text.note_image(call.attachment->span());
    // Encoded again rather than copied, so that it is the same from every transport.
    record.message.resize(4096);
    for (;;) {
        const uint32_t bytes =
            rpc::encode_call(record.message.data(), static_cast<uint32_t>(record.message.size()), procedure,
                             call.credential, xdr_args, args);
        if (bytes || record.message.size() > rpc::max_blob_bytes) {
            record.message.resize(bytes);
            break;
        }
        record.message.resize(record.message.size() * 4);
    }
    record.message.shrink_to_fit();
    call.session.forget_objects(call.session.journal.record(std::move(record)));
    call.session.note_created(effect);
}

// Journals what a successful call made, changed or ended.
static void journal(const DispatchEntry& entry, uint32_t procedure, Call& call, void* args, void* res) {
    if (!entry.effect || status_of(res) != CUDA_SUCCESS || call.replaying) return;
    Effect effect;
    entry.effect(args, res, &effect);
    if (handle_is_value(effect.value_of)) {
        if (effect.kind == Effect::Kind::Create) effect.key[0] = effect.object;
        effect.object = value_number(call, effect.value_of, effect.object);
    }
    if (entry.of_context) {
        const bool stream = effect.kind == Effect::Kind::Create && Objects::kind_of(effect.object) == HandleKind::Stream;
        const uint64_t owner = stream ? call.credential.context : call.home();
        (effect.kind == Effect::Kind::Create ? effect.owner : effect.object) = owner;
    }
    record_call(call, procedure, entry.xdr_args, args, effect);
}

static bool needs_no_context(std::string_view function) {
    // cudaDeviceReset() asks for the version first.
    return function.starts_with("cuDevice") || function.starts_with("cuCtxCreate") || function.starts_with("cuCtxDestroy") ||
           function == "cuCtxGetApiVersion" || function == "cuLibraryLoadData" || function == "cuLibraryUnload" ||
           function.starts_with("cuLibraryGetKernel") || function == "cricketLibraryKernel";
}

void Executor::execute(const DispatchEntry& entry, uint32_t procedure, Call& call, void* args, void* res) {
    std::memset(res, 0, entry.res_size);
    CUresult current = session_.make_current(call.credential.context);
    if (current != CUDA_SUCCESS && call.replaying)  // what a green context left behind is made after its end
        current = session_.make_current(call.home());
    if (current != CUDA_SUCCESS && session_.contexts_lost && needs_no_context(entry.name))
        current = session_.make_current(0);  // among these is the reset that ends the loss
    const bool captures = session_.captures.any();
    if (captures) [[unlikely]] session_.captures.enter(call.credential);
    bool of_graphs = false;
    if (current != CUDA_SUCCESS) {
        status_of(res) = current;
    } else if (captures && session_.captures.refuses(procedure)) {
        status_of(res) = session_.refused_by_capture();
    } else {
        of_graphs = !call.replaying && GraphHistory::concerns(procedure);
        if (of_graphs) [[unlikely]] session_.graph_history.before(call, static_cast<Proc>(procedure), args);
        entry.serve(call, args, res);
    }
    while (status_of(res) == CUDA_ERROR_OUT_OF_MEMORY && current == CUDA_SUCCESS &&
           (session_.device_memory.release_spares() || (session_.snapshot_hooks && session_.snapshot_hooks->make_room()))) {
        // What we keep for later, or a snapshot until it is written, counts as free memory: then the call would not have failed.
        session_.give(std::exchange(call.wait_for, {}));
        free_xdr(entry.xdr_res, res);
        std::memset(res, 0, entry.res_size);
        entry.serve(call, args, res);
    }
    if (of_graphs) [[unlikely]] session_.graph_history.after(call, static_cast<Proc>(procedure), args, res);
    if (GraphTargets::concerns(procedure) && !call.replaying && status_of(res) == CUDA_SUCCESS)
        session_.graph_targets.after(call, static_cast<Proc>(procedure), args, res);
    if (captures) [[unlikely]] session_.captures.leave();
    if (call.reclaim && !call.wait_for) session_.reclaim(call.reclaim);
    journal(entry, procedure, call, args, res);
}

bool Executor::goodbye_is_posted(ring::RingServer& ring) {
    try {
        return ring.any([](const ring::Record& record) {
            XDR xdrs;
            rpc::memory_xdr(&xdrs, record.message.data(), static_cast<uint32_t>(record.message.size()), XDR_DECODE);
            uint32_t xid = 0, procedure = 0;
            decltype(Call::credential) credential;
            return rpc::decode_call_head(&xdrs, &xid, &procedure, &credential) && procedure == wire::proc_goodbye;
        });
    } catch (const ring::BadRecord&) {
        return false;
    }
}

bool Executor::step(ring::RingServer& ring) {
    const auto record = ring.peek();
    if (!record) return false;
    ring.fetch_after(*record);
    XDR xdrs;
    rpc::memory_xdr(&xdrs, record->message.data(), static_cast<uint32_t>(record->message.size()), XDR_DECODE);
    uint32_t xid = 0, procedure = 0;
    Call call{session_, session_.driver, session_.objects, {}, nullptr, 0, {}, false, 0, 0};
    if (!rpc::decode_call_head(&xdrs, &xid, &procedure, &call.credential) ||
        call.credential.seq != record->seq)
        throw ring::BadRecord("call " + std::to_string(record->seq) + " is no call message of this protocol");
    const bool wants_reply = record->slot != wire::no_slot;
    call.credential.flags &= ~wire::wants_reply;
    if (wants_reply) {
        call.credential.flags |= wire::wants_reply;
        KeptReply& kept = kept_[record->seq];
        kept.slot = record->slot;
        kept.reply_offset = record->reply_offset;
        kept.reply_bytes = record->reply_bytes;
        used_by_[record->slot] = record->seq;
        // A success is all that the device can say: what was posted and failed, or could not be fetched, must be in the answer.
        if (ring.channel().looks_for_done() && !session_.posted().result && !session_.refused_fetch)
            call.done = {&ring.channel().slot_done(record->slot), record->seq};
    }
    said_goodbye_ = procedure == wire::proc_goodbye;
    const uint32_t index = procedure - wire::first_cuda_proc;
    const DispatchEntry* entry =
        index < dispatch_count && dispatch_table[index].serve ? &dispatch_table[index] : nullptr;
    if (said_goodbye_) {
        session_.take_posted();
    } else if (!entry) {
        if (wants_reply)
            refuse(ring, record->seq, PROC_UNAVAIL);
        else
            session_.note_posted(CUDA_ERROR_NOT_SUPPORTED, record->seq);
    } else {
        void* args = args_.data();
        void* res = res_.data();
        std::memset(args, 0, entry->args_size);
        if (!(*entry->xdr_args)(&xdrs, args, 0)) {
            if (wants_reply)
                refuse(ring, record->seq, GARBAGE_ARGS);
            else
                session_.note_posted(CUDA_ERROR_INVALID_VALUE, record->seq);
        } else {
            execute(*entry, procedure, call, args, res);
            client_gone_ = call.client_gone;
            if (client_gone_) [[unlikely]] {
                // Not executed: it stays in the ring, and is sent again by the client when it is restored.
                free_xdr(entry->xdr_res, res);
                kept_.erase(record->seq);
                return false;
            }
            if (!wants_reply) {
                if (call.wait_for) session_.give(call.wait_for);
                // Every call says that the contents are lost, until a reset, which is not to be told of it.
                const bool known = status_of(res) == CUDA_ERROR_CONTEXT_IS_DESTROYED && !session_.lost_devices.empty();
                if (status_of(res) == wire::fetch_refused)
                    session_.refused_fetch = call.credential.thread;
                else if (status_of(res) != CUDA_SUCCESS && !known)
                    session_.note_posted(static_cast<CUresult>(status_of(res)), record->seq);
                if (entry->res_size > sizeof(int32_t)) free_xdr(entry->xdr_res, res);
            } else {
                KeptReply& kept = kept_[record->seq];
                kept.down_offset = call.down_offset;
                kept.down_bytes = call.down_bytes;
                if (session_.refused_fetch && session_.refused_fetch == call.credential.thread) [[unlikely]] {
                    session_.refused_fetch = 0;
                    status_of(res) = wire::fetch_refused;
                }
                if (call.wait_for && status_of(res) == CUDA_SUCCESS) {
                    const auto* bytes = static_cast<const std::byte*>(res);
                    if (call.wait_for.word && deferred_.empty()) asked_ = now_ns();
                    deferred_.push_back(
                        {record->seq, call.wait_for, entry, {bytes, bytes + entry->res_size}, call.reclaim, std::move(call.then)});
                } else {
                    if (call.wait_for) session_.give(call.wait_for);
                    // Loading and unloading of code, the end of contexts and the discovery of a failed assert: the driver may
                    // have printed then.
                    if (session_.device_text.possible() &&
                        (entry->effect || status_of(res) != CUDA_SUCCESS ||
                         std::strncmp(entry->name, "cuDevicePrimaryCtx", 18) == 0))
                        session_.device_text.look();
                    if (!session_.copies_to_host.empty() && tells_of_work(procedure) && status_of(res) == CUDA_SUCCESS)
                        tell_copies(record->seq);
                    answer(&ring, record->seq, entry, res);
                    free_xdr(entry->xdr_res, res);
                }
            }
        }
        // Arguments decoded from memory own nothing (rpc/memory_xdr.h).
    }
    session_.executed = record->seq;
    ring.advance(*record);
    if (session_.up_end != record->up_end) {
        session_.up_end = record->up_end;
        session_.drain_up(false);
    }
    return true;
}

void Executor::answer(ring::RingServer* ring, uint64_t seq, const DispatchEntry* entry, void* res, bool seen) {
    KeptReply& kept = kept_[seq];
    const uint64_t room = kept.reply_bytes ? std::min<uint64_t>(kept.reply_bytes, largest_reply) : 65536;
    // Not in place: most answers are a few words, and a vector of its full room would be cleared first.
    if (answer_.size() < room) answer_.resize(room);
    rpc::PostedError posted = seen ? rpc::PostedError{} : session_.posted();
    if (!posted.result && !seen) posted.seq = session_.device_text.total();
    uint32_t bytes = rpc::encode_reply(answer_.data(), static_cast<uint32_t>(room),
                                       static_cast<uint32_t>(seq), posted, entry->xdr_res, res);
    if (bytes && !seen)
        session_.take_posted();
    if (!bytes)
        bytes = rpc::encode_failure(answer_.data(), static_cast<uint32_t>(room),
                                    static_cast<uint32_t>(seq), SYSTEM_ERR);
    kept.sent = true;
    // The client first: what is kept for it can wait.
    send(ring, seq, kept, {answer_.data(), bytes});
    kept.message.assign(answer_.begin(), answer_.begin() + bytes);
    if (ring) forget_acked(*ring);
}

void Executor::refuse(ring::RingServer& ring, uint64_t seq, accept_stat status) {
    KeptReply& kept = kept_[seq];
    kept.message.resize(256);
    kept.message.resize(rpc::encode_failure(kept.message.data(), 256, static_cast<uint32_t>(seq), status));
    kept.sent = true;
    send(&ring, seq, kept, kept.message);
    forget_acked(ring);
}

void Executor::send(ring::RingServer* ring, uint64_t seq, const KeptReply& kept, std::span<const std::byte> message) {
    // Who saw the device's word may have another call in the slot by now.
    if (!ring || kept.slot >= used_by_.size() || used_by_[kept.slot] != seq) return;
    uint32_t capacity = 0;
    std::byte* place = ring->reply_place(kept.slot, kept.reply_offset, kept.reply_bytes, &capacity);
    uint32_t bytes = static_cast<uint32_t>(message.size());
    if (bytes > capacity)
        bytes = rpc::encode_failure(place, capacity, static_cast<uint32_t>(seq), SYSTEM_ERR);
    else
        std::memcpy(place, message.data(), bytes);
    ring->publish(kept.slot, seq, place, bytes);
}

void Executor::forget_acked(ring::RingServer& ring) {
    const uint64_t acked = ring.acked_seq();
    // Only what was sent can be: whatever a client says, an answer to come has its place.
    while (!kept_.empty() && kept_.begin()->first <= acked && kept_.begin()->second.sent) kept_.erase(kept_.begin());
    auto& copies = session_.copies_to_host;
    if (copies.empty()) return;
    const uint64_t begun = ring.channel().client_page().callback_begun.load(std::memory_order_acquire);
    std::erase_if(copies, [&](const CopyToHost& copy) {
        const bool known = (copy.told_by && copy.told_by <= acked) || copy.told_by_callback(begun);
        if (known && copy.event) session_.give_event(copy.event);
        return known;
    });
}

// A call that waited for the device is being answered: copies that are over by now are known to the
// application once it has that answer.
void Executor::tell_copies(uint64_t seq) {
    for (CopyToHost& copy : session_.copies_to_host) {
        if (copy.event && session_.driver.cuEventQuery(copy.event) != CUDA_ERROR_NOT_READY) {
            session_.give_event(copy.event);
            copy.event = nullptr;
        }
        if (!copy.event && !copy.told_by) copy.told_by = seq;
    }
}

void Executor::complete(ring::RingServer* ring, Deferred& deferred, CUresult status) {
    session_.flush_text(deferred.awaited.event, nullptr, status);
    const bool seen = deferred.awaited.word.done.place && status == CUDA_SUCCESS;
    session_.give(deferred.awaited);
    if (deferred.reclaim) session_.reclaim(deferred.reclaim);
    if (deferred.then) deferred.then();
    status_of(deferred.res.data()) = status;
    if (!seen) tell_copies(deferred.seq);  // else it was clear which it would tell of
    answer(ring, deferred.seq, deferred.entry, deferred.res.data(), seen);
    free_xdr(deferred.entry->xdr_res, deferred.res.data());
}

bool Executor::poll(ring::RingServer* ring) {
    bool moved = false;
    // Work that failed writes no word: its event says so.
    const uint64_t now = deferred_.empty() ? 0 : now_ns();
    const bool ask = now - asked_ > between_questions_ns;
    if (ask) asked_ = now;
    for (size_t i = 0; i < deferred_.size();) {
        const Awaited& awaited = deferred_[i].awaited;
        CUresult status = CUDA_ERROR_NOT_READY;
        if (awaited.word.written())
            status = CUDA_SUCCESS;
        else if (!session_.event_exists(awaited.event))
            status = CUDA_ERROR_CONTEXT_IS_DESTROYED;
        else if (ask || !awaited.word)
            status = session_.driver.cuEventQuery(awaited.event);
        if (status == CUDA_ERROR_NOT_READY) {
            ++i;
            continue;
        }
        complete(ring, deferred_[i], status);
        deferred_.erase(deferred_.begin() + static_cast<std::ptrdiff_t>(i));
        moved = true;
    }
    return session_.drain_up(false) || moved;
}

void Executor::finish_waiting(ring::RingServer* ring) {
    for (Deferred& deferred : deferred_) {
        const CUevent event = deferred.awaited.event;
        const CUresult status = session_.event_exists(event) ? session_.driver.cuEventSynchronize(event) : CUDA_ERROR_CONTEXT_IS_DESTROYED;
        complete(ring, deferred, status);
    }
    deferred_.clear();
    session_.drain_up(true);
}

void Executor::save_bulk(ring::RingServer& ring) {
    for (auto& [seq, kept] : kept_) {
        if (!kept.sent || !kept.down_bytes || !kept.down.empty()) continue;  // what is not sent may not be there yet
        const std::byte* from = ring.channel().base() + kept.down_offset;
        kept.down.assign(from, from + kept.down_bytes);
    }
}

void Executor::republish(ring::RingServer& ring) {
    for (auto& [seq, kept] : kept_) {
        if (!kept.sent) continue;
        if (kept.down_bytes && !kept.down.empty()) {
            if (void* to = session_.down_data(kept.down_offset, kept.down_bytes))
                std::memcpy(to, kept.down.data(), kept.down_bytes);
            kept.down.clear();
        }
        uint32_t capacity = 0;
        std::byte* place = ring.reply_place(kept.slot, kept.reply_offset, kept.reply_bytes, &capacity);
        const auto bytes = std::min<uint32_t>(static_cast<uint32_t>(kept.message.size()), capacity);
        std::memcpy(place, kept.message.data(), bytes);
        ring.publish(kept.slot, seq, place, bytes);
    }
}

}  // namespace cricket::server
