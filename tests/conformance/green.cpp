// SPDX-License-Identifier: MIT
// What belongs to a green context and what to its device's primary context: which is told of each, what can
// be used where, and what is left when the green context, or the primary one, is gone.
#include <cstring>
#include <thread>
#include <vector>

#include "conform.h"

extern "C" const unsigned char conform_kernels[];

namespace {

struct Green {
    CUgreenCtx handle = nullptr;
    CUcontext context = nullptr, primary = nullptr;
};

// Of the smallest part with this number; false: there are no green contexts here.
bool try_make(Green* green, unsigned part) {
    CUdevResource all{}, parts[2]{}, rest{};
    unsigned groups = 2;
    if (cuDeviceGetDevResource(0, &all, CU_DEV_RESOURCE_TYPE_SM) != CUDA_SUCCESS ||
        cuDevSmResourceSplitByCount(parts, &groups, &all, &rest, 0, all.sm.minSmPartitionSize) !=
            CUDA_SUCCESS)
        return false;
    CUdevResourceDesc description = nullptr;
    return cuDevResourceGenerateDesc(&description, &parts[part], 1) == CUDA_SUCCESS &&
           cuGreenCtxCreate(&green->handle, description, 0, CU_GREEN_CTX_DEFAULT_STREAM) == CUDA_SUCCESS &&
           cuCtxFromGreenCtx(&green->context, green->handle) == CUDA_SUCCESS;
}

bool make(Green* green, unsigned part = 0) {
    const bool made = try_make(green, part);
    if (!made) conform::say("there are no green contexts here");
    return made;
}

// The conformance worker's primary context is current.
bool set_up(Green* green, unsigned part = 0) {
    return make(green, part) && cuCtxGetCurrent(&green->primary) == CUDA_SUCCESS;
}

void who(const char* what, CUcontext context, const Green& green) {
    conform::text(what, !context                   ? "none"
                        : context == green.primary ? "the primary context"
                        : context == green.context ? "the green context"
                                                   : "another");
}

void owner(const char* what, CUdeviceptr memory, const Green& green) {
    CUcontext context = nullptr;
    if (conform::told(what, cuPointerGetAttribute(&context, CU_POINTER_ATTRIBUTE_CONTEXT, memory)) ==
        CUDA_SUCCESS)
        who(what, context, green);
}

unsigned first_word(CUdeviceptr memory) {
    unsigned word = 0;
    CHECK(cuMemcpyDtoH(&word, memory, sizeof word));
    return word;
}

void fill(CUfunction function, CUstream stream, CUdeviceptr memory, unsigned with) {
    unsigned count = 64;
    void* parameters[] = {&memory, &with, &count};
    CHECK(cuLaunchKernel(function, 1, 1, 1, 64, 1, 1, 0, stream, parameters, nullptr));
    CHECK(cuStreamSynchronize(stream));
    VALUE(first_word(memory));
}

}  // namespace

