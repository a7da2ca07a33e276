// SPDX-License-Identifier: MIT
// 2D and 3D copies of linear memory: every pair of memory types, offsets, pitches and heights, against the same copy made
// here; what must stay untouched; what is refused.
#include <cstring>
#include <random>
#include <vector>

#include "tests/memory/check.h"

using namespace example;

struct Memory {
    CUmemorytype type = CU_MEMORYTYPE_HOST;
    size_t bytes = 0;
    unsigned char* host = nullptr;
    CUdeviceptr device = 0;
    bool pinned = false;
    std::vector<unsigned char> pageable;

    Memory(CUmemorytype kind, bool page_locked, size_t size) : type(kind), bytes(size), pinned(page_locked) {
        if (kind == CU_MEMORYTYPE_DEVICE) {
            EXPECT_OK(cuMemAlloc(&device, size));
        } else if (page_locked) {
            EXPECT_OK(cuMemHostAlloc(reinterpret_cast<void**>(&host), size, 0));
        } else {
            pageable.resize(size);
            host = pageable.data();
        }
    }
    ~Memory() {
        if (device) cuMemFree(device);
        if (pinned) cuMemFreeHost(host);
    }
    Memory(const Memory&) = delete;
    void write(const std::vector<unsigned char>& data) {
        if (device)
            EXPECT_OK(cuMemcpyHtoD(device, data.data(), bytes));
        else
            std::memcpy(host, data.data(), bytes);
    }
    std::vector<unsigned char> read() {
        std::vector<unsigned char> data(bytes);
        if (device)
            EXPECT_OK(cuMemcpyDtoH(data.data(), device, bytes));
        else
            std::memcpy(data.data(), host, bytes);
        return data;
    }
    CUdeviceptr unified() const { return device ? device : reinterpret_cast<CUdeviceptr>(host); }
};

struct Shape {
    size_t width, height, depth;
    size_t source_pitch, source_height, source_x, source_y, source_z;
    size_t target_pitch, target_height, target_x, target_y, target_z;
    size_t source_bytes() const { return source_pitch * source_height * (source_z + depth); }
    size_t target_bytes() const { return target_pitch * target_height * (target_z + depth); }
};

static std::vector<unsigned char> noise(size_t bytes, unsigned seed) {
    std::vector<unsigned char> data(bytes);
    std::minstd_rand random(seed);
    for (auto& byte : data) byte = static_cast<unsigned char>(random() >> 8);
    return data;
}

static CUDA_MEMCPY3D box(const Shape& s, const Memory& from, const Memory& to, bool unified) {
    CUDA_MEMCPY3D copy{};
    copy.srcXInBytes = s.source_x, copy.srcY = s.source_y, copy.srcZ = s.source_z;
    copy.srcPitch = s.source_pitch, copy.srcHeight = s.source_height;
    copy.dstXInBytes = s.target_x, copy.dstY = s.target_y, copy.dstZ = s.target_z;
    copy.dstPitch = s.target_pitch, copy.dstHeight = s.target_height;
    copy.WidthInBytes = s.width, copy.Height = s.height, copy.Depth = s.depth;
    copy.srcMemoryType = unified ? CU_MEMORYTYPE_UNIFIED : from.type;
    copy.dstMemoryType = unified ? CU_MEMORYTYPE_UNIFIED : to.type;
    copy.srcHost = from.host, copy.dstHost = to.host;
    copy.srcDevice = unified ? from.unified() : from.device, copy.dstDevice = unified ? to.unified() : to.device;
    return copy;
}

static CUDA_MEMCPY2D flat(const CUDA_MEMCPY3D& b) {
    CUDA_MEMCPY2D copy{};
    copy.srcXInBytes = b.srcXInBytes, copy.srcY = b.srcY, copy.srcMemoryType = b.srcMemoryType, copy.srcHost = b.srcHost;
    copy.srcDevice = b.srcDevice, copy.srcPitch = b.srcPitch;
    copy.dstXInBytes = b.dstXInBytes, copy.dstY = b.dstY, copy.dstMemoryType = b.dstMemoryType, copy.dstHost = b.dstHost;
    copy.dstDevice = b.dstDevice, copy.dstPitch = b.dstPitch;
    copy.WidthInBytes = b.WidthInBytes, copy.Height = b.Height;
    return copy;
}

