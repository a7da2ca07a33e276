// SPDX-License-Identifier: MIT
// The software GPU's NVML: what the driver beside it says of its devices, in NVML's terms, so that the way from an
// application to an NVML can be tested on any machine. Handles are addresses, as with the real one, and change from
// process to process; wrong ones are recognized.
#include <dirent.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <fstream>
#include <mutex>
#include <string>
#include <vector>

namespace {

enum Result : int {
    success = 0,
    uninitialized = 1,
    invalid_argument = 2,
    not_supported = 3,
    not_found = 6,
    insufficient_size = 7,
    driver_not_loaded = 9,
    version_mismatch = 25,
};

struct Device {
    uint32_t index;
};

std::mutex mutex;
int users = 0;
std::vector<Device*> devices;

uint64_t memory_of_each() {
    const char* text = std::getenv("SOFTGPU_MEMORY");
    if (!text) return uint64_t{2} << 30;
    char* end = nullptr;
    const uint64_t value = std::strtoull(text, &end, 0);
    const int shift = *end == 'K' || *end == 'k' ? 10 : *end == 'M' || *end == 'm' ? 20 : *end == 'G' || *end == 'g' ? 30 : 0;
    return value << shift;
}

Device* device_of(void* handle) {
    for (Device* device : devices)
        if (device == handle) return device;
    return nullptr;
}

// Runs `function` for a device, with the checks that every call begins with.
template <typename Function>
int with(void* handle, Function function) {
    std::lock_guard lock(mutex);
    if (users == 0) return uninitialized;
    Device* device = device_of(handle);
    return device ? function(*device) : invalid_argument;
}

int put(char* place, uint32_t room, const std::string& text) {
    if (!place) return invalid_argument;
    if (room < text.size() + 1) return insufficient_size;
    std::memcpy(place, text.c_str(), text.size() + 1);
    return success;
}

template <typename T>
int put(T* place, T value) {
    if (!place) return invalid_argument;
    *place = value;
    return success;
}

std::string uuid_of(const Device& device) {
    char text[64];
    std::snprintf(text, sizeof text, "GPU-63726963-6b65-7473-6f66-7467707500%02x", device.index);
    return text;
}
std::string bus_of(const Device& device) {
    char text[32];
    std::snprintf(text, sizeof text, "00000000:%02X:00.0", 0x10 + device.index);
    return text;
}

// Processes that have the driver of the software GPU loaded.
std::vector<uint32_t> processes() {
    std::vector<uint32_t> found;
    DIR* folder = ::opendir("/proc");
    while (const dirent* entry = folder ? ::readdir(folder) : nullptr) {
        const long pid = std::strtol(entry->d_name, nullptr, 10);
        if (pid <= 0) continue;
        std::ifstream maps(std::string("/proc/") + entry->d_name + "/maps");
        for (std::string line; std::getline(maps, line);)
            if (line.find("/softgpu/") != std::string::npos && line.ends_with("/libcuda.so.1")) {
                found.push_back(static_cast<uint32_t>(pid));
                break;
            }
    }
    if (folder) ::closedir(folder);
    return found;
}

struct Pci {
    char legacy[16];
    uint32_t domain, bus, device, id, subsystem;
    char text[32];
};
static_assert(sizeof(Pci) == 68);

struct MemoryInfo {
    uint64_t total, free, used;
};
struct MemoryInfo2 {
    uint32_t version;
    uint64_t total, reserved, free, used;
};
static_assert(sizeof(MemoryInfo2) == 40);

struct Process {
    uint32_t pid;
    uint64_t memory;
    uint32_t gpu_instance, compute_instance;
};
static_assert(sizeof(Process) == 24);

struct FieldValue {
    uint32_t field, scope;
    int64_t timestamp, latency;
    uint32_t type;
    int result;
    uint64_t value;
};
static_assert(sizeof(FieldValue) == 40);

struct DetailList {
    uint32_t version, mode, count;
    struct Detail {
        uint32_t pid;
        uint64_t memory;
        uint32_t gpu_instance, compute_instance;
        uint64_t protected_memory;
    }* details;
};
static_assert(sizeof(DetailList) == 24 && sizeof(DetailList::Detail) == 32);

}  // namespace

#define API extern "C" [[gnu::visibility("default")]]

API int nvmlInitWithFlags(uint32_t) {
    std::lock_guard lock(mutex);
    if (users++ > 0) return success;
    const char* wanted = std::getenv("SOFTGPU_DEVICES");
    const long count = wanted ? std::strtol(wanted, nullptr, 10) : 1;
    for (long i = 0; i < count; ++i) devices.push_back(new Device{static_cast<uint32_t>(i)});
    return success;
}
API int nvmlInit_v2() { return nvmlInitWithFlags(0); }

