// SPDX-License-Identifier: MIT
#include "client/host_memory.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "client/descriptors.h"
#include "cricket/file_size.h"
#include "cricket/round_up.h"
#include "cricket/wire.h"

namespace cricket::client {
namespace {

constexpr uint64_t page = 4096;
constexpr uint64_t growth = 2u << 20;
constexpr uint64_t large_page = 2u << 20;
std::byte* at(uint64_t offset) { return reinterpret_cast<std::byte*>(wire::host_base + offset); }

// Large pages where the kernel has some: fewer to pin and to look up for the device's copies. A wish.
void in_large_pages(uint64_t offset, uint64_t bytes) {
#ifdef MADV_COLLAPSE
    constexpr int collapse = MADV_COLLAPSE;
#else
    constexpr int collapse = 25;  // Linux 6.1, newer than our libc's headers
#endif
    const int error = errno;
    if (bytes >= large_page) ::madvise(at(offset), bytes / large_page * large_page, collapse);
    errno = error;
}

}  // namespace

bool HostMemory::open() {
    void* wanted = at(0);
    void* got = ::mmap(wanted, wire::host_span, PROT_NONE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);
    if (got != wanted) {
        if (got != MAP_FAILED) ::munmap(got, wire::host_span);
        return false;
    }
    fd_ = out_of_the_way(::memfd_create("cricket-host", MFD_CLOEXEC));
    return fd_ >= 0;
}

bool HostMemory::grow(uint64_t bytes) {
    const uint64_t wanted = round_up(bytes_ + bytes, growth);
    if (wanted > wire::host_span || !set_file_size(fd_, wanted)) return false;
    void* got = ::mmap(at(bytes_), wanted - bytes_, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd_,
                       static_cast<off_t>(bytes_));
    if (got == MAP_FAILED) return false;
    uint64_t start = bytes_;
    if (auto last = free_.empty() ? free_.end() : std::prev(free_.end());
        last != free_.end() && last->first + last->second == start) {
        start = last->first;
        free_.erase(last);
    }
    free_[start] = wanted - start;
    bytes_ = wanted;
    return true;
}

void* HostMemory::allocate(uint64_t bytes) {
    if (bytes == 0 || bytes > wire::host_span) return nullptr;
    bytes = round_up(bytes, page);
    std::lock_guard lock(mutex_);
    for (int attempt = 0; attempt < 2; ++attempt) {
        for (auto range = free_.begin(); range != free_.end(); ++range) {
            const auto [start, size] = *range;
            const uint64_t place = round_up(start, bytes < large_page ? page : large_page), end = start + size;
            if (place + bytes > end) continue;
            free_.erase(range);
            if (place > start) free_[start] = place - start;
            if (place + bytes < end) free_[place + bytes] = end - place - bytes;
            used_[place] = bytes;
            in_large_pages(place, bytes);
            return at(place);
        }
        if (!grow(bytes < large_page ? bytes : bytes + large_page)) return nullptr;
    }
    return nullptr;
}

bool HostMemory::free(void* address) {
    std::lock_guard lock(mutex_);
    auto range = used_.find(reinterpret_cast<uint64_t>(address) - wire::host_base);
    if (range == used_.end()) return false;
    uint64_t start = range->first, bytes = range->second;
    used_.erase(range);
    ::fallocate(fd_, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(start), static_cast<off_t>(bytes));
    auto next = free_.lower_bound(start);
    if (next != free_.end() && next->first == start + bytes) {
        bytes += next->second;
        next = free_.erase(next);
    }
    if (next != free_.begin()) {
        auto previous = std::prev(next);
        if (previous->first + previous->second == start) {
            start = previous->first;
            bytes += previous->second;
            free_.erase(previous);
        }
    }
    free_[start] = bytes;
    return true;
}

bool HostMemory::find(const void* address, void** base, uint64_t* bytes) {
    const auto offset = reinterpret_cast<uint64_t>(address) - wire::host_base;
    if (offset >= wire::host_span) return false;
    std::lock_guard lock(mutex_);
    auto range = used_.upper_bound(offset);
    if (range == used_.begin()) return false;
    --range;
    if (offset >= range->first + range->second) return false;
    *base = at(range->first);
    *bytes = range->second;
    return true;
}

bool HostMemory::contains(const void* address, uint64_t bytes) {
    const auto number = reinterpret_cast<uint64_t>(address);
    if (number - wire::host_base < wire::host_span) return bytes <= wire::host_span - (number - wire::host_base);
    if (!any_registered_.load(std::memory_order_acquire)) return false;
    std::lock_guard lock(mutex_);
    auto range = registered_.upper_bound(number);
    if (range == registered_.begin()) return false;
    --range;
    const uint64_t inside = number - range->first;
    return inside < range->second.bytes && bytes <= range->second.bytes - inside;
}

void HostMemory::note_registered(uint64_t address, uint64_t bytes, uint64_t offset) {
    std::lock_guard lock(mutex_);
    registered_[address] = {bytes, offset};
    any_registered_.store(true, std::memory_order_release);
}

bool HostMemory::registered_at(uint64_t address, uint64_t* bytes, uint64_t* offset) {
    std::lock_guard lock(mutex_);
    auto range = registered_.find(address);
    if (range == registered_.end()) return false;
    *bytes = range->second.bytes;
    *offset = range->second.offset;
    return true;
}

bool HostMemory::any_registered_in(uint64_t start, uint64_t end) {
    std::lock_guard lock(mutex_);
    auto next = registered_.lower_bound(end);
    return next != registered_.begin() && std::prev(next)->first + std::prev(next)->second.bytes > start;
}

void HostMemory::forget_registered(uint64_t address) {
    std::lock_guard lock(mutex_);
    registered_.erase(address);
    any_registered_.store(!registered_.empty(), std::memory_order_release);
}

void HostMemory::abandon() {
    ::munmap(at(0), wire::host_span);
    if (fd_ >= 0) ::close(fd_);
    fd_ = -1;
}

}  // namespace cricket::client
