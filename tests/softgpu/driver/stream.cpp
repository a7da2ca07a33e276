// SPDX-License-Identifier: MIT
#include "stream.h"

#include <pthread.h>
#include <signal.h>
#include <time.h>

#include <thread>

#include "green.h"
#include "memory.h"
#include "pool.h"
#include "ptx/ptx.h"

namespace softgpu {
namespace {

uint64_t next_id() {
    static std::atomic<uint64_t> last = 0;
    return ++last;
}

CUresult code_of(ptx::Fault::Kind kind) {
    switch (kind) {
        case ptx::Fault::Kind::IllegalAddress:
            return CUDA_ERROR_ILLEGAL_ADDRESS;
        case ptx::Fault::Kind::MisalignedAddress:
            return CUDA_ERROR_MISALIGNED_ADDRESS;
        case ptx::Fault::Kind::Trap:
            return CUDA_ERROR_LAUNCH_FAILED;
        case ptx::Fault::Kind::Assert:
            return CUDA_ERROR_ASSERT;
        case ptx::Fault::Kind::IllegalInstruction:
            return CUDA_ERROR_ILLEGAL_INSTRUCTION;
    }
    return CUDA_ERROR_LAUNCH_FAILED;
}

// Readers first: a kernel that spins until another stream's operation frees it must not be kept waiting by an
// unmap that waits for the kernel.
std::shared_mutex memory_lock;

thread_local int per_thread_default = 0;

}  // namespace

MemoryInUse::MemoryInUse() {
    memory_lock.lock_shared();
}
MemoryInUse::~MemoryInUse() {
    memory_lock.unlock_shared();
}
MemoryNotInUse::MemoryNotInUse() {
    memory_lock.lock();
}
MemoryNotInUse::~MemoryNotInUse() {
    memory_lock.unlock();
}

PerThreadDefault::PerThreadDefault() {
    ++per_thread_default;
}
PerThreadDefault::~PerThreadDefault() {
    --per_thread_default;
}

void Completion::finish() {
    timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    state_.store(now.tv_sec * 1000000000 + now.tv_nsec, std::memory_order_release);
    state_.notify_all();
}

Stream::Stream(std::shared_ptr<Context> context, Kind kind, int priority)
    : context(std::move(context)), kind(kind), priority(priority), id(next_id()) {}

std::vector<CompletionRef> Stream::implicit_dependencies() const {
    std::vector<CompletionRef> result;
    if (kind == Kind::Legacy) {
        for (auto& other : context->streams)
            if (other->waits_for_legacy() && other->tail && !other->tail->done())
                result.push_back(other->tail);
    } else if (waits_for_legacy() && context->legacy && context->legacy->tail &&
               !context->legacy->tail->done()) {
        result.push_back(context->legacy->tail);
    }
    return result;
}

CompletionRef Stream::submit(std::function<void()> run, std::vector<CompletionRef> after,
                             bool even_after_error) {
    refuse_if_capturing(*this);
    auto completion = std::make_shared<Completion>();
    std::unique_lock lock(context->mutex);
    require(!context->ending, CUDA_ERROR_CONTEXT_IS_DESTROYED);
    for (auto& dependency : implicit_dependencies()) after.push_back(std::move(dependency));
    if (running_elsewhere && !running_elsewhere->done()) after.push_back(running_elsewhere);
    push({std::move(run), std::move(after), completion, even_after_error});
    tail = completion;
    std::erase_if(context->streams, [](auto& stream) { return stream->finished(); });
    return completion;
}

void Stream::run(std::function<void()> run) {
    refuse_if_capturing(*this);
    std::unique_lock lock(context->mutex);
    require(!context->ending, CUDA_ERROR_CONTEXT_IS_DESTROYED);
    if (!idle_locked() || !implicit_dependencies().empty()) {
        lock.unlock();
        submit(std::move(run))->wait();
        return;
    }
    auto completion = std::make_shared<Completion>();
    tail = running_elsewhere = completion;
    lock.unlock();
    execute(run, false);
    completion->finish();
}

bool Stream::idle_locked() const {
    return (!tail || tail->done());
}

bool Stream::idle() {
    std::unique_lock lock(context->mutex);
    return idle_locked() && (kind != Kind::Legacy || implicit_dependencies().empty());
}

void Stream::push(Operation operation) {
    std::unique_lock lock(mutex_);
    if (!running_) {
        // Signals are for the application's threads.
        sigset_t all, before;
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &before);
        try {
            std::thread([self = shared_from_this()] { self->work(); }).detach();
        } catch (const std::system_error&) {
            pthread_sigmask(SIG_SETMASK, &before, nullptr);
            fail(CUDA_ERROR_OUT_OF_MEMORY);
        }
        pthread_sigmask(SIG_SETMASK, &before, nullptr);
        running_ = true;
    }
    queue_.push_back(std::move(operation));
    ready_.notify_all();
}

