// SPDX-License-Identifier: MIT
// CUDA arrays, and the texture and surface objects that read and write them.
#include "dispatch.h"
#include "session.h"

namespace cricket::server {
namespace {

// As the driver does, waits for the work that may still use the memory; the other calls go on meanwhile.
template <class Handle>
CUresult destroy(Call& call, HandleKind kind, uint64_t number, CUresult(CUDAAPI* end)(Handle)) {
    Handle handle{};
    if (!end) return CUDA_ERROR_NOT_SUPPORTED;
    if (!driver_handle(call.objects, kind, number, &handle)) return CUDA_ERROR_INVALID_HANDLE;
    if (!handle || call.replaying) {
        const CUresult status = end(handle);
        if (status == CUDA_SUCCESS) call.objects.remove(kind, number);
        return status;
    }
    // Levels and planes have no end of their own.
    const JournalEntry* made = call.session.journal.creation(number);
    if (made && Objects::kind_of(made->effect.owner) != HandleKind::Context) return CUDA_ERROR_INVALID_HANDLE;
    call.wait_for = call.session.await_all_work();
    if (!call.wait_for) {
        const CUresult status = call.session.synchronize_home();  // the sticky error that is in the way, or green contexts
        if (status != CUDA_SUCCESS) return status;
    }
    call.objects.remove(kind, number);
    const auto finish = [&session = call.session, context = call.session.current_home(), end, handle] {
        if (session.make_current(context) == CUDA_SUCCESS) end(handle);
    };
    if (call.wait_for)
        call.then = finish;
    else
        finish();
    return CUDA_SUCCESS;
}

// A resource names its array by session number; the other kinds hold device addresses, which are the same everywhere.
CUresult to_driver(Call& call, CUDA_RESOURCE_DESC* resource) {
    bool known = true;
    if (resource->resType == CU_RESOURCE_TYPE_ARRAY) {
        CUarray& array = resource->res.array.hArray;
        known = driver_handle(call.objects, HandleKind::Array, to_number(array), &array);
    } else if (resource->resType == CU_RESOURCE_TYPE_MIPMAPPED_ARRAY) {
        CUmipmappedArray& array = resource->res.mipmap.hMipmappedArray;
        known = driver_handle(call.objects, HandleKind::MipmappedArray, to_number(array), &array);
    }
    return known ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
}

void to_session(Call& call, CUDA_RESOURCE_DESC* resource) {
    if (resource->resType == CU_RESOURCE_TYPE_ARRAY) {
        CUarray& array = resource->res.array.hArray;
        array = from_number<CUarray>(call.objects.find(HandleKind::Array, array));
    } else if (resource->resType == CU_RESOURCE_TYPE_MIPMAPPED_ARRAY) {
        CUmipmappedArray& array = resource->res.mipmap.hMipmappedArray;
        array = from_number<CUmipmappedArray>(call.objects.find(HandleKind::MipmappedArray, array));
    }
}

}  // namespace

void serve_cuArrayDestroy(Call& call, const cuArrayDestroy_args& args, cuArrayDestroy_res& res) {
    res.status = destroy(call, HandleKind::Array, args.hArray, call.driver.cuArrayDestroy);
}

void serve_cuMipmappedArrayDestroy(Call& call, const cuMipmappedArrayDestroy_args& args, cuMipmappedArrayDestroy_res& res) {
    res.status = destroy(call, HandleKind::MipmappedArray, args.hMipmappedArray, call.driver.cuMipmappedArrayDestroy);
}

void serve_cuTexObjectCreate(Call& call, const cuTexObjectCreate_args& args, cuTexObjectCreate_res& res) {
    CUDA_RESOURCE_DESC resource = args.pResDesc;
    res.status = call.driver.cuTexObjectCreate ? to_driver(call, &resource) : CUDA_ERROR_NOT_SUPPORTED;
    if (res.status != CUDA_SUCCESS) return;
    CUtexObject object = 0;
    res.status = call.driver.cuTexObjectCreate(&object, &resource, &args.pTexDesc,
                                               args.has_pResViewDesc ? &args.pResViewDesc : nullptr);
    if (res.status == CUDA_SUCCESS) call.objects.add_value(HandleKind::TexObject, call.home(), object);
    res.pTexObject = object;
}

void serve_cuTexObjectGetResourceDesc(Call& call, const cuTexObjectGetResourceDesc_args& args,
                                      cuTexObjectGetResourceDesc_res& res) {
    CUtexObject object = 0;
    res.status = CUDA_ERROR_INVALID_VALUE;
    if (!call.driver.cuTexObjectGetResourceDesc ||
        !driver_handle(call.objects, HandleKind::TexObject, value_number(call, HandleKind::TexObject, args.texObject), &object))
        return;
    res.status = call.driver.cuTexObjectGetResourceDesc(&res.pResDesc, object);
    if (res.status == CUDA_SUCCESS) to_session(call, &res.pResDesc);
}

void serve_cuSurfObjectCreate(Call& call, const cuSurfObjectCreate_args& args, cuSurfObjectCreate_res& res) {
    CUDA_RESOURCE_DESC resource = args.pResDesc;
    res.status = call.driver.cuSurfObjectCreate ? to_driver(call, &resource) : CUDA_ERROR_NOT_SUPPORTED;
    if (res.status != CUDA_SUCCESS) return;
    CUsurfObject object = 0;
    res.status = call.driver.cuSurfObjectCreate(&object, &resource);
    if (res.status == CUDA_SUCCESS) call.objects.add_value(HandleKind::SurfObject, call.home(), object);
    res.pSurfObject = object;
}

void serve_cuSurfObjectGetResourceDesc(Call& call, const cuSurfObjectGetResourceDesc_args& args,
                                       cuSurfObjectGetResourceDesc_res& res) {
    CUsurfObject object = 0;
    res.status = CUDA_ERROR_INVALID_VALUE;
    if (!call.driver.cuSurfObjectGetResourceDesc ||
        !driver_handle(call.objects, HandleKind::SurfObject, value_number(call, HandleKind::SurfObject, args.surfObject), &object))
        return;
    res.status = call.driver.cuSurfObjectGetResourceDesc(&res.pResDesc, object);
    if (res.status == CUDA_SUCCESS) to_session(call, &res.pResDesc);
}

}  // namespace cricket::server
