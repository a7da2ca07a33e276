// SPDX-License-Identifier: MIT
// Loads and stores in every space, atomics, exchanges within warps, and what bad addresses do.
#include <numeric>

#include "harness.h"

namespace softgpu::ptx::test {
namespace {

std::string kernel(const std::string& body, const std::string& before = "") {
    return kHeader + before +
           ".visible .entry k(.param .u64 out, .param .u64 in)\n{\n"
           ".reg .pred %p, %q, %r; .reg .b16 %h, %g; .reg .b32 %t, %i, %j, %k, %v, %w; .reg .b64 %o, %in, "
           "%base, %x, %y, %z;\n"
           ".reg .f32 %f; .reg .f64 %e;\n"
           "ld.param.u64 %base, [out]; ld.param.u64 %in, [in]; mov.u32 %i, %ctaid.x; mov.u32 %j, %ntid.x;\n"
           "mov.u32 %k, %tid.x; mad.lo.u32 %t, %i, %j, %k; mul.wide.u32 %x, %t, 4; add.u64 %o, %base, %x;\n" +
           body + "\n}\n";
}

template <class T = uint32_t, class I = uint32_t>
std::vector<T> run(const std::string& text, const std::vector<I>& in, size_t results, Dim3 block = {64},
                   Dim3 grid = {1}) {
    Gpu gpu(text);
    T* out = gpu.array<T>(results);
    gpu.run("k", grid, block, out, gpu.array(in));
    return {out, out + results};
}

std::vector<uint32_t> numbers(uint32_t n) {
    std::vector<uint32_t> v(n);
    std::iota(v.begin(), v.end(), 1000u);
    return v;
}

TEST(Memory, Patterns) {
    auto in = numbers(256);
    for (auto& [index, f] : std::vector<std::pair<std::string, std::function<uint32_t(uint32_t)>>>{
             {"mov.u32 %i, %t;", [](uint32_t t) { return t; }},
             {"mov.u32 %i, 5;", [](uint32_t) { return 5; }},
             {"shl.b32 %i, %t, 1;", [](uint32_t t) { return 2 * t; }},
             {"sub.u32 %i, 63, %t;", [](uint32_t t) { return 63 - t; }},
             {"mul.lo.u32 %i, %t, 37; and.b32 %i, %i, 127;", [](uint32_t t) { return t * 37 % 128; }}}) {
        auto out = run(kernel(index + "mul.wide.u32 %x, %i, 4; add.u64 %x, %in, %x; ld.global.u32 %v, [%x]; "
                                      "st.global.u32 [%o], %v; ret;"),
                       in, 64);
        for (uint32_t t = 0; t < 64; ++t) EXPECT_EQ(out[t], in[f(t)]) << index;
        // The same through shared memory: scatter, then gather.
        out = run(kernel(index + "mov.u32 %j, s; shl.b32 %i, %i, 2; add.u32 %j, %j, %i; st.shared.u32 [%j], "
                                 "%t; bar.sync 0;"
                                 "ld.shared.u32 %v, [%j]; setp.eq.u32 %p, %v, %t; selp.u32 %v, 1, 0, %p; "
                                 "st.global.u32 [%o], %v; ret;",
                         ".shared .align 4 .b8 s[1024];\n"),
                  in, 64);
        for (uint32_t t = 0; t < 64; ++t)
            if (f(0) != f(1)) {
                EXPECT_EQ(out[t], 1u) << index;
            }
    }
}

TEST(Memory, NarrowTypesAndVectors) {
    std::vector<uint8_t> in(1024);
    for (size_t i = 0; i < in.size(); ++i) in[i] = uint8_t(i * 7 + 200);
    std::string at = "mul.wide.u32 %x, %t, 4; add.u64 %x, %in, %x;";
    auto out = run(kernel(at + "ld.global.s8 %v, [%x+1]; st.global.u32 [%o], %v; ret;"), in, 64);
    for (size_t t = 0; t < 64; ++t) EXPECT_EQ(int32_t(out[t]), int8_t(in[4 * t + 1]));
    out = run(kernel(at + "ld.global.nc.u16 %h, [%x+2]; cvt.u32.u16 %v, %h; st.global.u32 [%o], %v; ret;"),
              in, 64);
    for (size_t t = 0; t < 64; ++t) EXPECT_EQ(out[t], in[4 * t + 2] | in[4 * t + 3] << 8);
    out = run(kernel("{.reg .b32 a, b, c, e; mul.wide.u32 %x, %t, 16; add.u64 %x, %in, %x; ld.global.v4.u32 "
                     "{a, b, c, e}, [%x];"
                     "xor.b32 a, a, b; xor.b32 a, a, c; xor.b32 a, a, e; st.global.u32 [%o], a; ret;}"),
              in, 64);
    auto word = [&](size_t i) {
        uint32_t w;
        std::memcpy(&w, &in[4 * i], 4);
        return w;
    };
    for (size_t t = 0; t < 64; ++t)
        EXPECT_EQ(out[t], word(4 * t) ^ word(4 * t + 1) ^ word(4 * t + 2) ^ word(4 * t + 3));
    out = run(kernel(at + "{.reg .b16 a, b, c, e; ld.global.v4.u8 {a, b, c, e}, [%x]; st.global.v4.u8 [%o], "
                          "{e, c, b, a}; ret;}"),
              in, 64);
    for (size_t t = 0; t < 64; ++t) EXPECT_EQ(out[t], __builtin_bswap32(word(t)));
    auto wide = run<uint64_t>(
        kernel("{.reg .b64 a, b; mul.wide.u32 %x, %t, 16; add.u64 %y, %in, %x; add.u64 %o, %base, %x;"
               "ld.global.v2.u64 {a, b}, [%y]; st.global.v2.u64 [%o], {b, a}; ret;}"),
        in, 128);
    for (size_t t = 0; t < 64; ++t)
        EXPECT_EQ(
            std::memcmp(&wide[2 * t], &in[16 * t + 8], 8) | std::memcmp(&wide[2 * t + 1], &in[16 * t], 8), 0);
}

TEST(Memory, GlobalsWithInitialValues) {
    std::string before = R"(
.global .align 4 .u32 four[4] = {1, 2, 0x30, -4};
.global .align 1 .b8 text[6] = {104, 101, 108, 108, 111};
.global .align 8 .u64 pointer = generic(four)+8;
.const .align 8 .f64 pi = 0d400921FB54442D18;
.const .align 4 .f32 floats[2][2] = {{0f3F800000, 2.5}, {0f00000000, -1.0}};
.global .align 8 .b8 packed[16] = {7, 0, 0, 0, 0, 0, 0, 0, 0xFF(generic(four)), 0xFF00(generic(four)), 0xFF0000(generic(four)), 0xFF000000(generic(four)), 0xFF00000000(generic(four)), 0xFF0000000000(generic(four)), 0xFF000000000000(generic(four)), 0xFF00000000000000(generic(four))};
.global .attribute(.managed) .align 4 .u32 shared_with_host = 9;
.global .align 4 .b8 zeros[64];
)";
    Gpu gpu(kernel(R"(
        ld.global.u64 %x, [pointer]; ld.u32 %v, [%x]; st.global.u32 [%base], %v;
        mov.u64 %y, packed; ld.global.u64 %y, [%y+8]; ld.global.u32 %v, [%y+12]; st.global.u32 [%base+4], %v;
        ld.const.f64 %e, [pi]; cvt.rn.f32.f64 %f, %e; st.global.f32 [%base+8], %f;
        mov.u64 %z, floats; ld.const.f32 %f, [%z+12]; st.global.f32 [%base+12], %f;
        ld.global.u8 %h, [text+4]; cvt.u32.u16 %v, %h; st.global.u32 [%base+16], %v;
        ld.global.u32 %v, [shared_with_host]; st.global.u32 [%base+20], %v; st.global.u32 [zeros+8], %v; ret;)",
                   before));
    uint32_t* out = gpu.array<uint32_t>(6);
    *gpu.variable<uint32_t>("shared_with_host") += 1;
    gpu.run("k", {1}, {1}, out, uint64_t{0});
    EXPECT_EQ(out[0], 0x30u);
    EXPECT_EQ(out[1], uint32_t(-4));
    EXPECT_EQ(std::memcmp(&out[2], "\xdb\x0f\x49\x40", 4), 0);
    EXPECT_EQ(out[3], 0xbf800000u);
    EXPECT_EQ(out[4], 'o');
    EXPECT_EQ(out[5], 10u);
    EXPECT_EQ(gpu.variable<uint32_t>("zeros")[2], 10u);
    EXPECT_EQ(gpu.variable<uint32_t>("zeros")[3], 0u);
    size_t managed = 0, constant = 0;
    for (auto& v : gpu.module().variables()) managed += v.managed, constant += v.constant;
    EXPECT_EQ(managed, 1u);
    EXPECT_EQ(constant, 2u);
}

