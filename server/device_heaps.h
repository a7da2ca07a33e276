// SPDX-License-Identifier: MIT
// Who has used a device heap, the memory of malloc() in kernels, which cannot be restored. Having code that could is no harm:
// what has run is noted, and looked at once a snapshot is taken.
//
// Measured on an H200 (driver 580): the heap comes to be with the first launch of a kernel that calls malloc(), from a multiple of
// 2 MiB on, with as many bytes as cuCtxGetLimit then says; the same address in every process, ASLR or not, but 2 MiB and more
// further on where executable graphs or contexts took memory before. Copies and cuMemGetAddressRange do not know it, kernels read
// and write it. Part of what malloc() goes by is not in it:
// - Eight fresh processes get the same 4000 pieces, on any multiprocessor and in any warp. Reading all bytes and writing them back
//   as they are changes nothing. But the bytes of before ten pieces were had, put back after them in the same process: malloc() fails
//   seven times of ten, each after 25 ms, and more of them hang or fault.
// - Put into a fresh process the lists in it are whole, and no piece was had twice in any try. But malloc() and free() then take 45 us
//   where they took 1300 in the process that the bytes are from: what that one knew of its heap has not come along.
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
