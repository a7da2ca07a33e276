// SPDX-License-Identifier: MIT
#include "objects.h"

namespace cricket::server {

uint64_t Objects::add(HandleKind kind, void* driver_handle, uint64_t wanted) {
    auto& known = by_handle_[static_cast<uint32_t>(kind)];
    if (auto found = known.find(driver_handle); found != known.end()) return found->second;
    uint64_t number;
    if (!forced_.empty()) {
        number = forced_.front();
        forced_.pop_front();
    } else if (wanted) {
        number = wanted;
    } else {
        number = (static_cast<uint64_t>(kind) << 32 | ++last_index_) << 4;
    }
    known[driver_handle] = number;
    by_number_[number] = driver_handle;
    return number;
}

void* Objects::get(HandleKind kind, uint64_t number) const {
    if (kind_of(number) != kind) return nullptr;
    auto found = by_number_.find(number);
    return found == by_number_.end() ? nullptr : found->second;
}

void Objects::remove(HandleKind kind, uint64_t number) {
    auto found = by_number_.find(number);
    if (kind_of(number) != kind || found == by_number_.end()) return;
    by_handle_[static_cast<uint32_t>(kind)].erase(found->second);
    by_number_.erase(found);
}

uint64_t Objects::find(HandleKind kind, void* driver_handle) const {
    const auto& known = by_handle_[static_cast<uint32_t>(kind)];
    auto found = known.find(driver_handle);
    return found == known.end() ? 0 : found->second;
}

void Objects::force(std::vector<uint64_t> numbers) {
    forced_.assign(numbers.begin(), numbers.end());
}

}  // namespace cricket::server
