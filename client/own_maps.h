// SPDX-License-Identifier: MIT
// The mappings of this process (/proc/self/maps), of which what was pageable and is in the memfd now can be told by the
// memfd's inode alone.
//
// The text comes in several reads, and criu may freeze the process between two of them: what comes back has a memfd of
// another inode, so lines have other lengths, and a file that goes on at the old offset begins in the middle of one. A
// text is believed only if the memfd was the same before and after it.
#pragma once

#include <cstdint>

namespace cricket::client {

struct OwnMapping {
    uint64_t start = 0, end = 0, offset = 0, inode = 0;
    char mode[5] = {};  // as in "rw-p"
    bool shared() const { return mode[3] != 'p'; }
    int protection() const;  // PROT_*
};

class OwnMaps {
  public:
    // Reads all. `after_each_read`: for tests.
    explicit OwnMaps(int memfd, void (*after_each_read)() = nullptr);
    ~OwnMaps();
    OwnMaps(const OwnMaps&) = delete;

    explicit operator bool() const { return text_ != nullptr; }  // else the file could not be read
    uint64_t memfd_inode() const { return inode_; }              // at the time of the text
    // The next mapping, by address; false after the last one.
    bool next(OwnMapping* out);

  private:
    char* text_ = nullptr;
    char* at_ = nullptr;
    uint64_t inode_ = 0;
};

}  // namespace cricket::client
