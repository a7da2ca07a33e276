// SPDX-License-Identifier: MIT
// Mutated conversations with the control program, and mutated answers of it: nothing crashes, nothing too long gets through, and
// nothing of them stays in memory. A run has a seed of its own, which it prints; with it as argument it is repeated, and a second
// argument is the number of conversations. With clang there is control_fuzzer, too, libFuzzer's program for the same (meson.build).
#include <rpc/rpc.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <span>
#include <thread>
#include <vector>

#include "control_convert.h"
#include "control_service.h"
#include "cricket/unique_fd.h"

namespace {

using namespace cricket::server;
using cricket::UniqueFd;
using Bytes = std::vector<uint8_t>;

void expect(bool holds, const char* what) {
    if (holds) return;
    std::fprintf(stderr, "FAILED: %s\n", what);
    std::abort();
}

// Answers with what it was given.
struct Echo : ControlService {
    static OpResult with(const std::string& target, const std::string& folder = {}) {
        expect(target.size() <= CTL_NAME && folder.size() <= CTL_PATH, "a string is longer than control.x allows");
        return OpResult::failure(target + folder);
    }
    static SnapshotState state(const std::string& target, uint64_t id) {
        SnapshotState state;
        state.error = with(target).error;
        state.id = id;
        return state;
    }
    static LoadResult loaded(const std::string& folder, const std::string& devices) { return {with({}, folder + (with({}, devices).ok ? "" : "!")), one()}; }
    static SessionStatus one() {
        SessionStatus session;
        session.program = "program";
        session.unsupported = {{"cuFunction", "library.so", 3}};
        return session;
    }
    ControlStatus status() override { return {1, "version", "driver", {one(), one()}}; }
    OpResult quiesce(const std::string& target, uint32_t, bool) override { return with(target); }
    OpResult resume(const std::string& target) override { return with(target); }
    OpResult snapshot(const std::string& target, const std::string& folder, const std::string& checkpoint) override {
        with(checkpoint);
        return with(target, folder);
    }
    SnapshotState begin_snapshot(const std::string& target, const SnapshotRequest& request) override {
        with(request.checkpoint, request.directory);
        with({}, request.base);
        return state(target, request.compress);
    }
    SnapshotState wait_snapshot(const std::string& target, uint64_t id) override { return state(target, id); }
    SnapshotState snapshot_state(const std::string& target, uint64_t id) override { return state(target, id); }
    SnapshotState abort_snapshot(const std::string& target, uint64_t id) override { return state(target, id); }
    OpResult drop(const std::string& target, bool) override { return with(target); }
    LoadResult load(const std::string& folder, const std::string& devices) override { return loaded(folder, devices); }
    LoadResult begin_load(const std::string& folder, const std::string& devices, bool) override { return loaded(folder, devices); }
    LoadResult finish_load(const std::string& target) override { return {with(target), one()}; }
    ReportResult survey(const std::string& target) override { return {with(target), "{}"}; }
    ReportResult check(const std::string& target, const std::string& folder) override { return {with(target, folder), "{}"}; }
    OpResult guard(const std::string& folder) override { return with({}, folder); }
};

// What a peer says, until it has said all.
void conversation(std::span<const uint8_t> said) {
    int ends[2];
    expect(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0, "no socket pair");
    UniqueFd peer(ends[0]), server(ends[1]);
    std::thread listener([&] {
        char heard[4096];
        while (::read(peer.get(), heard, sizeof heard) > 0) {
        }
    });
    std::thread speaker([&] {
        while (!said.empty()) {
            const ssize_t put = ::send(peer.get(), said.data(), said.size(), MSG_NOSIGNAL);
            if (put <= 0) break;
            said = said.subspan(static_cast<size_t>(put));
        }
        ::shutdown(peer.get(), SHUT_WR);
    });
    Echo echo;
    serve_control(server.get(), echo);
    ::shutdown(server.get(), SHUT_RDWR);
    speaker.join();
    listener.join();
}

template <typename Value>
void decode(std::span<const uint8_t> data, bool_t (*routine)(XDR*, Value*)) {
    XDR xdrs;
    xdrmem_create(&xdrs, reinterpret_cast<char*>(const_cast<uint8_t*>(data.data())), static_cast<u_int>(data.size()), XDR_DECODE);
    Value value{};
    if (routine(&xdrs, &value)) {
        if constexpr (requires { from_xdr(value); }) (void)from_xdr(value);
    }
    xdr_destroy(&xdrs);
    xdr_free(reinterpret_cast<xdrproc_t>(routine), reinterpret_cast<char*>(&value));
}

void answers(std::span<const uint8_t> data) {
    decode(data, xdr_ctl_status);
    decode(data, xdr_ctl_result);
    decode(data, xdr_ctl_load_result);
    decode(data, xdr_ctl_report_result);
    decode(data, xdr_ctl_snapshot_state);
    decode(data, xdr_ctl_snapshot_request);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    static const auto ignored = ::signal(SIGPIPE, SIG_IGN);
    (void)ignored;
    if (size == 0) return 0;
    const std::span<const uint8_t> rest(data + 1, size - 1);
    data[0] % 4 == 0 ? answers(rest) : conversation(rest);
    return 0;
}

#ifndef CRICKET_LIBFUZZER
// Blocks of memory in use: what malloc itself tells counts those that it keeps for later.
static std::atomic<long> blocks;

#ifndef __SANITIZE_ADDRESS__
extern "C" {
void* __libc_malloc(size_t);
void* __libc_calloc(size_t, size_t);
void* __libc_realloc(void*, size_t);
void __libc_free(void*);

void* malloc(size_t size) {
    void* block = __libc_malloc(size);
    blocks += block != nullptr;
    return block;
}
void* calloc(size_t count, size_t size) {
    void* block = __libc_calloc(count, size);
    blocks += block != nullptr;
    return block;
}
void* realloc(void* old, size_t size) {
    void* block = __libc_realloc(old, size);
    blocks += (block != nullptr) - (old && (block || size == 0));
    return block;
}
void free(void* block) {
    blocks -= block != nullptr;
    __libc_free(block);
}
}
#endif

namespace {

Bytes encoded(const auto& write) {
    Bytes room(65536);
    XDR xdrs;
    xdrmem_create(&xdrs, reinterpret_cast<char*>(room.data()), static_cast<u_int>(room.size()), XDR_ENCODE);
    expect(write(&xdrs), "a seed is too long");
    room.resize(xdr_getpos(&xdrs));
    return room;
}

void append(Bytes* to, const Bytes& from) { to->insert(to->end(), from.begin(), from.end()); }

template <typename Arguments>
Bytes call(uint32_t procedure, bool_t (*routine)(XDR*, Arguments*), Arguments arguments) {
    Bytes message = encoded([&](XDR* xdrs) {
        rpc_msg head{};
        head.rm_xid = 7;
        head.rm_direction = CALL;
        head.rm_call.cb_rpcvers = RPC_MSG_VERSION;
        head.rm_call.cb_prog = CRICKET_CONTROL;
        head.rm_call.cb_vers = CRICKET_CONTROL_V2;
        head.rm_call.cb_proc = procedure;
        head.rm_call.cb_cred = head.rm_call.cb_verf = _null_auth;
        return xdr_callmsg(xdrs, &head) && routine(xdrs, &arguments);
    });
    const uint32_t mark = htonl(static_cast<uint32_t>(message.size()) | 0x80000000u);
    Bytes record(sizeof mark);
    std::memcpy(record.data(), &mark, sizeof mark);
    append(&record, message);
    return record;
}

std::vector<Bytes> seeds() {
    static char target[] = "s1", folder[] = "/some/where", none[] = "";
    char* text = target;
    int criu = 4711;
    const auto nothing = +[](XDR*, int*) -> bool_t { return TRUE; };
    std::vector<Bytes> all = {
        call<int>(CTL_STATUS, nothing, 0),
        call<ctl_quiesce_args>(CTL_QUIESCE, xdr_ctl_quiesce_args, {target, 1000, TRUE}),
        call<ctl_target>(CTL_RESUME, xdr_ctl_target, text),
        call<ctl_snapshot_args>(CTL_SNAPSHOT, xdr_ctl_snapshot_args, {target, folder, none}),
        call<ctl_drop_args>(CTL_DROP, xdr_ctl_drop_args, {target, FALSE}),
        call<ctl_folder>(CTL_LOAD, xdr_ctl_folder, folder),
        call<ctl_snapshot_request>(CTL_SNAPSHOT_BEGIN, xdr_ctl_snapshot_request, {target, folder, none, folder, TRUE, TRUE, 3, FALSE, FALSE}),
        call<ctl_snapshot_id>(CTL_SNAPSHOT_WAIT, xdr_ctl_snapshot_id, {target, 9}),
        call<ctl_target>(CTL_SURVEY, xdr_ctl_target, text),
        call<ctl_check_args>(CTL_CHECK, xdr_ctl_check_args, {target, folder}),
        call<ctl_load_args>(CTL_LOAD_ON, xdr_ctl_load_args, {folder, none}),
        call<ctl_folder>(CTL_GUARD, xdr_ctl_folder, folder),
        call<ctl_criu_args>(CTL_CRIU_DUMPED, xdr_ctl_criu_args, {1, 2, TRUE}),
        call<int>(CTL_CRIU_RESTORES, xdr_int, criu),
    };
    Bytes together;
    for (const Bytes& one : all) append(&together, one);
    all.push_back(std::move(together));
    for (Bytes& one : all) one.insert(one.begin(), 1);
    all.push_back(encoded([](XDR* xdrs) {
        ctl_status status{};
        to_xdr(Echo().status(), &status);
        uint32_t kind = 0;  // its last byte is the first of the input, the others are in front of an answer's pid
        const bool good = xdr_u_int(xdrs, &kind) && xdr_ctl_status(xdrs, &status);
        xdr_free(reinterpret_cast<xdrproc_t>(xdr_ctl_status), reinterpret_cast<char*>(&status));
        return good;
    }));
    all.back().erase(all.back().begin(), all.back().begin() + 3);
    return all;
}

Bytes mutated(Bytes input, const std::vector<Bytes>& all, std::mt19937& random) {
    const auto below = [&](size_t end) { return end ? random() % end : 0; };
    for (size_t changes = 1 + below(4); changes > 0 && input.size() > 1; --changes) {
        const size_t at = 1 + below(input.size() - 1);
        switch (below(6)) {
            case 0: input[at] ^= static_cast<uint8_t>(1u << below(8)); break;
            case 1: input[at] = static_cast<uint8_t>(random()); break;
            case 2: input.resize(at); break;
            case 3: {  // a word, as lengths and record marks are
                constexpr uint32_t words[] = {0, 1, 127, 128, 129, 4096, 4097, 65536, 0x7fffffff, 0x80000000, 0x80000001, 0xfffffffc, 0xffffffff};
                const uint32_t word = htonl(words[below(std::size(words))]);
                const size_t aligned = 1 + (at - 1) / 4 * 4;
                if (aligned + sizeof word <= input.size()) std::memcpy(&input[aligned], &word, sizeof word);
                break;
            }
            case 4: {
                const Bytes& other = all[below(all.size())];
                input.insert(input.begin() + static_cast<std::ptrdiff_t>(at), other.begin() + 1, other.end());
                break;
            }
            default: input.insert(input.begin() + static_cast<std::ptrdiff_t>(at), below(5000), static_cast<uint8_t>(random())); break;
        }
        if (input.size() > 60000) input.resize(60000);
    }
    return input;
}

}  // namespace

int main(int argc, char** argv) {
    const unsigned seed = argc > 1 ? static_cast<unsigned>(std::strtoul(argv[1], nullptr, 10)) : std::random_device()();
    const unsigned long rounds = argc > 2 ? std::strtoul(argv[2], nullptr, 10) : 2000;
    std::printf("seed %u\n", seed);
    std::fflush(stdout);
    const std::vector<Bytes> all = seeds();
    for (const Bytes& one : all) LLVMFuzzerTestOneInput(one.data(), one.size());
    // The second time everything has what it keeps.
    long before = 0, after = 0;
    for (long* in_use : {&before, &after}) {
        std::mt19937 random(seed);
        for (unsigned long i = 0; i < rounds; ++i) {
            const Bytes input = mutated(all[random() % all.size()], all, random);
            LLVMFuzzerTestOneInput(input.data(), input.size());
        }
        *in_use = blocks;
    }
    std::printf("twice %lu conversations, %ld blocks of memory in use before the second time and %ld after\n", rounds, before, after);
    std::fflush(stdout);
    expect(after < before + 64, "what was said is still in memory");
    return 0;
}
#endif
