// SPDX-License-Identifier: MIT
// errno is the application's: a call of CUDA leaves it as it was.
#pragma once

#include <cerrno>

namespace cricket::client {

class KeepErrno {
  public:
    KeepErrno() = default;
    ~KeepErrno() { errno = before_; }
    KeepErrno(const KeepErrno&) = delete;
    KeepErrno& operator=(const KeepErrno&) = delete;

  private:
    const int before_ = errno;
};

}  // namespace cricket::client
