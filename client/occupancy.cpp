// SPDX-License-Identifier: MIT
// Occupancy: launch configurations are packed as launches are; the search for a block size runs here when the
// application's callback says how much shared memory a block needs, since only this process can call it.
#include <algorithm>

#include "client/contexts.h"
#include "client/devices.h"
#include "client/reply_guard.h"
#include "custom.h"
#include "stub_support.h"

namespace cricket::client {
namespace {

template <class Args, class Res>
CUresult of_config(CUfunction func, const CUlaunchConfig* config, Args& args, Res& res) {
    if (config->numAttrs && !config->attrs) return CUDA_ERROR_INVALID_VALUE;
    if (config->numAttrs > 64) return CUDA_ERROR_INVALID_VALUE;
    if (!func) return CUDA_ERROR_INVALID_HANDLE;
    args.func = to_number(func);
    args.gridDimX = config->gridDimX;
    args.gridDimY = config->gridDimY;
    args.gridDimZ = config->gridDimZ;
    args.blockDimX = config->blockDimX;
    args.blockDimY = config->blockDimY;
    args.blockDimZ = config->blockDimZ;
    args.sharedMemBytes = config->sharedMemBytes;
    args.hStream = to_number(config->hStream);
    args.attributes = {config->attrs, static_cast<uint32_t>(config->numAttrs * sizeof(CUlaunchAttribute)), true, false};
    return call(args, res);
}

CUresult active_blocks(int* blocks, CUfunction func, int block_size, size_t shared_bytes, unsigned flags) {
    cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags_args args{};
    cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags_res res{};
    args.func = to_number(func);
    args.blockSize = block_size;
    args.dynamicSMemSize = shared_bytes;
    args.flags = flags;
    ReplyGuard guard;
    const CUresult result = call(args, res);
    *blocks = res.numBlocks;
    return result;
}

// The largest block among those with the most resident threads, tried from the largest multiple of a warp down.
CUresult search(int* min_grid, int* best_block, CUfunction func, CUoccupancyB2DSize shared_of, int limit,
                unsigned flags) {
    CUdevice device;
    if (CUresult result = contexts::current_device(&device); result != CUDA_SUCCESS) return result;
    int warp, most_threads, device_limit, multiprocessors, function_limit;
    const struct {
        CUdevice_attribute attribute;
        int* value;
    } wanted[] = {{CU_DEVICE_ATTRIBUTE_WARP_SIZE, &warp},
                  {CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_MULTIPROCESSOR, &most_threads},
                  {CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK, &device_limit},
                  {CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT, &multiprocessors}};
    for (const auto& one : wanted)
        if (CUresult result = devices::attribute(one.value, one.attribute, device); result != CUDA_SUCCESS)
            return result;
    if (CUresult result = ::cuFuncGetAttribute(&function_limit, CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK, func);
        result != CUDA_SUCCESS)
        return result;
    if (limit == 0 || limit > device_limit) limit = device_limit;
    limit = std::min(limit, function_limit);
    int most = 0, most_block = 0, most_blocks = 0;
    for (int aligned = (limit + warp - 1) / warp * warp; aligned > 0 && most < most_threads; aligned -= warp) {
        const int block = std::min(aligned, limit);
        int blocks = 0;
        if (CUresult result = active_blocks(&blocks, func, block, shared_of(block), flags); result != CUDA_SUCCESS)
            return result;
        if (block * blocks <= most) continue;
        most = block * blocks;
        most_block = block;
        most_blocks = blocks;
    }
    *min_grid = most_blocks * multiprocessors;
    *best_block = most_block;
    return CUDA_SUCCESS;
}

template <class Args, class Res>
CUresult by_driver(int* min_grid, int* block_size, Args& args, Res& res) {
    ReplyGuard guard;
    const CUresult result = call(args, res);
    if (result != CUDA_SUCCESS) return result;
    *min_grid = res.minGridSize;
    *block_size = res.blockSize;
    return CUDA_SUCCESS;
}

}  // namespace

CUresult impl_cuOccupancyMaxActiveClusters(int* numClusters, CUfunction func, const CUlaunchConfig* config) {
    if (!initialized()) return CUDA_ERROR_NOT_INITIALIZED;
    if (!numClusters || !config) return CUDA_ERROR_INVALID_VALUE;
    cuOccupancyMaxActiveClusters_args args{};
    cuOccupancyMaxActiveClusters_res res{};
    ReplyGuard guard;
    const CUresult result = of_config(func, config, args, res);
    if (result == CUDA_SUCCESS) *numClusters = res.numClusters;
    return result;
}

CUresult impl_cuOccupancyMaxPotentialClusterSize(int* clusterSize, CUfunction func, const CUlaunchConfig* config) {
    if (!initialized()) return CUDA_ERROR_NOT_INITIALIZED;
    if (!clusterSize || !config) return CUDA_ERROR_INVALID_VALUE;
    cuOccupancyMaxPotentialClusterSize_args args{};
    cuOccupancyMaxPotentialClusterSize_res res{};
    ReplyGuard guard;
    const CUresult result = of_config(func, config, args, res);
    if (result == CUDA_SUCCESS) *clusterSize = res.clusterSize;
    return result;
}

CUresult impl_cuOccupancyMaxPotentialBlockSize(int* minGridSize, int* blockSize, CUfunction func,
                                               CUoccupancyB2DSize blockSizeToDynamicSMemSize, size_t dynamicSMemSize,
                                               int blockSizeLimit) {
    if (!minGridSize || !blockSize || blockSizeLimit < 0) return null_pointer();
    if (!current_context()) return need_context();
    if (!func) return CUDA_ERROR_INVALID_HANDLE;
    if (blockSizeToDynamicSMemSize)
        return search(minGridSize, blockSize, func, blockSizeToDynamicSMemSize, blockSizeLimit, CU_OCCUPANCY_DEFAULT);
    cuOccupancyMaxPotentialBlockSize_args args{};
    cuOccupancyMaxPotentialBlockSize_res res{};
    args.func = to_number(func);
    args.dynamicSMemSize = dynamicSMemSize;
    args.blockSizeLimit = blockSizeLimit;
    return by_driver(minGridSize, blockSize, args, res);
}

CUresult impl_cuOccupancyMaxPotentialBlockSizeWithFlags(int* minGridSize, int* blockSize, CUfunction func,
                                                        CUoccupancyB2DSize blockSizeToDynamicSMemSize,
                                                        size_t dynamicSMemSize, int blockSizeLimit,
                                                        unsigned int flags) {
    if (!minGridSize || !blockSize || blockSizeLimit < 0) return null_pointer();
    if (!current_context()) return need_context();
    if (!func) return CUDA_ERROR_INVALID_HANDLE;
    if (blockSizeToDynamicSMemSize)
        return search(minGridSize, blockSize, func, blockSizeToDynamicSMemSize, blockSizeLimit, flags);
    cuOccupancyMaxPotentialBlockSizeWithFlags_args args{};
    cuOccupancyMaxPotentialBlockSizeWithFlags_res res{};
    args.func = to_number(func);
    args.dynamicSMemSize = dynamicSMemSize;
    args.blockSizeLimit = blockSizeLimit;
    args.flags = flags;
    return by_driver(minGridSize, blockSize, args, res);
}

}  // namespace cricket::client
