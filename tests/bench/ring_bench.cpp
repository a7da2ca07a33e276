// SPDX-License-Identifier: MIT
// The transport alone: RPC messages through the ring between two threads of one process, as between two processes
// with a core each. Prints medians of batches in nanoseconds as one line of JSON.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <thread>
#include <vector>

#include "rpc/ring/message.h"
#include "rpc/ring/ring_client.h"
#include "rpc/ring/ring_server.h"

namespace {

using namespace cricket;

const auto number_routine = reinterpret_cast<xdrproc_t>(rpc::xdr_u64);

// Answers every awaited call with its own argument.
class Server final : public ring::Attacher {
  public:
    ~Server() {
        stop_ = true;
        thread_.join();
    }
    bool attach(wire::Hello& hello, ring::Channel& client) override {
        ring::Channel channel;
        std::string why;
        if (!channel.map_as_server(UniqueFd(::dup(client.fd())), &why)) return false;
        server_ = ring::RingServer(std::move(channel));
        if (server_.position(hello, 0, &why) != wire::Refusal::None || !server_.channel().lock()) return false;
        server_.begin(0, 0);
        thread_ = std::thread([this] { serve(); });
        return true;
    }

  private:
    void serve() {
        while (!stop_) {
            const auto record = server_.peek();
            if (!record) {
                __builtin_ia32_pause();
                continue;
            }
            XDR xdrs;
            rpc::memory_xdr(&xdrs, record->message.data(), static_cast<uint32_t>(record->message.size()), XDR_DECODE);
            uint32_t xid = 0, procedure = 0;
            rpc::Credential credential;
            uint64_t value = 0;
            if (!rpc::decode_call_head(&xdrs, &xid, &procedure, &credential) || !rpc::xdr_u64(&xdrs, &value)) std::abort();
            if (record->slot != wire::no_slot) {
                uint32_t capacity = 0;
                std::byte* place = server_.reply_place(record->slot, 0, 0, &capacity);
                const uint32_t bytes = rpc::encode_reply(place, capacity, xid, {}, number_routine, &value);
                server_.publish(record->slot, record->seq, place, bytes);
            }
            server_.advance(*record);
        }
    }
    ring::RingServer server_;
    std::atomic<bool> stop_{false};
    std::thread thread_;
};

ring::Request request(uint64_t* value) { return {wire::first_cuda_proc, {0, 1, 1, 0}, number_routine, value, 0}; }

template <class Body>
double median_ns(int batches, int per_batch, Body body) {
    std::vector<double> times;
    for (int i = 0; i < batches; ++i) {
        const auto begin = std::chrono::steady_clock::now();
        for (int j = 0; j < per_batch; ++j) body();
        const std::chrono::duration<double, std::nano> took = std::chrono::steady_clock::now() - begin;
        times.push_back(took.count() / per_batch);
    }
    std::nth_element(times.begin(), times.begin() + batches / 2, times.end());
    return times[static_cast<size_t>(batches / 2)];
}

}  // namespace

int main() {
    Server server;
    ring::RingClient client(server);
    if (!client.open()) return 1;
    uint64_t value = 1;
    const double round_trip = median_ns(2000, 10, [&] {
        ring::Pending pending;
        if (client.begin(request(&value), &pending) != ring::Status::Ok) std::exit(1);
        do {
            if (client.wait(&pending) != ring::Status::Ok) std::exit(1);
            rpc::PostedError posted;
            uint64_t result = 0;
            const auto xid = static_cast<uint32_t>(pending.seq);
            if (rpc::decode_reply(pending.message, pending.message_bytes, xid, &posted, number_routine, &result) != RPC_SUCCESS)
                std::exit(1);
        } while (!client.confirm(&pending));
        client.release(&pending);
    });
    const double posted = median_ns(2000, 100, [&] {
        if (client.post(request(&value)) != ring::Status::Ok) std::exit(1);
    });
    std::printf("{\"round_trip_ns\": %.0f, \"posted_ns\": %.0f}\n", round_trip, posted);
    return 0;
}
