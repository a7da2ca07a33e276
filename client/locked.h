// SPDX-License-Identifier: MIT
// Holds a lock for as long as it lives.
#pragma once

#include <pthread.h>

namespace cricket::client {

class Locked {
  public:
    explicit Locked(pthread_mutex_t& lock) : lock_(lock) { pthread_mutex_lock(&lock_); }
    ~Locked() { pthread_mutex_unlock(&lock_); }
    Locked(const Locked&) = delete;
    Locked& operator=(const Locked&) = delete;

  private:
    pthread_mutex_t& lock_;
};

}  // namespace cricket::client
