// SPDX-License-Identifier: MIT
#include "client/image_offer.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>

#include "client/keep_errno.h"
#include "client/session.h"
#include "client/whole_io.h"
#include "cricket/image_offer.h"

namespace cricket::client {
namespace {

struct File {
    uint64_t begin = 0, end = 0;  // addresses that show it without a gap
    uint64_t offset = 0;          // of `begin` in the file
    uint64_t inode = 0;
    bool writable = false;
    char path[1024] = {};
};

// One line of /proc/self/maps: begin-end perms offset device inode path.
bool parse(char* line, File* found) {
    char* at = line;
    found->begin = std::strtoull(at, &at, 16);
    if (*at++ != '-') return false;
    found->end = std::strtoull(at, &at, 16);
    if (*at++ != ' ' || std::strlen(at) < 5) return false;
    found->writable = at[1] == 'w';
    at += 5;
    found->offset = std::strtoull(at, &at, 16);
    while (*at == ' ') ++at;
    while (*at && *at != ' ') ++at;  // the device: not what stat says on an overlay
    found->inode = std::strtoull(at, &at, 10);
    while (*at == ' ') ++at;
    const size_t length = std::strlen(at);
    if (length >= sizeof found->path) return false;
    std::memcpy(found->path, at, length + 1);
    return true;
}

// The file behind [address, address + size), which several mappings may show one behind the other.
bool find_file(uint64_t address, uint64_t size, File* found) {
    const int fd = ::open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
    if (fd < 0) return false;
    char buffer[8192];
    size_t held = 0;
    bool inside = false, done = false;
    for (ssize_t got; !done && (got = ::read(fd, buffer + held, sizeof buffer - held - 1)) != 0;) {
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) break;
        held += static_cast<size_t>(got);
        char* line = buffer;
        for (char* end; !done && (end = static_cast<char*>(std::memchr(line, '\n', held - (line - buffer)))); line = end + 1) {
            *end = 0;
            File one;
            if (!parse(line, &one)) continue;
            if (!inside) {
                if (address < one.begin || address >= one.end) continue;
                if (!one.inode || one.path[0] != '/') done = true;
                *found = one;
                inside = !done;
            } else if (one.begin == found->end && one.inode == found->inode &&
                       one.offset == found->offset + (found->end - found->begin)) {
                found->end = one.end;
                found->writable |= one.writable;
            } else {
                done = true;
            }
            if (inside && address + size <= found->end) {
                ::close(fd);
                return true;
            }
        }
        held -= static_cast<size_t>(line - buffer);
        std::memmove(buffer, line, held);
        if (held == sizeof buffer - 1) break;  // a line of absurd length
    }
    ::close(fd);
    return false;
}

// Whether the file has at `offset` what the application sees. In what may have been written to, every byte counts (cuFFT
// keeps its images in .ldata); elsewhere the samples tell a file that was replaced.
bool all_same(int fd, uint64_t offset, const std::byte* image, uint64_t size) {
    const uint64_t before = offset % 4096;
    void* mapping = ::mmap(nullptr, before + size, PROT_READ, MAP_PRIVATE, fd, static_cast<off_t>(offset - before));
    if (mapping == MAP_FAILED) return false;
    const bool same = std::memcmp(static_cast<std::byte*>(mapping) + before, image, size) == 0;
    ::munmap(mapping, before + size);
    return same;
}

bool samples_same(int fd, uint64_t offset, const std::byte* image, uint64_t size) {
    std::byte buffer[4096];
    return wire::each_sample(size, [&](uint64_t from, uint64_t bytes) {
        for (uint64_t done = 0; done < bytes;) {
            const uint64_t piece = bytes - done < sizeof buffer ? bytes - done : sizeof buffer;
            if (::pread(fd, buffer, piece, static_cast<off_t>(offset + from + done)) != static_cast<ssize_t>(piece) ||
                std::memcmp(buffer, image + from + done, piece) != 0)
                return false;
            done += piece;
        }
        return true;
    });
}

int open_file(const void* image, uint64_t size, uint64_t* offset) {
    const auto address = reinterpret_cast<uint64_t>(image);
    File file;
    if (!find_file(address, size, &file)) return -1;
    *offset = file.offset + (address - file.begin);
    const int fd = ::open(file.path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return -1;
    struct stat about;
    if (::fstat(fd, &about) == 0 && S_ISREG(about.st_mode) && about.st_ino == file.inode &&
        static_cast<uint64_t>(about.st_size) >= *offset + size &&
        (file.writable ? all_same : samples_same)(fd, *offset, static_cast<const std::byte*>(image), size))
        return fd;
    ::close(fd);
    return -1;
}

int make_memfd(const void* image, uint64_t size) {
    const int fd = ::memfd_create("cricket-image", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0) return -1;
    if (write_whole(fd, image, size) && ::fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL) == 0) return fd;
    ::close(fd);
    return -1;
}

}  // namespace

bool offer_image(Session& session, const void* image, uint64_t size, uint64_t* id) {
    if (size < wire::smallest_offer || size > wire::largest_offer || !session.ring()) return false;
    const KeepErrno errno_stays;
    wire::ImageOffer offer{};
    offer.magic = wire::image_magic;
    offer.protocol = wire::protocol_version;
    offer.size = size;
    int fd = open_file(image, size, &offer.offset);
    if (fd < 0) {
        offer.offset = 0;
        fd = make_memfd(image, size);
    }
    bool sent = false;
    if (fd >= 0 && ::getrandom(&offer.id, sizeof offer.id, 0) == sizeof offer.id) {
        offer.hash = wire::sampled_hash(static_cast<const std::byte*>(image), size);
        sent = session.send_offer(offer, fd);
        *id = offer.id;
    }
    if (fd >= 0) ::close(fd);
    return sent;
}

}  // namespace cricket::client
