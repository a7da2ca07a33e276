// SPDX-License-Identifier: MIT
// The codec on every described function: what a caller has is what the driver sees, what the driver writes is what the
// caller gets, and no bytes from the wire make either side go beyond its memory.
#include <arpa/inet.h>
#include <gtest/gtest.h>

#include <cstring>
#include <random>
#include <vector>

#include "nvml_functions.h"
#include "rpc/nvml/codec.h"

namespace cricket::nvml {
namespace {

class Numbers final : public Translator {
  public:
    uint64_t number_of(HandleKind, void* real) override { return reinterpret_cast<uint64_t>(real) - 1000; }
    void* real_of(HandleKind, uint64_t number) override { return reinterpret_cast<void*>(number + 1000); }
    uint32_t application_of(uint32_t pid) override { return pid + 7; }
};

constexpr uint32_t most_elements = 8;

// A caller's memory for one function, with a pattern behind each piece that must stay.
struct Caller {
    explicit Caller(const Function& function) : memory(most_parameters) {
        for (unsigned i = 0; i < function.parameters; ++i) {
            const Parameter& parameter = function.parameter[i];
            memory[i].assign(parameter.returned_count ? 2 * most_returned : 64 * parameter.element + 4096, 0x5a);
            if (parameter.kind == Kind::Text) std::strcpy(reinterpret_cast<char*>(memory[i].data()), "a text");
            const bool pointer = parameter.kind == Kind::Text || parameter.kind == Kind::Memory ||
                                 parameter.kind == Kind::HandleOut;
            words[i] = pointer ? reinterpret_cast<uint64_t>(memory[i].data()) : 3 + i;
            if (parameter.versioned) set(i, 0, 1u << 24 | parameter.element);
            if (!parameter.inner.element) continue;
            set(i, parameter.inner.count_offset, most_elements);
            unsigned char* array = inner;
            std::memcpy(memory[i].data() + parameter.inner.offset, &array, sizeof array);
        }
        for (unsigned i = 0; i < function.parameters; ++i) {
            const int count = function.parameter[i].count;
            if (count >= 0 && function.parameter[i].by_reference) set(static_cast<unsigned>(count), 0, most_elements);
        }
    }
    void set(unsigned parameter, size_t offset, uint32_t value) {
        std::memcpy(memory[parameter].data() + offset, &value, sizeof value);
    }
    std::vector<std::vector<unsigned char>> memory;
    unsigned char inner[most_elements * 128] = {};
    Words words{};
};

TEST(Codec, WhatTheDriverWritesIsWhatTheCallerGets) {
    Numbers numbers;
    std::vector<char> message(1 << 20), answer(1 << 20);
    for (uint32_t f = 0; f < function_count; ++f) {
        const Function& function = functions[f];
        SCOPED_TRACE(function.name);
        Caller caller(function);
        XDR xdrs;
        xdrmem_create(&xdrs, message.data(), static_cast<u_int>(message.size()), XDR_ENCODE);
        ASSERT_TRUE(encode_call(&xdrs, function, caller.words));
        const u_int bytes = XDR_GETPOS(&xdrs);
        xdrmem_create(&xdrs, message.data(), bytes, XDR_DECODE);
        Arguments arguments;
        ASSERT_TRUE(arguments.decode(&xdrs, function, numbers));
        EXPECT_EQ(XDR_GETPOS(&xdrs), bytes);
        for (unsigned i = 0; i < function.parameters; ++i) {
            const Parameter& parameter = function.parameter[i];
            auto* place = reinterpret_cast<unsigned char*>(arguments.words()[i]);
            switch (parameter.kind) {
                case Kind::Text: EXPECT_STREQ(reinterpret_cast<char*>(place), "a text"); break;
                case Kind::Handle: EXPECT_EQ(arguments.words()[i], caller.words[i] + 1000); break;
                case Kind::HandleOut: {
                    const uint64_t real = 1000 + 42;
                    std::memcpy(place, &real, sizeof real);
                    break;
                }
                case Kind::Memory:
                    if (!parameter.only_returned()) {
                        const size_t shown = parameter.inner.element ? parameter.inner.offset : parameter.element;
                        EXPECT_EQ(std::memcmp(place, caller.memory[i].data(), shown), 0);
                    }
                    // The last byte of the first element, which no member, count or version of the description is in.
                    if (parameter.element > 4 && !parameter.inner.element) place[parameter.element - 1] = 0x77;
                    break;
                default: EXPECT_EQ(arguments.words()[i], caller.words[i]);
            }
        }
        xdrmem_create(&xdrs, answer.data(), static_cast<u_int>(answer.size()), XDR_ENCODE);
        ASSERT_TRUE(arguments.encode_reply(&xdrs, function, success, numbers));
        const u_int answered = XDR_GETPOS(&xdrs);
        xdrmem_create(&xdrs, answer.data(), answered, XDR_DECODE);
        int status = -1;
        ASSERT_TRUE(decode_reply(&xdrs, function, caller.words, &status));
        EXPECT_EQ(status, success);
        EXPECT_EQ(XDR_GETPOS(&xdrs), answered);
        for (unsigned i = 0; i < function.parameters; ++i) {
            const Parameter& parameter = function.parameter[i];
            const auto& memory = caller.memory[i];
            uint64_t number = 0;
            std::memcpy(&number, memory.data(), sizeof number);
            if (parameter.kind == Kind::HandleOut) {
                EXPECT_EQ(number, 42u);
            } else if (parameter.kind == Kind::Memory && parameter.element > 4 && !parameter.inner.element) {
                EXPECT_EQ(memory[parameter.element - 1], 0x77);
            }
            const size_t beyond = parameter.returned_count ? most_returned : parameter.element * most_elements + 16;
            const std::vector<unsigned char> untouched(memory.size() - beyond, 0x5a);
            EXPECT_EQ(std::memcmp(memory.data() + beyond, untouched.data(), untouched.size()), 0);
        }
    }
}

TEST(Codec, ArbitraryBytes) {
    Numbers numbers;
    std::mt19937 random(1);
    std::vector<char> answer(8 << 20);
    for (int round = 0; round < 30; ++round)
        for (uint32_t f = 0; f < function_count; ++f) {
            const Function& function = functions[f];
            // Small words, so that booleans and lengths are often right.
            std::vector<uint32_t> words(random() % 40);
            for (uint32_t& word : words) word = htonl(random() % 3 == 0 ? random() : random() % 9);
            XDR xdrs;
            xdrmem_create(&xdrs, reinterpret_cast<char*>(words.data()), static_cast<u_int>(words.size() * 4), XDR_DECODE);
            Arguments arguments;
            const bool good = arguments.decode(&xdrs, function, numbers);
            if (good) {
                xdrmem_create(&xdrs, answer.data(), static_cast<u_int>(answer.size()), XDR_ENCODE);
                EXPECT_TRUE(arguments.encode_reply(&xdrs, function, success, numbers)) << function.name;
            }
            // The same as a reply, for a caller.
            Caller caller(function);
            int status = 0;
            xdrmem_create(&xdrs, reinterpret_cast<char*>(words.data()), static_cast<u_int>(words.size() * 4), XDR_DECODE);
            decode_reply(&xdrs, function, caller.words, &status);
            for (unsigned i = 0; i < function.parameters; ++i) {
                const Parameter& parameter = function.parameter[i];
                const size_t beyond = parameter.returned_count ? most_returned : parameter.element * most_elements + 16;
                ASSERT_EQ(caller.memory[i][beyond], 0x5a) << function.name;
            }
        }
}

TEST(Codec, LengthsThatContradictEachOther) {
    Numbers numbers;
    const auto decodes = [&](Proc proc, std::vector<uint32_t> words) {
        for (uint32_t& word : words) word = htonl(word);
        XDR xdrs;
        xdrmem_create(&xdrs, reinterpret_cast<char*>(words.data()), static_cast<u_int>(words.size() * 4), XDR_DECODE);
        Arguments arguments;
        for (uint32_t f = 0; f < function_count; ++f)
            if (functions[f].procedure == static_cast<uint32_t>(proc))
                return arguments.decode(&xdrs, functions[f], numbers);
        return false;
    };
    const uint32_t version = htonl(0x02000028);  // as it lies in the caller's memory
    // nvmlDeviceGetName(device, name, length): a name of 4 bytes
    EXPECT_TRUE(decodes(Proc::nvmlDeviceGetName, {0, 1, 1, 4, 0, 4}));
    EXPECT_FALSE(decodes(Proc::nvmlDeviceGetName, {0, 1, 1, 4, 0, 96}));
    EXPECT_FALSE(decodes(Proc::nvmlDeviceGetName, {0, 1, 1, 0xfffffff0, 0, 0xfffffff0}));
    // A struct whose version says 40 bytes
    EXPECT_TRUE(decodes(Proc::nvmlDeviceGetMemoryInfo_v2, {0, 1, 1, 4, ntohl(version)}));
    EXPECT_FALSE(decodes(Proc::nvmlDeviceGetMemoryInfo_v2, {0, 1, 1, 8, ntohl(version), 0}));
    EXPECT_FALSE(decodes(Proc::nvmlDeviceGetMemoryInfo_v2, {0, 1, 1, 0}));
    // An array whose count would need 16 GiB
    EXPECT_FALSE(decodes(Proc::nvmlDeviceGetSupportedMemoryClocks, {0, 1, 1, 4, 0xffffffff, 1, 0}));
    // A count that is not there counts nothing
    EXPECT_TRUE(decodes(Proc::nvmlDeviceGetSupportedMemoryClocks, {0, 1, 0, 1, 0}));
}

}  // namespace
}  // namespace cricket::nvml
