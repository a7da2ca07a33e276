// SPDX-License-Identifier: MIT
// How many blocks run at once, by the limits of device.h. There are no clusters, but ones of a single block.
#include <algorithm>

#include "module.h"
#include "stream.h"

namespace softgpu {
namespace {

int round_up(int value, int to) {
    return (value + to - 1) / to * to;
}

}  // namespace

int blocks_per_multiprocessor(const ptx::Kernel& kernel, int threads, size_t dynamic_shared) {
    if (threads > static_cast<int>(kernel.max_threads) || threads > kMaxThreadsPerBlock) return 0;
    int in_warps = round_up(threads, kWarp);
    int blocks = std::min(kMaxThreadsPerMultiprocessor / in_warps, kMaxBlocksPerMultiprocessor);
    int registers = round_up(std::max(static_cast<int>(kernel.registers), 1), 8);
    blocks = std::min(blocks, kRegisters / (registers * in_warps));
    size_t shared = kernel.static_shared_bytes + dynamic_shared;
    if (shared)
        blocks = static_cast<int>(
            std::min<size_t>(static_cast<size_t>(blocks), kSharedPerMultiprocessor / shared));
    return shared > kSharedPerBlockOptin ? 0 : blocks;
}

}  // namespace softgpu

using namespace softgpu;

CUresult cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int* blocks, CUfunction handle, int threads,
                                                              size_t shared, unsigned flags) {
    return api([&] {
        require(blocks && threads > 0 && (flags & ~unsigned{CU_OCCUPANCY_DISABLE_CACHING_OVERRIDE}) == 0);
        *blocks = blocks_per_multiprocessor(*function(handle, current())->kernel, threads, shared);
    });
}

CUresult cuOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, CUfunction f, int threads, size_t shared) {
    return cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(blocks, f, threads, shared, 0);
}

CUresult cuOccupancyMaxPotentialBlockSizeWithFlags(int* grid, int* block, CUfunction handle,
                                                   CUoccupancyB2DSize shared_of, size_t shared, int limit,
                                                   unsigned flags) {
    return api([&] {
        require(grid && block && limit >= 0 &&
                (flags & ~unsigned{CU_OCCUPANCY_DISABLE_CACHING_OVERRIDE}) == 0);
        auto f = function(handle, current());
        int most = std::min(kMaxThreadsPerBlock, static_cast<int>(f->kernel->max_threads));
        if (limit) most = std::min(most, limit);
        int best = 0, best_threads = 0, best_blocks = 0;
        for (int threads = round_up(most, kWarp); threads > 0; threads -= kWarp) {
            int used = std::min(threads, most);
            int blocks = blocks_per_multiprocessor(*f->kernel, used, shared_of ? shared_of(used) : shared);
            if (blocks * used > best) best = blocks * used, best_threads = used, best_blocks = blocks;
        }
        *block = best_threads;
        *grid = best_blocks * multiprocessors();
    });
}

CUresult cuOccupancyMaxPotentialBlockSize(int* grid, int* block, CUfunction f, CUoccupancyB2DSize shared_of,
                                          size_t shared, int limit) {
    return cuOccupancyMaxPotentialBlockSizeWithFlags(grid, block, f, shared_of, shared, limit, 0);
}

CUresult cuOccupancyAvailableDynamicSMemPerBlock(size_t* size, CUfunction handle, int blocks, int threads) {
    return api([&] {
        require(size && blocks > 0 && threads > 0 && threads <= kMaxThreadsPerBlock);
        auto f = function(handle, current());
        require(blocks * round_up(threads, kWarp) <= kMaxThreadsPerMultiprocessor &&
                blocks <= kMaxBlocksPerMultiprocessor);
        size_t each = std::min(kSharedPerMultiprocessor / static_cast<size_t>(blocks), kSharedPerBlockOptin);
        *size = each > f->kernel->static_shared_bytes ? each - f->kernel->static_shared_bytes : 0;
    });
}

namespace {

// Blocks of a cluster, from the launch's attributes or 1.
unsigned cluster_size(const CUlaunchConfig& config) {
    require(config.numAttrs == 0 || config.attrs);
    for (unsigned i = 0; i < config.numAttrs; ++i) {
        if (config.attrs[i].id != CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION) continue;
        auto& size = config.attrs[i].value.clusterDim;
        return size.x * size.y * size.z;
    }
    return 1;
}

}  // namespace

CUresult cuOccupancyMaxPotentialClusterSize(int* size, CUfunction handle, const CUlaunchConfig* config) {
    return api([&] {
        require(size && config);
        function(handle, current());
        *size = 1;
    });
}

CUresult cuOccupancyMaxActiveClusters(int* count, CUfunction handle, const CUlaunchConfig* config) {
    return api([&] {
        require(count && config);
        auto f = function(handle, current());
        require(cluster_size(*config) == 1, CUDA_ERROR_INVALID_CLUSTER_SIZE);
        auto threads = static_cast<int>(config->blockDimX * config->blockDimY * config->blockDimZ);
        require(threads > 0);
        *count = blocks_per_multiprocessor(*f->kernel, threads, config->sharedMemBytes) * multiprocessors();
    });
}
