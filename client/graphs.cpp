// SPDX-License-Identifier: MIT
// Graphs: the functions that are more than handles there and back. Those of before cuGraphAddNode go the way of
// cuGraphAddNode, cuGraphNodeSetParams and cuGraphExecNodeSetParams, marked as what they are.
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include <climits>
#include <cstring>

#include "client/callbacks.h"
#include "client/contexts.h"
#include "client/graph_nodes.h"
#include "client/reply_guard.h"
#include "custom.h"
#include "stub_support.h"

namespace cricket::client {
namespace {

constexpr int32_t no_answer = INT_MIN;  // a status that no driver gives
constexpr size_t most_dependencies = rpc::max_blob_bytes / sizeof(CUgraphNode);
constexpr uint64_t params_room = sizeof(CUgraphNodeParams) + 128 * 1024;  // 64 KiB of kernel parameters, 4096 descriptions

rpc::Blob array_blob(const void* data, size_t count, size_t element) {
    return {data, data ? static_cast<uint32_t>(count * element) : 0, data != nullptr, false};
}

CUresult add_node(bool legacy, CUgraphNode* node, CUgraph graph, const CUgraphNode* dependencies,
                  const CUgraphEdgeData* edges, size_t count, CUgraphNodeParams* params) {
    Session* session = Session::get();
    if (!session) return Session::absent();
    // The driver looks at a kernel before it looks at the graph.
    if (params->type == CU_GRAPH_NODE_TYPE_KERNEL && !params->kernel.func && !params->kernel.kern) return CUDA_ERROR_INVALID_HANDLE;
    if (!node || !graph || count > most_dependencies || (count && !dependencies)) return CUDA_ERROR_INVALID_VALUE;
    NodeMessage message;
    if (const CUresult result = message.encode(*session, *params); result != CUDA_SUCCESS) return result;
    cuGraphAddNode_v2_args args{};
    cuGraphAddNode_v2_res res{};
    args.hGraph = to_number(graph);
    args.dependencies = array_blob(dependencies, count, sizeof *dependencies);
    args.dependencyData = array_blob(edges, count, sizeof *edges);
    args.numDependencies = count;
    args.legacy = legacy;
    args.params = message.params;
    args.data = message.data;
    ReplyGuard guard;
    const CUresult result = call(args, res, {.reply_bytes = params_room});
    if (result != CUDA_SUCCESS) return result;
    const uint64_t number = res.phGraphNode;
    *node = from_number<CUgraphNode>(number);
    if (!res.params.size) return CUDA_SUCCESS;
    CUgraphNodeParams told;
    if (const CUresult decoded = decode_node_params(number, res.params, res.data, &told); decoded != CUDA_SUCCESS) return decoded;
    if (told.type == CU_GRAPH_NODE_TYPE_MEM_ALLOC) params->alloc.dptr = told.alloc.dptr;
    if (told.type == CU_GRAPH_NODE_TYPE_CONDITIONAL) params->conditional.phGraph_out = told.conditional.phGraph_out;
    return CUDA_SUCCESS;
}

CUresult set_node(bool legacy, CUgraphNode node, const CUgraphNodeParams& params) {
    Session* session = Session::get();
    if (!session) return Session::absent();
    NodeMessage message;
    if (const CUresult result = message.encode(*session, params); result != CUDA_SUCCESS) return result;
    cuGraphNodeSetParams_args args{};
    cuGraphNodeSetParams_res res{};
    args.hNode = to_number(node);
    args.legacy = legacy;
    args.params = message.params;
    args.data = message.data;
    ReplyGuard guard;
    return call(args, res);
}

CUresult set_exec_node(bool legacy, CUgraphExec exec, CUgraphNode node, const CUgraphNodeParams& params) {
    Session* session = Session::get();
    if (!session) return Session::absent();
    NodeMessage message;
    if (const CUresult result = message.encode(*session, params); result != CUDA_SUCCESS) return result;
    cuGraphExecNodeSetParams_args args{};
    cuGraphExecNodeSetParams_res res{};
    args.hGraphExec = to_number(exec);
    args.hNode = to_number(node);
    args.legacy = legacy;
    args.params = message.params;
    args.data = message.data;
    ReplyGuard guard;
    return call(args, res);
}

CUresult get_node(CUgraphNode node, CUgraphNodeType type, CUgraphNodeParams* out) {
    if (!initialized()) return Session::absent();
    cricketGraphNodeGetParams_args args{};
    cricketGraphNodeGetParams_res res{};
    args.node = to_number(node);
    args.type = type;
    ReplyGuard guard;
    const CUresult result = call(args, res, {.reply_bytes = params_room});
    return result == CUDA_SUCCESS ? decode_node_params(args.node, res.params, res.data, out) : result;
}

// The structs of before cuGraphAddNode as the newer ones, which begin like them.
template <class Old>
CUgraphNodeParams params_of(CUgraphNodeType type, const Old& from) {
    CUgraphNodeParams params{};
    static_assert(sizeof from <= sizeof params.reserved1);
    params.type = type;
    std::memcpy(static_cast<void*>(&params.reserved1), &from, sizeof from);
    return params;
}
template <class Old>
void params_to(const CUgraphNodeParams& params, Old* to) {
    std::memcpy(static_cast<void*>(to), &params.reserved1, sizeof *to);
}

CUgraphNodeParams copy_params(const CUDA_MEMCPY3D& copy, CUcontext context) {
    CUgraphNodeParams params{};
    params.type = CU_GRAPH_NODE_TYPE_MEMCPY;
    params.memcpy.copyCtx = context;
    params.memcpy.copyParams = copy;
    return params;
}

CUgraphNodeParams memset_params(const CUDA_MEMSET_NODE_PARAMS& memset, CUcontext context) {
    CUgraphNodeParams params = params_of(CU_GRAPH_NODE_TYPE_MEMSET, memset);
    params.memset.ctx = context;
    return params;
}

template <class Old>
CUresult get_old(CUgraphNode node, CUgraphNodeType type, Old* out) {
    if (!out) return null_argument();
    CUgraphNodeParams params;
    const CUresult result = get_node(node, type, &params);
    if (result == CUDA_SUCCESS) params_to(params, out);
    return result;
}

}  // namespace

CUresult impl_cuGraphAddNode_v2(CUgraphNode* phGraphNode, CUgraph hGraph, const CUgraphNode* dependencies,
                                const CUgraphEdgeData* dependencyData, size_t numDependencies, CUgraphNodeParams* nodeParams) {
    if (!nodeParams) return CUDA_ERROR_INVALID_VALUE;
    return add_node(false, phGraphNode, hGraph, dependencies, dependencyData, numDependencies, nodeParams);
}
CUresult impl_cuGraphAddNode(CUgraphNode* phGraphNode, CUgraph hGraph, const CUgraphNode* dependencies,
                             size_t numDependencies, CUgraphNodeParams* nodeParams) {
    if (!nodeParams) return CUDA_ERROR_INVALID_VALUE;
    return add_node(false, phGraphNode, hGraph, dependencies, nullptr, numDependencies, nodeParams);
}
CUresult impl_cuGraphNodeSetParams(CUgraphNode hNode, CUgraphNodeParams* nodeParams) {
    return nodeParams ? set_node(false, hNode, *nodeParams) : null_argument();
}
CUresult impl_cuGraphExecNodeSetParams(CUgraphExec hGraphExec, CUgraphNode hNode, CUgraphNodeParams* nodeParams) {
    return nodeParams ? set_exec_node(false, hGraphExec, hNode, *nodeParams) : null_argument();
}

// Functions of before cuGraphAddNode whose parameters are one struct: CUDA calls that struct Params.
#define CRICKET_ADD(kind, type, Params)                                                              \
    CUresult impl_cuGraphAdd##kind(CUgraphNode* phGraphNode, CUgraph hGraph,                         \
                                   const CUgraphNode* dependencies, size_t numDependencies,          \
                                   const Params* nodeParams) {                                       \
        if (!nodeParams) return null_argument();                                                     \
        CUgraphNodeParams params = params_of(type, *nodeParams);                                     \
        return add_node(true, phGraphNode, hGraph, dependencies, nullptr, numDependencies, &params); \
    }
