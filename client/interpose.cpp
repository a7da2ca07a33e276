// SPDX-License-Identifier: MIT
// dlopen of the driver by a path must not escape us. By its plain name, libcuda.so.1, the dynamic linker
// finds this library already loaded under that DT_SONAME; a path (or the development name libcuda.so) would
// load the real one.
//
// The next dlopen looks at its return address: the caller's RPATH, RUNPATH, $ORIGIN and namespace depend on
// it. So everything that is not ours is passed on by a jump, which leaves the caller's return address in
// place.
#include <dlfcn.h>
#include <link.h>

#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "client/interpose.h"
#include "client/log.h"

namespace cricket::client {

bool names_driver(const char* file) {
    if (!file) return false;
    const char* slash = std::strrchr(file, '/');
    const char* base = slash ? slash + 1 : file;
    constexpr char driver[] = "libcuda.so";
    if (std::strncmp(base, driver, sizeof driver - 1) != 0) return false;
    const char* rest = base + sizeof driver - 1;
    if (*rest == 0) return true;
    // libcuda.so.1, libcuda.so.580.159.04
    return rest[0] == '.' && rest[1] && std::strspn(rest, ".0123456789") == std::strlen(rest);
}

}  // namespace cricket::client

namespace {

using Dlopen = void* (*)(const char*, int);

// glibc's, or that of the next library that interposes it.
Dlopen next_dlopen() {
    static constinit std::atomic<Dlopen> next{nullptr};
    Dlopen known = next.load(std::memory_order_acquire);
    if (known) return known;
    known = reinterpret_cast<Dlopen>(dlsym(RTLD_NEXT, "dlopen"));
    if (!known) abort();  // a process without dlopen does not get here through dlopen
    next.store(known, std::memory_order_release);
    return known;
}

void* open_self(const char* file, int mode) {
    using namespace cricket::client;
    // By our own path, which the dynamic linker recognises as loaded even when the current directory is
    // another one: it compares the name we were loaded under first.
    Dl_info self;
    link_map* map = nullptr;
    if (!dladdr1(reinterpret_cast<void*>(&open_self), &self, reinterpret_cast<void**>(&map),
                 RTLD_DL_LINKMAP) ||
        !map)
        return next_dlopen()("libcuda.so.1", mode);
    log(LogLevel::Debug, "dlopen(%s): this library instead", file);
    return next_dlopen()(map->l_name, mode);
}

}  // namespace

extern "C" [[gnu::visibility("hidden"), gnu::used]] Dlopen cricket_choose_dlopen(const char* file) {
    int saved = errno;
    Dlopen chosen = cricket::client::names_driver(file) ? &open_self : next_dlopen();
    errno = saved;
    return chosen;
}

#if !defined(__x86_64__)
#error "dlopen's jump is written for x86-64"
#endif
// void* dlopen(const char* file, int mode): jumps to what cricket_choose_dlopen() returned, with its own
// arguments.
__asm__(R"(
    .text
    .globl dlopen
    .type dlopen, @function
    .p2align 4
dlopen:
    .cfi_startproc
    endbr64
    pushq %rdi
    .cfi_adjust_cfa_offset 8
    pushq %rsi
    .cfi_adjust_cfa_offset 8
    subq $8, %rsp
    .cfi_adjust_cfa_offset 8
    call cricket_choose_dlopen
    addq $8, %rsp
    .cfi_adjust_cfa_offset -8
    popq %rsi
    .cfi_adjust_cfa_offset -8
    popq %rdi
    .cfi_adjust_cfa_offset -8
    jmp *%rax
    .cfi_endproc
    .size dlopen, .-dlopen
)");
