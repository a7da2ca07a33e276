// SPDX-License-Identifier: MIT
// A process that waits may be dumped, and restored where the clock says something else: it still notices that its server is
// gone. This program's clock_gettime and its many cores are its own.
#include <dlfcn.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <time.h>

#include <atomic>
#include <thread>

#include "rpc/ring/ring_client.h"
#include "rpc/ring/ring_server.h"

namespace {

std::atomic<int64_t> clock_offset_s{0};
thread_local int looks_until_restored = -1;  // of this thread; -1: it is not
constexpr int64_t restored_offset_s = -3600;

}  // namespace

extern "C" int clock_gettime(clockid_t clock, timespec* time) noexcept {
    static const auto real = reinterpret_cast<int (*)(clockid_t, timespec*)>(::dlsym(RTLD_NEXT, "clock_gettime"));
    const int result = real(clock, time);
    if (clock == CLOCK_MONOTONIC) {
        if (looks_until_restored > 0 && --looks_until_restored == 0) clock_offset_s = restored_offset_s;
        time->tv_sec += clock_offset_s;
    }
    return result;
}

extern "C" int sched_getaffinity(pid_t, size_t bytes, cpu_set_t* set) noexcept {
    CPU_ZERO_S(bytes, set);
    for (int i = 0; i < 16; ++i) CPU_SET_S(i, bytes, set);
    return 0;
}

namespace cricket::ring {
namespace {

bool_t xdr_number(XDR* xdrs, uint64_t* value) { return rpc::xdr_u64(xdrs, value); }

class Server : public Attacher {
  public:
    bool attach(wire::Hello& hello, Channel& client) override {
        Channel channel;
        std::string why;
        if (++attaches == 2) return false;  // all that is to be seen
        if (!channel.map_as_server(UniqueFd(::dup(client.fd())), &why)) return false;
        server = RingServer(std::move(channel));
        if (server.position(hello, 0, &why) != wire::Refusal::None || !server.channel().lock()) return false;
        server.begin(0, 0);
        return true;
    }
    std::atomic<int> attaches{0};
    RingServer server;
};

TEST(RingClock, WhoeverSpinsForAReplyNoticesThatItIsAnotherMachine) {
    Server server;
    RingClient client(server);
    ASSERT_TRUE(client.open());
    std::atomic<bool> over{false};
    std::thread caller([&] {
        uint64_t value = 1;
        Pending pending;
        EXPECT_EQ(client.begin({wire::first_cuda_proc, {0, 1, 1, 0}, reinterpret_cast<xdrproc_t>(xdr_number), &value, 0}, &pending),
                  Status::Ok);
        server.server = RingServer();  // its lock goes: as in a restored process
        looks_until_restored = 2;      // the second look at the clock is made after the restore
        EXPECT_EQ(client.wait(&pending), Status::Lost);
        client.release(&pending);
        over = true;
    });
    for (int i = 0; i < 60000 && !over; ++i) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    EXPECT_TRUE(over) << "it spins until the clock is where it was";
    clock_offset_s = 0;
    caller.join();
    EXPECT_EQ(server.attaches, 2);
}

}  // namespace
}  // namespace cricket::ring
