// SPDX-License-Identifier: MIT
// Memory: the session's own device range, host memory, and what pointers are.
#include <algorithm>
#include <cstring>
#include <vector>

#include "cricket/round_up.h"
#include "dispatch.h"
#include "session.h"

namespace cricket::server {
namespace {

// Memory comes out of what the worker has already, so the driver would not be asked; but natively an allocation tells
// of an error that has ended the context. (Unlike a query of a stream this is no harm to a capture.)
CUresult context_error(Call& call) {
    unsigned version = 0;
    if (!call.driver.cuCtxGetApiVersion) return CUDA_SUCCESS;
    const CUresult status = call.driver.cuCtxGetApiVersion(nullptr, &version);
    return status >= CUDA_ERROR_ILLEGAL_ADDRESS && status < CUDA_ERROR_NOT_PERMITTED ? status : CUDA_SUCCESS;
}

// As the driver does, takes back what pools keep for later before memory is said to be short.
CUresult allocate(Call& call, uint64_t bytes, CUdeviceptr* address) {
    Session& session = call.session;
    const CUdevice device = session.current_device();
    const CUresult status = session.device_memory.allocate(device, bytes, session.current_home(), address);
    if (status != CUDA_ERROR_OUT_OF_MEMORY || session.pools.empty()) return status;
    session.pools.give_back_all(device);
    return session.device_memory.allocate(device, bytes, session.current_home(), address);
}

}  // namespace

void serve_cuMemAlloc_v2(Call& call, const cuMemAlloc_v2_args& args, cuMemAlloc_v2_res& res) {
    if (!call.session.current()) {
        res.status = CUDA_ERROR_INVALID_CONTEXT;
        return;
    }
    res.status = context_error(call);
    if (res.status != CUDA_SUCCESS) return;
    CUdeviceptr address = 0;
    res.status = allocate(call, args.bytesize, &address);
    res.dptr = address;
}

void serve_cuMemAllocPitch_v2(Call& call, const cuMemAllocPitch_v2_args& args, cuMemAllocPitch_v2_res& res) {
    constexpr uint64_t pitch_unit = 512;
    const unsigned element = args.ElementSizeBytes;
    if (!call.session.current()) {
        res.status = CUDA_ERROR_INVALID_CONTEXT;
        return;
    }
    if (args.WidthInBytes == 0 || args.Height == 0 || (element != 4 && element != 8 && element != 16) ||
        args.WidthInBytes > wire::device_span) {
        res.status = CUDA_ERROR_INVALID_VALUE;
        return;
    }
    const uint64_t pitch = round_up(args.WidthInBytes, pitch_unit);
    if (args.Height > wire::device_span / pitch) {
        res.status = CUDA_ERROR_OUT_OF_MEMORY;
        return;
    }
    CUdeviceptr address = 0;
    res.status = allocate(call, pitch * args.Height, &address);
    res.dptr = address;
    res.pPitch = pitch;
}

// As the driver does, waits for the work that may still use the memory.
void serve_cuMemFree_v2(Call& call, const cuMemFree_v2_args& args, cuMemFree_v2_res& res) {
    if (args.dptr == 0) return;
    const DeviceAllocation* allocation = call.session.device_memory.find(args.dptr);
    const ManagedAllocation* managed = call.session.managed.find(args.dptr);
    if (!call.session.current()) {
        res.status = allocation || managed ? CUDA_ERROR_INVALID_CONTEXT : CUDA_ERROR_INVALID_VALUE;
        return;
    }
    if (!allocation && !managed) {
        res.status = call.driver.cuMemFree(args.dptr);  // memory of a graph, or an error
        return;
    }
    if (managed ? managed->address != args.dptr
                : allocation->address != args.dptr || (allocation->imported && !allocation->pool)) {
        res.status = CUDA_ERROR_INVALID_VALUE;
        return;
    }
    if (call.session.captures.any()) {
        res.status = call.session.device_memory.free(args.dptr);
        call.session.reclaim_after_captures(args.dptr);
        return;
    }
    call.wait_for = call.session.await_all_work();
    if (!call.wait_for) {
        res.status = call.session.synchronize_home();  // the sticky error that is in the way, or green contexts
        if (res.status != CUDA_SUCCESS) return;
    }
    if (allocation && !allocation->imported)
        res.status = allocation->pool ? call.session.pools.free(args.dptr) : call.session.device_memory.free(args.dptr);
    call.reclaim = args.dptr;
}

void serve_cuMemGetInfo_v2(Call& call, const cuMemGetInfo_v2_args&, cuMemGetInfo_v2_res& res) {
    size_t free = 0, total = 0;
    res.status = call.driver.cuMemGetInfo(&free, &total);
    if (call.session.snapshot_hooks) free += call.session.snapshot_hooks->held_aside(call.session.current_device());
    res.free = std::min<uint64_t>(total, free + call.session.device_memory.spare_bytes(call.session.current_device()));
    res.total = total;
}

void serve_cuMemGetAddressRange_v2(Call& call, const cuMemGetAddressRange_v2_args& args,
                                   cuMemGetAddressRange_v2_res& res) {
    if (const DeviceAllocation* allocation = call.session.device_memory.find(args.dptr)) {
        res.pbase = allocation->address;
        res.psize = allocation->bytes;
        return;
    }
    if (const ManagedAllocation* managed = call.session.managed.find(args.dptr)) {
        res.pbase = managed->address;
        res.psize = managed->bytes;
        return;
    }
    CUdeviceptr base = 0;
    size_t size = 0;
    res.status = call.driver.cuMemGetAddressRange(&base, &size, args.dptr);
    res.pbase = base;
    res.psize = size;
}

void serve_cuMemHostAlloc(Call& call, const cuMemHostAlloc_args& args, cuMemHostAlloc_res& res) {
    if (!call.session.current()) {
        res.status = CUDA_ERROR_INVALID_CONTEXT;
        return;
    }
    res.status = call.session.host_memory.add(args.address, args.bytesize, args.address - wire::host_base, args.Flags);
}

void serve_cuMemFreeHost(Call& call, const cuMemFreeHost_args& args, cuMemFreeHost_res& res) {
    if (call.session.managed.find(args.p)) {
        res.status = CUDA_ERROR_INVALID_VALUE;
        return;
    }
    // The driver's own cuMemFreeHost waits for the work that uses the memory.
    call.session.settle_all_work();
    res.status = call.session.host_memory.remove(args.p);
}

void serve_cuMemHostRegister_v2(Call& call, const cuMemHostRegister_v2_args& args, cuMemHostRegister_v2_res& res) {
    if (!call.session.current())
        res.status = CUDA_ERROR_INVALID_CONTEXT;
    else
        res.status = call.session.host_memory.add(args.p, args.bytesize, args.offset, args.Flags);
}

void serve_cuMemHostUnregister(Call& call, const cuMemHostUnregister_args& args, cuMemHostUnregister_res& res) {
    call.session.settle_all_work();
    const bool known = call.session.host_memory.ranges().count(args.p) != 0;
    res.status = known ? call.session.host_memory.remove(args.p) : CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED;
}

void serve_cuMemHostGetDevicePointer_v2(Call& call, const cuMemHostGetDevicePointer_v2_args& args,
                                        cuMemHostGetDevicePointer_v2_res& res) {
    CUdeviceptr address = 0;
    res.status = call.driver.cuMemHostGetDevicePointer(&address, reinterpret_cast<void*>(args.p), args.Flags);
    // Host memory has one address everywhere; anything else could not be restored.
    if (res.status == CUDA_SUCCESS && address != args.p) res.status = CUDA_ERROR_NOT_SUPPORTED;
    res.pdptr = address;
}

void serve_cuMemHostGetFlags(Call& call, const cuMemHostGetFlags_args& args, cuMemHostGetFlags_res& res) {
    const auto& ranges = call.session.host_memory.ranges();
    const auto found = ranges.find(args.p);
    if (found == ranges.end() || call.session.managed.find(args.p))
        res.status = CUDA_ERROR_INVALID_VALUE;
    else
        res.pFlags = found->second.flags | CU_MEMHOSTALLOC_DEVICEMAP;  // with unified addressing all of it is mapped
}

namespace {

// As the driver tells of its own managed memory, wherever that is at the moment.
CUresult managed_attribute(const ManagedAllocation& managed, CUpointer_attribute attribute, CUdeviceptr pointer,
                           uint64_t* value, uint32_t* size) {
    *size = 8;
    switch (attribute) {
        case CU_POINTER_ATTRIBUTE_CONTEXT:
            *value = managed.context;
            break;
        case CU_POINTER_ATTRIBUTE_DEVICE_POINTER:
        case CU_POINTER_ATTRIBUTE_HOST_POINTER:
            *value = pointer;
            break;
        case CU_POINTER_ATTRIBUTE_RANGE_START_ADDR:
            *value = managed.address;
            break;
        case CU_POINTER_ATTRIBUTE_RANGE_SIZE:
            *value = managed.bytes;
            break;
        case CU_POINTER_ATTRIBUTE_BUFFER_ID:
            *value = managed.id;
            break;
        case CU_POINTER_ATTRIBUTE_ALLOWED_HANDLE_TYPES:
        case CU_POINTER_ATTRIBUTE_MEMPOOL_HANDLE:
            break;
        case CU_POINTER_ATTRIBUTE_MEMORY_TYPE:
            *value = CU_MEMORYTYPE_DEVICE;
            *size = 4;
            break;
        case CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL:
            *value = static_cast<uint32_t>(managed.device);
            *size = 4;
            break;
        case CU_POINTER_ATTRIBUTE_ACCESS_FLAGS:
            *value = CU_POINTER_ATTRIBUTE_ACCESS_FLAG_READWRITE;
            *size = 4;
            break;
        case CU_POINTER_ATTRIBUTE_IS_MANAGED:
        case CU_POINTER_ATTRIBUTE_MAPPED:
            *value = 1;
            *size = 1;
            break;
        case CU_POINTER_ATTRIBUTE_SYNC_MEMOPS:
        case CU_POINTER_ATTRIBUTE_IS_LEGACY_CUDA_IPC_CAPABLE:
        case CU_POINTER_ATTRIBUTE_IS_GPU_DIRECT_RDMA_CAPABLE:
        case CU_POINTER_ATTRIBUTE_IS_HW_DECOMPRESS_CAPABLE:
            *size = 1;
            break;
        default:
            return CUDA_ERROR_INVALID_VALUE;
    }
    return CUDA_SUCCESS;
}

// What we know of device memory better than the driver, for which it is a part of a chunk. False: the driver is to say it.
bool allocation_attribute(Call& call, const DeviceAllocation& allocation, CUpointer_attribute attribute, uint64_t* value, uint32_t* size) {
    *size = 8;
    switch (attribute) {
        case CU_POINTER_ATTRIBUTE_RANGE_START_ADDR:
            *value = allocation.address;
            return true;
        case CU_POINTER_ATTRIBUTE_RANGE_SIZE:
            *value = allocation.bytes;
            return true;
        case CU_POINTER_ATTRIBUTE_CONTEXT:
            *value = allocation.context;  // a pool's memory has none, as the driver's
            return true;
        case CU_POINTER_ATTRIBUTE_MEMPOOL_HANDLE:
            *value = allocation.pool;
            return allocation.pool != 0;
        case CU_POINTER_ATTRIBUTE_ALLOWED_HANDLE_TYPES:
            // What the memory was made with is our own business.
            *value = allocation.pool ? call.session.pools.handle_types_of(allocation.pool) : 0;
            return true;
        case CU_POINTER_ATTRIBUTE_IS_LEGACY_CUDA_IPC_CAPABLE:
            *value = !allocation.pool && !allocation.imported;
            *size = 1;
            return true;
        default:
            return false;
    }
}

// One attribute of a pointer as eight bytes, handles as session numbers; `size` is what the application gets.
CUresult pointer_attribute(Call& call, CUpointer_attribute attribute, CUdeviceptr pointer, uint64_t* value,
                           uint32_t* size) {
    *value = 0;
    *size = 4;
    if (const ManagedAllocation* managed = call.session.managed.find(pointer))
        return managed_attribute(*managed, attribute, pointer, value, size);
    const DeviceAllocation* allocation = call.session.device_memory.find(pointer);
    if (allocation && allocation_attribute(call, *allocation, attribute, value, size)) return CUDA_SUCCESS;
    *size = 4;
    alignas(16) std::byte room[128] = {};  // the largest attribute is a CUDA_POINTER_ATTRIBUTE_P2P_TOKENS
    // The channel is registered memory of this process, whatever the application may have at that address.
    if (call.session.ring && pointer - reinterpret_cast<uint64_t>(call.session.ring->channel().base()) <
                                 call.session.ring->channel().geometry().total_bytes)
        return CUDA_ERROR_INVALID_VALUE;
    const CUresult status = call.driver.cuPointerGetAttribute(room, attribute, pointer);
    if (status != CUDA_SUCCESS) return status;
    switch (attribute) {
        case CU_POINTER_ATTRIBUTE_CONTEXT: {
            CUcontext context = nullptr;
            std::memcpy(&context, room, sizeof context);
            *value = context ? call.objects.find(HandleKind::Context, context) : 0;
            *size = 8;
            return CUDA_SUCCESS;
        }
        case CU_POINTER_ATTRIBUTE_DEVICE_POINTER:
        case CU_POINTER_ATTRIBUTE_HOST_POINTER:
        case CU_POINTER_ATTRIBUTE_RANGE_START_ADDR:
        case CU_POINTER_ATTRIBUTE_RANGE_SIZE:
        case CU_POINTER_ATTRIBUTE_BUFFER_ID:
        case CU_POINTER_ATTRIBUTE_ALLOWED_HANDLE_TYPES:
        case CU_POINTER_ATTRIBUTE_MAPPING_SIZE:
        case CU_POINTER_ATTRIBUTE_MAPPING_BASE_ADDR:
        case CU_POINTER_ATTRIBUTE_MEMORY_BLOCK_ID:
            *size = 8;
            break;
        case CU_POINTER_ATTRIBUTE_MEMPOOL_HANDLE: {
            CUmemoryPool pool = nullptr;  // of the driver's own: memory of a graph
            std::memcpy(&pool, room, sizeof pool);
            *value = 0;
            *size = 8;
            return pool ? call.session.pools.current_of(call.session.current_device(), value) : CUDA_SUCCESS;
        }
        case CU_POINTER_ATTRIBUTE_P2P_TOKENS:
            return CUDA_ERROR_NOT_SUPPORTED;
        case CU_POINTER_ATTRIBUTE_IS_MANAGED:
        case CU_POINTER_ATTRIBUTE_MAPPED:
        case CU_POINTER_ATTRIBUTE_SYNC_MEMOPS:
        case CU_POINTER_ATTRIBUTE_IS_GPU_DIRECT_RDMA_CAPABLE:
        case CU_POINTER_ATTRIBUTE_IS_HW_DECOMPRESS_CAPABLE:
        case CU_POINTER_ATTRIBUTE_IS_LEGACY_CUDA_IPC_CAPABLE:
            *size = 4;  // the driver writes an int; the runtime reads one that it did not clear
            break;
        default:
            break;
    }
    std::memcpy(value, room, *size);
    return CUDA_SUCCESS;
}

}  // namespace

void serve_cuPointerGetAttribute(Call& call, const cuPointerGetAttribute_args& args, cuPointerGetAttribute_res& res) {
    uint64_t value = 0;
    uint32_t size = 0;
    res.status = pointer_attribute(call, static_cast<CUpointer_attribute>(args.attribute), args.ptr, &value, &size);
    if (res.status == CUDA_SUCCESS && !give_bytes(&res.value, &value, size)) res.status = CUDA_ERROR_OUT_OF_MEMORY;
}

// Results: for each attribute 8 bytes of value and 8 of its size in bytes.
void serve_cuPointerGetAttributes(Call& call, const cuPointerGetAttributes_args& args,
                                  cuPointerGetAttributes_res& res) {
    if (args.attributes.size != args.numAttributes * sizeof(CUpointer_attribute)) {
        res.status = CUDA_ERROR_INVALID_VALUE;
        return;
    }
    std::vector<CUpointer_attribute> attributes(args.numAttributes);
    std::memcpy(attributes.data(), args.attributes.data, args.attributes.size);
    std::vector<uint64_t> values;
    for (CUpointer_attribute attribute : attributes) {
        uint64_t value = 0;
        uint32_t size = 0;
        const CUresult status = pointer_attribute(call, attribute, args.ptr, &value, &size);
        // As the driver: an attribute that the pointer does not have reads as zero.
        if (status != CUDA_SUCCESS && status != CUDA_ERROR_INVALID_VALUE) {
            res.status = status;
            return;
        }
        if (status != CUDA_SUCCESS && attribute == CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL) value = static_cast<uint32_t>(-2);
        values.push_back(value);
        values.push_back(size);
    }
    if (!give_bytes(&res.values, values.data(), values.size() * sizeof(uint64_t))) res.status = CUDA_ERROR_OUT_OF_MEMORY;
}

}  // namespace cricket::server
