// SPDX-License-Identifier: MIT
// The application's virtual-memory calls, and memory and events of other sessions (cuIpc*).
#include <cstring>

#include "dispatch.h"
#include "session.h"

namespace cricket::server {

void serve_cuMemAddressReserve(Call& call, const cuMemAddressReserve_args& args, cuMemAddressReserve_res& res) {
    CUdeviceptr address = 0;
    res.status = call.session.virtual_memory.reserve(args.size, args.alignment, args.addr, args.flags, &address);
    res.ptr = address;
}

void serve_cuMemAddressFree(Call& call, const cuMemAddressFree_args& args, cuMemAddressFree_res& res) {
    res.status = call.session.virtual_memory.free(args.ptr, args.size);
}

void serve_cuMemCreate(Call& call, const cuMemCreate_args& args, cuMemCreate_res& res) {
    uint64_t number = 0;
    res.status = call.session.virtual_memory.create(args.size, args.prop, args.flags, &number);
    if (res.status == CUDA_ERROR_OUT_OF_MEMORY && !call.session.pools.empty()) {
        call.session.pools.give_back_all(args.prop.location.id);
        res.status = call.session.virtual_memory.create(args.size, args.prop, args.flags, &number);
    }
    res.handle = number;
}

void serve_cuMemRelease(Call& call, const cuMemRelease_args& args, cuMemRelease_res& res) {
    res.status = call.session.virtual_memory.release(args.handle);
}

void serve_cuMemMap(Call& call, const cuMemMap_args& args, cuMemMap_res& res) {
    res.status = call.session.virtual_memory.map(args.ptr, args.size, args.offset, args.handle, args.flags);
}

void serve_cuMemUnmap(Call& call, const cuMemUnmap_args& args, cuMemUnmap_res& res) {
    res.status = call.session.virtual_memory.unmap(args.ptr, args.size);
}

void serve_cuMemSetAccess(Call& call, const cuMemSetAccess_args& args, cuMemSetAccess_res& res) {
    std::vector<CUmemAccessDesc> access(args.desc.size / sizeof(CUmemAccessDesc));
    if (!access.empty()) std::memcpy(access.data(), args.desc.data, access.size() * sizeof(CUmemAccessDesc));
    res.status = call.session.virtual_memory.set_access(args.ptr, args.size, access);
}

void serve_cuMemGetAccess(Call& call, const cuMemGetAccess_args& args, cuMemGetAccess_res& res) {
    unsigned long long flags = 0;
    res.status = call.session.virtual_memory.get_access(args.ptr, args.location, &flags);
    res.flags = flags;
}

void serve_cuMemGetAllocationPropertiesFromHandle(Call& call, const cuMemGetAllocationPropertiesFromHandle_args& args,
                                                  cuMemGetAllocationPropertiesFromHandle_res& res) {
    res.status = call.session.virtual_memory.properties(args.handle, &res.prop);
}

void serve_cuMemRetainAllocationHandle(Call& call, const cuMemRetainAllocationHandle_args& args,
                                       cuMemRetainAllocationHandle_res& res) {
    uint64_t number = 0;
    res.status = call.session.virtual_memory.retain(args.addr, &number);
    res.handle = number;
}

void serve_cuMemExportToShareableHandle(Call& call, const cuMemExportToShareableHandle_args& args,
                                        cuMemExportToShareableHandle_res& res) {
    SharedHandle shared;
    res.status = call.session.virtual_memory.export_name(
        args.handle, static_cast<CUmemAllocationHandleType>(args.handleType), args.flags, &shared);
    if (res.status == CUDA_SUCCESS && !give_bytes(&res.shared, &shared, sizeof shared)) res.status = CUDA_ERROR_OUT_OF_MEMORY;
}

void serve_cuMemImportFromShareableHandle(Call& call, const cuMemImportFromShareableHandle_args& args,
                                          cuMemImportFromShareableHandle_res& res) {
    SharedHandle shared;
    if (args.shared.size != sizeof shared) {
        res.status = CUDA_ERROR_INVALID_VALUE;
        return;
    }
    std::memcpy(&shared, args.shared.data, sizeof shared);
    uint64_t number = 0;
    res.status = call.session.virtual_memory.import_name(shared, &number);
    res.handle = number;
}

void serve_cuIpcGetMemHandle(Call& call, const cuIpcGetMemHandle_args& args, cuIpcGetMemHandle_res& res) {
    if (!call.session.current()) {
        res.status = CUDA_ERROR_INVALID_CONTEXT;
        return;
    }
    const DeviceAllocation* allocation = call.session.device_memory.find(args.dptr);
    SharedHandle shared;
    res.status = allocation && !allocation->pool ? call.session.device_memory.share(args.dptr, SharedKind::Range, &shared)
                                                 : CUDA_ERROR_INVALID_VALUE;
    static_assert(sizeof res.pHandle == sizeof shared);
    if (res.status == CUDA_SUCCESS) std::memcpy(&res.pHandle, &shared, sizeof shared);
}

void serve_cuIpcOpenMemHandle_v2(Call& call, const cuIpcOpenMemHandle_v2_args& args, cuIpcOpenMemHandle_v2_res& res) {
    if (!call.session.current()) {
        res.status = CUDA_ERROR_INVALID_CONTEXT;
        return;
    }
    if (args.Flags != CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS) {
        res.status = CUDA_ERROR_INVALID_VALUE;
        return;
    }
    SharedHandle shared;
    std::memcpy(static_cast<void*>(&shared), &args.handle, sizeof shared);
    CUdeviceptr address = 0;
    DeviceMemory& memory = call.session.device_memory;
    res.status = memory.open(shared, SharedKind::Range, call.session.current_home(), 0, &address);
    if (res.status != CUDA_SUCCESS) return;
    // The context's device sees it, as the flag says, wherever it lies.
    if (const CUdevice here = call.session.current_device(); here != memory.find(address)->device)
        res.status = memory.set_access(address - shared.offset, here, CU_MEM_ACCESS_FLAGS_PROT_READWRITE);
    if (res.status != CUDA_SUCCESS) memory.close(address);
    res.pdptr = address;
}

// As the driver does, after the work that may still use the memory.
void serve_cuIpcCloseMemHandle(Call& call, const cuIpcCloseMemHandle_args& args, cuIpcCloseMemHandle_res& res) {
    if (!call.session.current()) {
        res.status = CUDA_ERROR_INVALID_CONTEXT;
        return;
    }
    const DeviceAllocation* allocation = call.session.device_memory.find(args.dptr);
    if (!allocation || !allocation->imported || allocation->pool || allocation->address != args.dptr) {
        res.status = CUDA_ERROR_INVALID_VALUE;
        return;
    }
    call.wait_for = call.session.await_all_work();
    if (call.wait_for)
        call.reclaim = args.dptr;
    else
        res.status = call.session.device_memory.close(args.dptr);
}

void serve_cuIpcGetEventHandle(Call& call, const cuIpcGetEventHandle_args& args, cuIpcGetEventHandle_res& res) {
    CUevent event = nullptr;
    if (!args.event || !driver_handle(call.objects, HandleKind::Event, args.event, &event)) {
        res.status = CUDA_ERROR_INVALID_HANDLE;
        return;
    }
    res.status = call.driver.cuIpcGetEventHandle(&res.pHandle, event);
    if (res.status == CUDA_SUCCESS) call.session.shared_events.insert(args.event);
}

void serve_cuIpcOpenEventHandle(Call& call, const cuIpcOpenEventHandle_args& args, cuIpcOpenEventHandle_res& res) {
    CUevent event = nullptr;
    res.status = call.driver.cuIpcOpenEventHandle(&event, args.handle);
    if (res.status != CUDA_SUCCESS) return;
    res.phEvent = call.objects.add(HandleKind::Event, event);
    call.session.shared_events.insert(res.phEvent);
}

}  // namespace cricket::server