API int nvmlShutdown() {
    std::lock_guard lock(mutex);
    if (users == 0) return uninitialized;
    if (--users > 0) return success;
    for (Device* device : devices) delete device;
    devices.clear();
    return success;
}

API const char* nvmlErrorString(int result) {
    switch (result) {
        case success: return "software NVML: success";
        case uninitialized: return "software NVML: uninitialized";
        case invalid_argument: return "software NVML: invalid argument";
        case not_supported: return "software NVML: not supported";
        default: return "software NVML: error";
    }
}

API int nvmlSystemGetDriverVersion(char* text, uint32_t length) { return put(text, length, "580.0.soft"); }
API int nvmlSystemGetNVMLVersion(char* text, uint32_t length) { return put(text, length, "13.580.0.soft"); }
API int nvmlSystemGetCudaDriverVersion(int* version) { return put(version, 13000); }
API int nvmlSystemGetCudaDriverVersion_v2(int* version) { return put(version, 13000); }

API int nvmlSystemGetProcessName(uint32_t pid, char* name, uint32_t length) {
    std::ifstream file("/proc/" + std::to_string(pid) + "/cmdline", std::ios::binary);
    std::string text;
    if (!std::getline(file, text, '\0')) return not_found;
    if (!name || length == 0) return invalid_argument;
    std::snprintf(name, length, "%s", text.c_str());
    return success;
}

API int nvmlDeviceGetCount_v2(uint32_t* count) {
    std::lock_guard lock(mutex);
    return users ? put(count, static_cast<uint32_t>(devices.size())) : uninitialized;
}

API int nvmlDeviceGetHandleByIndex_v2(uint32_t index, void** handle) {
    std::lock_guard lock(mutex);
    if (!users) return uninitialized;
    return index < devices.size() ? put<void*>(handle, devices[index]) : invalid_argument;
}

API int nvmlDeviceGetHandleByUUID(const char* uuid, void** handle) {
    std::lock_guard lock(mutex);
    if (!users) return uninitialized;
    if (!uuid) return invalid_argument;
    for (Device* device : devices)
        if (uuid_of(*device) == uuid) return put<void*>(handle, device);
    return not_found;
}

API int nvmlDeviceGetHandleByPciBusId_v2(const char* bus, void** handle) {
    std::lock_guard lock(mutex);
    if (!users) return uninitialized;
    if (!bus) return invalid_argument;
    for (Device* device : devices)
        if (bus_of(*device) == bus) return put<void*>(handle, device);
    return not_found;
}

API int nvmlDeviceGetIndex(void* handle, uint32_t* index) {
    return with(handle, [&](Device& device) { return put(index, device.index); });
}
API int nvmlDeviceGetMinorNumber(void* handle, uint32_t* number) { return nvmlDeviceGetIndex(handle, number); }

API int nvmlDeviceGetName(void* handle, char* name, uint32_t length) {
    return with(handle, [&](Device&) { return put(name, length, "Cricket Software GPU"); });
}
API int nvmlDeviceGetUUID(void* handle, char* uuid, uint32_t length) {
    return with(handle, [&](Device& device) { return put(uuid, length, uuid_of(device)); });
}

API int nvmlDeviceGetPciInfo_v3(void* handle, Pci* pci) {
    return with(handle, [&](Device& device) {
        if (!pci) return invalid_argument;
        const std::string text = bus_of(device);
        *pci = {{}, 0, 0x10 + device.index, 0, 0x50f710de, 0, {}};
        std::snprintf(pci->legacy, sizeof pci->legacy, "%s", text.c_str() + 4);
        std::snprintf(pci->text, sizeof pci->text, "%s", text.c_str());
        return success;
    });
}

API int nvmlDeviceGetMemoryInfo(void* handle, MemoryInfo* memory) {
    return with(handle, [&](Device&) {
        if (!memory) return invalid_argument;
        *memory = {memory_of_each(), memory_of_each(), 0};
        return success;
    });
}
API int nvmlDeviceGetMemoryInfo_v2(void* handle, MemoryInfo2* memory) {
    return with(handle, [&](Device&) {
        if (!memory) return invalid_argument;
        if (memory->version != (2u << 24 | sizeof *memory)) return version_mismatch;
        *memory = {memory->version, memory_of_each(), 0, memory_of_each(), 0};
        return success;
    });
}

