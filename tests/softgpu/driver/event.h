// SPDX-License-Identifier: MIT
// An event remembers the completion of the latest mark recorded with it.
#pragma once

#include "stream.h"

namespace softgpu {

struct Event {
    std::shared_ptr<Context> context;
    unsigned flags = 0;
    std::mutex mutex;
    CompletionRef recorded;  // null: never; guarded by mutex
    EventCapture capture;    // guarded by graph_mutex()

    CompletionRef latest() {
        std::unique_lock lock(mutex);
        return recorded;
    }
};

using Events = Registry<Event, CUevent, 0x7c03>;
inline Events& events() {
    return immortal<Events>();
}

}  // namespace softgpu
