// SPDX-License-Identifier: MIT
// Order and concurrency. A wait for a value in page-locked memory blocks a stream for as long as the test
// wants.
#include <atomic>
#include <chrono>
#include <thread>

#include "fixture.h"

class Streams : public Gpu {
  protected:
    void SetUp() override {
        Gpu::SetUp();
        void* memory = nullptr;
        ASSERT_OK(cuMemHostAlloc(&memory, 4096, 0));
        words = static_cast<unsigned*>(memory);
        memset(words, 0, 4096);
        gate = reinterpret_cast<CUdeviceptr>(words);
    }
    void open() { std::atomic_ref<unsigned>(words[0]).store(1); }
    void block(CUstream stream) { EXPECT_OK(cuStreamWaitValue32(stream, gate, 1, CU_STREAM_WAIT_VALUE_GEQ)); }
    CUstream make(unsigned flags) {
        CUstream stream = nullptr;
        EXPECT_OK(cuStreamCreate(&stream, flags));
        return stream;
    }
    // Page-locked words beside the gate.
    unsigned& word(size_t i) { return words[i]; }
    CUdeviceptr address(size_t i) { return gate + 4 * i; }

    unsigned* words = nullptr;
    CUdeviceptr gate = 0;
};

TEST_F(Streams, NonBlockingOnesDoNotWait) {
    auto blocked = make(CU_STREAM_NON_BLOCKING), free = make(CU_STREAM_NON_BLOCKING);
    block(blocked);
    EXPECT_OK(cuStreamWriteValue32(blocked, address(1), 5, 0));
    EXPECT_OK(cuStreamWriteValue32(free, address(2), 6, 0));
    EXPECT_OK(cuStreamSynchronize(free));
    EXPECT_EQ(word(2), 6u);
    EXPECT_OK(cuStreamSynchronize(nullptr));  // neither does the legacy stream
    EXPECT_CU(CUDA_ERROR_NOT_READY, cuStreamQuery(blocked));
    EXPECT_EQ(word(1), 0u);
    open();
    EXPECT_OK(cuStreamSynchronize(blocked));
    EXPECT_EQ(word(1), 5u);
    EXPECT_OK(cuStreamQuery(blocked));
}

TEST_F(Streams, LegacyWaitsForBlockingOnesAndTheyForIt) {
    auto first = make(0), second = make(0);
    block(first);
    EXPECT_OK(cuStreamWriteValue32(first, address(1), 1, 0));
    EXPECT_OK(cuStreamWriteValue32(nullptr, address(2), 2, 0));
    EXPECT_OK(cuStreamWriteValue32(second, address(3), 3, 0));
    EXPECT_CU(CUDA_ERROR_NOT_READY, cuStreamQuery(nullptr));
    EXPECT_CU(CUDA_ERROR_NOT_READY, cuStreamQuery(second));
    std::this_thread::sleep_for(std::chrono::milliseconds(20));  // nothing to await: nothing must happen
    EXPECT_EQ(word(2), 0u);
    EXPECT_EQ(word(3), 0u);
    open();
    EXPECT_OK(cuStreamSynchronize(second));
    EXPECT_EQ(word(1) + word(2) + word(3), 6u);
}

TEST_F(Streams, BlockingOnesRunBesideEachOther) {
    auto first = make(0), second = make(0);
    block(first);
    EXPECT_OK(cuStreamWriteValue32(second, address(1), 1, 0));
    EXPECT_OK(cuStreamSynchronize(second));
    EXPECT_EQ(word(1), 1u);
    open();
    EXPECT_OK(cuCtxSynchronize());
}

TEST_F(Streams, PerThreadDefault) {
    // Threads' own streams run beside each other, but with the legacy one in order.
    block(CU_STREAM_PER_THREAD);
    std::thread([&] {
        EXPECT_OK(cuCtxSetCurrent(context));
        EXPECT_OK(cuStreamWriteValue32(CU_STREAM_PER_THREAD, address(1), 1, 0));
        EXPECT_OK(cuStreamSynchronize(CU_STREAM_PER_THREAD));
        EXPECT_EQ(word(1), 1u);
    }).join();
    EXPECT_OK(cuStreamWriteValue32(CU_STREAM_LEGACY, address(2), 1, 0));
    EXPECT_CU(CUDA_ERROR_NOT_READY, cuStreamQuery(CU_STREAM_LEGACY));
    open();
    EXPECT_OK(cuStreamSynchronize(CU_STREAM_LEGACY));
    EXPECT_EQ(word(2), 1u);
}

