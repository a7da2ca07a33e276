// SPDX-License-Identifier: MIT
// Streams run their operations on a thread of their own, in order. Order between streams comes only from the
// completions that an operation waits for: events, and CUDA's rules for the legacy default stream. An
// operation can only wait for ones submitted before it, so there is no cycle.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>

#include "capture.h"
#include "context.h"

namespace softgpu {

struct GreenContext;

// Has an operation ended, and when.
class Completion {
  public:
    bool done() const { return state_.load(std::memory_order_acquire) != 0; }
    void wait() const { state_.wait(0, std::memory_order_acquire); }
    int64_t nanoseconds() const {
        return state_.load(std::memory_order_acquire);
    }  // CLOCK_MONOTONIC, 0: not yet
    void finish();

  private:
    std::atomic<int64_t> state_ = 0;
};
using CompletionRef = std::shared_ptr<Completion>;

struct Operation {
    std::function<void()> run;
    std::vector<CompletionRef> after;
    CompletionRef completion;
    bool even_after_error = false;
};

class Stream : public std::enable_shared_from_this<Stream> {
  public:
    enum class Kind { Blocking, NonBlocking, Legacy, PerThread };

    Stream(std::shared_ptr<Context> context, Kind kind, int priority);

    const std::shared_ptr<Context> context;
    const Kind kind;
    const int priority;
    const uint64_t id;
    CUstream handle = nullptr;
    CUgreenCtx green = nullptr;    // whose stream it is, if of a green context
    std::atomic<bool> orphaned = false;  // its green context is gone: there is no call for it any more
    uint64_t multiprocessors = 0;  // where its kernels run, a bit for each; 0: on all
    StreamCapture capture;  // guarded by graph_mutex()

    // Appends an operation. `after` adds completions to wait for.
    CompletionRef submit(std::function<void()> run, std::vector<CompletionRef> after = {},
                         bool even_after_error = false);
    // The same for a function that waits anyway: done when this returns, on the calling thread when nothing
    // is before it.
    void run(std::function<void()> run);
    // Appends a mark that is reached when everything before it is, other streams' work that the next
    // operation here would wait for included.
    CompletionRef mark() { return submit(nullptr); }
    // Whether such a mark would be reached at once.
    bool idle();

    bool waits_for_legacy() const { return kind == Kind::Blocking || kind == Kind::PerThread; }

    // No more operations will come; the thread ends after the last one.
    void close();
    // After close(): waits until the thread has ended.
    void join();
    bool finished() const;
    std::map<CUstreamAttrID, CUstreamAttrValue> attributes;  // set so far; guarded by context->mutex
    CompletionRef tail;               // of the latest operation; guarded by context->mutex
    CompletionRef running_elsewhere;  // what run() does on its caller's thread; guarded by context->mutex

  private:
    void push(Operation operation);
    void work();
    void execute(const std::function<void()>& run, bool even_after_error);
    bool idle_locked() const;
    std::vector<CompletionRef> implicit_dependencies() const;

    mutable std::mutex mutex_;
    std::condition_variable ready_;
    std::deque<Operation> queue_;
    bool closing_ = false, running_ = false;
};

using Streams = Registry<Stream, CUstream, 0x7c02>;
inline Streams& streams() {
    return immortal<Streams>();
}

// The stream that a handle means for the calling thread: 0, CU_STREAM_LEGACY and CU_STREAM_PER_THREAD need a
// current context. Fails with the sticky error of the stream's context.
std::shared_ptr<Stream> stream(CUstream handle);
// A stream with a handle; `green`: of that green context, which may be null.
std::shared_ptr<Stream> make_stream(const std::shared_ptr<Context>& context, Stream::Kind kind, int priority,
                                    const GreenContext* green);
// Where functions without a stream argument run.
inline std::shared_ptr<Stream> default_stream() {
    return stream(nullptr);
}

// While one exists, the null stream of this thread is the per-thread one: bodies of the _ptds and _ptsz
// functions.
class PerThreadDefault {
  public:
    PerThreadDefault();
    ~PerThreadDefault();
};

// Memory must not be unmapped under an operation. Operations that touch memory hold this shared, unmapping
// holds it exclusively; waits between operations hold nothing.
class MemoryInUse {
  public:
    MemoryInUse();
    ~MemoryInUse();
};
class MemoryNotInUse {
  public:
    MemoryNotInUse();
    ~MemoryNotInUse();
};

// True on a thread that runs a host function, which must not call the driver.
bool in_host_function();

// A CUDA_ERROR for an interpreter fault and the like; thrown by operations, becomes sticky.
struct Sticky {
    CUresult code;
    std::string why;
};

}  // namespace softgpu
