// SPDX-License-Identifier: MIT
// What only the driver's undocumented tables tell (facts/cuda-driver.md): the order of the multiprocessors.
#include <malloc.h>

#include <algorithm>
#include <cstring>

#include "dispatch.h"
#include "session.h"

namespace cricket::server {
namespace {

constexpr unsigned char topology_table[16] = {0x17, 0x34, 0xdc, 0x26, 0x80, 0x0d, 0x47, 0x45,
                                              0x87, 0x26, 0xc0, 0xf1, 0xe7, 0xdd, 0x8b, 0xca};
constexpr size_t get_slot = 4, free_slot = 13;
using GetTopology = CUresult (*)(uint8_t** gpcs, uint8_t** ranks);
using FreeTopology = CUresult (*)(uint8_t* gpcs, uint8_t* ranks);  // the arrays themselves: seen on an H200, driver 580

}  // namespace

// The arrays say nothing of their length: a byte for every two multiprocessors, and never more than was allocated.
void serve_cricketTopology(Call& call, const cricketTopology_args&, cricketTopology_res& res) {
    const void* found = nullptr;
    CUuuid uuid;
    std::memcpy(&uuid, topology_table, sizeof uuid);
    if (!call.driver.cuGetExportTable || call.driver.cuGetExportTable(&found, &uuid) != CUDA_SUCCESS || !found) {
        res.status = CUDA_ERROR_NOT_SUPPORTED;
        return;
    }
    auto table = static_cast<void* const*>(found);
    if (reinterpret_cast<size_t>(table[0]) <= free_slot * sizeof(void*) || !table[get_slot] || !table[free_slot]) {
        res.status = CUDA_ERROR_NOT_SUPPORTED;
        return;
    }
    int multiprocessors = 0;
    res.status = call.driver.cuDeviceGetAttribute(&multiprocessors, CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT,
                                                  call.session.current_device());
    uint8_t *gpcs = nullptr, *ranks = nullptr;
    if (res.status == CUDA_SUCCESS) res.status = reinterpret_cast<GetTopology>(table[get_slot])(&gpcs, &ranks);
    if (res.status != CUDA_SUCCESS) return;
    const size_t tpcs = static_cast<size_t>(multiprocessors) / 2;
    const bool given = gpcs && ranks && give_bytes(&res.gpcs, gpcs, std::min(tpcs, ::malloc_usable_size(gpcs))) &&
                       give_bytes(&res.ranks, ranks, std::min(tpcs, ::malloc_usable_size(ranks)));
    reinterpret_cast<FreeTopology>(table[free_slot])(gpcs, ranks);
    if (!given) res.status = CUDA_ERROR_UNKNOWN;
}

}  // namespace cricket::server
