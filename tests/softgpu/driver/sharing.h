// SPDX-License-Identifier: MIT
// Device memory in two processes: each device's region is a memfd, and a handle for another process names the
// file and the place in it.
#pragma once

#include "memory.h"

namespace softgpu {

struct SharedFile {
    SharedFile(int fd, int device) : fd(fd), device(device) {}
    ~SharedFile();
    SharedFile(const SharedFile&) = delete;
    SharedFile& operator=(const SharedFile&) = delete;

    const int fd;
    const int device;
};

// A descriptor for another process, and back from it; the first is the caller's, the second is duplicated.
int exported(int fd);
std::shared_ptr<SharedFile> import_file(int fd);

// Maps memory of another process; the range's base is chosen here, and the range comes into the memory map.
CUdeviceptr map_shared(const std::shared_ptr<SharedFile>& file, uint64_t offset, Range range);
void unmap_shared(CUdeviceptr base);
// The same for a range that has left the memory map.
void close_window(CUdeviceptr base);

// The file behind a descriptor of another process of this user.
std::shared_ptr<SharedFile> file_of_process(int pid, int fd);

}  // namespace softgpu
