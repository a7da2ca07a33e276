// SPDX-License-Identifier: MIT
#include "channel.h"

#include <fcntl.h>
#include <linux/futex.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>

#include <algorithm>
#include <climits>

#include "cricket/file_size.h"

namespace cricket::ring {
namespace {

constexpr uint64_t ring_bytes = 2u << 20;
constexpr uint64_t slot_bytes = 512;
constexpr uint64_t bulk_bytes = 64u << 20;

constexpr wire::ChannelGeometry default_geometry() {
    wire::ChannelGeometry g{};
    g.ring_offset = 2 * page;
    g.ring_bytes = ring_bytes;
    g.slots_offset = g.ring_offset + g.ring_bytes;
    g.slot_bytes = slot_bytes;
    g.slots = wire::max_slots;
    g.up_offset = g.slots_offset + g.slot_bytes * g.slots;
    g.up_bytes = bulk_bytes;
    g.down_offset = g.up_offset + g.up_bytes;
    g.down_bytes = bulk_bytes;
    g.total_bytes = g.down_offset + g.down_bytes;
    return g;
}

struct Area {
    uint64_t offset, bytes;
};

// Whether the areas are page aligned, inside the file, of sane size and disjoint.
bool holds_up(const wire::ChannelGeometry& g, uint64_t file_bytes) {
    constexpr uint64_t limit = uint64_t(1) << 32;
    if (g.total_bytes > file_bytes || g.total_bytes > 4 * limit) return false;
    if (g.slots == 0 || g.slots > wire::max_slots || g.slot_bytes < 128 || g.slot_bytes > 65536 || g.slot_bytes % 64)
        return false;
    if (g.ring_bytes < 65536 || g.ring_bytes > limit || (g.ring_bytes & (g.ring_bytes - 1))) return false;
    Area areas[] = {{g.ring_offset, g.ring_bytes},
                    {g.slots_offset, g.slot_bytes * g.slots},
                    {g.up_offset, g.up_bytes},
                    {g.down_offset, g.down_bytes}};
    std::sort(std::begin(areas), std::end(areas), [](auto& a, auto& b) { return a.offset < b.offset; });
    uint64_t end = 2 * page;
    for (const Area& area : areas) {
        if (area.offset % page || area.bytes % page || area.bytes == 0 || area.bytes > limit) return false;
        if (area.offset < end) return false;
        end = area.offset + area.bytes;
    }
    return end <= g.total_bytes;
}

}  // namespace

Channel::~Channel() {
    if (base_) ::munmap(base_, geometry_.total_bytes);
}

void Channel::swap(Channel& other) noexcept {
    std::swap(fd_, other.fd_);
    std::swap(lock_fd_, other.lock_fd_);
    std::swap(base_, other.base_);
    std::swap(geometry_, other.geometry_);
    std::swap(habits_, other.habits_);
}

bool Channel::create() {
    geometry_ = default_geometry();
    UniqueFd fd(::memfd_create(memfd_name, MFD_CLOEXEC));
    // Above the numbers that applications count on getting.
    if (const int high = ::fcntl(fd.get(), F_DUPFD_CLOEXEC, 900); high >= 0) fd.reset(high);
    if (!fd || !set_file_size(fd.get(), geometry_.total_bytes)) return false;
    void* memory = ::mmap(nullptr, geometry_.total_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0);
    if (memory == MAP_FAILED) return false;
    base_ = static_cast<std::byte*>(memory);
    fd_ = std::move(fd);
    auto& client = client_page();
    client.magic = wire::channel_magic;
    client.protocol = wire::protocol_version;
    client.habits = habits_ = wire::keeps_cuts | wire::looks_for_done;
    client.geometry = geometry_;
    client.self = reinterpret_cast<uint64_t>(base_);
    return true;
}

bool Channel::map_as_server(UniqueFd fd, std::string* why, void* at) {
    struct stat info {};
    wire::ClientPage* client = nullptr;
    alignas(wire::ClientPage) std::byte first[sizeof(wire::ClientPage)];
    if (::fstat(fd.get(), &info) != 0 || ::pread(fd.get(), first, sizeof first, 0) != sizeof first) {
        *why = "the channel cannot be read";
        return false;
    }
    client = reinterpret_cast<wire::ClientPage*>(first);
    if (client->magic != wire::channel_magic || client->protocol != wire::protocol_version) {
        *why = "the channel is not of protocol version " + std::to_string(wire::protocol_version);
        return false;
    }
    const wire::ChannelGeometry g = client->geometry;
    if (!holds_up(g, static_cast<uint64_t>(info.st_size))) {
        *why = "the channel's geometry does not hold up";
        return false;
    }
    void* memory = ::mmap(at, g.total_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | (at ? MAP_FIXED_NOREPLACE : 0), fd.get(), 0);
    if (memory == MAP_FAILED) {
        *why = "the channel cannot be mapped";
        return false;
    }
    base_ = static_cast<std::byte*>(memory);
    geometry_ = g;
    habits_ = client->habits;
    fd_ = std::move(fd);
    ::mprotect(base_, page, PROT_READ);
    ::mprotect(base_ + g.ring_offset, g.ring_bytes, PROT_READ);
    return true;
}

bool Channel::lock() {
    // An open file description of our own: the one received is shared with the client.
    const std::string path = "/proc/self/fd/" + std::to_string(fd_.get());
    lock_fd_.reset(::open(path.c_str(), O_RDWR | O_CLOEXEC));
    if (!lock_fd_) return false;
    struct flock range {};
    range.l_type = F_WRLCK;
    range.l_whence = SEEK_SET;
    range.l_len = 1;
    return ::fcntl(lock_fd_.get(), F_OFD_SETLK, &range) == 0;
}

bool Channel::server_alive() const {
    struct flock range {};
    range.l_type = F_WRLCK;
    range.l_whence = SEEK_SET;
    range.l_len = 1;
    return ::fcntl(fd_.get(), F_OFD_GETLK, &range) == 0 && range.l_type != F_UNLCK;
}

void Channel::abandon() {
    if (base_) ::munmap(base_, geometry_.total_bytes);
    base_ = nullptr;
    fd_.reset();
}

void futex_wait(const std::atomic<uint32_t>& word, uint32_t expected, uint64_t timeout_us) {
    timespec timeout{static_cast<time_t>(timeout_us / 1000000), static_cast<long>(timeout_us % 1000000 * 1000)};
    ::syscall(SYS_futex, &word, FUTEX_WAIT, expected, &timeout, nullptr, 0);
}

void futex_wake_all(std::atomic<uint32_t>& word) {
    ::syscall(SYS_futex, &word, FUTEX_WAKE, INT_MAX, nullptr, nullptr, 0);
}

}  // namespace cricket::ring
