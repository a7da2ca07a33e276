// SPDX-License-Identifier: MIT
#include "nvml/handles.h"

#include <unistd.h>

#include "control_client.h"
#include "log.h"
#include "process_files.h"

namespace cricket::server {
namespace {

using nvml::HandleKind;

// Fields of a number, each its index plus one, 0: none.
constexpr unsigned gpu_bits = 0;         // or unit
constexpr unsigned mig_bits = 16;        // multi-instance device on it
constexpr unsigned instance_bits = 32;   // id of the GPU instance
constexpr unsigned compute_bits = 48;    // id of the compute instance
constexpr uint64_t field_mask = 0xffff;

uint64_t field(unsigned bits, uint64_t index) { return (index + 1) << bits; }
bool has(uint64_t number, unsigned bits) { return (number >> bits & field_mask) != 0; }
uint32_t index_in(uint64_t number, unsigned bits) {
    return static_cast<uint32_t>(number >> bits & field_mask) - 1;
}

using GetIndex = int(void*, uint32_t*);
using GetByIndex = int(uint32_t, void**);
using GetOnDevice = int(void*, uint32_t, void**);
using GetParent = int(void*, void**);

struct GpuInstanceInfo {
    void* device;
    uint32_t id, rest[64];
};
struct ComputeInstanceInfo {
    void* device;
    void* gpu_instance;
    uint32_t id, rest[64];
};

constexpr uint32_t most_units = 64;

}  // namespace

uint64_t NvmlHandles::device_number(void* real) {
    uint32_t index = 0;
    void* parent = nullptr;
    // A multi-instance device's own index is its place among its GPU's.
    const auto parent_of = library_.function<GetParent>("nvmlDeviceGetDeviceHandleFromMigDeviceHandle");
    const auto index_of = library_.function<GetIndex>("nvmlDeviceGetIndex");
    if (!index_of) return 0;
    if (!parent_of || parent_of(real, &parent) != nvml::success || parent == real)
        return index_of(real, &index) == nvml::success ? field(gpu_bits, index) : 0;
    uint32_t most = 0;
    const auto most_of = library_.function<GetIndex>("nvmlDeviceGetMaxMigDeviceCount");
    const auto nth = library_.function<GetOnDevice>("nvmlDeviceGetMigDeviceHandleByIndex");
    if (!most_of || !nth || index_of(parent, &index) != nvml::success || most_of(parent, &most) != nvml::success)
        return 0;
    for (uint32_t place = 0; place < most; ++place) {
        void* one = nullptr;
        if (nth(parent, place, &one) == nvml::success && one == real)
            return field(gpu_bits, index) | field(mig_bits, place);
    }
    return 0;
}

uint64_t NvmlHandles::unit_number(void* real) {
    const auto nth = library_.function<GetByIndex>("nvmlUnitGetHandleByIndex");
    for (uint32_t index = 0; nth && index < most_units; ++index) {
        void* one = nullptr;
        if (nth(index, &one) != nvml::success) break;
        if (one == real) return field(gpu_bits, index);
    }
    return 0;
}

uint64_t NvmlHandles::gpu_instance_number(void* real) {
    GpuInstanceInfo info{};
    const auto info_of = library_.function<int(void*, void*)>("nvmlGpuInstanceGetInfo");
    if (!info_of || info_of(real, &info) != nvml::success) return 0;
    const uint64_t on = device_number(info.device);
    return on ? on | field(instance_bits, info.id) : 0;
}

uint64_t NvmlHandles::compute_instance_number(void* real) {
    ComputeInstanceInfo info{};
    const auto info_of = library_.function<int(void*, void*)>("nvmlComputeInstanceGetInfo_v2");
    if (!info_of || info_of(real, &info) != nvml::success) return 0;
    const uint64_t in = gpu_instance_number(info.gpu_instance);
    return in ? in | field(compute_bits, info.id) : 0;
}

uint64_t NvmlHandles::number_of(HandleKind kind, void* real) {
    if (!real) return 0;
    switch (kind) {
        case HandleKind::Device: return device_number(real);
        case HandleKind::Unit: return unit_number(real);
        case HandleKind::GpuInstance: return gpu_instance_number(real);
        case HandleKind::ComputeInstance: return compute_instance_number(real);
        case HandleKind::None: break;
    }
    return 0;
}

void* NvmlHandles::device(uint64_t number) {
    void* real = nullptr;
    const auto nth = library_.function<GetByIndex>("nvmlDeviceGetHandleByIndex_v2");
    if (!nth || !has(number, gpu_bits) || nth(index_in(number, gpu_bits), &real) != nvml::success) return nullptr;
    if (!has(number, mig_bits)) return real;
    void* part = nullptr;
    const auto mig = library_.function<GetOnDevice>("nvmlDeviceGetMigDeviceHandleByIndex");
    return mig && mig(real, index_in(number, mig_bits), &part) == nvml::success ? part : nullptr;
}

void* NvmlHandles::gpu_instance(uint64_t number) {
    void *on = device(number), *real = nullptr;
    const auto by_id = library_.function<GetOnDevice>("nvmlDeviceGetGpuInstanceById");
    if (!on || !by_id || !has(number, instance_bits)) return nullptr;
    return by_id(on, index_in(number, instance_bits), &real) == nvml::success ? real : nullptr;
}

void* NvmlHandles::real_of(HandleKind kind, uint64_t number) {
    void* real = nullptr;
    switch (kind) {
        case HandleKind::Device:
            return number >> instance_bits ? nullptr : device(number);
        case HandleKind::Unit: {
            const auto nth = library_.function<GetByIndex>("nvmlUnitGetHandleByIndex");
            if (number == 0 || number > most_units || !nth) return nullptr;
            return nth(index_in(number, gpu_bits), &real) == nvml::success ? real : nullptr;
        }
        case HandleKind::GpuInstance:
            return has(number, compute_bits) ? nullptr : gpu_instance(number);
        case HandleKind::ComputeInstance: {
            void* in = gpu_instance(number);
            const auto by_id = library_.function<GetOnDevice>("nvmlGpuInstanceGetComputeInstanceById");
            if (!in || !by_id || !has(number, compute_bits)) return nullptr;
            return by_id(in, index_in(number, compute_bits), &real) == nvml::success ? real : nullptr;
        }
        case HandleKind::None: break;
    }
    return nullptr;
}

// Whether it is a child of the process whose child we are: other servers have workers too.
static bool is_sibling(uint32_t pid) { return parent_of(static_cast<pid_t>(pid)) == ::getppid(); }

uint32_t NvmlHandles::application_of(uint32_t pid) {
    if (!is_sibling(pid)) return pid;
    const std::string words = read_process_file(static_cast<pid_t>(pid), "cmdline");
    const std::string option{"\0--worker\0", 10};
    const size_t at = words.find(option);
    if (words.compare(0, 15, std::string("cricket-server\0", 15)) != 0 || at == std::string::npos) return pid;
    try {
        const uint64_t id = std::stoull(words.substr(at + option.size()));
        for (const SessionStatus& session : ControlClient::connect(control_path_).status().sessions)
            if (session.id == id && session.pid > 0) return static_cast<uint32_t>(session.pid);
    } catch (const std::exception& error) {
        log_debug("the application of worker %u is not known: %s", pid, error.what());
    }
    return pid;
}

}  // namespace cricket::server