CASE_ALONE(green_is_another_context) {
    Green green, second;
    if (!set_up(&green) || !set_up(&second, 1)) return;
    CUcontext again = nullptr, current = nullptr;
    CHECK(cuCtxFromGreenCtx(&again, green.handle));
    who("converted twice", again, green);
    VALUE(second.context == green.context);
    NEED(cuCtxSetCurrent(green.context));
    CHECK(cuCtxGetCurrent(&current));
    who("current", current, green);
    CUdevice device = 7;
    CHECK(cuCtxGetDevice(&device));
    VALUE(device);
    unsigned long long id = 0, of_primary = 0, of_green = 0;
    CHECK(cuCtxGetId(green.context, &id));
    CHECK(cuCtxGetId(green.primary, &of_primary));
    CHECK(cuGreenCtxGetId(green.handle, &of_green));
    VALUE(id == of_primary);
    VALUE(id == of_green);
    unsigned version = 0, flags = 0, flags_of_primary = 0;
    CHECK(cuCtxGetApiVersion(green.context, &version));
    VALUE(version);
    CHECK(cuCtxGetFlags(&flags));
    int active = 0;
    CHECK(cuDevicePrimaryCtxGetState(0, &flags_of_primary, &active));
    VALUE(flags);
    VALUE(flags_of_primary);
    VALUE(active);
    // Settings.
    size_t size = 0;
    CHECK(cuCtxSetLimit(CU_LIMIT_STACK_SIZE, 8192));
    CHECK(cuCtxSetLimit(CU_LIMIT_PRINTF_FIFO_SIZE, 2 << 20));
    CHECK(cuCtxSetLimit(CU_LIMIT_MALLOC_HEAP_SIZE, 16 << 20));
    CHECK(cuCtxSetCacheConfig(CU_FUNC_CACHE_PREFER_L1));
    CHECK(cuCtxSetCurrent(green.primary));
    CHECK(cuCtxGetLimit(&size, CU_LIMIT_STACK_SIZE));
    VALUE(size);
    CHECK(cuCtxGetLimit(&size, CU_LIMIT_PRINTF_FIFO_SIZE));
    VALUE(size);
    CHECK(cuCtxGetLimit(&size, CU_LIMIT_MALLOC_HEAP_SIZE));
    VALUE(size);
    CUfunc_cache cache{};
    CHECK(cuCtxGetCacheConfig(&cache));
    VALUE(cache);
    CHECK(cuCtxSetLimit(CU_LIMIT_STACK_SIZE, 4096));
    CHECK(cuCtxSetCurrent(green.context));
    CHECK(cuCtxGetLimit(&size, CU_LIMIT_STACK_SIZE));
    VALUE(size);
    // What ends contexts does not end it.
    CHECK(cuCtxDestroy(green.context));
    CHECK(cuCtxGetCurrent(&current));
    who("current", current, green);
    CHECK(cuCtxPushCurrent(green.context));
    CHECK(cuCtxPopCurrent(&current));
    who("popped", current, green);
    CHECK(cuGreenCtxDestroy(second.handle));
    CHECK(cuCtxSetCurrent(green.primary));
    CHECK(cuGreenCtxDestroy(green.handle));
}

CASE_ALONE(green_streams) {
    Green green, second;
    if (!set_up(&green) || !set_up(&second, 1)) return;
    CUstream plain = nullptr, made = nullptr, blocking = nullptr, of_primary = nullptr;
    CHECK(cuStreamCreate(&of_primary, CU_STREAM_NON_BLOCKING));
    CHECK(cuGreenCtxStreamCreate(&made, green.handle, CU_STREAM_NON_BLOCKING, 0));
    NEED(cuCtxSetCurrent(green.context));
    CHECK(cuStreamCreate(&plain, CU_STREAM_NON_BLOCKING));
    CHECK(cuStreamCreate(&blocking, CU_STREAM_DEFAULT));
    unsigned flags = 0;
    CHECK(cuStreamGetFlags(blocking, &flags));
    VALUE(flags);
    CUcontext of = nullptr;
    CUgreenCtx which = nullptr;
    for (CUstream stream : {plain, made, of_primary, CUstream(nullptr), CU_STREAM_LEGACY}) {
        CHECK(cuStreamGetCtx(stream, &of));
        who("of the stream", of, green);
        CHECK(cuStreamGetCtx_v2(stream, &of, &which));
        who("of the stream", of, green);
        VALUE(which == green.handle);
        which = nullptr;
        CHECK(cuStreamGetGreenCtx(stream, &which));
        VALUE(which == green.handle);
        which = nullptr;
    }
    // Events of either kind of context, in streams of either.
    CUevent event = nullptr, primary_event = nullptr, second_event = nullptr;
    CHECK(cuEventCreate(&event, 0));
    CHECK(cuCtxSetCurrent(green.primary));
    CHECK(cuEventCreate(&primary_event, 0));
    CHECK(cuCtxSetCurrent(second.context));
    CHECK(cuEventCreate(&second_event, 0));
    CHECK(cuCtxSetCurrent(green.context));
    FAULT(cuEventRecord(event, plain));
    FAULT(cuEventRecord(event, of_primary));
    FAULT(cuEventRecord(primary_event, plain));
    FAULT(cuEventRecord(primary_event, of_primary));
    FAULT(cuEventRecord(second_event, plain));
    FAULT(cuEventRecord(second_event, nullptr));
    FAULT(cuEventRecord(event, nullptr));
    CHECK(cuStreamWaitEvent(of_primary, event, 0));
    CHECK(cuStreamWaitEvent(made, primary_event, 0));
    CHECK(cuCtxSynchronize());
    CHECK(cuStreamQuery(of_primary));
    CHECK(cuCtxSetCurrent(green.primary));
    CHECK(cuStreamSynchronize(plain));
    CHECK(cuCtxSynchronize());
    CHECK(cuStreamDestroy(plain));
    CHECK(cuStreamDestroy(made));
    CHECK(cuStreamDestroy(blocking));
    CHECK(cuEventDestroy(event));
    CHECK(cuEventDestroy(second_event));
    CHECK(cuGreenCtxDestroy(green.handle));
    CHECK(cuGreenCtxDestroy(second.handle));
}

