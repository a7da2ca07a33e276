// SPDX-License-Identifier: MIT
// Pageable memory that nodes of graphs read and write at each launch: its pages become pages of the memfd, in place, and
// are seen by the worker at the same address, unpinned. What is shared is asked of the kernel (/proc/self/maps) each
// time, because the application may unmap and map memory as it likes: only what is a mapping of our memfd at the offset
// that the worker was told is shared.
#include <map>
#include <mutex>

#include "client/captures.h"
#include "client/fork_pages.h"
#include "client/log.h"
#include "client/own_maps.h"
#include "client/pinned.h"
#include "client/reply_guard.h"
#include "cricket/round_up.h"
#include "rpc/ring/not_cancelled.h"

namespace cricket::client::captures {
namespace {

constexpr uint64_t page = 4096;

struct Told {
    uint64_t end, offset;
};
struct Known {
    std::mutex mutex;
    const Session* session = nullptr;   // a forked child's session knows of nothing
    std::map<uint64_t, Told> told;      // by address: what the worker sees
};
Known& known() {
    static auto* all = new Known;  // never destroyed: see Session::start
    return *all;
}

bool is_told(const Known& all, uint64_t start, uint64_t end, uint64_t offset) {
    auto next = all.told.upper_bound(start);
    if (next == all.told.begin()) return false;
    const auto& [address, range] = *std::prev(next);
    return end <= range.end && offset == range.offset + (start - address);
}

void note_told(Known& all, uint64_t start, uint64_t end, uint64_t offset) {
    auto& told = all.told;
    auto at = told.upper_bound(start);
    if (at != told.begin()) --at;
    while (at != told.end() && at->first < end) {
        const auto [address, range] = *at;
        if (range.end <= start) {
            ++at;
            continue;
        }
        at = told.erase(at);
        if (address < start) told[address] = {start, range.offset};
        if (range.end > end) at = told.insert({end, {range.end, range.offset + (end - address)}}).first;
    }
    told[start] = {end, offset};
}

CUresult tell(Known& all, uint64_t start, uint64_t end, uint64_t offset) {
    cricketSharePages_args args{};
    cricketSharePages_res res{};
    args.address = start;
    args.bytes = end - start;
    args.offset = offset;
    ReplyGuard guard;
    const CUresult result = call(args, res);
    if (result == CUDA_SUCCESS) note_told(all, start, end, offset);
    return result;
}

// One piece of one mapping.
CUresult share_piece(Session& session, Known& all, const OwnMapping& map, uint64_t inode, uint64_t start, uint64_t end,
                     bool from_host, const char** why) {
    HostMemory& host = session.host_memory();
    const bool ours = map.inode == inode && map.shared();
    if (ours) {
        const uint64_t offset = map.offset + (start - map.start);
        if (is_told(all, start, end, offset) || host.contains(reinterpret_cast<void*>(start), end - start)) return CUDA_SUCCESS;
        return tell(all, start, end, offset);
    }
    if (map.shared()) *why = "it is shared with others";
    else if (map.mode[0] != 'r' || (map.mode[1] != 'w' && !from_host)) *why = "its protection does not allow the copy";
    if (*why) return CUDA_ERROR_NOT_SUPPORTED;
    fork_pages::note();
    void* copy = host.allocate(end - start);
    if (!copy) return CUDA_ERROR_OUT_OF_MEMORY;
    const uint64_t offset = reinterpret_cast<uint64_t>(copy) - wire::host_base;
    if (!replace_pages(start, end - start, map.protection(), host.fd(), offset, copy)) {
        host.free(copy);
        return CUDA_ERROR_OUT_OF_MEMORY;
    }
    return tell(all, start, end, offset);
}

}  // namespace

bool share_again(Session& session, uint64_t start, uint64_t end, uint64_t offset) {
    Known& all = known();
    std::lock_guard lock(all.mutex);
    if (all.session != &session) return false;
    auto next = all.told.upper_bound(start);
    if (next != all.told.begin() && std::prev(next)->second.end > start) --next;
    if (next == all.told.end() || next->first >= end) return false;
    return tell(all, start, end, offset) == CUDA_SUCCESS;
}

bool shared_whole(Session& session, uint64_t start, uint64_t end, uint64_t* offset) {
    Known& all = known();
    std::lock_guard lock(all.mutex);
    if (all.session != &session || all.told.empty()) return false;
    const auto next = all.told.upper_bound(start);
    if (next == all.told.begin()) return false;
    const auto& [address, range] = *std::prev(next);
    *offset = range.offset + (start - address);
    if (!is_told(all, start, end, *offset)) return false;
    OwnMaps maps(session.host_memory().fd());
    uint64_t covered = start;
    for (OwnMapping map; maps && covered < end && maps.next(&map);) {
        if (map.end <= covered) continue;
        if (map.start > covered || map.inode != maps.memfd_inode() || !map.shared()) return false;
        if (map.offset + (covered - map.start) != *offset + (covered - start)) return false;
        covered = map.end;
    }
    return covered >= end;
}

CUresult share(Session& session, const void* address, uint64_t bytes, bool from_host) {
    const auto number = reinterpret_cast<uint64_t>(address);
    if (bytes == 0) return CUDA_SUCCESS;
    if (!session.ring()) return unsupported("pageable memory in a graph", "a plain transport shares no memory");
    if (session.host_memory().contains(address, bytes)) return CUDA_SUCCESS;
    uint64_t start = number / page * page;
    const uint64_t end = round_up(number + bytes, page);
    if (number + bytes < number) return CUDA_ERROR_INVALID_VALUE;
    Known& all = known();
    const ring::NotCancelled whole;
    std::lock_guard lock(all.mutex);
    if (all.session != &session) {
        all.told.clear();
        all.session = &session;
    }
    OwnMaps maps(session.host_memory().fd());
    if (!maps) return CUDA_ERROR_OPERATING_SYSTEM;
    OwnMapping map;
    const char* why = nullptr;
    CUresult result = CUDA_SUCCESS;
    while (result == CUDA_SUCCESS && start < end && maps.next(&map)) {
        if (map.end <= start) continue;
        if (map.start > start) break;
        const uint64_t stop = map.end < end ? map.end : end;
        result = share_piece(session, all, map, maps.memfd_inode(), start, stop, from_host, &why);
        if (result == CUDA_SUCCESS) start = stop;
    }
    if (result == CUDA_SUCCESS && start < end) {
        why = "it is not mapped";
        result = CUDA_ERROR_INVALID_VALUE;
    }
    if (why)
        log(LogLevel::Error, "memory [%p, +%llu) of a graph's copy cannot be shared with the server: %s", address,
            static_cast<unsigned long long>(bytes), why);
    else if (result != CUDA_SUCCESS)
        log(LogLevel::Error, "memory [%p, +%llu) of a graph's copy cannot be shared with the server: error %d", address,
            static_cast<unsigned long long>(bytes), static_cast<int>(result));
    return result;
}

}  // namespace cricket::client::captures
