// SPDX-License-Identifier: MIT
#include "client/file_bytes.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "client/log.h"
#include "client/whole_io.h"

namespace cricket::client {

FileBytes::~FileBytes() { std::free(data_); }

CUresult FileBytes::read(const char* path) {
    const int saved = errno;
    const CUresult result = read_file(path);
    if (result != CUDA_SUCCESS) log(LogLevel::Error, "image %s: %s", path, std::strerror(errno));
    errno = saved;
    return result;
}

CUresult FileBytes::read_file(const char* path) {
    const int fd = ::open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return CUDA_ERROR_FILE_NOT_FOUND;
    struct stat about;
    const CUresult result = ::fstat(fd, &about) == 0 ? read_all(fd, static_cast<size_t>(about.st_size))
                                                     : CUDA_ERROR_OPERATING_SYSTEM;
    const int failure = errno;
    ::close(fd);
    errno = failure;
    return result;
}

CUresult FileBytes::read_all(int fd, size_t size) {
    constexpr size_t slack = 16;
    data_ = static_cast<char*>(std::calloc(1, size + slack));
    if (!data_) return CUDA_ERROR_OUT_OF_MEMORY;
    const ssize_t got = read_whole(fd, data_, size);
    if (got < 0) return CUDA_ERROR_OPERATING_SYSTEM;
    size_ = static_cast<size_t>(got);  // it may have become shorter: what there is is for the driver to judge
    return CUDA_SUCCESS;
}

}  // namespace cricket::client
