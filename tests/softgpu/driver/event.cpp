// SPDX-License-Identifier: MIT
#include "event.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <cstring>

#include "sharing.h"

namespace softgpu {

SharedEvent::SharedEvent(int fd) : fd(fd) {
    void* got = mmap(nullptr, sizeof(Page), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (got == MAP_FAILED) {
        close(fd);
        fail(CUDA_ERROR_OPERATING_SYSTEM);
    }
    page_ = static_cast<Page*>(got);
}

SharedEvent::~SharedEvent() {
    munmap(page_, sizeof(Page));
    close(fd);
}

void SharedEvent::reach(uint64_t record) {
    for (uint64_t before = page_->reached;
         before < record && !page_->reached.compare_exchange_weak(before, record);)
        continue;
}

// Another process has no way to wake us, so this looks again and again, ever less often.
void SharedEvent::wait(uint64_t record, const Context& context) const {
    for (long pause = 1000; !reached(record) && !context.ending && !context.faulted;) {
        timespec time{0, pause};
        nanosleep(&time, nullptr);
        if (pause < 200000) pause *= 2;
    }
}

Action wait_action(Event& event) {
    if (event.shared) {
        uint64_t record = event.shared->latest();
        if (event.shared->reached(record)) return nullptr;
        return [shared = event.shared, record, context = event.context] { shared->wait(record, *context); };
    }
    auto mark = event.latest();
    if (!mark || mark->done()) return nullptr;
    return [mark] { mark->wait(); };
}

namespace {

// Finishes whatever happens: others wait for it.
struct Finisher {
    CompletionRef completion = std::make_shared<Completion>();
    ~Finisher() {
        if (!completion->done()) completion->finish();
    }
};

struct Reacher {
    Reacher(std::shared_ptr<SharedEvent> shared, uint64_t record)
        : shared(std::move(shared)), record(record) {}
    std::shared_ptr<SharedEvent> shared;
    uint64_t record;
    ~Reacher() { shared->reach(record); }
};

}  // namespace

Action record_action(const std::shared_ptr<Event>& event) {
    if (event->shared) {
        auto reacher = std::make_shared<Reacher>(event->shared, event->shared->record());
        return [reacher] { reacher->shared->reach(reacher->record); };
    }
    auto finisher = std::make_shared<Finisher>();
    std::unique_lock lock(event->mutex);
    event->recorded = finisher->completion;
    return [finisher] { finisher->completion->finish(); };
}

}  // namespace softgpu

using namespace softgpu;

namespace {

std::shared_ptr<SharedEvent> new_shared_event() {
    int fd = memfd_create("softgpu-event", MFD_CLOEXEC);
    require(fd >= 0, CUDA_ERROR_OPERATING_SYSTEM);
    if (ftruncate(fd, 4096) != 0) {
        close(fd);
        fail(CUDA_ERROR_OPERATING_SYSTEM);
    }
    return std::make_shared<SharedEvent>(fd);
}

std::shared_ptr<Event> healthy(CUevent handle) {
    auto event = events().get(handle);
    require(event->context->sticky() == CUDA_SUCCESS, event->context->sticky());
    return event;
}

}  // namespace

CUresult cuEventCreate(CUevent* out, unsigned flags) {
    return api([&] {
        constexpr unsigned kKnown = CU_EVENT_BLOCKING_SYNC | CU_EVENT_DISABLE_TIMING | CU_EVENT_INTERPROCESS;
        require(out && (flags & ~kKnown) == 0);
        require(!(flags & CU_EVENT_INTERPROCESS) || (flags & CU_EVENT_DISABLE_TIMING));
        auto event = std::make_shared<Event>();
        event->context = current();
        if (flags & CU_EVENT_INTERPROCESS) event->shared = new_shared_event();
        event->flags = flags;
        *out = events().add(std::move(event));
    });
}

CUresult cuEventDestroy_v2(CUevent handle) {
    return api([&] { events().remove(handle); });
}

CUresult cuEventDestroy(CUevent handle) {
    return cuEventDestroy_v2(handle);
}

CUresult cuEventRecordWithFlags(CUevent handle, CUstream on, unsigned flags) {
    return api([&] {
        require((flags & ~unsigned{CU_EVENT_RECORD_EXTERNAL}) == 0);
        auto event = healthy(handle);
        auto s = stream(on);
        require(s->context == event->context, CUDA_ERROR_INVALID_HANDLE);
        if (captured_record(s, *event, handle, flags)) return;
        if (event->shared) {
            s->submit(record_action(event));
            return;
        }
        auto mark = s->mark();
        std::unique_lock lock(event->mutex);
        event->recorded = std::move(mark);
    });
}

CUresult cuEventRecord(CUevent handle, CUstream on) {
    return cuEventRecordWithFlags(handle, on, 0);
}

CUresult cuEventQuery(CUevent handle) {
    return api([&] {
        auto event = healthy(handle);
        refuse_if_captured(*event);
        potentially_unsafe();
        if (event->shared)
            return require(event->shared->reached(event->shared->latest()), CUDA_ERROR_NOT_READY);
        auto mark = event->latest();
        require(!mark || mark->done(), CUDA_ERROR_NOT_READY);
    });
}

CUresult cuEventSynchronize(CUevent handle) {
    return api([&] {
        auto event = healthy(handle);
        refuse_if_captured(*event);
        potentially_unsafe();
        if (event->shared) event->shared->wait(event->shared->latest(), *event->context);
        if (auto mark = event->latest()) mark->wait();
        event->context->output.flush();
        require(event->context->sticky() == CUDA_SUCCESS, event->context->sticky());
    });
}

CUresult cuEventElapsedTime_v2(float* milliseconds, CUevent start, CUevent end) {
    return api([&] {
        require(milliseconds, CUDA_ERROR_INVALID_HANDLE);
        auto first = healthy(start), last = healthy(end);
        require(!((first->flags | last->flags) & CU_EVENT_DISABLE_TIMING), CUDA_ERROR_INVALID_HANDLE);
        refuse_if_captured(*first);
        refuse_if_captured(*last);
        auto from = first->latest(), to = last->latest();
        require(from && to, CUDA_ERROR_INVALID_HANDLE);
        require(from->done() && to->done(), CUDA_ERROR_NOT_READY);
        *milliseconds =
            static_cast<float>(static_cast<double>(to->nanoseconds() - from->nanoseconds()) / 1e6);
    });
}

CUresult cuEventElapsedTime(float* milliseconds, CUevent start, CUevent end) {
    return cuEventElapsedTime_v2(milliseconds, start, end);
}

CUresult cuStreamWaitEvent(CUstream on, CUevent handle, unsigned flags) {
    return api([&] {
        require((flags & ~unsigned{CU_EVENT_WAIT_EXTERNAL}) == 0);
        auto event = events().get(handle);
        auto s = stream(on);
        if (captured_wait(s, *event, handle, flags)) return;
        if (event->shared) {
            if (auto wait = wait_action(*event)) s->submit(std::move(wait));
            return;
        }
        auto mark = event->latest();
        if (mark && !mark->done()) s->submit(nullptr, {std::move(mark)});
    });
}
