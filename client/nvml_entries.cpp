// SPDX-License-Identifier: MIT
// NVML's functions, exported here for programs and libraries that were linked with NVML: the dynamic linker has
// already given them the machine's own libnvidia-ml.so.1 before it looks at what a preloaded library needs, but it
// binds their calls to the first library that has the name, which is us. Each jumps on to libcricket-nvml.so, loaded
// by the first of them. Who opens NVML with dlopen never comes here (interpose.cpp).
#include <dlfcn.h>

#include <atomic>
#include <cerrno>
#include <cstdint>
#include <cstring>

#include "client/interpose.h"
#include "client/log.h"

namespace {

// Names one behind the other, each with its NUL: no relocations, which would be work at every process's start.
constexpr char names[] =
#define ENTRY(name) #name "\0"
#include "nvml_entries.h"
#undef ENTRY
    ;

enum Number : uint32_t {
#define ENTRY(name) number_##name,
#include "nvml_entries.h"
#undef ENTRY
    count
};

std::atomic<void*> known[count];

constexpr int library_not_found = 12, function_not_found = 13;

int no_library() { return library_not_found; }
int no_function() { return function_not_found; }
const char* no_text(int) { return "cricket's NVML library was not found"; }

void* find(uint32_t number) {
    const char* name = names;
    for (uint32_t i = 0; i < number; ++i) name += std::strlen(name) + 1;
    void* library = cricket::client::nvml_library();
    if (void* function = library ? dlsym(library, name) : nullptr) return function;
    static std::atomic<bool> said{false};
    const char* why = dlerror();
    cricket::client::log_once(said, cricket::client::LogLevel::Error, "%s: %s", name, why ? why : "not found");
    if (number == number_nvmlErrorString) return reinterpret_cast<void*>(no_text);
    return reinterpret_cast<void*>(library ? no_function : no_library);
}

}  // namespace

extern "C" [[gnu::visibility("hidden"), gnu::used]] void* cricket_nvml_function(uint32_t number) {
    void* function = known[number].load(std::memory_order_acquire);
    if (function) return function;
    const int saved = errno;
    function = find(number);
    known[number].store(function, std::memory_order_release);
    errno = saved;
    return function;
}

#if !defined(__x86_64__)
#error "NVML's jumps are written for x86-64"
#endif
// Each entry: its number into eax, then on with the caller's registers to what cricket_nvml_function() returned.
__asm__(R"(
    .text
    .type cricket_nvml_jump, @function
    .p2align 4
cricket_nvml_jump:
    .cfi_startproc
    pushq %rdi
    .cfi_adjust_cfa_offset 8
    pushq %rsi
    .cfi_adjust_cfa_offset 8
    pushq %rdx
    .cfi_adjust_cfa_offset 8
    pushq %rcx
    .cfi_adjust_cfa_offset 8
    pushq %r8
    .cfi_adjust_cfa_offset 8
    pushq %r9
    .cfi_adjust_cfa_offset 8
    subq $8, %rsp
    .cfi_adjust_cfa_offset 8
    movl %eax, %edi
    call cricket_nvml_function
    addq $8, %rsp
    .cfi_adjust_cfa_offset -8
    popq %r9
    .cfi_adjust_cfa_offset -8
    popq %r8
    .cfi_adjust_cfa_offset -8
    popq %rcx
    .cfi_adjust_cfa_offset -8
    popq %rdx
    .cfi_adjust_cfa_offset -8
    popq %rsi
    .cfi_adjust_cfa_offset -8
    popq %rdi
    .cfi_adjust_cfa_offset -8
    jmp *%rax
    .cfi_endproc
    .size cricket_nvml_jump, .-cricket_nvml_jump
    .set cricket_nvml_number, 0
    .macro cricket_nvml_entry name
    .globl \name
    .type \name, @function
    .p2align 4
\name:
    endbr64
    movl $cricket_nvml_number, %eax
    jmp cricket_nvml_jump
    .size \name, .-\name
    .set cricket_nvml_number, cricket_nvml_number + 1
    .endm
)"
#define ENTRY(name) "cricket_nvml_entry " #name "\n"
#include "nvml_entries.h"
);
