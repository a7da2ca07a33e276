// SPDX-License-Identifier: MIT
#include "host_memory.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "cricket/round_up.h"
#include "cricket/wire.h"

namespace cricket::server {
namespace {

constexpr uint64_t page = 4096;
std::byte* at(uint64_t offset) {
    return reinterpret_cast<std::byte*>(wire::host_base + offset);
}

uint64_t file_bytes(int fd) {
    struct stat info {};
    return ::fstat(fd, &info) == 0 ? static_cast<uint64_t>(info.st_size) : 0;
}

// The parts of [from, end) that lie in one page each.
template <class Function>
void by_page(uint64_t from, uint64_t end, Function function) {
    for (uint64_t next; from < end; from = next) {
        next = std::min(end, from / page * page + page);
        function(from, next - from);
    }
}

// Which pages of a process are present: touched since it was restored.
class TouchedPages {
  public:
    explicit TouchedPages(pid_t pid) {
        const std::string path = "/proc/" + std::to_string(pid) + "/pagemap";
        fd_.reset(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    }
    bool touched(uint64_t address) const {
        uint64_t entry = 0;
        const auto offset = static_cast<off_t>(address / page * sizeof entry);
        if (!fd_ || ::pread(fd_.get(), &entry, sizeof entry, offset) != sizeof entry) return false;
        return entry >> 63 & 1 || entry >> 62 & 1;  // present, or swapped out
    }

  private:
    UniqueFd fd_;
};

}  // namespace

HostMemory::HostMemory(const DriverTable& driver) : image_(at(0)), driver_(driver) {}

bool HostMemory::is(uint64_t inode) const {
    struct stat info {};
    return fd_ && ::fstat(fd_.get(), &info) == 0 && info.st_ino == inode;
}

bool HostMemory::reserve() {
    void* got = ::mmap(at(0), wire::host_span, PROT_NONE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);
    if (got == at(0)) return true;
    if (got != MAP_FAILED) ::munmap(got, wire::host_span);
    return false;
}

// Extends the mapping of the memfd to `bytes`.
bool HostMemory::map(uint64_t bytes) {
    if (bytes <= mapped_) return true;
    if (bytes > wire::host_span) return false;
    void* got = ::mmap(at(mapped_), bytes - mapped_, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
                       fd_.get(), static_cast<off_t>(mapped_));
    if (got == MAP_FAILED) return false;
    mapped_ = bytes;
    return true;
}

uint64_t HostMemory::bytes() const {
    uint64_t sum = 0;
    for (const auto& [address, range] : ranges_) sum += range.bytes;
    return sum;
}

uint64_t HostMemory::file_size() const { return fd_ ? file_bytes(fd_.get()) : 0; }

std::byte* HostMemory::content(const HostRegistration& range) { return at(range.offset); }

bool HostMemory::valid(uint64_t address, uint64_t bytes) {
    const uint64_t offset = address - wire::host_base;
    if (offset >= wire::host_span || bytes > wire::host_span - offset) return registered(address, bytes);
    if (!fd_) return false;
    if (offset + bytes <= mapped_) return true;
    const uint64_t now = file_bytes(fd_.get()) / page * page;
    return offset + bytes <= now && map(now);
}

bool HostMemory::registered(uint64_t address, uint64_t bytes) const {
    auto next = ranges_.upper_bound(address);
    if (next == ranges_.begin()) return false;
    // Ranges that follow each other are one to the device.
    for (auto at = std::prev(next); at != ranges_.end(); ++at) {
        if (address - at->first >= at->second.bytes) return false;
        const uint64_t rest = at->second.bytes - (address - at->first);
        if (bytes <= rest) return true;
        address += rest;
        bytes -= rest;
    }
    return false;
}

// Takes [address, address + bytes) out of what is shared; false when something registered is there.
bool HostMemory::cut_shared(uint64_t address, uint64_t bytes) {
    const uint64_t end = address + bytes;
    auto first = ranges_.upper_bound(address);
    if (first != ranges_.begin() && std::prev(first)->first + std::prev(first)->second.bytes > address) --first;
    for (auto at = first; at != ranges_.end() && at->first < end; ++at)
        if (!at->second.pageable) return false;
    for (auto at = first; at != ranges_.end() && at->first < end;) {
        const auto [start, range] = *at;
        at = ranges_.erase(at);
        const uint64_t cut = std::max(start, address), stop = std::min(start + range.bytes, end);
        ::munmap(reinterpret_cast<void*>(cut), stop - cut);
        HostRegistration rest = range;
        if (start < address) {
            rest.bytes = address - start;
            ranges_[start] = rest;
        }
        if (start + range.bytes > end) {
            rest.bytes = start + range.bytes - end;
            rest.offset = range.offset + (end - start);
            ranges_[end] = rest;
        }
    }
    return true;
}

CUresult HostMemory::share(uint64_t address, uint64_t bytes, uint64_t offset) {
    if (address % page || offset % page || bytes % page || bytes == 0 || address + bytes < address) return CUDA_ERROR_INVALID_VALUE;
    if (!valid(wire::host_base + offset, bytes)) return CUDA_ERROR_INVALID_VALUE;
    if (!cut_shared(address, bytes)) return CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED;
    const HostRegistration range{bytes, offset, 0, true};
    if (!map_elsewhere(address, range, false)) return CUDA_ERROR_NOT_SUPPORTED;  // this process needs the address itself
    ranges_[address] = range;
    return CUDA_SUCCESS;
}

CUresult HostMemory::register_range(uint64_t address) {
    if (ranges_.at(address).pageable) return CUDA_SUCCESS;
    return driver_.cuMemHostRegister(reinterpret_cast<void*>(address), ranges_.at(address).bytes,
                                     CU_MEMHOSTREGISTER_PORTABLE | CU_MEMHOSTREGISTER_DEVICEMAP);
}

// Memory that the application had elsewhere must be there in this process too. `replace`: our own older mapping.
bool HostMemory::map_elsewhere(uint64_t address, const HostRegistration& range, bool replace) {
    if (address == wire::host_base + range.offset) return true;
    void* wanted = reinterpret_cast<void*>(address);
    void* got = ::mmap(wanted, range.bytes, PROT_READ | PROT_WRITE,
                       MAP_SHARED | (replace ? MAP_FIXED : MAP_FIXED_NOREPLACE), fd_.get(), static_cast<off_t>(range.offset));
    if (got == wanted) return true;
    if (got != MAP_FAILED) ::munmap(got, range.bytes);
    return false;
}

CUresult HostMemory::add(uint64_t address, uint64_t bytes, uint64_t offset, unsigned flags) {
    if (address % page || bytes == 0 || offset % page) return CUDA_ERROR_INVALID_VALUE;
    bytes = round_up(bytes, page);
    if (!valid(wire::host_base + offset, bytes)) return CUDA_ERROR_INVALID_VALUE;
    cut_shared(address, bytes);
    auto next = ranges_.lower_bound(address);
    if ((next != ranges_.end() && next->first < address + bytes) ||
        (next != ranges_.begin() && std::prev(next)->first + std::prev(next)->second.bytes > address))
        return CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED;
    const HostRegistration range{bytes, offset, flags, false};
    if (!map_elsewhere(address, range, false)) return CUDA_ERROR_NOT_SUPPORTED;  // this process needs the address itself
    ranges_[address] = range;
    const CUresult status = register_range(address);
    if (status != CUDA_SUCCESS) {
        if (address != wire::host_base + offset) ::munmap(reinterpret_cast<void*>(address), bytes);
        ranges_.erase(address);
    }
    return status;
}

CUresult HostMemory::remove(uint64_t address) {
    auto found = ranges_.find(address);
    if (found == ranges_.end()) return CUDA_ERROR_INVALID_VALUE;
    if (found->second.pageable) return CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED;
    const CUresult status = driver_.cuMemHostUnregister(reinterpret_cast<void*>(address));
    if (address != wire::host_base + found->second.offset)
        ::munmap(reinterpret_cast<void*>(address), found->second.bytes);
    ranges_.erase(found);
    return status;
}

bool HostMemory::prepare(uint64_t bytes, std::string* why) {
    UniqueFd fd(::memfd_create("cricket-host-restored", MFD_CLOEXEC));
    if (!fd || ::ftruncate(fd.get(), static_cast<off_t>(bytes)) != 0) {
        *why = std::string("memory for the host half: ") + std::strerror(errno);
        return false;
    }
    fd_ = std::move(fd);
    if (!map(bytes)) {
        *why = std::string("mapping the host half: ") + std::strerror(errno);
        return false;
    }
    return true;
}

// Brings what is newest here into the client's memory, mapped at `theirs`.
void HostMemory::merge(std::byte* theirs, pid_t pid, const std::vector<HostRange>& ours) const {
    const TouchedPages pages(pid);
    for (const auto& [address, range] : ranges_) {
        for (uint64_t i = 0; i < range.bytes; i += page) {
            const std::byte* mine = at(range.offset + i);
            std::byte* other = theirs + range.offset + i;
            if (image_.covers(range.offset + i)) {
                image_.bring(range.offset + i, other);
                continue;
            }
            if (std::memcmp(other, mine, page) != 0 && !pages.touched(address + i)) std::memcpy(other, mine, page);
        }
    }
    for (const HostRange& copy : ours) {
        if (!registered(copy.address, copy.bytes)) continue;
        const uint64_t end = copy.address + copy.bytes;
        // Ranges that follow each other here are anywhere in the memfd.
        auto part = std::prev(ranges_.upper_bound(copy.address));
        for (uint64_t from = copy.address; from < end; ++part) {
            const auto& [start, range] = *part;
            const uint64_t offset = range.offset + (from - start);
            const uint64_t bytes = std::min(end, start + range.bytes) - from;
            by_page(offset, offset + bytes, [&](uint64_t here, uint64_t some) {
                if (image_.covers(here)) return;
                if (std::memcmp(theirs + here, at(here), some) != 0) std::memcpy(theirs + here, at(here), some);
            });
            from += bytes;
        }
    }
}

bool HostMemory::begin_exchange(int fd, pid_t pid, const std::vector<HostRange>& ours, std::string* why) {
    end_exchange();
    if (ranges_.empty()) return true;
    const uint64_t size = file_bytes(fd);
    for (const auto& [address, range] : ranges_) {
        if (range.offset + range.bytes <= size) continue;
        *why = "the application's host memory is shorter than the session's";
        return false;
    }
    void* theirs = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (theirs == MAP_FAILED) {
        *why = std::string("mapping the application's host memory: ") + std::strerror(errno);
        return false;
    }
    exchanged_ = static_cast<std::byte*>(theirs);
    exchanged_bytes_ = size;
    merge(exchanged_, pid, ours);
    image_.forget();  // the device goes on
    for (const auto& [address, range] : ranges_) {
        const std::byte* from = exchanged_ + range.offset;
        base_.emplace_back(from, from + range.bytes);
        std::memcpy(content(range), base_.back().data(), range.bytes);
    }
    return true;
}

void HostMemory::exchange() {
    if (!exchanged_) return;
    auto base = base_.begin();
    for (const auto& [address, range] : ranges_) {
        std::byte* mine = content(range);
        std::byte* theirs = exchanged_ + range.offset;
        std::byte* last = base++->data();
        for (uint64_t i = 0; i < range.bytes; i += page) {
            if (std::memcmp(mine + i, last + i, page) == 0 && std::memcmp(theirs + i, last + i, page) == 0) continue;
            for (uint64_t k = i; k < i + page; ++k) {
                if (mine[k] != last[k])
                    theirs[k] = last[k] = mine[k];
                else if (theirs[k] != last[k])
                    mine[k] = last[k] = theirs[k];
            }
        }
    }
}

void HostMemory::end_exchange() {
    if (exchanged_) ::munmap(exchanged_, exchanged_bytes_);
    exchanged_ = nullptr;
    base_.clear();
}

bool HostMemory::adopt(UniqueFd fd, bool client_wins, pid_t pid, const std::vector<HostRange>& ours,
                       std::string* why) {
    const uint64_t size = file_bytes(fd.get());
    if (size % page || size > wire::host_span) {
        *why = "the host memory's size " + std::to_string(size) + " does not hold up";
        return false;
    }
    for (const auto& [address, range] : ranges_) {
        if (range.offset + range.bytes <= size) continue;
        *why = "the application's host memory is shorter than the session's";
        return false;
    }
    if (!ranges_.empty() && !client_wins) {
        void* theirs = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0);
        if (theirs == MAP_FAILED) {
            *why = std::string("mapping the application's host memory: ") + std::strerror(errno);
            return false;
        }
        merge(static_cast<std::byte*>(theirs), pid, ours);
        ::munmap(theirs, size);
    }
    for (const auto& [address, range] : ranges_)
        if (!range.pageable) driver_.cuMemHostUnregister(reinterpret_cast<void*>(address));
    if (mapped_)
        ::mmap(at(0), mapped_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
    mapped_ = 0;
    end_exchange();
    fd_ = std::move(fd);
    bool mapped = map(size);
    for (const auto& [address, range] : ranges_) mapped = mapped && map_elsewhere(address, range, true);
    if (!mapped) {
        *why = std::string("mapping the application's host memory: ") + std::strerror(errno);
        return false;
    }
    for (const auto& [address, range] : ranges_) {
        const CUresult status = register_range(address);
        if (status == CUDA_SUCCESS) continue;
        *why = "registering host memory: driver error " + std::to_string(status);
        return false;
    }
    return true;
}

}  // namespace cricket::server
