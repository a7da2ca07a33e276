// SPDX-License-Identifier: MIT
#include "device.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <numeric>
#include <vector>

#include "context.h"

namespace softgpu {
namespace {

constexpr size_t kDefaultMemory = size_t{2} << 30;

std::deque<Device>& devices() {
    return immortal<std::deque<Device>>();
}

size_t parse_size(const char* name, const char* text) {
    char* end;
    unsigned long long value = strtoull(text, &end, 0);
    size_t shift = 0;
    if (*end == 'K' || *end == 'k') shift = 10, ++end;
    if (*end == 'M' || *end == 'm') shift = 20, ++end;
    if (*end == 'G' || *end == 'g') shift = 30, ++end;
    if (*end || end == text || value == 0 || value > (size_t{1} << 40) >> shift) {
        log("%s=%s is not a size (a number, with K, M or G if wanted)", name, text);
        fail(CUDA_ERROR_INVALID_VALUE);
    }
    return value << shift;
}

// As the driver reads CUDA_VISIBLE_DEVICES: numbers, up to the first that is none or no device's.
std::vector<int> visible_devices(const char* text, int count) {
    std::vector<int> visible;
    for (const char* at = text;;) {
        char* end;
        const long value = strtol(at, &end, 10);
        if (end == at || value < 0 || value >= count) break;
        visible.push_back(static_cast<int>(value));
        if (*end != ',') break;
        at = end + 1;
    }
    return visible;
}

int compute = 10 * kMajor + kMinor;
int multiprocessor_count = 8;

}  // namespace

int compute_capability() {
    return compute;
}

int multiprocessors() {
    return multiprocessor_count;
}

void initialize_devices() {
    if (!devices().empty()) return;
    int count = 1;
    size_t memory = kDefaultMemory;
    if (const char* text = getenv("SOFTGPU_DEVICES")) {
        char* end;
        long value = strtol(text, &end, 10);
        if (*end || end == text || value < 0 || value > kMaxDevices) {
            log("SOFTGPU_DEVICES=%s is not a number from 0 to %d", text, kMaxDevices);
            fail(CUDA_ERROR_INVALID_VALUE);
        }
        count = static_cast<int>(value);
    }
    std::vector<int> visible(static_cast<size_t>(count));
    std::iota(visible.begin(), visible.end(), 0);
    if (const char* text = getenv("CUDA_VISIBLE_DEVICES")) visible = visible_devices(text, count);
    if (const char* text = getenv("SOFTGPU_MEMORY")) memory = parse_size("SOFTGPU_MEMORY", text);
    if (const char* text = getenv("SOFTGPU_COMPUTE")) {
        char* end;
        const long value = strtol(text, &end, 10);
        if (*end || end == text || value < 50 || value > 10 * kMajor + kMinor) {
            log("SOFTGPU_COMPUTE=%s is not a number from 50 to %d", text, 10 * kMajor + kMinor);
            fail(CUDA_ERROR_INVALID_VALUE);
        }
        compute = static_cast<int>(value);
    }
    if (const char* text = getenv("SOFTGPU_MULTIPROCESSORS")) {
        char* end;
        const long value = strtol(text, &end, 10);
        if (*end || end == text || value < 2 || value > 64) {
            log("SOFTGPU_MULTIPROCESSORS=%s is not a number from 2 to 64", text);
            fail(CUDA_ERROR_INVALID_VALUE);
        }
        multiprocessor_count = static_cast<int>(value);
    }
    require(!visible.empty(), CUDA_ERROR_NO_DEVICE);
    for (const int i : visible) {
        auto& device = devices().emplace_back();
        device.ordinal = static_cast<int>(devices().size()) - 1;
        memcpy(device.uuid.bytes, "cricketsoftgpu\0\0", 16);
        device.uuid.bytes[15] = static_cast<char>(i);
        char text[32];
        snprintf(text, sizeof text, "0000:%02X:00.0", 0x10 + i);
        device.bus_id = text;
        device.memory = memory;
        device.primary.handle = contexts().reserve();
    }
}

void Device::take(size_t bytes) {
    size_t before = used.load();
    do {
        require(bytes <= memory - before, CUDA_ERROR_OUT_OF_MEMORY);
    } while (!used.compare_exchange_weak(before, before + bytes));
}

Device& device(int ordinal) {
    require(ordinal >= 0 && ordinal < device_count(), CUDA_ERROR_INVALID_DEVICE);
    return devices()[static_cast<size_t>(ordinal)];
}

int device_count() {
    return static_cast<int>(devices().size());
}

namespace {

// Attributes that this device has; any other known one is 0.
int attribute(const Device& device, CUdevice_attribute which) {
    constexpr int kMaxInt = 0x7fffffff;
    switch (which) {
        case CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK:
        case CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_X:
        case CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Y:
            return kMaxThreadsPerBlock;
        case CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Z:
            return 64;
        case CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_X:
            return kMaxInt;
        case CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Y:
        case CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Z:
            return 65535;
        case CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK:
            return kSharedPerBlock;
        case CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN:
            return kSharedPerBlockOptin;
        case CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_MULTIPROCESSOR:
            return kSharedPerMultiprocessor;
        case CU_DEVICE_ATTRIBUTE_TOTAL_CONSTANT_MEMORY:
            return 64 << 10;
        case CU_DEVICE_ATTRIBUTE_WARP_SIZE:
            return kWarp;
        case CU_DEVICE_ATTRIBUTE_MAX_PITCH:
            return kMaxInt;
        case CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_BLOCK:
        case CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_MULTIPROCESSOR:
            return kRegisters;
        case CU_DEVICE_ATTRIBUTE_CLOCK_RATE:
            return 1000000;  // kHz
        case CU_DEVICE_ATTRIBUTE_MEMORY_CLOCK_RATE:
            return 1000000;
        case CU_DEVICE_ATTRIBUTE_GLOBAL_MEMORY_BUS_WIDTH:
            return 128;
        case CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE:
            return 4 << 20;
        case CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT:
            return multiprocessors();
        case CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_MULTIPROCESSOR:
            return kMaxThreadsPerMultiprocessor;
        case CU_DEVICE_ATTRIBUTE_MAX_BLOCKS_PER_MULTIPROCESSOR:
            return kMaxBlocksPerMultiprocessor;
        case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR:
            return compute / 10;
        case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR:
            return compute % 10;
        case CU_DEVICE_ATTRIBUTE_SINGLE_TO_DOUBLE_PRECISION_PERF_RATIO:
            return 32;
        case CU_DEVICE_ATTRIBUTE_ASYNC_ENGINE_COUNT:
            return 3;
        case CU_DEVICE_ATTRIBUTE_TEXTURE_ALIGNMENT:
        case CU_DEVICE_ATTRIBUTE_SURFACE_ALIGNMENT:
            return 512;
        case CU_DEVICE_ATTRIBUTE_TEXTURE_PITCH_ALIGNMENT:
            return 32;
        case CU_DEVICE_ATTRIBUTE_PCI_BUS_ID:
            return 0x10 + device.ordinal;
        case CU_DEVICE_ATTRIBUTE_MULTI_GPU_BOARD_GROUP_ID:
            return device.ordinal;
        case CU_DEVICE_ATTRIBUTE_GPU_OVERLAP:
        case CU_DEVICE_ATTRIBUTE_CAN_MAP_HOST_MEMORY:
        case CU_DEVICE_ATTRIBUTE_CONCURRENT_KERNELS:
        case CU_DEVICE_ATTRIBUTE_UNIFIED_ADDRESSING:
        case CU_DEVICE_ATTRIBUTE_STREAM_PRIORITIES_SUPPORTED:
        case CU_DEVICE_ATTRIBUTE_GLOBAL_L1_CACHE_SUPPORTED:
        case CU_DEVICE_ATTRIBUTE_LOCAL_L1_CACHE_SUPPORTED:
        case CU_DEVICE_ATTRIBUTE_MANAGED_MEMORY:
        case CU_DEVICE_ATTRIBUTE_CONCURRENT_MANAGED_ACCESS:
        case CU_DEVICE_ATTRIBUTE_COMPUTE_PREEMPTION_SUPPORTED:
        case CU_DEVICE_ATTRIBUTE_CAN_USE_HOST_POINTER_FOR_REGISTERED_MEM:
        case CU_DEVICE_ATTRIBUTE_CAN_USE_STREAM_MEM_OPS_V1:
        case CU_DEVICE_ATTRIBUTE_CAN_USE_64_BIT_STREAM_MEM_OPS_V1:
        case CU_DEVICE_ATTRIBUTE_CAN_USE_STREAM_WAIT_VALUE_NOR_V1:
        case CU_DEVICE_ATTRIBUTE_CAN_USE_64_BIT_STREAM_MEM_OPS:
        case CU_DEVICE_ATTRIBUTE_CAN_USE_STREAM_WAIT_VALUE_NOR:
        case CU_DEVICE_ATTRIBUTE_HOST_REGISTER_SUPPORTED:
        case CU_DEVICE_ATTRIBUTE_READ_ONLY_HOST_REGISTER_SUPPORTED:
        case CU_DEVICE_ATTRIBUTE_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED:
        case CU_DEVICE_ATTRIBUTE_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR_SUPPORTED:
        case CU_DEVICE_ATTRIBUTE_MEMORY_POOLS_SUPPORTED:
        case CU_DEVICE_ATTRIBUTE_COOPERATIVE_LAUNCH:
        case CU_DEVICE_ATTRIBUTE_IPC_EVENT_SUPPORTED:
        case CU_DEVICE_ATTRIBUTE_HOST_NUMA_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED:
            return 1;
        case CU_DEVICE_ATTRIBUTE_MAXIMUM_TEXTURE1D_WIDTH:
        case CU_DEVICE_ATTRIBUTE_MAXIMUM_TEXTURE2D_WIDTH:
        case CU_DEVICE_ATTRIBUTE_MAXIMUM_TEXTURE2D_LINEAR_WIDTH:
        case CU_DEVICE_ATTRIBUTE_MAXIMUM_SURFACE2D_WIDTH:
            return 131072;
        case CU_DEVICE_ATTRIBUTE_MAXIMUM_TEXTURE2D_HEIGHT:
        case CU_DEVICE_ATTRIBUTE_MAXIMUM_TEXTURE2D_LINEAR_HEIGHT:
        case CU_DEVICE_ATTRIBUTE_MAXIMUM_SURFACE2D_HEIGHT:
            return 65536;
        case CU_DEVICE_ATTRIBUTE_MAXIMUM_TEXTURE2D_LINEAR_PITCH:
            return 2097120;
        case CU_DEVICE_ATTRIBUTE_MAXIMUM_TEXTURE1D_LINEAR_WIDTH:
            return 1 << 27;
        case CU_DEVICE_ATTRIBUTE_MAXIMUM_TEXTURE3D_WIDTH:
        case CU_DEVICE_ATTRIBUTE_MAXIMUM_TEXTURE3D_HEIGHT:
        case CU_DEVICE_ATTRIBUTE_MAXIMUM_TEXTURE3D_DEPTH:
            return 16384;
        case CU_DEVICE_ATTRIBUTE_MAXIMUM_TEXTURE1D_LAYERED_WIDTH:
        case CU_DEVICE_ATTRIBUTE_MAXIMUM_TEXTURE2D_LAYERED_WIDTH:
        case CU_DEVICE_ATTRIBUTE_MAXIMUM_TEXTURE2D_LAYERED_HEIGHT:
        case CU_DEVICE_ATTRIBUTE_MAXIMUM_TEXTURECUBEMAP_WIDTH:
            return 32768;
        case CU_DEVICE_ATTRIBUTE_MAXIMUM_TEXTURE1D_LAYERED_LAYERS:
        case CU_DEVICE_ATTRIBUTE_MAXIMUM_TEXTURE2D_LAYERED_LAYERS:
            return 2048;
        case CU_DEVICE_ATTRIBUTE_MEMPOOL_SUPPORTED_HANDLE_TYPES:
            return CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR;
        case CU_DEVICE_ATTRIBUTE_NUMA_ID:
        case CU_DEVICE_ATTRIBUTE_HOST_NUMA_ID:
            return -1;
        default:
            return 0;
    }
}

}  // namespace
}  // namespace softgpu