CASE_ALONE(green_memory) {
    Green green, second;
    if (!set_up(&green) || !set_up(&second, 1)) return;
    CUdeviceptr of_primary = 0, memory = 0, managed = 0, pooled = 0, other = 0;
    void *host = nullptr, *page = nullptr;
    NEED(cuMemAlloc(&of_primary, 4096));
    CHECK(cuMemsetD32(of_primary, 5, 1024));
    NEED(cuCtxSetCurrent(green.context));
    NEED(cuMemAlloc(&memory, 4096));
    NEED(cuMemAlloc(&other, 4096));
    NEED(cuMemAllocManaged(&managed, 4096, CU_MEM_ATTACH_GLOBAL));
    NEED(cuMemHostAlloc(&host, 4096, 0));
    NEED(cuMemAllocAsync(&pooled, 4096, nullptr));
    std::vector<unsigned char> room(3 * 4096);
    page = room.data() + (4096 - reinterpret_cast<uintptr_t>(room.data()) % 4096);
    CHECK(cuMemHostRegister(page, 4096, 0));
    CHECK(cuMemsetD32(memory, 7, 1024));
    CHECK(cuMemsetD32(pooled, 9, 1024));
    owner("of memory of the primary context", of_primary, green);
    owner("of memory", memory, green);
    owner("of managed memory", managed, green);
    owner("of host memory", reinterpret_cast<CUdeviceptr>(host), green);
    owner("of registered memory", reinterpret_cast<CUdeviceptr>(page), green);
    owner("of stream-ordered memory", pooled, green);
    CHECK(cuMemFree(other));
    CHECK(cuCtxSynchronize());
    CHECK(cuCtxSetCurrent(second.context));
    VALUE(first_word(memory));
    CHECK(cuCtxSetCurrent(green.primary));
    VALUE(first_word(memory));
    VALUE(first_word(pooled));
    NEED(cuGreenCtxDestroy(green.handle));
    conform::say("the green context is gone");
    owner("of memory", memory, green);
    owner("of managed memory", managed, green);
    owner("of host memory", reinterpret_cast<CUdeviceptr>(host), green);
    owner("of registered memory", reinterpret_cast<CUdeviceptr>(page), green);
    VALUE(first_word(memory));
    VALUE(first_word(pooled));
    VALUE(first_word(of_primary));
    CHECK(cuMemcpyDtoD(of_primary, memory, 4096));
    VALUE(first_word(of_primary));
    std::memset(host, 3, 4096);
    CHECK(cuMemcpyHtoD(memory, host, 4096));
    VALUE(first_word(memory));
    CHECK(cuMemsetD32(managed, 11, 4));
    CHECK(cuCtxSynchronize());
    VALUE(*reinterpret_cast<unsigned*>(managed));
    CHECK(cuMemFree(memory));
    CHECK(cuMemFree(memory));
    CHECK(cuMemFree(managed));
    CHECK(cuMemFreeAsync(pooled, nullptr));
    CHECK(cuMemFreeHost(host));
    CHECK(cuMemHostUnregister(page));
    CHECK(cuCtxSynchronize());
    CHECK(cuGreenCtxDestroy(second.handle));
}

