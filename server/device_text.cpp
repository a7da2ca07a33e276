// SPDX-License-Identifier: MIT
#include "device_text.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>

#include "log.h"
#include "rpc/image/image.h"

namespace cricket::server {
namespace {

constexpr size_t largest_looked_into = 8u << 20;  // a larger image is taken to print: unpacking it takes longer
constexpr int standard_fds[DeviceText::streams] = {STDOUT_FILENO, STDERR_FILENO};
bool taken = false;

}  // namespace

void DeviceText::take_standard_streams() {
    const int log_fd = ::fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);
    if (log_fd < 0) return;
    for (const int fd : standard_fds) {
        const int text = ::memfd_create("cricket-device-text", MFD_CLOEXEC);
        if (text < 0 || ::fcntl(text, F_SETFL, O_APPEND) != 0 || ::dup2(text, fd) < 0)
            log_warn("what kernels print to descriptor %d stays in the server's output: %s", fd, std::strerror(errno));
        if (text >= 0) ::close(text);
    }
    log_to(log_fd);
    taken = true;
}

void DeviceText::note_image(std::span<const std::byte> image) {
    if (possible_) return;
    if (image.size() > largest_looked_into) {
        possible_ = true;
        return;
    }
    try {
        for (const image::Member& member : image::members(image)) possible_ |= image::prints(member);
    } catch (const image::ImageError&) {
        possible_ = true;  // the driver could read it
    }
}

void DeviceText::look() {
    if (!taken) return;
    std::fflush(stdout);
    for (int stream = 0; stream < streams; ++stream) {
        struct stat info {};
        if (::fstat(standard_fds[stream], &info) == 0 && S_ISREG(info.st_mode))
            end_[stream] = base_[stream] + static_cast<uint64_t>(info.st_size);
    }
}

std::vector<char> DeviceText::read(int stream, uint64_t position, size_t limit) {
    position = std::clamp(position, fetched_[stream], end_[stream]);
    // Not truncated: the driver may be writing at the end right now.
    if (position > base_[stream])
        ::fallocate(standard_fds[stream], FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0,
                    static_cast<off_t>(position - base_[stream]));
    fetched_[stream] = position;
    std::vector<char> text(std::min<uint64_t>(limit, end_[stream] - position));
    const ssize_t got = text.empty() ? 0
                                     : ::pread(standard_fds[stream], text.data(), text.size(),
                                               static_cast<off_t>(position - base_[stream]));
    text.resize(got > 0 ? static_cast<size_t>(got) : 0);
    return text;
}

void DeviceText::restore(int stream, uint64_t fetched, std::span<const char> text) {
    fetched_[stream] = base_[stream] = fetched;
    if (taken && !text.empty()) {
        // The loading of modules before may have made the driver say something: that is not the session's.
        if (::ftruncate(standard_fds[stream], 0) != 0) return;
        [[maybe_unused]] const ssize_t written = ::write(standard_fds[stream], text.data(), text.size());
    }
    end_[stream] = fetched + text.size();
}

}  // namespace cricket::server
