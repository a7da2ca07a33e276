// SPDX-License-Identifier: MIT
// A graph as text for Graphviz.
#include <cstdio>
#include <string>

#include "graph.h"

namespace softgpu {
namespace {

const char* name_of(CUgraphNodeType type) {
    switch (type) {
        case CU_GRAPH_NODE_TYPE_KERNEL:
            return "KERNEL";
        case CU_GRAPH_NODE_TYPE_MEMCPY:
            return "MEMCPY";
        case CU_GRAPH_NODE_TYPE_MEMSET:
            return "MEMSET";
        case CU_GRAPH_NODE_TYPE_HOST:
            return "HOST";
        case CU_GRAPH_NODE_TYPE_GRAPH:
            return "GRAPH";
        case CU_GRAPH_NODE_TYPE_EMPTY:
            return "EMPTY";
        case CU_GRAPH_NODE_TYPE_WAIT_EVENT:
            return "EVENT_WAIT";
        case CU_GRAPH_NODE_TYPE_EVENT_RECORD:
            return "EVENT_RECORD";
        case CU_GRAPH_NODE_TYPE_MEM_ALLOC:
            return "MEM_ALLOC";
        case CU_GRAPH_NODE_TYPE_MEM_FREE:
            return "MEM_FREE";
        case CU_GRAPH_NODE_TYPE_BATCH_MEM_OP:
            return "BATCH_MEM_OP";
        case CU_GRAPH_NODE_TYPE_CONDITIONAL:
            return "CONDITIONAL";
        default:
            return "?";
    }
}

void print(FILE* file, const Graph& graph, unsigned& number, unsigned flags) {
    unsigned own = ++number;
    fprintf(file, "subgraph cluster_%u {\nlabel=\"graph_%u\" graph[style=\"dashed\"];\n", own, own);
    std::map<const Node*, size_t> index;
    for (auto& node : graph.nodes) {
        size_t i = index.size();
        index[node.get()] = i;
        std::string label = std::to_string(i) + "\\n" + name_of(node->type());
        if (auto kernel = std::get_if<KernelStep>(&node->step)) {
            label += "\\n" + kernel->function->kernel->name;
            if (flags & (CU_GRAPH_DEBUG_DOT_FLAGS_VERBOSE | CU_GRAPH_DEBUG_DOT_FLAGS_KERNEL_NODE_PARAMS)) {
                char text[128];
                snprintf(text, sizeof text, "\\n\\<\\<\\<(%u,%u,%u),(%u,%u,%u),%u\\>\\>\\>", kernel->grid.x,
                         kernel->grid.y, kernel->grid.z, kernel->block.x, kernel->block.y, kernel->block.z,
                         kernel->shared);
                label += text;
            }
        }
        if (flags & (CU_GRAPH_DEBUG_DOT_FLAGS_VERBOSE | CU_GRAPH_DEBUG_DOT_FLAGS_HANDLES)) {
            char text[32];
            snprintf(text, sizeof text, "\\n%p", static_cast<void*>(node->handle));
            label += text;
        }
        fprintf(file, "\"graph_%u_node_%zu\"[style=\"solid\" shape=\"rectangle\" label=\"%s\"];\n", own, i,
                label.c_str());
    }
    for (auto& node : graph.nodes)
        for (auto& dependent : node->after)
            fprintf(file, "\"graph_%u_node_%zu\" -> \"graph_%u_node_%zu\";\n", own, index[node.get()], own,
                    index[dependent.node]);
    fprintf(file, "}\n");
    for (auto& node : graph.nodes) {
        if (auto child = std::get_if<ChildStep>(&node->step)) print(file, *child->graph, number, flags);
        if (auto conditional = std::get_if<ConditionalStep>(&node->step))
            for (auto& body : conditional->bodies) print(file, *body, number, flags);
    }
}

}  // namespace
}  // namespace softgpu

using namespace softgpu;

CUresult cuGraphDebugDotPrint(CUgraph handle, const char* path, unsigned flags) {
    return graph_api([&] {
        require(path);
        auto of = graph(handle);
        std::unique_ptr<FILE, int (*)(FILE*)> file(fopen(path, "we"), fclose);
        require(file != nullptr, CUDA_ERROR_OPERATING_SYSTEM);
        fprintf(file.get(), "digraph dot {\n");
        unsigned number = 0;
        print(file.get(), *of, number, flags);
        fprintf(file.get(), "}\n");
    });
}
