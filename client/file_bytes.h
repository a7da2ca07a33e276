// SPDX-License-Identifier: MIT
// A whole file in memory, with zeroes behind it: PTX needs the NUL, the look at its first bytes the rest. Files are the
// application's, so they are read here and not by the server.
#pragma once

#include <cuda.h>

#include <cstddef>

namespace cricket::client {

class FileBytes {
  public:
    FileBytes() = default;
    ~FileBytes();
    FileBytes(const FileBytes&) = delete;
    FileBytes& operator=(const FileBytes&) = delete;

    // Says in the log why not. Keeps errno.
    CUresult read(const char* path);
    const void* data() const { return data_; }
    size_t size() const { return size_; }

  private:
    CUresult read_file(const char* path);
    CUresult read_all(int fd, size_t size);

    char* data_ = nullptr;
    size_t size_ = 0;
};

}  // namespace cricket::client