TEST_F(Streams, EventsOrderThem) {
    auto first = make(CU_STREAM_NON_BLOCKING), second = make(CU_STREAM_NON_BLOCKING);
    CUevent event;
    EXPECT_OK(cuEventCreate(&event, CU_EVENT_DISABLE_TIMING));
    EXPECT_OK(cuEventQuery(event));  // never recorded counts as done
    block(first);
    EXPECT_OK(cuStreamWriteValue32(first, address(1), 1, 0));
    EXPECT_OK(cuEventRecord(event, first));
    EXPECT_OK(cuStreamWaitEvent(second, event, 0));
    EXPECT_OK(cuStreamWriteValue32(second, address(2), 1, 0));
    EXPECT_CU(CUDA_ERROR_NOT_READY, cuEventQuery(event));
    EXPECT_CU(CUDA_ERROR_NOT_READY, cuStreamQuery(second));
    EXPECT_OK(cuEventDestroy(event));  // the wait stays
    open();
    EXPECT_OK(cuStreamSynchronize(second));
    EXPECT_EQ(word(1), 1u);
    EXPECT_CU(CUDA_ERROR_INVALID_HANDLE, cuEventQuery(event));
}

TEST_F(Streams, ElapsedTime) {
    CUevent start, end;
    float milliseconds = -1;
    EXPECT_OK(cuEventCreate(&start, 0));
    EXPECT_OK(cuEventCreate(&end, 0));
    EXPECT_CU(CUDA_ERROR_INVALID_HANDLE, cuEventElapsedTime(&milliseconds, start, end));
    EXPECT_OK(cuEventRecord(start, nullptr));
    const auto begun = std::chrono::steady_clock::now();
    std::atomic<bool> asked{false};
    EXPECT_OK(cuLaunchHostFunc(
        nullptr,
        [](void* asked) {
            static_cast<std::atomic<bool>*>(asked)->wait(false);
            std::this_thread::sleep_for(std::chrono::milliseconds(30));
        },
        &asked));
    EXPECT_OK(cuEventRecord(end, nullptr));
    EXPECT_CU(CUDA_ERROR_NOT_READY, cuEventElapsedTime(&milliseconds, start, end));
    asked = true;
    asked.notify_one();
    EXPECT_OK(cuEventSynchronize(end));
    EXPECT_OK(cuEventElapsedTime(&milliseconds, start, end));
    EXPECT_GE(milliseconds, 29);
    const std::chrono::duration<float, std::milli> since = std::chrono::steady_clock::now() - begun;
    EXPECT_LT(milliseconds, since.count() + 1);
    CUevent untimed;
    EXPECT_OK(cuEventCreate(&untimed, CU_EVENT_DISABLE_TIMING));
    EXPECT_OK(cuEventRecord(untimed, nullptr));
    EXPECT_CU(CUDA_ERROR_INVALID_HANDLE, cuEventElapsedTime(&milliseconds, start, untimed));
}

TEST_F(Streams, PageableCopiesTakeTheBytesAtOnce) {
    auto pointer = allocate(sizeof(int));
    write(pointer, 0);
    auto stream = make(CU_STREAM_NON_BLOCKING);
    int value = 1;
    block(stream);
    EXPECT_OK(cuMemcpyHtoDAsync(pointer, &value, sizeof value, stream));
    value = 2;
    open();
    EXPECT_OK(cuStreamSynchronize(stream));
    EXPECT_EQ(read<int>(pointer), 1);
    EXPECT_OK(cuMemcpyDtoHAsync(&value, pointer, sizeof value, stream));
    EXPECT_EQ(value, 1);  // complete when it returns
}

TEST_F(Streams, PageLockedCopiesTakeTheBytesLater) {
    auto pointer = allocate(sizeof(unsigned));
    auto stream = make(CU_STREAM_NON_BLOCKING);
    word(1) = 1;
    block(stream);
    EXPECT_OK(cuMemcpyHtoDAsync(pointer, &word(1), 4, stream));
    EXPECT_OK(cuMemcpyDtoHAsync(&word(2), pointer, 4, stream));
    word(1) = 2;
    EXPECT_EQ(word(2), 0u);
    open();
    EXPECT_OK(cuStreamSynchronize(stream));
    EXPECT_EQ(word(2), 2u);
}

TEST_F(Streams, HostFunctionsRunInOrderAndMayNotCallBack) {
    struct Seen {
        CUresult inside = CUDA_SUCCESS, status = CUDA_ERROR_UNKNOWN;
        unsigned before = 0;
        unsigned* word;
        CUstream stream = nullptr;
    } seen;
    seen.word = &word(1);
    auto stream = make(CU_STREAM_NON_BLOCKING);
    EXPECT_OK(cuStreamWriteValue32(stream, address(1), 4, 0));
    EXPECT_OK(cuLaunchHostFunc(
        stream,
        [](void* data) {
            auto s = static_cast<Seen*>(data);
            s->before = *s->word;
            s->inside = cuCtxSynchronize();
        },
        &seen));
    EXPECT_OK(cuStreamAddCallback(
        stream,
        [](CUstream on, CUresult status, void* data) {
            static_cast<Seen*>(data)->status = status;
            static_cast<Seen*>(data)->stream = on;
        },
        &seen, 0));
    EXPECT_OK(cuStreamSynchronize(stream));
    EXPECT_EQ(seen.before, 4u);
    EXPECT_CU(CUDA_ERROR_NOT_PERMITTED, seen.inside);
    EXPECT_OK(seen.status);
    EXPECT_EQ(seen.stream, stream);
}

