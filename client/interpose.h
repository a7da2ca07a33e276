// SPDX-License-Identifier: MIT
#pragma once

namespace cricket::client {

// Whether dlopen(file) means the CUDA driver: libcuda.so, libcuda.so.1 or another version, with or without a
// path.
bool names_driver(const char* file);
// The same for NVML: libnvidia-ml.so.
bool names_nvml(const char* file);
// Whether it asks for NVDEC or NVENC, which cannot be remoted.
bool names_video(const char* file);

// A handle of our NVML library, null with dlerror() if it is not beside us.
void* nvml_library();

}  // namespace cricket::client
