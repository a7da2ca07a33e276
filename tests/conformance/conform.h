// SPDX-License-Identifier: MIT
// What the families of cases have in common: cases that register themselves, and macros that print what a call
// answered. A case prints everything it learns; compare.py judges by comparing two runs of the program.
#pragma once

#include <cuda.h>

#include <cstdint>
#include <cstdio>
#include <string>
#include <vector>

namespace conform {

enum class Group {
    Uninitialized,  // before cuInit
    Bare,           // after cuInit, no context
    Context,        // the primary context of device 0 is current
};

struct Unit {
    std::string name;
    Group group;
    bool alone;  // the process is not used for another case afterwards
    void (*run)(const Unit&);
    const void* data;  // of generated cases
};

std::vector<Unit>& units();
void add_generated();

struct Registration {
    Registration(const char* name, Group group, bool alone, void (*run)(const Unit&)) {
        units().push_back({name, group, alone, run, nullptr});
    }
};

// Prints `NAME TEXT -> CODE` and returns the code.
CUresult told(const char* text, CUresult result);
// The same for a call that should fail. A driver may also say so at a later call: the context is synchronized at once,
// so that the error is told here (`-> CODE later`) and not by a call that has nothing to do with it.
CUresult told_now(const char* text, CUresult result);
void value(const char* name, long long number);
void text(const char* name, const char* text);
void bytes(const char* name, const void* data, size_t size);  // a checksum
void say(const char* what);

// The process is not used for another case: what this one did would be felt.
void retire_process();

// The module of kernels.cu that every case may use, loaded into the current context; 0 when it does not load.
CUmodule kernels();
CUfunction kernel(const char* name);

}  // namespace conform

#define CONFORM_CASE(name, group, alone)                                                                \
    static void name(const conform::Unit&);                                                              \
    static const conform::Registration registration_##name(#name, conform::Group::group, alone, &name); \
    static void name(const conform::Unit&)
#define CASE(name) CONFORM_CASE(name, Context, false)
#define CASE_BARE(name) CONFORM_CASE(name, Bare, true)
#define CASE_UNINITIALIZED(name) CONFORM_CASE(name, Uninitialized, true)
#define CASE_ALONE(name) CONFORM_CASE(name, Context, true)

// CHECK prints the call as it is written, FAULT one that should fail; NEED also ends the case when it failed, since the rest would only repeat it.
#define CHECK(call) conform::told(#call, call)
#define FAULT(call) conform::told_now(#call, call)
#define NEED(call)                                   \
    do {                                             \
        if (conform::told(#call, call) != CUDA_SUCCESS) return; \
    } while (0)
#define VALUE(expression) conform::value(#expression, static_cast<long long>(expression))
