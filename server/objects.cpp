// SPDX-License-Identifier: MIT
#include "objects.h"

namespace cricket::server {

static uint64_t index_of(uint64_t number) { return number >> 4 & 0xffffffff; }

const Objects::Entry* Objects::entry_of(uint64_t number) const {
    const uint64_t index = index_of(number);
    const Entry* entry = nullptr;
    if (index >= first_fixed_index) {
        const auto found = fixed_.find(number);
        if (found != fixed_.end()) entry = &found->second;
    } else if (index / Page::entries < pages_.size() && pages_[index / Page::entries]) {
        entry = &pages_[index / Page::entries]->entry[index % Page::entries];
    }
    return entry && entry->number == number && number ? entry : nullptr;
}

void Objects::put(uint64_t number, void* handle) {
    const uint64_t index = index_of(number);
    if (index >= first_fixed_index) {
        fixed_[number] = {number, handle, 0};
        return;
    }
    if (index / Page::entries >= pages_.size()) pages_.resize(index / Page::entries + 1);
    auto& page = pages_[index / Page::entries];
    if (!page) page = std::make_unique<Page>();
    Entry& entry = page->entry[index % Page::entries];
    if (!entry.number) ++page->living;
    entry = {number, handle, 0};
}

uint64_t Objects::new_number(HandleKind kind, uint64_t wanted) {
    if (!forced_.empty()) {
        const uint64_t number = forced_.front();
        forced_.pop_front();
        return number;
    }
    return wanted ? wanted : (static_cast<uint64_t>(kind) << 32 | ++last_index_) << 4;
}

uint64_t Objects::add_value(HandleKind kind, uint64_t context, uint64_t value) {
    uint64_t& number = values_[{kind, context, value}];
    if (!number) put(number = new_number(kind, 0), reinterpret_cast<void*>(value));
    return number;
}

uint64_t Objects::find_value(HandleKind kind, uint64_t context, uint64_t value) const {
    const auto found = values_.find({kind, context, value});
    return found == values_.end() ? 0 : found->second;
}

uint64_t Objects::add(HandleKind kind, void* driver_handle, uint64_t wanted) {
    auto& known = by_handle_[static_cast<uint32_t>(kind)];
    if (auto found = known.find(driver_handle); found != known.end()) return found->second;
    const uint64_t number = new_number(kind, wanted);
    known[driver_handle] = number;
    put(number, driver_handle);
    return number;
}

void* Objects::get(HandleKind kind, uint64_t number) const {
    if (kind_of(number) != kind) return nullptr;
    const Entry* entry = entry_of(number);
    return entry ? entry->handle : nullptr;
}

Objects::Entry* Objects::entry(HandleKind kind, uint64_t number) {
    return kind_of(number) == kind ? const_cast<Entry*>(entry_of(number)) : nullptr;
}

void Objects::unload(uint64_t context) {
    for (auto& page : pages_)
        if (page)
            for (Entry& entry : page->entry) {
                if (entry.loaded_in == context) entry.loaded_in = 0;
                if (entry.may_run_in == context) entry.may_run_in = 0;
            }
}

void Objects::remove(HandleKind kind, uint64_t number) {
    const Entry* entry = entry_of(number);
    if (kind_of(number) != kind || !entry) return;
    by_handle_[static_cast<uint32_t>(kind)].erase(entry->handle);
    if (handle_is_value(kind)) std::erase_if(values_, [=](const auto& one) { return one.second == number; });
    const uint64_t index = index_of(number);
    if (index >= first_fixed_index) {
        fixed_.erase(number);
        return;
    }
    auto& page = pages_[index / Page::entries];
    page->entry[index % Page::entries] = {};
    if (--page->living == 0) page.reset();
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
