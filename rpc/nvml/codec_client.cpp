// SPDX-License-Identifier: MIT
#include <cstring>

#include "rpc/nvml/codec.h"

namespace cricket::nvml {
namespace {

char* pointer(uint64_t word) { return reinterpret_cast<char*>(word); }

uint32_t word_at(const char* place) {
    uint32_t value;
    std::memcpy(&value, place, sizeof value);
    return value;
}

// The elements that the caller says there is room for.
uint64_t count_of(const Function& function, const Parameter& parameter, const Words& words) {
    if (parameter.count < 0) return 1;
    const uint64_t word = words[parameter.count];
    switch (function.parameter[parameter.count].kind) {
        case Kind::U32: return static_cast<uint32_t>(word);
        case Kind::I32: return static_cast<int32_t>(word) > 0 ? static_cast<uint32_t>(word) : 0;
        default: return word ? word_at(pointer(word)) : 0;
    }
}

// A version whose size we do not know is for the driver to refuse: it gets to see that word only.
uint64_t versioned_bytes(const Parameter& parameter, const char* place) {
    const uint32_t said = word_at(place) & 0xffffff;
    return said >= 4 && said <= parameter.element ? said : 4;
}

uint64_t memory_bytes(const Function& function, const Parameter& parameter, const Words& words, const char* place) {
    if (parameter.versioned) return versioned_bytes(parameter, place);
    return count_of(function, parameter, words) * parameter.element;
}

bool has_inner(const Parameter& parameter, uint64_t bytes) {
    return parameter.inner.element && bytes >= parameter.inner.offset + sizeof(char*);
}

struct InnerArray {
    char* data;
    uint64_t bytes;
};
InnerArray inner_of(const Parameter& parameter, const char* place) {
    InnerArray array{};
    std::memcpy(&array.data, place + parameter.inner.offset, sizeof array.data);
    array.bytes = uint64_t(word_at(place + parameter.inner.count_offset)) * parameter.inner.element;
    return array;
}

bool encode_bytes(XDR* xdrs, const char* data, uint64_t bytes) {
    uint32_t length = static_cast<uint32_t>(bytes);
    return bytes <= most_bytes && ::xdr_u_int(xdrs, &length) && ::xdr_opaque(xdrs, const_cast<char*>(data), length);
}

bool encode_memory(XDR* xdrs, const Function& function, const Parameter& parameter, const Words& words,
                   const char* place) {
    const uint64_t bytes = memory_bytes(function, parameter, words, place);
    if (bytes > most_bytes) return false;
    if (parameter.only_returned()) return encode_bytes(xdrs, nullptr, 0);
    if (!encode_bytes(xdrs, place, bytes)) return false;
    if (!has_inner(parameter, bytes)) return true;
    const InnerArray array = inner_of(parameter, place);
    bool_t present = array.data != nullptr;
    return ::xdr_bool(xdrs, &present) && (!present || encode_bytes(xdrs, array.data, array.bytes));
}

bool encode_one(XDR* xdrs, const Function& function, const Parameter& parameter, const Words& words, uint64_t word) {
    auto narrow = static_cast<uint32_t>(word);
    u_quad_t wide = word;
    bool_t present = word != 0;
    switch (parameter.kind) {
        case Kind::U32:
        case Kind::I32: return ::xdr_u_int(xdrs, &narrow);
        case Kind::U64:
        case Kind::Handle: return ::xdr_u_hyper(xdrs, &wide);
        case Kind::HandleOut: return ::xdr_bool(xdrs, &present);
        case Kind::Text: {
            char* text = pointer(word);
            return ::xdr_bool(xdrs, &present) && (!present || ::xdr_string(xdrs, &text, most_text));
        }
        case Kind::Memory:
            return ::xdr_bool(xdrs, &present) &&
                   (!present || encode_memory(xdrs, function, parameter, words, pointer(word)));
    }
    return false;
}

// Copies bytes<> of the reply to `place`; at most `limit`.
bool decode_bytes(XDR* xdrs, char* place, uint64_t limit, uint32_t* bytes) {
    return ::xdr_u_int(xdrs, bytes) && *bytes <= limit && ::xdr_opaque(xdrs, place, *bytes);
}

bool decode_memory(XDR* xdrs, const Parameter& parameter, char* place, uint64_t limit) {
    uint32_t bytes = 0;
    if (!has_inner(parameter, limit)) return decode_bytes(xdrs, place, limit, &bytes);
    // The count as it was before the call is what the caller has room for, and the pointer stays the caller's.
    const InnerArray array = inner_of(parameter, place);
    if (!decode_bytes(xdrs, place, limit, &bytes)) return false;
    std::memcpy(place + parameter.inner.offset, &array.data, sizeof array.data);
    return !array.data || decode_bytes(xdrs, array.data, array.bytes, &bytes);
}

}  // namespace

bool encode_call(XDR* xdrs, const Function& function, const Words& words) {
    for (unsigned i = 0; i < function.parameters; ++i)
        if (!encode_one(xdrs, function, function.parameter[i], words, words[i])) return false;
    return true;
}

bool decode_reply(XDR* xdrs, const Function& function, const Words& words, int* status) {
    if (!::xdr_int(xdrs, status)) return false;
    // Before anything is written: the counts say how much room there is.
    uint64_t limits[most_parameters] = {};
    for (unsigned i = 0; i < function.parameters; ++i) {
        const Parameter& parameter = function.parameter[i];
        if (parameter.returned_count)
            limits[i] = most_returned;
        else if (parameter.kind == Kind::HandleOut)
            limits[i] = count_of(function, parameter, words) * sizeof(void*);
        else if (parameter.kind == Kind::Memory && words[i])
            limits[i] = memory_bytes(function, parameter, words, pointer(words[i]));
    }
    for (unsigned i = 0; i < function.parameters; ++i) {
        const Parameter& parameter = function.parameter[i];
        if ((parameter.kind != Kind::HandleOut && parameter.kind != Kind::Memory) || !words[i]) continue;
        if (!decode_memory(xdrs, parameter, pointer(words[i]), limits[i])) return false;
    }
    return true;
}

}  // namespace cricket::nvml