API int nvmlDeviceGetUtilizationRates(void* handle, uint32_t* rates) {
    return with(handle, [&](Device&) {
        if (!rates) return invalid_argument;
        rates[0] = rates[1] = 0;
        return success;
    });
}
API int nvmlDeviceGetCudaComputeCapability(void* handle, int* major, int* minor) {
    return with(handle, [&](Device&) { return major && minor ? (*major = 7, *minor = 5, success) : invalid_argument; });
}
API int nvmlDeviceGetPersistenceMode(void* handle, uint32_t* mode) {
    return with(handle, [&](Device&) { return put(mode, 1u); });
}
API int nvmlDeviceGetComputeMode(void* handle, uint32_t* mode) {
    return with(handle, [&](Device&) { return put(mode, 0u); });
}
API int nvmlDeviceGetDisplayActive(void* handle, uint32_t* active) {
    return with(handle, [&](Device&) { return put(active, 0u); });
}

API int nvmlDeviceIsMigDeviceHandle(void* handle, uint32_t* is_one) {
    return with(handle, [&](Device&) { return put(is_one, 0u); });
}

API int nvmlDeviceGetSupportedMemoryClocks(void* handle, uint32_t* count, uint32_t* clocks) {
    static constexpr uint32_t known[] = {3000, 2000, 1000};
    return with(handle, [&](Device&) {
        if (!count) return invalid_argument;
        const uint32_t room = *count;
        *count = 3;
        if (room < 3) return insufficient_size;
        if (!clocks) return invalid_argument;
        std::memcpy(clocks, known, sizeof known);
        return success;
    });
}

// Two GPUs and more: one board each, one processor, and between them links by way of a switch.
API int nvmlDeviceGetBrand(void* handle, uint32_t* brand) {
    return with(handle, [&](Device&) { return put(brand, 0u); });
}
API int nvmlDeviceGetArchitecture(void* handle, uint32_t* architecture) {
    return with(handle, [&](Device&) { return put(architecture, 6u); });  // Turing
}
API int nvmlDeviceGetTopologyCommonAncestor(void* handle, void* other, uint32_t* level) {
    return with(handle, [&](Device&) { return device_of(other) ? put(level, 30u) : invalid_argument; });  // a host bridge
}
API int nvmlDeviceGetP2PStatus(void* handle, void* other, uint32_t, uint32_t* status) {
    return with(handle, [&](Device&) { return device_of(other) ? put(status, 0u) : invalid_argument; });
}
API int nvmlDeviceGetCpuAffinityWithinScope(void* handle, uint32_t count, unsigned long* set, uint32_t) {
    return with(handle, [&](Device&) {
        if (!set || !count) return invalid_argument;
        std::memset(set, 0, count * sizeof *set);
        set[0] = 0xf;
        return success;
    });
}
API int nvmlDeviceGetCpuAffinity(void* handle, uint32_t count, unsigned long* set) {
    return nvmlDeviceGetCpuAffinityWithinScope(handle, count, set, 0);
}
API int nvmlDeviceGetMemoryAffinity(void* handle, uint32_t count, unsigned long* set, uint32_t scope) {
    const int result = nvmlDeviceGetCpuAffinityWithinScope(handle, count, set, scope);
    if (result == success) set[0] = 1;
    return result;
}
API int nvmlDeviceGetNumaNodeId(void* handle, uint32_t* node) { return nvmlDeviceGetBrand(handle, node); }

static constexpr uint32_t links = 18;  // as many as nvidia-smi asks for
static int with_link(void* handle, uint32_t link, uint32_t* place, uint32_t value) {
    return with(handle, [&](Device&) { return link < links ? put(place, value) : invalid_argument; });
}
API int nvmlDeviceGetNvLinkState(void* handle, uint32_t link, uint32_t* active) { return with_link(handle, link, active, 1); }
API int nvmlDeviceGetNvLinkVersion(void* handle, uint32_t link, uint32_t* version) { return with_link(handle, link, version, 4); }
API int nvmlDeviceGetNvLinkRemoteDeviceType(void* handle, uint32_t link, uint32_t* type) {
    return with_link(handle, link, type, 2);  // a switch
}
API int nvmlDeviceGetNvLinkCapability(void* handle, uint32_t link, uint32_t, uint32_t* capability) {
    return with_link(handle, link, capability, 1);
}
API int nvmlDeviceGetNvLinkRemotePciInfo_v2(void* handle, uint32_t link, Pci* pci) {
    return with(handle, [&](Device&) {
        if (!pci || link >= links) return invalid_argument;
        *pci = {{}, 0, 0x80 + link, 0, 0x22a310de, 0, {}};
        std::snprintf(pci->legacy, sizeof pci->legacy, "0000:%02X:00.0", 0x80 + link);
        std::snprintf(pci->text, sizeof pci->text, "00000000:%02X:00.0", 0x80 + link);
        return success;
    });
}

