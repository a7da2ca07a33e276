// SPDX-License-Identifier: MIT
// nvidia-smi refuses to work with an NVML that has not the table below. It looks at the first word, the table's size
// in bytes, before it takes a slot, and goes on where a slot is empty; of the slots seen used only those of the
// process lists matter, and they are made of the public functions. Measured with nvidia-smi 580.159.04.
#include "client/nvml/export_table.h"

#include <cstdint>
#include <cstdlib>
#include <cstring>

#include "client/nvml/forward.h"

namespace cricket::nvml {
namespace {

constexpr unsigned char smi_uuid[16] = {0xc4, 0xfe, 0x3e, 0x6c, 0xc9, 0x8f, 0x6c, 0x4e,
                                        0xa3, 0x27, 0xee, 0x69, 0x6e, 0x12, 0xf7, 0xc4};
constexpr size_t slots = 256;
constexpr size_t compute_processes = 213, graphics_processes = 214, shared_processes = 215;

struct PublicProcess {  // nvmlDeviceGet*RunningProcesses_v3
    uint32_t pid;
    uint32_t unused;
    uint64_t memory;
    uint32_t gpu_instance, compute_instance;
};
static_assert(sizeof(PublicProcess) == 24);

struct SmiProcess {
    PublicProcess process;
    uint64_t protected_memory;
    char name[4096];
};
static_assert(sizeof(SmiProcess) == 0x1020);

int list(Proc proc, void* device, uint32_t* count, SmiProcess* processes) {
    if (!count || !processes) return invalid_argument;
    const uint32_t room = *count;
    auto* found = static_cast<PublicProcess*>(std::malloc(room * sizeof(PublicProcess) + 1));
    if (!found) return out_of_memory;
    const int status = forward(proc, {word(device), word(count), word(found)});
    for (uint32_t i = 0; status == success && i < *count && i < room; ++i) {
        processes[i] = {};
        processes[i].process = found[i];
        forward(Proc::nvmlSystemGetProcessName,
                {word(found[i].pid), word(processes[i].name), word(uint32_t{sizeof processes[i].name})});
    }
    std::free(found);
    return status;
}

int compute_list(void* device, uint32_t* count, SmiProcess* processes) {
    return list(Proc::nvmlDeviceGetComputeRunningProcesses_v3, device, count, processes);
}
int graphics_list(void* device, uint32_t* count, SmiProcess* processes) {
    return list(Proc::nvmlDeviceGetGraphicsRunningProcesses_v3, device, count, processes);
}
int shared_list(void* device, uint32_t* count, SmiProcess* processes) {
    return list(Proc::nvmlDeviceGetMPSComputeRunningProcesses_v3, device, count, processes);
}

struct Table {
    const void* slot[slots];
};
using List = int (*)(void*, uint32_t*, SmiProcess*);

}  // namespace

const void* export_table(const void* uuid) {
    static Table table;
    if (std::memcmp(uuid, smi_uuid, sizeof smi_uuid) != 0) return nullptr;
    // The same words each time: threads may meet here.
    const auto function = [](List list) { return reinterpret_cast<const void*>(list); };
    table.slot[compute_processes] = function(compute_list);
    table.slot[graphics_processes] = function(graphics_list);
    table.slot[shared_processes] = function(shared_list);
    table.slot[0] = reinterpret_cast<const void*>(sizeof table);
    return &table;
}

}  // namespace cricket::nvml