CASE_ALONE(green_modules) {
    Green green, second;
    if (!set_up(&green) || !set_up(&second, 1)) return;
    CUmodule of_primary = nullptr, module = nullptr, of_function = nullptr;
    CUfunction primary_fill = nullptr, function = nullptr, again = nullptr;
    CUdeviceptr memory = 0, variable = 0, same = 0, primary_variable = 0;
    size_t bytes = 0;
    NEED(cuMemAlloc(&memory, 4096));
    NEED(cuModuleLoadData(&of_primary, conform_kernels));
    NEED(cuModuleGetFunction(&primary_fill, of_primary, "fill"));
    NEED(cuModuleGetGlobal(&primary_variable, &bytes, of_primary, "counter"));
    NEED(cuCtxSetCurrent(green.context));
    NEED(cuModuleLoadData(&module, conform_kernels));
    NEED(cuModuleGetFunction(&function, module, "fill"));
    NEED(cuModuleGetGlobal(&variable, &bytes, module, "counter"));
    VALUE(variable == primary_variable);
    owner("of a variable", variable, green);
    owner("of the primary context's variable", primary_variable, green);
    CHECK(cuMemsetD32(variable, 70, 1));
    conform::say("in the green context");
    fill(function, nullptr, memory, 1);
    fill(primary_fill, nullptr, memory, 2);
    CHECK(cuCtxSetCurrent(second.context));
    conform::say("in another");
    fill(function, nullptr, memory, 3);
    CHECK(cuModuleGetGlobal(&same, &bytes, module, "counter"));
    VALUE(same == variable);
    CHECK(cuCtxSetCurrent(green.primary));
    conform::say("in the primary context");
    fill(function, nullptr, memory, 4);
    NEED(cuGreenCtxDestroy(green.handle));
    conform::say("the green context is gone");
    fill(function, nullptr, memory, 5);
    CHECK(cuFuncGetModule(&of_function, function));
    VALUE(of_function == module);
    CHECK(cuModuleGetFunction(&again, module, "fill"));
    VALUE(again == function);
    CHECK(cuModuleGetGlobal(&same, &bytes, module, "counter"));
    VALUE(same == variable);
    VALUE(first_word(variable));
    CHECK(cuCtxSetCurrent(second.context));
    fill(function, nullptr, memory, 6);
    CHECK(cuCtxSetCurrent(green.primary));
    CHECK(cuModuleUnload(module));
    CHECK(cuModuleUnload(of_primary));
    CHECK(cuGreenCtxDestroy(second.handle));
}

CASE_ALONE(green_libraries) {
    Green green;
    if (!set_up(&green)) return;
    CUlibrary library = nullptr;
    CUkernel kernel = nullptr;
    CUfunction in_green = nullptr, in_primary = nullptr;
    CUmodule module = nullptr, primary_module = nullptr;
    CUdeviceptr variable = 0, primary_variable = 0, memory = 0;
    size_t bytes = 0;
    NEED(cuMemAlloc(&memory, 4096));
    NEED(cuLibraryLoadData(&library, conform_kernels, nullptr, nullptr, 0, nullptr, nullptr, 0));
    NEED(cuLibraryGetKernel(&kernel, library, "fill"));
    NEED(cuCtxSetCurrent(green.context));
    NEED(cuKernelGetFunction(&in_green, kernel));
    NEED(cuLibraryGetModule(&module, library));
    NEED(cuLibraryGetGlobal(&variable, &bytes, library, "counter"));
    fill(in_green, nullptr, memory, 1);
    fill(reinterpret_cast<CUfunction>(kernel), nullptr, memory, 2);
    CHECK(cuMemsetD32(variable, 70, 1));
    CHECK(cuCtxSynchronize());  // what the primary context does next does not wait for it
    NEED(cuCtxSetCurrent(green.primary));
    NEED(cuKernelGetFunction(&in_primary, kernel));
    NEED(cuLibraryGetModule(&primary_module, library));
    NEED(cuLibraryGetGlobal(&primary_variable, &bytes, library, "counter"));
    VALUE(in_green == in_primary);
    VALUE(module == primary_module);
    VALUE(variable == primary_variable);
    VALUE(first_word(primary_variable));
    fill(in_green, nullptr, memory, 3);
    fill(reinterpret_cast<CUfunction>(kernel), nullptr, memory, 4);
    NEED(cuGreenCtxDestroy(green.handle));
    conform::say("the green context is gone");
    fill(in_green, nullptr, memory, 5);
    fill(reinterpret_cast<CUfunction>(kernel), nullptr, memory, 6);
    VALUE(first_word(variable));
    CHECK(cuLibraryUnload(library));
}

