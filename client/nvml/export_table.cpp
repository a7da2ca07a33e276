// SPDX-License-Identifier: MIT
// nvidia-smi refuses to work with an NVML that has not the table below. It looks at the first word, the table's size
// in bytes, before it takes a slot, and says N/A where a slot is empty. The process lists are made here of the public
// functions; what else is known of the table is described in rpc/spec/nvml/table.spec.
#include "client/nvml/export_table.h"

#include <cstdint>
#include <cstdlib>
#include <cstring>

#include "client/nvml/forward.h"

namespace cricket::nvml {
namespace {

constexpr size_t slots = 256;

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

int number(Proc proc, void* device, uint32_t* value) { return forward(proc, {word(device), word(value)}); }
int host_link_generation(void* device, uint32_t* value) {
    return number(Proc::nvmlTableHostLinkGeneration, device, value);
}
int deferred_memory_clock(void* device, uint32_t* value) {
    return number(Proc::nvmlTableDeferredMemoryClock, device, value);
}
int sparse_operation(void* device, uint32_t* value) { return number(Proc::nvmlTableSparseOperation, device, value); }
int common_ancestor_by_bus_id(const char* first, const char* second, uint32_t* level) {
    return forward(Proc::nvmlTableCommonAncestorByBusId, {word(first), word(second), word(level)});
}
int nearest_cpu_nodes(void* device, uint32_t count, uint64_t* nodes, uint32_t scope) {
    return forward(Proc::nvmlTableNearestCpuNodes, {word(device), word(count), word(nodes), word(scope)});
}
int part_number(void* device, char* text, uint32_t length) {
    return forward(Proc::nvmlTablePartNumber, {word(device), word(text), word(length)});
}
int replaceable_part_number(void* device, char* text, uint32_t length) {
    return forward(Proc::nvmlTableReplaceablePartNumber, {word(device), word(text), word(length)});
}

template <typename Function>
const void* place(Function* function) {
    return reinterpret_cast<const void*>(function);
}

struct Table {
    const void* slot[slots];
};

}  // namespace

const void* export_table(const void* uuid) {
    static Table table;
    if (std::memcmp(uuid, table_uuid, sizeof table_uuid) != 0) return nullptr;
    // The same words each time: threads may meet here.
    table.slot[23] = place(common_ancestor_by_bus_id);
    table.slot[223] = place(nearest_cpu_nodes);
    table.slot[213] = place(compute_list);
    table.slot[214] = place(graphics_list);
    table.slot[215] = place(shared_list);
    table.slot[230] = place(host_link_generation);
    table.slot[231] = place(part_number);
    table.slot[232] = place(deferred_memory_clock);
    table.slot[237] = place(replaceable_part_number);
    table.slot[249] = place(sparse_operation);
    table.slot[0] = reinterpret_cast<const void*>(sizeof table);
    return &table;
}

}  // namespace cricket::nvml