void Stream::work() {
    pthread_setname_np(pthread_self(), "softgpu-stream");
    std::unique_lock lock(mutex_);
    for (;;) {
        ready_.wait(lock, [&] { return closing_ || !queue_.empty(); });
        if (queue_.empty()) break;
        auto operation = std::move(queue_.front());
        queue_.pop_front();
        lock.unlock();
        for (auto& dependency : operation.after) dependency->wait();
        execute(operation.run, operation.even_after_error);
        operation.run = nullptr;  // what it holds (modules, staged data) goes before anyone is told
        operation.completion->finish();
        lock.lock();
    }
    running_ = false;
    ready_.notify_all();
}

void Stream::execute(const std::function<void()>& run, bool even_after_error) {
    if (!run || (context->sticky() != CUDA_SUCCESS && !even_after_error)) return;
    try {
        run();
    } catch (const ptx::Fault& fault) {
        context->set_sticky(code_of(fault.kind()), fault.what());
    } catch (const Sticky& error) {
        context->set_sticky(error.code, error.why);
    } catch (const std::exception& error) {
        context->set_sticky(CUDA_ERROR_LAUNCH_FAILED, error.what());
    }
}

void Stream::close() {
    std::unique_lock lock(mutex_);
    closing_ = true;
    ready_.notify_all();
}

void Stream::join() {
    std::unique_lock lock(mutex_);
    ready_.wait(lock, [&] { return !running_; });
}

bool Stream::finished() const {
    std::unique_lock lock(mutex_);
    return closing_ && !running_;
}

namespace {

void enroll(const std::shared_ptr<Stream>& stream) {
    std::unique_lock lock(stream->context->mutex);
    stream->context->streams.push_back(stream);
}

// The per-thread default streams of one thread, by context id; closed with the thread.
struct OwnStreams {
    std::map<uint64_t, std::weak_ptr<Stream>> by_context;
    ~OwnStreams() {
        for (auto& [id, weak] : by_context)
            if (auto stream = weak.lock()) stream->close();
    }
};
thread_local OwnStreams own_streams;

std::shared_ptr<Stream> per_thread_stream(const std::shared_ptr<Context>& context) {
    auto& own = own_streams.by_context[context->id];
    if (auto stream = own.lock()) return stream;
    auto stream = std::make_shared<Stream>(context, Stream::Kind::PerThread, 0);
    enroll(stream);
    own = stream;
    return stream;
}

}  // namespace

std::shared_ptr<Stream> stream(CUstream handle) {
    if (!handle) handle = per_thread_default ? CU_STREAM_PER_THREAD : CU_STREAM_LEGACY;
    std::shared_ptr<Stream> result;
    if (handle == CU_STREAM_PER_THREAD && green_of(current_handle())) fail(CUDA_ERROR_INVALID_HANDLE);
    if (handle == CU_STREAM_PER_THREAD) return per_thread_stream(current());
    if (handle == CU_STREAM_LEGACY) {
        auto context = current();
        if (auto green = green_of(current_handle())) return green->default_stream;
        std::unique_lock lock(context->mutex);
        require(context->legacy != nullptr, CUDA_ERROR_CONTEXT_IS_DESTROYED);
        return context->legacy;
    }
    result = streams().get(handle);
    require(!result->orphaned, CUDA_ERROR_CONTEXT_IS_DESTROYED);
    require(result->context->sticky() == CUDA_SUCCESS, result->context->sticky());
    return result;
}

