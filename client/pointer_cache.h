// SPDX-License-Identifier: MIT
// What the client remembers of pointers' attributes: frameworks ask about the same few again and again. An answer is valid
// until a call is made that may change what addresses mean, which is every call but those known not to. Asking takes no
// lock and sends nothing.
#pragma once

#include <cuda.h>

#include <cstdint>

#include "procedures.h"

namespace cricket::client::pointer_cache {

struct Value {
    uint64_t value;
    uint32_t bytes;  // of it that the application gets
};

// `list`: asked by cuPointerGetAttributes, which has answers of its own where there is no such attribute.
bool find(CUdeviceptr pointer, CUpointer_attribute attribute, bool list, Value* out);
// Taken before the server is asked: an answer that crossed a change is not kept.
uint64_t stamp();
void keep(CUdeviceptr pointer, CUpointer_attribute attribute, bool list, uint64_t stamp, const Value& value);

void forget();  // a context is broken: its questions have another answer

// Around a call: what is remembered is void if the call may have changed it.
class Crossing {
  public:
    explicit Crossing(Proc proc);
    ~Crossing();
    Crossing(const Crossing&) = delete;

  private:
    const bool changes_;
};

}  // namespace cricket::client::pointer_cache
