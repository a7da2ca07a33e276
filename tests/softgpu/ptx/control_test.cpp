// SPDX-License-Identifier: MIT
// Divergence, loops, calls, barriers, and lanes and warps that wait for each other.
#include <thread>

#include "harness.h"

namespace softgpu::ptx::test {
namespace {

// A kernel with parameter out (u64) and n (u32), the thread's number in %t and its slot's address in %o.
std::string kernel(const std::string& body, const std::string& before = "", const std::string& name = "k") {
    return kHeader + before + ".visible .entry " + name +
           "(.param .u64 out, .param .u32 n)\n{\n"
           ".reg .pred %p, %q, %r; .reg .b32 %t, %i, %j, %k, %n, %v, %w; .reg .b64 %o, %base, %x, %y;\n"
           "ld.param.u64 %base, [out]; ld.param.u32 %n, [n]; mov.u32 %i, %ctaid.x; mov.u32 %j, %ntid.x;\n"
           "mov.u32 %k, %tid.x; mad.lo.u32 %t, %i, %j, %k; mul.wide.u32 %x, %t, 4; add.u64 %o, %base, %x;\n" +
           body + "\n}\n";
}

std::vector<uint32_t> run(const std::string& text, Dim3 grid, Dim3 block, uint32_t n = 0) {
    Gpu gpu(text);
    size_t total = size_t{grid.x} * block.x;
    uint32_t* out = gpu.array<uint32_t>(total);
    gpu.run("k", grid, block, out, n);
    return {out, out + total};
}

TEST(Control, LoopWithBreakAndContinue) {
    // for (v = 0, i = t; i < 100; i += 3) { if (i % 7 == 0) continue; if (i > 80) break; v += i; }
    auto out = run(kernel(R"(
        mov.u32 %v, 0; mov.u32 %i, %t;
      HEAD: setp.ge.u32 %p, %i, 100; @%p bra DONE;
        rem.u32 %j, %i, 7; setp.eq.u32 %q, %j, 0; @%q bra NEXT;
        setp.gt.u32 %r, %i, 80; @%r bra DONE;
        add.u32 %v, %v, %i;
      NEXT: add.u32 %i, %i, 3; bra.uni HEAD;
      DONE: st.global.u32 [%o], %v; ret;)"),
                   {2}, {50});
    for (uint32_t t = 0; t < out.size(); ++t) {
        uint32_t v = 0;
        for (uint32_t i = t; i < 100; i += 3) {
            if (i % 7 == 0) continue;
            if (i > 80) break;
            v += i;
        }
        EXPECT_EQ(out[t], v) << t;
    }
}

TEST(Control, NestedLoopsAndEarlyExit) {
    auto out = run(kernel(R"(
        mov.u32 %v, 0; st.global.u32 [%o], 7; rem.u32 %j, %t, 5; setp.eq.u32 %p, %j, 4; @%p exit;
        mov.u32 %i, 0;
      OUTER: mov.u32 %k, 0;
      INNER: add.u32 %v, %v, 1; add.u32 %k, %k, 1; setp.le.u32 %p, %k, %t; @%p bra INNER;
        add.u32 %i, %i, 1; rem.u32 %j, %t, 3; setp.le.u32 %q, %i, %j; @%q bra OUTER;
        st.global.u32 [%o], %v;)"),
                   {1}, {70});
    for (uint32_t t = 0; t < out.size(); ++t) EXPECT_EQ(out[t], t % 5 == 4 ? 7 : (t + 1) * (t % 3 + 1)) << t;
}

TEST(Control, LanesMeetAgainBehindABranch) {
    // All 32 lanes must vote together after paths of different lengths.
    auto out = run(kernel(R"(
        and.b32 %i, %t, 3; setp.eq.u32 %p, %i, 0; @%p bra A; setp.eq.u32 %p, %i, 1; @%p bra B; bra C;
      C: add.u32 %v, %t, 1; bra D;
      B: add.u32 %v, %t, 2; add.u32 %v, %v, 2; bra D;
      A: mov.u32 %v, 0; bra D;
      D: activemask.b32 %w; st.global.u32 [%o], %w; ret;)"),
                   {1}, {64});
    for (uint32_t v : out) EXPECT_EQ(v, ~0u);
}

TEST(Control, LanesMeetAgainBehindALoop) {
    auto out = run(kernel(R"(
        mov.u32 %i, 0;
      L: add.u32 %i, %i, 1; setp.lt.u32 %p, %i, %t; @%p bra L;
        activemask.b32 %w; st.global.u32 [%o], %w; ret;)"),
                   {1}, {32});
    for (uint32_t v : out) EXPECT_EQ(v, ~0u);
}

TEST(Control, BranchTable) {
    auto out = run(kernel(R"(
        rem.u32 %i, %t, 4;
        TS: .branchtargets L2, L0, L1, L0;
        brx.idx %i, TS;
      L0: mov.u32 %v, 100; bra E;
      L1: mov.u32 %v, 101; bra E;
      L2: mov.u32 %v, 102; bra E;
      E: activemask.b32 %w; popc.b32 %w, %w; add.u32 %v, %v, %w; st.global.u32 [%o], %v; ret;)"),
                   {1}, {40});
    const uint32_t want[] = {102, 100, 101, 100};
    for (uint32_t t = 0; t < out.size(); ++t) EXPECT_EQ(out[t], want[t % 4] + (t < 32 ? 32 : 8));
}

TEST(Control, BackwardLayout) {
    // Blocks in the reverse of their running order.
    auto out = run(kernel(R"(
        bra ONE;
      THREE: add.u32 %v, %v, 3; st.global.u32 [%o], %v; ret;
      TWO: setp.gt.u32 %p, %t, 10; @%p add.u32 %v, %v, 2; @%p bra THREE; add.u32 %v, %v, 20; bra.uni THREE;
      ONE: mov.u32 %v, %t; bra TWO;)"),
                   {1}, {33});
    for (uint32_t t = 0; t < out.size(); ++t) EXPECT_EQ(out[t], t + 3 + (t > 10 ? 2 : 20));
}

const char* kFunctions = R"(
.func (.param .b32 r) fib(.param .b32 n)
{
    .reg .pred %p; .reg .b32 %r<9>;
    ld.param.u32 %r8, [n]; setp.lt.s32 %p, %r8, 2; @%p bra DONE;
    add.s32 %r4, %r8, -1;
    { .param .b32 a; st.param.b32 [a+0], %r4; .param .b32 v; call.uni (v), fib, (a); ld.param.b32 %r5, [v+0]; }
    add.s32 %r6, %r8, -2;
    { .param .b32 a; st.param.b32 [a+0], %r6; .param .b32 v; call.uni (v), fib, (a); ld.param.b32 %r7, [v+0]; }
    add.s32 %r8, %r7, %r5;
  DONE: st.param.b32 [r+0], %r8; ret;
}
.func (.param .b32 r) triple(.param .b32 n) { .reg .b32 %a; ld.param.u32 %a, [n]; mul.lo.u32 %a, %a, 3; st.param.b32 [r], %a; ret; }
.func (.param .b32 r) square(.param .b32 n) { .reg .b32 %a; ld.param.u32 %a, [n]; mul.lo.u32 %a, %a, %a; st.param.b32 [r], %a; ret; }
.global .align 8 .u64 table[2] = {triple, square};
.func (.param .align 4 .b8 r[12]) rotate(.param .align 4 .b8 s[12])
{ .reg .b32 %a, %b, %c; ld.param.b32 %a, [s]; ld.param.b32 %b, [s+4]; ld.param.b32 %c, [s+8];
  st.param.b32 [r+0], %b; st.param.b32 [r+4], %c; st.param.b32 [r+8], %a; ret; }
)";

TEST(Control, DivergentRecursion) {
    auto out = run(kernel(R"(
        rem.u32 %i, %t, 12; setp.eq.u32 %p, %i, 11; mov.u32 %v, 1000; @%p bra STORE;
        { .param .b32 a; st.param.b32 [a], %i; .param .b32 r; call (r), fib, (a); ld.param.b32 %v, [r]; }
      STORE: activemask.b32 %w; setp.ne.u32 %q, %w, 0xffffffff; @%q mov.u32 %v, 9999; st.global.u32 [%o], %v; ret;)",
                          kFunctions),
                   {2}, {64});
    const uint32_t fib[] = {0, 1, 1, 2, 3, 5, 8, 13, 21, 34, 55, 1000};
    for (uint32_t t = 0; t < out.size(); ++t) EXPECT_EQ(out[t], fib[t % 12]) << t;
}

