// SPDX-License-Identifier: MIT
// A program to be checkpointed: much device memory of known content, and a loop that notices when it stands still. It prints
// only when it is told to, since criu wants files as long as they were:
//
//     checkpoint_app MIB [--percent P] [--late] [--grow MIB]
//
// SIGUSR1: changes P percent of the memory (1 MiB blocks, evenly spread), answered by "changed N"; with --late it loads another
// module too, whose variable must stay where it is, and with --grow it allocates memory, which must be had. SIGUSR2: "gap MS ended UNIX
// steps N in S": the longest step since the last answer, when it ended, and how many there were. SIGTERM: checks every word.
#include <cuda.h>
#include <signal.h>
#include <time.h>

#include <atomic>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

namespace {

constexpr uint64_t block = 1u << 20;
constexpr uint64_t largest_allocation = uint64_t(1) << 30;

// fill: word i of a block becomes a mixture of i, the block's number and its generation; check: counts those that are not;
// tick: the loop's own work.
constexpr char ptx[] = R"(
.version 6.4
.target sm_75
.address_size 64

.visible .entry fill(.param .u64 at, .param .u32 words, .param .u32 seed, .param .u64 wrong)
{
    .reg .pred %p;
    .reg .b32 %i, %step, %words, %seed, %v, %t, %there;
    .reg .b64 %at, %to, %wrong;
    ld.param.u64 %at, [at];
    ld.param.u32 %words, [words];
    ld.param.u32 %seed, [seed];
    ld.param.u64 %wrong, [wrong];
    mov.u32 %i, %ctaid.x;
    mov.u32 %t, %ntid.x;
    mov.u32 %v, %tid.x;
    mad.lo.u32 %i, %i, %t, %v;
    mov.u32 %v, %nctaid.x;
    mul.lo.u32 %step, %t, %v;
next:
    setp.ge.u32 %p, %i, %words;
    @%p bra end;
    add.u32 %v, %i, %seed;
    mul.lo.u32 %v, %v, 0x9E3779B1;
    shr.u32 %t, %v, 15;
    xor.b32 %v, %v, %t;
    mul.lo.u32 %v, %v, 0x85EBCA77;
    shr.u32 %t, %v, 13;
    xor.b32 %v, %v, %t;
    mul.wide.u32 %to, %i, 4;
    add.u64 %to, %at, %to;
    setp.ne.u64 %p, %wrong, 0;
    @%p bra look;
    st.global.u32 [%to], %v;
    bra done;
look:
    ld.global.u32 %there, [%to];
    setp.eq.u32 %p, %there, %v;
    @%p bra done;
    atom.global.add.u32 %there, [%wrong], 1;
done:
    add.u32 %i, %i, %step;
    bra next;
end:
    ret;
}

.visible .entry tick(.param .u64 counter)
{
    .reg .b32 %v;
    .reg .b64 %at;
    ld.param.u64 %at, [counter];
    ld.global.u32 %v, [%at];
    add.u32 %v, %v, 1;
    st.global.u32 [%at], %v;
    ret;
}
)";

constexpr char late_ptx[] = R"(
.version 6.4
.target sm_75
.address_size 64
.visible .global .u32 late[64];
.visible .const .u32 tag = 4711;
.visible .entry set(.param .u32 value)
{
    .reg .b32 %v;
    .reg .b64 %at;
    ld.param.u32 %v, [value];
    mov.u64 %at, late;
    cvta.global.u64 %at, %at;
    st.u32 [%at+4], %v;
    ret;
}
)";

void check(CUresult result, const char* what) {
    if (result == CUDA_SUCCESS) return;
    std::fprintf(stderr, "checkpoint_app: %s: error %d\n", what, static_cast<int>(result));
    std::exit(EXIT_FAILURE);
}
#define CHECK(call) check(call, #call)

std::atomic<bool> want_change{false}, want_gap{false}, want_end{false};

double now(clockid_t clock) {
    timespec t{};
    ::clock_gettime(clock, &t);
    return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec) / 1e9;
}

class Memory {
  public:
    Memory(CUmodule module, uint64_t mib) : generation_(mib) {
        CHECK(cuModuleGetFunction(&fill_, module, "fill"));
        for (uint64_t left = mib * block; left;) {
            const uint64_t bytes = left < largest_allocation ? left : largest_allocation;
            CUdeviceptr at = 0;
            CHECK(cuMemAlloc(&at, bytes));
            allocations_.push_back(at);
            left -= bytes;
        }
        CHECK(cuMemAlloc(&wrong_, sizeof(uint32_t)));
        for (uint64_t i = 0; i < mib; ++i) run(i, 0);
        CHECK(cuCtxSynchronize());
    }
    uint64_t change(double percent) {
        const uint64_t wanted = static_cast<uint64_t>(static_cast<double>(generation_.size()) * percent / 100 + 0.5);
        for (uint64_t n = 0; n < wanted; ++n) {
            const uint64_t i = (n * generation_.size() / wanted + changes_) % generation_.size();
            ++generation_[i];
            run(i, 0);
        }
        ++changes_;
        CHECK(cuCtxSynchronize());
        return wanted;
    }
    uint32_t wrong_words() {
        CHECK(cuMemsetD32(wrong_, 0, 1));
        for (uint64_t i = 0; i < generation_.size(); ++i) run(i, wrong_);
        uint32_t count = 0;
        CHECK(cuMemcpyDtoH(&count, wrong_, sizeof count));
        return count;
    }

