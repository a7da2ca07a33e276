// SPDX-License-Identifier: MIT
// The kernel that names the content of chunks, as the software GPU runs it, against the same in C++.
#include <cuda.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>

#include <random>
#include <set>
#include <string_view>
#include <vector>

#include "chunk_hash_image.h"
#include "snapshot_chunks.h"

namespace cricket::server {
namespace {

struct State {
    uint64_t a, b;
    void step(uint64_t x, uint64_t y) {
        a = (a ^ x) * 0x9FB21C651E98DF25;
        a ^= a >> 32;
        b = ((b ^ y) + a) * 0xD6E8FEB86659FD93;
        b ^= b >> 29;
        a += b;
    }
};

ContentId reference(std::vector<uint8_t> data) {
    const size_t bytes = data.size();
    bool zeros = true;
    for (const uint8_t byte : data) zeros &= byte == 0;
    if (zeros) return zeros_id;
    data.resize((bytes + 15) / 16 * 16);
    std::vector<State> lanes;
    for (uint64_t t = 0; t < 256; ++t) lanes.push_back({t + 0x243F6A8885A308D3, t ^ 0x13198A2E03707344});
    for (size_t i = 0; i < data.size() / 16; ++i) {
        uint64_t word[2];
        std::memcpy(word, data.data() + 16 * i, sizeof word);
        lanes[i % 256].step(word[0], word[1]);
    }
    for (size_t half = 128; half; half /= 2)
        for (size_t t = 0; t < half; ++t) lanes[t].step(lanes[t + half].a, lanes[t + half].b);
    State all = lanes[0];
    all.step(bytes, 0x452821E638D01377);
    all.step(all.b, all.a);
    return {all.a ? all.a : 1, all.b};
}

class ChunkHash : public testing::Test {
  protected:
    ChunkHash() {
        EXPECT_EQ(cuInit(0), CUDA_SUCCESS);
        CUcontext context = nullptr;
        EXPECT_EQ(cuDevicePrimaryCtxRetain(&context, 0), CUDA_SUCCESS);
        EXPECT_EQ(cuCtxSetCurrent(context), CUDA_SUCCESS);
        CUmodule module = nullptr;
        EXPECT_EQ(cuModuleLoadData(&module, chunk_hash_image), CUDA_SUCCESS);
        EXPECT_EQ(cuModuleGetFunction(&function_, module, "cricket_hash"), CUDA_SUCCESS);
    }
    // Of chunks that lie one behind the other, each at a multiple of 512.
    std::vector<ContentId> hash(const std::vector<std::vector<uint8_t>>& chunks) {
        struct Chunk {
            uint64_t address;
            uint32_t bytes, zero;
        };
        size_t room = 0;
        for (const auto& chunk : chunks) room += (chunk.size() + 511) / 512 * 512;
        CUdeviceptr memory = 0, list = 0, ids = 0;
        EXPECT_EQ(cuMemAlloc(&memory, room), CUDA_SUCCESS);
        EXPECT_EQ(cuMemsetD8(memory, 0xa5, room), CUDA_SUCCESS);  // what lies between must not matter
        EXPECT_EQ(cuMemAlloc(&list, chunks.size() * sizeof(Chunk)), CUDA_SUCCESS);
        EXPECT_EQ(cuMemAlloc(&ids, chunks.size() * sizeof(ContentId)), CUDA_SUCCESS);
        std::vector<Chunk> described;
        CUdeviceptr at = memory;
        for (const auto& chunk : chunks) {
            EXPECT_EQ(cuMemcpyHtoD(at, chunk.data(), chunk.size()), CUDA_SUCCESS);
            described.push_back({at, static_cast<uint32_t>(chunk.size()), 0});
            at += (chunk.size() + 511) / 512 * 512;
        }
        EXPECT_EQ(cuMemcpyHtoD(list, described.data(), described.size() * sizeof(Chunk)), CUDA_SUCCESS);
        void* parameters[] = {&list, &ids};
        EXPECT_EQ(cuLaunchKernel(function_, static_cast<unsigned>(chunks.size()), 1, 1, 256, 1, 1, 0, nullptr, parameters, nullptr),
                  CUDA_SUCCESS);
        std::vector<ContentId> result(chunks.size());
        EXPECT_EQ(cuMemcpyDtoH(result.data(), ids, result.size() * sizeof(ContentId)), CUDA_SUCCESS);
        for (const CUdeviceptr one : {memory, list, ids}) cuMemFree(one);
        return result;
    }
    static std::vector<uint8_t> random_bytes(size_t count, unsigned seed) {
        std::mt19937_64 random(seed);
        std::vector<uint8_t> data(count);
        for (uint8_t& byte : data) byte = static_cast<uint8_t>(random());
        return data;
    }
    CUfunction function_ = nullptr;
};

TEST_F(ChunkHash, IsWhatItIsInCxx) {
    std::vector<std::vector<uint8_t>> chunks;
    for (const size_t bytes : {1, 2, 7, 8, 9, 15, 16, 17, 31, 32, 4095, 4096, 4097, 8191, 8192, 8193, 12288, 65536, 100001,
                               int(snapshot_chunk_bytes) - 1, int(snapshot_chunk_bytes)})
        chunks.push_back(random_bytes(bytes, static_cast<unsigned>(bytes)));
    const std::vector<ContentId> ids = hash(chunks);
    for (size_t i = 0; i < chunks.size(); ++i) EXPECT_EQ(ids[i], reference(chunks[i])) << chunks[i].size() << " bytes";
}

TEST_F(ChunkHash, ZerosOfAnyLengthAreKnown) {
    std::vector<std::vector<uint8_t>> chunks;
    for (const size_t bytes : {1, 16, 100, 5000, int(snapshot_chunk_bytes)}) chunks.emplace_back(bytes);
    for (const ContentId& id : hash(chunks)) EXPECT_EQ(id, zeros_id);
    for (auto& chunk : chunks) chunk.back() = 1;
    for (const ContentId& id : hash(chunks)) EXPECT_NE(id, zeros_id);
}

// One bit anywhere, a word moved, a word more of zeros: all have ids of their own.
TEST_F(ChunkHash, EveryDifferenceShows) {
    const auto data = random_bytes(20000, 1);
    std::vector<std::vector<uint8_t>> chunks{data};
    std::mt19937 random(2);
    for (int i = 0; i < 300; ++i) {
        chunks.push_back(data);
        chunks.back()[random() % data.size()] ^= static_cast<uint8_t>(1u << random() % 8);
    }
    for (int i = 0; i < 100; ++i) {
        chunks.push_back(data);
        auto& moved = chunks.back();
        const size_t one = random() % (data.size() / 16), other = (one + 1 + random() % 600) % (data.size() / 16);
        std::swap_ranges(moved.begin() + static_cast<ptrdiff_t>(16 * one), moved.begin() + static_cast<ptrdiff_t>(16 * one + 16),
                         moved.begin() + static_cast<ptrdiff_t>(16 * other));
    }
    for (size_t more = 1; more < 40; ++more) {
        chunks.push_back(data);
        chunks.back().resize(data.size() + more);
    }
    const std::vector<ContentId> ids = hash(chunks);
    std::set<std::pair<uint64_t, uint64_t>> different;
    std::set<std::string_view> contents;
    for (const auto& chunk : chunks) contents.insert({reinterpret_cast<const char*>(chunk.data()), chunk.size()});
    for (const ContentId& id : ids) different.insert({id.low, id.high});
    EXPECT_EQ(different.size(), contents.size());
}

}  // namespace
}  // namespace cricket::server
