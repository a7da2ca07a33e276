// SPDX-License-Identifier: MIT
// Memory that applications hand to each other as descriptors. Here a descriptor is a memfd that holds a name; the driver's
// own stays with the server (server/exchange.h), so nothing of the GPU is ever in an application.
#include "client/shared.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstring>

#include "client/contexts.h"
#include "client/log.h"
#include "client/reply_guard.h"
#include "client/session.h"
#include "custom.h"

namespace cricket::client {
namespace {

// The application owns the descriptor: its number is as the system gives it.
int make_descriptor(const SharedHandle& shared) {
    const int fd = ::memfd_create("cricket-shared", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0) return -1;
    if (::write(fd, &shared, sizeof shared) == static_cast<ssize_t>(sizeof shared) &&
        ::fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL) == 0)
        return fd;
    ::close(fd);
    return -1;
}

}  // namespace

bool read_descriptor(const char* function, void* descriptor, SharedHandle* shared) {
    const int fd = static_cast<int>(reinterpret_cast<intptr_t>(descriptor));
    if (::pread(fd, static_cast<void*>(shared), sizeof *shared, 0) == static_cast<ssize_t>(sizeof *shared) && shared->magic == shared_magic)
        return true;
    log(LogLevel::Error, "%s: descriptor %d was not made by a program of this server", function, fd);
    return false;
}

CUresult give_descriptor(void* target, const rpc::Blob& blob) {
    SharedHandle shared;
    if (blob.size != sizeof shared) return CUDA_ERROR_UNKNOWN;
    std::memcpy(static_cast<void*>(&shared), blob.data, sizeof shared);
    const int fd = make_descriptor(shared);
    if (fd < 0) return CUDA_ERROR_OUT_OF_MEMORY;
    std::memcpy(target, &fd, sizeof fd);
    return CUDA_SUCCESS;
}

CUresult impl_cuMemExportToShareableHandle(void* shareableHandle, CUmemGenericAllocationHandle handle,
                                           CUmemAllocationHandleType handleType, unsigned long long flags) {
    if (!initialized()) return CUDA_ERROR_NOT_INITIALIZED;
    if (!shareableHandle) return CUDA_ERROR_INVALID_VALUE;
    cuMemExportToShareableHandle_args args{};
    cuMemExportToShareableHandle_res res{};
    args.handle = handle;
    args.handleType = handleType;
    args.flags = flags;
    ReplyGuard guard;
    const CUresult result = call(args, res);
    return result == CUDA_SUCCESS ? give_descriptor(shareableHandle, res.shared) : result;
}

CUresult impl_cuMemImportFromShareableHandle(CUmemGenericAllocationHandle* handle, void* osHandle,
                                             CUmemAllocationHandleType shHandleType) {
    if (!initialized()) return CUDA_ERROR_NOT_INITIALIZED;
    if (!handle) return CUDA_ERROR_INVALID_VALUE;
    if (shHandleType != CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR)
        return shHandleType == CU_MEM_HANDLE_TYPE_FABRIC
                   ? unsupported("cuMemImportFromShareableHandle", "fabric handles reach other machines")
                   : CUDA_ERROR_INVALID_VALUE;
    SharedHandle shared;
    if (!read_descriptor("cuMemImportFromShareableHandle", osHandle, &shared)) return CUDA_ERROR_UNKNOWN;
    cuMemImportFromShareableHandle_args args{};
    cuMemImportFromShareableHandle_res res{};
    args.shHandleType = shHandleType;
    args.shared = {&shared, sizeof shared, true, false};
    ReplyGuard guard;
    const CUresult result = call(args, res);
    if (result == CUDA_SUCCESS) *handle = res.handle;
    return result;
}

// Of no object at all the driver says that it is not supported.
CUresult impl_cuMulticastGetGranularity(size_t* granularity, const CUmulticastObjectProp* prop, CUmulticastGranularity_flags option) {
    if (!initialized()) return CUDA_ERROR_NOT_INITIALIZED;
    if (!prop) return CUDA_ERROR_NOT_SUPPORTED;
    if (!granularity) return CUDA_ERROR_INVALID_VALUE;
    cuMulticastGetGranularity_args args{};
    cuMulticastGetGranularity_res res{};
    args.prop = *prop;
    args.option = option;
    ReplyGuard guard;
    const CUresult result = call(args, res);
    if (result == CUDA_SUCCESS) *granularity = res.granularity;
    return result;
}

}  // namespace cricket::client