TEST(Control, FunctionPointers) {
    auto out = run(kernel(R"(
        and.b32 %i, %t, 1; mul.wide.u32 %x, %i, 8; mov.u64 %y, table; add.u64 %y, %y, %x; ld.global.u64 %y, [%y];
        { .param .b32 a; st.param.b32 [a], %t; .param .b32 r;
          proto : .callprototype (.param .b32 _) _ (.param .b32 _);
          call (r), %y, (a), proto; ld.param.b32 %v, [r]; }
        st.global.u32 [%o], %v; ret;)",
                          kFunctions),
                   {1}, {64});
    for (uint32_t t = 0; t < out.size(); ++t) EXPECT_EQ(out[t], t & 1 ? t * t : t * 3) << t;
}

TEST(Control, StructsByValue) {
    auto out = run(kernel(R"(
        { .param .align 4 .b8 s[12]; st.param.b32 [s], 1; st.param.b32 [s+4], %t; st.param.b32 [s+8], 3;
          .param .align 4 .b8 r[12]; call.uni (r), rotate, (s); ld.param.b32 %i, [r]; ld.param.b32 %j, [r+4]; ld.param.b32 %k, [r+8]; }
        mad.lo.u32 %v, %i, 100, %j; mad.lo.u32 %v, %v, 100, %k; st.global.u32 [%o], %v; ret;)",
                          kFunctions),
                   {1}, {32});
    for (uint32_t t = 0; t < out.size(); ++t) EXPECT_EQ(out[t], (t * 100 + 3) * 100 + 1);
}

