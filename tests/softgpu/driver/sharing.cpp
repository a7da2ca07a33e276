// SPDX-License-Identifier: MIT
#include "sharing.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>

#include "event.h"

namespace softgpu {
namespace {

constexpr uint64_t kPage = 4096;

struct Window {
    std::shared_ptr<SharedFile> file;
    uint64_t first, mapped;  // whole pages
    int device;
};
std::mutex windows_mutex;
std::map<CUdeviceptr, Window>& windows() {
    return immortal<std::map<CUdeviceptr, Window>>();
}

}  // namespace

SharedFile::~SharedFile() {
    close(fd);
}

int exported(int fd) {
    int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    require(copy >= 0, CUDA_ERROR_OPERATING_SYSTEM);
    return copy;
}

// The device is in the file's name.
std::shared_ptr<SharedFile> import_file(int fd) {
    char path[64], name[256];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(path, name, sizeof name - 1);
    require(length > 0);
    name[length] = 0;
    int number = -1;
    require(sscanf(name, "/memfd:softgpu-device-%d", &number) == 1);
    device(number);
    int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    require(copy >= 0, CUDA_ERROR_OPERATING_SYSTEM);
    return std::make_shared<SharedFile>(copy, number);
}

std::shared_ptr<SharedFile> file_of_process(int pid, int fd) {
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/fd/%d", pid, fd);
    int opened = open(path, O_RDWR | O_CLOEXEC);
    require(opened >= 0);
    auto closing = std::make_shared<SharedFile>(opened, 0);
    return import_file(opened);
}

CUdeviceptr map_shared(const std::shared_ptr<SharedFile>& file, uint64_t offset, Range range) {
    struct stat status;
    require(fstat(file->fd, &status) == 0 && range.size > 0);
    auto length = static_cast<uint64_t>(status.st_size);
    require(offset <= length && range.size <= length - offset);
    uint64_t first = offset / kPage * kPage, into = offset - first;
    uint64_t mapped = (into + range.size + kPage - 1) / kPage * kPage;
    auto place = device_addresses(range.device).allocate(mapped, kPage);
    require(place.has_value(), CUDA_ERROR_OUT_OF_MEMORY);
    void* got = mmap(reinterpret_cast<void*>(*place), mapped, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
                     file->fd, static_cast<off_t>(first));
    if (got == MAP_FAILED) {
        device_addresses(range.device).release(*place, mapped);
        fail(CUDA_ERROR_OUT_OF_MEMORY);
    }
    range.base = *place + into;
    memory_map().add(range);
    std::unique_lock lock(windows_mutex);
    windows()[range.base] = {file, *place, mapped, range.device};
    return range.base;
}

void unmap_shared(CUdeviceptr base) {
    memory_map().remove(base);
    close_window(base);
}

void close_window(CUdeviceptr base) {
    std::unique_lock lock(windows_mutex);
    auto node = windows().extract(base);
    require(!node.empty());
    auto& window = node.mapped();
    map_device_memory(window.first, window.mapped, window.device);
    device_addresses(window.device).release(window.first, window.mapped);
}

}  // namespace softgpu