static CUDA_MEMCPY3D_PEER peer(const CUDA_MEMCPY3D& b, CUcontext context) {
    CUDA_MEMCPY3D_PEER copy;
    static_assert(sizeof copy == sizeof b);
    std::memcpy(&copy, &b, sizeof copy);
    copy.srcContext = copy.dstContext = context;
    return copy;
}

enum class Call { TwoD, TwoDAsync, Unaligned, ThreeD, ThreeDAsync, Peer, PeerAsync };

static CUresult run(Call call, const CUDA_MEMCPY3D& b, CUstream stream, CUcontext context) {
    const CUDA_MEMCPY2D two = flat(b);
    const CUDA_MEMCPY3D_PEER between = peer(b, context);
    switch (call) {
        case Call::TwoD: return cuMemcpy2D(&two);
        case Call::TwoDAsync: return cuMemcpy2DAsync(&two, stream);
        case Call::Unaligned: return cuMemcpy2DUnaligned(&two);
        case Call::ThreeD: return cuMemcpy3D(&b);
        case Call::ThreeDAsync: return cuMemcpy3DAsync(&b, stream);
        case Call::Peer: return cuMemcpy3DPeer(&between);
        case Call::PeerAsync: return cuMemcpy3DPeerAsync(&between, stream);
    }
    return CUDA_ERROR_UNKNOWN;
}

static void compare(const Shape& s, Call call, Memory& from, Memory& to, bool unified, CUstream stream, CUcontext context) {
    const auto source = noise(from.bytes, 1), before = noise(to.bytes, 2);
    from.write(source);
    to.write(before);
    EXPECT_OK(cuCtxSynchronize());  // the stream below does not wait for the legacy one
    if (const CUresult result = run(call, box(s, from, to, unified), stream, context); result != CUDA_SUCCESS)
        fail("call %d, type %d%s to %d%s%s, %zu x %zu x %zu: %s", int(call), int(from.type), from.pinned ? " pinned" : "", int(to.type),
             to.pinned ? " pinned" : "", unified ? ", unified" : "", s.width, s.height, s.depth, name_of(result));
    EXPECT_OK(cuStreamSynchronize(stream));
    // A copy without Async from one place on the device to another may still be under way.
    EXPECT_OK(cuCtxSynchronize());
    auto expected = before;
    for (size_t z = 0; z < s.depth; ++z)
        for (size_t y = 0; y < s.height; ++y)
            std::memcpy(&expected[((s.target_z + z) * s.target_height + s.target_y + y) * s.target_pitch + s.target_x],
                        &source[((s.source_z + z) * s.source_height + s.source_y + y) * s.source_pitch + s.source_x], s.width);
    const auto seen = to.read();
    for (size_t i = 0; i < seen.size(); ++i)
        if (seen[i] != expected[i])
            fail("call %d, type %d%s to %d%s%s: byte %zu is %u, not %u", int(call), int(from.type), from.pinned ? " pinned" : "",
                 int(to.type), to.pinned ? " pinned" : "", unified ? ", unified" : "", i, seen[i], expected[i]);
}

// `few`: of large shapes, with which pieces matter and not the function called.
static void all_pairs(const Shape& s, CUstream stream, CUcontext context, bool few = false) {
    struct Kind {
        CUmemorytype type;
        bool pinned;
    };
    const Kind kinds[] = {{CU_MEMORYTYPE_DEVICE, false}, {CU_MEMORYTYPE_HOST, false}, {CU_MEMORYTYPE_HOST, true}};
    for (const Kind& a : kinds) {
        for (const Kind& b : kinds) {
            Memory from(a.type, a.pinned, s.source_bytes()), to(b.type, b.pinned, s.target_bytes());
            for (bool unified : {false, true}) {
                for (Call call : {Call::TwoD, Call::TwoDAsync, Call::Unaligned, Call::ThreeD, Call::ThreeDAsync, Call::Peer, Call::PeerAsync}) {
                    const bool two = call == Call::TwoD || call == Call::TwoDAsync || call == Call::Unaligned;
                    if (few && (unified || (call != Call::TwoD && call != Call::ThreeDAsync))) continue;
                    if (two && (s.depth > 1 || s.source_z || s.target_z)) continue;
                    compare(s, call, from, to, unified, stream, context);
                }
            }
        }
    }
}