TEST(Control, StackOverflowIsAFault) {
    Gpu gpu(kernel(
        "{ .param .b32 a; st.param.b32 [a], 1; .param .b32 r; call (r), endless, (a); ld.param.b32 %v, [r]; "
        "} ret;",
        ".func (.param .b32 r) endless(.param .b32 n) { .reg .b32 %a; ld.param.u32 %a, [n]; { .param .b32 x; "
        "st.param.b32 [x], %a;"
        ".param .b32 y; call (y), endless, (x); ld.param.b32 %a, [y]; } st.param.b32 [r], %a; ret; }"));
    try {
        gpu.run("k", {1}, {32}, gpu.array<uint32_t>(32), 0u);
        FAIL();
    } catch (const Fault& f) {
        EXPECT_EQ(f.kind(), Fault::Kind::IllegalAddress);
        EXPECT_NE(std::string(f.what()).find("stack overflow"), std::string::npos);
    }
}

TEST(Barrier, WarpsExchangeThroughSharedMemory) {
    auto out = run(kernel(R"(
        mov.u32 %v, %tid.x; shl.b32 %i, %v, 2; mov.u32 %j, buffer; add.u32 %i, %i, %j; st.shared.u32 [%i], %v; bar.sync 0;
        sub.u32 %k, 99, %v; shl.b32 %k, %k, 2; add.u32 %k, %k, %j; ld.shared.u32 %v, [%k]; st.global.u32 [%o], %v; ret;)",
                          ".shared .align 4 .b8 buffer[400];\n"),
                   {3}, {100});
    for (uint32_t t = 0; t < out.size(); ++t) EXPECT_EQ(out[t], 99 - t % 100);
}

