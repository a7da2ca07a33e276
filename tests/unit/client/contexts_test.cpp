// SPDX-License-Identifier: MIT
// Each thread's stack of contexts, destroyed ones on other threads' stacks, primary contexts and what ends
// with them.
#include <cstring>
#include <gtest/gtest.h>

#include <set>
#include <thread>
#include <vector>

#include "client/contexts.h"
#include "client/primary.h"
#include "cricket/primary_contexts.h"
#include "custom.h"
#include "fake_session.h"

namespace cricket::client {
namespace {

// A driver with two devices; a context is numbered as the session would.
class Contexts : public testing::Test {
  protected:
    void SetUp() override {
        auto& session = fake::session();
        session.initialized = true;
        session.made.clear();
        session.answer<cuDeviceGetCount_args, cuDeviceGetCount_res>(Proc::cuDeviceGetCount,
                                                                    [](auto&, auto& res) {
                                                                        res.count = 2;
                                                                        return CUDA_SUCCESS;
                                                                    });
        session.answer<cuCtxCreate_v2_args, cuCtxCreate_v2_res>(Proc::cuCtxCreate_v2,
                                                                [](auto& args, auto& res) {
                                                                    if (args.dev < 0 || args.dev > 1)
                                                                        return CUDA_ERROR_INVALID_DEVICE;
                                                                    res.pctx = next_ += 16;
                                                                    return CUDA_SUCCESS;
                                                                });
        session.answer<cuCtxDestroy_v2_args, cuCtxDestroy_v2_res>(Proc::cuCtxDestroy_v2,
                                                                  [](auto&, auto&) { return CUDA_SUCCESS; });
        session.answer<cuDevicePrimaryCtxRetain_args, cuDevicePrimaryCtxRetain_res>(
            Proc::cuDevicePrimaryCtxRetain, [](auto& args, auto& res) {
                ++retains_[args.dev];
                active_[args.dev] = true;
                res.pctx = primary_context_number(args.dev);
                return CUDA_SUCCESS;
            });
        session.answer<cuDevicePrimaryCtxRelease_v2_args, cuDevicePrimaryCtxRelease_v2_res>(
            Proc::cuDevicePrimaryCtxRelease_v2, [](auto& args, auto&) {
                if (!retains_[args.dev]) return CUDA_ERROR_INVALID_CONTEXT;
                if (--retains_[args.dev] == 0) active_[args.dev] = false;
                return CUDA_SUCCESS;
            });
        session.answer<cuDevicePrimaryCtxReset_v2_args, cuDevicePrimaryCtxReset_v2_res>(
            Proc::cuDevicePrimaryCtxReset_v2, [](auto& args, auto&) {
                active_[args.dev] = false;
                return CUDA_SUCCESS;
            });
        session.answer<cuDevicePrimaryCtxSetFlags_v2_args, cuDevicePrimaryCtxSetFlags_v2_res>(
            Proc::cuDevicePrimaryCtxSetFlags_v2, [](auto& args, auto&) {
                flags_[args.dev] = args.flags;
                return CUDA_SUCCESS;
            });
        session.answer<cuDevicePrimaryCtxGetState_args, cuDevicePrimaryCtxGetState_res>(
            Proc::cuDevicePrimaryCtxGetState, [](auto& args, auto& res) {
                res.flags = flags_[args.dev];
                res.active = active_[args.dev];
                return CUDA_SUCCESS;
            });
    }

    void TearDown() override {
        uint64_t number;
        while (contexts::pop(&number)) {
        }
        for (int device : {0, 1})
            while (retains_[device]) ASSERT_EQ(impl_cuDevicePrimaryCtxRelease_v2(device), CUDA_SUCCESS);
    }

    static CUcontext create(CUdevice device = 0) {
        CUcontext context = nullptr;
        EXPECT_EQ(impl_cuCtxCreate_v2(&context, 0, device), CUDA_SUCCESS);
        return context;
    }
    static CUcontext current() {
        CUcontext context = reinterpret_cast<CUcontext>(1);
        EXPECT_EQ(impl_cuCtxGetCurrent(&context), CUDA_SUCCESS);
        return context;
    }
    static CUresult current_device(CUdevice* device) { return impl_cuCtxGetDevice(device); }