using namespace softgpu;

CUresult cuDeviceGet(CUdevice* out, int ordinal) {
    return api([&] {
        require(out);
        *out = device(ordinal).ordinal;
    });
}

CUresult cuDeviceGetCount(int* count) {
    return api([&] {
        require(count);
        *count = device_count();
    });
}

CUresult cuDeviceGetName(char* name, int size, CUdevice dev) {
    return api([&] {
        require(name && size > 0);
        device(dev);
        snprintf(name, static_cast<size_t>(size), "%s", "Cricket Software GPU");
    });
}

CUresult cuDeviceGetUuid_v2(CUuuid* uuid, CUdevice dev) {
    return api([&] {
        require(uuid);
        *uuid = device(dev).uuid;
    });
}

CUresult cuDeviceGetUuid(CUuuid* uuid, CUdevice dev) {
    return cuDeviceGetUuid_v2(uuid, dev);
}

CUresult cuDeviceTotalMem_v2(size_t* bytes, CUdevice dev) {
    return api([&] {
        require(bytes);
        *bytes = device(dev).memory;
    });
}

CUresult cuDeviceGetAttribute(int* value, CUdevice_attribute which, CUdevice dev) {
    return api([&] {
        require(value && which >= 1 && which < CU_DEVICE_ATTRIBUTE_MAX);
        *value = attribute(device(dev), which);
    });
}

