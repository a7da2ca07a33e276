// SPDX-License-Identifier: MIT
#include "client/places.h"

#include <cstring>

#include "client/captures.h"
#include "client/reply_guard.h"
#include "custom.h"

namespace cricket::client {

Place place_of(Session& session, uint64_t address, uint64_t bytes) {
    if (wire::is_device_address(address)) return Place::Device;
    if (session.ring() && session.host_memory().contains(reinterpret_cast<void*>(address), bytes)) return Place::Host;
    cuPointerGetAttribute_args args{};
    cuPointerGetAttribute_res res{};
    args.attribute = CU_POINTER_ATTRIBUTE_MEMORY_TYPE;
    args.ptr = address;
    ReplyGuard guard;
    if (call(args, res) != CUDA_SUCCESS || res.value.size != sizeof(uint32_t)) return Place::Unknown;
    uint32_t type = 0;
    std::memcpy(&type, res.value.data, sizeof type);
    return type == CU_MEMORYTYPE_DEVICE ? Place::Device : Place::Unknown;
}

CUresult settle(CUresult result, uint64_t address, uint64_t bytes, uint32_t flags) {
    Session* session = Session::get();
    if (result != CUDA_SUCCESS || !session || !session->ring() || wire::is_device_address(address) ||
        !session->host_memory().contains(reinterpret_cast<void*>(address), bytes))
        return result;
    cuStreamSynchronize_args args{};
    cuStreamSynchronize_res res{};
    ReplyGuard guard;
    return call(args, res, {flags});
}

bool in_place(Session& session, const void* address, uint64_t bytes, uint64_t stream, uint32_t flags, bool read_only) {
    if (captures::capturing(stream, flags)) {
        captures::share(session, address, bytes, read_only);
        return true;
    }
    return session.ring() && session.host_memory().contains(address, bytes);
}

}  // namespace cricket::client
