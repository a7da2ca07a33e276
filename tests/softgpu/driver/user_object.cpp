// SPDX-License-Identifier: MIT
// Objects of the application that graphs keep alive. Destructors run one after the other on one thread.
#include <pthread.h>
#include <signal.h>

#include <condition_variable>
#include <deque>
#include <thread>

#include "graph.h"

namespace softgpu {
namespace {

using UserObjects = Registry<UserObject, CUuserObject, 0x7c0c>;
UserObjects& user_objects() {
    return immortal<UserObjects>();
}

class Destructors {
  public:
    void add(CUhostFn function, void* data) {
        std::unique_lock lock(mutex_);
        queue_.push_back({function, data});
        ready_.notify_one();
        if (started_) return;
        started_ = true;
        sigset_t all, before;
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &before);
        std::thread([this] { work(); }).detach();
        pthread_sigmask(SIG_SETMASK, &before, nullptr);
    }

  private:
    [[noreturn]] void work() {
        pthread_setname_np(pthread_self(), "softgpu-objects");
        std::unique_lock lock(mutex_);
        for (;;) {
            ready_.wait(lock, [&] { return !queue_.empty(); });
            auto [function, data] = queue_.front();
            queue_.pop_front();
            lock.unlock();
            function(data);
            lock.lock();
        }
    }

    std::mutex mutex_;
    std::condition_variable ready_;
    std::deque<std::pair<CUhostFn, void*>> queue_;
    bool started_ = false;
};

}  // namespace

void UserObject::release(unsigned count) {
    if (references.fetch_sub(count) != count) return;
    user_objects().remove(handle);
    immortal<Destructors>().add(destroy, data);
}

}  // namespace softgpu

using namespace softgpu;

CUresult cuUserObjectCreate(CUuserObject* out, void* data, CUhostFn destroy, unsigned count, unsigned flags) {
    return graph_api([&] {
        require(out && destroy && count > 0 && count <= INT32_MAX);
        require(flags == CU_USER_OBJECT_NO_DESTRUCTOR_SYNC);
        auto object = std::make_shared<UserObject>();
        object->destroy = destroy;
        object->data = data;
        object->references = count;
        object->handle = user_objects().reserve();
        user_objects().set(object->handle, object);
        *out = object->handle;
    });
}

CUresult cuUserObjectRetain(CUuserObject handle, unsigned count) {
    return graph_api([&] {
        require(count > 0 && count <= INT32_MAX);
        user_objects().get(handle, CUDA_ERROR_INVALID_VALUE)->references += count;
    });
}

CUresult cuUserObjectRelease(CUuserObject handle, unsigned count) {
    return graph_api([&] {
        require(count > 0 && count <= INT32_MAX);
        auto object = user_objects().get(handle, CUDA_ERROR_INVALID_VALUE);
        require(object->references >= count);
        object->release(count);
    });
}

CUresult cuGraphRetainUserObject(CUgraph graph_handle, CUuserObject handle, unsigned count, unsigned flags) {
    return graph_api([&] {
        require(count > 0 && count <= INT32_MAX && (flags & ~unsigned{CU_GRAPH_USER_OBJECT_MOVE}) == 0);
        auto into = graph(graph_handle);
        auto object = user_objects().get(handle, CUDA_ERROR_INVALID_VALUE);
        if (!(flags & CU_GRAPH_USER_OBJECT_MOVE)) object->references += count;
        into->objects[object] += count;
    });
}

CUresult cuGraphReleaseUserObject(CUgraph graph_handle, CUuserObject handle, unsigned count) {
    return graph_api([&] {
        require(count > 0 && count <= INT32_MAX);
        auto of = graph(graph_handle);
        auto object = user_objects().get(handle, CUDA_ERROR_INVALID_VALUE);
        auto found = of->objects.find(object);
        require(found != of->objects.end() && found->second >= count);
        if ((found->second -= count) == 0) of->objects.erase(found);
        object->release(count);
    });
}