CUresult cuDeviceComputeCapability(int* major, int* minor, CUdevice dev) {
    return api([&] {
        require(major && minor);
        device(dev);
        *major = compute / 10;
        *minor = compute % 10;
    });
}

CUresult cuDeviceGetProperties(CUdevprop* prop, CUdevice dev) {
    return api([&] {
        require(prop);
        auto& d = device(dev);
        auto value = [&](CUdevice_attribute which) { return attribute(d, which); };
        *prop = CUdevprop{kMaxThreadsPerBlock,
                          {kMaxThreadsPerBlock, kMaxThreadsPerBlock, 64},
                          {value(CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_X), 65535, 65535},
                          kSharedPerBlock,
                          value(CU_DEVICE_ATTRIBUTE_TOTAL_CONSTANT_MEMORY),
                          kWarp,
                          value(CU_DEVICE_ATTRIBUTE_MAX_PITCH),
                          kRegisters,
                          value(CU_DEVICE_ATTRIBUTE_CLOCK_RATE),
                          value(CU_DEVICE_ATTRIBUTE_TEXTURE_ALIGNMENT)};
    });
}

CUresult cuDeviceGetPCIBusId(char* text, int size, CUdevice dev) {
    return api([&] {
        require(text && size > 0);
        auto& id = device(dev).bus_id;
        require(static_cast<size_t>(size) > id.size());
        memcpy(text, id.c_str(), id.size() + 1);
    });
}

