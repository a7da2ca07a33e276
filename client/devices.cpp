// SPDX-License-Identifier: MIT
#include "client/devices.h"

#include <pthread.h>

#include <algorithm>
#include <atomic>
#include <climits>
#include <cstring>

#include "client/contexts.h"
#include "client/locked.h"
#include "client/reply_guard.h"
#include "custom.h"

namespace cricket::client {
namespace devices {
namespace {

constexpr int max_attribute = 256;
constexpr uint64_t present = uint64_t(1) << 32;  // beside a cached attribute's 32 bits

struct Cache {
    std::atomic<uint64_t> attributes[max_attribute];
    // The rest is written once under the lock, then `filled` gets its bit with release.
    std::atomic<uint32_t> filled;
    char name[256];
    CUuuid uuid, physical_uuid;
    size_t total_memory;
};
enum Filled : uint32_t { name_filled = 1, uuid_filled = 2, total_filled = 4, physical_uuid_filled = 8 };

// Zero pages until used. Not taken before cuInit, so a forked child cannot meet the lock locked.
constinit Cache caches[max_cached]{};
pthread_mutex_t fill_lock = PTHREAD_MUTEX_INITIALIZER;
std::atomic<int> cached_count{-1};
std::atomic<int> told_version{0};

Cache* cache_of(CUdevice device) {
    return device >= 0 && device < max_cached ? &caches[device] : nullptr;
}

bool has(const Cache* cache, Filled what) {
    return cache && (cache->filled.load(std::memory_order_acquire) & what);
}

template <class Fill>
void fill_once(Cache* cache, Filled what, Fill fill) {
    if (!cache) return;
    pthread_mutex_lock(&fill_lock);
    if (!has(cache, what)) {
        fill(*cache);
        cache->filled.fetch_or(what, std::memory_order_release);
    }
    pthread_mutex_unlock(&fill_lock);
}

}  // namespace

CUresult count(int* count) {
    if (!initialized()) return CUDA_ERROR_NOT_INITIALIZED;
    int known = cached_count.load(std::memory_order_relaxed);
    if (known < 0) {
        cuDeviceGetCount_args args{};
        cuDeviceGetCount_res res{};
        ReplyGuard guard;
        if (CUresult result = call(args, res); result != CUDA_SUCCESS) return result;
        known = res.count;
        cached_count.store(known, std::memory_order_relaxed);
    }
    *count = known;
    return CUDA_SUCCESS;
}

void forget() {
    Locked locked(fill_lock);
    cached_count.store(-1, std::memory_order_relaxed);
    for (Cache& cache : caches) {
        if (cache.filled.load(std::memory_order_relaxed)) cache.filled.store(0, std::memory_order_release);
        for (auto& attribute : cache.attributes)
            if (attribute.load(std::memory_order_relaxed)) attribute.store(0, std::memory_order_relaxed);
    }
}

CUresult check(CUdevice device) {
    int devices;
    if (CUresult result = count(&devices); result != CUDA_SUCCESS) return result;
    return device >= 0 && device < devices ? CUDA_SUCCESS : CUDA_ERROR_INVALID_DEVICE;
}

CUresult attribute(int* value, int attribute, CUdevice device) {
    if (!initialized()) return CUDA_ERROR_NOT_INITIALIZED;
    Cache* cache = cache_of(device);
    std::atomic<uint64_t>* cached =
        cache && attribute >= 0 && attribute < max_attribute ? &cache->attributes[attribute] : nullptr;
    if (cached) {
        uint64_t known = cached->load(std::memory_order_relaxed);
        if (known & present) {
            *value = static_cast<int>(static_cast<uint32_t>(known));
            return CUDA_SUCCESS;
        }
    }
    cuDeviceGetAttribute_args args{};
    cuDeviceGetAttribute_res res{};
    args.attrib = static_cast<decltype(args.attrib)>(attribute);
    args.dev = device;
    ReplyGuard guard;
    CUresult result = call(args, res);
    if (result != CUDA_SUCCESS) return result;
    *value = res.pi;
    if (cached) cached->store(present | static_cast<uint32_t>(res.pi), std::memory_order_relaxed);
    return CUDA_SUCCESS;
}

template <class Args, class Res>
CUresult get_uuid(CUuuid* uuid, CUdevice device, Filled what, CUuuid Cache::*place) {
    if (!initialized()) return CUDA_ERROR_NOT_INITIALIZED;
    if (!uuid) return CUDA_ERROR_INVALID_VALUE;
    Cache* cache = cache_of(device);
    if (has(cache, what)) {
        *uuid = cache->*place;
        return CUDA_SUCCESS;
    }
    Args args{};
    Res res{};
    args.dev = device;
    ReplyGuard guard;
    CUresult result = call(args, res);
    if (result != CUDA_SUCCESS) return result;
    std::memcpy(uuid, &res.uuid, sizeof *uuid);
    fill_once(cache, what, [&](Cache& at) { at.*place = *uuid; });
    return CUDA_SUCCESS;
}

CUresult uuid(CUuuid* uuid, CUdevice device) {
    return get_uuid<cuDeviceGetUuid_v2_args, cuDeviceGetUuid_v2_res>(uuid, device, uuid_filled, &Cache::uuid);
}

CUresult physical_uuid(CUuuid* uuid, CUdevice device) {
    return get_uuid<cuDeviceGetUuid_args, cuDeviceGetUuid_res>(uuid, device, physical_uuid_filled,
                                                               &Cache::physical_uuid);
}

int driver_version() {
    int told = told_version.load(std::memory_order_relaxed);
    if (told) return told;
    int version = CUDA_VERSION;
    if (initialized()) {
        cuDriverGetVersion_args args{};
        cuDriverGetVersion_res res{};
        ReplyGuard guard;
        if (call(args, res) == CUDA_SUCCESS && res.driverVersion > 0)
            version = std::min(version, static_cast<int>(res.driverVersion));
    }
    return told_version.compare_exchange_strong(told, version) ? version : told;
}

size_t validity_devices(ValidityDevice (&out)[max_cached]) {
    int devices;
    if (count(&devices) != CUDA_SUCCESS) return 0;
    size_t filled = 0;
    for (CUdevice device = 0; device < std::min(devices, max_cached); ++device) {
        ValidityDevice& entry = out[filled];
        CUuuid id;
        if (physical_uuid(&id, device) != CUDA_SUCCESS ||
            attribute(&entry.pci_domain, CU_DEVICE_ATTRIBUTE_PCI_DOMAIN_ID, device) != CUDA_SUCCESS ||
            attribute(&entry.pci_bus, CU_DEVICE_ATTRIBUTE_PCI_BUS_ID, device) != CUDA_SUCCESS ||
            attribute(&entry.pci_device, CU_DEVICE_ATTRIBUTE_PCI_DEVICE_ID, device) != CUDA_SUCCESS)
            continue;
        std::memcpy(entry.uuid, &id, sizeof entry.uuid);
        ++filled;
    }
    return filled;
}

}  // namespace devices

CUresult impl_cuDriverGetVersion(int* driverVersion) {
    if (!driverVersion) return CUDA_ERROR_INVALID_VALUE;
    *driverVersion = devices::driver_version();
    return CUDA_SUCCESS;
}

CUresult impl_cuDeviceGetCount(int* count) {
    if (!initialized()) return CUDA_ERROR_NOT_INITIALIZED;
    return count ? devices::count(count) : CUDA_ERROR_INVALID_VALUE;
}

CUresult impl_cuDeviceGet(CUdevice* device, int ordinal) {
    if (!initialized()) return CUDA_ERROR_NOT_INITIALIZED;
    if (!device) return CUDA_ERROR_INVALID_VALUE;
    CUresult result = devices::check(ordinal);
    if (result == CUDA_SUCCESS) *device = ordinal;
    return result;
}

CUresult impl_cuDeviceGetAttribute(int* pi, CUdevice_attribute attrib, CUdevice dev) {
    if (!pi) return CUDA_ERROR_INVALID_VALUE;
    if (!initialized()) return CUDA_ERROR_NOT_INITIALIZED;
    return devices::attribute(pi, attrib, dev);
}

CUresult impl_cuDeviceGetName(char* name, int len, CUdevice dev) {
    if (!initialized()) return CUDA_ERROR_NOT_INITIALIZED;
    if (!name || len <= 0) return CUDA_ERROR_INVALID_VALUE;
    devices::Cache* cache = devices::cache_of(dev);
    char text[sizeof cache->name] = {};
    if (devices::has(cache, devices::name_filled)) {
        std::memcpy(text, cache->name, sizeof text);
    } else {
        cuDeviceGetName_args args{};
        cuDeviceGetName_res res{};
        args.len = sizeof text;
        args.dev = dev;
        ReplyGuard guard;
        CUresult result = call(args, res, CallOptions{.reply_bytes = sizeof text + 256});
        if (result != CUDA_SUCCESS) return result;
        std::memcpy(text, res.name.data, std::min<size_t>(res.name.size, sizeof text - 1));
        devices::fill_once(cache, devices::name_filled,
                           [&](devices::Cache& at) { std::memcpy(at.name, text, sizeof text); });
    }
    size_t length = std::min(std::strlen(text), static_cast<size_t>(len) - 1);
    std::memcpy(name, text, length);
    std::memset(name + length, 0, static_cast<size_t>(len) - length);  // all of it, as the driver does
    return CUDA_SUCCESS;
}

CUresult impl_cuDeviceGetUuid_v2(CUuuid* uuid, CUdevice dev) {
    return devices::uuid(uuid, dev);
}

CUresult impl_cuDeviceGetUuid(CUuuid* uuid, CUdevice dev) {
    return devices::physical_uuid(uuid, dev);
}

// The 32-bit ABI's, which the driver still answers: as much as fits.
CUresult impl_cuDeviceTotalMem(unsigned int* bytes, CUdevice dev) {
    size_t all = 0;
    const CUresult result = impl_cuDeviceTotalMem_v2(bytes ? &all : nullptr, dev);
    if (result == CUDA_SUCCESS) *bytes = all < UINT_MAX ? static_cast<unsigned>(all) : UINT_MAX;
    return result;
}

CUresult impl_cuDeviceTotalMem_v2(size_t* bytes, CUdevice dev) {
    if (!initialized()) return CUDA_ERROR_NOT_INITIALIZED;
    if (!bytes) return CUDA_ERROR_INVALID_VALUE;
    devices::Cache* cache = devices::cache_of(dev);
    if (devices::has(cache, devices::total_filled)) {
        *bytes = cache->total_memory;
        return CUDA_SUCCESS;
    }
    cuDeviceTotalMem_v2_args args{};
    cuDeviceTotalMem_v2_res res{};
    args.dev = dev;
    ReplyGuard guard;
    CUresult result = call(args, res);
    if (result != CUDA_SUCCESS) return result;
    *bytes = res.bytes;
    devices::fill_once(cache, devices::total_filled, [&](devices::Cache& at) { at.total_memory = *bytes; });
    return CUDA_SUCCESS;
}

}  // namespace cricket::client
