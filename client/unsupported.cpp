// SPDX-License-Identifier: MIT
// Functions that are asked for and not there: named once in the log for each library that asks, and reported to the
// session, where cricketctl status lists them.
#include <dlfcn.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <new>

#include "client/call.h"
#include "client/contexts.h"
#include "client/log.h"
#include "client/session.h"
#include "client/unsupported.h"
#include "calls.h"

namespace cricket::client {
namespace {

struct Use {
    char function[96];
    char library[128];   // file name of the object that called; empty: not known
    const void* base;    // where that object lies
    uint32_t not_sent;   // uses of which the session does not know
};
constexpr size_t most_uses = 512;  // beyond that many pairs nobody reads the list any more

std::mutex mutex;
Use* uses = nullptr;  // made when the first one is needed
size_t count = 0;

void copy_text(char* to, size_t capacity, const char* from) {
    const size_t bytes = strnlen(from, capacity - 1);
    std::memcpy(to, from, bytes);
    to[bytes] = 0;
}

// Mutex held: a session ends or begins without it.
void send(Use& use, Session& session) {
    cricketUnsupported_args args{};
    args.function = {use.function, static_cast<uint32_t>(std::strlen(use.function) + 1), true, false};
    args.library = {use.library, static_cast<uint32_t>(std::strlen(use.library) + 1), true, false};
    args.times = use.not_sent;
    if (session.ring()) {
        const auto request = request_for(Proc::cricketUnsupported, xdr_routine(xdr_cricketUnsupported_args), &args, 0, false);
        if (session.ring()->post(request) == ring::Status::Ok) use.not_sent = 0;
        return;
    }
    cricketUnsupported_res res{};
    if (call(args, res) == CUDA_SUCCESS) use.not_sent = 0;
    release_reply(false);
}

Use* find(const char* function, const void* base, const char* library, bool* is_new) {
    *is_new = false;
    if (!uses) uses = static_cast<Use*>(std::calloc(most_uses, sizeof(Use)));
    if (!uses) return nullptr;
    for (size_t i = 0; i < count; ++i)
        if (uses[i].base == base && std::strcmp(uses[i].function, function) == 0) return &uses[i];
    if (count == most_uses) return nullptr;
    Use& made = uses[count++];
    copy_text(made.function, sizeof made.function, function);
    copy_text(made.library, sizeof made.library, library);
    made.base = base;
    *is_new = true;
    return &made;
}

}  // namespace

void note_unsupported(const char* function, const char* reason, const void* caller) {
    const int saved = errno;
    Dl_info info{};
    const char* library = "";
    if (caller && ::dladdr(const_cast<void*>(caller), &info) && info.dli_fname) {
        const char* slash = std::strrchr(info.dli_fname, '/');
        library = slash ? slash + 1 : info.dli_fname;
    }
    {
        std::lock_guard lock(mutex);
        bool is_new = false;
        if (Use* use = find(function, info.dli_fbase, library, &is_new)) {
            ++use->not_sent;
            if (is_new && *library)
                log(LogLevel::Error, "%s is not supported: %s; %s asks for it", function, reason, library);
            else if (is_new)
                log(LogLevel::Error, "%s is not supported: %s", function, reason);
            if (Session* session = Session::any(); session && !callbacks::running()) send(*use, *session);
        }
    }
    errno = saved;
}

CUresult unsupported(const char* function, const char* reason, const void* caller) {
    note_unsupported(function, reason, caller);
    return initialized() ? CUDA_ERROR_NOT_SUPPORTED : CUDA_ERROR_NOT_INITIALIZED;
}

void report_unsupported(Session& session) {
    std::lock_guard lock(mutex);
    for (size_t i = 0; i < count; ++i)
        if (uses[i].not_sent) send(uses[i], session);
}

void forget_unsupported_in_child() { new (&mutex) std::mutex; }

}  // namespace cricket::client
