// SPDX-License-Identifier: MIT
// The compile cache that NVRTC and nvJitLink ask of the driver by an export table: what the compiler made of the same input with the
// same options before. cuDNN compiles the same source for every length of a sequence. In files in a folder of our own below
// the driver's (CUDA_CACHE_PATH, ~/.nv/ComputeCache), since the server's machine need not be this one; CUDA_CACHE_DISABLE and
// CUDA_CACHE_MAXSIZE are as the driver's. The calls were found out by watching both libraries (CUDA 13.0).
#pragma once

#include <cuda.h>

#include <cstddef>
#include <cstdint>

namespace cricket::client::compile_cache {

struct Question;  // one compilation, from begin() to end()

// `kind`: 1 makes a cubin, 2 PTX; a cubin is kept where its PTX was asked for just before. `target` and `built` say which compiler it is; `arch`: 10 * major + minor.
CUresult begin(Question** question, uint32_t kind, const void* input, size_t bytes, const char* options, const char* target, const char* built,
               uint32_t arch);
CUresult end(Question* question);
// NOT_FOUND where it is not there. `*data` is the caller's until release(), also after end().
CUresult find(Question* question, uint32_t part, void** data, uint32_t* bytes);
CUresult store(Question* question, uint32_t part, const void* data, uint32_t bytes);
CUresult release(void* data);

}  // namespace cricket::client::compile_cache