#define CRICKET_SET(name, type, Params)                                                            \
    CUresult impl_cuGraph##name(CUgraphNode hNode, const Params* nodeParams) {                     \
        return nodeParams ? set_node(true, hNode, params_of(type, *nodeParams)) : null_argument(); \
    }
#define CRICKET_SET_EXEC(name, type, Params)                                                               \
    CUresult impl_cuGraphExec##name(CUgraphExec hGraphExec, CUgraphNode hNode, const Params* nodeParams) { \
        return nodeParams ? set_exec_node(true, hGraphExec, hNode, params_of(type, *nodeParams))           \
                          : null_argument();                                                               \
    }
#define CRICKET_GET(name, type, Params)                                  \
    CUresult impl_cuGraph##name(CUgraphNode hNode, Params* nodeParams) { \
        return get_old(hNode, type, nodeParams);                         \
    }

CRICKET_ADD(KernelNode, CU_GRAPH_NODE_TYPE_KERNEL, CUDA_KERNEL_NODE_PARAMS_v1)
CRICKET_ADD(KernelNode_v2, CU_GRAPH_NODE_TYPE_KERNEL, CUDA_KERNEL_NODE_PARAMS)
CRICKET_ADD(HostNode, CU_GRAPH_NODE_TYPE_HOST, CUDA_HOST_NODE_PARAMS)
CRICKET_ADD(BatchMemOpNode, CU_GRAPH_NODE_TYPE_BATCH_MEM_OP, CUDA_BATCH_MEM_OP_NODE_PARAMS)
CRICKET_SET(KernelNodeSetParams, CU_GRAPH_NODE_TYPE_KERNEL, CUDA_KERNEL_NODE_PARAMS_v1)
CRICKET_SET(KernelNodeSetParams_v2, CU_GRAPH_NODE_TYPE_KERNEL, CUDA_KERNEL_NODE_PARAMS)
CRICKET_SET(MemcpyNodeSetParams, CU_GRAPH_NODE_TYPE_MEMCPY, CUDA_MEMCPY3D)
CRICKET_SET(MemsetNodeSetParams, CU_GRAPH_NODE_TYPE_MEMSET, CUDA_MEMSET_NODE_PARAMS)
CRICKET_SET(HostNodeSetParams, CU_GRAPH_NODE_TYPE_HOST, CUDA_HOST_NODE_PARAMS)
CRICKET_SET(BatchMemOpNodeSetParams, CU_GRAPH_NODE_TYPE_BATCH_MEM_OP, CUDA_BATCH_MEM_OP_NODE_PARAMS)
CRICKET_SET_EXEC(KernelNodeSetParams, CU_GRAPH_NODE_TYPE_KERNEL, CUDA_KERNEL_NODE_PARAMS_v1)
CRICKET_SET_EXEC(KernelNodeSetParams_v2, CU_GRAPH_NODE_TYPE_KERNEL, CUDA_KERNEL_NODE_PARAMS)
CRICKET_SET_EXEC(HostNodeSetParams, CU_GRAPH_NODE_TYPE_HOST, CUDA_HOST_NODE_PARAMS)
CRICKET_SET_EXEC(BatchMemOpNodeSetParams, CU_GRAPH_NODE_TYPE_BATCH_MEM_OP, CUDA_BATCH_MEM_OP_NODE_PARAMS)
CRICKET_GET(KernelNodeGetParams, CU_GRAPH_NODE_TYPE_KERNEL, CUDA_KERNEL_NODE_PARAMS_v1)
CRICKET_GET(KernelNodeGetParams_v2, CU_GRAPH_NODE_TYPE_KERNEL, CUDA_KERNEL_NODE_PARAMS)
CRICKET_GET(MemsetNodeGetParams, CU_GRAPH_NODE_TYPE_MEMSET, CUDA_MEMSET_NODE_PARAMS)
CRICKET_GET(HostNodeGetParams, CU_GRAPH_NODE_TYPE_HOST, CUDA_HOST_NODE_PARAMS)
CRICKET_GET(BatchMemOpNodeGetParams, CU_GRAPH_NODE_TYPE_BATCH_MEM_OP, CUDA_BATCH_MEM_OP_NODE_PARAMS)
CRICKET_GET(MemAllocNodeGetParams, CU_GRAPH_NODE_TYPE_MEM_ALLOC, CUDA_MEM_ALLOC_NODE_PARAMS)

