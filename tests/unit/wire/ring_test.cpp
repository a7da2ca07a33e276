// SPDX-License-Identifier: MIT
// The ring between a client and a server in one process: order, wrap-around, large replies, a server that is replaced,
// an older image, and records that no client of ours would write.
#include "rpc/ring/ring_client.h"

#include <gtest/gtest.h>

#include <atomic>
#include <map>
#include <thread>
#include <vector>

#include "rpc/ring/message.h"
#include "rpc/ring/ring_server.h"

namespace cricket::ring {
namespace {

bool_t xdr_number(XDR* xdrs, uint64_t* value) { return rpc::xdr_u64(xdrs, value); }
const auto number_routine = reinterpret_cast<xdrproc_t>(xdr_number);

// A server that answers each call with its argument plus one and remembers what it executed.
class Echo : public Attacher {
  public:
    ~Echo() { stop(); }

    bool attach(wire::Hello& hello, Channel& client) override {
        ++attaches;
        stop();
        Channel channel;
        std::string why;
        if (!channel.map_as_server(UniqueFd(::dup(client.fd())), &why)) return ADD_FAILURE() << why, false;
        server_ = RingServer(std::move(channel));
        refusal = server_.position(hello, executed, &why);
        if (refusal != wire::Refusal::None || !server_.channel().lock()) return false;
        server_.begin(executed, 0);
        for (auto& [seq, kept] : kept_) publish(seq, kept);
        stop_ = false;
        thread_ = std::thread([this] { serve(); });
        return true;
    }
    // Ends without a word, as a killed worker does: its lock goes, unanswered calls stay in the ring.
    void die() {
        stop();
        server_ = RingServer();
    }

    std::atomic<int> attaches{0};
    uint64_t executed = 0;
    std::vector<uint64_t> arguments;
    wire::Refusal refusal = wire::Refusal::None;
    std::atomic<uint64_t> die_before{0};  // stops serving before this call