static void refusals() {
    Memory device(CU_MEMORYTYPE_DEVICE, false, 4096), host(CU_MEMORYTYPE_HOST, false, 4096);
    const Shape small{16, 4, 2, 32, 8, 0, 0, 0, 64, 8, 0, 0, 0};
    const CUDA_MEMCPY3D good = box(small, host, device, false);
    EXPECT_OK(cuMemcpy3D(&good));
    EXPECT_RESULT(CUDA_ERROR_INVALID_VALUE, cuMemcpy3D(nullptr));
    EXPECT_RESULT(CUDA_ERROR_INVALID_VALUE, cuMemcpy2D(nullptr));
    auto refused = [&](auto change) {
        CUDA_MEMCPY3D bad = good;
        change(bad);
        EXPECT_RESULT(CUDA_ERROR_INVALID_VALUE, cuMemcpy3D(&bad));
    };
    refused([](CUDA_MEMCPY3D& c) { c.srcMemoryType = static_cast<CUmemorytype>(0); });
    refused([](CUDA_MEMCPY3D& c) { c.dstMemoryType = static_cast<CUmemorytype>(9); });
    refused([](CUDA_MEMCPY3D& c) { c.srcHost = nullptr; });
    refused([](CUDA_MEMCPY3D& c) { c.dstDevice = 0; });
    refused([](CUDA_MEMCPY3D& c) { c.srcPitch = 8; });
    refused([](CUDA_MEMCPY3D& c) { c.dstPitch = 8; });
    refused([](CUDA_MEMCPY3D& c) { c.srcXInBytes = 20; });
    refused([](CUDA_MEMCPY3D& c) { c.srcHeight = 2; });
    refused([](CUDA_MEMCPY3D& c) { c.dstDevice = 0x1000; });
    // Nothing to copy is no mistake.
    for (size_t CUDA_MEMCPY3D::*extent : {&CUDA_MEMCPY3D::WidthInBytes, &CUDA_MEMCPY3D::Height, &CUDA_MEMCPY3D::Depth}) {
        CUDA_MEMCPY3D none = good;
        none.*extent = 0;
        EXPECT_OK(cuMemcpy3D(&none));
    }
    // Rows and slices as tight as they can be, where none are given.
    CUDA_MEMCPY2D tight = flat(good);
    tight.srcPitch = 0;
    EXPECT_OK(cuMemcpy2D(&tight));
}

int main() {
    const CUcontext context = begin();
    std::puts("boxes of linear memory");
    std::fflush(stdout);
    CUstream stream = nullptr;
    EXPECT_OK(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
    all_pairs({16, 4, 1, 32, 8, 0, 0, 0, 64, 8, 0, 0, 0}, stream, context);
    all_pairs({33, 7, 1, 64, 16, 5, 3, 0, 101, 12, 60, 4, 0}, stream, context);
    all_pairs({33, 7, 5, 64, 16, 5, 3, 2, 101, 12, 60, 4, 1}, stream, context);
    all_pairs({4096, 700, 1, 4096, 700, 0, 0, 0, 8192, 700, 512, 0, 0}, stream, context, true);  // more than one piece
    all_pairs({1000, 100, 30, 1024, 101, 7, 1, 0, 1000, 100, 0, 0, 0}, stream, context, true);
    all_pairs({3u << 20, 2, 1, 4u << 20, 2, 11, 0, 0, 3u << 20, 2, 0, 0, 0}, stream, context, true);  // rows longer than a piece
    refusals();
    return pass("2D and 3D copies");
}