#undef CRICKET_ADD
#undef CRICKET_SET
#undef CRICKET_SET_EXEC
#undef CRICKET_GET

CUresult impl_cuGraphAddMemcpyNode(CUgraphNode* phGraphNode, CUgraph hGraph, const CUgraphNode* dependencies,
                                   size_t numDependencies, const CUDA_MEMCPY3D* copyParams, CUcontext ctx) {
    if (!copyParams) return null_argument();
    CUgraphNodeParams params = copy_params(*copyParams, ctx);
    return add_node(true, phGraphNode, hGraph, dependencies, nullptr, numDependencies, &params);
}
CUresult impl_cuGraphExecMemcpyNodeSetParams(CUgraphExec hGraphExec, CUgraphNode hNode, const CUDA_MEMCPY3D* copyParams,
                                             CUcontext ctx) {
    return copyParams ? set_exec_node(true, hGraphExec, hNode, copy_params(*copyParams, ctx)) : null_argument();
}
CUresult impl_cuGraphMemcpyNodeGetParams(CUgraphNode hNode, CUDA_MEMCPY3D* nodeParams) {
    if (!nodeParams) return null_argument();
    CUgraphNodeParams params;
    const CUresult result = get_node(hNode, CU_GRAPH_NODE_TYPE_MEMCPY, &params);
    if (result == CUDA_SUCCESS) *nodeParams = params.memcpy.copyParams;
    return result;
}

