// SPDX-License-Identifier: MIT
#include "nvml/nvml_worker.h"

#include <fcntl.h>
#include <linux/futex.h>
#include <poll.h>
#include <rpc/rpc.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstddef>
#include <cstring>
#include <vector>

#include "channel_answer.h"
#include "cricket/nvml_wire.h"
#include "cricket/unique_fd.h"
#include "log.h"
#include "nvml/handles.h"
#include "nvml/library.h"
#include "nvml_functions.h"
#include "received_fds.h"

namespace cricket::server {
namespace {

using nvml::Function;
using wire::NvmlPage;
using wire::NvmlState;

constexpr int idle_ms = 60000;
constexpr size_t page_bytes = 4096;

// A client's memfd. Read and written by system calls only: it may shrink under us at any time.
class Paper {
  public:
    explicit Paper(UniqueFd fd) : fd_(std::move(fd)) {}

    // Takes the call out of it. Null or why not.
    const char* take(std::vector<char>* call) {
        struct stat status {};
        if (!is_shared_memory(fd_.get()) || ::fstat(fd_.get(), &status) != 0) return "it brings no memfd";
        alignas(NvmlPage) char raw[sizeof(NvmlPage)];
        if (::pread(fd_.get(), raw, sizeof raw, 0) != static_cast<ssize_t>(sizeof raw)) return "its memfd is too short";
        std::memcpy(&call_bytes_, raw + offsetof(NvmlPage, call_bytes), 4);
        std::memcpy(&reply_offset_, raw + offsetof(NvmlPage, reply_offset), 4);
        std::memcpy(&reply_capacity_, raw + offsetof(NvmlPage, reply_capacity), 4);
        uint64_t magic;
        std::memcpy(&magic, raw + offsetof(NvmlPage, magic), sizeof magic);
        const auto size = static_cast<uint64_t>(status.st_size);
        if (magic != wire::nvml_datagram_magic) return "its memfd holds no call";
        if (call_bytes_ > wire::nvml_most_message || wire::nvml_call_offset + uint64_t(call_bytes_) > size ||
            reply_capacity_ > wire::nvml_most_message || reply_offset_ < page_bytes ||
            uint64_t(reply_offset_) + reply_capacity_ > size)
            return "its memfd's places do not hold up";
        if (!lock()) return "its memfd cannot be locked";
        put(offsetof(NvmlPage, state), static_cast<uint32_t>(NvmlState::Taken));
        call->resize(call_bytes_);
        if (::pread(fd_.get(), call->data(), call_bytes_, wire::nvml_call_offset) != static_cast<ssize_t>(call_bytes_))
            return "its call cannot be read";
        return nullptr;
    }
    uint32_t reply_capacity() const { return reply_capacity_; }

    void answer(const char* reply, uint32_t bytes) {
        if (::pwrite(fd_.get(), reply, bytes, reply_offset_) != static_cast<ssize_t>(bytes)) return;
        put(offsetof(NvmlPage, reply_bytes), bytes);
        put(offsetof(NvmlPage, state), static_cast<uint32_t>(NvmlState::Answered));
        // The kernel finds the waiter by the page; this process does not touch it.
        void* page = ::mmap(nullptr, page_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd_.get(), 0);
        if (page == MAP_FAILED) return;
        ::syscall(SYS_futex, static_cast<char*>(page) + offsetof(NvmlPage, state), FUTEX_WAKE, INT_MAX, nullptr,
                  nullptr, 0);
        ::munmap(page, page_bytes);
    }

  private:
    bool lock() {
        const std::string path = "/proc/self/fd/" + std::to_string(fd_.get());
        lock_.reset(::open(path.c_str(), O_RDWR | O_CLOEXEC));
        struct flock range {};
        range.l_type = F_WRLCK;
        range.l_whence = SEEK_SET;
        range.l_len = 1;
        return lock_ && ::fcntl(lock_.get(), F_OFD_SETLK, &range) == 0;
    }
    void put(size_t offset, uint32_t value) {
        [[maybe_unused]] const ssize_t ignored = ::pwrite(fd_.get(), &value, sizeof value, static_cast<off_t>(offset));
    }

    UniqueFd fd_, lock_;
    uint32_t call_bytes_ = 0, reply_offset_ = 0, reply_capacity_ = 0;
};

const Function* function_of(uint32_t procedure) {
    const Function* end = nvml::functions + nvml::function_count;
    const Function* found = std::lower_bound(nvml::functions, end, procedure,
                                             [](const Function& one, uint32_t number) { return one.procedure < number; });
    return found != end && found->procedure == procedure ? found : nullptr;
}

class Service {
  public:
    explicit Service(const NvmlWorkerConfig& config)
        : library_(config.library), handles_(library_, config.control_path) {}

    // The reply's bytes in `reply`; 0: the call is no RPC message.
    uint32_t serve(std::vector<char>& message, std::vector<char>* reply) {
        XDR in;
        xdrmem_create(&in, message.data(), static_cast<u_int>(message.size()), XDR_DECODE);
        char credential[MAX_AUTH_BYTES], verifier[MAX_AUTH_BYTES];
        rpc_msg call{};
        call.rm_call.cb_cred.oa_base = credential;
        call.rm_call.cb_verf.oa_base = verifier;
        if (!xdr_callmsg(&in, &call)) return 0;
        accept_stat status = PROC_UNAVAIL;
        XDR out;
        xdrmem_create(&out, reply->data(), static_cast<u_int>(reply->size()), XDR_ENCODE);
        if (call.rm_call.cb_prog != wire::nvml_program)
            status = PROG_UNAVAIL;
        else if (call.rm_call.cb_vers != wire::nvml_program_version)
            status = PROG_MISMATCH;
        else if (begin_reply(&out, call.rm_xid, SUCCESS))
            status = run(static_cast<uint32_t>(call.rm_call.cb_proc), &in, &out);
        if (status != SUCCESS) {
            xdrmem_create(&out, reply->data(), static_cast<u_int>(reply->size()), XDR_ENCODE);
            if (!begin_reply(&out, call.rm_xid, status)) return 0;
        }
        return XDR_GETPOS(&out);
    }

