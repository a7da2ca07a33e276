// SPDX-License-Identifier: MIT
#include "storage.h"

namespace softgpu {
namespace {

struct Value {
    void* value;
    StorageDestructor destructor;
    uint64_t order;  // the latest ends first
};

std::mutex mutex;
std::map<std::pair<CUcontext, void*>, Value>& values() {
    return immortal<std::map<std::pair<CUcontext, void*>, Value>>();
}

}  // namespace

void put_storage(CUcontext context, void* key, void* value, StorageDestructor destructor) {
    std::unique_lock lock(mutex);
    static uint64_t last = 0;
    values()[{context, key}] = {value, destructor, ++last};
}

void delete_storage(CUcontext context, void* key) {
    std::unique_lock lock(mutex);
    require(values().erase({context, key}) == 1, CUDA_ERROR_INVALID_HANDLE);
}

void* get_storage(CUcontext context, void* key) {
    std::unique_lock lock(mutex);
    auto found = values().find({context, key});
    require(found != values().end(), CUDA_ERROR_INVALID_HANDLE);
    return found->second.value;
}

void end_storage(CUcontext context) {
    for (;;) {
        std::unique_lock lock(mutex);
        auto first = values().end();
        for (auto it = values().lower_bound({context, nullptr}); it != values().end() && it->first.first == context; ++it)
            if (first == values().end() || it->second.order > first->second.order) first = it;
        if (first == values().end()) return;
        auto [place, value] = *first;
        values().erase(first);
        lock.unlock();  // the destructor may call the driver
        if (value.destructor) value.destructor(context, place.second, value.value);
    }
}

}  // namespace softgpu
