// SPDX-License-Identifier: MIT
// An event remembers the completion of the latest mark recorded with it.
#pragma once

#include "stream.h"

namespace softgpu {

// The state of an event in several processes: how often it was recorded, and up to which of these it has
// come.
class SharedEvent {
  public:
    explicit SharedEvent(int fd);  // takes the descriptor
    ~SharedEvent();
    SharedEvent(const SharedEvent&) = delete;
    SharedEvent& operator=(const SharedEvent&) = delete;

    const int fd;
    uint64_t record() { return page_->recorded.fetch_add(1) + 1; }
    void reach(uint64_t record);
    uint64_t latest() const { return page_->recorded; }
    bool reached(uint64_t record) const { return page_->reached >= record; }
    void wait(uint64_t record, const Context& context) const;

  private:
    struct Page {
        std::atomic<uint64_t> recorded, reached;
    };
    Page* page_;
};

struct Event {
    std::shared_ptr<Context> context;
    unsigned flags = 0;
    std::mutex mutex;
    CompletionRef recorded;               // null: never; guarded by mutex
    EventCapture capture;                 // guarded by graph_mutex()
    std::shared_ptr<SharedEvent> shared;  // of CU_EVENT_INTERPROCESS; null else

    CompletionRef latest() {
        std::unique_lock lock(mutex);
        return recorded;
    }
};

// What a stream does to come to the latest record of the event, null when it has come there; and to record
// it, from the moment of this call on.
Action wait_action(Event& event);
Action record_action(const std::shared_ptr<Event>& event);

using Events = Registry<Event, CUevent, 0x7c03>;
inline Events& events() {
    return immortal<Events>();
}

}  // namespace softgpu