TEST(Memory, LocalAndGenericAddresses) {
    auto out = run(kernel(R"({
        .local .align 8 .b8 depot[64]; .shared .align 4 .b8 s[256]; .reg .b64 sp, spl;
        mov.u64 spl, depot; cvta.local.u64 sp, spl;
        st.local.u32 [spl+12], %t; add.u64 %y, sp, 12; ld.u32 %v, [%y];
        mov.u32 %j, %tid.x; mul.wide.u32 %x, %j, 4; mov.u64 %z, s; add.u64 %z, %z, %x; cvta.shared.u64 %z, %z;
        add.u32 %v, %v, 5; st.u32 [%z], %v; isspacep.shared %p, %z; isspacep.local %q, %y; isspacep.global %r, %o;
        cvta.to.shared.u64 %x, %z; ld.shared.u32 %w, [%x]; @!%p mov.u32 %w, 0; @!%q mov.u32 %w, 0; @!%r mov.u32 %w, 0;
        and.b32 %i, %t, 1; setp.eq.u32 %p, %i, 0; selp.b64 %x, %z, %y, %p; ld.u32 %v, [%x]; // lanes in different windows
        mad.lo.u32 %w, %w, 1000, %v; st.u32 [%o], %w; ret; })"),
                   std::vector<uint32_t>{0}, 64);
    for (uint32_t t = 0; t < 64; ++t) EXPECT_EQ(out[t], (t + 5) * 1000 + (t % 2 ? t : t + 5));
}