TEST(Barrier, ExitedThreadsDoNotCount) {
    auto out = run(kernel(R"(
        st.global.u32 [%o], 1; mov.u32 %i, %tid.x; setp.gt.u32 %p, %i, 40; @%p ret;
        bar.sync 0; bar.sync 0; st.global.u32 [%o], 2; ret;)"),
                   {1}, {96});
    for (uint32_t t = 0; t < out.size(); ++t) EXPECT_EQ(out[t], t > 40 ? 1u : 2u);
}

TEST(Barrier, ReductionsAndNamedBarriers) {
    auto out = run(kernel(R"(
        mov.u32 %i, %tid.x; setp.lt.u32 %p, %i, 37; bar.red.popc.u32 %v, 1, %p; bar.red.or.pred %q, 2, %p; bar.red.and.pred %r, 3, %p;
        @%q add.u32 %v, %v, 1000; @%r add.u32 %v, %v, 5000;
        setp.lt.u32 %p, %i, 64; @!%p bra CONSUME; bar.arrive 4, 96; bra STORE;
      CONSUME: bar.sync 4, 96; add.u32 %v, %v, 7;
      STORE: st.global.u32 [%o], %v; ret;)"),
                   {1}, {96});
    for (uint32_t t = 0; t < out.size(); ++t) EXPECT_EQ(out[t], t < 64 ? 1037u : 1044u);
}

TEST(Barrier, DeadlockIsAFault) {
    Gpu gpu(kernel("setp.lt.u32 %p, %t, 32; @%p bar.sync 1; @!%p bar.sync 2; ret;"));
    EXPECT_THROW(gpu.run("k", {1}, {64}, gpu.array<uint32_t>(64), 0u), Fault);
}

