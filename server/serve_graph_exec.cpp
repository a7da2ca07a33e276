// SPDX-License-Identifier: MIT
// Executable graphs: calls that tell more than their result, also when they fail; and user objects.
#include <cstring>
#include <string>

#include "dispatch.h"
#include "session.h"

namespace cricket::server {
namespace {

constexpr uint64_t most_log_bytes = 64 * 1024;

uint64_t number_of(Call& call, CUgraphNode node) { return node ? call.objects.add(HandleKind::GraphNode, node) : 0; }

template <class Args, class Res, class Function>
void instantiate(Call& call, Function function, const Args& args, Res& res) {
    CUgraph graph = nullptr;
    CUgraphExec exec = nullptr;
    CUgraphNode error = nullptr;
    if (!function || !driver_handle(call.objects, HandleKind::Graph, args.hGraph, &graph)) {
        res.status = function ? CUDA_ERROR_INVALID_VALUE : CUDA_ERROR_NOT_SUPPORTED;
        return;
    }
    std::string log(std::min(args.log_bytes, most_log_bytes), '\0');
    res.status = function(&exec, graph, &error, log.empty() ? nullptr : log.data(), log.size());
    res.error_node = number_of(call, error);
    if (res.status == CUDA_SUCCESS) res.phGraphExec = call.objects.add(HandleKind::GraphExec, exec);
    if (!log.empty()) give_bytes(&res.log, log.c_str(), strnlen(log.data(), log.size() - 1) + 1);
}

}  // namespace

void serve_cuGraphInstantiate(Call& call, const cuGraphInstantiate_args& args, cuGraphInstantiate_res& res) {
    instantiate(call, call.driver.cuGraphInstantiate_v1, args, res);
}

void serve_cuGraphInstantiate_v2(Call& call, const cuGraphInstantiate_v2_args& args, cuGraphInstantiate_v2_res& res) {
    instantiate(call, call.driver.cuGraphInstantiate_v2, args, res);
}

void serve_cuGraphInstantiateWithParams(Call& call, const cuGraphInstantiateWithParams_args& args,
                                        cuGraphInstantiateWithParams_res& res) {
    CUgraph graph = nullptr;
    CUgraphExec exec = nullptr;
    CUDA_GRAPH_INSTANTIATE_PARAMS params{};
    params.flags = args.flags;
    res.result = CUDA_GRAPH_INSTANTIATE_ERROR;
    if (!call.driver.cuGraphInstantiateWithParams) res.status = CUDA_ERROR_NOT_SUPPORTED;
    else if (!driver_handle(call.objects, HandleKind::Graph, args.hGraph, &graph)) res.status = CUDA_ERROR_INVALID_VALUE;
    else if (args.upload_stream || args.flags & CUDA_GRAPH_INSTANTIATE_FLAG_UPLOAD)
        if (!call.stream(args.upload_stream, &params.hUploadStream)) res.status = CUDA_ERROR_INVALID_HANDLE;
    if (res.status != CUDA_SUCCESS) return;
    res.status = call.driver.cuGraphInstantiateWithParams(&exec, graph, &params);
    res.result = params.result_out;
    res.error_node = number_of(call, params.hErrNode_out);
    if (res.status == CUDA_SUCCESS && exec) res.phGraphExec = call.objects.add(HandleKind::GraphExec, exec);
}

void serve_cuGraphExecUpdate(Call& call, const cuGraphExecUpdate_args& args, cuGraphExecUpdate_res& res) {
    CUgraphExec exec = nullptr;
    CUgraph graph = nullptr;
    CUgraphNode error = nullptr;
    CUgraphExecUpdateResult result = CU_GRAPH_EXEC_UPDATE_ERROR;
    if (!call.driver.cuGraphExecUpdate_v1) res.status = CUDA_ERROR_NOT_SUPPORTED;
    else if (!driver_handle(call.objects, HandleKind::GraphExec, args.hGraphExec, &exec) ||
             !driver_handle(call.objects, HandleKind::Graph, args.hGraph, &graph))
        res.status = CUDA_ERROR_INVALID_VALUE;
    else
        res.status = call.driver.cuGraphExecUpdate_v1(exec, graph, &error, &result);
    res.result = result;
    res.error_node = number_of(call, error);
}

void serve_cuGraphExecUpdate_v2(Call& call, const cuGraphExecUpdate_v2_args& args, cuGraphExecUpdate_v2_res& res) {
    CUgraphExec exec = nullptr;
    CUgraph graph = nullptr;
    CUgraphExecUpdateResultInfo info{};
    info.result = CU_GRAPH_EXEC_UPDATE_ERROR;
    if (!call.driver.cuGraphExecUpdate_v2) res.status = CUDA_ERROR_NOT_SUPPORTED;
    else if (!driver_handle(call.objects, HandleKind::GraphExec, args.hGraphExec, &exec) ||
             !driver_handle(call.objects, HandleKind::Graph, args.hGraph, &graph))
        res.status = CUDA_ERROR_INVALID_VALUE;
    else
        res.status = call.driver.cuGraphExecUpdate_v2(exec, graph, &info);
    res.result = info.result;
    res.error_node = number_of(call, info.errorNode);
    res.from_node = number_of(call, info.errorFromNode);
}

void serve_cuUserObjectCreate(Call& call, const cuUserObjectCreate_args& args, cuUserObjectCreate_res& res) {
    if (!call.driver.cuUserObjectCreate) {
        res.status = CUDA_ERROR_NOT_SUPPORTED;
        return;
    }
    call.session.forget_destroyed();
    Callbacks& callbacks = call.session.callbacks;
    void* context = callbacks.context(args.id, Callbacks::Use::Once);
    void* prepared = call.session.user_objects.prepare(context);
    CUuserObject object = nullptr;
    res.status = call.driver.cuUserObjectCreate(&object, prepared, UserObjects::destroyed, args.initialRefcount, args.flags);
    if (res.status != CUDA_SUCCESS) {
        call.session.user_objects.refused(prepared);
        callbacks.forget(context);
        return;
    }
    call.session.user_objects.made(prepared, object);
    res.object_out = call.objects.add(HandleKind::UserObject, object);
}

}  // namespace cricket::server
