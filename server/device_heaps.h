// SPDX-License-Identifier: MIT
// Who has used a device heap, the memory of malloc() in kernels, which cannot be restored (rpc/spec/snapshot.spec says why). Having
// code that could is no harm: what has run is noted, and looked at once a snapshot is taken.
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
