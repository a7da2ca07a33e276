// SPDX-License-Identifier: MIT
// NVML's handles as numbers that mean the same in every process and after every restart: a GPU is its index, what
// lies on it is its place there. So an application may keep one over its own checkpoint, and nobody keeps a table.
#pragma once

#include <cstdint>
#include <string>

#include "nvml/library.h"
#include "rpc/nvml/codec.h"

namespace cricket::server {

class NvmlHandles final : public nvml::Translator {
  public:
    NvmlHandles(NvmlLibrary& library, std::string control_path)
        : library_(library), control_path_(std::move(control_path)) {}
    uint64_t number_of(nvml::HandleKind kind, void* real) override;
    void* real_of(nvml::HandleKind kind, uint64_t number) override;
    // The client of the session whose worker `pid` is; any other pid is itself.
    uint32_t application_of(uint32_t pid) override;

  private:
    uint64_t device_number(void* real);
    uint64_t unit_number(void* real);
    uint64_t gpu_instance_number(void* real);
    uint64_t compute_instance_number(void* real);
    void* device(uint64_t number);
    void* gpu_instance(uint64_t number);

    NvmlLibrary& library_;
    std::string control_path_;
};

}  // namespace cricket::server
