// SPDX-License-Identifier: MIT
// Who has used a device heap, the memory of malloc() in kernels, which cannot be restored. Having code that could is no harm:
// what has run is noted, and looked at once a snapshot is taken.
//
// Measured on an H200 (driver 580): the heap comes to be with the first launch of a kernel that calls malloc(), from a multiple of
// 2 MiB on, with as many bytes as cuCtxGetLimit then says; the same address in every process, ASLR or not, but 2 MiB and more
// further on where executable graphs or contexts took memory before. Copies and cuMemGetAddressRange do not know it, kernels read
// and write it. Its base lies in a constant of the driver's; nothing else that kernels could read, from 0x200000000 to the heap
// and around the driver's code, was seen to change with malloc(). Put back into a fresh process, lists in it were whole, and
// malloc() and free() went on without overlap in every try. But one thread's sequence of 4000 then got other pieces than in the
// first process, and bytes put back where the heap had been in use made the kernel fail or hang. So there is more state.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <utility>

#include "attachment.h"

namespace cricket::server {

struct Call;
class Session;

class DeviceHeaps {
  public:
    // A function or kernel runs in the current context, or becomes a node of a graph.
    void before_launch(Call& call, uint64_t function);
    void context_gone(uint64_t context);
    void object_gone(Session& session, uint64_t number);
    // Why a snapshot cannot be taken; empty: no kernel that calls malloc() or free() has run in a context that is there.
    std::string refusal(Session& session) const;

  private:
    struct Code {
        Attachment image;
        std::string name;
    };
    std::map<std::pair<uint64_t, uint64_t>, Code> ran_;  // functions that are there, and in which context they ran
    // Of what is gone: by context, one that used the heap; and those whose images are too large to be looked at in passing.
    std::map<uint64_t, std::string> users_;
    std::map<std::pair<uint64_t, std::string>, Code> gone_;
};

}  // namespace cricket::server
