// SPDX-License-Identifier: MIT
// Occupancy of launches with clusters. A configuration without a stream means no stream in particular.
#include "dispatch.h"
#include "launch_config.h"

namespace cricket::server {
namespace {

template <class Args>
CUresult prepare(Call& call, const Args& args, std::vector<CUlaunchAttribute>* attributes, CUlaunchConfig* config,
                 CUfunction* function) {
    if (!args.func || !driver_function(call, args.func, function)) return CUDA_ERROR_INVALID_HANDLE;
    return launch_config(call, args, attributes, config);
}

}  // namespace

void serve_cuOccupancyMaxActiveClusters(Call& call, const cuOccupancyMaxActiveClusters_args& args,
                                        cuOccupancyMaxActiveClusters_res& res) {
    std::vector<CUlaunchAttribute> attributes;
    CUlaunchConfig config;
    CUfunction function = nullptr;
    res.status = call.driver.cuOccupancyMaxActiveClusters ? prepare(call, args, &attributes, &config, &function)
                                                          : CUDA_ERROR_NOT_SUPPORTED;
    int clusters = 0;
    if (res.status == CUDA_SUCCESS) res.status = call.driver.cuOccupancyMaxActiveClusters(&clusters, function, &config);
    res.numClusters = clusters;
}

void serve_cuOccupancyMaxPotentialClusterSize(Call& call, const cuOccupancyMaxPotentialClusterSize_args& args,
                                              cuOccupancyMaxPotentialClusterSize_res& res) {
    std::vector<CUlaunchAttribute> attributes;
    CUlaunchConfig config;
    CUfunction function = nullptr;
    res.status = call.driver.cuOccupancyMaxPotentialClusterSize ? prepare(call, args, &attributes, &config, &function)
                                                                : CUDA_ERROR_NOT_SUPPORTED;
    int size = 0;
    if (res.status == CUDA_SUCCESS) res.status = call.driver.cuOccupancyMaxPotentialClusterSize(&size, function, &config);
    res.clusterSize = size;
}

}  // namespace cricket::server
