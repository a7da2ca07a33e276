// SPDX-License-Identifier: MIT
#include "host_aside.h"

#include <sys/mman.h>

#include <algorithm>
#include <charconv>
#include <fstream>
#include <string>

#include "cricket/round_up.h"
#include "settings.h"

namespace cricket::server {
namespace {

constexpr uint64_t page = 2u << 20;

bool read_number(const std::string& path, uint64_t* value) {
    std::ifstream file(path);
    return static_cast<bool>(file >> *value);  // "max" is no number
}

uint64_t available_memory() {
    std::ifstream file("/proc/meminfo");
    std::string name, unit;
    for (uint64_t kib; file >> name >> kib; std::getline(file, unit))
        if (name == "MemAvailable:") return kib << 10;
    return 0;
}

// What the cgroup that we are in, and those that it is in, may still take.
uint64_t cgroup_room() {
    uint64_t room = UINT64_MAX;
    std::ifstream file("/proc/self/cgroup");
    std::string path;
    for (std::string line; std::getline(file, line);)
        if (line.starts_with("0::")) path = line.substr(3);
    for (;; path = path.substr(0, path.find_last_of('/'))) {
        uint64_t most = 0, used = 0;
        const std::string folder = "/sys/fs/cgroup" + path;
        if (read_number(folder + "/memory.max", &most) && read_number(folder + "/memory.current", &used))
            room = std::min(room, most > used ? most - used : 0);
        if (path.empty() || path == "/") return room;
    }
}

}  // namespace

uint64_t aside_host_limit() {
    return settings::number(settings::aside_host).value_or(UINT64_MAX);
}

uint64_t free_host_memory() { return std::min(available_memory(), cgroup_room()); }

// Half of what is free: the files, and what the application takes meanwhile, may need the rest.
std::byte* HostAside::take(uint64_t bytes, uint64_t limit) {
    release();
    const uint64_t whole = round_up(bytes, page);
    if (bytes == 0 || whole > std::min(limit, place_.room) || whole > free_host_memory() / 2) return nullptr;
    void* wanted = reinterpret_cast<void*>(place_.address);
    void* got = ::mmap(wanted, whole, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);
    if (got != wanted) {
        if (got != MAP_FAILED) ::munmap(got, whole);
        return nullptr;
    }
    ::madvise(got, whole, MADV_HUGEPAGE);
    data_ = static_cast<std::byte*>(got);
    bytes_ = whole;
    return data_;
}

void HostAside::forget(const std::byte* from, uint64_t bytes) {
    const auto begin = round_up(reinterpret_cast<uint64_t>(from), page);
    const auto end = (reinterpret_cast<uint64_t>(from) + bytes) / page * page;
    if (begin < end) ::madvise(reinterpret_cast<void*>(begin), end - begin, MADV_DONTNEED);
}

void HostAside::release() {
    if (data_) ::munmap(data_, bytes_);
    data_ = nullptr;
    bytes_ = 0;
}

}  // namespace cricket::server
