// SPDX-License-Identifier: MIT
// The executor with a real ring and a driver that does what the test says: what is told to whom, and when.
#include "executor.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <chrono>
#include <cstring>
#include <nlohmann/json.hpp>
#include <thread>

#include "messages.h"
#include "places.h"
#include "procedures.h"
#include "rpc/ring/message.h"
#include "rpc/ring/ring_client.h"
#include "tests/unit/server/loopback.h"

namespace cricket::server {
namespace {

std::atomic<bool> device_is_done = true;
uint64_t events_made = 0;
unsigned failures_left = 0;  // of calls that need memory
bool device_sees_host = false;
struct {
    std::atomic<uint64_t>* place;
    uint64_t value;
} to_write{};  // by the device, once it has done what was before

DriverTable driver_table() {
    DriverTable table{};
    table.cuInit = [](unsigned) { return CUDA_SUCCESS; };
    table.cuMemAddressReserve = [](CUdeviceptr* out, size_t, size_t, CUdeviceptr wanted, unsigned long long) {
        *out = wanted;
        return CUDA_SUCCESS;
    };
    table.cuCtxSetCurrent = [](CUcontext) { return CUDA_SUCCESS; };
    table.cuEventCreate = [](CUevent* event, unsigned) {
        *event = reinterpret_cast<CUevent>(++events_made);
        return CUDA_SUCCESS;
    };
    table.cuEventRecord = [](CUevent, CUstream) { return CUDA_SUCCESS; };
    table.cuEventQuery = [](CUevent) { return device_is_done ? CUDA_SUCCESS : CUDA_ERROR_NOT_READY; };
    table.cuEventSynchronize = [](CUevent) { return CUDA_SUCCESS; };
    table.cuStreamQuery = [](CUstream) { return device_is_done ? CUDA_SUCCESS : CUDA_ERROR_NOT_READY; };
    table.cuMemHostRegister = [](void*, size_t, unsigned) { return device_sees_host ? CUDA_SUCCESS : CUDA_ERROR_NOT_SUPPORTED; };
    table.cuMemHostUnregister = [](void*) { return CUDA_SUCCESS; };
    table.cuMemHostGetDevicePointer = [](CUdeviceptr* seen, void* memory, unsigned) {
        *seen = reinterpret_cast<CUdeviceptr>(memory);
        return CUDA_SUCCESS;
    };
    table.cuStreamWriteValue32 = [](CUstream, CUdeviceptr, cuuint32_t, unsigned) { return CUDA_SUCCESS; };
    table.cuStreamWriteValue64 = [](CUstream, CUdeviceptr place, cuuint64_t value, unsigned) {
        to_write = {reinterpret_cast<std::atomic<uint64_t>*>(place), value};
        return CUDA_SUCCESS;
    };
    table.cuMemcpyHtoDAsync = [](CUdeviceptr, const void*, size_t, CUstream) { return CUDA_SUCCESS; };
    table.cuGraphGetNodes = [](CUgraph, CUgraphNode*, size_t* count) {
        *count = 0;
        return CUDA_SUCCESS;
    };
    table.cuGraphInstantiateWithFlags = [](CUgraphExec* exec, CUgraph, unsigned long long) {
        if (failures_left && failures_left--) return CUDA_ERROR_OUT_OF_MEMORY;
        *exec = reinterpret_cast<CUgraphExec>(0x7700);
        return CUDA_SUCCESS;
    };
    return table;
}

struct Answer {
    int32_t status;
    rpc::PostedError posted;
};

class ExecutorTest : public ::testing::Test {
  protected:
    void SetUp() override {
        device_is_done = true;
        device_sees_host = false;
        to_write = {};
        ASSERT_EQ(session_.open(), "");
        context_ = session_.objects.add(HandleKind::Context, &object_);
        session_.context_devices[context_] = 0;
        ASSERT_TRUE(client_.open()) << loopback_.why;
        session_.ring = &loopback_.server;
        session_.channel_arrived();
    }
    void TearDown() override {
        session_.channel_leaves();
        ::munmap(reinterpret_cast<void*>(wire::host_base), wire::host_span);
        ::munmap(reinterpret_cast<void*>(places::completions.address), 1u << 20);  // a worker has one session
    }
    template <class Args>
    ring::Request request(Proc proc, bool_t (*routine)(XDR*, Args*), Args& args, uint32_t thread, uint32_t flags = 0) {
        return {static_cast<uint32_t>(proc), {0, context_, thread, flags}, reinterpret_cast<xdrproc_t>(routine), &args, 0};
    }
    bool answered(const ring::Pending& pending) { return client_.channel().slot(pending.slot).seq.load() == pending.seq; }
    Answer answer(ring::Pending& pending) {
        Answer result{-1, {}};
        EXPECT_EQ(client_.wait(&pending), ring::Status::Ok);
        EXPECT_EQ(rpc::decode_reply(pending.message, pending.message_bytes, static_cast<uint32_t>(pending.seq), &result.posted,
                                    reinterpret_cast<xdrproc_t>(rpc::xdr_i32), &result.status),
                  RPC_SUCCESS);
        client_.release(&pending);
        return result;
    }

