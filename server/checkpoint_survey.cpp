// SPDX-License-Identifier: MIT
#include "checkpoint_survey.h"

#include <map>
#include <set>

#include "checkpoint_arrays.h"
#include "checkpoint_parts.h"
#include "variables.h"

namespace cricket::server {
namespace {

using nlohmann::json;

struct OnDevice {
    uint64_t context = 0;  // one of them
    uint64_t bytes = 0, allocations = 0, arrays = 0, variables = 0;
};

json describe(Session& session, CUdevice device, const OnDevice& used) {
    char name[256] = "";
    size_t free = 0, total = 0;
    int major = 0, minor = 0;
    const DriverTable& driver = session.driver;
    driver.cuDeviceGetName(name, sizeof name, device);
    driver.cuDeviceGetAttribute(&major, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, device);
    driver.cuDeviceGetAttribute(&minor, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR, device);
    if (used.context && session.make_current(used.context) == CUDA_SUCCESS)
        driver.cuMemGetInfo(&free, &total);
    return {{"device", device},
            {"name", name},
            {"compute", std::to_string(major) + "." + std::to_string(minor)},
            {"free", free},
            {"total", total},
            {"bytes", used.bytes},
            {"allocations", used.allocations},
            {"arrays", used.arrays},
            {"variables", used.variables}};
}

}  // namespace

json survey_session(Session& session, Executor& executor) {
    Refusals refusals = find_refusals(session, false);

    std::map<CUdevice, OnDevice> devices;
    for (const auto& [number, device] : session.context_devices) devices[device].context = number;
    for (const auto& [address, allocation] : session.device_memory.allocations()) {
        OnDevice& device = devices[allocation.device];
        device.bytes += allocation.bytes;
        ++device.allocations;
    }
    for (const auto& [number, physical] : session.virtual_memory.allocations()) {
        OnDevice& device = devices[physical.properties.location.id];
        device.bytes += physical.bytes;
        ++device.allocations;
    }
    for (const ModuleVariable& variable : module_variables(session))
        devices[session.context_devices.at(variable.context)].variables += variable.bytes;
    for (const auto& [context, bytes] : array_bytes(session, &refusals.lasting))
        devices[session.context_devices.at(context)].arrays += bytes;
    json report{{"refused", refusals.lasting}, {"for_now", refusals.passing}, {"devices", json::array()}};
    for (const auto& [device, used] : devices) report["devices"].push_back(describe(session, device, used));

    uint64_t journal = 0, images = 0, replies = 0;
    std::set<const void*> seen;
    for (const auto& [place, entry] : session.journal.entries()) {
        journal += entry.message.size();
        if (entry.attachment && seen.insert(entry.attachment.get()).second)
            images += entry.attachment->size();
    }
    for (const auto& [seq, kept] : executor.kept()) replies += kept.message.size() + kept.down_bytes;
    report["host_bytes"] = session.host_memory.bytes();
    report["host_ranges"] = session.host_memory.ranges().size();
    report["journal_bytes"] = journal;
    report["image_bytes"] = images;
    report["reply_bytes"] = replies;
    report["calls"] = session.executed;
    return report;
}

}  // namespace cricket::server
