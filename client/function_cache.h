// SPDX-License-Identifier: MIT
// What the client remembers of kernels and functions: runtimes ask for the same attributes tens of thousands of times.
// Entries are never removed, only outdated: everything when code or a context goes, settings when any is changed. Asking
// takes no lock.
#pragma once

#include <cstdint>

namespace cricket::client::function_cache {

enum class What : uint8_t { FunctionAttribute = 1, KernelAttribute, FunctionOfKernel, Name, Module, Library };

struct Key {
    uint64_t handle;    // session number
    uint64_t where;     // context or device, as the question has it
    What what;
    uint32_t attribute = 0;
};

// What an answer is valid for, taken before the server is asked: one that crossed a change is not kept.
uint64_t stamp(const Key& key);
bool find(const Key& key, uint64_t* value);
void keep(const Key& key, uint64_t stamp, uint64_t value);
void outdate(const Key& key);

// Attributes that can be set, of all functions or all kernels, may have changed.
void function_settings_changed();
void kernel_settings_changed();
void forget_all();       // a module, a library or a context is gone
void forget_in_child();  // of a fork

}  // namespace cricket::client::function_cache
