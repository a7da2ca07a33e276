// SPDX-License-Identifier: MIT
// Streams, events, waiting for and writing words of memory, callbacks.
#include <atomic>

#include "conform.h"

CASE(stream_life) {
    CUstream stream = nullptr;
    CHECK(cuStreamCreate(nullptr, 0));
    CHECK(cuStreamCreate(&stream, 7));
    NEED(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
    unsigned flags = 9;
    int priority = 9;
    CHECK(cuStreamGetFlags(stream, &flags));
    VALUE(flags);
    CHECK(cuStreamGetFlags(stream, nullptr));
    CHECK(cuStreamGetPriority(stream, &priority));
    VALUE(priority);
    CHECK(cuStreamQuery(stream));
    CHECK(cuStreamSynchronize(stream));
    CUdevice device = -1;
    CHECK(cuStreamGetDevice(stream, &device));
    VALUE(device);
    CUstreamCaptureStatus capturing{};
    CHECK(cuStreamIsCapturing(stream, &capturing));
    VALUE(capturing);
    CHECK(cuStreamIsCapturing(stream, nullptr));
    CHECK(cuStreamDestroy(stream));
    for (int wish : {-100, -2, -1, 0, 1, 100}) {
        CHECK(cuStreamCreateWithPriority(&stream, 0, wish));
        CHECK(cuStreamGetPriority(stream, &priority));
        VALUE(priority);
        CHECK(cuStreamDestroy(stream));
    }
    for (CUstream special : {static_cast<CUstream>(nullptr), CU_STREAM_LEGACY, CU_STREAM_PER_THREAD}) {
        CHECK(cuStreamQuery(special));
        CHECK(cuStreamSynchronize(special));
        CHECK(cuStreamGetFlags(special, &flags));
        VALUE(flags);
        CHECK(cuStreamGetPriority(special, &priority));
        VALUE(priority);
    }
    CHECK(cuStreamDestroy(nullptr));
    CHECK(cuStreamDestroy(CU_STREAM_LEGACY));
}

CASE(stream_attributes) {
    CUstream stream = nullptr, other = nullptr;
    NEED(cuStreamCreate(&stream, 0));
    NEED(cuStreamCreate(&other, 0));
    CUstreamAttrValue value{};
    value.syncPolicy = CU_SYNC_POLICY_YIELD;
    CHECK(cuStreamSetAttribute(stream, CU_STREAM_ATTRIBUTE_SYNCHRONIZATION_POLICY, &value));
    value = {};
    CHECK(cuStreamGetAttribute(stream, CU_STREAM_ATTRIBUTE_SYNCHRONIZATION_POLICY, &value));
    VALUE(value.syncPolicy);
    value = {};
    CHECK(cuStreamGetAttribute(stream, CU_STREAM_ATTRIBUTE_PRIORITY, &value));
    VALUE(value.priority);
    CHECK(cuStreamGetAttribute(stream, CU_STREAM_ATTRIBUTE_PRIORITY, nullptr));
    CHECK(cuStreamGetAttribute(stream, static_cast<CUstreamAttrID>(99), &value));
    CHECK(cuStreamCopyAttributes(other, stream));
    CHECK(cuStreamGetAttribute(other, CU_STREAM_ATTRIBUTE_SYNCHRONIZATION_POLICY, &value));
    VALUE(value.syncPolicy);
    CHECK(cuStreamDestroy(stream));
    CHECK(cuStreamDestroy(other));
}

CASE(events) {
    CUevent first = nullptr, second = nullptr, untimed = nullptr;
    CHECK(cuEventCreate(nullptr, 0));
    CHECK(cuEventCreate(&first, 0xff));
    CHECK(cuEventCreate(&first, CU_EVENT_INTERPROCESS));
    NEED(cuEventCreate(&first, CU_EVENT_DEFAULT));
    NEED(cuEventCreate(&second, CU_EVENT_BLOCKING_SYNC));
    NEED(cuEventCreate(&untimed, CU_EVENT_DISABLE_TIMING));
    float milliseconds = -1;
    CHECK(cuEventQuery(first));
    CHECK(cuEventSynchronize(first));
    CHECK(cuEventElapsedTime(&milliseconds, first, second));
    CHECK(cuEventRecord(first, nullptr));
    CHECK(cuEventElapsedTime(&milliseconds, first, second));
    CHECK(cuEventRecordWithFlags(second, nullptr, 0));
    FAULT(cuEventRecordWithFlags(second, nullptr, 77));
    CHECK(cuEventRecord(untimed, nullptr));
    CHECK(cuEventSynchronize(second));
    CHECK(cuEventSynchronize(untimed));
    CHECK(cuEventQuery(first));
    CHECK(cuEventElapsedTime(&milliseconds, first, second));
    VALUE(milliseconds >= 0 && milliseconds < 10000);
    CHECK(cuEventElapsedTime(&milliseconds, first, untimed));
    CHECK(cuEventElapsedTime(nullptr, first, second));
    CHECK(cuEventElapsedTime(&milliseconds, nullptr, second));
    CUstream stream = nullptr;
    NEED(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
    CHECK(cuStreamWaitEvent(stream, first, 0));
    FAULT(cuStreamWaitEvent(stream, first, 77));
    FAULT(cuStreamWaitEvent(stream, nullptr, 0));
    CHECK(cuStreamSynchronize(stream));
    CHECK(cuEventDestroy(first));
    CHECK(cuEventDestroy(second));
    CHECK(cuEventDestroy(untimed));
    CHECK(cuEventDestroy(nullptr));
    FAULT(cuEventRecord(nullptr, nullptr));
    CHECK(cuStreamDestroy(stream));
}

CASE(words_in_streams) {
    CUstream stream = nullptr, other = nullptr;
    CUdeviceptr memory = 0;
    NEED(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
    NEED(cuStreamCreate(&other, CU_STREAM_NON_BLOCKING));
    NEED(cuMemAlloc(&memory, 64));
    NEED(cuMemsetD8(memory, 0, 64));
    NEED(cuCtxSynchronize());  // these streams do not wait for the default one
    CHECK(cuStreamWaitValue32(stream, memory, 5, CU_STREAM_WAIT_VALUE_GEQ));
    CHECK(cuStreamWriteValue64(stream, memory + 8, 0x1122334455667788, 0));
    CHECK(cuStreamQuery(stream));
    CHECK(cuStreamWriteValue32(other, memory, 6, 0));
    CHECK(cuStreamSynchronize(stream));
    unsigned long long words[2] = {};
    CHECK(cuMemcpyDtoH(words, memory, sizeof words));
    conform::bytes("words", words, sizeof words);
    FAULT(cuStreamWriteValue32(stream, memory + 2, 6, 0));
    FAULT(cuStreamWriteValue32(stream, 0, 6, 0));
    CHECK(cuStreamWaitValue64(stream, memory + 8, 0x1122334455667788, CU_STREAM_WAIT_VALUE_EQ));
    CUstreamBatchMemOpParams batch[2] = {};
    batch[0].writeValue.operation = CU_STREAM_MEM_OP_WRITE_VALUE_32;
    batch[0].writeValue.address = memory + 16;
    batch[0].writeValue.value = 41;
    batch[1].waitValue.operation = CU_STREAM_MEM_OP_WAIT_VALUE_32;
    batch[1].waitValue.address = memory + 16;
    batch[1].waitValue.value = 41;
    batch[1].waitValue.flags = CU_STREAM_WAIT_VALUE_EQ;
    CHECK(cuStreamBatchMemOp(stream, 2, batch, 0));
    FAULT(cuStreamBatchMemOp(stream, 0, batch, 0));
    FAULT(cuStreamBatchMemOp(stream, 2, nullptr, 0));
    CHECK(cuStreamSynchronize(stream));
    unsigned word = 0;
    CHECK(cuMemcpyDtoH(&word, memory + 16, 4));
    VALUE(word);
    CHECK(cuMemFree(memory));
    CHECK(cuStreamDestroy(stream));
    CHECK(cuStreamDestroy(other));
}

namespace {
std::atomic<int> calls;
void CUDA_CB count_call(void* by) { calls += *static_cast<int*>(by); }
void CUDA_CB stream_done(CUstream, CUresult status, void* by) { calls += *static_cast<int*>(by) + static_cast<int>(status); }
}  // namespace

CASE(callbacks) {
    CUstream stream = nullptr;
    NEED(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
    int one = 1, hundred = 100;
    calls = 0;
    CHECK(cuLaunchHostFunc(stream, count_call, &one));
    CHECK(cuStreamAddCallback(stream, stream_done, &hundred, 0));
    CHECK(cuStreamAddCallback(stream, stream_done, &hundred, 5));
    CHECK(cuStreamSynchronize(stream));
    VALUE(calls);
    CHECK(cuLaunchHostFunc(stream, nullptr, nullptr));
    CHECK(cuStreamAddCallback(stream, nullptr, nullptr, 0));
    CHECK(cuStreamDestroy(stream));
}
