// SPDX-License-Identifier: MIT
#include "client/graph_nodes.h"

#include <stdlib.h>

#include <cstring>
#include <map>
#include <mutex>
#include <utility>
#include <vector>

#include "client/callbacks.h"
#include "client/captures.h"
#include "client/reply_guard.h"

namespace cricket::client {
namespace {

constexpr uint32_t most_operations = 256;  // CUDA's bound for batches of memory operations
constexpr size_t most_access = 4096;
constexpr size_t alignment = 16;

// What nodes' parameters handed to the application point at.
struct Shadow {
    void* memory = nullptr;        // what it was given
    std::vector<std::byte> data;   // what was made from
};
struct Shadows {
    std::mutex mutex;
    const Session* session = nullptr;    // a forked child's session has numbers of its own
    std::map<uint64_t, Shadow> nodes;
    size_t look_at = 64;                 // so many, and those of nodes that are gone are freed
    std::map<std::pair<void*, void*>, uint64_t> host_functions;  // the callback of a function with its data
};
Shadows& shadows() {
    static auto* all = new Shadows;  // never destroyed: see Session::start
    return *all;
}

std::unique_lock<std::mutex> lock_shadows(Shadows& all) {
    std::unique_lock lock(all.mutex);
    if (const Session* session = Session::any(); all.session != session) {
        all.nodes.clear();
        all.host_functions.clear();
        all.session = session;
    }
    return lock;
}

void free_gone() {
    Shadows& all = shadows();
    std::vector<uint64_t> numbers;
    {
        auto lock = lock_shadows(all);
        if (all.nodes.size() < all.look_at) return;
        for (const auto& [node, shadow] : all.nodes) numbers.push_back(node);
    }
    cricketGraphNodesAlive_args args{};
    cricketGraphNodesAlive_res res{};
    args.nodes = {numbers.data(), static_cast<uint32_t>(numbers.size() * sizeof(uint64_t)), true, false};
    ReplyGuard guard;
    if (call(args, res, {.reply_bytes = numbers.size() + 64}) != CUDA_SUCCESS || res.alive.size != numbers.size()) return;
    auto lock = lock_shadows(all);
    for (size_t i = 0; i < numbers.size(); ++i) {
        if (static_cast<const uint8_t*>(res.alive.data)[i]) continue;
        auto found = all.nodes.find(numbers[i]);
        if (found == all.nodes.end()) continue;
        ::free(found->second.memory);
        all.nodes.erase(found);
    }
    all.look_at = std::max<size_t>(64, all.nodes.size() * 2);
}

// Memory of the node's shadow: what it was before when `key` is, else `bytes` new bytes.
void* shadow_memory(uint64_t node, const void* key, size_t key_bytes, size_t bytes, bool* is_new) {
    Shadows& all = shadows();
    auto lock = lock_shadows(all);
    Shadow& shadow = all.nodes[node];
    const auto* from = static_cast<const std::byte*>(key);
    *is_new = !shadow.memory || shadow.data.size() != key_bytes || (key_bytes && std::memcmp(shadow.data.data(), key, key_bytes) != 0);
    if (!*is_new) return shadow.memory;
    void* memory = ::malloc(bytes + 1);
    if (!memory) return nullptr;
    ::free(shadow.memory);
    shadow.memory = memory;
    shadow.data.assign(from, from + key_bytes);
    return memory;
}

template <class T>
CUresult shadow_array(uint64_t node, const rpc::Blob& data, T** out) {
    bool is_new = false;
    void* memory = shadow_memory(node, data.data, data.size, data.size, &is_new);
    if (!memory) return CUDA_ERROR_OUT_OF_MEMORY;
    if (is_new && data.size) std::memcpy(memory, data.data, data.size);
    *out = static_cast<T*>(memory);
    return CUDA_SUCCESS;
}

// The driver's kernelParams, or its extra where the kernel's layout is not known.
CUresult shadow_kernel(uint64_t node, const rpc::Blob& data, CUDA_KERNEL_NODE_PARAMS_v3* kernel) {
    const uint64_t function = kernel->func ? to_number(kernel->func) : to_number(kernel->kern);
    const ParameterLayout* layout = nullptr;
    const bool known = parameter_layout(function, &layout) == CUDA_SUCCESS && layout->bytes <= data.size;
    const size_t pointers = known ? layout->count : 6;
    const size_t head = (pointers * sizeof(void*) + alignment - 1) / alignment * alignment;
    bool is_new = false;
    void* memory = shadow_memory(node, data.data, data.size, head + data.size, &is_new);
    if (!memory) return CUDA_ERROR_OUT_OF_MEMORY;
    auto** array = static_cast<void**>(memory);
    std::byte* bytes = static_cast<std::byte*>(memory) + head;
    if (is_new || !known) {
        if (data.size) std::memcpy(bytes, data.data, data.size);
        if (known) {
            for (uint32_t i = 0; i < layout->count; ++i) array[i] = bytes + layout->params[i].offset;
        } else {
            const size_t size = data.size;
            std::memcpy(&array[5], &size, sizeof size);
            void* extra[] = {CU_LAUNCH_PARAM_BUFFER_POINTER, bytes, CU_LAUNCH_PARAM_BUFFER_SIZE, &array[5], CU_LAUNCH_PARAM_END};
            std::memcpy(array, extra, sizeof extra);
        }
    }
    (known ? kernel->kernelParams : kernel->extra) = array;
    return CUDA_SUCCESS;
}

bool pageable(Session& session, uint64_t address, uint64_t bytes) {
    if (address - wire::device_base < wire::device_span) return false;
    if (session.ring() && session.host_memory().contains(reinterpret_cast<void*>(address), bytes)) return false;
    cuPointerGetAttribute_args args{};
    cuPointerGetAttribute_res res{};
    args.attribute = CU_POINTER_ATTRIBUTE_MEMORY_TYPE;
    args.ptr = address;
    ReplyGuard guard;
    return call(args, res) != CUDA_SUCCESS;
}

// One side of a copy, as much of it as the copy touches.
CUresult share_side(Session& session, const CUDA_MEMCPY3D& copy, bool source) {
    const CUmemorytype type = source ? copy.srcMemoryType : copy.dstMemoryType;
    if (type != CU_MEMORYTYPE_HOST && type != CU_MEMORYTYPE_UNIFIED) return CUDA_SUCCESS;
    const uint64_t base = type == CU_MEMORYTYPE_HOST
                              ? reinterpret_cast<uint64_t>(source ? copy.srcHost : copy.dstHost)
                              : (source ? copy.srcDevice : copy.dstDevice);
    if (!base || !copy.WidthInBytes || !copy.Height || !copy.Depth) return CUDA_SUCCESS;  // the driver says what is wrong
    const uint64_t pitch = source ? copy.srcPitch : copy.dstPitch;
    const uint64_t height = source ? copy.srcHeight : copy.dstHeight;
    const uint64_t x = source ? copy.srcXInBytes : copy.dstXInBytes, y = source ? copy.srcY : copy.dstY;
    const uint64_t z = source ? copy.srcZ : copy.dstZ;
    const uint64_t start = base + (z * height + y) * pitch + x;
    const uint64_t bytes = ((copy.Depth - 1) * height + copy.Height - 1) * pitch + copy.WidthInBytes;
    if (type == CU_MEMORYTYPE_UNIFIED && !pageable(session, start, bytes)) return CUDA_SUCCESS;
    return captures::share(session, reinterpret_cast<void*>(start), bytes, source);
}

}  // namespace

CUresult host_node_id(CUhostFn function, void* user, uint64_t* id) {
    if (!function) return CUDA_ERROR_INVALID_VALUE;
    const std::pair key{reinterpret_cast<void*>(function), user};
    Shadows& all = shadows();
    *id = 0;
    {
        auto lock = lock_shadows(all);
        if (auto found = all.host_functions.find(key); found != all.host_functions.end()) *id = found->second;
    }
    if (*id) return CUDA_SUCCESS;
    const CUresult added = callbacks::add(callbacks::Kind::HostFunction, callbacks::Use::Repeated, key.first, key.second, id);
    if (added != CUDA_SUCCESS) return added;
    auto lock = lock_shadows(all);
    all.host_functions[key] = *id;
    return CUDA_SUCCESS;
}

CUresult NodeMessage::encode(Session& session, const CUgraphNodeParams& from) {
    value_ = from;
    CUresult result = CUDA_SUCCESS;
    switch (value_.type) {
        case CU_GRAPH_NODE_TYPE_KERNEL: {
            auto& kernel = value_.kernel;
            const uint64_t function = kernel.func ? to_number(kernel.func) : to_number(kernel.kern);
            if (function) result = packed_.pack(function, kernel.kernelParams, kernel.extra);
            data = packed_.blob;
            kernel.kernelParams = nullptr;
            kernel.extra = nullptr;
            break;
        }
        case CU_GRAPH_NODE_TYPE_MEMCPY:
            result = share_side(session, value_.memcpy.copyParams, true);
            if (result == CUDA_SUCCESS) result = share_side(session, value_.memcpy.copyParams, false);
            break;
        case CU_GRAPH_NODE_TYPE_HOST: {
            uint64_t id = 0;
            result = host_node_id(value_.host.fn, value_.host.userData, &id);
            value_.host.fn = nullptr;
            value_.host.userData = from_number<void*>(id);
            break;
        }
        case CU_GRAPH_NODE_TYPE_MEM_ALLOC:
            if (value_.alloc.accessDescCount > most_access || (value_.alloc.accessDescCount && !value_.alloc.accessDescs))
                return CUDA_ERROR_INVALID_VALUE;
            data = {value_.alloc.accessDescs, static_cast<uint32_t>(value_.alloc.accessDescCount * sizeof(CUmemAccessDesc)), true, false};
            value_.alloc.accessDescs = nullptr;
            break;
        case CU_GRAPH_NODE_TYPE_BATCH_MEM_OP:
            if (value_.memOp.count > most_operations || (value_.memOp.count && !value_.memOp.paramArray)) return CUDA_ERROR_INVALID_VALUE;
            data = {value_.memOp.paramArray, static_cast<uint32_t>(value_.memOp.count * sizeof(CUstreamBatchMemOpParams)), true, false};
            value_.memOp.paramArray = nullptr;
            break;
        case CU_GRAPH_NODE_TYPE_CONDITIONAL:
            value_.conditional.phGraph_out = nullptr;
            break;
        case CU_GRAPH_NODE_TYPE_EXT_SEMAS_SIGNAL:
        case CU_GRAPH_NODE_TYPE_EXT_SEMAS_WAIT:
            return unsupported("a graph node of external semaphores", "external semaphores belong to graphics and other interop");
        default:
            break;
    }
    if (!data.data) data = {};
    params = {&value_, sizeof value_, true, false};
    return result;
}

CUresult decode_node_params(uint64_t node, const rpc::Blob& params, const rpc::Blob& data, CUgraphNodeParams* out) {
    if (params.size != sizeof *out) return CUDA_ERROR_UNKNOWN;
    // `data` points into the thread's reply, which the calls below would take away.
    CUgraphNodeParams value;
    std::memcpy(static_cast<void*>(&value), params.data, sizeof value);
    const auto* bytes = static_cast<const std::byte*>(data.data);
    const std::vector<std::byte> kept(bytes, bytes + data.size);
    const rpc::Blob copy{kept.data(), static_cast<uint32_t>(kept.size()), data.present, false};
    release_reply();
    free_gone();
    CUresult result = CUDA_SUCCESS;
    switch (value.type) {
        case CU_GRAPH_NODE_TYPE_KERNEL:
            result = shadow_kernel(node, copy, &value.kernel);
            break;
        case CU_GRAPH_NODE_TYPE_HOST: {
            void* function = nullptr;
            void* user = nullptr;
            callbacks::find(reinterpret_cast<uint64_t>(value.host.userData), &function, &user);
            value.host.fn = reinterpret_cast<CUhostFn>(function);
            value.host.userData = user;
            break;
        }
        case CU_GRAPH_NODE_TYPE_MEM_ALLOC: {
            CUmemAccessDesc* access = nullptr;
            if (copy.size) result = shadow_array(node, copy, &access);
            value.alloc.accessDescs = access;
            break;
        }
        case CU_GRAPH_NODE_TYPE_BATCH_MEM_OP:
            result = shadow_array(node, copy, &value.memOp.paramArray);
            break;
        case CU_GRAPH_NODE_TYPE_CONDITIONAL:
            result = shadow_array(node, copy, &value.conditional.phGraph_out);
            break;
        default:
            break;
    }
    *out = value;
    return result;
}

}  // namespace cricket::client
