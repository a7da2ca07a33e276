// SPDX-License-Identifier: MIT
#include "callbacks.h"

#include <algorithm>
#include <cstring>

#include "rpc/ring/channel.h"

namespace cricket::server {
namespace {

constexpr uint64_t look_again_us = 100'000;  // a wake-up that got lost costs this much

}  // namespace

void* Callbacks::context(uint64_t id, Use use) {
    std::lock_guard lock(mutex_);
    if (use == Use::Repeated)
        if (auto known = repeated_.find(id); known != repeated_.end()) return known->second;
    auto entry = std::make_unique<Entry>(Entry{this, id, use});
    Entry* place = entry.get();
    entries_[place] = std::move(entry);
    if (use == Use::Repeated) repeated_[id] = place;
    return place;
}

std::shared_ptr<const std::atomic<uint64_t>> Callbacks::ticket(void* context) {
    return static_cast<Entry*>(context)->ticket;
}

void Callbacks::forget(void* context) {
    std::lock_guard lock(mutex_);
    auto* entry = static_cast<Entry*>(context);
    auto found = entries_.find(entry);
    if (found == entries_.end()) return;
    if (entry->use == Use::Repeated) repeated_.erase(entry->id);
    entries_.erase(found);
}

void Callbacks::forget_repeated(uint64_t id) {
    std::lock_guard lock(mutex_);
    auto found = repeated_.find(id);
    if (found == repeated_.end()) return;
    entries_.erase(found->second);
    repeated_.erase(found);
}

uint64_t Callbacks::id_of(void* context) {
    std::lock_guard lock(mutex_);
    auto found = entries_.find(static_cast<Entry*>(context));
    return found == entries_.end() ? 0 : found->second->id;
}

void CUDA_CB Callbacks::host_function(void* context) {
    auto* entry = static_cast<Entry*>(context);
    entry->owner->run(entry, 0);
}

void CUDA_CB Callbacks::stream_callback(CUstream, CUresult status, void* context) {
    auto* entry = static_cast<Entry*>(context);
    entry->owner->run(entry, static_cast<uint32_t>(status));
}

void Callbacks::tell(void* context, uint32_t value, const void* data, size_t bytes) {
    auto* entry = static_cast<Entry*>(context);
    std::lock_guard lock(entry->owner->mutex_);
    entry->owner->push_locked(*entry, value, data, bytes);
}

uint64_t Callbacks::push_locked(const Entry& entry, uint32_t value, const void* data, size_t bytes) {
    const auto* from = static_cast<const std::byte*>(data);
    bytes = std::min<size_t>(bytes, wire::callback_data_bytes);
    collect_locked();
    pending_.store(true, std::memory_order_release);
    due_.push_back({++last_ticket_, entry.id, value, {from, from + bytes}});
    entry.ticket->store(last_ticket_);
    if (due_.size() == 1) show_locked(server_);
    return last_ticket_;
}

void Callbacks::run(Entry* entry, uint32_t value) {
    std::unique_lock lock(mutex_);
    const uint64_t ticket = push_locked(*entry, value, nullptr, 0);
    if (entry->use == Use::Once) entries_.erase(entry);
    while (done_ < ticket) {
        if (!client_ || due_.front().ticket != ticket) {
            changed_.wait(lock);
            continue;
        }
        // Without the lock only the kernel looks at the page: that it may be gone by then is a failed wait, no fault.
        const std::atomic<uint32_t>& bell = client_->callback_bell;
        const uint32_t before = bell.load(std::memory_order_acquire);
        if (collect_locked()) continue;
        lock.unlock();
        ring::futex_wait(bell, before, look_again_us);
        lock.lock();
        collect_locked();
    }
}

void Callbacks::show_locked(wire::ServerPage* server) {
    if (!server || due_.empty()) return;
    const Due& due = due_.front();
    server->callback_id = due.id;
    server->callback_value = due.value;
    server->callback_bytes = static_cast<uint32_t>(due.data.size());
    if (!due.data.empty()) std::memcpy(server->callback_data, due.data.data(), due.data.size());
    server->callback_ticket.store(due.ticket, std::memory_order_release);
    server->callback_bell.fetch_add(1, std::memory_order_seq_cst);
    ring::futex_wake_all(server->callback_bell);
}

void Callbacks::finish_locked() {
    done_ = due_.front().ticket;
    due_.pop_front();
    pending_.store(!due_.empty(), std::memory_order_release);
    changed_.notify_all();
    show_locked(server_);
}

bool Callbacks::collect_locked() {
    if (!client_ || due_.empty()) return false;
    if (client_->callback_done.load(std::memory_order_acquire) < due_.front().ticket) return false;
    finish_locked();
    return true;
}

uint64_t Callbacks::show_front(wire::ServerPage& server) {
    std::lock_guard lock(mutex_);
    if (due_.empty()) return 0;
    show_locked(&server);
    return due_.front().ticket;
}

void Callbacks::finish_front() {
    std::lock_guard lock(mutex_);
    if (!due_.empty()) finish_locked();
}

void Callbacks::note_done(uint64_t ticket) {
    std::lock_guard lock(mutex_);
    while (!due_.empty() && due_.front().ticket <= ticket) finish_locked();
}

std::string Callbacks::describe_pending() {
    std::lock_guard lock(mutex_);
    if (due_.empty()) return {};
    return "a host function or callback of the application (ticket " + std::to_string(due_.front().ticket) +
           ", and " + std::to_string(due_.size() - 1) + " behind it)";
}

std::string Callbacks::refusal(const wire::ClientPage& client) {
    std::lock_guard lock(mutex_);
    const uint64_t theirs = client.callback_done.load(std::memory_order_acquire);
    if (theirs < done_)
        return "the application's image is older than the session: it would not have run callbacks " +
               std::to_string(theirs + 1) + " to " + std::to_string(done_) + ", which have run";
    if (theirs > last_ticket_)
        return "the session is older than the application's image: callbacks " + std::to_string(last_ticket_ + 1) +
               " to " + std::to_string(theirs) + " have run";
    return {};
}

void Callbacks::attach(const wire::ClientPage& client, wire::ServerPage& server) {
    std::lock_guard lock(mutex_);
    client_ = &client;
    server_ = &server;
    server.callback_ticket.store(0, std::memory_order_release);
    if (!collect_locked()) show_locked(server_);
    changed_.notify_all();
}

void Callbacks::detach() {
    std::lock_guard lock(mutex_);
    while (collect_locked()) {
    }
    client_ = nullptr;
    server_ = nullptr;
}

bool Callbacks::collect() {
    std::lock_guard lock(mutex_);
    return collect_locked();
}

uint64_t Callbacks::done() {
    std::lock_guard lock(mutex_);
    return done_;
}

void Callbacks::set_done(uint64_t ticket) {
    std::lock_guard lock(mutex_);
    done_ = last_ticket_ = ticket;
}

}  // namespace cricket::server
