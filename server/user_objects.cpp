// SPDX-License-Identifier: MIT
#include "user_objects.h"

#include <utility>

namespace cricket::server {

void* UserObjects::prepare(void* context) {
    std::lock_guard lock(mutex_);
    return living_.emplace_back(std::make_unique<Entry>(Entry{this, context})).get();
}

void UserObjects::made(void* prepared, CUuserObject object) {
    auto* entry = static_cast<Entry*>(prepared);
    std::lock_guard lock(mutex_);
    entry->object = object;
}

void UserObjects::refused(void* prepared) {
    std::lock_guard lock(mutex_);
    std::erase_if(living_, [&](const auto& entry) { return entry.get() == prepared; });
}

void CUDA_CB UserObjects::destroyed(void* prepared) {
    auto* entry = static_cast<Entry*>(prepared);
    UserObjects& all = *entry->owner;
    void* context = entry->context;
    {
        std::lock_guard lock(all.mutex_);
        if (entry->object) all.gone_.push_back(entry->object);
        std::erase_if(all.living_, [&](const auto& one) { return one.get() == entry; });
    }
    Callbacks::host_function(context);
}

std::vector<CUuserObject> UserObjects::take_gone() {
    std::lock_guard lock(mutex_);
    return std::exchange(gone_, {});
}

}  // namespace cricket::server