CASE_ALONE(green_objects) {
    Green green;
    if (!set_up(&green)) return;
    NEED(cuCtxSetCurrent(green.context));
    CUevent event = nullptr, recorded = nullptr;
    CUarray array = nullptr;
    CUtexObject texture = 0;
    CUgraph graph = nullptr;
    CUgraphExec exec = nullptr;
    CUdeviceptr memory = 0;
    CUmemoryPool pool = nullptr;
    NEED(cuMemAlloc(&memory, 4096));
    NEED(cuEventCreate(&event, 0));
    NEED(cuEventCreate(&recorded, 0));
    CHECK(cuEventRecord(recorded, nullptr));
    const CUDA_ARRAY_DESCRIPTOR wish{16, 16, CU_AD_FORMAT_UNSIGNED_INT32, 1};
    NEED(cuArrayCreate(&array, &wish));
    unsigned row[16] = {1, 2, 3, 4};
    CHECK(cuMemcpyHtoA(array, 0, row, sizeof row));
    CUDA_RESOURCE_DESC resource{};
    resource.resType = CU_RESOURCE_TYPE_ARRAY;
    resource.res.array.hArray = array;
    CUDA_TEXTURE_DESC how{};
    how.flags = CU_TRSF_READ_AS_INTEGER;
    CHECK(cuTexObjectCreate(&texture, &resource, &how, nullptr));
    CUmemPoolProps properties{};
    properties.allocType = CU_MEM_ALLOCATION_TYPE_PINNED;
    properties.location = {CU_MEM_LOCATION_TYPE_DEVICE, {0}};
    CHECK(cuMemPoolCreate(&pool, &properties));
    NEED(cuGraphCreate(&graph, 0));
    CUDA_MEMSET_NODE_PARAMS set{};
    set.dst = memory;
    set.value = 8;
    set.elementSize = 4;
    set.width = 16;
    set.height = 1;
    CUgraphNode node = nullptr;
    NEED(cuGraphAddMemsetNode(&node, graph, nullptr, 0, &set, green.context));
    NEED(cuGraphInstantiate(&exec, graph, 0));
    CHECK(cuGraphLaunch(exec, nullptr));
    CHECK(cuCtxSynchronize());
    VALUE(first_word(memory));
    NEED(cuCtxSetCurrent(green.primary));
    CHECK(cuEventQuery(recorded));
    CHECK(cuGraphLaunch(exec, nullptr));
    CHECK(cuCtxSynchronize());
    NEED(cuGreenCtxDestroy(green.handle));
    conform::say("the green context is gone");
    CHECK(cuEventQuery(recorded));
    CHECK(cuEventSynchronize(recorded));
    FAULT(cuEventRecord(event, nullptr));
    CHECK(cuEventQuery(event));
    float ms = 0;
    CHECK(cuEventElapsedTime(&ms, recorded, event));
    CUDA_ARRAY_DESCRIPTOR has{};
    CHECK(cuArrayGetDescriptor(&has, array));
    VALUE(has.Width);
    unsigned back[16] = {};
    CHECK(cuMemcpyAtoH(back, array, 0, sizeof back));
    VALUE(back[3]);
    CUDA_RESOURCE_DESC told{};
    CHECK(cuTexObjectGetResourceDesc(&told, texture));
    VALUE(told.res.array.hArray == array);
    CUdeviceptr pooled = 0;
    CHECK(cuMemAllocFromPoolAsync(&pooled, 4096, pool, nullptr));
    CHECK(cuMemFreeAsync(pooled, nullptr));
    CHECK(cuMemsetD32(memory, 0, 16));
    CHECK(cuCtxSynchronize());
    CHECK(cuGraphLaunch(exec, nullptr));
    CHECK(cuCtxSynchronize());
    VALUE(first_word(memory));
    CHECK(cuGraphExecDestroy(exec));
    CHECK(cuGraphDestroy(graph));
    CHECK(cuTexObjectDestroy(texture));
    CHECK(cuArrayDestroy(array));
    CHECK(cuMemPoolDestroy(pool));
    CHECK(cuEventDestroy(event));
    CHECK(cuEventDestroy(recorded));
    CHECK(cuMemFree(memory));
}

// What libraries keep with a context (the table of context-local storage).
CASE_ALONE(green_values) {
    static const CUuuid id = {{'\xc6', '\x93', '\x33', '\x6e', '\x11', '\x21', '\xdf', '\x11', '\xa8', '\xc3',
                               '\x68', '\xf3', '\x55', '\xd8', '\x95', '\x93'}};
    using Ended = void (*)(CUcontext, void*, void*);
    struct Table {
        CUresult (*put)(CUcontext, void* key, void* value, Ended);
        CUresult (*erase)(CUcontext, void* key);
        CUresult (*get)(void** value, CUcontext, void* key);
    };
    const void* found = nullptr;
    Green green;
    if (!set_up(&green)) return;
    NEED(cuGetExportTable(&found, &id));
    const auto* table = static_cast<const Table*>(found);
    static Green of;
    of = green;
    const Ended ended = [](CUcontext context, void*, void* value) {
        who("a value ends in", context, of);
        conform::value("it is", *static_cast<int*>(value));
    };
    static int keys[3], values[3] = {1, 2, 3};
    void* value = nullptr;
    CHECK(table->put(green.primary, &keys[0], &values[0], ended));
    CHECK(table->put(green.context, &keys[1], &values[1], ended));
    CHECK(table->get(&value, green.context, &keys[0]));
    CHECK(table->get(&value, green.primary, &keys[1]));
    CHECK(table->get(&value, green.context, &keys[1]));
    CHECK(cuCtxSetCurrent(green.context));
    CHECK(table->put(nullptr, &keys[2], &values[2], ended));
    CHECK(cuCtxSetCurrent(green.primary));
    CHECK(table->get(&value, nullptr, &keys[2]));
    CHECK(cuGreenCtxDestroy(green.handle));
    conform::say("the green context is gone");
    CHECK(table->get(&value, green.primary, &keys[0]));
    CHECK(table->get(&value, green.primary, &keys[1]));
    CHECK(cuDevicePrimaryCtxReset(0));
    conform::say("the primary context is gone");
}

