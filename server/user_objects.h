// SPDX-License-Identifier: MIT
// User objects: what the application keeps alive as long as graphs use it. The driver counts the references and calls us
// when there are none left, in whatever thread; the application's destructor runs in the application (callbacks.h).
#pragma once

#include <cuda.h>

#include <memory>
#include <mutex>
#include <vector>

#include "callbacks.h"

namespace cricket::server {

class UserObjects {
  public:
    // What to hand to the driver with destroyed(): `context` of a callback that runs the application's destructor once.
    void* prepare(void* context);
    void made(void* prepared, CUuserObject object);
    void refused(void* prepared);
    static void CUDA_CB destroyed(void* prepared);

    // Objects that the driver has destroyed since the last time it was asked.
    std::vector<CUuserObject> take_gone();

  private:
    struct Entry {
        UserObjects* owner;
        void* context;
        CUuserObject object = nullptr;
    };
    std::mutex mutex_;
    std::vector<std::unique_ptr<Entry>> living_;
    std::vector<CUuserObject> gone_;
};

}  // namespace cricket::server