CUresult impl_cuGraphAddMemsetNode(CUgraphNode* phGraphNode, CUgraph hGraph, const CUgraphNode* dependencies,
                                   size_t numDependencies, const CUDA_MEMSET_NODE_PARAMS* memsetParams, CUcontext ctx) {
    if (!memsetParams) return null_argument();
    CUgraphNodeParams params = memset_params(*memsetParams, ctx);
    return add_node(true, phGraphNode, hGraph, dependencies, nullptr, numDependencies, &params);
}
CUresult impl_cuGraphExecMemsetNodeSetParams(CUgraphExec hGraphExec, CUgraphNode hNode,
                                             const CUDA_MEMSET_NODE_PARAMS* memsetParams, CUcontext ctx) {
    return memsetParams ? set_exec_node(true, hGraphExec, hNode, memset_params(*memsetParams, ctx)) : null_argument();
}

CUresult impl_cuGraphAddMemAllocNode(CUgraphNode* phGraphNode, CUgraph hGraph, const CUgraphNode* dependencies,
                                     size_t numDependencies, CUDA_MEM_ALLOC_NODE_PARAMS* nodeParams) {
    if (!nodeParams) return null_argument();
    CUgraphNodeParams params = params_of(CU_GRAPH_NODE_TYPE_MEM_ALLOC, *nodeParams);
    const CUresult result = add_node(true, phGraphNode, hGraph, dependencies, nullptr, numDependencies, &params);
    if (result == CUDA_SUCCESS) nodeParams->dptr = params.alloc.dptr;
    return result;
}

