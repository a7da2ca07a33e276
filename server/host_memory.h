// SPDX-License-Identifier: MIT
// Host memory of a session: the client's memfd, mapped at the same address as in the application and registered with
// the driver range by range as the application allocates it.
//
// Which copy wins when a client attaches with a memfd of its own (it was restored)? What the device wrote after the image
// was taken is newest here, the rest is the application's: HostImage knows which bytes are which. Without one, where nobody told
// us of the dump, the image may be of any moment of the device's work: pages that the application has not touched since it was
// last restored are taken from here, and so are the destinations of copies whose end the application has not been told; the
// rest is the application's.
#pragma once

#include <cuda.h>
#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "cricket/unique_fd.h"
#include "driver_table.h"
#include "host_image.h"

namespace cricket::server {

struct HostRange {
    uint64_t address = 0, bytes = 0;
    bool operator==(const HostRange&) const = default;
};

// A registered range: memory of the memfd at `offset`, seen at the same address here and in the application. Ranges of
// cuMemHostAlloc lie at wire::host_base + offset, those of cuMemHostRegister wherever the application had its memory.
struct HostRegistration {
    uint64_t bytes = 0, offset = 0;
    unsigned flags = 0;
    bool pageable = false;  // of share()
};

class HostMemory {
  public:
    explicit HostMemory(const DriverTable& driver);

    // Reserves the address range, once.
    bool reserve();
    // Takes a client's memfd in place of the one before. `client_wins`: take its content as it is; else merge as
    // described above, `pid` telling which pages were touched and `ours` which ranges are always taken from here.
    // Nothing has changed when it fails.
    bool adopt(UniqueFd fd, bool client_wins, pid_t pid, const std::vector<HostRange>& ours, std::string* why);

    // Maps `bytes` of the memfd from `offset` on at `address`, unless they are there, and registers them with the driver.
    // Flags are the application's, to be told again.
    CUresult add(uint64_t address, uint64_t bytes, uint64_t offset, unsigned flags);
    CUresult remove(uint64_t address);
    // Maps pageable memory of the application, which put pages of the memfd in its place: seen at the same address, not
    // registered. Takes the place of what was shared there before.
    CUresult share(uint64_t address, uint64_t bytes, uint64_t offset);
    // Whether device and host can use the range: inside the memfd as long as it is now.
    bool valid(uint64_t address, uint64_t bytes);
    bool registered(uint64_t address, uint64_t bytes) const;
    const std::map<uint64_t, HostRegistration>& ranges() const { return ranges_; }
    // The bytes of a registered range, wherever the application sees them.
    static std::byte* content(const HostRegistration& range);
    uint64_t bytes() const;      // registered
    uint64_t file_size() const;  // of the memfd
    bool is(uint64_t inode) const;  // whether that is the memfd's
    HostImage& image() { return image_; }

    // For a client that has to run callbacks before it can be attached, since device work awaits them: its memory and ours
    // are made the same (as adopt() would), and exchange() carries each later change of either over to the other.
    bool begin_exchange(int fd, pid_t pid, const std::vector<HostRange>& ours, std::string* why);
    void exchange();

    // Restore: memory of our own until a client attaches, filled by the caller, then registered.
    bool prepare(uint64_t bytes, std::string* why);

  private:
    bool map(uint64_t bytes);
    bool cut_shared(uint64_t address, uint64_t bytes);
    void merge(std::byte* theirs, pid_t pid, const std::vector<HostRange>& ours) const;
    bool map_elsewhere(uint64_t address, const HostRegistration& range, bool replace);
    CUresult register_range(uint64_t address);

    void end_exchange();
    // The client's memory, and what both sides held when they were last the same (by range, in the order of ranges_).
    std::byte* exchanged_ = nullptr;
    uint64_t exchanged_bytes_ = 0;
    std::vector<std::vector<std::byte>> base_;

    HostImage image_;
    const DriverTable& driver_;
    UniqueFd fd_;
    uint64_t mapped_ = 0;                  // bytes of the memfd mapped from wire::host_base
    std::map<uint64_t, HostRegistration> ranges_;  // by address
};

}  // namespace cricket::server