std::shared_ptr<Stream> make_stream(const std::shared_ptr<Context>& context, Stream::Kind kind, int priority,
                                    const GreenContext* green) {
    auto made = std::make_shared<Stream>(context, kind, std::max(-5, std::min(0, priority)));
    if (green) {
        made->green = green->handle;
        made->multiprocessors = green->multiprocessors;
    }
    made->handle = streams().add(made);
    enroll(made);
    return made;
}

// The context that a stream is of, as the application knows it.
static CUcontext context_handle(const Stream& of) {
    CUcontext handle = nullptr;
    if (of.green && cuCtxFromGreenCtx(&handle, of.green) == CUDA_SUCCESS) return handle;
    return of.context->handle;
}

}  // namespace softgpu

using namespace softgpu;

CUresult cuStreamCreateWithPriority(CUstream* out, unsigned flags, int priority) {
    return api([&] {
        require(out && (flags & ~unsigned{CU_STREAM_NON_BLOCKING}) == 0);
        auto kind = flags & CU_STREAM_NON_BLOCKING ? Stream::Kind::NonBlocking : Stream::Kind::Blocking;
        auto context = current();
        auto green = green_of(current_handle());
        if (green) kind = Stream::Kind::NonBlocking;  // as all of a green context's
        *out = make_stream(context, kind, priority, green.get())->handle;
    });
}

CUresult cuStreamCreate(CUstream* out, unsigned flags) {
    return cuStreamCreateWithPriority(out, flags, 0);
}

CUresult cuStreamDestroy_v2(CUstream handle) {
    return api([&] {
        require(handle && handle != CU_STREAM_LEGACY && handle != CU_STREAM_PER_THREAD,
                CUDA_ERROR_INVALID_HANDLE);
        require(!streams().get(handle)->orphaned, CUDA_ERROR_CONTEXT_IS_DESTROYED);
        auto gone = streams().remove(handle);
        abandon_capture(*gone);
        gone->close();
    });
}

CUresult cuStreamDestroy(CUstream handle) {
    return cuStreamDestroy_v2(handle);
}

CUresult cuStreamQuery(CUstream handle) {
    return api([&] {
        auto s = stream(handle);
        refuse_if_capturing(*s);
        potentially_unsafe();
        require(s->idle(), CUDA_ERROR_NOT_READY);
        require(s->context->sticky() == CUDA_SUCCESS, s->context->sticky());
    });
}

CUresult cuStreamSynchronize(CUstream handle) {
    return api([&] {
        auto s = stream(handle);
        refuse_if_capturing(*s);
        potentially_unsafe();
        if (!s->idle()) s->mark()->wait();
        s->context->output.flush();
        release_pools(s->context->device.ordinal);
        require(s->context->sticky() == CUDA_SUCCESS, s->context->sticky());
    });
}

CUresult cuStreamGetFlags(CUstream handle, unsigned* flags) {
    return api([&] {
        require(flags);
        *flags =
            stream(handle)->kind == Stream::Kind::NonBlocking ? CU_STREAM_NON_BLOCKING : CU_STREAM_DEFAULT;
    });
}

CUresult cuStreamGetPriority(CUstream handle, int* priority) {
    return api([&] {
        require(priority);
        *priority = stream(handle)->priority;
    });
}

CUresult cuStreamGetCtx(CUstream handle, CUcontext* ctx) {
    return api([&] {
        require(ctx);
        *ctx = context_handle(*stream(handle));
    });
}

CUresult cuStreamGetCtx_v2(CUstream handle, CUcontext* ctx, CUgreenCtx* green) {
    return api([&] {
        require(ctx && green);
        auto s = stream(handle);
        *ctx = s->context->handle;
        *green = s->green;
    });
}

CUresult cuStreamGetId(CUstream handle, unsigned long long* id) {
    return api([&] {
        require(id);
        *id = stream(handle)->id;
    });
}

CUresult cuStreamGetDevice(CUstream handle, CUdevice* out) {
    return api([&] {
        require(out);
        *out = stream(handle)->context->device.ordinal;
    });
}
