// SPDX-License-Identifier: MIT
// Memory pools and stream-ordered allocation.
#include <cstring>

#include "dispatch.h"
#include "session.h"

namespace cricket::server {
namespace {

// The stream of a call as pools tell streams apart, and the device whose pool is meant.
CUresult order_of(Call& call, uint64_t number, MemoryPools::Order* order, CUdevice* device) {
    if (number <= 2 && !call.session.current()) return CUDA_ERROR_INVALID_CONTEXT;
    if (!call.stream(number, &order->stream)) return CUDA_ERROR_INVALID_HANDLE;
    order->key = number > 2 ? number : reinterpret_cast<uint64_t>(order->stream);
    *device = call.session.current_device();
    if (number <= 2) return CUDA_SUCCESS;
    const uint64_t owner = call.session.journal.owner(number);
    const auto context = call.session.context_devices.find(owner);
    if (context != call.session.context_devices.end()) *device = context->second;
    const auto green = call.session.green_contexts.find(owner);
    if (green != call.session.green_contexts.end()) *device = green->second.device;
    return CUDA_SUCCESS;
}

// Whether the stream captures: then the driver makes a node of the call, with addresses of its own.
CUresult captures(Call& call, CUstream stream, bool* result) {
    CUstreamCaptureStatus status = CU_STREAM_CAPTURE_STATUS_NONE;
    const CUresult asked = call.driver.cuStreamIsCapturing(stream, &status);
    *result = status == CU_STREAM_CAPTURE_STATUS_ACTIVE;
    return asked;
}

// Memory of cuMemAlloc may be freed in a stream's order too.
CUresult free_plain(Call& call, CUdeviceptr address, CUstream stream) {
    CUresult status;
    CUevent done = call.session.record(stream, &status);
    if (!done) return status;
    status = call.session.device_memory.free(address);
    if (status == CUDA_SUCCESS)
        call.session.reclaim_after(done, address);
    else
        call.session.give_event(done);
    return status;
}

template <class Res>
void allocate(Call& call, uint64_t bytes, uint64_t pool, uint64_t stream_number, Res& res) {
    MemoryPools::Order order;
    CUdevice device = 0;
    bool capturing = false;
    res.status = order_of(call, stream_number, &order, &device);
    if (res.status == CUDA_SUCCESS) res.status = captures(call, order.stream, &capturing);
    if (res.status == CUDA_SUCCESS && !pool) res.status = call.session.pools.current_of(device, &pool);
    if (res.status != CUDA_SUCCESS) return;
    CUdeviceptr address = 0;
    if (!capturing) {
        res.status = call.session.pools.allocate(pool, bytes, order, &address);
        res.pooled = 1;
    } else {
        CUmemoryPool drivers = nullptr;
        res.status = call.driver.cuDeviceGetDefaultMemPool(&drivers, call.session.pools.device_of(pool));
        if (res.status == CUDA_SUCCESS) res.status = call.driver.cuMemAllocFromPoolAsync(&address, bytes, drivers, order.stream);
        if (res.status == CUDA_SUCCESS) call.session.graph_memory.note(address);
    }
    res.dptr = address;
}

bool device_pool(const CUmemLocation& location, int32_t type, int32_t* status) {
    if (location.type == CU_MEM_LOCATION_TYPE_DEVICE && type == CU_MEM_ALLOCATION_TYPE_PINNED) return true;
    const bool known = (type == CU_MEM_ALLOCATION_TYPE_PINNED || type == CU_MEM_ALLOCATION_TYPE_MANAGED) &&
                       (location.type == CU_MEM_LOCATION_TYPE_HOST || location.type == CU_MEM_LOCATION_TYPE_HOST_NUMA ||
                        location.type == CU_MEM_LOCATION_TYPE_DEVICE ||
                        (location.type == CU_MEM_LOCATION_TYPE_NONE && type == CU_MEM_ALLOCATION_TYPE_MANAGED));
    *status = known ? CUDA_ERROR_NOT_SUPPORTED : CUDA_ERROR_INVALID_VALUE;  // pools of host and managed memory
    return false;
}

bool shared_of(const rpc::Blob& blob, SharedHandle* shared) {
    if (blob.size != sizeof *shared) return false;
    std::memcpy(static_cast<void*>(shared), blob.data, sizeof *shared);
    return true;
}

}  // namespace

void serve_cuMemAllocAsync(Call& call, const cuMemAllocAsync_args& args, cuMemAllocAsync_res& res) {
    allocate(call, args.bytesize, 0, args.hStream, res);
}

void serve_cuMemAllocFromPoolAsync(Call& call, const cuMemAllocFromPoolAsync_args& args, cuMemAllocFromPoolAsync_res& res) {
    if (!args.pool || !call.objects.get(HandleKind::MemoryPool, args.pool))
        res.status = CUDA_ERROR_INVALID_VALUE;
    else
        allocate(call, args.bytesize, args.pool, args.hStream, res);
}

void serve_cuMemFreeAsync(Call& call, const cuMemFreeAsync_args& args, cuMemFreeAsync_res& res) {
    MemoryPools::Order order;
    CUdevice device = 0;
    bool capturing = false;
    res.status = order_of(call, args.hStream, &order, &device);
    if (res.status == CUDA_SUCCESS) res.status = captures(call, order.stream, &capturing);
    if (res.status != CUDA_SUCCESS) return;
    const DeviceAllocation* allocation = call.session.device_memory.find(args.dptr);
    if (allocation && allocation->pool && !capturing)
        res.status = call.session.pools.free_async(args.dptr, order);
    else if (allocation && allocation->address == args.dptr && !allocation->imported && !capturing)
        res.status = free_plain(call, args.dptr, order.stream);
    else
        res.status = call.driver.cuMemFreeAsync(args.dptr, order.stream);  // memory of a graph, or an error
    if (res.status == CUDA_ERROR_NOT_SUPPORTED) res.status = CUDA_ERROR_INVALID_VALUE;  // a driver that has no pools at all
}

void serve_cuDeviceGetDefaultMemPool(Call& call, const cuDeviceGetDefaultMemPool_args& args, cuDeviceGetDefaultMemPool_res& res) {
    res.status = call.session.pools.default_of(args.dev, &res.pool_out);
}

void serve_cuDeviceGetMemPool(Call& call, const cuDeviceGetMemPool_args& args, cuDeviceGetMemPool_res& res) {
    res.status = call.session.pools.current_of(args.dev, &res.pool);
}

void serve_cuDeviceSetMemPool(Call& call, const cuDeviceSetMemPool_args& args, cuDeviceSetMemPool_res& res) {
    res.status = call.session.pools.set_current(args.dev, args.pool);
}

void serve_cuMemGetDefaultMemPool(Call& call, const cuMemGetDefaultMemPool_args& args, cuMemGetDefaultMemPool_res& res) {
    if (device_pool(args.location, args.type, &res.status)) res.status = call.session.pools.default_of(args.location.id, &res.pool_out);
}

void serve_cuMemGetMemPool(Call& call, const cuMemGetMemPool_args& args, cuMemGetMemPool_res& res) {
    if (device_pool(args.location, args.type, &res.status)) res.status = call.session.pools.current_of(args.location.id, &res.pool);
}

void serve_cuMemSetMemPool(Call& call, const cuMemSetMemPool_args& args, cuMemSetMemPool_res& res) {
    if (device_pool(args.location, args.type, &res.status)) res.status = call.session.pools.set_current(args.location.id, args.pool);
}

void serve_cuMemPoolCreate(Call& call, const cuMemPoolCreate_args& args, cuMemPoolCreate_res& res) {
    res.status = call.session.pools.create(args.poolProps, &res.pool);
}

void serve_cuMemPoolDestroy(Call& call, const cuMemPoolDestroy_args& args, cuMemPoolDestroy_res& res) {
    res.status = call.session.pools.destroy(args.pool);
}

void serve_cuMemPoolTrimTo(Call& call, const cuMemPoolTrimTo_args& args, cuMemPoolTrimTo_res& res) {
    res.status = call.session.pools.trim(args.pool, args.minBytesToKeep);
}

void serve_cuMemPoolSetAttribute(Call& call, const cuMemPoolSetAttribute_args& args, cuMemPoolSetAttribute_res& res) {
    res.status = call.session.pools.set_attribute(args.pool, static_cast<CUmemPool_attribute>(args.attr), args.data);
}

void serve_cuMemPoolGetAttribute(Call& call, const cuMemPoolGetAttribute_args& args, cuMemPoolGetAttribute_res& res) {
    res.status = call.session.pools.get_attribute(args.pool, static_cast<CUmemPool_attribute>(args.attr), &res.data);
}

void serve_cuMemPoolSetAccess(Call& call, const cuMemPoolSetAccess_args& args, cuMemPoolSetAccess_res& res) {
    std::vector<CUmemAccessDesc> access(args.map.size / sizeof(CUmemAccessDesc));
    if (!access.empty()) std::memcpy(access.data(), args.map.data, access.size() * sizeof(CUmemAccessDesc));
    res.status = call.session.pools.set_access(args.pool, access);
}

void serve_cuMemPoolGetAccess(Call& call, const cuMemPoolGetAccess_args& args, cuMemPoolGetAccess_res& res) {
    CUmemAccess_flags flags = CU_MEM_ACCESS_FLAGS_PROT_NONE;
    res.status = call.session.pools.get_access(args.memPool, args.location, &flags);
    res.flags = flags;
}

void serve_cuMemPoolExportToShareableHandle(Call& call, const cuMemPoolExportToShareableHandle_args& args,
                                            cuMemPoolExportToShareableHandle_res& res) {
    SharedHandle shared;
    res.status = call.session.pools.export_pool(args.pool, static_cast<CUmemAllocationHandleType>(args.handleType), args.flags, &shared);
    if (res.status == CUDA_SUCCESS && !give_bytes(&res.shared, &shared, sizeof shared)) res.status = CUDA_ERROR_OUT_OF_MEMORY;
}

void serve_cuMemPoolImportFromShareableHandle(Call& call, const cuMemPoolImportFromShareableHandle_args& args,
                                              cuMemPoolImportFromShareableHandle_res& res) {
    SharedHandle shared;
    res.status = shared_of(args.shared, &shared) && !args.flags ? call.session.pools.import_pool(shared, &res.pool_out)
                                                                : CUDA_ERROR_INVALID_VALUE;
}

void serve_cuMemPoolExportPointer(Call& call, const cuMemPoolExportPointer_args& args, cuMemPoolExportPointer_res& res) {
    SharedHandle shared;
    res.status = call.session.pools.export_pointer(args.ptr, &shared);
    static_assert(sizeof res.shareData_out == sizeof shared);
    if (res.status == CUDA_SUCCESS) std::memcpy(&res.shareData_out, &shared, sizeof shared);
}

void serve_cuMemPoolImportPointer(Call& call, const cuMemPoolImportPointer_args& args, cuMemPoolImportPointer_res& res) {
    SharedHandle shared;
    std::memcpy(static_cast<void*>(&shared), &args.shareData, sizeof shared);
    CUdeviceptr address = 0;
    res.status = call.session.pools.import_pointer(args.pool, shared, &address);
    res.ptr_out = address;
}

}  // namespace cricket::server