TEST_F(Streams, ABlockingHostFunctionHoldsOnlyItsStream) {
    auto first = make(CU_STREAM_NON_BLOCKING), second = make(CU_STREAM_NON_BLOCKING);
    std::atomic<bool> release = false;
    EXPECT_OK(cuLaunchHostFunc(
        first, [](void* data) { static_cast<std::atomic<bool>*>(data)->wait(false); }, &release));
    EXPECT_OK(cuStreamWriteValue32(second, address(1), 1, 0));
    EXPECT_OK(cuStreamSynchronize(second));
    EXPECT_CU(CUDA_ERROR_NOT_READY, cuStreamQuery(first));
    release = true;
    release.notify_all();
    EXPECT_OK(cuStreamSynchronize(first));
}

TEST_F(Streams, ValueConditionsAndBatches) {
    auto stream = make(CU_STREAM_NON_BLOCKING);
    CUstreamBatchMemOpParams list[3] = {};
    list[0].waitValue = {CU_STREAM_MEM_OP_WAIT_VALUE_32, address(1), {6}, CU_STREAM_WAIT_VALUE_AND, 0};
    list[1].writeValue = {CU_STREAM_MEM_OP_WRITE_VALUE_64, address(4), {0}, 0, 0};
    list[1].writeValue.value64 = 0x123456789abcull;
    list[2].writeValue = {CU_STREAM_MEM_OP_WRITE_VALUE_32, address(2), {8}, 0, 0};
    EXPECT_OK(cuStreamBatchMemOp(stream, 3, list, 0));
    std::atomic_ref<unsigned>(word(1)).store(9);
    EXPECT_CU(CUDA_ERROR_NOT_READY, cuStreamQuery(stream));
    std::atomic_ref<unsigned>(word(1)).store(4);
    EXPECT_OK(cuStreamSynchronize(stream));
    EXPECT_EQ(word(2), 8u);
    EXPECT_EQ(*reinterpret_cast<unsigned long long*>(&word(4)), 0x123456789abcull);
    EXPECT_OK(cuStreamWaitValue64(stream, address(4), 0x123456789abcull, CU_STREAM_WAIT_VALUE_EQ));
    EXPECT_OK(cuStreamWaitValue32(stream, address(3), 0, CU_STREAM_WAIT_VALUE_NOR));
    EXPECT_OK(cuStreamSynchronize(stream));
    EXPECT_CU(CUDA_ERROR_INVALID_VALUE, cuStreamWaitValue32(stream, address(1) + 2, 0, 0));
    unsigned unknown = 0;
    EXPECT_CU(CUDA_ERROR_INVALID_VALUE,
              cuStreamWriteValue32(stream, reinterpret_cast<CUdeviceptr>(&unknown), 0, 0));
}

TEST_F(Streams, DestroyedOnesFinishTheirWork) {
    auto stream = make(CU_STREAM_NON_BLOCKING);
    block(stream);
    EXPECT_OK(cuStreamWriteValue32(stream, address(1), 3, 0));
    EXPECT_OK(cuStreamDestroy(stream));
    EXPECT_CU(CUDA_ERROR_INVALID_HANDLE, cuStreamQuery(stream));
    open();
    EXPECT_OK(cuCtxSynchronize());
    EXPECT_EQ(word(1), 3u);
}

TEST_F(Streams, TellAboutThemselves) {
    CUstream stream = nullptr;
    unsigned flags = 0;
    int priority = 1;
    CUcontext of = nullptr;
    unsigned long long id = 0, other = 0;
    EXPECT_OK(cuStreamCreateWithPriority(&stream, CU_STREAM_NON_BLOCKING, -100));
    EXPECT_OK(cuStreamGetFlags(stream, &flags));
    EXPECT_EQ(flags, unsigned{CU_STREAM_NON_BLOCKING});
    EXPECT_OK(cuStreamGetPriority(stream, &priority));
    EXPECT_EQ(priority, -5);
    EXPECT_OK(cuStreamGetCtx(stream, &of));
    EXPECT_EQ(of, context);
    EXPECT_OK(cuStreamGetId(stream, &id));
    EXPECT_OK(cuStreamGetId(nullptr, &other));
    EXPECT_NE(id, other);
    CUstreamCaptureStatus capture = CU_STREAM_CAPTURE_STATUS_ACTIVE;
    EXPECT_OK(cuStreamIsCapturing(stream, &capture));
    EXPECT_EQ(capture, CU_STREAM_CAPTURE_STATUS_NONE);
    EXPECT_CU(CUDA_ERROR_INVALID_VALUE, cuStreamCreate(&stream, 0x40));
    EXPECT_CU(CUDA_ERROR_INVALID_HANDLE, cuStreamDestroy(nullptr));
}

TEST_F(Streams, EndingAContextEndsWaits) {
    block(make(CU_STREAM_NON_BLOCKING));  // never opened; TearDown must not hang
}
