// SPDX-License-Identifier: MIT
// The devices: how many and how large is set by SOFTGPU_DEVICES and SOFTGPU_MEMORY.
#pragma once

#include <string>

#include "core.h"

namespace softgpu {

constexpr int kMaxDevices = 16;
constexpr int kMajor = 7, kMinor = 5;  // unless SOFTGPU_COMPUTE says less
int compute_capability();                // 10 * major + minor
int multiprocessors();  // of each device
constexpr int kWarp = 32;
constexpr int kMaxThreadsPerBlock = 1024;
constexpr int kMaxThreadsPerMultiprocessor = 1024;
constexpr int kMaxBlocksPerMultiprocessor = 16;
constexpr int kRegisters = 65536;
constexpr size_t kSharedPerBlock = 48 << 10;
constexpr size_t kSharedPerBlockOptin = 64 << 10;
constexpr size_t kSharedPerMultiprocessor = 64 << 10;

struct Device {
    int ordinal = 0;
    CUuuid uuid = {};
    std::string bus_id;
    size_t memory = 0;             // bytes
    std::atomic<size_t> used = 0;  // bytes
    struct Primary {
        std::mutex mutex;  // held while the primary context is made or destroyed
        CUcontext handle = nullptr;
        unsigned flags = 0;
        unsigned retained = 0;
    } primary;

    // Takes memory from the device or fails with CUDA_ERROR_OUT_OF_MEMORY.
    void take(size_t bytes);
    void give_back(size_t bytes) { used -= bytes; }
};

// Fails with CUDA_ERROR_INVALID_DEVICE.
Device& device(int ordinal);
int device_count();

}  // namespace softgpu
