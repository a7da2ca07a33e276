// SPDX-License-Identifier: MIT
// A call of NVML as XDR, both ends of it, from the description's table.
//
// Call: for each parameter in order
//   U32, I32, U64, Handle   its value (a handle is the server's number for it)
//   Text                    bool present, then a string
//   HandleOut               bool present
//   Memory                  bool present, then bytes<> (none for an array that only comes back), then, where the
//                           struct has a pointer, bool present and its array as bytes<>
// Reply: int status, then for each parameter that is memory and present: bytes<>, and the inner array's bytes<>.
#pragma once

#include <rpc/rpc.h>

#include <cstdint>

#include "rpc/nvml/function.h"

namespace cricket::nvml {

using Words = uint64_t[most_parameters];

// Client. Reads the application's memory. False: an argument is beyond our limits or the message does not fit.
bool encode_call(XDR* xdrs, const Function& function, const Words& words);
// Client. Writes the application's memory, nothing when the reply does not match the call.
bool decode_reply(XDR* xdrs, const Function& function, const Words& words, int* status);

// Server: what stands between the driver's pointers and what the application has in their place.
class Translator {
  public:
    virtual ~Translator() = default;
    // 0 stays 0, and so does what is not known.
    virtual uint64_t number_of(HandleKind kind, void* real) = 0;
    virtual void* real_of(HandleKind kind, uint64_t number) = 0;
    virtual uint32_t application_of(uint32_t pid) = 0;
};

// Server: the arguments of one call, in memory of its own.
class Arguments {
  public:
    Arguments() = default;
    ~Arguments();
    Arguments(const Arguments&) = delete;
    Arguments& operator=(const Arguments&) = delete;

    bool decode(XDR* xdrs, const Function& function, Translator& translator);
    // Translates what came back, then encodes it.
    bool encode_reply(XDR* xdrs, const Function& function, int status, Translator& translator);
    const Words& words() const { return words_; }

  private:
    struct Buffer {
        char* data = nullptr;
        uint32_t bytes = 0;   // that belong to the application; there is room behind them
        char* inner = nullptr;
        uint32_t inner_bytes = 0;
    };
    uint32_t count_of(const Function& function, const Parameter& parameter) const;
    uint32_t returned_bytes(const Function& function, unsigned index, int status) const;
    void translate(const Function& function, unsigned index, uint32_t bytes, Translator& translator);
    static char* room_for(uint32_t bytes);

    Words words_{};
    Buffer buffers_[most_parameters];
};

}  // namespace cricket::nvml