    const DriverTable driver_ = driver_table();
    Session session_{driver_};
    Executor executor_{session_};
    tests::Loopback loopback_;
    ring::RingClient client_{loopback_};
    int object_ = 0;
    uint64_t context_ = 0;
};

struct GoodbyeTest : ExecutorTest {
    GoodbyeTest() { goodbye.procedure = wire::proc_goodbye; }
    cuMemsetD8Async_args set{};
    const ring::Request other = request(Proc::cuMemsetD8Async, xdr_cuMemsetD8Async_args, set, 1);
    ring::Request goodbye;
};

// What a process that ends leaves in the ring: its goodbye behind calls that wait for what never comes, and calls of threads that
// had begun them before.
TEST_F(GoodbyeTest, IsFoundBetweenCallsThatAreNotExecuted) {
    using namespace std::chrono_literals;
    EXPECT_FALSE(Executor::goodbye_is_posted(loopback_.server));
    ASSERT_EQ(client_.post(other), ring::Status::Ok);
    EXPECT_FALSE(Executor::goodbye_is_posted(loopback_.server));
    std::thread late;
    {
        const auto order = client_.hold_order();
        client_.post_within(goodbye, 0ms);
        EXPECT_FALSE(Executor::goodbye_is_posted(loopback_.server)) << "in the middle of another thread's record";
        late = std::thread([&] { client_.post_within(goodbye, 1min); });
    }
    late.join();
    ASSERT_EQ(client_.post(other), ring::Status::Ok);
    EXPECT_TRUE(Executor::goodbye_is_posted(loopback_.server));
    ASSERT_TRUE(executor_.step(loopback_.server));
    EXPECT_FALSE(executor_.said_goodbye());
    ASSERT_TRUE(executor_.step(loopback_.server));
    EXPECT_TRUE(executor_.said_goodbye());
}

TEST_F(GoodbyeTest, WaitsForRoom) {
    using namespace std::chrono_literals;
    auto& client = client_.channel().client_page();
    auto& server = client_.channel().server_page();
    while (client.tail.load() - server.head.load() < client_.channel().geometry().ring_bytes * 7 / 8)
        ASSERT_EQ(client_.post(other), ring::Status::Ok);
    client_.post_within(goodbye, 0ms);
    EXPECT_FALSE(Executor::goodbye_is_posted(loopback_.server));
    std::thread late([&] { client_.post_within(goodbye, 1min); });
    while (!executor_.said_goodbye())
        if (!executor_.step(loopback_.server)) ::usleep(100);
    late.join();
}

// The pieces of a copy are posted and the last one is answered: that one has failed of which no other thread may learn.
TEST_F(ExecutorTest, APieceThatCannotBeFetchedIsToldToItsOwnThread) {
    Fetcher fetcher(1, 1);
    session_.fetcher = &fetcher;
    uint64_t mark = 7;
    ASSERT_TRUE(fetcher.follow(::getpid(), reinterpret_cast<uint64_t>(&mark), mark));
    auto* memory = static_cast<std::byte*>(::mmap(nullptr, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    ASSERT_EQ(::mprotect(memory, 4096, PROT_NONE), 0);
    const uint64_t up = client_.channel().geometry().up_offset;

    device_is_done = false;
    cuStreamSynchronize_args wait{};
    ring::Pending waits, last;
    ASSERT_EQ(client_.begin(request(Proc::cuStreamSynchronize, xdr_cuStreamSynchronize_args, wait, 1), &waits), ring::Status::Ok);
    ASSERT_TRUE(executor_.step(loopback_.server));
    ASSERT_FALSE(answered(waits));

    const auto piece = [&](unsigned i) {
        cuMemcpyHtoDAsync_v2_args copy{};
        copy.dstDevice = wire::device_base;
        copy.ByteCount = 4096;
        copy.data = {rpc::Bulk::Where::Fetched, up + 4096 * i, 4096, {}, reinterpret_cast<uint64_t>(memory) + 4096 * i};
        return copy;
    };
    cuMemcpyHtoDAsync_v2_args copy = piece(0);
    ASSERT_EQ(client_.post(request(Proc::cuMemcpyHtoDAsync_v2, xdr_cuMemcpyHtoDAsync_v2_args, copy, 2)), ring::Status::Ok);
    ASSERT_TRUE(executor_.step(loopback_.server));
    device_is_done = true;
    for (int i = 0; i < 600'000 && !answered(waits); ++i) executor_.poll(&loopback_.server), ::usleep(100);
    const Answer other = answer(waits);
    EXPECT_EQ(other.status, CUDA_SUCCESS);
    EXPECT_EQ(other.posted.result, CUDA_SUCCESS) << "told to a thread that copies nothing";

    copy = piece(1);
    ASSERT_EQ(client_.begin(request(Proc::cuMemcpyHtoDAsync_v2, xdr_cuMemcpyHtoDAsync_v2_args, copy, 2, wire::answer_at_once), &last),
              ring::Status::Ok);
    ASSERT_TRUE(executor_.step(loopback_.server));
    EXPECT_EQ(answer(last).status, wire::fetch_refused) << "the copy is taken for made";

    // The next one has nothing to do with it.
    copy = piece(1);
    ASSERT_EQ(client_.begin(request(Proc::cuMemcpyHtoDAsync_v2, xdr_cuMemcpyHtoDAsync_v2_args, copy, 2, wire::answer_at_once), &last),
              ring::Status::Ok);
    ASSERT_TRUE(executor_.step(loopback_.server));
    EXPECT_EQ(answer(last).status, CUDA_SUCCESS);
    session_.fetcher = nullptr;
    ::munmap(memory, 8192);
}

// Whoever has no answer yet cannot have said that it has it: then there would be no slot for it.
TEST_F(ExecutorTest, AnAnswerThatIsNotSentIsNotForgotten) {
    device_is_done = false;
    cuStreamSynchronize_args wait{};
    cuStreamQuery_args query{};
    ring::Pending waits, asks;
    ASSERT_EQ(client_.begin(request(Proc::cuStreamSynchronize, xdr_cuStreamSynchronize_args, wait, 1), &waits), ring::Status::Ok);
    ASSERT_EQ(client_.begin(request(Proc::cuStreamQuery, xdr_cuStreamQuery_args, query, 2), &asks), ring::Status::Ok);
    client_.channel().client_page().acked_seq.store(UINT64_MAX);
    ASSERT_TRUE(executor_.step(loopback_.server));
    ASSERT_TRUE(executor_.step(loopback_.server));
    EXPECT_EQ(answer(asks).status, CUDA_ERROR_NOT_READY);
    device_is_done = true;
    executor_.finish_waiting(&loopback_.server);
    ASSERT_TRUE(answered(waits));
    EXPECT_EQ(answer(waits).status, CUDA_SUCCESS);
}

class DoneTest : public ExecutorTest {
  protected:
    void SetUp() override {
        ExecutorTest::SetUp();
        device_sees_host = true;
        device_is_done = false;
    }
    // Begins one and lets it be executed: the device has not come to its end yet.
    void begin_synchronization(ring::Pending* pending) {
        cuStreamSynchronize_args wait{};
        ASSERT_EQ(client_.begin(request(Proc::cuStreamSynchronize, xdr_cuStreamSynchronize_args, wait, 1), pending), ring::Status::Ok);
        ASSERT_TRUE(executor_.step(loopback_.server));
        ASSERT_FALSE(answered(*pending));
    }
    // The device gets there, and the client sees it before the server looks.
    void take_the_devices_word(ring::Pending* pending) {
        ASSERT_EQ(to_write.value, pending->seq);
        ASSERT_EQ(to_write.place, &loopback_.server.channel().slot_done(pending->slot));
        to_write.place->store(to_write.value);
        ASSERT_EQ(client_.wait(pending), ring::Status::Ok);
        ASSERT_EQ(pending->message, nullptr);
        ASSERT_TRUE(client_.confirm(pending));
        client_.release(pending);
        device_is_done = true;
    }
    void begin_query(ring::Pending* pending) {
        cuStreamQuery_args query{};
        ASSERT_EQ(client_.begin(request(Proc::cuStreamQuery, xdr_cuStreamQuery_args, query, 1), pending), ring::Status::Ok);
        ASSERT_TRUE(executor_.step(loopback_.server));
    }
};

TEST_F(DoneTest, TheServersAnswerComesToNobodysSlot) {
    ring::Pending waits, asks;
    ASSERT_NO_FATAL_FAILURE(begin_synchronization(&waits));
    const uint32_t slot = waits.slot;
    ASSERT_NO_FATAL_FAILURE(take_the_devices_word(&waits));
    ASSERT_NO_FATAL_FAILURE(begin_query(&asks));
    ASSERT_EQ(asks.slot, slot) << "the test is about a slot that is used again";
    ASSERT_TRUE(answered(asks));
    ASSERT_TRUE(executor_.poll(&loopback_.server));
    ASSERT_FALSE(executor_.waiting());
    EXPECT_TRUE(answered(asks)) << "an answer that nobody waits for is where another was";
    EXPECT_EQ(answer(asks).status, CUDA_SUCCESS);
}

TEST_F(DoneTest, AnErrorOfAPostedCallWaitsForAnAnswerThatIsRead) {
    ring::Pending waits, asks;
    ASSERT_NO_FATAL_FAILURE(begin_synchronization(&waits));
    ASSERT_NO_FATAL_FAILURE(take_the_devices_word(&waits));
    session_.note_posted(CUDA_ERROR_INVALID_VALUE, waits.seq + 1);
    ASSERT_TRUE(executor_.poll(&loopback_.server));
    ASSERT_NO_FATAL_FAILURE(begin_query(&asks));
    EXPECT_EQ(answer(asks).posted.result, CUDA_ERROR_INVALID_VALUE);
}

TEST_F(DoneTest, WhatAnAnswerHasToSayTheDeviceCannot) {
    session_.note_posted(CUDA_ERROR_INVALID_VALUE, 1);
    ring::Pending waits;
    ASSERT_NO_FATAL_FAILURE(begin_synchronization(&waits));
    EXPECT_EQ(to_write.place, nullptr);
    device_is_done = true;
    executor_.finish_waiting(&loopback_.server);
    EXPECT_EQ(answer(waits).posted.result, CUDA_ERROR_INVALID_VALUE);
}

TEST_F(DoneTest, WorkThatFailsIsToldByItsEvent) {
    ring::Pending waits;
    ASSERT_NO_FATAL_FAILURE(begin_synchronization(&waits));
    ASSERT_NE(to_write.place, nullptr);
    device_is_done = true;  // says its event; the word is never written
    for (int i = 0; i < 600'000 && !answered(waits); ++i) executor_.poll(&loopback_.server), ::usleep(100);
    EXPECT_EQ(answer(waits).status, CUDA_SUCCESS);
}

// Which copies to its memory the application knows to be over decides whose bytes are right after a restore.
TEST_F(DoneTest, CopiesOfItsStreamAreKnownWithIt) {
    ASSERT_EQ(session_.make_current(context_), CUDA_SUCCESS);
    ASSERT_EQ(session_.copied_to_host({{wire::host_base, 64}}, CU_STREAM_LEGACY), CUDA_SUCCESS);
    ring::Pending waits;
    ASSERT_NO_FATAL_FAILURE(begin_synchronization(&waits));
    ASSERT_NE(to_write.place, nullptr);
    EXPECT_EQ(session_.copies_to_host.front().told_by, waits.seq);
    ASSERT_EQ(session_.copied_to_host({{wire::host_base + 64, 64}}, CU_STREAM_LEGACY), CUDA_SUCCESS);
    ASSERT_NO_FATAL_FAILURE(take_the_devices_word(&waits));
    ASSERT_TRUE(executor_.poll(&loopback_.server));
    EXPECT_EQ(session_.copies_to_host.back().told_by, 0u) << "it came later, and may have been over by then only";
}

TEST_F(DoneTest, CopiesOfAnotherStreamNeedAnAnswer) {
    ASSERT_EQ(session_.make_current(context_), CUDA_SUCCESS);
    ASSERT_EQ(session_.copied_to_host({{wire::host_base, 64}}, CU_STREAM_PER_THREAD), CUDA_SUCCESS);
    ring::Pending waits;
    ASSERT_NO_FATAL_FAILURE(begin_synchronization(&waits));
    EXPECT_EQ(to_write.place, nullptr);
    device_is_done = true;
    executor_.finish_waiting(&loopback_.server);
    EXPECT_EQ(session_.copies_to_host.front().told_by, waits.seq);
    EXPECT_EQ(answer(waits).status, CUDA_SUCCESS);
}

// A device, a worker and threads of an application, none of which waits for another: each call has its own answer, whoever gave it,
// and what a posted call has to say comes with the next one.
TEST_F(DoneTest, NobodysAnswerIsTakenForAnothers) {
    constexpr unsigned threads = 3, calls = 4000;
    static std::atomic<std::atomic<uint64_t>*> place;
    static std::atomic<uint64_t> value;
    place = nullptr;
    DriverTable& table = const_cast<DriverTable&>(driver_);
    table.cuStreamWriteValue32 = [](CUstream, CUdeviceptr where, cuuint32_t number, unsigned) {
        reinterpret_cast<Completions::Place*>(where)->store(number);  // of calls that need an answer
        return CUDA_SUCCESS;
    };
    table.cuStreamWriteValue64 = [](CUstream, CUdeviceptr where, cuuint64_t number, unsigned) {
        while (place.load()) std::this_thread::yield();  // one stream: one after the other
        value = number;
        place = reinterpret_cast<std::atomic<uint64_t>*>(where);
        return CUDA_SUCCESS;
    };
    std::atomic<bool> stop{false};
    std::atomic<unsigned> seen{0}, answers{0}, told{0};
    std::thread device([&] {
        while (!stop) {
            if (std::atomic<uint64_t>* where = place.load()) {
                where->store(value.load());
                place = nullptr;
            }
            std::this_thread::yield();
        }
    });
    std::thread worker([&] {
        for (unsigned i = 0; !stop; ++i) {
            if (!executor_.step(loopback_.server)) std::this_thread::yield();
            if (i % 64 == 0) executor_.poll(&loopback_.server);  // late: the words are seen first
        }
    });
    std::vector<std::thread> application;
    for (unsigned thread = 1; thread <= threads; ++thread)
        application.emplace_back([&, thread] {
            for (unsigned i = 0; i < calls; ++i) {
                cuStreamSynchronize_args wait{};
                cuStreamQuery_args query{};
                cuMemcpyHtoDAsync_v2_args wrong{};
                wrong.ByteCount = 1;  // and no data
                ring::Pending pending;
                if (thread == 1 && i % 16 == 0) {
                    ASSERT_EQ(client_.post(request(Proc::cuMemcpyHtoDAsync_v2, xdr_cuMemcpyHtoDAsync_v2_args, wrong, thread)), ring::Status::Ok);
                }
                const auto call = i % 4 == 3 ? request(Proc::cuStreamQuery, xdr_cuStreamQuery_args, query, thread)
                                             : request(Proc::cuStreamSynchronize, xdr_cuStreamSynchronize_args, wait, thread);
                ASSERT_EQ(client_.begin(call, &pending), ring::Status::Ok);
                while (!answered(pending) && client_.channel().slot_done(pending.slot).load() != pending.seq) std::this_thread::yield();
                ASSERT_EQ(client_.wait(&pending), ring::Status::Ok);
                if (pending.message) {
                    int32_t status = -1;
                    rpc::PostedError posted;
                    ASSERT_EQ(rpc::decode_reply(pending.message, pending.message_bytes, static_cast<uint32_t>(pending.seq), &posted,
                                                reinterpret_cast<xdrproc_t>(rpc::xdr_i32), &status),
                              RPC_SUCCESS);
                    ASSERT_EQ(status, i % 4 == 3 ? CUDA_ERROR_NOT_READY : CUDA_SUCCESS);
                    told += posted.result != 0;
                    ++answers;
                } else {
                    ASSERT_NE(i % 4, 3u) << "nothing was awaited";
                    ++seen;
                }
                client_.release(&pending);
            }
        });
    for (std::thread& thread : application) thread.join();
    stop = true;
    worker.join();
    device.join();
    EXPECT_EQ(seen + answers, threads * calls);
    EXPECT_GT(seen, calls / 10);
    EXPECT_EQ(told, calls / 16) << "errors of posted calls";
}

// The event beside a word may be seen first: the word is written a moment later, and is used again then, not before.
TEST(CompletionsTest, AWordThatIsGivenBackBeforeItIsWrittenIsNotLost) {
    DriverTable table{};
    table.cuMemHostRegister = [](void*, size_t, unsigned) { return CUDA_SUCCESS; };
    table.cuMemHostUnregister = [](void*) { return CUDA_SUCCESS; };
    table.cuMemHostGetDevicePointer = [](CUdeviceptr* seen, void* memory, unsigned) {
        *seen = reinterpret_cast<CUdeviceptr>(memory);
        return CUDA_SUCCESS;
    };
    table.cuStreamWriteValue32 = [](CUstream, CUdeviceptr, cuuint32_t, unsigned) { return CUDA_SUCCESS; };
    Completions completions(table);
    std::vector<Completions::Word> words;
    for (Completions::Word word = completions.behind(1, nullptr); word.place; word = completions.behind(1, nullptr))
        words.push_back(word);
    ASSERT_GT(words.size(), 1u);
    for (const Completions::Word& word : words) completions.give(word);
    EXPECT_EQ(completions.behind(1, nullptr).place, nullptr) << "the device may write it yet";
    for (const Completions::Word& word : words) word.place->store(word.value);
    for (size_t i = 0; i < words.size(); ++i) {
        const Completions::Word again = completions.behind(1, nullptr);
        ASSERT_NE(again.place, nullptr) << i << " of " << words.size();
        EXPECT_FALSE(again.written());
        again.place->store(again.value);
        completions.give(again);
    }
    // All are back: its page is for the next context.
    const auto* place = completions.behind(1, nullptr).place;
    completions.context_gone(1);
    const Completions::Word of_two = completions.behind(2, nullptr);
    ASSERT_NE(of_two.place, nullptr);
    EXPECT_NE(of_two.place, place) << "a word is awaited there";
}

class Room final : public SnapshotHooks {
  public:
    bool make_room() override { return ++made == 1; }
    uint64_t held_aside(CUdevice) override { return 0; }
    void context_ends(uint64_t) override {}
    unsigned made = 0;
};

// A call that succeeds once a snapshot has given memory back is a call like any other: what it made can be saved.
TEST_F(ExecutorTest, AnExecutableGraphOfASecondAttemptIsKnown) {
    Room room;
    session_.snapshot_hooks = &room;
    failures_left = 1;
    cuGraphInstantiateWithFlags_args args{};
    args.hGraph = session_.objects.add(HandleKind::Graph, &object_);
    ring::Pending pending;
    ASSERT_EQ(client_.begin(request(Proc::cuGraphInstantiateWithFlags, xdr_cuGraphInstantiateWithFlags_args, args, 1, wire::wants_reply), &pending),
              ring::Status::Ok);
    ASSERT_TRUE(executor_.step(loopback_.server));
    EXPECT_EQ(answer(pending).status, CUDA_SUCCESS);
    EXPECT_EQ(room.made, 1u);
    EXPECT_EQ(session_.graph_history.describe().at("execs").size(), 1u);
}

}  // namespace
}  // namespace cricket::server
