// SPDX-License-Identifier: MIT
#include "client/callbacks.h"

#include <pthread.h>
#include <signal.h>

#include <atomic>
#include <cstring>
#include <map>
#include <mutex>
#include <set>

#include "client/call.h"
#include "client/contexts.h"
#include "client/log.h"
#include "client/reply_guard.h"
#include "client/session.h"

namespace cricket::client::callbacks {
namespace {

constexpr uint64_t sleep_us = 500'000;  // then look whether the server still lives

struct Entry {
    Kind kind;
    Use use;
    void* function;
    void* user;
    uint64_t handle;
};

// Made by the first add(), never destroyed: the thread runs until the process ends.
struct Table {
    std::mutex mutex;  // held over no function of the application
    std::map<uint64_t, Entry> entries;
    std::set<uint64_t> prepared;  // contexts whose server knows that host functions come
    uint64_t last_id = 0;
    bool have_thread = false;
};
constinit std::atomic<Table*> the_table{nullptr};
constinit thread_local bool this_thread_serves __attribute__((tls_model("initial-exec"))) = false;
constinit thread_local bool this_thread_runs __attribute__((tls_model("initial-exec"))) = false;

Table& table() {
    Table* known = the_table.load(std::memory_order_acquire);
    if (known) return *known;
    auto* made = new Table;
    if (the_table.compare_exchange_strong(known, made, std::memory_order_acq_rel)) return *made;
    delete made;
    return *known;
}

void run(uint64_t id, uint32_t value, void* data, uint32_t bytes) {
    Entry entry;
    {
        Table& all = table();
        std::lock_guard lock(all.mutex);
        auto found = all.entries.find(id);
        if (found == all.entries.end()) return;  // unregistered meanwhile
        entry = found->second;
        if (entry.use == Use::Once) all.entries.erase(found);
    }
    this_thread_runs = true;
    switch (entry.kind) {
        case Kind::HostFunction: reinterpret_cast<CUhostFn>(entry.function)(entry.user); break;
        case Kind::StreamCallback:
            reinterpret_cast<CUstreamCallback>(entry.function)(from_number<CUstream>(entry.handle),
                                                               static_cast<CUresult>(value), entry.user);
            break;
        case Kind::Log:
            reinterpret_cast<CUlogsCallback>(entry.function)(entry.user, static_cast<CUlogLevel>(value),
                                                             static_cast<char*>(data), bytes);
            break;
        case Kind::AsyncNotification:
            reinterpret_cast<CUasyncCallback>(entry.function)(static_cast<CUasyncNotificationInfo*>(data), entry.user,
                                                              from_number<CUasyncCallbackHandle>(entry.handle));
            break;
    }
    this_thread_runs = false;
}

void* serve(void* argument) {
    auto& session = *static_cast<Session*>(argument);
    ring::RingClient& ring = *session.ring();
    this_thread_serves = true;
    ::pthread_setname_np(::pthread_self(), "cuda-callbacks");
    while (Session::any() == &session && !ring.lost()) {
        const std::atomic<uint32_t>& bell = ring.channel().server_page().callback_bell;
        const uint32_t before = bell.load(std::memory_order_acquire);
        if (serve_shown(session)) continue;
        ring::futex_wait(bell, before, sleep_us);
        // Perhaps nobody else has a reason to notice that the server is gone, or that this process was restored.
        if (!ring.channel().server_alive()) ring.attach_if_free();
    }
    return nullptr;
}

// With all signals blocked: they are for the application's own threads. Table locked.
bool start_thread(Table& all, Session& session) {
    if (all.have_thread) return true;
    sigset_t every, before;
    sigfillset(&every);
    ::pthread_sigmask(SIG_SETMASK, &every, &before);
    pthread_t thread;
    const bool started = ::pthread_create(&thread, nullptr, serve, &session) == 0;
    ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
    if (started) ::pthread_detach(thread);
    return all.have_thread = started;
}

}  // namespace

bool running() { return this_thread_runs; }
bool on_callback_thread() { return this_thread_serves; }

CUresult add(Kind kind, Use use, void* function, void* user, uint64_t* id, uint64_t handle) {
    if (!function) return CUDA_ERROR_INVALID_VALUE;
    Session* session = Session::get();
    if (!session) return Session::absent();
    if (!session->ring()) return unsupported("a callback", "this transport carries no calls from the server");
    Table& all = table();
    const uint64_t context = current_context();
    bool tell = false;
    {
        std::lock_guard lock(all.mutex);
        if (!start_thread(all, *session)) return CUDA_ERROR_OUT_OF_MEMORY;
        *id = ++all.last_id;
        all.entries[*id] = {kind, use, function, user, handle};
        tell = kind <= Kind::StreamCallback && context && all.prepared.insert(context).second;
    }
    if (tell) {
        cricketPrepareCallbacks_args args{};
        cricketPrepareCallbacks_res res{};
        ReplyGuard guard;
        (void)call(args, res);  // what is wrong with the context will be said by the call itself
    }
    return CUDA_SUCCESS;
}

void remove(uint64_t id) {
    Table& all = table();
    std::lock_guard lock(all.mutex);
    all.entries.erase(id);
}

void keep(uint64_t id) {
    Table& all = table();
    std::lock_guard lock(all.mutex);
    if (auto found = all.entries.find(id); found != all.entries.end()) found->second.use = Use::Repeated;
}

void set_handle(uint64_t id, uint64_t handle) {
    Table& all = table();
    std::lock_guard lock(all.mutex);
    if (auto found = all.entries.find(id); found != all.entries.end()) found->second.handle = handle;
}

bool find(uint64_t id, void** function, void** user) {
    Table& all = table();
    std::lock_guard lock(all.mutex);
    auto found = all.entries.find(id);
    if (found == all.entries.end()) return false;
    *function = found->second.function;
    *user = found->second.user;
    return true;
}

bool serve_shown(Session& session) {
    ring::Channel& channel = session.ring()->channel();
    wire::ClientPage& client = channel.client_page();
    const wire::ServerPage& server = channel.server_page();
    // The page is believed only while its server lives: else it is a copy that a dump may have torn.
    if (server.callback_ticket.load(std::memory_order_acquire) <= client.callback_done.load()) return false;
    if (!channel.server_alive()) return false;
    const uint64_t ticket = server.callback_ticket.load(std::memory_order_acquire);
    const uint64_t id = server.callback_id;
    const uint32_t value = server.callback_value;
    const uint32_t bytes = server.callback_bytes;
    alignas(16) std::byte data[wire::callback_data_bytes + 1];
    if (bytes > wire::callback_data_bytes) return false;
    std::memcpy(data, server.callback_data, bytes);
    data[bytes] = {};
    if (!channel.server_alive() || server.callback_ticket.load(std::memory_order_acquire) != ticket) return false;
    if (ticket <= client.callback_done.load()) return false;
    client.callback_begun.store(ticket, std::memory_order_seq_cst);
    run(id, value, data, bytes);
    client.callback_done.store(ticket, std::memory_order_seq_cst);
    client.callback_bell.fetch_add(1, std::memory_order_seq_cst);
    ring::futex_wake_all(client.callback_bell);
    return true;
}

// The child has neither the thread nor a session; what the parent registered is the parent's.
void forget_in_child() {
    the_table.store(nullptr);
    this_thread_serves = this_thread_runs = false;
}

}  // namespace cricket::client::callbacks
