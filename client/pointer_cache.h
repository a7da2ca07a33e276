// SPDX-License-Identifier: MIT
// What the client remembers of pointers' attributes: frameworks ask about the same few again and again. An answer is valid
// until a call is made that may change what addresses mean, which is every call but those known not to. Asking takes no
// lock and sends nothing.
#pragma once

#include <cuda.h>

#include <cstdint>

#include "procedures.h"

namespace cricket::client::pointer_cache {

constexpr unsigned most = 8;  // attributes of one question that are remembered together

struct Answers {
    uint64_t values[most];
    uint8_t bytes[most];  // of each value, what the application gets
};

// What is asked of a pointer, as one number; 0 is a question that is not remembered. `list`: asked by cuPointerGetAttributes,
// which has answers of its own where there is no such attribute.
uint64_t question(const CUpointer_attribute* attributes, unsigned count, bool list);
bool find(CUdeviceptr pointer, uint64_t question, unsigned count, Answers* out);
// Taken before the server is asked: an answer that crossed a change is not kept.
uint64_t stamp();
void keep(CUdeviceptr pointer, uint64_t question, unsigned count, uint64_t stamp, const Answers& answers);

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
