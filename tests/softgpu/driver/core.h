// SPDX-License-Identifier: MIT
// What every file of the driver needs: how an API function reports errors, and registries of live handles.
// Handles are numbers, never addresses, and never used twice: a stale or foreign one is always recognized.
#pragma once

#include <cuda.h>

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <shared_mutex>
#include <vector>

namespace softgpu {

// Thrown inside, turned into the CUresult of the API function by api().
struct Error {
    CUresult code;
};

[[noreturn]] inline void fail(CUresult code) {
    throw Error{code};
}

inline void require(bool condition, CUresult code = CUDA_ERROR_INVALID_VALUE) {
    if (!condition) fail(code);
}

// One line on stderr, prefixed with the library's name.
[[gnu::format(printf, 1, 2)]] void log(const char* format, ...);

// CUDA_SUCCESS once cuInit succeeded in this very process (a forked child is not initialized).
CUresult initialized();

// The CUresult of the exception being handled; call only in a catch block.
CUresult result_of_exception() noexcept;

// Body of an API function that works before cuInit.
template <typename Body>
CUresult api_always(Body&& body) noexcept {
    try {
        body();
        return CUDA_SUCCESS;
    } catch (...) {
        return result_of_exception();
    }
}

// Body of any other API function.
template <typename Body>
CUresult api(Body&& body) noexcept {
    if (CUresult result = initialized(); result != CUDA_SUCCESS) return result;
    return api_always(body);
}

// Live objects of one type by handle. `Tag` tells types apart in the handle itself, in its bits from `Shift` on.
template <typename T, typename Handle, uint64_t Tag, unsigned Shift = 40>
class Registry {
  public:
    Handle add(std::shared_ptr<T> object) {
        std::unique_lock lock(mutex_);
        uint64_t value = (Tag << Shift) + (++last_ << 4);
        objects_.emplace(value, std::move(object));
        return (Handle)value;
    }

    // Makes a handle that find() does not know yet.
    Handle reserve() {
        std::unique_lock lock(mutex_);
        return (Handle)((Tag << Shift) + (++last_ << 4));
    }

    void set(Handle handle, std::shared_ptr<T> object) {
        std::unique_lock lock(mutex_);
        objects_[(uint64_t)handle] = std::move(object);
    }

    // Null when there is none.
    std::shared_ptr<T> find(Handle handle) const {
        std::shared_lock lock(mutex_);
        auto found = objects_.find((uint64_t)handle);
        return found == objects_.end() ? nullptr : found->second;
    }

    std::shared_ptr<T> get(Handle handle, CUresult otherwise = CUDA_ERROR_INVALID_HANDLE) const {
        auto object = find(handle);
        require(object != nullptr, otherwise);
        return object;
    }

    std::shared_ptr<T> remove(Handle handle, CUresult otherwise = CUDA_ERROR_INVALID_HANDLE) {
        std::unique_lock lock(mutex_);
        auto node = objects_.extract((uint64_t)handle);
        require(!node.empty(), otherwise);
        return std::move(node.mapped());
    }

    // Was this handle ever given out?
    bool known(Handle handle) const {
        std::shared_lock lock(mutex_);
        auto value = (uint64_t)handle;
        return value > Tag << Shift && value <= (Tag << Shift) + (last_ << 4) && value % 16 == 0;
    }

    // Removes and returns all objects of which `which(object)` is true.
    template <typename Which>
    std::vector<std::shared_ptr<T>> remove_if(Which which) {
        std::unique_lock lock(mutex_);
        std::vector<std::shared_ptr<T>> removed;
        for (auto it = objects_.begin(); it != objects_.end();) {
            if (which(*it->second)) {
                removed.push_back(std::move(it->second));
                it = objects_.erase(it);
            } else {
                ++it;
            }
        }
        return removed;
    }

  private:
    mutable std::shared_mutex mutex_;
    uint64_t last_ = 0;
    std::map<uint64_t, std::shared_ptr<T>> objects_;
};

// Objects live until the process ends: worker threads outlast static destructors.
template <typename T>
T& immortal() {
    static T* object = new T;
    return *object;
}

}  // namespace softgpu
