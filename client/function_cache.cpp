// SPDX-License-Identifier: MIT
#include "client/function_cache.h"

#include <cuda.h>

#include <atomic>
#include <cstdlib>

namespace cricket::client::function_cache {
namespace {

struct Entry {
    Key key;
    Entry* next;
    std::atomic<uint32_t> version;  // grows when this entry alone is outdated
    // Written value first, then stamp; 0: nothing known.
    std::atomic<uint64_t> stamp;
    std::atomic<uint64_t> value;
};

constexpr unsigned bucket_count = 4096;
constinit std::atomic<Entry*> buckets[bucket_count]{};  // entries are only ever added, at the front
std::atomic<uint32_t> code{1}, function_settings{1}, kernel_settings{1};
std::atomic<bool> adding{false};  // held for the few instructions of adding an entry

std::atomic<Entry*>& bucket(const Key& key) {
    uint64_t mixed = (key.handle >> 4) * 0x9e3779b97f4a7c15u;
    mixed ^= (key.where + (uint64_t(key.attribute) << 8) + static_cast<uint64_t>(key.what)) * 0xc2b2ae3d27d4eb4fu;
    return buckets[mixed >> 52];
}

Entry* look_up(const Key& key) {
    for (Entry* entry = bucket(key).load(std::memory_order_acquire); entry; entry = entry->next)
        if (entry->key.handle == key.handle && entry->key.where == key.where && entry->key.what == key.what &&
            entry->key.attribute == key.attribute)
            return entry;
    return nullptr;
}

Entry* look_up_or_add(const Key& key) {
    if (Entry* entry = look_up(key)) return entry;
    auto* fresh = static_cast<Entry*>(std::calloc(1, sizeof(Entry)));
    if (!fresh) return nullptr;
    fresh->key = key;
    while (adding.exchange(true, std::memory_order_acquire)) {
    }
    Entry* entry = look_up(key);
    if (!entry) {
        auto& head = bucket(key);
        fresh->next = head.load(std::memory_order_relaxed);
        head.store(fresh, std::memory_order_release);
    }
    adding.store(false, std::memory_order_release);
    if (!entry) return fresh;
    std::free(fresh);
    return entry;
}

// Attributes from here on can be set; the earlier ones are facts about the code.
bool is_setting(const Key& key) { return key.attribute >= CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES; }

uint64_t stamp_of(const Key& key, const Entry* entry) {
    uint64_t settings = 1;
    if (key.what == What::FunctionAttribute && is_setting(key)) settings = function_settings.load();
    if (key.what == What::KernelAttribute && is_setting(key)) settings = kernel_settings.load();
    const uint64_t version = entry ? entry->version.load() & 0xffff : 0;
    return uint64_t(code.load()) << 40 | (settings & 0xffffff) << 16 | version;
}

}  // namespace

uint64_t stamp(const Key& key) { return stamp_of(key, look_up(key)); }

bool find(const Key& key, uint64_t* value) {
    const Entry* entry = look_up(key);
    if (!entry) return false;
    const uint64_t wanted = stamp_of(key, entry);
    if (entry->stamp.load(std::memory_order_acquire) != wanted) return false;
    *value = entry->value.load(std::memory_order_relaxed);
    std::atomic_thread_fence(std::memory_order_acquire);
    return entry->stamp.load(std::memory_order_relaxed) == wanted;
}

void keep(const Key& key, uint64_t stamp, uint64_t value) {
    Entry* entry = look_up_or_add(key);
    if (!entry || stamp_of(key, entry) != stamp) return;
    entry->stamp.store(0, std::memory_order_relaxed);
    std::atomic_thread_fence(std::memory_order_release);
    entry->value.store(value, std::memory_order_relaxed);
    entry->stamp.store(stamp, std::memory_order_release);
}

void outdate(const Key& key) {
    if (Entry* entry = look_up_or_add(key)) entry->version.fetch_add(1);
}

void function_settings_changed() { function_settings.fetch_add(1); }
void kernel_settings_changed() { kernel_settings.fetch_add(1); }
void forget_all() { code.fetch_add(1); }

void forget_in_child() {
    adding.store(false);
    forget_all();
}

}  // namespace cricket::client::function_cache
