// SPDX-License-Identifier: MIT
// Conditional nodes: their handles are in kernels' arguments, and what they choose is in graphs of their own.
#include <cstring>

#include "kind.h"

namespace kinds {
namespace {

// ++*rounds; --*left; the condition is whether there is anything left. The function is the device runtime's.
const char* const count_down = R"(.version 7.0
.target sm_75
.address_size 64
.extern .func cudaGraphSetConditional(.param .b64 handle, .param .b32 value);
.visible .entry count_down(.param .u64 counters, .param .u64 handle)
{
    .reg .b32 %rounds, %left;
    .reg .b64 %counters, %handle;
    ld.param.u64 %counters, [counters];
    ld.param.u64 %handle, [handle];
    cvta.to.global.u64 %counters, %counters;
    ld.global.u32 %rounds, [%counters];
    add.u32 %rounds, %rounds, 1;
    st.global.u32 [%counters], %rounds;
    ld.global.u32 %left, [%counters+4];
    sub.u32 %left, %left, 1;
    st.global.u32 [%counters+4], %left;
    {
        .param .b64 handle_in;
        .param .b32 value_in;
        st.param.b64 [handle_in], %handle;
        st.param.b32 [value_in], %left;
        call.uni cudaGraphSetConditional, (handle_in, value_in);
    }
    ret;
}
)";

__global__ void add(unsigned* to, unsigned value) { *to += value; }

struct {
    cudaStream_t stream;
    CUfunction count;
    unsigned* out;
    cudaGraphExec_t nested, lonely, changed;
    cudaGraph_t body;
} conditional;

CUfunction load() {
    CUlinkState link = nullptr;
    CUmodule module = nullptr;
    CUfunction function = nullptr;
    void* cubin = nullptr;
    size_t bytes = 0;
    CU(cuLinkCreate(0, nullptr, nullptr, &link));
    CU(cuLinkAddData(link, CU_JIT_INPUT_PTX, const_cast<char*>(count_down), std::strlen(count_down) + 1, "count_down", 0, nullptr, nullptr));
    // The software GPU has this function built in, and takes no machine code.
    const CUresult status = cuLinkAddFile(link, CU_JIT_INPUT_LIBRARY, CUDADEVRT, 0, nullptr, nullptr);
    CHECK(status == CUDA_SUCCESS || status == CUDA_ERROR_NO_BINARY_FOR_GPU);
    CU(cuLinkComplete(link, &cubin, &bytes));
    CU(cuModuleLoadData(&module, cubin));
    CU(cuModuleGetFunction(&function, module, "count_down"));
    CU(cuLinkDestroy(link));
    return function;
}

cudaGraphConditionalHandle handle_of(cudaGraph_t graph, unsigned initial) {
    cudaGraphConditionalHandle handle;
    RT(cudaGraphConditionalHandleCreate(&handle, graph, initial, cudaGraphCondAssignDefault));
    return handle;
}

cudaGraphNode_t add_conditional(cudaGraph_t graph, cudaGraphConditionalHandle handle, cudaGraphConditionalNodeType type, unsigned size,
                                cudaGraph_t* bodies, cudaGraphNode_t before = nullptr) {
    cudaGraphNodeParams params{};
    cudaGraphNode_t node = nullptr;
    params.type = cudaGraphNodeTypeConditional;
    params.conditional.handle = handle;
    params.conditional.type = type;
    params.conditional.size = size;
    RT(cudaGraphAddNode(&node, graph, before ? &before : nullptr, nullptr, before ? 1 : 0, &params));
    std::memcpy(bodies, params.conditional.phGraph_out, size * sizeof *bodies);
    return node;
}

// What the stream does, as nodes of a body.
template <class Work>
void capture_into(cudaGraph_t body, Work work) {
    cudaGraph_t captured = nullptr;
    RT(cudaStreamBeginCaptureToGraph(conditional.stream, body, nullptr, nullptr, 0, cudaStreamCaptureModeThreadLocal));
    work();
    RT(cudaStreamEndCapture(conditional.stream, &captured));
}

void adds(cudaGraph_t body, unsigned word, unsigned value) {
    capture_into(body, [&] { add<<<1, 1, 0, conditional.stream>>>(conditional.out + word, value); });
}

void counts(cudaGraph_t body, unsigned word, cudaGraphConditionalHandle handle) {
    unsigned* counters = conditional.out + word;
    void* parameters[] = {&counters, &handle};
    capture_into(body, [&] { CU(cuLaunchKernel(conditional.count, 1, 1, 1, 1, 1, 1, 0, conditional.stream, parameters, nullptr)); });
}

// Words of `out`: 0, 1 counters of a while; 2 an if in it; 3 a switch behind it; 4, 5 counters of a graph that is gone; 6 of one that
// has changed since.
void conditional_set_up() {
    RT(cudaMalloc(&conditional.out, 16 * sizeof(unsigned)));
    RT(cudaStreamCreateWithFlags(&conditional.stream, cudaStreamNonBlocking));
    conditional.count = load();
    cudaGraph_t graph = nullptr, inner = nullptr, cases[3];
    RT(cudaGraphCreate(&graph, 0));
    const cudaGraphConditionalHandle loop = handle_of(graph, 1);
    cudaGraphNode_t repeated = add_conditional(graph, loop, cudaGraphCondTypeWhile, 1, &conditional.body);
    const cudaGraphConditionalHandle chosen = handle_of(conditional.body, 1), picked = handle_of(graph, 2);
    add_conditional(conditional.body, chosen, cudaGraphCondTypeIf, 1, &inner);
    counts(conditional.body, 0, loop);
    adds(inner, 2, 10);
    add_conditional(graph, picked, cudaGraphCondTypeSwitch, 3, cases, repeated);
    for (unsigned i = 0; i < 3; ++i) adds(cases[i], 3, 100 + i);
    RT(cudaGraphInstantiate(&conditional.nested, graph, 0));

    cudaGraph_t gone = nullptr, body = nullptr;
    RT(cudaGraphCreate(&gone, 0));
    const cudaGraphConditionalHandle short_loop = handle_of(gone, 1);
    add_conditional(gone, short_loop, cudaGraphCondTypeWhile, 1, &body);
    counts(body, 4, short_loop);
    RT(cudaGraphInstantiate(&conditional.lonely, gone, 0));
    RT(cudaGraphDestroy(gone));

    cudaGraph_t since = nullptr;
    RT(cudaGraphCreate(&since, 0));
    add_conditional(since, handle_of(since, 1), cudaGraphCondTypeIf, 1, &body);
    adds(body, 6, 1000);
    RT(cudaGraphInstantiate(&conditional.changed, since, 0));
    adds(body, 6, 1);
}

void conditional_look() {
    const unsigned before[7] = {0, 3, 0, 0, 0, 5, 0};
    CU(cuMemcpyHtoD(device(conditional.out), before, sizeof before));
    CU(cuCtxSynchronize());
    for (cudaGraphExec_t exec : {conditional.nested, conditional.lonely, conditional.changed}) RT(cudaGraphLaunch(exec, conditional.stream));
    RT(cudaStreamSynchronize(conditional.stream));
    const unsigned should[7] = {3, 0, 30, 102, 5, 0, 1000};
    const std::vector<unsigned> words = words_of(conditional.out, 7);
    for (unsigned i = 0; i < 7; ++i) SAME(words[i], should[i]);
    size_t nodes = 0;  // the application's handle of a body
    RT(cudaGraphGetNodes(conditional.body, nullptr, &nodes));
    SAME(nodes, size_t(2));
}

const Kinds kinds{{"graph-conditional", conditional_set_up, conditional_look}};

}  // namespace
}  // namespace kinds
