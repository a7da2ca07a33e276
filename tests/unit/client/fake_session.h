// SPDX-License-Identifier: MIT
// Stands in for client/session.cpp and call.cpp: answers calls from functions of the test and remembers which
// were made, without a transport.
#pragma once

#include <atomic>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "calls.h"

namespace cricket::client::fake {

struct Session {
    std::atomic<bool> initialized{true};
    std::map<Proc, std::function<CUresult(void* args, void* res)>> answers;
    std::mutex mutex;  // of `made`
    std::vector<Proc> made;
    std::string image;  // bulk data of the last call that had some

    template <class Args, class Res>
    void answer(Proc proc, std::function<CUresult(Args&, Res&)> how) {
        answers[proc] = [how](void* args, void* res) {
            return how(*static_cast<Args*>(args), *static_cast<Res*>(res));
        };
    }
    int times(Proc proc) {
        std::lock_guard lock(mutex);
        int n = 0;
        for (Proc p : made) n += p == proc;
        return n;
    }
};
Session& session();

}  // namespace cricket::client::fake
