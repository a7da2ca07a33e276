// SPDX-License-Identifier: MIT
#include "client/session.h"
#include "custom.h"

namespace cricket::client {

CUresult impl_cuInit(unsigned int Flags) { return Flags ? CUDA_ERROR_INVALID_VALUE : Session::start(); }

}  // namespace cricket::client
