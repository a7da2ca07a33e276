// SPDX-License-Identifier: MIT
// Callbacks between a driver's threads, played by the test, and a client's pages: order, blocking, exactly once.
#include "callbacks.h"

#include <gtest/gtest.h>

#include <atomic>
#include <cstring>
#include <memory>
#include <thread>

#include "rpc/ring/channel.h"

namespace cricket::server {
namespace {

using Use = Callbacks::Use;

// The two pages, and what the client's callback thread does with them.
struct Client {
    std::unique_ptr<wire::ClientPage> client{new wire::ClientPage{}};
    std::unique_ptr<wire::ServerPage> server{new wire::ServerPage{}};

    // Waits for a callback that is not done; its id.
    uint64_t shown() const {
        while (server->callback_ticket.load() <= client->callback_done.load()) {
            const uint32_t before = server->callback_bell.load();
            if (server->callback_ticket.load() > client->callback_done.load()) break;
            ring::futex_wait(server->callback_bell, before, 10'000);
        }
        return server->callback_id;
    }
    bool shows_nothing() const { return server->callback_ticket.load() <= client->callback_done.load(); }
    void done() {
        client->callback_done.store(server->callback_ticket.load());
        client->callback_bell.fetch_add(1);
        ring::futex_wake_all(client->callback_bell);
    }
};

TEST(CallbacksTest, TheDriversThreadWaitsForTheApplication) {
    Callbacks callbacks;
    Client client;
    callbacks.attach(*client.client, *client.server);
    std::atomic<bool> returned{false};
    void* context = callbacks.context(7, Use::Once);
    const auto ticket = callbacks.ticket(context);
    EXPECT_EQ(*ticket, 0u);
    std::thread driver([&] {
        Callbacks::host_function(context);
        returned = true;
    });
    EXPECT_EQ(client.shown(), 7u);
    EXPECT_EQ(*ticket, 1u);
    EXPECT_TRUE(callbacks.pending());
    EXPECT_NE(callbacks.describe_pending().find("host function"), std::string::npos);
    EXPECT_FALSE(returned);
    client.done();
    driver.join();
    EXPECT_TRUE(returned);
    EXPECT_FALSE(callbacks.pending());
    EXPECT_EQ(callbacks.describe_pending(), "");
    EXPECT_EQ(callbacks.done(), 1u);
}

TEST(CallbacksTest, AreShownOneByOneInTheOrderOfTheDriversCalls) {
    Callbacks callbacks;
    Client client;
    callbacks.attach(*client.client, *client.server);
    std::thread first([&] { Callbacks::stream_callback(nullptr, CUDA_ERROR_LAUNCH_FAILED, callbacks.context(1, Use::Once)); });
    EXPECT_EQ(client.shown(), 1u);
    EXPECT_EQ(client.server->callback_value, static_cast<uint32_t>(CUDA_ERROR_LAUNCH_FAILED));
    Callbacks::tell(callbacks.context(2, Use::Repeated), 5, "text", 4);
    EXPECT_EQ(client.shown(), 1u);  // still
    client.done();
    first.join();
    EXPECT_EQ(client.shown(), 2u);
    EXPECT_EQ(client.server->callback_value, 5u);
    ASSERT_EQ(client.server->callback_bytes, 4u);
    EXPECT_EQ(std::memcmp(client.server->callback_data, "text", 4), 0);
    client.done();
    EXPECT_TRUE(callbacks.collect());
    EXPECT_FALSE(callbacks.collect());
    EXPECT_EQ(callbacks.done(), 2u);
}

TEST(CallbacksTest, WhatIsNotDoneIsShownAgainToTheClientThatComesBack) {
    Callbacks callbacks;
    Client before;
    callbacks.attach(*before.client, *before.server);
    std::thread driver([&] { Callbacks::host_function(callbacks.context(3, Use::Once)); });
    EXPECT_EQ(before.shown(), 3u);
    callbacks.detach();
    EXPECT_TRUE(callbacks.pending());
    Client after;
    after.server->callback_ticket = 99;  // what a dump left there
    EXPECT_EQ(callbacks.refusal(*after.client), "");
    callbacks.attach(*after.client, *after.server);
    EXPECT_EQ(after.shown(), 3u);
    after.done();
    driver.join();
    EXPECT_FALSE(callbacks.pending());
}

TEST(CallbacksTest, WhatWasDoneBeforeTheClientVanishedIsNotShownAgain) {
    Callbacks callbacks;
    Client before;
    callbacks.attach(*before.client, *before.server);
    void* context = callbacks.context(4, Use::Repeated);
    Callbacks::tell(context, 0, nullptr, 0);
    Callbacks::tell(context, 1, nullptr, 0);
    EXPECT_EQ(before.shown(), 4u);
    before.done();
    callbacks.detach();  // has a last look
    Client after;
    after.client->callback_done = 1;
    EXPECT_EQ(callbacks.refusal(*after.client), "");
    callbacks.attach(*after.client, *after.server);
    EXPECT_EQ(after.server->callback_ticket, 2u);
    EXPECT_EQ(after.server->callback_value, 1u);
}

TEST(CallbacksTest, AnImageThatHasNotRunThemOrThatHasRunOthersIsRefused) {
    Callbacks callbacks;
    callbacks.set_done(10);
    Client client;
    client.client->callback_done = 9;
    EXPECT_NE(callbacks.refusal(*client.client).find("older than the session"), std::string::npos);
    client.client->callback_done = 11;
    EXPECT_NE(callbacks.refusal(*client.client).find("session is older"), std::string::npos);
    client.client->callback_done = 10;
    EXPECT_EQ(callbacks.refusal(*client.client), "");
    Callbacks::tell(callbacks.context(1, Use::Once), 0, nullptr, 0);
    callbacks.attach(*client.client, *client.server);
    EXPECT_EQ(client.server->callback_ticket, 11u);  // numbers go on
}

TEST(CallbacksTest, ByHandForAClientThatIsNotAttachedYet) {
    Callbacks callbacks;
    Client client;
    std::thread driver([&] { Callbacks::host_function(callbacks.context(5, Use::Once)); });
    while (!callbacks.pending()) std::this_thread::yield();
    EXPECT_EQ(callbacks.show_front(*client.server), 1u);
    EXPECT_EQ(client.shown(), 5u);
    client.done();
    callbacks.finish_front();
    driver.join();
    EXPECT_EQ(callbacks.show_front(*client.server), 0u);
}

TEST(CallbacksTest, ContextsOfRepeatedOnesStayTheSame) {
    Callbacks callbacks;
    void* context = callbacks.context(6, Use::Repeated);
    EXPECT_EQ(callbacks.context(6, Use::Repeated), context);
    EXPECT_NE(callbacks.context(6, Use::Once), context);
    callbacks.forget_repeated(6);
    callbacks.forget(context);  // gone already: nothing happens
    EXPECT_EQ(*callbacks.ticket(callbacks.context(6, Use::Repeated)), 0u);
}

}  // namespace
}  // namespace cricket::server