  private:
    struct Kept {
        uint32_t slot;
        uint64_t offset, bytes, value;
    };
    void stop() {
        stop_ = true;
        if (thread_.joinable()) thread_.join();
    }
    void publish(uint64_t seq, Kept& kept) {
        uint32_t capacity = 0;
        std::byte* place = server_.reply_place(kept.slot, kept.offset, kept.bytes, &capacity);
        const uint32_t bytes = rpc::encode_reply(place, capacity, static_cast<uint32_t>(seq), {}, number_routine, &kept.value);
        server_.publish(kept.slot, seq, place, bytes);
    }
    void serve() {
        while (!stop_) {
            const auto record = server_.peek();
            if (!record) {
                server_.sleep(1000);
                continue;
            }
            if (record->seq == die_before) return;
            XDR xdrs;
            cricket::rpc::memory_xdr(&xdrs, record->message.data(),
                          static_cast<u_int>(record->message.size()), XDR_DECODE);
            uint32_t xid = 0, procedure = 0;
            rpc::Credential credential;
            uint64_t value = 0;
            ASSERT_TRUE(rpc::decode_call_head(&xdrs, &xid, &procedure, &credential));
            ASSERT_TRUE(xdr_number(&xdrs, &value));
            ASSERT_EQ(credential.seq, record->seq);
            arguments.push_back(value);
            executed = record->seq;
            if (record->slot != wire::no_slot) {
                Kept& kept = kept_[record->seq] = {record->slot, record->reply_offset, record->reply_bytes, value + 1};
                publish(record->seq, kept);
            }
            server_.advance(*record);
            server_.drained(record->up_end);
        }
    }
    RingServer server_;
    std::map<uint64_t, Kept> kept_;
    std::atomic<bool> stop_{false};
    std::thread thread_;
};

Request request(uint64_t* value, uint64_t reply_bytes = 0) {
    return {wire::first_cuda_proc, {0, 1, 1, 0}, number_routine, value, reply_bytes};
}

uint64_t answer(RingClient& client, uint64_t value, uint64_t reply_bytes = 0) {
    Pending pending;
    EXPECT_EQ(client.begin(request(&value, reply_bytes), &pending), Status::Ok);
    uint64_t result = 0;
    for (;;) {
        EXPECT_EQ(client.wait(&pending), Status::Ok);
        std::vector<std::byte> copy(pending.message, pending.message + pending.message_bytes);
        if (!client.confirm(&pending)) continue;
        rpc::PostedError posted;
        EXPECT_EQ(rpc::decode_reply(copy.data(), static_cast<uint32_t>(copy.size()), static_cast<uint32_t>(pending.seq),
                                    &posted, number_routine, &result),
                  RPC_SUCCESS);
        break;
    }
    client.release(&pending);
    return result;
}

TEST(Ring, PostedAndAwaitedCallsAreExecutedInOrder) {
    Echo server;
    RingClient client(server);
    ASSERT_TRUE(client.open());
    for (uint64_t i = 0; i < 100000; ++i) ASSERT_EQ(client.post(request(&i)), Status::Ok);  // many times round the ring
    EXPECT_EQ(answer(client, 7), 8u);
    ASSERT_EQ(server.arguments.size(), 100001u);
    for (uint64_t i = 0; i < 100000; ++i) ASSERT_EQ(server.arguments[i], i);
}

// Images of programs whose shim is older than the last word of a slot: it belongs to their replies.
TEST(Ring, AnOlderClientsSlotIsItsRepliesAlone) {
    Channel client, server;
    std::string why;
    ASSERT_TRUE(client.create());
    ASSERT_TRUE(server.map_as_server(UniqueFd(::dup(client.fd())), &why)) << why;
    EXPECT_TRUE(server.looks_for_done());
    const uint64_t capacity = server.slot_capacity();
    EXPECT_EQ(capacity, client.slot_capacity());
    client.client_page().habits = wire::keeps_cuts;
    EXPECT_TRUE(server.looks_for_done()) << "believed what may change under it";
    Channel later;
    ASSERT_TRUE(later.map_as_server(UniqueFd(::dup(client.fd())), &why)) << why;
    EXPECT_FALSE(later.looks_for_done());
    EXPECT_TRUE(later.keeps_cuts());
    EXPECT_EQ(later.slot_capacity(), capacity + wire::slot_done_bytes);
}

TEST(Ring, ThreadsShareOneOrder) {
    Echo server;
    RingClient client(server);
    ASSERT_TRUE(client.open());
    std::vector<std::thread> threads;
    for (uint64_t t = 0; t < 8; ++t)
        threads.emplace_back([&, t] {
            for (uint64_t i = 0; i < 500; ++i) ASSERT_EQ(answer(client, t << 32 | i, i % 3 ? 0 : 4096), (t << 32 | i) + 1);
        });
    for (auto& thread : threads) thread.join();
    std::map<uint64_t, uint64_t> next;
    for (uint64_t value : server.arguments) EXPECT_EQ(value & 0xffffffff, next[value >> 32]++);
    EXPECT_EQ(server.arguments.size(), 4000u);
}

TEST(Ring, CallsThatADeadServerDidNotExecuteAreExecutedByTheNext) {
    Echo server;
    RingClient client(server);
    ASSERT_TRUE(client.open());
    server.die_before = 51;
    for (uint64_t i = 0; i < 100; ++i) ASSERT_EQ(client.post(request(&i)), Status::Ok);
    std::thread killer([&] {
        while (server.executed < 50) std::this_thread::yield();
        server.die();
        server.die_before = 0;
    });
    killer.join();
    EXPECT_EQ(answer(client, 100), 101u);  // notices, attaches again, and the rest is executed first
    EXPECT_EQ(server.attaches, 2);
    ASSERT_EQ(server.arguments.size(), 101u);
    for (uint64_t i = 0; i <= 100; ++i) EXPECT_EQ(server.arguments[i], i);
}

TEST(Ring, AnImageOlderThanTheSessionIsRefused) {
    Echo server;
    server.executed = 5;
    RingClient client(server);
    EXPECT_FALSE(client.open());
    EXPECT_EQ(server.refusal, wire::Refusal::ImageTooOld);
}

TEST(Ring, ASessionOlderThanTheImageIsRefused) {
    Echo server;
    RingClient client(server);
    ASSERT_TRUE(client.open());
    EXPECT_EQ(answer(client, 1), 2u);
    server.die();
    server.executed = 0;  // as loaded from an older snapshot
    uint64_t value = 2;
    Pending pending;
    ASSERT_EQ(client.begin(request(&value), &pending), Status::Ok);
    EXPECT_EQ(client.wait(&pending), Status::Lost);
    client.release(&pending);
    EXPECT_EQ(server.refusal, wire::Refusal::SessionTooOld);
}

TEST(BulkBuffers, NoDataCrossesACut) {
    Echo server;
    RingClient client(server);
    ASSERT_TRUE(client.open());
    const auto& g = client.channel().geometry();
    uint64_t value = 1, seed = 12345;
    std::vector<std::pair<uint64_t, uint64_t>> down;
    for (int i = 0; i < 1000; ++i) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        const uint64_t bytes = (seed >> 33) % (uint64_t(1) << (10 + i % 15)) + 1;  // 1 KiB to 16 MiB
        const uint64_t window = i % 3 || bytes > wire::up_cuts[0] ? UINT64_MAX : wire::up_cuts[1];
        auto order = client.hold_order();
        uint64_t offset = 0;
        ASSERT_NE(client.up_space_locked(bytes, &offset, window), nullptr);
        const uint64_t at = offset - g.up_offset;
        EXPECT_LE(at + bytes, wire::bulk_part(wire::up_cuts, g.up_bytes, at).end) << bytes << " at " << at;
        if (i > 0 && window != UINT64_MAX) {
            EXPECT_LE(at + bytes, window);
        }
        ASSERT_EQ(client.post_locked(request(&value)), Status::Ok);
        while (down.size() > static_cast<size_t>(i % 5)) {
            client.down_free(down.back().first, down.back().second, true);
            down.pop_back();
        }
        if (!client.down_alloc_locked(order, bytes, &offset, false)) continue;
        down.push_back({offset, bytes});
        const uint64_t there = offset - g.down_offset;
        EXPECT_LE(there + bytes, wire::bulk_part(wire::down_cuts, g.down_bytes, there).end) << bytes << " at " << there;
    }
}

// A server that does what the test tells it to.
class ByHand : public Attacher {
  public:
    bool attach(wire::Hello& hello, Channel& client) override {
        Channel channel;
        std::string why;
        if (!channel.map_as_server(UniqueFd(::dup(client.fd())), &why)) return ADD_FAILURE() << why, false;
        server = RingServer(std::move(channel));
        if (server.position(hello, 0, &why) != wire::Refusal::None || !server.channel().lock()) return false;
        server.begin(0, 0);
        return true;
    }
    RingServer server;
};

// A record's up_end frees what lies before it once it is executed: no other record may stand for data whose own is not sent.
TEST(BulkBuffers, DataOfACallThatHasToWaitForASlotStaysItsOwn) {
    ByHand by_hand;
    RingClient client(by_hand);
    ASSERT_TRUE(client.open());
    uint64_t value = 1, begin = 0, other = 2;
    std::vector<Pending> all(wire::max_slots);
    for (Pending& one : all) ASSERT_EQ(client.begin(request(&value), &one), Status::Ok);
    std::atomic<bool> began{false};
    Pending late;
    std::thread waits([&] {
        auto order = client.hold_order();
        began = true;
        if (client.prepare_locked(request(&value), &late) != Status::Ok) return;
        if (client.up_space_locked(1u << 20, &begin)) client.begin_locked(request(&value), &late);
    });
    while (!began) std::this_thread::yield();
    {
        auto order = client.hold_order();  // had when the other one waits
        uint64_t offset = 0;
        ASSERT_NE(client.up_space_locked(4096, &offset), nullptr);
        ASSERT_EQ(client.post_locked(request(&other)), Status::Ok);
    }
    client.release(&all.front());
    waits.join();
    ASSERT_NE(late.seq, 0u);
    const uint64_t data = begin - client.channel().geometry().up_offset;
    for (auto record = by_hand.server.peek(); record; record = by_hand.server.peek()) {
        if (record->seq < late.seq) {
            EXPECT_LE(record->up_end, data) << "record " << record->seq << " frees data of record " << late.seq;
        }
        by_hand.server.advance(*record);
    }
}

class Records : public ::testing::Test {
  protected:
    void SetUp() override {
        ASSERT_TRUE(client_.create());
        Channel channel;
        std::string why;
        ASSERT_TRUE(channel.map_as_server(UniqueFd(::dup(client_.fd())), &why)) << why;
        server_ = RingServer(std::move(channel));
        wire::Hello hello{};
        hello.first_seq = hello.next_seq = 1;
        ASSERT_EQ(server_.position(hello, 0, &why), wire::Refusal::None);
    }
    void put(wire::RecordHeader header, uint64_t tail) {
        *reinterpret_cast<wire::RecordHeader*>(client_.ring()) = header;
        client_.client_page().tail.store(tail);
    }
    Channel client_;
    RingServer server_;
};

TEST_F(Records, WhatDoesNotHoldUpIsRefusedBeforeItIsUsed) {
    const wire::RecordHeader good{128, wire::record_call, 1, 0, 64, 0, 0, 0};
    auto refused = [&](auto change, uint64_t tail = 128) {
        wire::RecordHeader bad = good;
        change(bad);
        put(bad, tail);
        EXPECT_THROW(server_.peek(), BadRecord);
    };
    refused([](auto&) {}, 4);
    refused([](auto&) {}, uint64_t(1) << 40);
    put(good, 128);
    EXPECT_TRUE(server_.peek());
    refused([](auto& r) { r.bytes = 8; });
    refused([](auto& r) { r.bytes = 0xfffffff8; });
    refused([](auto& r) { r.bytes = 127; });
    refused([](auto& r) { r.message = 100; });
    refused([](auto& r) { r.kind = 9; });
    refused([](auto& r) { r.slot = wire::max_slots; });
    refused([](auto& r) { r.seq = 2; });
    refused([](auto& r) { r.reply_bytes = 64, r.reply_offset = 0; });
    refused([](auto& r) { r.reply_bytes = ~uint64_t(0), r.reply_offset = ~uint64_t(0) - 8; });
    refused([](auto& r) { r.kind = wire::record_pad; });
}

// The rest of the ring is too short for a header, and the tail lies in it. Behind it is padding, round after round.
TEST_F(Records, ATailWithinWhatIsSkippedIsRefused) {
    const uint64_t size = client_.geometry().ring_bytes;
    put({static_cast<uint32_t>(size), wire::record_pad, 0, 0, 0, 0, 0, 0}, size - 8);
    wire::Hello hello{};
    hello.first_seq = hello.next_seq = 1;
    hello.first_offset = size - 16;
    std::string why;
    EXPECT_EQ(server_.position(hello, 0, &why), wire::Refusal::BadChannel) << why;
}

TEST(ChannelGeometry, IsCheckedAgainstTheFile) {
    for (int field = 0; field < 6; ++field) {
        Channel client;
        ASSERT_TRUE(client.create());
        auto& g = client.client_page().geometry;
        uint64_t* const fields[] = {&g.ring_bytes, &g.slots, &g.up_offset, &g.down_bytes, &g.total_bytes, &g.slot_bytes};
        *fields[field] = field == 2 ? 0 : ~uint64_t(0) / 3;
        Channel server;
        std::string why;
        EXPECT_FALSE(server.map_as_server(UniqueFd(::dup(client.fd())), &why)) << field;
        EXPECT_FALSE(why.empty());
    }
}

}  // namespace
}  // namespace cricket::ring