CASE_ALONE(green_ends_while_current) {
    Green green;
    if (!set_up(&green)) return;
    CUcontext current = nullptr;
    CUdeviceptr memory = 0, more = 0;
    CUevent event = nullptr;
    NEED(cuCtxPushCurrent(green.context));
    NEED(cuMemAlloc(&memory, 4096));
    CHECK(cuMemsetD32(memory, 6, 16));
    CHECK(cuEventCreate(&event, 0));
    CHECK(cuCtxSynchronize());
    CHECK(cuGreenCtxDestroy(green.handle));
    CHECK(cuCtxGetCurrent(&current));
    who("current", current, green);
    CUdevice device = 7;
    CHECK(cuCtxGetDevice(&device));
    CHECK(cuMemAlloc(&more, 4096));
    CHECK(cuCtxSynchronize());
    CHECK(cuEventQuery(event));
    CHECK(cuStreamQuery(nullptr));
    unsigned flags = 0;
    CHECK(cuCtxGetFlags(&flags));
    unsigned long long id = 0;
    CHECK(cuCtxGetId(nullptr, &id));
    CHECK(cuCtxPopCurrent(&current));
    who("popped", current, green);
    CHECK(cuCtxGetCurrent(&current));
    who("current", current, green);
    CHECK(cuCtxSetCurrent(green.context));
    CHECK(cuCtxPushCurrent(green.context));
    CHECK(cuCtxGetId(green.context, &id));
    CHECK(cuCtxSetCurrent(green.primary));
    VALUE(first_word(memory));
    CHECK(cuMemFree(memory));
}

CASE_ALONE(green_is_asked_after_its_end) {
    Green green;
    if (!set_up(&green)) return;
    CUevent event = nullptr;
    CUstream stream = nullptr;
    CUdevResource resource{};
    unsigned long long id = 0;
    unsigned version = 0;
    CUdevice device = 7;
    NEED(cuEventCreate(&event, 0));
    NEED(cuGreenCtxDestroy(green.handle));
    FAULT(cuGreenCtxRecordEvent(green.handle, event));
    FAULT(cuGreenCtxWaitEvent(green.handle, event));
    CHECK(cuGreenCtxGetId(green.handle, &id));
    CHECK(cuGreenCtxStreamCreate(&stream, green.handle, CU_STREAM_NON_BLOCKING, 0));
    CHECK(cuGreenCtxGetDevResource(green.handle, &resource, CU_DEV_RESOURCE_TYPE_SM));
    CHECK(cuCtxGetDevResource(green.context, &resource, CU_DEV_RESOURCE_TYPE_SM));
    CHECK(cuCtxGetApiVersion(green.context, &version));
    CHECK(cuCtxGetDevice_v2(&device, green.context));
    CHECK(cuCtxSynchronize_v2(green.context));
    CHECK(cuCtxDestroy(green.context));
    CHECK(cuEventDestroy(event));
    FAULT(cuCtxRecordEvent(green.context, event));
    FAULT(cuCtxWaitEvent(green.context, event));
}