template <class Handle>
static CUresult add_handle(CUgraphNodeType type, Handle handle, CUgraphNode* phGraphNode, CUgraph hGraph,
                           const CUgraphNode* dependencies, size_t numDependencies) {
    CUgraphNodeParams params = params_of(type, handle);
    return add_node(true, phGraphNode, hGraph, dependencies, nullptr, numDependencies, &params);
}
CUresult impl_cuGraphAddMemFreeNode(CUgraphNode* phGraphNode, CUgraph hGraph, const CUgraphNode* dependencies,
                                    size_t numDependencies, CUdeviceptr dptr) {
    return add_handle(CU_GRAPH_NODE_TYPE_MEM_FREE, dptr, phGraphNode, hGraph, dependencies, numDependencies);
}
CUresult impl_cuGraphAddChildGraphNode(CUgraphNode* phGraphNode, CUgraph hGraph, const CUgraphNode* dependencies,
                                       size_t numDependencies, CUgraph childGraph) {
    return add_handle(CU_GRAPH_NODE_TYPE_GRAPH, childGraph, phGraphNode, hGraph, dependencies, numDependencies);
}
CUresult impl_cuGraphAddEventRecordNode(CUgraphNode* phGraphNode, CUgraph hGraph, const CUgraphNode* dependencies,
                                        size_t numDependencies, CUevent event) {
    return add_handle(CU_GRAPH_NODE_TYPE_EVENT_RECORD, event, phGraphNode, hGraph, dependencies, numDependencies);
}
CUresult impl_cuGraphAddEventWaitNode(CUgraphNode* phGraphNode, CUgraph hGraph, const CUgraphNode* dependencies,
                                      size_t numDependencies, CUevent event) {
    return add_handle(CU_GRAPH_NODE_TYPE_WAIT_EVENT, event, phGraphNode, hGraph, dependencies, numDependencies);
}

// A file as the driver would write it: with the application's rights, at a path of the application.
CUresult impl_cuGraphDebugDotPrint(CUgraph hGraph, const char* path, unsigned int flags) {
    if (!path) return CUDA_ERROR_INVALID_VALUE;
    constexpr uint32_t piece = 256 * 1024;
    cuGraphDebugDotPrint_args args{};
    args.hGraph = to_number(hGraph);
    args.flags = flags;
    args.room = piece;
    const int saved = errno;
    int fd = -1;
    CUresult result = CUDA_SUCCESS;
    for (uint64_t total = 1; result == CUDA_SUCCESS && args.offset < total;) {
        cuGraphDebugDotPrint_res res{};
        ReplyGuard guard;
        result = call(args, res, {.reply_bytes = piece + 64});
        if (result != CUDA_SUCCESS) break;
        if (fd < 0) fd = ::open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
        if (fd < 0 || ::write(fd, res.text.data, res.text.size) != static_cast<ssize_t>(res.text.size)) result = CUDA_ERROR_OPERATING_SYSTEM;
        total = res.total;
        if (res.text.size == 0) break;
        args.offset += res.text.size;
    }
    if (fd >= 0) ::close(fd);
    errno = saved;
    return result;
}

template <class Args, class Res>
static CUresult instantiate(CUgraphExec* exec, CUgraph graph, CUgraphNode* error, char* log, size_t log_bytes) {
    if (!exec) return null_pointer();
    Args args{};
    Res res{};
    res.status = no_answer;
    args.hGraph = to_number(graph);
    args.bufferSize = log ? log_bytes : 0;
    args.log_bytes = args.bufferSize;
    ReplyGuard guard;
    const CUresult result = call(args, res, {.reply_bytes = 65 * 1024});
    if (res.status == no_answer) return result;
    if (error) *error = from_number<CUgraphNode>(res.error_node);
    if (log && log_bytes) {
        const size_t bytes = res.log.size < log_bytes ? res.log.size : log_bytes;
        if (bytes) std::memcpy(log, res.log.data, bytes);
        log[bytes ? bytes - 1 : 0] = 0;
    }
    if (result == CUDA_SUCCESS) *exec = from_number<CUgraphExec>(res.phGraphExec);
    return result;
}
CUresult impl_cuGraphInstantiate(CUgraphExec* phGraphExec, CUgraph hGraph, CUgraphNode* phErrorNode, char* logBuffer,
                                 size_t bufferSize) {
    return instantiate<cuGraphInstantiate_args, cuGraphInstantiate_res>(phGraphExec, hGraph, phErrorNode, logBuffer, bufferSize);
}
CUresult impl_cuGraphInstantiate_v2(CUgraphExec* phGraphExec, CUgraph hGraph, CUgraphNode* phErrorNode, char* logBuffer,
                                    size_t bufferSize) {
    return instantiate<cuGraphInstantiate_v2_args, cuGraphInstantiate_v2_res>(phGraphExec, hGraph, phErrorNode, logBuffer, bufferSize);
}