API int nvmlDeviceGetTopologyNearestGpus(void* handle, uint32_t, uint32_t* count, void** found) {
    return with(handle, [&](Device& self) {
        if (!count) return invalid_argument;
        uint32_t others = 0;
        for (Device* device : devices) {
            if (device == &self) continue;
            if (*count > 0 && others >= *count) break;
            if (*count > 0) found[others] = device;
            ++others;
        }
        *count = others;
        return success;
    });
}

API int nvmlSystemGetTopologyGpuSet(uint32_t, uint32_t* count, void** found) {
    std::lock_guard lock(mutex);
    if (!users) return uninitialized;
    if (!count) return invalid_argument;
    for (size_t i = 0; found && i < devices.size() && i < *count; ++i) found[i] = devices[i];
    *count = static_cast<uint32_t>(devices.size());
    return success;
}

API int nvmlDeviceGetComputeRunningProcesses_v3(void* handle, uint32_t* count, Process* found) {
    return with(handle, [&](Device&) {
        if (!count) return invalid_argument;
        const std::vector<uint32_t> pids = processes();
        const uint32_t room = *count;
        *count = static_cast<uint32_t>(pids.size());
        if (room < pids.size()) return insufficient_size;
        for (size_t i = 0; i < pids.size(); ++i) found[i] = {pids[i], ~uint64_t{0}, ~0u, ~0u};
        return success;
    });
}
static int no_processes(void* handle, uint32_t* count) {
    return with(handle, [&](Device&) { return put(count, 0u); });
}
API int nvmlDeviceGetGraphicsRunningProcesses_v3(void* handle, uint32_t* count, Process*) {
    return no_processes(handle, count);
}
API int nvmlDeviceGetMPSComputeRunningProcesses_v3(void* handle, uint32_t* count, Process*) {
    return no_processes(handle, count);
}

// A struct with a pointer in it.
API int nvmlDeviceGetRunningProcessDetailList(void* handle, DetailList* list) {
    return with(handle, [&](Device&) {
        if (!list) return invalid_argument;
        if (list->version != (1u << 24 | sizeof *list)) return version_mismatch;
        const uint32_t room = list->count;
        list->count = 2;
        if (room < 2) return insufficient_size;
        if (!list->details) return invalid_argument;
        list->details[0] = {11, 1 << 20, ~0u, ~0u, 0};
        list->details[1] = {12, 2 << 20, ~0u, ~0u, 0};
        return success;
    });
}

API int nvmlDeviceGetFieldValues(void* handle, int count, FieldValue* values) {
    return with(handle, [&](Device&) {
        if (count <= 0 || !values) return invalid_argument;
        for (int i = 0; i < count; ++i) {
            values[i].result = values[i].field < 100 ? success : not_supported;
            values[i].type = 1;
            if (values[i].result == success) values[i].value = values[i].field * 10;
        }
        return success;
    });
}

// Of the undocumented table three places, and no more than that is needed to be believed.
static int common_ancestor_by_bus_id(const char* first, const char* second, uint32_t* level) {
    void *one, *other;
    const int result = nvmlDeviceGetHandleByPciBusId_v2(first, &one);
    if (result != success) return result;
    return nvmlDeviceGetHandleByPciBusId_v2(second, &other) == success ? put(level, 2u) : not_found;
}
static int part_number(void* handle, char* text, uint32_t length) {
    return with(handle, [&](Device&) { return put(text, length, "SOFT-PART"); });
}
API int nvmlInternalGetExportTable(const void** table, const void* uuid) {
    static const void* places[232] = {reinterpret_cast<const void*>(sizeof places)};
    if (!table || !uuid) return invalid_argument;
    if (std::memcmp(uuid, "\xc4\xfe\x3e\x6c", 4) != 0) return not_found;
    places[23] = reinterpret_cast<const void*>(common_ancestor_by_bus_id);
    places[223] = reinterpret_cast<const void*>(nvmlDeviceGetMemoryAffinity);
    places[231] = reinterpret_cast<const void*>(part_number);
    *table = places;
    return success;
}

// For tests: a driver that dies in a call.
API int nvmlDeviceGetBoardId(void* handle, uint32_t*) {
    return with(handle, [](Device&) -> int {
        if (std::getenv("SOFTGPU_NVML_DIES")) std::abort();
        return not_supported;
    });
}