// Where nodes run that were made in a green context; %smid is not looked at, which differs.
CASE_ALONE(green_graphs) {
    Green green;
    if (!set_up(&green)) return;
    CUfunction function = conform::kernel("fill");
    CUdeviceptr memory = 0;
    CUstream stream = nullptr;
    CUgraph graph = nullptr;
    CUgraphExec exec = nullptr;
    if (!function) return;
    NEED(cuMemAlloc(&memory, 4096));
    NEED(cuCtxSetCurrent(green.context));
    NEED(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
    NEED(cuStreamBeginCapture(stream, CU_STREAM_CAPTURE_MODE_RELAXED));
    unsigned with = 12, count = 64;
    void* parameters[] = {&memory, &with, &count};
    CHECK(cuLaunchKernel(function, 1, 1, 1, 64, 1, 1, 0, stream, parameters, nullptr));
    NEED(cuStreamEndCapture(stream, &graph));
    CUgraphNode node = nullptr;
    size_t nodes = 1;
    CHECK(cuGraphGetNodes(graph, &node, &nodes));
    CUDA_KERNEL_NODE_PARAMS captured{};
    CHECK(cuGraphKernelNodeGetParams(node, &captured));
    who("captured in", captured.ctx, green);
    NEED(cuGraphInstantiate(&exec, graph, 0));
    CHECK(cuGraphLaunch(exec, stream));
    CHECK(cuStreamSynchronize(stream));
    VALUE(first_word(memory));
    FAULT(cuLaunchKernel(function, 1, 1, 1, 64, 1, 1, 0, CU_STREAM_PER_THREAD, parameters, nullptr));
    FAULT(cuStreamSynchronize(CU_STREAM_PER_THREAD));
    CHECK(cuStreamDestroy(stream));
    CHECK(cuCtxSetCurrent(green.primary));
    CHECK(cuMemsetD32(memory, 0, 16));
    CHECK(cuGraphLaunch(exec, nullptr));
    CHECK(cuCtxSynchronize());
    VALUE(first_word(memory));
    NEED(cuGreenCtxDestroy(green.handle));
    conform::say("the green context is gone");
    CHECK(cuMemsetD32(memory, 0, 16));
    CHECK(cuGraphLaunch(exec, nullptr));
    CHECK(cuCtxSynchronize());
    VALUE(first_word(memory));
}

CASE_ALONE(green_ends_with_streams) {
    Green green;
    if (!set_up(&green)) return;
    CUstream plain = nullptr, made = nullptr;
    CUdeviceptr memory = 0;
    NEED(cuMemAlloc(&memory, 64 << 20));
    NEED(cuGreenCtxStreamCreate(&made, green.handle, CU_STREAM_NON_BLOCKING, 0));
    NEED(cuCtxSetCurrent(green.context));
    NEED(cuStreamCreate(&plain, CU_STREAM_NON_BLOCKING));
    CHECK(cuMemsetD32Async(memory, 3, 16 << 20, plain));
    CHECK(cuMemsetD32Async(memory, 4, 16 << 20, made));
    CHECK(cuCtxSetCurrent(green.primary));
    CHECK(cuGreenCtxDestroy(green.handle));
    CHECK(cuCtxSynchronize());
    FAULT(cuStreamQuery(plain));
    FAULT(cuStreamSynchronize(made));
    FAULT(cuMemsetD32Async(memory, 4, 16, plain));
    unsigned flags = 0;
    CHECK(cuStreamGetFlags(plain, &flags));
    CUcontext of = nullptr;
    CHECK(cuStreamGetCtx(plain, &of));
    CHECK(cuStreamDestroy(plain));
    CHECK(cuStreamDestroy(made));
    CHECK(cuMemFree(memory));
    CHECK(cuGreenCtxDestroy(green.handle));
    CUcontext again = nullptr;
    CHECK(cuCtxFromGreenCtx(&again, green.handle));
}

CASE_BARE(green_holds_the_primary) {
    Green green;
    if (!make(&green)) return;
    unsigned flags = 0;
    int active = 7;
    CHECK(cuDevicePrimaryCtxGetState(0, &flags, &active));
    VALUE(active);
    NEED(cuCtxSetCurrent(green.context));
    CUdeviceptr memory = 0;
    NEED(cuMemAlloc(&memory, 4096));
    CHECK(cuMemsetD32(memory, 2, 16));
    NEED(cuDevicePrimaryCtxRetain(&green.primary, 0));
    owner("of memory", memory, green);
    CHECK(cuDevicePrimaryCtxRelease(0));
    CHECK(cuDevicePrimaryCtxGetState(0, &flags, &active));
    VALUE(active);
    VALUE(first_word(memory));
    // A release more than there were retains.
    NEED(cuDevicePrimaryCtxRetain(&green.primary, 0));
    CHECK(cuCtxSetCurrent(green.primary));
    NEED(cuGreenCtxDestroy(green.handle));
    CHECK(cuDevicePrimaryCtxGetState(0, &flags, &active));
    VALUE(active);
    VALUE(first_word(memory));
    CHECK(cuDevicePrimaryCtxRelease(0));
    CHECK(cuDevicePrimaryCtxGetState(0, &flags, &active));
    VALUE(active);
    CHECK(cuDevicePrimaryCtxRelease(0));
    NEED(cuDevicePrimaryCtxRetain(&green.primary, 0));
    CHECK(cuCtxSetCurrent(green.primary));
    CHECK(cuMemFree(memory));
}

CASE_BARE(green_is_the_last_to_hold) {
    Green green;
    if (!make(&green)) return;
    NEED(cuCtxSetCurrent(green.context));
    CUdeviceptr memory = 0;
    NEED(cuMemAlloc(&memory, 4096));
    unsigned flags = 0;
    int active = 7;
    CHECK(cuDevicePrimaryCtxGetState(0, &flags, &active));
    VALUE(active);
    VALUE(flags);
    CHECK(cuCtxGetFlags(&flags));
    VALUE(flags);
    CHECK(cuGreenCtxDestroy(green.handle));
    CHECK(cuDevicePrimaryCtxGetState(0, &flags, &active));
    VALUE(active);
    NEED(cuDevicePrimaryCtxRetain(&green.primary, 0));
    CHECK(cuCtxSetCurrent(green.primary));
    CHECK(cuMemFree(memory));
}

CASE_BARE(green_is_not_released) {
    Green green;
    if (!make(&green)) return;
    CUdeviceptr memory = 0;
    unsigned flags = 0;
    int active = 7;
    CHECK(cuDevicePrimaryCtxRelease(0));
    CHECK(cuDevicePrimaryCtxGetState(0, &flags, &active));
    VALUE(active);
    NEED(cuCtxSetCurrent(green.context));
    CHECK(cuMemAlloc(&memory, 4096));
    CHECK(cuMemFree(memory));
    CHECK(cuGreenCtxDestroy(green.handle));
}

CASE_BARE(green_and_a_reset) {
    Green green;
    NEED(cuDevicePrimaryCtxRetain(&green.primary, 0));
    if (!make(&green)) return;
    CUdeviceptr memory = 0, more = 0;
    CUcontext context = nullptr, current = nullptr;
    unsigned long long id = 0;
    unsigned flags = 0;
    int active = 7;
    NEED(cuCtxSetCurrent(green.context));
    NEED(cuMemAlloc(&memory, 4096));
    CHECK(cuDevicePrimaryCtxReset(0));
    CHECK(cuDevicePrimaryCtxGetState(0, &flags, &active));
    VALUE(active);
    CHECK(cuCtxGetCurrent(&current));
    who("current", current, green);
    CHECK(cuMemAlloc(&more, 4096));
    CHECK(cuCtxSynchronize());
    CHECK(cuCtxSetCurrent(green.primary));
    CHECK(cuMemAlloc(&more, 4096));
    FAULT(cuMemsetD32(memory, 2, 16));
    CHECK(cuDevicePrimaryCtxGetState(0, &flags, &active));
    VALUE(active);
    CHECK(cuCtxSetCurrent(green.context));
    CHECK(cuGreenCtxGetId(green.handle, &id));
    CHECK(cuCtxFromGreenCtx(&context, green.handle));
    CHECK(cuGreenCtxDestroy(green.handle));
    CHECK(cuDevicePrimaryCtxGetState(0, &flags, &active));
    VALUE(active);
    CHECK(cuDevicePrimaryCtxRelease(0));
}

CASE_BARE(green_and_the_last_release) {
    Green green;
    NEED(cuDevicePrimaryCtxRetain(&green.primary, 0));
    if (!make(&green)) return;
    CUdeviceptr memory = 0;
    unsigned flags = 0;
    int active = 7;
    NEED(cuCtxSetCurrent(green.primary));
    NEED(cuMemAlloc(&memory, 4096));
    CHECK(cuMemsetD32(memory, 2, 16));
    CHECK(cuDevicePrimaryCtxRelease(0));
    CHECK(cuDevicePrimaryCtxGetState(0, &flags, &active));
    VALUE(active);
    VALUE(first_word(memory));
    CHECK(cuCtxSetCurrent(green.context));
    VALUE(first_word(memory));
    CHECK(cuGreenCtxDestroy(green.handle));
    CHECK(cuDevicePrimaryCtxGetState(0, &flags, &active));
    VALUE(active);
    CHECK(cuCtxSetCurrent(green.primary));
    FAULT(cuMemsetD32(memory, 2, 16));
}
