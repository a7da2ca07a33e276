// SPDX-License-Identifier: MIT
// Green contexts: parts of the device's multiprocessors, in which kernels keep running after a restore. Which they are may be
// another GPU's choice; that they are as many, and nobody else's, is not.
#include <cstring>

#include "kind.h"

namespace kinds {
namespace {

constexpr unsigned words = 16;

// Blocks so large that each multiprocessor gets some before any is over.
__global__ void mark(unsigned* seen) {
    if (threadIdx.x != 0) return;
    unsigned id;
    asm volatile("mov.u32 %0, %%smid;" : "=r"(id));
    atomicOr(&seen[id / 32 % words], 1u << id % 32);
    for (const long long start = clock64(); clock64() - start < 200000;) {
    }
}

struct {
    CUdevResource all, parts[2], rest, of_first;
    CUgreenCtx first, second;
    CUcontext primary, context;
    CUstream stream, made_inside;
    CUevent event;
    unsigned* seen;
    // Made in one that is gone, and in one that is there.
    struct {
        CUdeviceptr memory, variable;
        CUmodule module;
        CUfunction function;
        CUarray array;
        CUtexObject texture;
        CUevent event;
    } left, inside;
    CUstream orphan;
} green;

const char* const shown_ptx = R"(.version 7.0
.target sm_75
.address_size 64
.visible .global .align 4 .u32 shown = 5;
.visible .entry show(.param .u64 p)
{
    .reg .b32 %r<2>;
    .reg .b64 %rd<3>;
    ld.param.u64 %rd1, [p];
    cvta.to.global.u64 %rd2, %rd1;
    ld.global.u32 %r1, [shown];
    st.global.u32 [%rd2], %r1;
    ret;
}
)";

template <class Made>
void make_in(CUcontext context, Made* made) {
    CUcontext before;
    CU(cuCtxGetCurrent(&before));
    CU(cuCtxSetCurrent(context));
    CU(cuMemAlloc(&made->memory, 4096));
    CU(cuMemsetD32(made->memory, 77, 1024));
    CU(cuModuleLoadData(&made->module, shown_ptx));
    CU(cuModuleGetFunction(&made->function, made->module, "show"));
    size_t bytes;
    CU(cuModuleGetGlobal(&made->variable, &bytes, made->module, "shown"));
    CU(cuMemsetD32(made->variable, 9, 1));
    CUDA_ARRAY_DESCRIPTOR wish{16, 1, CU_AD_FORMAT_UNSIGNED_INT32, 1};
    CU(cuArrayCreate(&made->array, &wish));
    std::vector<unsigned> row(16, 5);
    CU(cuMemcpyHtoA(made->array, 0, row.data(), 64));
    CUDA_RESOURCE_DESC resource{};
    resource.resType = CU_RESOURCE_TYPE_ARRAY;
    resource.res.array.hArray = made->array;
    CUDA_TEXTURE_DESC how{};
    how.flags = CU_TRSF_READ_AS_INTEGER;
    CU(cuTexObjectCreate(&made->texture, &resource, &how, nullptr));
    CU(cuEventCreate(&made->event, 0));
    CU(cuEventRecord(made->event, nullptr));
    CU(cuCtxSynchronize());
    CU(cuCtxSetCurrent(before));
}

// All of it is the primary context's, which is current.
template <class Made>
void look_at(const Made& made) {
    CUcontext of;
    CU(cuPointerGetAttribute(&of, CU_POINTER_ATTRIBUTE_CONTEXT, made.memory));
    CHECK(of == green.primary);
    CHECK(words_of(reinterpret_cast<unsigned*>(made.memory), 1024) == std::vector<unsigned>(1024, 77));
    void* parameters[] = {&green.seen};
    CU(cuLaunchKernel(made.function, 1, 1, 1, 1, 1, 1, 0, nullptr, parameters, nullptr));
    CU(cuCtxSynchronize());
    SAME(words_of(green.seen, 1)[0], 9u);
    unsigned row[16];
    CU(cuMemcpyAtoH(row, made.array, 0, sizeof row));
    SAME(row[15], 5u);
    CUDA_RESOURCE_DESC resource;
    CU(cuTexObjectGetResourceDesc(&resource, made.texture));
    CHECK(resource.res.array.hArray == made.array);
    CU(cuEventQuery(made.event));
}

std::vector<unsigned> seen_in(CUstream stream) {
    CU(cuMemsetD8Async(device(green.seen), 0, words * sizeof(unsigned), stream));
    mark<<<green.all.sm.smCount * 4, 1024, 0, stream>>>(green.seen);
    CU(cuStreamSynchronize(stream));
    return words_of(green.seen, words);
}

unsigned count(const std::vector<unsigned>& seen) {
    unsigned sum = 0;
    for (const unsigned word : seen) sum += unsigned(__builtin_popcount(word));
    return sum;
}

CUgreenCtx make(const std::vector<CUdevResource>& of) {
    std::vector<CUdevResource> copy = of;
    CUdevResourceDesc description;
    CUgreenCtx made;
    CU(cuDevResourceGenerateDesc(&description, copy.data(), unsigned(copy.size())));
    CU(cuGreenCtxCreate(&made, description, 0, CU_GREEN_CTX_DEFAULT_STREAM));
    return made;
}

void green_set_up() {
    CU(cuCtxGetCurrent(&green.primary));
    RT(cudaMalloc(&green.seen, words * sizeof(unsigned)));
    CU(cuDeviceGetDevResource(0, &green.all, CU_DEV_RESOURCE_TYPE_SM));
    unsigned groups = 2;
    CU(cuDevSmResourceSplitByCount(green.parts, &groups, &green.all, &green.rest, 0, green.all.sm.minSmPartitionSize));
    SAME(groups, 2u);
    // One that is gone again, with what was in it.
    const CUgreenCtx gone = make({green.parts[1]});
    CUcontext inside;
    CUstream stream;
    CU(cuCtxFromGreenCtx(&inside, gone));
    CU(cuGreenCtxStreamCreate(&stream, gone, CU_STREAM_NON_BLOCKING, 0));
    CU(cuStreamDestroy(stream));
    make_in(inside, &green.left);
    CU(cuGreenCtxStreamCreate(&green.orphan, gone, CU_STREAM_NON_BLOCKING, 0));
    CU(cuGreenCtxDestroy(gone));
    green.first = make({green.parts[0]});
    green.second = make({green.parts[1], green.rest});
    CU(cuGreenCtxGetDevResource(green.first, &green.of_first, CU_DEV_RESOURCE_TYPE_SM));
    CU(cuCtxFromGreenCtx(&green.context, green.first));
    CU(cuGreenCtxStreamCreate(&green.stream, green.second, CU_STREAM_NON_BLOCKING, 0));
    CU(cuEventCreate(&green.event, CU_EVENT_DISABLE_TIMING));
    CU(cuCtxSetCurrent(green.context));
    CU(cuStreamCreate(&green.made_inside, CU_STREAM_NON_BLOCKING));
    CU(cuCtxSetCurrent(green.primary));
    make_in(green.context, &green.inside);
}

void green_look() {
    CUdevResource has{};
    CU(cuGreenCtxGetDevResource(green.first, &has, CU_DEV_RESOURCE_TYPE_SM));
    CHECK(std::memcmp(&has, &green.of_first, sizeof has) == 0);
    CU(cuGreenCtxGetDevResource(green.second, &has, CU_DEV_RESOURCE_TYPE_SM));
    SAME(has.sm.smCount, green.parts[1].sm.smCount + green.rest.sm.smCount);
    CUcontext of = nullptr, now = nullptr;
    CUgreenCtx which = nullptr;
    CU(cuStreamGetCtx_v2(green.stream, &of, &which));
    CHECK(of == green.primary && which == green.second);
    CU(cuCtxFromGreenCtx(&now, green.first));
    CHECK(now == green.context);

    const std::vector<unsigned> in_second = seen_in(green.stream);
    CU(cuGreenCtxRecordEvent(green.second, green.event));
    CU(cuGreenCtxWaitEvent(green.first, green.event));
    CU(cuCtxSetCurrent(green.context));
    const std::vector<unsigned> in_first = seen_in(green.made_inside), by_default = seen_in(nullptr);
    CU(cuCtxSetCurrent(green.primary));
    CU(cuEventQuery(green.event));
    SAME(count(in_first), green.parts[0].sm.smCount);
    SAME(count(in_second), has.sm.smCount);
    CHECK(in_first == by_default);
    for (unsigned i = 0; i < words; ++i) SAME(in_first[i] & in_second[i], 0u);

    look_at(green.left);
    look_at(green.inside);
    EXPECT(CUDA_ERROR_CONTEXT_IS_DESTROYED, cuStreamQuery(green.orphan));

    // The bytes that the program has kept are still good.
    const CUgreenCtx again = make({green.parts[0]});
    CUstream stream;
    CU(cuGreenCtxStreamCreate(&stream, again, CU_STREAM_NON_BLOCKING, 0));
    CHECK(seen_in(stream) == in_first);
    CU(cuStreamDestroy(stream));
    CU(cuGreenCtxDestroy(again));
    CUdevResource parts[1];
    unsigned groups = 1;
    CU(cuDevSmResourceSplitByCount(parts, &groups, &green.of_first, nullptr, 0, green.of_first.sm.smCount));
    SAME(groups, 1u);
    SAME(count(seen_in(nullptr)), green.all.sm.smCount);
}

// A primary context that only a green one holds, after it was gone once with another.
struct {
    CUgreenCtx green;
    CUcontext context;
    CUdeviceptr memory;
    CUfunction function;
} held;

void green_primary_set_up() {
    unsigned* word;
    RT(cudaMalloc(&word, words * sizeof(unsigned)));
    mark<<<1, 1>>>(word);
    RT(cudaDeviceSynchronize());
    CU(cuDevicePrimaryCtxRelease(0));  // the runtime's, and all of this
    CUdevResource all, part, rest;
    CU(cuDeviceGetDevResource(0, &all, CU_DEV_RESOURCE_TYPE_SM));
    unsigned groups = 1;
    CU(cuDevSmResourceSplitByCount(&part, &groups, &all, &rest, 0, all.sm.minSmPartitionSize));
    for (int life = 0; life < 2; ++life) {
        held.green = make({part});
        CU(cuCtxFromGreenCtx(&held.context, held.green));
        CU(cuCtxSetCurrent(held.context));
        CU(cuMemAlloc(&held.memory, 64));
        CU(cuMemsetD32(held.memory, unsigned(life), 16));
        CUmodule module;
        CU(cuModuleLoadData(&module, shown_ptx));
        CU(cuModuleGetFunction(&held.function, module, "show"));
        CU(cuCtxSynchronize());
        if (life == 0) CU(cuGreenCtxDestroy(held.green));
    }
}

void green_primary_look() {
    unsigned flags, word = 0;
    int active = 0;
    CU(cuDevicePrimaryCtxGetState(0, &flags, &active));
    SAME(active, 1);
    CU(cuMemcpyDtoH(&word, held.memory + 60, 4));
    SAME(word, 1u);
    CUdeviceptr out = held.memory;
    void* parameters[] = {&out};
    CU(cuLaunchKernel(held.function, 1, 1, 1, 1, 1, 1, 0, nullptr, parameters, nullptr));
    CU(cuMemcpyDtoH(&word, held.memory, 4));
    SAME(word, 5u);
    CU(cuMemsetD32(held.memory, 1, 1));
    EXPECT(CUDA_ERROR_NOT_PERMITTED, cuDevicePrimaryCtxReset(0));
}

const Kinds kinds{{"green-contexts", green_set_up, green_look}, {"green-primary", green_primary_set_up, green_primary_look, true}};

}  // namespace
}  // namespace kinds
