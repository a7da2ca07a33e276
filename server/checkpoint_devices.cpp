// SPDX-License-Identifier: MIT
#include "checkpoint_devices.h"

#include <algorithm>
#include <cstdio>
#include <map>
#include <set>
#include <vector>

#include "checkpoint_arrays.h"
#include "checkpoint_parts.h"
#include "log.h"
#include "rpc/image/image.h"

namespace cricket::server {
namespace {

using nlohmann::json;

std::string device_name(const DriverTable& driver, CUdevice device) {
    char name[256] = "";
    driver.cuDeviceGetName(name, sizeof name, device);
    return name;
}

int compute_of(const DriverTable& driver, CUdevice device) {
    int major = 0, minor = 0;
    driver.cuDeviceGetAttribute(&major, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, device);
    driver.cuDeviceGetAttribute(&minor, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR, device);
    return 10 * major + minor;
}

std::string uuid_text(const DriverTable& driver, CUdevice device) {
    CUuuid uuid{};
    if (!driver.cuDeviceGetUuid || driver.cuDeviceGetUuid(&uuid, device) != CUDA_SUCCESS) return {};
    std::string text = "GPU-";
    for (size_t i = 0; i < sizeof uuid.bytes; ++i) {
        char digits[4];
        std::snprintf(digits, sizeof digits, "%02x", static_cast<unsigned char>(uuid.bytes[i]));
        text += digits;
        if (i == 3 || i == 5 || i == 7 || i == 9) text += '-';
    }
    return text;
}

std::string mebibytes(uint64_t bytes) {
    return std::to_string((bytes + (1 << 20) - 1) >> 20) + " MiB";
}

std::string sm(int compute) {
    return "sm_" + std::to_string(compute);
}

// Machine code runs on its own generation from its own minor version on; text is compiled for what is newer.
bool runs_on(const image::Member& member, int compute) {
    if (member.kind == image::Kind::Ptx) return member.arch <= compute;
    return member.arch / 10 == compute / 10 && member.arch <= compute;
}

// The images that the journal loads of which no member runs on such a device, by a kernel's name.
void refuse_images(const SnapshotReader& reader, const std::string& device, int compute,
                   std::vector<std::string>* refused) {
    std::set<std::pair<uint64_t, uint64_t>> seen;
    for (const json& one : reader.meta().at("journal")) {
        if (!one.contains("image")) continue;
        const uint64_t at = one["image"][0], bytes = one["image"][1];
        if (!seen.insert({at, bytes}).second) continue;
        std::vector<std::byte> image(bytes);
        reader.read("images", at, image);
        std::vector<image::Member> members;
        try {
            members = image::members(image, compute);
        } catch (const image::ImageError&) {
            continue;  // the driver took it; it will say more than we could
        }
        if (members.empty() ||
            std::ranges::any_of(members, [&](const auto& member) { return runs_on(member, compute); }))
            continue;
        std::set<std::string> archs;
        std::string kernel;
        for (const image::Member& member : members) {
            archs.insert((member.kind == image::Kind::Ptx ? "PTX for " : "machine code for ") +
                         sm(member.arch));
            if (const auto names = image::kernels(member); kernel.empty() && !names.empty())
                kernel = names.front();
        }
        std::string list;
        for (const std::string& arch : archs) list += (list.empty() ? "" : ", ") + arch;
        refused->push_back("the module with kernel " + (kernel.empty() ? "(none)" : kernel) + " (loaded by " +
                           one.at("name").get<std::string>() + ", call " +
                           std::to_string(one.at("seq").get<uint64_t>()) + ") has only " + list + ", and " +
                           device + " is " + sm(compute));
    }
}

[[noreturn]] void refuse(const std::vector<std::string>& why) {
    std::string all;
    for (const std::string& one : why) all += (all.empty() ? "" : "; ") + one;
    fail_checkpoint(all);
}

}  // namespace

json describe_devices(Session& session) {
    std::map<CUdevice, uint64_t> bytes;
    for (const auto& [number, device] : session.context_devices) bytes[device];
    for (const auto& chunk : session.device_memory.describe()) bytes[chunk.device] += chunk.bytes;
    for (const auto& [number, physical] : session.virtual_memory.allocations())
        bytes[physical.properties.location.id] += physical.bytes;
    std::vector<std::string> unreadable;
    for (const auto& [context, in_arrays] : array_bytes(session, &unreadable))
        bytes[session.context_devices.at(context)] += in_arrays;
    json list = json::array();
    for (const auto& [device, needed] : bytes) {
        size_t total = 0;
        session.driver.cuDeviceTotalMem(&total, device);
        list.push_back({{"device", device},
                        {"name", device_name(session.driver, device)},
                        {"uuid", uuid_text(session.driver, device)},
                        {"compute", compute_of(session.driver, device)},
                        {"total", total},
                        {"bytes", needed}});
    }
    return list;
}

void require_devices(const DriverTable& driver, const SnapshotReader& reader) {
    const json& meta = reader.meta();
    int version = 0;
    driver.cuDriverGetVersion(&version);
    if (const int then = meta.value("driver_version", version); then != version)
        log_warn("the snapshot was taken with a driver of CUDA %d.%d, this one is of CUDA %d.%d", then / 1000,
                 then % 1000 / 10, version / 1000, version % 1000 / 10);
    int count = 0;
    driver.cuDeviceGetCount(&count);
    std::vector<std::string> refused;
    for (const json& one : meta.value("devices", json::array())) {
        const CUdevice device = one.at("device");
        const std::string was =
            "device " + std::to_string(device) + " (" + one.at("name").get<std::string>() + ")";
        if (device >= count) {
            refused.push_back("the session uses " + was + ", and there " + (count == 1 ? "is" : "are") +
                              " only " + std::to_string(count) + " here");
            continue;
        }
        const std::string name = device_name(driver, device),
                          is = "device " + std::to_string(device) + " (" + name + ")";
        const uint64_t needed = one.at("bytes");
        size_t total = 0;
        driver.cuDeviceTotalMem(&total, device);
        if (needed > total)
            refused.push_back("the session needs " + mebibytes(needed) + " on device " +
                              std::to_string(device) + ", and " + is + " has " + mebibytes(total));
        if (const int compute = compute_of(driver, device); compute != one.at("compute").get<int>())
            refuse_images(reader, is, compute, &refused);
        if (one.at("name") != name || one.at("uuid") != uuid_text(driver, device))
            log_info("%s takes the place of the snapshot's %s, %s", is.c_str(), was.c_str(),
                     one.at("uuid").get<std::string>().c_str());
    }
    if (!refused.empty()) refuse(refused);
}

void require_free_memory(Session& session, const json& meta) {
    std::vector<std::string> refused;
    for (const json& one : meta.value("devices", json::array())) {
        const CUdevice device = one.at("device");
        const uint64_t needed = one.at("bytes");
        const auto context = std::ranges::find(session.context_devices, device,
                                               [](const auto& entry) { return entry.second; });
        size_t free = 0, total = 0;
        if (context == session.context_devices.end() ||
            session.make_current(context->first) != CUDA_SUCCESS ||
            session.driver.cuMemGetInfo(&free, &total) != CUDA_SUCCESS || needed <= free)
            continue;
        refused.push_back("the session needs " + mebibytes(needed) + " on device " + std::to_string(device) +
                          " (" + device_name(session.driver, device) + "), where " + mebibytes(free) +
                          " of " + mebibytes(total) + " are free");
    }
    if (!refused.empty()) refuse(refused);
}

}  // namespace cricket::server
