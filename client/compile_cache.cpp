// SPDX-License-Identifier: MIT
#include "client/compile_cache.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "client/keep_errno.h"
#include "client/whole_io.h"
#include "cricket/file_size.h"
#include "cricket/unique_fd.h"
#include "rpc/ring/not_cancelled.h"

namespace cricket::client::compile_cache {

// What is asked: everything that the answer depends on, one behind the other.
struct Question {
    XXH128_hash_t digest;  // names the file, in which the whole of it stands
    size_t bytes;  // 0: never kept
    char* key() { return reinterpret_cast<char*>(this + 1); }
    const char* key() const { return reinterpret_cast<const char*>(this + 1); }
};

namespace {

constexpr uint64_t magic = 0x3130304343524b43;  // "CKRCC001"
constexpr uint64_t default_most = uint64_t(1) << 30, most_ever = uint64_t(4) << 30;
constexpr time_t abandoned_after = 600;  // seconds, for a file that somebody began to write

struct Header {
    uint64_t magic, key_bytes, data_bytes, data_hash;
};

enum Kind : uint32_t { cubin = 1, ptx = 2 };

// The PTX that this thread asked for last. NVRTC asks for the cubin next, with the same input, and does not say there with which options
// the PTX came about: -ftz and the like, without which it would be taken for another's.
struct LastPtx {
    const Question* open;  // not ended yet: nvJitLink asks for the cubin in between
    XXH128_hash_t question, input;
    bool any;
};
constinit thread_local LastPtx last_ptx __attribute__((tls_model("initial-exec"))) = {};

// Bytes that all files may take; 0: no cache.
uint64_t most_bytes() {
    const char* off = std::getenv("CUDA_CACHE_DISABLE");
    if (off && std::atoi(off) != 0) return 0;
    const char* most = std::getenv("CUDA_CACHE_MAXSIZE");
    return most && *most ? std::min<uint64_t>(std::strtoull(most, nullptr, 10), most_ever) : default_most;
}

// The folder, made where it is not there; -1: there is none, or it is not ours alone to write to.
UniqueFd open_folder() {
    char path[PATH_MAX];
    const char *given = std::getenv("CUDA_CACHE_PATH"), *home = std::getenv("HOME");
    int length = -1;
    if (given && *given)
        length = std::snprintf(path, sizeof path, "%s/cricket", given);
    else if (home && *home)
        length = std::snprintf(path, sizeof path, "%s/.nv/ComputeCache/cricket", home);
    if (length < 0 || length >= static_cast<int>(sizeof path)) return {};
    for (char* slash = path; (slash = std::strchr(slash + 1, '/'));) {
        *slash = '\0';
        ::mkdir(path, 0700);
        *slash = '/';
    }
    ::mkdir(path, 0700);
    UniqueFd folder(::open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
    struct stat about {};
    if (!folder || ::fstat(folder.get(), &about) != 0 || about.st_uid != ::geteuid() || about.st_mode & (S_IWGRP | S_IWOTH)) return {};
    return folder;
}

void name_of(const Question& question, uint32_t part, char (&name)[48]) {
    std::snprintf(name, sizeof name, "%016llx%016llx-%x", static_cast<unsigned long long>(question.digest.high64),
                  static_cast<unsigned long long>(question.digest.low64), part);
}

bool read_exactly(int fd, void* to, size_t bytes) { return read_whole(fd, to, bytes) == static_cast<ssize_t>(bytes); }

// The file's data if it answers this question; null: it does not, or is damaged.
char* read_answer(int fd, const Question& question, uint32_t* bytes) {
    Header header{};
    struct stat about {};
    if (::fstat(fd, &about) != 0 || !S_ISREG(about.st_mode) || !read_exactly(fd, &header, sizeof header)) return nullptr;
    const auto size = static_cast<uint64_t>(about.st_size);
    if (header.magic != magic || header.key_bytes != question.bytes || header.data_bytes > UINT32_MAX ||
        size != sizeof header + header.key_bytes + header.data_bytes)
        return nullptr;
    auto* const buffer = static_cast<char*>(std::malloc(std::max<uint64_t>(header.key_bytes, header.data_bytes + 1)));
    if (!buffer) return nullptr;
    if (read_exactly(fd, buffer, question.bytes) && std::memcmp(buffer, question.key(), question.bytes) == 0 &&
        read_exactly(fd, buffer, header.data_bytes) && XXH3_64bits(buffer, header.data_bytes) == header.data_hash) {
        *bytes = static_cast<uint32_t>(header.data_bytes);
        return buffer;
    }
    std::free(buffer);
    return nullptr;
}

// What was not used for longest goes until the rest has room; and what somebody began to write and never finished.
void make_room(int folder, uint64_t most) {
    for (;;) {
        UniqueFd again(::openat(folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
        DIR* const listing = again ? ::fdopendir(again.get()) : nullptr;
        if (!listing) return;
        again.release();
        uint64_t total = 0;
        char oldest[sizeof dirent::d_name] = "";
        timespec used{};
        while (const dirent* one = ::readdir(listing)) {
            struct stat about {};
            if (::fstatat(folder, one->d_name, &about, AT_SYMLINK_NOFOLLOW) != 0 || !S_ISREG(about.st_mode)) continue;
            if (one->d_name[0] == '.' && ::time(nullptr) - about.st_mtim.tv_sec > abandoned_after) {
                ::unlinkat(folder, one->d_name, 0);
                continue;
            }
            total += static_cast<uint64_t>(about.st_size);
            const timespec& at = about.st_mtim;
            if (*oldest && (at.tv_sec != used.tv_sec ? at.tv_sec > used.tv_sec : at.tv_nsec >= used.tv_nsec)) continue;
            used = at;
            std::strcpy(oldest, one->d_name);
        }
        ::closedir(listing);
        if (total <= most || !*oldest || ::unlinkat(folder, oldest, 0) != 0) return;
    }
}

}  // namespace

CUresult begin(Question** question, uint32_t kind, const void* input, size_t bytes, const char* options, const char* target, const char* built,
               uint32_t arch) {
    if (!question || !input || !options || !target || !built) return CUDA_ERROR_INVALID_VALUE;
    const uint32_t numbers[] = {kind, arch};
    const XXH128_hash_t of_input = XXH3_128bits(input, bytes);
    const bool known = kind == ptx || (kind == cubin && last_ptx.any && (last_ptx.open || XXH128_isEqual(last_ptx.input, of_input)));
    const XXH128_hash_t from = kind == cubin ? last_ptx.question : XXH128_hash_t{};
    struct Piece {
        const void* data;
        size_t bytes;
    } const pieces[] = {{numbers, sizeof numbers}, {&from, sizeof from}, {options, std::strlen(options) + 1}, {target, std::strlen(target) + 1},
                        {built, std::strlen(built) + 1}, {input, bytes}};
    size_t total = 0;
    for (const Piece& piece : pieces) total += piece.bytes;
    auto* const asked = static_cast<Question*>(std::malloc(sizeof(Question) + total));
    if (!asked) return CUDA_ERROR_OUT_OF_MEMORY;
    asked->bytes = 0;
    for (const Piece& piece : pieces) {
        std::memcpy(asked->key() + asked->bytes, piece.data, piece.bytes);
        asked->bytes += piece.bytes;
    }
    asked->digest = XXH3_128bits(asked->key(), asked->bytes);
    if (kind == ptx) last_ptx = {asked, asked->digest, of_input, true};
    if (!known) asked->bytes = 0;
    *question = asked;
    return CUDA_SUCCESS;
}

CUresult end(Question* question) {
    if (last_ptx.open == question) last_ptx.open = nullptr;
    std::free(question);
    return CUDA_SUCCESS;
}

CUresult find(Question* question, uint32_t part, void** data, uint32_t* bytes) {
    if (!question || !data || !bytes) return CUDA_ERROR_INVALID_VALUE;
    const ring::NotCancelled whole;
    const KeepErrno errno_stays;
    const UniqueFd folder = question->bytes && most_bytes() ? open_folder() : UniqueFd();
    char name[48];
    name_of(*question, part, name);
    const UniqueFd file(folder ? ::openat(folder.get(), name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC) : -1);
    char* const found = file ? read_answer(file.get(), *question, bytes) : nullptr;
    if (!found) return CUDA_ERROR_NOT_FOUND;
    ::futimens(file.get(), nullptr);
    *data = found;
    return CUDA_SUCCESS;
}

// Written aside and renamed: several processes may compile the same. A compiler goes on where nothing can be stored.
CUresult store(Question* question, uint32_t part, const void* data, uint32_t bytes) {
    if (!question || (!data && bytes)) return CUDA_ERROR_INVALID_VALUE;
    const ring::NotCancelled whole;
    const KeepErrno errno_stays;
    const uint64_t most = most_bytes();
    const Header header{magic, question->bytes, bytes, XXH3_64bits(data, bytes)};
    const uint64_t file_bytes = sizeof header + header.key_bytes + header.data_bytes;
    if (!question->bytes || file_bytes > most || !may_be_as_large(file_bytes)) return CUDA_SUCCESS;
    const UniqueFd folder = open_folder();
    if (!folder) return CUDA_SUCCESS;
    char name[48], aside[48];
    uint64_t random = 0;
    name_of(*question, part, name);
    if (::getrandom(&random, sizeof random, GRND_NONBLOCK) != sizeof random) random = static_cast<uint64_t>(::getpid());
    std::snprintf(aside, sizeof aside, ".%016llx", static_cast<unsigned long long>(random));
    const UniqueFd file(::openat(folder.get(), aside, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
    if (!file) return CUDA_SUCCESS;
    const bool written = write_whole(file.get(), &header, sizeof header) && write_whole(file.get(), question->key(), question->bytes) &&
                         write_whole(file.get(), data, bytes);
    if (!written || ::renameat(folder.get(), aside, folder.get(), name) != 0) ::unlinkat(folder.get(), aside, 0);
    make_room(folder.get(), most);
    return CUDA_SUCCESS;
}

CUresult release(void* data) {
    std::free(data);
    return CUDA_SUCCESS;
}

}  // namespace cricket::client::compile_cache
