// SPDX-License-Identifier: MIT
#include "fake_session.h"

#include "client/contexts.h"

namespace cricket::client {

namespace fake {
Session& session() {
    static Session one;
    return one;
}
}  // namespace fake

bool initialized() {
    return fake::session().initialized;
}

CUresult need_context() {
    CUdevice device;
    return initialized() ? contexts::current_device(&device) : CUDA_ERROR_NOT_INITIALIZED;
}

CUresult call(Proc proc, xdrproc_t, void* args, xdrproc_t, void* res, const CallOptions&) {
    auto& session = fake::session();
    std::lock_guard lock(session.mutex);
    session.made.push_back(proc);
    auto found = session.answers.find(proc);
    return found == session.answers.end() ? CUDA_ERROR_UNKNOWN : found->second(args, res);
}

CUresult post(Proc proc, xdrproc_t, void*, const CallOptions&) {
    std::lock_guard lock(fake::session().mutex);
    fake::session().made.push_back(proc);
    return CUDA_SUCCESS;
}

CUresult call_with_data(Proc proc, xdrproc_t xdr_args, void* args, rpc::Bulk*, const void* data,
                        uint64_t size, xdrproc_t xdr_res, void* res, const CallOptions& options) {
    fake::session().image.assign(static_cast<const char*>(data), size);
    return call(proc, xdr_args, args, xdr_res, res, options);
}

void release_reply(bool) {}

CUresult unsupported(const char*, const char*, const void*) {
    return CUDA_ERROR_NOT_SUPPORTED;
}

}  // namespace cricket::client
