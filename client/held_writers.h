// SPDX-License-Identifier: MIT
// Threads that write to a range of memory wait, where the kernel lets us hold them, while its pages are exchanged.
#pragma once

#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdint>

namespace cricket::client {

// Holds writers to a range until it is gone. Does nothing where the kernel has no userfaultfd for us: then a write
// by another thread in the microseconds of the exchange would be lost, as nothing but the application could tell.
class HeldWriters {
  public:
    HeldWriters(uint64_t address, uint64_t bytes) {
        fd_ = static_cast<int>(::syscall(SYS_userfaultfd, O_CLOEXEC | UFFD_USER_MODE_ONLY));
        if (fd_ < 0) return;
        uffdio_api api{UFFD_API, UFFD_FEATURE_PAGEFAULT_FLAG_WP, 0};
        uffdio_register range{{address, bytes}, UFFDIO_REGISTER_MODE_WP, 0};
        uffdio_writeprotect protect{{address, bytes}, UFFDIO_WRITEPROTECT_MODE_WP};
        if (::ioctl(fd_, UFFDIO_API, &api) == 0 && ::ioctl(fd_, UFFDIO_REGISTER, &range) == 0)
            ::ioctl(fd_, UFFDIO_WRITEPROTECT, &protect);
    }
    ~HeldWriters() {
        if (fd_ >= 0) ::close(fd_);  // wakes whoever was held; the write is tried again, on the new pages
    }
    HeldWriters(const HeldWriters&) = delete;

  private:
    int fd_;
};

}  // namespace cricket::client