CUresult cuDeviceGetByPCIBusId(CUdevice* out, const char* text) {
    return api([&] {
        require(out && text);
        unsigned domain = 0, bus = 0, slot = 0, function = 0;
        // "domain:bus:device.function", or without the domain, or without the function.
        if (sscanf(text, "%x:%x:%x.%x", &domain, &bus, &slot, &function) < 3) {
            domain = function = 0;
            require(sscanf(text, "%x:%x.%x", &bus, &slot, &function) >= 2);
        }
        require(domain == 0 && slot == 0 && function == 0, CUDA_ERROR_INVALID_DEVICE);
        *out = device(static_cast<int>(bus) - 0x10).ordinal;
    });
}

CUresult cuDeviceCanAccessPeer(int* can, CUdevice dev, CUdevice peer) {
    return api([&] {
        require(can);
        *can = &device(dev) != &device(peer);
    });
}

CUresult cuDeviceGetP2PAttribute(int* value, CUdevice_P2PAttribute which, CUdevice from, CUdevice to) {
    return api([&] {
        require(value);
        require(&device(from) != &device(to), CUDA_ERROR_INVALID_DEVICE);
        switch (which) {
            case CU_DEVICE_P2P_ATTRIBUTE_PERFORMANCE_RANK:
                *value = 0;
                break;
            case CU_DEVICE_P2P_ATTRIBUTE_ACCESS_SUPPORTED:
            case CU_DEVICE_P2P_ATTRIBUTE_NATIVE_ATOMIC_SUPPORTED:
                *value = 1;
                break;
            case CU_DEVICE_P2P_ATTRIBUTE_CUDA_ARRAY_ACCESS_SUPPORTED:
            case CU_DEVICE_P2P_ATTRIBUTE_ONLY_PARTIAL_NATIVE_ATOMIC_SUPPORTED:
                *value = 0;
                break;
            default:
                fail(CUDA_ERROR_INVALID_VALUE);
        }
    });
}

CUresult cuDeviceGetExecAffinitySupport(int* supported, CUexecAffinityType type, CUdevice dev) {
    return api([&] {
        require(supported && type == CU_EXEC_AFFINITY_TYPE_SM_COUNT);
        device(dev);
        *supported = 0;
    });
}

namespace {

// Every atomic of PTX is the host's: all of them, on one or two words.
void atomic_capabilities(unsigned* capabilities, const CUatomicOperation* operations, unsigned count) {
    require(capabilities && operations && count);
    for (unsigned i = 0; i < count; ++i) {
        require(operations[i] < CU_ATOMIC_OPERATION_MAX);
        capabilities[i] = CU_ATOMIC_CAPABILITY_SIGNED | CU_ATOMIC_CAPABILITY_UNSIGNED |
                          CU_ATOMIC_CAPABILITY_REDUCTION | CU_ATOMIC_CAPABILITY_SCALAR_32 |
                          CU_ATOMIC_CAPABILITY_SCALAR_64;
    }
}

}  // namespace

CUresult cuDeviceGetHostAtomicCapabilities(unsigned* capabilities, const CUatomicOperation* operations,
                                           unsigned count, CUdevice dev) {
    return api([&] {
        device(dev);
        atomic_capabilities(capabilities, operations, count);
    });
}

CUresult cuDeviceGetP2PAtomicCapabilities(unsigned* capabilities, const CUatomicOperation* operations,
                                          unsigned count, CUdevice from, CUdevice to) {
    return api([&] {
        require(&device(from) != &device(to), CUDA_ERROR_INVALID_DEVICE);
        atomic_capabilities(capabilities, operations, count);
    });
}

CUresult cuDeviceTotalMem(unsigned* bytes, CUdevice dev) {
    return api([&] {
        require(bytes);
        *bytes = static_cast<unsigned>(std::min<size_t>(device(dev).memory, 0xffffffff));
    });
}
