// SPDX-License-Identifier: MIT
// What the description (rpc/spec/nvml) says of a function, as both ends read it. NVML passes nothing but integers and
// pointers, at most six of them, so a call is six words and this table.
#pragma once

#include <cstdint>

namespace cricket::nvml {

enum class Kind : uint8_t { U32, I32, U64, Handle, HandleOut, Text, Memory };
enum class HandleKind : uint8_t { None, Device, Unit, GpuInstance, ComputeInstance };
enum class MemberKind : uint8_t { None, Pid, Device, Unit, GpuInstance, ComputeInstance };

inline constexpr unsigned most_parameters = 6;
inline constexpr uint32_t most_bytes = 4u << 20;      // of one parameter, from the application or from the wire
inline constexpr uint32_t most_returned = 64u << 10;  // of an array whose length only the answer tells
inline constexpr uint32_t most_text = 4096;

struct Member {  // of a struct that comes back: translated in the server
    uint16_t offset = 0;
    MemberKind kind = MemberKind::None;
};

struct Inner {  // a pointer inside a struct to `count` (a u32 of the struct) elements; element 0: none
    uint16_t offset = 0;
    uint16_t element = 0;
    uint16_t count_offset = 0;
};

struct Parameter {
    Kind kind = Kind::U32;
    HandleKind handle = HandleKind::None;
    uint32_t element = 0;         // bytes of an element (HandleOut: 8); a versioned struct's largest version
    int8_t count = -1;            // the parameter that counts the elements; -1: there is one
    bool by_reference = false;    // that parameter is a pointer
    bool returned_count = false;  // and what it points at means nothing before the call
    bool versioned = false;       // the struct's first word says its size in its low 24 bits
    Inner inner = {};
    Member members[2] = {};

    // An array that only comes back, and only as far as its count then says. Others are copied both ways as a whole,
    // so that what the driver leaves alone stays what it was.
    bool only_returned() const {
        return kind == Kind::HandleOut || returned_count || (by_reference && element > 1);
    }
};

struct Function {
    const char* name;
    uint32_t procedure;
    uint8_t parameters;
    bool always;    // answered without nvmlInit
    uint16_t slot;  // in the undocumented table of nvidia-smi; 0: it is exported by its name
    Parameter parameter[most_parameters];
};

// The table's name, for nvmlInternalGetExportTable. Its first word is its size in bytes.
inline constexpr unsigned char table_uuid[16] = {0xc4, 0xfe, 0x3e, 0x6c, 0xc9, 0x8f, 0x6c, 0x4e,
                                                 0xa3, 0x27, 0xee, 0x69, 0x6e, 0x12, 0xf7, 0xc4};

// NVML's results that we give ourselves.
enum Result : int {
    success = 0,
    uninitialized = 1,
    invalid_argument = 2,
    not_supported = 3,
    no_permission = 4,
    not_found = 6,
    driver_not_loaded = 9,
    library_not_found = 12,
    function_not_found = 13,
    out_of_memory = 20,
    unknown_error = 999,
};

}  // namespace cricket::nvml
