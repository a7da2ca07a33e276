// SPDX-License-Identifier: MIT
// Objects and settings: contexts, streams, events, code, functions, limits, host functions, errors not yet told.
#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>

#include "kind.h"

namespace kinds {
namespace {

__global__ void spin_and_store(unsigned* to, unsigned value, unsigned rounds) {
    for (volatile unsigned i = 0; i < rounds; i = i + 1) {
    }
    *to = value;
}

__global__ void large_shared(unsigned* to) {
    extern __shared__ unsigned scratch[];
    scratch[16000] = 5;
    *to = scratch[16000];
}

// ------------------------------------------------------------------------------------------------------------- streams
struct {
    CUstream plain, urgent, free;
    CUevent between;
    int priority;
    unsigned* word;
} streams;

void streams_set_up() {
    int least = 0;
    CU(cuCtxGetStreamPriorityRange(&least, &streams.priority));
    CU(cuStreamCreate(&streams.plain, CU_STREAM_DEFAULT));
    CU(cuStreamCreateWithPriority(&streams.urgent, CU_STREAM_NON_BLOCKING, streams.priority));
    CU(cuStreamCreate(&streams.free, CU_STREAM_NON_BLOCKING));
    CU(cuEventCreate(&streams.between, CU_EVENT_DISABLE_TIMING));
    RT(cudaMalloc(&streams.word, 4));
    CUstreamAttrValue value{};
    value.syncPolicy = CU_SYNC_POLICY_BLOCKING_SYNC;
    CU(cuStreamSetAttribute(streams.plain, CU_STREAM_ATTRIBUTE_SYNCHRONIZATION_POLICY, &value));
}

void streams_look() {
    unsigned flags = 7;
    int priority = 7;
    CU(cuStreamGetFlags(streams.plain, &flags));
    SAME(flags, unsigned(CU_STREAM_DEFAULT));
    CU(cuStreamGetFlags(streams.urgent, &flags));
    SAME(flags, unsigned(CU_STREAM_NON_BLOCKING));
    CU(cuStreamGetPriority(streams.urgent, &priority));
    SAME(priority, streams.priority);
    CUstreamAttrValue value{};
    CU(cuStreamGetAttribute(streams.plain, CU_STREAM_ATTRIBUTE_SYNCHRONIZATION_POLICY, &value));
    SAME(int(value.syncPolicy), int(CU_SYNC_POLICY_BLOCKING_SYNC));
    spin_and_store<<<1, 1, 0, streams.urgent>>>(streams.word, 1, 20000);
    CU(cuEventRecord(streams.between, streams.urgent));
    CU(cuStreamWaitEvent(streams.free, streams.between, 0));
    spin_and_store<<<1, 1, 0, streams.free>>>(streams.word, 2, 1);
    CU(cuStreamSynchronize(streams.free));
    SAME(words_of(streams.word, 1)[0], 2u);
}

// -------------------------------------------------------------------------------------------------------------- events
struct {
    CUevent first, second, untimed, never;
    float between;
    unsigned* word;
} events;

void events_set_up() {
    CU(cuEventCreate(&events.first, CU_EVENT_DEFAULT));
    CU(cuEventCreate(&events.second, CU_EVENT_BLOCKING_SYNC));
    CU(cuEventCreate(&events.untimed, CU_EVENT_DISABLE_TIMING));
    CU(cuEventCreate(&events.never, CU_EVENT_DEFAULT));
    RT(cudaMalloc(&events.word, 4));
    CU(cuEventRecord(events.first, nullptr));
    spin_and_store<<<1, 1>>>(events.word, 1, 200000);
    CU(cuEventRecord(events.second, nullptr));
    CU(cuEventRecord(events.untimed, nullptr));
    CU(cuEventSynchronize(events.untimed));
    CU(cuEventElapsedTime(&events.between, events.first, events.second));
    CHECK(events.between > 0);
}

void events_look() {
    float between = 0, since = 0;
    CU(cuEventQuery(events.second));
    CU(cuEventQuery(events.untimed));
    CU(cuEventElapsedTime(&between, events.first, events.second));
    CHECK(between > events.between - 0.01f && between < events.between + 0.01f);
    EXPECT(CUDA_ERROR_INVALID_HANDLE, cuEventElapsedTime(&between, events.first, events.never));
    CUevent now = nullptr;
    CU(cuEventCreate(&now, CU_EVENT_DEFAULT));
    CU(cuEventRecord(now, nullptr));
    CU(cuEventSynchronize(now));
    CU(cuEventElapsedTime(&since, events.second, now));
    CHECK(since >= 0);
    CU(cuEventDestroy(now));
}

// ------------------------------------------------------------------------------------------------------------ contexts
struct Contexts {
    CUcontext primary, created;
    CUdeviceptr word;
    CUstream stream;
    CUfunction function;
    std::mutex mutex;
    std::condition_variable changed;
    unsigned asked = 0, answered = 0;
    CUcontext told;
    CUresult status;
};
Contexts& contexts = *new Contexts;  // never destroyed: the other thread waits in it

const char* const store_ptx = R"(.version 7.0
.target sm_75
.address_size 64
.visible .global .align 4 .u32 amount = 5;
.visible .entry store(.param .u64 p)
{
    .reg .b32 %r<2>;
    .reg .b64 %rd<3>;
    ld.param.u64 %rd1, [p];
    cvta.to.global.u64 %rd2, %rd1;
    ld.global.u32 %r1, [amount];
    st.global.u32 [%rd2], %r1;
    ret;
}
)";

// A thread that has another context than the first one.
void other_thread() {
    CU(cuCtxSetCurrent(contexts.created));
    std::unique_lock lock(contexts.mutex);
    for (;;) {
        contexts.status = cuCtxGetCurrent(&contexts.told);
        if (contexts.status == CUDA_SUCCESS) {
            void* parameters[] = {&contexts.word};
            contexts.status = cuLaunchKernel(contexts.function, 1, 1, 1, 1, 1, 1, 0, contexts.stream, parameters, nullptr);
        }
        if (contexts.status == CUDA_SUCCESS) contexts.status = cuCtxSynchronize();
        contexts.answered = contexts.asked;
        contexts.changed.notify_all();
        contexts.changed.wait(lock, [] { return contexts.asked != contexts.answered; });
    }
}

void contexts_set_up() {
    CU(cuCtxGetCurrent(&contexts.primary));
    CU(cuCtxCreate(&contexts.created, nullptr, CU_CTX_SCHED_BLOCKING_SYNC, 0));
    CUmodule module = nullptr;
    CU(cuMemAlloc(&contexts.word, 4));
    CU(cuStreamCreate(&contexts.stream, CU_STREAM_NON_BLOCKING));
    CU(cuModuleLoadData(&module, store_ptx));
    CU(cuModuleGetFunction(&contexts.function, module, "store"));
    CU(cuCtxPopCurrent(nullptr));
    contexts.asked = 1;
    std::thread(other_thread).detach();
    std::unique_lock lock(contexts.mutex);
    contexts.changed.wait(lock, [] { return contexts.answered == contexts.asked; });
    CU(contexts.status);
}

void contexts_look() {
    CUcontext current = nullptr;
    CU(cuCtxGetCurrent(&current));
    CHECK(current == contexts.primary);
    CU(cuCtxPushCurrent(contexts.created));
    unsigned flags = 0;
    CU(cuCtxGetFlags(&flags));
    SAME(flags & CU_CTX_SCHED_MASK, unsigned(CU_CTX_SCHED_BLOCKING_SYNC));
    CU(cuMemsetD32(contexts.word, 0, 1));
    CU(cuCtxSynchronize());
    CU(cuCtxPopCurrent(&current));
    CHECK(current == contexts.created);
    std::unique_lock lock(contexts.mutex);
    ++contexts.asked;
    contexts.changed.notify_all();
    contexts.changed.wait(lock, [] { return contexts.answered == contexts.asked; });
    CU(contexts.status);
    CHECK(contexts.told == contexts.created);
    SAME(words_of(reinterpret_cast<void*>(contexts.word), 1)[0], 5u);
}

// ---------------------------------------------------------------------------------------------------- modules, libraries
struct {
    CUmodule module;
    CUlibrary library;
    CUkernel kernel;
    CUfunction function;
    CUdeviceptr variable, of_library, word;
} code;

void code_set_up() {
    size_t size = 0;
    CUmodule unloaded = nullptr;
    CU(cuModuleLoadData(&unloaded, store_ptx));
    CU(cuModuleLoadData(&code.module, store_ptx));
    CU(cuModuleUnload(unloaded));
    CU(cuModuleGetFunction(&code.function, code.module, "store"));
    CU(cuModuleGetGlobal(&code.variable, &size, code.module, "amount"));
    CU(cuMemsetD32(code.variable, 70, 1));
    CU(cuLibraryLoadData(&code.library, store_ptx, nullptr, nullptr, 0, nullptr, nullptr, 0));
    CU(cuLibraryGetKernel(&code.kernel, code.library, "store"));
    CU(cuLibraryGetGlobal(&code.of_library, &size, code.library, "amount"));
    CU(cuMemsetD32(code.of_library, 80, 1));
    CU(cuMemAlloc(&code.word, 4));
    CU(cuCtxSynchronize());
}

void code_look() {
    void* parameters[] = {&code.word};
    CU(cuLaunchKernel(code.function, 1, 1, 1, 1, 1, 1, 0, nullptr, parameters, nullptr));
    SAME(words_of(reinterpret_cast<void*>(code.word), 1)[0], 70u);
    CU(cuLaunchKernel(reinterpret_cast<CUfunction>(code.kernel), 1, 1, 1, 1, 1, 1, 0, nullptr, parameters, nullptr));
    SAME(words_of(reinterpret_cast<void*>(code.word), 1)[0], 80u);
    size_t size = 0;
    CUdeviceptr now = 0;
    CU(cuModuleGetGlobal(&now, &size, code.module, "amount"));
    CHECK(now == code.variable);
}

// ------------------------------------------------------------------------- attributes of functions, limits, preferences
struct {
    unsigned* word;
    CUfunc_cache cache;
} settings;

void settings_set_up() {
    RT(cudaMalloc(&settings.word, 4));
    RT(cudaFuncSetAttribute(large_shared, cudaFuncAttributeMaxDynamicSharedMemorySize, 64004));
    RT(cudaFuncSetAttribute(large_shared, cudaFuncAttributePreferredSharedMemoryCarveout, 100));
    CU(cuCtxSetLimit(CU_LIMIT_STACK_SIZE, 4096));
    CU(cuCtxSetLimit(CU_LIMIT_PRINTF_FIFO_SIZE, 3 << 20));
    CU(cuCtxSetCacheConfig(CU_FUNC_CACHE_PREFER_SHARED));
    CU(cuCtxGetCacheConfig(&settings.cache));
}

void settings_look() {
    large_shared<<<1, 1, 64004>>>(settings.word);
    RT(cudaGetLastError());
    RT(cudaDeviceSynchronize());
    SAME(words_of(settings.word, 1)[0], 5u);
    cudaFuncAttributes attributes{};
    RT(cudaFuncGetAttributes(&attributes, large_shared));
    SAME(attributes.maxDynamicSharedSizeBytes, 64004);
    SAME(attributes.preferredShmemCarveout, 100);
    size_t limit = 0;
    CU(cuCtxGetLimit(&limit, CU_LIMIT_STACK_SIZE));
    SAME(limit, size_t(4096));
    CU(cuCtxGetLimit(&limit, CU_LIMIT_PRINTF_FIFO_SIZE));
    SAME(limit, size_t(3 << 20));
    CUfunc_cache cache;
    CU(cuCtxGetCacheConfig(&cache));
    SAME(int(cache), int(settings.cache));
}

// Flags of the primary context are for whoever retains it first: a process of its own.
void primary_set_up() {
    CU(cuDevicePrimaryCtxSetFlags(0, CU_CTX_SCHED_BLOCKING_SYNC));
    CUcontext again = nullptr;
    CU(cuDevicePrimaryCtxRetain(&again, 0));
}

void primary_look() {
    unsigned flags = 0;
    int active = 0;
    CU(cuDevicePrimaryCtxGetState(0, &flags, &active));
    SAME(active, 1);
    SAME(flags & CU_CTX_SCHED_MASK, unsigned(CU_CTX_SCHED_BLOCKING_SYNC));
}

// ------------------------------------------------------------------------------------------------------ host functions
std::atomic<unsigned> host_calls{0};
void CUDART_CB count_call(void*) { ++host_calls; }

struct {
    cudaStream_t stream;
} called;

void host_functions_set_up() {
    RT(cudaStreamCreate(&called.stream));
    for (int i = 0; i < 3; ++i) RT(cudaLaunchHostFunc(called.stream, count_call, nullptr));
    RT(cudaStreamSynchronize(called.stream));
}

void host_functions_look() {
    const unsigned before = host_calls;
    RT(cudaLaunchHostFunc(called.stream, count_call, nullptr));
    RT(cudaStreamSynchronize(called.stream));
    SAME(unsigned(host_calls), before + 1);
}

// --------------------------------------------- an error that no call could tell yet, since it was found after the call
bool told = false;
void posted_set_up() {
    RT(cudaDeviceSynchronize());
    spin_and_store<<<1, 5000>>>(nullptr, 0, 0);
}

void posted_look() {
    if (told) return;  // once
    told = true;
    cudaError_t first = cudaGetLastError();
    if (first == cudaSuccess) first = cudaDeviceSynchronize();
    CHECK(first != cudaSuccess);
    RT(cudaDeviceSynchronize());
}

const Kinds kinds{{"streams", streams_set_up, streams_look},
                  {"events", events_set_up, events_look},
                  {"contexts", contexts_set_up, contexts_look},
                  {"code", code_set_up, code_look},
                  {"settings", settings_set_up, settings_look},
                  {"primary-context", primary_set_up, primary_look, true},
                  {"host-functions", host_functions_set_up, host_functions_look},
                  {"posted-error", posted_set_up, posted_look, true}};

}  // namespace
}  // namespace kinds
