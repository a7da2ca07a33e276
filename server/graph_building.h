// SPDX-License-Identifier: MIT
// The making of a graph, which pauses before each node that will begin an extent of memory (graph_places.h): several graphs are
// made at the same time, so that extents come in the order of their addresses.
#pragma once

#include <cuda.h>

#include <coroutine>
#include <exception>
#include <utility>

namespace cricket::server {

class GraphBuilding {
  public:
    struct promise_type {
        CUdeviceptr extent = 0;
        std::exception_ptr error;

        GraphBuilding get_return_object() { return GraphBuilding(Handle::from_promise(*this)); }
        std::suspend_always initial_suspend() noexcept { return {}; }
        std::suspend_always final_suspend() noexcept { return {}; }
        std::suspend_always yield_value(CUdeviceptr begins) noexcept {
            extent = begins;
            return {};
        }
        void return_void() noexcept {}
        void unhandled_exception() noexcept { error = std::current_exception(); }
    };

    GraphBuilding(GraphBuilding&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
    GraphBuilding& operator=(GraphBuilding&&) = delete;
    ~GraphBuilding() {
        if (handle_) handle_.destroy();
    }

    // Goes on until the next pause, false: until the end. Throws what the making threw.
    bool go_on() {
        handle_.resume();
        if (handle_.promise().error) std::rethrow_exception(std::exchange(handle_.promise().error, nullptr));
        return !handle_.done();
    }
    // Where the extent lies that the node begins before which it pauses.
    CUdeviceptr extent() const { return handle_.promise().extent; }

  private:
    using Handle = std::coroutine_handle<promise_type>;
    explicit GraphBuilding(Handle handle) : handle_(handle) {}
    Handle handle_;
};

}  // namespace cricket::server