CUresult impl_cuGraphInstantiateWithParams(uint32_t call_flags, CUgraphExec* phGraphExec, CUgraph hGraph,
                                           CUDA_GRAPH_INSTANTIATE_PARAMS* instantiateParams) {
    if (!phGraphExec || !instantiateParams) return CUDA_ERROR_INVALID_VALUE;
    cuGraphInstantiateWithParams_args args{};
    cuGraphInstantiateWithParams_res res{};
    res.status = no_answer;
    args.hGraph = to_number(hGraph);
    args.flags = instantiateParams->flags;
    args.upload_stream = to_number(instantiateParams->hUploadStream);
    CUresult result;
    {
        ReplyGuard guard;
        result = call(args, res, {call_flags});
    }
    if (res.status == no_answer) return result;
    instantiateParams->result_out = static_cast<CUgraphInstantiateResult>(res.result);
    instantiateParams->hErrNode_out = from_number<CUgraphNode>(res.error_node);
    if (result == CUDA_SUCCESS) *phGraphExec = launchable_handle(res.phGraphExec, args.flags);
    return result;
}

CUresult impl_cuGraphInstantiateWithFlags(CUgraphExec* phGraphExec, CUgraph hGraph, unsigned long long flags) {
    if (!phGraphExec) return null_argument();
    cuGraphInstantiateWithFlags_args args{};
    cuGraphInstantiateWithFlags_res res{};
    args.hGraph = to_number(hGraph);
    args.flags = flags;
    CUresult result;
    {
        ReplyGuard guard;
        result = call(args, res);
    }
    if (result == CUDA_SUCCESS) *phGraphExec = launchable_handle(res.phGraphExec, flags);
    return result;
}

CUresult impl_cuGraphExecUpdate(CUgraphExec hGraphExec, CUgraph hGraph, CUgraphNode* hErrorNode_out,
                                CUgraphExecUpdateResult* updateResult_out) {
    cuGraphExecUpdate_args args{};
    cuGraphExecUpdate_res res{};
    res.status = no_answer;
    args.hGraphExec = to_number(hGraphExec);
    args.hGraph = to_number(hGraph);
    ReplyGuard guard;
    const CUresult result = call(args, res);
    if (res.status == no_answer) return result;
    if (hErrorNode_out) *hErrorNode_out = from_number<CUgraphNode>(res.error_node);
    if (updateResult_out) *updateResult_out = static_cast<CUgraphExecUpdateResult>(res.result);
    return result;
}

CUresult impl_cuGraphExecUpdate_v2(CUgraphExec hGraphExec, CUgraph hGraph, CUgraphExecUpdateResultInfo* resultInfo) {
    cuGraphExecUpdate_v2_args args{};
    cuGraphExecUpdate_v2_res res{};
    res.status = no_answer;
    args.hGraphExec = to_number(hGraphExec);
    args.hGraph = to_number(hGraph);
    ReplyGuard guard;
    const CUresult result = call(args, res);
    if (res.status == no_answer || !resultInfo) return result;
    resultInfo->result = static_cast<CUgraphExecUpdateResult>(res.result);
    resultInfo->errorNode = from_number<CUgraphNode>(res.error_node);
    resultInfo->errorFromNode = from_number<CUgraphNode>(res.from_node);
    return result;
}

CUresult impl_cuUserObjectCreate(CUuserObject* object_out, void* ptr, CUhostFn destroy, unsigned int initialRefcount,
                                 unsigned int flags) {
    if (!object_out) return CUDA_ERROR_INVALID_VALUE;
    cuUserObjectCreate_args args{};
    cuUserObjectCreate_res res{};
    const CUresult added = callbacks::add(callbacks::Kind::HostFunction, callbacks::Use::Once,
                                          reinterpret_cast<void*>(destroy), ptr, &args.id);
    if (added != CUDA_SUCCESS) return added;
    args.initialRefcount = initialRefcount;
    args.flags = flags;
    res.status = CUDA_ERROR_UNKNOWN;  // what it stays when no answer comes
    ReplyGuard guard;
    const CUresult result = call(args, res);
    if (res.status != CUDA_SUCCESS) callbacks::remove(args.id);
    if (result == CUDA_SUCCESS) *object_out = from_number<CUuserObject>(res.object_out);
    return result;
}

}  // namespace cricket::client
