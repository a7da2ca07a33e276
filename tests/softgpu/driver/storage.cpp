// SPDX-License-Identifier: MIT
#include "storage.h"

namespace softgpu {
namespace {

struct Value {
    void* value;
    StorageDestructor destructor;
};

std::mutex mutex;
std::map<std::pair<CUcontext, void*>, Value>& values() {
    return immortal<std::map<std::pair<CUcontext, void*>, Value>>();
}

}  // namespace

void put_storage(CUcontext context, void* key, void* value, StorageDestructor destructor) {
    std::unique_lock lock(mutex);
    values()[{context, key}] = {value, destructor};
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
        auto first = values().lower_bound({context, nullptr});
        if (first == values().end() || first->first.first != context) return;
        auto [place, value] = *first;
        values().erase(first);
        lock.unlock();  // the destructor may call the driver
        if (value.destructor) value.destructor(context, place.second, value.value);
    }
}

}  // namespace softgpu
