// SPDX-License-Identifier: MIT
// What a device can do, as far as it can be done from another process.
#include "dispatch.h"
#include "session.h"

namespace cricket::server {
namespace {

// Libraries decide by these which way to take (NCCL: multicast, dma-buf; PyTorch: fabric handles): a way that is refused
// later is not offered.
int as_offered(CUdevice_attribute attribute, int value) {
    switch (attribute) {
        case CU_DEVICE_ATTRIBUTE_SPARSE_CUDA_ARRAY_SUPPORTED:
        case CU_DEVICE_ATTRIBUTE_GPU_DIRECT_RDMA_SUPPORTED:  // of network cards in the application's machine
        case CU_DEVICE_ATTRIBUTE_GPU_DIRECT_RDMA_WITH_CUDA_VMM_SUPPORTED:
        case CU_DEVICE_ATTRIBUTE_DMA_BUF_SUPPORTED:
        case CU_DEVICE_ATTRIBUTE_HANDLE_TYPE_FABRIC_SUPPORTED:
        case CU_DEVICE_ATTRIBUTE_MULTICAST_SUPPORTED:
        case CU_DEVICE_ATTRIBUTE_HOST_NUMA_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED:
        case CU_DEVICE_ATTRIBUTE_HOST_NUMA_MEMORY_POOLS_SUPPORTED:
        case CU_DEVICE_ATTRIBUTE_HOST_NUMA_MULTINODE_IPC_SUPPORTED:
        case CU_DEVICE_ATTRIBUTE_HOST_MEMORY_POOLS_SUPPORTED:
        case CU_DEVICE_ATTRIBUTE_HOST_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED:
        case CU_DEVICE_ATTRIBUTE_HOST_ALLOC_DMA_BUF_SUPPORTED:
            return 0;
        case CU_DEVICE_ATTRIBUTE_MEMPOOL_SUPPORTED_HANDLE_TYPES:
            return value & CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR;
        default:
            return value;
    }
}

}  // namespace

void serve_cuDeviceGetAttribute(Call& call, const cuDeviceGetAttribute_args& args, cuDeviceGetAttribute_res& res) {
    int value = 0;
    const auto attribute = static_cast<CUdevice_attribute>(args.attrib);
    res.status = call.driver.cuDeviceGetAttribute(&value, attribute, args.dev);
    if (res.status == CUDA_SUCCESS) res.pi = as_offered(attribute, value);
}

}  // namespace cricket::server
