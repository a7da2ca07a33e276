// SPDX-License-Identifier: MIT
#include "client/device_text.h"

#include <dlfcn.h>

#include <atomic>
#include <cerrno>
#include <cstdio>
#include <mutex>
#include <new>

#include "client/reply_guard.h"
#include "client/session.h"
#include "rpc/ring/not_cancelled.h"

namespace cricket::client::device_text {
namespace {

constexpr uint64_t most_reply = 48 * 1024;  // the server sends at most 16 KiB of each stream at once

std::atomic<uint64_t> told{0};     // as replies said
std::atomic<uint64_t> written{0};  // of both streams
std::mutex mutex;                  // guards what follows; held over the calls, so that nobody overtakes
uint64_t positions[2] = {};
constinit thread_local bool delivering __attribute__((tls_model("initial-exec"))) = false;

// The application's own: `stderr` in this library is libtirpc's (session.cpp).
std::FILE* standard(const char* name) {
    auto* place = static_cast<std::FILE**>(::dlsym(RTLD_DEFAULT, name));
    return place ? *place : nullptr;
}

void write(const char* stream, const rpc::Blob& text) {
    std::FILE* file = text.size ? standard(stream) : nullptr;
    if (!file) return;
    std::fwrite(text.data, 1, text.size, file);
    std::fflush(file);
}

}  // namespace

void note(uint64_t total) {
    uint64_t known = told.load(std::memory_order_relaxed);
    while (known < total && !told.compare_exchange_weak(known, total)) {
    }
}

void deliver() {
    if (told.load(std::memory_order_relaxed) <= written.load(std::memory_order_relaxed) || delivering) return;
    const int saved = errno;
    const ring::NotCancelled whole;
    delivering = true;
    {
        std::lock_guard lock(mutex);
        for (bool more = true; more && told.load() > written.load();) {
            cricketDeviceText_args args{};
            cricketDeviceText_res res{};
            args.out_at = positions[0];
            args.err_at = positions[1];
            res.status = CUDA_ERROR_UNKNOWN;
            ReplyGuard guard;
            const CUresult result = call(args, res, {0, most_reply});
            if (res.status != CUDA_SUCCESS) break;
            // The error of a call before, which is for the application.
            if (result != CUDA_SUCCESS)
                if (Session* session = Session::get()) session->note_posted_error(result);
            write("stdout", res.out);
            write("stderr", res.err);
            positions[0] += res.out.size;
            positions[1] += res.err.size;
            written.store(positions[0] + positions[1]);
            more = res.out.size + res.err.size != 0;
            if (!more) told.store(written.load());
        }
    }
    delivering = false;
    errno = saved;
}

void forget_in_child() {
    new (&mutex) std::mutex;
    told.store(0);
    written.store(0);
    positions[0] = positions[1] = 0;
    delivering = false;
}

}  // namespace cricket::client::device_text