  private:
    static bool begin_reply(XDR* out, uint32_t xid, accept_stat status) {
        rpc_msg reply{};
        reply.rm_xid = xid;
        reply.rm_direction = REPLY;
        reply.rm_reply.rp_stat = MSG_ACCEPTED;
        reply.acpted_rply.ar_verf = _null_auth;
        reply.acpted_rply.ar_stat = status;
        reply.acpted_rply.ar_vers = {wire::nvml_program_version, wire::nvml_program_version};
        if (status == SUCCESS)
            reply.acpted_rply.ar_results = {nullptr,
                                            reinterpret_cast<xdrproc_t>(+[](XDR*, void*) -> bool_t { return TRUE; })};
        return xdr_replymsg(out, &reply);
    }

    accept_stat run(uint32_t procedure, XDR* in, XDR* out) {
        if (procedure == NULLPROC) return SUCCESS;
        if (procedure == wire::nvml_proc_init) return init(in, out);
        if (procedure == wire::nvml_proc_error_string) return error_string(in, out);
        const Function* function = function_of(procedure);
        return function ? call(*function, in, out) : PROC_UNAVAIL;
    }

    accept_stat init(XDR* in, XDR* out) {
        uint32_t flags = 0;
        if (!::xdr_u_int(in, &flags)) return GARBAGE_ARGS;
        int status = library_.ready(flags);
        return ::xdr_int(out, &status) ? SUCCESS : SYSTEM_ERR;
    }

    accept_stat error_string(XDR* in, XDR* out) {
        int result = 0;
        if (!::xdr_int(in, &result)) return GARBAGE_ARGS;
        const auto text_of = library_.ready(0) == nvml::success
                                 ? library_.function<const char*(int)>("nvmlErrorString") : nullptr;
        auto* text = const_cast<char*>(text_of ? text_of(result) : "NVML is not to be had");
        return ::xdr_string(out, &text, nvml::most_text) ? SUCCESS : SYSTEM_ERR;
    }

    accept_stat call(const Function& function, XDR* in, XDR* out) {
        int status = library_.ready(0);
        if (status != nvml::success) return refuse(function, in, out, status);
        nvml::Arguments arguments;
        if (!arguments.decode(in, function, handles_)) return GARBAGE_ARGS;
        // Integers and pointers travel in six registers whatever their number and types (System V, x86-64).
        using Any = int(uint64_t, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t);
        const auto& w = arguments.words();
        if (auto* any = reinterpret_cast<Any*>(library_.symbol(function)))
            status = any(w[0], w[1], w[2], w[3], w[4], w[5]);
        else
            status = nvml::function_not_found;
        log_debug("%s -> %d", function.name, status);
        return arguments.encode_reply(out, function, status, handles_) ? SUCCESS : SYSTEM_ERR;
    }

    // Without a library: the arguments come back as they were.
    accept_stat refuse(const Function& function, XDR* in, XDR* out, int status) {
        class Nothing final : public nvml::Translator {
            uint64_t number_of(nvml::HandleKind, void*) override { return 0; }
            void* real_of(nvml::HandleKind, uint64_t) override { return nullptr; }
            uint32_t application_of(uint32_t pid) override { return pid; }
        } nothing;
        nvml::Arguments arguments;
        if (!arguments.decode(in, function, nothing)) return GARBAGE_ARGS;
        return arguments.encode_reply(out, function, status, nothing) ? SUCCESS : SYSTEM_ERR;
    }

    NvmlLibrary library_;
    NvmlHandles handles_;
};

}  // namespace

int nvml_worker_main(const NvmlWorkerConfig& config) {
    ::signal(SIGPIPE, SIG_IGN);
    ::fcntl(config.socket, F_SETFD, FD_CLOEXEC);
    Service service(config);
    std::vector<char> call, reply(wire::nvml_most_message);
    for (;;) {
        pollfd waited{config.socket, POLLIN, 0};
        const int ready = ::poll(&waited, 1, idle_ms);
        if (ready == 0) return 0;
        if (ready < 0 && errno != EINTR) return 1;
        wire::NvmlDatagram datagram{};
        ReceivedMessage message = receive_message(config.socket, &datagram, sizeof datagram, MSG_DONTWAIT | MSG_TRUNC);
        if (message.bytes < 0) continue;
        const char* wrong = nullptr;
        if (!message.peer || message.peer->uid != ::geteuid())
            wrong = "it comes from another user";
        else if (message.bytes != sizeof datagram || datagram.magic != wire::nvml_datagram_magic ||
                 message.fds.size() != 1)
            wrong = "it is no call of NVML";
        if (!wrong) {
            Paper paper(std::move(message.fds[0]));
            wrong = paper.take(&call);
            if (!wrong) {
                const uint32_t bytes = service.serve(call, &reply);
                if (bytes > 0 && bytes <= paper.reply_capacity())
                    paper.answer(reply.data(), bytes);
                else
                    wrong = "its call is no RPC message";
            }
        }
        if (wrong) log_warn("datagram of pid %d dropped: %s", message.peer ? message.peer->pid : -1, wrong);
    }
}

}  // namespace cricket::server