  private:
    void run(uint64_t i, CUdeviceptr wrong) {
        constexpr uint64_t in_one = largest_allocation / block;
        CUdeviceptr at = allocations_[i / in_one] + i % in_one * block;
        uint32_t words = block / sizeof(uint32_t), seed = static_cast<uint32_t>(i * 0x61C88647u + generation_[i] * 0x7F4A7C15u + 1);
        void* parameters[] = {&at, &words, &seed, &wrong};
        CHECK(cuLaunchKernel(fill_, 64, 1, 1, 256, 1, 1, 0, nullptr, parameters, nullptr));
    }
    CUfunction fill_ = nullptr;
    std::vector<uint32_t> generation_;  // of each block
    std::vector<CUdeviceptr> allocations_;
    CUdeviceptr wrong_ = 0;
    uint64_t changes_ = 0;
};

// Modules that came late; what their kernels wrote is read through the address that was asked for when they were loaded.
class Late {
  public:
    void load() {
        CUmodule module = nullptr;
        One one;
        size_t bytes = 0;
        one.value = static_cast<uint32_t>(all_.size() + 1) * 0x01010101u;
        CHECK(cuModuleLoadData(&module, late_ptx));
        CHECK(cuModuleGetFunction(&one.set, module, "set"));
        CHECK(cuModuleGetGlobal(&one.at, &bytes, module, "late"));
        void* parameters[] = {&one.value};
        CHECK(cuLaunchKernel(one.set, 1, 1, 1, 1, 1, 1, 0, nullptr, parameters, nullptr));
        CHECK(cuCtxSynchronize());
        all_.push_back(one);
    }
    uint32_t wrong() const {
        uint32_t count = 0;
        for (const One& one : all_) {
            uint32_t value = 0;
            CHECK(cuMemcpyDtoH(&value, one.at + 4, sizeof value));
            count += value != one.value;
        }
        return count;
    }

  private:
    struct One {
        CUfunction set = nullptr;
        CUdeviceptr at = 0;
        uint32_t value = 0;
    };
    std::vector<One> all_;
};

}  // namespace

int main(int argc, char** argv) {
    double percent = 1;
    uint64_t grow = 0;
    bool with_late = false, usable = argc > 1;
    for (int i = 2; i < argc && usable; ++i) {
        if (std::strcmp(argv[i], "--late") == 0)
            with_late = true;
        else if (std::strcmp(argv[i], "--percent") == 0 && i + 1 < argc)
            percent = std::atof(argv[++i]);
        else if (std::strcmp(argv[i], "--grow") == 0 && i + 1 < argc)
            grow = std::strtoull(argv[++i], nullptr, 10);
        else
            usable = false;
    }
    const uint64_t mib = usable ? std::strtoull(argv[1], nullptr, 10) : 0;
    if (!mib) {
        std::fprintf(stderr, "usage: checkpoint_app MIB [--percent P] [--late] [--grow MIB]\n");
        return 2;
    }
    ::signal(SIGUSR1, [](int) { want_change = true; });
    ::signal(SIGUSR2, [](int) { want_gap = true; });
    ::signal(SIGTERM, [](int) { want_end = true; });
    CHECK(cuInit(0));
    CUdevice device = 0;
    CUcontext context = nullptr;
    CHECK(cuDeviceGet(&device, 0));
    CHECK(cuDevicePrimaryCtxRetain(&context, device));
    CHECK(cuCtxSetCurrent(context));
    CUmodule module = nullptr;
    CUfunction tick = nullptr;
    CHECK(cuModuleLoadData(&module, ptx));
    CHECK(cuModuleGetFunction(&tick, module, "tick"));
    Memory memory(module, mib);
    Late late;
    CUdeviceptr counter = 0;
    CHECK(cuMemAlloc(&counter, sizeof(uint32_t)));
    CHECK(cuMemsetD32(counter, 0, 1));
    std::printf("ready\n");
    std::fflush(stdout);

    uint32_t steps = 0, told = 0;
    double last = now(CLOCK_MONOTONIC), since = last, longest = 0, ended = 0;
    while (!want_end) {
        void* parameters[] = {&counter};
        CHECK(cuLaunchKernel(tick, 1, 1, 1, 1, 1, 1, 0, nullptr, parameters, nullptr));
        CHECK(cuCtxSynchronize());
        ++steps;
        const double time = now(CLOCK_MONOTONIC);
        if (time - last > longest) {
            longest = time - last;
            ended = now(CLOCK_REALTIME);
        }
        last = time;
        if (want_gap.exchange(false)) {
            std::printf("gap %.3f ended %.6f steps %u in %.6f\n", longest * 1e3, ended, steps - told, time - since);
            std::fflush(stdout);
            told = steps;
            longest = 0;
            since = last = now(CLOCK_MONOTONIC);
        }
        if (want_change.exchange(false)) {
            if (with_late) late.load();
            CUdeviceptr grown = 0;
            if (grow) CHECK(cuMemAlloc(&grown, grow * block));
            std::printf("changed %llu\n", static_cast<unsigned long long>(memory.change(percent)));
            std::fflush(stdout);
            last = now(CLOCK_MONOTONIC);
        }
    }
    uint32_t counted = 0;
    CHECK(cuMemcpyDtoH(&counted, counter, sizeof counted));
    const uint32_t wrong = memory.wrong_words() + late.wrong();
    CHECK(cuDevicePrimaryCtxReset(device));
    const bool good = wrong == 0 && counted == steps;
    std::printf("%s %u steps, %u counted, %u words wrong\n", good ? "PASS" : "FAIL", steps, counted, wrong);
    return good ? 0 : 1;
}