TEST(Memory, DynamicSharedMemoryBehindStatic) {
    Gpu gpu(kernel(R"({.shared .align 4 .b8 fixed[20];
        mov.u32 %i, dynamic; mov.u32 %j, fixed; sub.u32 %v, %i, %j; st.shared.u32 [%i+36], %v; ld.shared.u32 %w, [dynamic+36];
        st.global.u32 [%base], %w; mov.u32 %w, %dynamic_smem_size; st.global.u32 [%base+4], %w; ret;})",
                   ".extern .shared .align 16 .b8 dynamic[];\n"));
    EXPECT_EQ(gpu.kernel("k").static_shared_bytes, 32u);
    gpu.launch.dynamic_shared_bytes = 40;
    uint32_t* out = gpu.array<uint32_t>(2);
    gpu.run("k", {1}, {1}, out, uint64_t{0});
    EXPECT_EQ(out[0], 32u);
    EXPECT_EQ(out[1], 40u);
    gpu.launch.dynamic_shared_bytes = 36;
    EXPECT_THROW(gpu.run("k", {1}, {1}, out, uint64_t{0}), Fault);
}

TEST(Memory, KernelsShareSharedOffsetsOnlyWhenTheyMeet) {
    Gpu gpu(kHeader + std::string(R"(
.visible .entry a() { .shared .b8 x[1000]; .reg .b32 %r; mov.u32 %r, x; st.shared.u8 [%r], %r; ret; }
.visible .entry b() { .shared .b8 y[2000]; .reg .b32 %r; mov.u32 %r, y; st.shared.u8 [%r], %r; ret; })"));
    EXPECT_EQ(gpu.kernel("a").static_shared_bytes, 1000u);
    EXPECT_EQ(gpu.kernel("b").static_shared_bytes, 2000u);
}

TEST(Memory, StructParameters) {
    Gpu gpu(kHeader + std::string(R"(
.visible .entry k(.param .u64 out, .param .align 8 .b8 s[24], .param .u8 small, .param .f64 d) {
    .reg .b64 %o, %x; .reg .b32 %i, %v; .reg .b16 %h; .reg .f64 %d;
    ld.param.u64 %o, [out]; mov.u32 %i, %tid.x; mul.wide.u32 %x, %i, 4; add.u64 %o, %o, %x;
    mov.b64 %x, s; mul.wide.u32 %x, %i, 4; .reg .b64 %b; mov.b64 %b, s; add.u64 %x, %x, %b; ld.param.u32 %v, [%x+8];
    ld.param.u8 %h, [small]; cvt.u32.u16 %i, %h; add.u32 %v, %v, %i; ld.param.f64 %d, [d]; cvt.rzi.u32.f64 %i, %d; add.u32 %v, %v, %i;
    cvta.param.u64 %b, %b; ld.u32 %i, [%b]; add.u32 %v, %v, %i;
    st.global.u32 [%o], %v; ret; })"));
    struct S {
        int32_t words[6];
    } s{{5, 0, 10, 20, 30, 40}};
    EXPECT_EQ(gpu.kernel("k").params[3].offset, 40u);
    uint32_t* out = gpu.array<uint32_t>(4);
    gpu.run("k", {1}, {4}, out, s, uint8_t{200}, 3000.7);
    for (uint32_t t = 0; t < 4; ++t) EXPECT_EQ(out[t], 10 * (t + 1) + 200 + 3000 + 5);
}

Fault::Kind fault_of(const std::string& body, std::string* what = nullptr) {
    Gpu gpu(kernel(body));
    try {
        gpu.run("k", {1}, {40}, gpu.array<uint32_t>(40), gpu.array<uint32_t>(40));
    } catch (const Fault& f) {
        if (what) *what = f.what();
        return f.kind();
    }
    ADD_FAILURE() << "no fault: " << body;
    return Fault::Kind::Trap;
}

TEST(Faults, Addresses) {
    using enum Fault::Kind;
    std::string what;
    EXPECT_EQ(fault_of("st.global.u32 [%o+4], %t; ret;", &what),
              IllegalAddress);  // the last thread, one past the end
    EXPECT_NE(what.find("write of 4 bytes"), what.npos) << what;
    EXPECT_NE(what.find("thread (39,0,0)"), what.npos) << what;
    EXPECT_NE(what.find("PTX line"), what.npos) << what;
    EXPECT_EQ(fault_of("mov.u64 %x, 0; ld.global.u32 %v, [%x]; ret;"), IllegalAddress);
    EXPECT_EQ(fault_of("add.u64 %x, %base, 0x100000000000; ld.u8 %v, [%x]; ret;"), IllegalAddress);
    EXPECT_EQ(fault_of("ld.global.u32 %v, [%o+2]; ret;"), MisalignedAddress);
    EXPECT_EQ(fault_of("{.reg .b32 a, b; ld.global.v2.u32 {a, b}, [%base+4]; ret;}"), MisalignedAddress);
    EXPECT_EQ(fault_of("{.shared .b8 s[128]; mov.u32 %i, s; shl.b32 %j, %t, 2; add.u32 %i, %i, %j; "
                       "st.shared.u32 [%i], %t; ret;}"),
              IllegalAddress);
    EXPECT_EQ(fault_of("{.shared .b8 s[64]; mov.u32 %i, s; ld.shared.u32 %v, [%i+-4]; ret;}"),
              IllegalAddress);
    EXPECT_EQ(fault_of("{.local .b8 l[64]; mov.u64 %x, l; ld.local.u32 %v, [%x+128]; ret;}"), IllegalAddress);
    EXPECT_EQ(fault_of("atom.global.add.u32 %v, [%o+160], 1; ret;"), IllegalAddress);
    EXPECT_EQ(fault_of("atom.global.add.u64 %x, [%base+4], 1; ret;"), MisalignedAddress);
    EXPECT_EQ(fault_of("trap;"), Trap);
    EXPECT_EQ(fault_of("{ p : .callprototype _ (); mov.u64 %x, 12345; call %x, (), p; ret; }"),
              IllegalInstruction);
}

TEST(Faults, ReadOnlyRanges) {
    Gpu gpu(kernel("ld.global.u32 %v, [%base]; st.global.u32 [%base], %v; ret;"));
    const Kernel& k = gpu.kernel("k");
    uint32_t word = 3;
    uint64_t p[2] = {reinterpret_cast<uint64_t>(&word), 0};
    Launch launch;
    launch.params = std::as_bytes(std::span(p));
    auto read_only = [&](uint64_t, uint64_t, bool write) {
        return write ? AccessRange{} : AccessRange{p[0], p[0] + 4};
    };
    EXPECT_THROW(gpu.module().run(k, launch, read_only, {}), Fault);
}

TEST(Atomics, EveryOperation) {
    // Two blocks of 96 threads on one location each; the operand is the thread number.
    auto total = [](const std::string& op, auto start) {
        using T = decltype(start);
        Gpu gpu(kernel("cvt.u64.u32 %y, %t; cvt.rn.f32.u32 %f, %t; cvt.rn.f64.u32 %e, %t; " + op + " ret;"));
        T* out = gpu.array(std::vector<T>{start});
        gpu.run("k", {2}, {96}, out, uint64_t{0});
        return *out;
    };
    constexpr uint64_t kSum = 191 * 192 / 2;
    EXPECT_EQ(total("atom.global.add.u32 %v, [%base], %t;", 5u), 5 + kSum);
    EXPECT_EQ(total("red.global.add.u64 [%base], %y;", uint64_t{1} << 40), (uint64_t{1} << 40) + kSum);
    EXPECT_EQ(total("red.add.s32 [%base], %t;", -10), int(kSum) - 10);
    EXPECT_EQ(total("atom.global.add.f32 %f, [%base], %f;", 0.5f), float(kSum) + 0.5f);
    EXPECT_EQ(total("atom.global.add.f64 %e, [%base], %e;", 0.25), double(kSum) + 0.25);
    EXPECT_EQ(total("atom.global.min.s32 %v, [%base], %t;", 7), 0);
    EXPECT_EQ(total("atom.global.max.u32 %v, [%base], %t;", 7u), 191u);
    EXPECT_EQ(total("atom.global.max.u64 %y, [%base], %y;", uint64_t{7}), 191u);
    EXPECT_EQ(total("atom.global.and.b32 %v, [%base], %t;", ~0u), 0u);
    EXPECT_EQ(total("atom.global.or.b32 %v, [%base], %t;", 0u), 255u);
    EXPECT_EQ(total("atom.global.xor.b32 %v, [%base], %t;", 0u), 0u);
    EXPECT_EQ(total("atom.global.inc.u32 %v, [%base], 99;", 0u), 192u % 100);
    EXPECT_EQ(total("atom.global.dec.u32 %v, [%base], 99;", 0u), (100 - 192 % 100) % 100u);
    EXPECT_LT(total("atom.global.exch.b32 %v, [%base], %t;", 1000u), 192u);
    EXPECT_EQ(total("L: ld.volatile.global.u32 %v, [%base]; add.u32 %w, %v, 2; "
                    "atom.acq_rel.gpu.global.cas.b32 %w, [%base], %v, %w; setp.ne.u32 %p, %w, %v; @%p bra L;",
                    0u),
              384u);
    EXPECT_EQ(total("mov.b16 %h, 0x3c00; atom.global.add.noftz.f16 %h, [%base], %h;", uint16_t{0}),
              0x5a00);                                                                          // 192
    EXPECT_EQ(total("atom.global.add.noftz.f16x2 %v, [%base], 0x3c00c000;", 0u), 0x5a00de00u);  // 192, -384
}

TEST(Atomics, OldValuesAreDistinct) {
    auto out = run(kernel("atom.global.add.u32 %v, [%in], 1; st.global.u32 [%o], %v; ret;"),
                   std::vector<uint32_t>{0}, 512, {128}, {4});
    std::sort(out.begin(), out.end());
    for (uint32_t i = 0; i < 512; ++i) EXPECT_EQ(out[i], i);
}

TEST(Atomics, SharedMemory) {
    auto out = run(kernel("{.shared .align 8 .b8 s[16]; mov.u32 %j, s; mov.u32 %k, %tid.x; setp.eq.u32 %p, "
                          "%k, 0; @%p st.shared.u32 [s], 0; bar.sync 0;"
                          "atom.shared.add.u32 %v, [%j], %k; bar.sync 0; ld.shared.u32 %v, [%j]; "
                          "st.global.u32 [%o], %v; ret;}"),
                   std::vector<uint32_t>{0}, 128);
    EXPECT_EQ(out[5], 63u * 64 / 2);
}

TEST(Exchange, Shuffles) {
    auto shuffle = [](const std::string& text) {
        return run(kernel(text + " st.global.u32 [%o], %v; ret;"), std::vector<uint32_t>{0}, 32, {32});
    };
    auto down = shuffle("shfl.sync.down.b32 %v|%p, %t, 5, 31, -1; @!%p add.u32 %v, %v, 100;");
    auto up = shuffle("shfl.sync.up.b32 %v|%p, %t, 3, 0, -1; @!%p add.u32 %v, %v, 100;");
    auto bfly = shuffle("shfl.sync.bfly.b32 %v, %t, 9, 31, -1;");
    auto idx = shuffle("shfl.sync.idx.b32 %v, %t, 10, 0x181f, -1;");  // width 8
    for (uint32_t i = 0; i < 32; ++i) {
        EXPECT_EQ(down[i], i + 5 < 32 ? i + 5 : i + 100);
        EXPECT_EQ(up[i], i >= 3 ? i - 3 : i + 100);
        EXPECT_EQ(bfly[i], i ^ 9);
        EXPECT_EQ(idx[i], i / 8 * 8 + 2);
    }
}

TEST(Exchange, LanesThatDoNotTakePartGiveZero) {
    auto out = run(kernel("mov.u32 %v, 7; setp.ge.u32 %p, %t, 8; @%p bra END; "
                          "shfl.sync.down.b32 %v, %t, 4, 31, 0xff; END: st.global.u32 [%o], %v; ret;"),
                   std::vector<uint32_t>{0}, 32, {32});
    for (uint32_t i = 0; i < 32; ++i) EXPECT_EQ(out[i], i >= 8 ? 7u : i < 4 ? i + 4 : 0u);
}

TEST(Exchange, VotesAndMatches) {
    auto out = run(kernel(R"(
        and.b32 %i, %t, 3; setp.eq.u32 %p, %i, 1; vote.sync.ballot.b32 %v, %p, -1; vote.sync.any.pred %q, %p, -1; vote.sync.all.pred %r, !%p, -1;
        @%q add.u32 %v, %v, 1; @%r add.u32 %v, %v, 4; match.any.sync.b32 %w, %i, -1; popc.b32 %w, %w; mad.lo.u32 %v, %w, 16, %v;
        match.all.sync.b32 %w|%q, 7, -1; @%q add.u32 %v, %v, %w; st.global.u32 [%o], %v; ret;)"),
                   std::vector<uint32_t>{0}, 32, {32});
    for (uint32_t v : out) EXPECT_EQ(v, 0x22222222u + 1 + 8 * 16 - 1);
    out = run(kernel("redux.sync.add.u32 %v, %t, -1; redux.sync.max.s32 %w, %t, -1; mad.lo.u32 %v, %v, 100, "
                     "%w; st.global.u32 [%o], %v; ret;"),
              std::vector<uint32_t>{0}, 32, {32});
    for (uint32_t v : out) EXPECT_EQ(v, 31u * 16 * 100 + 31);
}

TEST(Exchange, PartsOfAWarp) {
    // Halves of the warp in different branches, each with its own members.
    auto out = run(kernel(R"(
        setp.lt.u32 %p, %t, 16; @%p bra LOW; shfl.sync.idx.b32 %v, %t, 20, 31, 0xffff0000; bar.warp.sync 0xffff0000; bra END;
      LOW: add.u32 %w, %t, 50; shfl.sync.idx.b32 %v, %w, 3, 31, 0x0000ffff; bar.warp.sync 0x0000ffff;
      END: st.global.u32 [%o], %v; ret;)"),
                   std::vector<uint32_t>{0}, 32, {32});
    for (uint32_t i = 0; i < 32; ++i) EXPECT_EQ(out[i], i < 16 ? 53u : 20u);
}

TEST(Exchange, WarpBarrierAcrossBranches) {
    // Lane 0 produces in one branch, the others consume in another; they meet at two different bar.warp.sync.
    auto out = run(kernel(R"({.shared .align 4 .b8 s[4];
        setp.eq.u32 %p, %t, 0; @%p bra MAKE; bar.warp.sync -1; ld.volatile.shared.u32 %v, [s]; bra END;
      MAKE: mov.u32 %v, 77; st.volatile.shared.u32 [s], %v; bar.warp.sync -1;
      END: st.global.u32 [%o], %v; ret;})"),
                   std::vector<uint32_t>{0}, 32, {32});
    for (uint32_t v : out) EXPECT_EQ(v, 77u);
}

TEST(Memory, AsynchronousCopies) {
    auto in = numbers(64);
    auto out = run(
        kernel(
            R"({.shared .align 16 .b8 s[256]; mov.u32 %j, s; shl.b32 %i, %t, 2; add.u32 %j, %j, %i; mul.wide.u32 %x, %t, 4; add.u64 %x, %in, %x;
        cp.async.ca.shared.global [%j], [%x], 4; cp.async.commit_group; cp.async.wait_group 0; bar.sync 0;
        xor.b32 %i, %i, 252; mov.u32 %j, s; add.u32 %j, %j, %i; ld.shared.u32 %v, [%j]; st.global.u32 [%o], %v; ret;})"),
        in, 64);
    for (uint32_t t = 0; t < 64; ++t) EXPECT_EQ(out[t], in[63 - t]);
}

}  // namespace
}  // namespace softgpu::ptx::test