    static inline uint64_t next_ = 0x10'0000'0000;
    static inline int retains_[2], flags_[2];
    static inline bool active_[2];
};

TEST_F(Contexts, NothingBeforeInit) {
    fake::session().initialized = false;
    CUcontext context;
    CUdevice device;
    EXPECT_EQ(impl_cuCtxGetCurrent(&context), CUDA_ERROR_NOT_INITIALIZED);
    EXPECT_EQ(impl_cuCtxCreate_v2(&context, 0, 0), CUDA_ERROR_NOT_INITIALIZED);
    EXPECT_EQ(impl_cuCtxPushCurrent_v2(nullptr), CUDA_ERROR_NOT_INITIALIZED);
    EXPECT_EQ(impl_cuDeviceGet(&device, 0), CUDA_ERROR_NOT_INITIALIZED);
    EXPECT_EQ(impl_cuDevicePrimaryCtxRetain(&context, 0), CUDA_ERROR_NOT_INITIALIZED);
    EXPECT_TRUE(fake::session().made.empty());
}

TEST_F(Contexts, CreatedOneIsCurrentAndKnowsItsDevice) {
    EXPECT_EQ(current(), nullptr);
    CUdevice device = -1;
    EXPECT_EQ(current_device(&device), CUDA_ERROR_INVALID_CONTEXT);
    CUcontext first = create(0), second = create(1);
    EXPECT_EQ(current(), second);
    EXPECT_EQ(current_context(), reinterpret_cast<uint64_t>(second));
    EXPECT_EQ(current_device(&device), CUDA_SUCCESS);
    EXPECT_EQ(device, 1);
    EXPECT_EQ(impl_cuCtxGetDevice_v2(&device, first), CUDA_SUCCESS);
    EXPECT_EQ(device, 0);
    EXPECT_EQ(impl_cuCtxGetDevice_v2(&device, nullptr), CUDA_SUCCESS);
    EXPECT_EQ(device, 1);
    CUcontext popped = nullptr;
    EXPECT_EQ(impl_cuCtxPopCurrent_v2(&popped), CUDA_SUCCESS);
    EXPECT_EQ(popped, second);
    EXPECT_EQ(current(), first);
    EXPECT_EQ(current_device(&device), CUDA_SUCCESS);
    EXPECT_EQ(device, 0);
    EXPECT_EQ(impl_cuCtxPopCurrent_v2(nullptr), CUDA_SUCCESS);
    EXPECT_EQ(impl_cuCtxPopCurrent_v2(&popped), CUDA_ERROR_INVALID_CONTEXT);
}

TEST_F(Contexts, DeviceOfTheCurrentOneIsAnsweredWithoutTheServer) {
    create(1);
    fake::session().made.clear();
    for (int i = 0; i < 1000; ++i) {
        CUdevice device = -1;
        ASSERT_EQ(current_device(&device), CUDA_SUCCESS);
        ASSERT_EQ(device, 1);
    }
    EXPECT_TRUE(fake::session().made.empty());
}

TEST_F(Contexts, SetCurrentReplacesTheTopOnly) {
    CUcontext first = create(), second = create(), third = create();
    EXPECT_EQ(impl_cuCtxSetCurrent(first), CUDA_SUCCESS);
    EXPECT_EQ(current(), first);
    impl_cuCtxPopCurrent_v2(nullptr);
    EXPECT_EQ(current(), second);
    EXPECT_EQ(impl_cuCtxSetCurrent(nullptr), CUDA_SUCCESS);
    EXPECT_EQ(current(), first);
    EXPECT_EQ(impl_cuCtxSetCurrent(nullptr), CUDA_SUCCESS);
    EXPECT_EQ(current(), nullptr);
    EXPECT_EQ(impl_cuCtxSetCurrent(nullptr), CUDA_SUCCESS);
    EXPECT_EQ(impl_cuCtxSetCurrent(third), CUDA_SUCCESS);
    EXPECT_EQ(current(), third);
}

TEST_F(Contexts, DeepStack) {
    std::vector<CUcontext> all;
    for (int i = 0; i < 5; ++i) all.push_back(create(i % 2));
    for (int i = 0; i < 500; ++i) ASSERT_EQ(impl_cuCtxPushCurrent_v2(all[i * 7 % 5]), CUDA_SUCCESS);
    for (int i = 499; i >= 0; --i) {
        ASSERT_EQ(current(), all[i * 7 % 5]) << i;
        CUdevice device = -1;
        ASSERT_EQ(current_device(&device), CUDA_SUCCESS);
        ASSERT_EQ(device, i * 7 % 5 % 2);
        ASSERT_EQ(impl_cuCtxPopCurrent_v2(nullptr), CUDA_SUCCESS);
    }
    EXPECT_EQ(current(), all[4]);
}

TEST_F(Contexts, ThreadsHaveTheirOwnStacks) {
    CUcontext mine = create();
    std::vector<std::thread> threads;
    for (int i = 0; i < 8; ++i)
        threads.emplace_back([mine] {
            EXPECT_EQ(current(), nullptr);
            CUcontext own = create(1);
            for (int n = 0; n < 50; ++n)
                impl_cuCtxPushCurrent_v2(n % 2 ? mine : own);  // deep, left so at the end
            EXPECT_EQ(current(), mine);
        });
    for (auto& thread : threads) thread.join();
    EXPECT_EQ(current(), mine);
}

TEST_F(Contexts, UnknownOnesAreRefused) {
    auto bogus = reinterpret_cast<CUcontext>(0xdead0);
    CUdevice device;
    EXPECT_EQ(impl_cuCtxPushCurrent_v2(bogus), CUDA_ERROR_INVALID_VALUE);
    EXPECT_EQ(impl_cuCtxPushCurrent_v2(nullptr), CUDA_ERROR_INVALID_VALUE);
    EXPECT_EQ(impl_cuCtxSetCurrent(bogus), CUDA_ERROR_INVALID_CONTEXT);
    EXPECT_EQ(impl_cuCtxDestroy_v2(bogus), CUDA_ERROR_INVALID_VALUE);
    EXPECT_EQ(impl_cuCtxDestroy_v2(nullptr), CUDA_ERROR_INVALID_VALUE);
    EXPECT_EQ(impl_cuCtxGetDevice_v2(&device, bogus), CUDA_ERROR_INVALID_CONTEXT);
    CUcontext none;
    EXPECT_EQ(impl_cuCtxCreate_v2(&none, 0, 7), CUDA_ERROR_INVALID_DEVICE);
    EXPECT_EQ(current(), nullptr);
}

TEST_F(Contexts, DestroyedPopsHereAndIsFoundDestroyedElsewhere) {
    CUcontext below = create(), doomed = create(1);
    std::thread([&] {
        ASSERT_EQ(impl_cuCtxSetCurrent(doomed), CUDA_SUCCESS);
        CUdevice device = -1;
        ASSERT_EQ(current_device(&device), CUDA_SUCCESS);  // cached now
        std::thread([&] { ASSERT_EQ(impl_cuCtxDestroy_v2(doomed), CUDA_SUCCESS); }).join();
        EXPECT_EQ(current(), doomed);
        EXPECT_EQ(current_device(&device), CUDA_ERROR_CONTEXT_IS_DESTROYED);
        EXPECT_EQ(impl_cuCtxSetCurrent(doomed), CUDA_ERROR_INVALID_CONTEXT);
        EXPECT_EQ(impl_cuCtxPopCurrent_v2(nullptr), CUDA_SUCCESS);
        EXPECT_EQ(current(), nullptr);
    }).join();
    EXPECT_EQ(impl_cuCtxPopCurrent_v2(nullptr), CUDA_SUCCESS);
    EXPECT_EQ(impl_cuCtxDestroy_v2(below), CUDA_SUCCESS);
    EXPECT_EQ(current(), nullptr);
}

TEST_F(Contexts, VersionsOfCreate) {
    static unsigned multiprocessors;
    static bool described;
    static uint64_t made = 0x1000000f000;
    const auto affinity_in = [](const rpc::Blob& params) {
        CUexecAffinityParam first{};
        if (params.size) std::memcpy(&first, params.data, sizeof first);
        return first.param.smCount.val;
    };
    fake::session().answer<cuCtxCreate_v3_args, cuCtxCreate_v3_res>(
        Proc::cuCtxCreate_v3, [&](auto& args, auto& res) {
            multiprocessors = affinity_in(args.paramsArray);
            res.pctx = made += 16;
            return CUDA_SUCCESS;
        });
    fake::session().answer<cuCtxCreate_v4_args, cuCtxCreate_v4_res>(
        Proc::cuCtxCreate_v4, [&](auto& args, auto& res) {
            multiprocessors = affinity_in(args.paramsArray);
            described = args.paramsArray.present;
            res.pctx = made += 16;
            return CUDA_SUCCESS;
        });
    CUcontext context;
    EXPECT_EQ(impl_cuCtxCreate_v4(&context, nullptr, 0, 1), CUDA_SUCCESS);
    EXPECT_FALSE(described);
    CUctxCreateParams none{};
    EXPECT_EQ(impl_cuCtxCreate_v4(&context, &none, 0, 1), CUDA_SUCCESS);
    EXPECT_TRUE(described);
    EXPECT_EQ(impl_cuCtxCreate_v3(&context, nullptr, 0, 0, 1), CUDA_SUCCESS);
    CUexecAffinityParam affinity{};
    affinity.param.smCount.val = 7;
    CUctxCreateParams some{};
    some.execAffinityParams = &affinity;
    some.numExecAffinityParams = 1;
    EXPECT_EQ(impl_cuCtxCreate_v4(&context, &some, 0, 1), CUDA_SUCCESS);
    EXPECT_EQ(multiprocessors, 7u);
    multiprocessors = 0;
    EXPECT_EQ(impl_cuCtxCreate_v3(&context, &affinity, 1, 0, 1), CUDA_SUCCESS);
    EXPECT_EQ(multiprocessors, 7u);
    EXPECT_EQ(current(), context);
    EXPECT_EQ(impl_cuCtxCreate_v3(&context, nullptr, 1, 0, 1), CUDA_ERROR_INVALID_VALUE);
    CUctxCigParam graphics{};
    some.cigParams = &graphics;
    EXPECT_EQ(impl_cuCtxCreate_v4(&context, &some, 0, 1), CUDA_ERROR_NOT_SUPPORTED);
}

TEST_F(Contexts, AttachedIsDetachedAsOften) {
    CUcontext context = create(), again = nullptr;
    EXPECT_EQ(impl_cuCtxAttach(&again, 1), CUDA_ERROR_INVALID_VALUE);
    EXPECT_EQ(impl_cuCtxAttach(&again, 0), CUDA_SUCCESS);
    EXPECT_EQ(again, context);
    EXPECT_EQ(impl_cuCtxDetach(context), CUDA_SUCCESS);
    EXPECT_EQ(current(), context);
    EXPECT_EQ(impl_cuCtxDetach(context), CUDA_SUCCESS);  // the reference of its creation: it is gone
    EXPECT_EQ(current(), nullptr);
    EXPECT_EQ(impl_cuCtxDetach(context), CUDA_ERROR_INVALID_CONTEXT);
    EXPECT_EQ(impl_cuCtxAttach(&again, 0), CUDA_ERROR_INVALID_CONTEXT);
}

// ---- primary contexts and values kept with contexts
// -----------------------------------------------------------

struct Destroyed {
    CUcontext context;
    void* key;
    void* value;
};
std::vector<Destroyed> destroyed;

void destroy_value(CUcontext context, void* key, void* value) {
    destroyed.push_back({context, key, value});
    CUcontext unused;  // CUDA may be called from here
    impl_cuCtxGetCurrent(&unused);
}

void* pointer(uintptr_t value) {
    return reinterpret_cast<void*>(value);
}

TEST_F(Contexts, PrimaryIsOneHandleAndInactiveAfterTheLastRelease) {
    CUcontext first = nullptr, again = nullptr;
    ASSERT_EQ(impl_cuDevicePrimaryCtxRetain(&first, 1), CUDA_SUCCESS);
    ASSERT_EQ(impl_cuDevicePrimaryCtxRetain(&again, 1), CUDA_SUCCESS);
    EXPECT_EQ(first, again);
    EXPECT_EQ(current(), nullptr);  // retaining makes nothing current
    ASSERT_EQ(impl_cuCtxSetCurrent(first), CUDA_SUCCESS);
    CUdevice device = -1;
    EXPECT_EQ(current_device(&device), CUDA_SUCCESS);
    EXPECT_EQ(device, 1);
    EXPECT_EQ(impl_cuDevicePrimaryCtxRelease_v2(1), CUDA_SUCCESS);
    EXPECT_EQ(current_device(&device), CUDA_SUCCESS);
    EXPECT_EQ(impl_cuDevicePrimaryCtxRelease_v2(1), CUDA_SUCCESS);
    EXPECT_EQ(current(), first);
    EXPECT_EQ(current_device(&device), CUDA_ERROR_CONTEXT_IS_DESTROYED);
    EXPECT_EQ(impl_cuDevicePrimaryCtxRelease_v2(1), CUDA_ERROR_INVALID_CONTEXT);
    ASSERT_EQ(impl_cuDevicePrimaryCtxRetain(&again, 1), CUDA_SUCCESS);
    EXPECT_EQ(current_device(&device), CUDA_SUCCESS);
}

// The runtime's way: handle, current, retain; the release of its one use ends the context.
TEST_F(Contexts, HandleOfAPrimaryComesBeforeTheContext) {
    CUcontext early = nullptr, retained = nullptr;
    CUdevice device = -1;
    fake::session().made.clear();
    ASSERT_EQ(primary::handle(&early, 0), CUDA_SUCCESS);
    EXPECT_EQ(fake::session().times(Proc::cuDevicePrimaryCtxRetain), 0);
    ASSERT_EQ(impl_cuCtxSetCurrent(early), CUDA_SUCCESS);
    EXPECT_EQ(current(), early);
    EXPECT_EQ(current_context(), 0u);  // nothing that a call could run in
    EXPECT_EQ(current_device(&device), CUDA_ERROR_CONTEXT_IS_DESTROYED);
    ASSERT_EQ(impl_cuDevicePrimaryCtxRetain(&retained, 0), CUDA_SUCCESS);
    EXPECT_EQ(retained, early);
    EXPECT_EQ(current_context(), reinterpret_cast<uint64_t>(early));
    ASSERT_EQ(primary::handle(&early, 0), CUDA_SUCCESS);
    EXPECT_EQ(current_device(&device), CUDA_SUCCESS);  // asking for it again does not put it to sleep
    ASSERT_EQ(impl_cuDevicePrimaryCtxRelease_v2(0), CUDA_SUCCESS);
    EXPECT_EQ(current_context(), 0u);
    EXPECT_EQ(primary::handle(&early, 2), CUDA_ERROR_INVALID_DEVICE);
}

TEST_F(Contexts, PrimaryStateIsAskedOnceAChange) {
    unsigned flags = 99;
    int active = 99;
    auto expect_state = [&](unsigned wanted_flags, int wanted_active) {
        for (int i = 0; i < 3; ++i) {
            ASSERT_EQ(impl_cuDevicePrimaryCtxGetState(0, &flags, &active), CUDA_SUCCESS);
            EXPECT_EQ(flags, wanted_flags);
            EXPECT_EQ(active, wanted_active);
        }
    };
    impl_cuDevicePrimaryCtxSetFlags_v2(0, 0);
    fake::session().made.clear();
    expect_state(0, 0);
    ASSERT_EQ(impl_cuDevicePrimaryCtxSetFlags_v2(0, CU_CTX_SCHED_YIELD), CUDA_SUCCESS);
    expect_state(CU_CTX_SCHED_YIELD, 0);
    CUcontext context;
    ASSERT_EQ(impl_cuDevicePrimaryCtxRetain(&context, 0), CUDA_SUCCESS);
    expect_state(CU_CTX_SCHED_YIELD, 1);
    ASSERT_EQ(impl_cuDevicePrimaryCtxReset_v2(0), CUDA_SUCCESS);
    expect_state(CU_CTX_SCHED_YIELD, 0);
    EXPECT_EQ(fake::session().times(Proc::cuDevicePrimaryCtxGetState), 4);
    EXPECT_EQ(impl_cuDevicePrimaryCtxGetState(5, &flags, &active), CUDA_ERROR_INVALID_DEVICE);
    EXPECT_EQ(impl_cuDevicePrimaryCtxGetState(0, nullptr, &active), CUDA_ERROR_INVALID_VALUE);
    EXPECT_EQ(impl_cuDevicePrimaryCtxGetState(-1, &flags, &active), CUDA_ERROR_INVALID_DEVICE);
}

TEST_F(Contexts, ValuesLiveAndDieWithTheirContext) {
    destroyed.clear();
    CUcontext context = create();
    uint64_t number = reinterpret_cast<uint64_t>(context);
    void* value = nullptr;
    EXPECT_EQ(contexts::get(0, pointer(1), &value), CUDA_ERROR_INVALID_HANDLE);
    EXPECT_EQ(contexts::put(0, pointer(1), pointer(10), destroy_value), CUDA_SUCCESS);  // 0: the current one
    EXPECT_EQ(contexts::put(number, pointer(2), pointer(20), destroy_value), CUDA_SUCCESS);
    EXPECT_EQ(contexts::put(number, pointer(3), pointer(30), nullptr), CUDA_SUCCESS);
    EXPECT_EQ(contexts::get(number, pointer(1), &value), CUDA_SUCCESS);
    EXPECT_EQ(value, pointer(10));
    EXPECT_EQ(contexts::put(number, pointer(1), pointer(11), destroy_value),
              CUDA_SUCCESS);  // replaces, destroys none
    EXPECT_EQ(contexts::get(0, pointer(1), &value), CUDA_SUCCESS);
    EXPECT_EQ(value, pointer(11));
    EXPECT_EQ(contexts::erase(0, pointer(2)), CUDA_SUCCESS);
    EXPECT_EQ(contexts::erase(0, pointer(2)), CUDA_ERROR_INVALID_HANDLE);
    EXPECT_TRUE(destroyed.empty());
    ASSERT_EQ(impl_cuCtxDestroy_v2(context), CUDA_SUCCESS);
    ASSERT_EQ(destroyed.size(), 1u);
    EXPECT_EQ(destroyed[0].context, context);
    EXPECT_EQ(destroyed[0].key, pointer(1));
    EXPECT_EQ(destroyed[0].value, pointer(11));
    EXPECT_EQ(contexts::get(number, pointer(1), &value), CUDA_ERROR_INVALID_CONTEXT);
    EXPECT_EQ(contexts::put(0, pointer(1), pointer(1), nullptr), CUDA_ERROR_INVALID_CONTEXT);  // none current
}

TEST_F(Contexts, ValuesOfAPrimaryDieWithTheLastReleaseOrAReset) {
    CUcontext context, again;
    ASSERT_EQ(impl_cuDevicePrimaryCtxRetain(&context, 0), CUDA_SUCCESS);
    ASSERT_EQ(impl_cuDevicePrimaryCtxRetain(&again, 0), CUDA_SUCCESS);
    uint64_t number = reinterpret_cast<uint64_t>(context);
    destroyed.clear();
    ASSERT_EQ(contexts::put(number, pointer(1), pointer(2), destroy_value), CUDA_SUCCESS);
    ASSERT_EQ(impl_cuDevicePrimaryCtxRelease_v2(0), CUDA_SUCCESS);
    EXPECT_TRUE(destroyed.empty());
    ASSERT_EQ(impl_cuDevicePrimaryCtxRelease_v2(0), CUDA_SUCCESS);
    EXPECT_EQ(destroyed.size(), 1u);
    ASSERT_EQ(impl_cuDevicePrimaryCtxRetain(&context, 0), CUDA_SUCCESS);
    ASSERT_EQ(contexts::put(number, pointer(1), pointer(2), destroy_value), CUDA_SUCCESS);
    ASSERT_EQ(impl_cuDevicePrimaryCtxReset_v2(0), CUDA_SUCCESS);
    EXPECT_EQ(destroyed.size(), 2u);
}

TEST_F(Contexts, ManyThreadsAtOnce) {
    std::vector<std::thread> threads;
    std::atomic<int> wrong{0};
    for (int i = 0; i < 6; ++i)
        threads.emplace_back([&, i] {
            for (int n = 0; n < 300; ++n) {
                CUcontext context;
                CUdevice device = -1;
                wrong += impl_cuCtxCreate_v2(&context, 0, i % 2) != CUDA_SUCCESS;
                wrong += impl_cuCtxGetDevice(&device) != CUDA_SUCCESS || device != i % 2;
                void* value = nullptr;
                wrong += contexts::put(0, pointer(7), context, nullptr) != CUDA_SUCCESS;
                wrong += contexts::get(0, pointer(7), &value) != CUDA_SUCCESS || value != context;
                wrong += impl_cuCtxDestroy_v2(context) != CUDA_SUCCESS;
            }
        });
    for (auto& thread : threads) thread.join();
    EXPECT_EQ(wrong, 0);
}

}  // namespace
}  // namespace cricket::client
