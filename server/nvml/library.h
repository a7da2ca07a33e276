// SPDX-License-Identifier: MIT
// The machine's libnvidia-ml.so.1, in the process that serves it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "rpc/nvml/function.h"

namespace cricket::server {

// Which NVML goes with a driver: `wanted` if given; the one beside the driver; the software GPU's; for the machine's
// own driver the linker's, by name. Empty: none. Loads nothing.
std::string choose_nvml(const std::string& wanted, const std::string& driver, const std::string& driver_path);

// Of the one thread that serves NVML.
class NvmlLibrary {
  public:
    explicit NvmlLibrary(std::string path) : path_(std::move(path)) {}
    ~NvmlLibrary();
    NvmlLibrary(const NvmlLibrary&) = delete;

    // Loads and initializes it, at the first call and after one that failed. A result of NVML.
    int ready(uint32_t flags);
    // The library's function, null if it has none of that name or at that place. ready() came first.
    void* symbol(const char* name) const;
    void* symbol(const nvml::Function& function);
    template <typename Type>
    Type* function(const char* name) const {
        return reinterpret_cast<Type*>(symbol(name));
    }

  private:
    void* in_table(uint16_t slot) const;

    std::string path_;
    void* library_ = nullptr;
    bool initialized_ = false;
    bool said_ = false;
    std::vector<void*> symbols_;  // by place in nvml::functions
};

}  // namespace cricket::server
