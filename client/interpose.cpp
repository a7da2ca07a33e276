// SPDX-License-Identifier: MIT
// dlopen of the driver by a path must not escape us. By its plain name, libcuda.so.1, the dynamic linker
// finds this library already loaded under that DT_SONAME; a path (or the development name libcuda.so) would
// load the real one. NVML is asked for by whatever name, and is a library of ours beside this one.
//
// The next dlopen looks at its return address: the caller's RPATH, RUNPATH, $ORIGIN and namespace depend on
// it. So everything that is not ours is passed on by a jump, which leaves the caller's return address in
// place.
#include <dlfcn.h>
#include <link.h>

#include <atomic>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "client/interpose.h"
#include "client/log.h"

namespace cricket::client {

// NAME, NAME.1, NAME.580.159.04, wherever it lies.
static bool names(const char* file, const char* name) {
    if (!file) return false;
    const char* slash = std::strrchr(file, '/');
    const char* base = slash ? slash + 1 : file;
    const size_t length = std::strlen(name);
    if (std::strncmp(base, name, length) != 0) return false;
    const char* rest = base + length;
    if (*rest == 0) return true;
    return rest[0] == '.' && rest[1] && std::strspn(rest, ".0123456789") == std::strlen(rest);
}

bool names_driver(const char* file) { return names(file, "libcuda.so"); }
bool names_nvml(const char* file) { return names(file, "libnvidia-ml.so"); }
bool names_video(const char* file) { return names(file, "libnvcuvid.so") || names(file, "libnvidia-encode.so"); }

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

// The path we were loaded under, null if the linker does not know it.
const char* own_path() {
    Dl_info self;
    link_map* map = nullptr;
    if (!dladdr1(reinterpret_cast<void*>(&own_path), &self, reinterpret_cast<void**>(&map), RTLD_DL_LINKMAP) || !map)
        return nullptr;
    return map->l_name;
}

void* open_self(const char* file, int mode) {
    using namespace cricket::client;
    // By our own path, which the dynamic linker recognises as loaded even when the current directory is
    // another one: it compares the name we were loaded under first.
    const char* path = own_path();
    if (!path) return next_dlopen()("libcuda.so.1", mode);
    log(LogLevel::Debug, "dlopen(%s): this library instead", file);
    return next_dlopen()(path, mode);
}

// The folder we were loaded from, with the slash; empty if nobody knows. A relative path means nothing any more once
// the program has changed its directory, so then the kernel is asked.
void own_folder(char (&folder)[4096]) {
    folder[0] = 0;
    const char* path = own_path();
    if (path && path[0] == '/') std::snprintf(folder, sizeof folder, "%s", path);
    FILE* maps = folder[0] ? nullptr : std::fopen("/proc/self/maps", "re");
    char line[4096 + 128];
    const auto here = reinterpret_cast<uintptr_t>(&own_folder);
    while (maps && std::fgets(line, sizeof line, maps)) {
        char* end = nullptr;
        const uintptr_t first = std::strtoul(line, &end, 16), last = std::strtoul(end + 1, nullptr, 16);
        const char* name = std::strchr(line, '/');
        if (here >= first && here < last && name) std::snprintf(folder, sizeof folder, "%s", name);
    }
    if (maps) std::fclose(maps);
    char* slash = std::strrchr(folder, '/');
    if (slash) slash[1] = 0;
}

// libcricket-nvml.so, which lies beside us. If it is not there, dlopen says so: never the machine's own.
void* open_nvml(const char* file, int mode) {
    using namespace cricket::client;
    char folder[4096], path[4096 + 32];
    own_folder(folder);
    std::snprintf(path, sizeof path, "%slibcricket-nvml.so", folder);
    log(LogLevel::Debug, "dlopen(%s): %s instead", file, path);
    return next_dlopen()(path, mode);
}

// Video engines work through device files in the application itself. Without the library, programs use what does not need
// it (nvJPEG decodes with kernels); with it they wait for a device that is not there.
void* refuse_video(const char* file, int mode) {
    using namespace cricket::client;
    static std::atomic<bool> said{false};
    log_once(said, LogLevel::Warn, "dlopen(%s) is refused: video engines need the GPU in the application", file);
    return next_dlopen()("video engines are not available through cricket-server", mode);
}

}  // namespace

namespace cricket::client {
void* nvml_library() { return open_nvml("libnvidia-ml.so.1", RTLD_LAZY | RTLD_LOCAL); }
}  // namespace cricket::client

extern "C" [[gnu::visibility("hidden"), gnu::used]] Dlopen cricket_choose_dlopen(const char* file) {
    int saved = errno;
    Dlopen chosen = cricket::client::names_driver(file) ? &open_self
                    : cricket::client::names_nvml(file) ? &open_nvml
                    : cricket::client::names_video(file) ? &refuse_video
                                                        : next_dlopen();
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