TEST(Waiting, SpinLockBetweenLanesOfAWarp) {
    // Each thread takes the lock, increments without atomics, and gives it back.
    Gpu gpu(kernel(R"(
      TRY: atom.global.cas.b32 %v, [%base], 0, 1; setp.ne.u32 %p, %v, 0; @%p bra TRY;
        ld.volatile.global.u32 %w, [%base+4]; add.u32 %w, %w, 1; st.volatile.global.u32 [%base+4], %w; membar.gl;
        atom.global.exch.b32 %v, [%base], 0; ret;)"));
    uint32_t* out = gpu.array<uint32_t>(2);
    gpu.run("k", {2}, {96}, out, 0u);
    EXPECT_EQ(out[1], 192u);
}

TEST(Waiting, LanesOfOneWarpHandOver) {
    // Lane 0 waits for lane 31, which comes to its store only behind the loop.
    Gpu gpu(kernel(R"(
        setp.ne.u32 %p, %t, 0; @%p bra OTHERS;
      SPIN: ld.volatile.global.u32 %v, [%base]; setp.eq.u32 %q, %v, 0; @%q bra SPIN; st.global.u32 [%base+4], %v; bra END;
      OTHERS: setp.ne.u32 %p, %t, 31; @%p bra END; st.volatile.global.u32 [%base], 42;
      END: ret;)"));
    uint32_t* out = gpu.array<uint32_t>(2);
    gpu.run("k", {1}, {32}, out, 0u);
    EXPECT_EQ(out[1], 42u);
}

TEST(Waiting, BlocksWaitForLaterBlocks) {
    // A barrier of the whole grid out of atomics, more blocks than host threads.
    Gpu gpu(kernel(R"(
        bar.sync 0; mov.u32 %i, %tid.x; setp.ne.u32 %p, %i, 0; @%p bra WAITED;
        atom.global.add.u32 %v, [%base], 1;
      SPIN: ld.acquire.gpu.global.u32 %v, [%base]; setp.lt.u32 %q, %v, %n; @%q bra SPIN;
      WAITED: bar.sync 0; ld.volatile.global.u32 %v, [%base]; @%p ret; atom.global.add.u32 %v, [%base+4], %v; ret;)"));
    uint32_t* out = gpu.array<uint32_t>(2);
    gpu.run("k", {40}, {64}, out, 40u);
    EXPECT_EQ(out[1], 1600u);
}

TEST(Waiting, CancelEndsASpinningKernel) {
    Gpu gpu(
        kernel("st.volatile.global.u32 [%base+4], 1;"
               "SPIN: ld.volatile.global.u32 %v, [%base]; setp.eq.u32 %q, %v, 0; @%q bra SPIN; ret;"));
    std::atomic<bool> cancel{false};
    gpu.launch.cancel = &cancel;
    uint32_t* out = gpu.array<uint32_t>(2);
    std::jthread canceller([&] {
        std::atomic_ref<uint32_t> started(out[1]);
        while (!started.load()) std::this_thread::yield();
        cancel = true;
    });
    EXPECT_THROW(gpu.run("k", {1}, {32}, out, 0u), Fault);
}

TEST(Waiting, KernelsOfTwoThreadsWaitForEachOther) {
    Gpu gpu(kernel(R"(
        ld.volatile.global.u32 %v, [%base];
      SPIN: atom.global.add.u32 %w, [%base], 0; setp.lt.u32 %p, %w, %n; @%p bra SPIN;
        add.u32 %n, %n, 1; st.volatile.global.u32 [%base], %n; ret;)"));
    uint32_t* out = gpu.array<uint32_t>(1);
    std::jthread second([&] { gpu.run("k", {1}, {1}, out, 1u); });
    std::jthread third([&] { gpu.run("k", {1}, {1}, out, 2u); });
    gpu.run("k", {1}, {1}, out, 0u);
    second.join();
    third.join();
    EXPECT_EQ(*out, 3u);
}

TEST(Control, SpecialRegisters) {
    // Every thread writes its number within the block, made of lane and warp, where its coordinates say.
    Gpu gpu(kHeader + std::string(R"(
.visible .entry k(.param .u64 out) {
    .reg .b32 %a, %b, %c, %l; .reg .b64 %o, %x; .reg .pred %p;
    ld.param.u64 %o, [out]; mov.u32 %a, %ctaid.z; mov.u32 %b, %nctaid.y; mad.lo.u32 %a, %a, %b, %ctaid.y;
    mov.u32 %b, %nctaid.x; mad.lo.u32 %a, %a, %b, %ctaid.x; mov.u32 %c, %ntid.z; mov.u32 %b, %tid.z;
    mad.lo.u32 %a, %a, %c, %b; mov.u32 %c, %ntid.y; mov.u32 %b, %tid.y; mad.lo.u32 %a, %a, %c, %b;
    mov.u32 %c, %ntid.x; mov.u32 %b, %tid.x; mad.lo.u32 %a, %a, %c, %b; mul.wide.u32 %x, %a, 4; add.u64 %o, %o, %x;
    mov.u32 %l, %laneid; mov.u32 %b, %lanemask_lt; popc.b32 %b, %b; mov.u32 %c, %warpid; shl.b32 %c, %c, 5;
    add.u32 %c, %c, %l; setp.eq.u32 %p, %b, %l; @!%p mov.u32 %c, 99999; st.global.u32 [%o], %c; ret; })"));
    constexpr uint32_t kBlock = 5 * 3 * 4, kGrid = 2 * 3 * 2;
    uint32_t* out = gpu.array<uint32_t>(kBlock * kGrid);
    gpu.run("k", {2, 3, 2}, {5, 3, 4}, out);
    for (uint32_t i = 0; i < kBlock * kGrid; ++i) EXPECT_EQ(out[i], i % kBlock);
}

}  // namespace
}  // namespace softgpu::ptx::test
