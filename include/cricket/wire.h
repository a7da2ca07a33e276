// SPDX-License-Identifier: MIT
// What client and server agree on outside the RPC messages: the hello datagram, the channel memfd, RPC numbers.
// Every field says who writes it; after a restore nothing written by the server is believed (facts: a dump freezes
// the client, not the server).
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace cricket::wire {

inline constexpr uint32_t protocol_version = 3;  // changed whenever anything on the wire changes its meaning

// ONC RPC program of the CUDA calls; its procedures 1..15 belong to the session, CUDA's begin at 16 (rpc/spec).
inline constexpr uint32_t cuda_program = 0x20435544;
inline constexpr uint32_t cuda_program_version = protocol_version;
inline constexpr uint32_t proc_attach = 1;  // plain transports only: Hello as opaque bytes, answers int32 + text
inline constexpr uint32_t proc_goodbye = 2;  // ring only, posted: the process ends, and its session with it
inline constexpr uint32_t first_cuda_proc = 16;

// Credential of each call (RFC 5531 section 8.2): XDR {u64 seq, u64 context, u32 thread, u32 flags}.
inline constexpr uint32_t credential_flavor = 0x43524b54;
inline constexpr uint32_t credential_bytes = 24;
enum CallFlags : uint32_t {
    per_thread_default_stream = 1,  // stream 0 means the calling thread's default stream (_ptds, _ptsz)
    wants_reply = 2,                // else posted
    launch_blocking = 4,            // a launch is answered when it is over (CUDA_LAUNCH_BLOCKING)
    answer_at_once = 8,             // with wants_reply: when the call was made, not when the device is done with it
    capture_mode_shift = 8,         // two bits: the CUstreamCaptureMode of the calling thread
};

struct Token {  // names a session; random, chosen by the client
    uint8_t bytes[16];
    bool operator==(const Token& other) const { return std::memcmp(bytes, other.bytes, sizeof bytes) == 0; }
};

// The one datagram of an attach, sent to the server's socket with the channel memfd and the host-memory memfd as
// SCM_RIGHTS (in this order). The answer is Channel's server page.
struct Hello {
    uint64_t magic;  // hello_magic
    uint32_t protocol;
    uint32_t pid;            // as the client sees it, for display; the authority is SCM_CREDENTIALS
    Token token;
    uint64_t epoch;          // of the last attach, 0 for a new session
    uint64_t next_epoch;     // random, the session's epoch once this attach is answered
    uint64_t first_seq;      // oldest call still in the ring (its record begins at first_offset)
    uint64_t first_offset;
    uint64_t next_seq;       // first sequence number not yet used
    uint64_t host_bytes;     // size of the host-memory memfd
    char program[64];        // NUL-terminated command name, for display
    // For a new session: the application's CUDA_* variables, NAME=VALUE texts with their NULs.
    uint64_t environment_bytes;
    char environment[4096];
};
inline constexpr uint64_t hello_magic = 0x31304f4c4c454843;  // "CHELLO01"

// While attached, the worker holds a write lock (F_OFD_SETLK) on byte 0 of the channel memfd through an open file
// description of its own. The lock ends with the worker, and a restored client has a memfd nobody locked: so one
// F_OFD_GETLK tells the client whether what it read from the memfd came from a living server.

// Layout of the channel memfd, all offsets and sizes multiples of 4096. The client fills it before the hello.
struct ChannelGeometry {
    uint64_t ring_offset, ring_bytes;          // client writes; ring_bytes is a power of two
    uint64_t slots_offset, slot_bytes, slots;  // server writes; reply slots
    uint64_t up_offset, up_bytes;              // client writes; bulk data to the server, used as a circular buffer
    uint64_t down_offset, down_bytes;          // server writes; bulk data to the client, allocated by the client
    uint64_t total_bytes;
};

inline constexpr uint32_t max_slots = 256;

// The bulk buffers are cut at these offsets, and no call's data crosses a cut. So the worker can pin a buffer part by part,
// when its first data comes: pinned pages exist, and criu writes what exists.
inline constexpr uint64_t up_cuts[] = {4u << 20, 16u << 20}, down_cuts[] = {8u << 20, 24u << 20};

// The part of a buffer of `size` bytes that `offset` is in.
struct BulkPart {
    uint64_t begin, end;
};
template <size_t n>
constexpr BulkPart bulk_part(const uint64_t (&cuts)[n], uint64_t size, uint64_t offset) {
    uint64_t begin = 0;
    for (const uint64_t cut : cuts) {
        if (cut >= size) break;
        if (offset < cut) return {begin, cut};
        begin = cut;
    }
    return {begin, size};
}

enum ClientHabit : uint32_t {
    keeps_cuts = 1,      // no call's data crosses a cut
    looks_for_done = 2,  // it also takes a slot's last word for an answer (slot_done_bytes)
};

struct ClientPage {  // page 0: written by the client only
    uint64_t magic;  // channel_magic
    uint32_t protocol;
    uint32_t habits;  // what the client does: bits of ClientHabit; fewer in images of programs whose shim is older
    ChannelGeometry geometry;
    alignas(64) std::atomic<uint64_t> tail;       // bytes ever posted to the ring (release after the record is written)
    std::atomic<uint64_t> acked_seq;              // replies of calls up to this one will not be asked for again
    std::atomic<uint32_t> doorbell;               // futex: incremented after `tail` when ServerPage::sleeping was set
    alignas(64) std::atomic<uint32_t> wants_progress;      // threads waiting for ServerPage::progress
    std::atomic<uint64_t> wants_head;                      // where ServerPage::head is wanted by them; 0: anything that moves
    std::atomic<uint32_t> waiting[max_slots];              // 1: a thread sleeps on this slot's `ready`
    alignas(64) std::atomic<uint64_t> callback_done;       // ticket of the last callback that was run, 0: none yet
    std::atomic<uint32_t> callback_bell;                   // futex: incremented after callback_done
    std::atomic<uint64_t> callback_begun;                  // ticket of the last callback that was begun; before it runs
    uint64_t self;                                         // where the client maps this page
};
static_assert(sizeof(ClientPage) <= 4096);
inline constexpr uint64_t channel_magic = 0x31304e4e41484343;  // "CCHANN01"

enum class AttachState : uint32_t { Waiting = 0, Attached = 1, Refused = 2 };
enum class Refusal : uint32_t {
    None = 0,
    Protocol,        // the other side speaks another protocol version
    UnknownSession,  // may be loaded later: the client keeps trying
    Busy,            // another live process is attached
    ImageTooOld,     // the application's image is older than the session: calls would be repeated
    SessionTooOld,   // the session's snapshot is older than the image: calls would be lost
    BadChannel,      // geometry or ring content does not hold up
    Driver,          // the server's driver cannot be used
    Internal,
};

inline constexpr uint32_t callback_data_bytes = 2048;

struct ServerPage {  // page 1: written by the server only
    std::atomic<uint32_t> attach_state;  // AttachState, futex
    std::atomic<uint32_t> refusal;       // Refusal
    uint64_t answered_epoch;             // Hello::next_epoch this answer belongs to
    uint64_t session_id;
    uint32_t server_pid;                 // of the worker, in the server's namespace
    uint32_t driver_result;              // with Refusal::Driver: the CUresult of the driver's cuInit, 0: unknown
    char text[256];                      // reason of a refusal, NUL-terminated
    alignas(64) std::atomic<uint64_t> executed_seq;  // every call up to this one has been executed
    std::atomic<uint64_t> head;                      // ring bytes up to here have been executed
    std::atomic<uint64_t> up_head;                   // bytes of the up buffer the device has finished with
    alignas(64) std::atomic<uint32_t> sleeping;      // 1 while the worker sleeps on ClientPage::doorbell
    std::atomic<uint32_t> progress;                  // futex: changes when head or up_head moved and a client waits
    // The callback that the application is to run (server/callbacks.h), one at a time.
    alignas(64) std::atomic<uint64_t> callback_ticket;  // 0: none yet (release after the fields that describe it)
    std::atomic<uint32_t> callback_bell;                // futex: incremented after callback_ticket
    uint32_t callback_value;                            // a stream callback's CUresult, a log message's CUlogLevel
    uint64_t callback_id;                               // as the client sent it
    uint32_t callback_bytes;                            // of callback_data
    std::byte callback_data[callback_data_bytes];       // a log message, CUasyncNotificationInfo
    uint32_t can_fetch;                                 // 1: the server reads the client's memory itself (server/fetcher.h)
};
static_assert(sizeof(ServerPage) <= 4096);

struct SlotHeader {  // at the start of each reply slot; server writes
    std::atomic<uint64_t> seq;     // the call whose reply is here (release after the payload is written)
    std::atomic<uint32_t> ready;   // futex: low half of seq
    uint32_t length;               // bytes of the RPC reply message
    uint64_t offset;               // of the message in the memfd: behind this header, or in the down buffer
};

// The last bytes of a reply slot, where the client looks for them: the device itself writes the call's number there when all
// that the call waits for is over. That is the answer then, a success; the server's own follows, for whoever asks again.
inline constexpr uint64_t slot_done_bytes = sizeof(uint64_t);

// Answers a copy, at its last piece, whose bytes the server was to fetch and cannot read: the client brings them instead.
inline constexpr int32_t fetch_refused = 0x43460001;

inline constexpr uint32_t no_slot = 0xffffffff;

// A record in the ring. Records are contiguous: one that does not fit before the end is preceded by Pad.
struct RecordHeader {
    uint32_t bytes;  // of the whole record, header included, multiple of 8
    uint32_t kind;   // RecordKind
    uint64_t seq;
    uint32_t slot;          // reply slot or no_slot
    uint32_t message;       // bytes of the RPC call message that follows this header
    uint64_t reply_offset;  // where to put a reply that the slot cannot hold: in the down buffer
    uint64_t reply_bytes;   // its capacity; 0: the slot's own
    uint64_t up_end;        // up-buffer position behind this call's bulk data (unchanged when it has none)
};
enum RecordKind : uint32_t { record_call = 1, record_pad = 2 };

// Host memory that the GPU may use: one memfd, mapped from this address on in client and worker alike; a
// session's range is the prefix that the memfd is long. Reserved early by both.
inline constexpr uint64_t host_base = 0x300000000000;
inline constexpr uint64_t host_span = uint64_t(1) << 40;
// Device memory: the address range that a worker reserves.
inline constexpr uint64_t device_base = 0x200000000000;
inline constexpr uint64_t device_span = uint64_t(1) << 40;
// Where the application's own reservations of addresses lie (cuMemAddressReserve), each the driver's own.
inline constexpr uint64_t virtual_base = 0x400000000000;
inline constexpr uint64_t virtual_span = uint64_t(1) << 44;

inline bool is_device_address(uint64_t address) {
    return address - device_base < device_span || address - virtual_base < virtual_span;
}

}  // namespace cricket::wire
