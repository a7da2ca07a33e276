// SPDX-License-Identifier: MIT
// Launches of CUDA before version 4: a function's block shape, shared memory and parameters are set one by one and kept
// here until it is launched, as often as it is. Also the cooperative launch on several devices.
#include <pthread.h>

#include <cstdlib>
#include <cstring>

#include "calls.h"
#include "client/contexts.h"
#include "client/locked.h"
#include "client/packed_parameters.h"
#include "cricket/multi_launch.h"
#include "custom.h"
#include "client/reply_guard.h"

namespace cricket::client {
namespace {

constexpr unsigned most_parameter_bytes = 32764;

struct State {
    State* next;
    uint64_t function;
    unsigned block[3];
    unsigned shared_bytes;
    unsigned parameter_bytes;
    unsigned capacity;
    std::byte* parameters;
};

pthread_mutex_t states_lock = PTHREAD_MUTEX_INITIALIZER;  // of the states and what is in them
State* states = nullptr;

CUresult usable(CUfunction function) {
    if (!initialized()) return CUDA_ERROR_NOT_INITIALIZED;
    if (!current_context()) return need_context();
    return function ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
}

State* state_of(CUfunction function) {
    const uint64_t number = to_number(function);
    for (State* state = states; state; state = state->next)
        if (state->function == number) return state;
    auto* fresh = static_cast<State*>(std::calloc(1, sizeof(State)));
    if (!fresh) return nullptr;
    fresh->function = number;
    fresh->next = states;
    return states = fresh;
}

bool reserve(State* state, unsigned bytes) {
    if (bytes <= state->capacity) return true;
    auto* grown = static_cast<std::byte*>(std::realloc(state->parameters, bytes));
    if (!grown) return false;
    std::memset(grown + state->capacity, 0, bytes - state->capacity);
    state->parameters = grown;
    state->capacity = bytes;
    return true;
}

CUresult set_parameter(CUfunction function, int offset, const void* value, unsigned bytes) {
    if (CUresult result = usable(function); result != CUDA_SUCCESS) return result;
    if (offset < 0 || !value || bytes > most_parameter_bytes || static_cast<unsigned>(offset) > most_parameter_bytes - bytes)
        return CUDA_ERROR_INVALID_VALUE;
    Locked locked(states_lock);
    State* state = state_of(function);
    if (!state || !reserve(state, static_cast<unsigned>(offset) + bytes)) return CUDA_ERROR_OUT_OF_MEMORY;
    std::memcpy(state->parameters + offset, value, bytes);
    return CUDA_SUCCESS;
}

CUresult launch(CUfunction function, int width, int height, CUstream stream) {
    if (CUresult result = usable(function); result != CUDA_SUCCESS) return result;
    if (width <= 0 || height <= 0) return CUDA_ERROR_INVALID_VALUE;
    Locked locked(states_lock);  // over the launch too: it reads the parameters, and is only posted
    State* state = state_of(function);
    if (!state || !reserve(state, state->parameter_bytes)) return CUDA_ERROR_OUT_OF_MEMORY;
    size_t bytes = state->parameter_bytes;
    void* extra[] = {CU_LAUNCH_PARAM_BUFFER_POINTER, state->parameters, CU_LAUNCH_PARAM_BUFFER_SIZE, &bytes,
                     CU_LAUNCH_PARAM_END};
    return impl_cuLaunchKernel(0, function, static_cast<unsigned>(width), static_cast<unsigned>(height), 1,
                               state->block[0], state->block[1], state->block[2], state->shared_bytes, stream, nullptr,
                               bytes ? extra : nullptr);
}

}  // namespace

CUresult impl_cuFuncSetBlockShape(CUfunction hfunc, int x, int y, int z) {
    if (CUresult result = usable(hfunc); result != CUDA_SUCCESS) return result;
    if (x <= 0 || y <= 0 || z <= 0) return CUDA_ERROR_INVALID_VALUE;
    Locked locked(states_lock);
    State* state = state_of(hfunc);
    if (!state) return CUDA_ERROR_OUT_OF_MEMORY;
    state->block[0] = static_cast<unsigned>(x);
    state->block[1] = static_cast<unsigned>(y);
    state->block[2] = static_cast<unsigned>(z);
    return CUDA_SUCCESS;
}

CUresult impl_cuFuncSetSharedSize(CUfunction hfunc, unsigned int bytes) {
    if (CUresult result = usable(hfunc); result != CUDA_SUCCESS) return result;
    Locked locked(states_lock);
    State* state = state_of(hfunc);
    if (!state) return CUDA_ERROR_OUT_OF_MEMORY;
    state->shared_bytes = bytes;
    return CUDA_SUCCESS;
}

CUresult impl_cuParamSetSize(CUfunction hfunc, unsigned int numbytes) {
    if (CUresult result = usable(hfunc); result != CUDA_SUCCESS) return result;
    if (numbytes > most_parameter_bytes) return CUDA_ERROR_INVALID_VALUE;
    Locked locked(states_lock);
    State* state = state_of(hfunc);
    if (!state) return CUDA_ERROR_OUT_OF_MEMORY;
    state->parameter_bytes = numbytes;
    return CUDA_SUCCESS;
}

CUresult impl_cuParamSeti(CUfunction hfunc, int offset, unsigned int value) {
    return set_parameter(hfunc, offset, &value, sizeof value);
}

CUresult impl_cuParamSetf(CUfunction hfunc, int offset, float value) {
    return set_parameter(hfunc, offset, &value, sizeof value);
}

CUresult impl_cuParamSetv(CUfunction hfunc, int offset, void* ptr, unsigned int numbytes) {
    return set_parameter(hfunc, offset, ptr, numbytes);
}

CUresult impl_cuLaunch(CUfunction f) { return launch(f, 1, 1, nullptr); }

CUresult impl_cuLaunchGrid(CUfunction f, int grid_width, int grid_height) {
    return launch(f, grid_width, grid_height, nullptr);
}

CUresult impl_cuLaunchGridAsync(CUfunction f, int grid_width, int grid_height, CUstream hStream) {
    return launch(f, grid_width, grid_height, hStream);
}

CUresult impl_cuLaunchCooperativeKernelMultiDevice(CUDA_LAUNCH_PARAMS* launchParamsList, unsigned int numDevices,
                                                   unsigned int flags) {
    if (!initialized()) return CUDA_ERROR_NOT_INITIALIZED;
    if (!launchParamsList || !numDevices || numDevices > most_multi_launches) return CUDA_ERROR_INVALID_VALUE;
    MultiLaunch launches[most_multi_launches];
    auto* params = static_cast<std::byte*>(std::malloc(size_t(numDevices) * 65536));
    if (!params) return CUDA_ERROR_OUT_OF_MEMORY;
    uint32_t used = 0;
    CUresult result = CUDA_SUCCESS;
    for (unsigned i = 0; result == CUDA_SUCCESS && i < numDevices; ++i) {
        const CUDA_LAUNCH_PARAMS& one = launchParamsList[i];
        PackedParameters packed;
        result = one.function ? packed.pack(to_number(one.function), one.kernelParams, nullptr) : CUDA_ERROR_INVALID_HANDLE;
        if (result != CUDA_SUCCESS) break;
        if (packed.blob.size > 65536) result = CUDA_ERROR_INVALID_VALUE;
        else if (packed.blob.size) std::memcpy(params + used, packed.blob.data, packed.blob.size);
        used += packed.blob.size;
        launches[i] = {to_number(one.function),
                       to_number(one.hStream),
                       {one.gridDimX, one.gridDimY, one.gridDimZ},
                       {one.blockDimX, one.blockDimY, one.blockDimZ},
                       one.sharedMemBytes,
                       packed.blob.size,
                       {}};
    }
    if (result == CUDA_SUCCESS) {
        cuLaunchCooperativeKernelMultiDevice_args args{};
        cuLaunchCooperativeKernelMultiDevice_res res{};
        args.numDevices = numDevices;
        args.flags = flags;
        args.launches = {launches, static_cast<uint32_t>(numDevices * sizeof(MultiLaunch)), true, false};
        args.params = {params, used, true, false};
        ReplyGuard guard;
        result = call(args, res);
    }
    std::free(params);
    return result;
}

}  // namespace cricket::client
