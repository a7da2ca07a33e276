// SPDX-License-Identifier: MIT
// The device heaps: what malloc() in kernels gives. The driver makes a context's with the first kernel that may call it, at an
// address that depends on what was made before, and tells nobody. So just before such a launch a kernel of ours makes it,
// which finds out where it lies; that is journalled, and a restore repeats it at the same place in the order of things.
// Copies and cuMem* functions do not take its addresses: a kernel reads and writes it.
// Measured (H200, driver 580): a heap begins at a multiple of 2 MiB, has as many bytes as cuCtxGetLimit says, and gives its first
// small piece near its end; all that malloc() and free() know lies in it, but for its address, in constants of the driver's.
#pragma once

#include <cuda.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace cricket::server {

struct Call;
class Session;

class DeviceHeaps {
  public:
    DeviceHeaps();
    ~DeviceHeaps();

    // Before a function or kernel runs in the current context, or becomes a node of a graph: makes the heap if it may need one.
    void before_launch(Call& call, uint64_t function);
    // A journalled heap, made again. Throws std::runtime_error where it is not what it was.
    void repeat(Call& call, uint64_t first, uint64_t address, uint64_t bytes);
    void context_gone(uint64_t context);
    void object_gone(uint64_t number);

    // Why a snapshot cannot have what is in them; empty: it can.
    std::string refusal(Session& session) const;

    struct Part {  // of a heap, or of what belongs to it
        uint64_t context = 0, address = 0, bytes = 0;
        bool operator==(const Part&) const = default;
    };
    std::vector<Part> parts() const;
    // The part's context is current, and nothing runs in it; over when they return.
    CUresult read(Session& session, const Part& part, CUdeviceptr to) const;
    CUresult read_to_host(Session& session, const Part& part, std::span<std::byte> to) const;
    // `source` fills pieces of what the part is to be, which begin so many bytes after its beginning.
    CUresult write(Session& session, const Part& part, const std::function<void(uint64_t, std::span<std::byte>)>& source) const;

  private:
    struct Heap;
    void look(Call& call, uint64_t function, uint64_t context);
    std::string make(Call& call, Heap* heap) const;
    CUresult copy(Session& session, uint64_t context, CUdeviceptr to, CUdeviceptr from, uint64_t bytes) const;

    std::map<uint64_t, std::unique_ptr<Heap>> heaps_;        // by context
    std::map<std::pair<uint64_t, uint64_t>, bool> ran_;  // functions, and where; true: their image is too large to be looked at
};

}  // namespace cricket::server
