// SPDX-License-Identifier: MIT
// How a call of NVML reaches the server. There is no session and no connection: each call is a memfd of its own with
// the ONC RPC message in it, sent as one datagram; the answer appears in the same memfd. So a process has nothing of
// NVML between two calls, and nothing that plain CRIU refuses while it waits in one (design.md, invariant 2).
#pragma once

#include <atomic>
#include <cstdint>

namespace cricket::wire {

inline constexpr uint32_t nvml_program = 0x204e564d;  // ONC RPC program; its own procedures are 1..15
inline constexpr uint32_t nvml_program_version = 1;
inline constexpr uint32_t nvml_proc_init = 1;          // u32 flags of nvmlInitWithFlags; answers a status
inline constexpr uint32_t nvml_proc_error_string = 2;  // int result; answers its text
inline constexpr uint32_t first_nvml_proc = 16;        // rpc/spec/nvml/procedures.txt

inline constexpr const char* nvml_socket_suffix = ".nvml";  // behind the server's socket path: datagrams

struct NvmlDatagram {
    uint64_t magic;
    uint32_t program_version;
    uint32_t reserved;
};
inline constexpr uint64_t nvml_datagram_magic = 0x31304c4d564e4343;  // "CCNVML01"

enum class NvmlState : uint32_t { Waiting = 0, Taken = 1, Answered = 2 };

// The memfd's first page; the call lies at `call_offset`, the reply goes to `reply_offset`. Who took the call holds a
// write lock (F_OFD_SETLK) on byte 0 through an open file description of its own, so that a call whose taker died, and
// one that criu restored, is known to be nobody's. Reading twice does no harm: it is sent again.
struct NvmlPage {
    uint64_t magic;                // client: nvml_datagram_magic
    std::atomic<uint32_t> state;   // NvmlState; futex. Server, but Waiting
    uint32_t call_bytes;           // client
    uint32_t reply_offset;         // client
    uint32_t reply_capacity;       // client
    uint32_t reply_bytes;          // server, before Answered (release)
    uint32_t reserved;
};
inline constexpr uint32_t nvml_call_offset = 4096;
inline constexpr uint32_t nvml_most_message = 6u << 20;

}  // namespace cricket::wire
