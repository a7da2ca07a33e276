// SPDX-License-Identifier: MIT
#include "nvml/library.h"

#include <dlfcn.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>

#include "log.h"
#include "paths.h"
#include "nvml_functions.h"

namespace cricket::server {

namespace fs = std::filesystem;

std::string choose_nvml(const std::string& wanted, const std::string& driver, const std::string& driver_path) {
    if (!wanted.empty()) {
        const fs::path path = fs::absolute(wanted).lexically_normal();
        if (::access(path.c_str(), R_OK) != 0) throw PathError("--nvml '" + path.string() + "' cannot be read: " + std::strerror(errno));
        if (!fs::is_regular_file(path)) throw PathError("--nvml '" + path.string() + "' is no file");
        return path;
    }
    const char* name = "libnvidia-ml.so.1";
    const fs::path folder = fs::path(driver_path).parent_path();
    // Beside the driver; for the software GPU in the build folder, where each library has a folder.
    for (const fs::path& place : {folder / name, (folder / "../nvml" / name).lexically_normal()})
        if (::access(place.c_str(), R_OK) == 0) return place;
    return driver == "real" ? name : "";
}

NvmlLibrary::~NvmlLibrary() {
    if (!initialized_) return;
    if (auto* shutdown = function<int()>("nvmlShutdown")) shutdown();
}

void* NvmlLibrary::symbol(const char* name) const { return ::dlsym(library_, name); }

void* NvmlLibrary::in_table(uint16_t slot) const {
    void* const* table = nullptr;
    auto* get = function<int(void* const**, const void*)>("nvmlInternalGetExportTable");
    if (!get || get(&table, nvml::table_uuid) != nvml::success || !table) return nullptr;
    const auto bytes = reinterpret_cast<uintptr_t>(table[0]);
    return bytes >= (slot + 1u) * sizeof(void*) ? table[slot] : nullptr;
}

void* NvmlLibrary::symbol(const nvml::Function& function) {
    symbols_.resize(nvml::function_count);
    void*& known = symbols_[static_cast<size_t>(&function - nvml::functions)];
    if (!known) known = function.slot ? in_table(function.slot) : symbol(function.name);
    return known;
}

int NvmlLibrary::ready(uint32_t flags) {
    if (initialized_) return nvml::success;
    if (!library_ && !path_.empty()) library_ = ::dlopen(path_.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (!library_) {
        if (!said_) log_warn("no NVML: %s", path_.empty() ? "the driver has none beside it" : ::dlerror());
        said_ = true;
        return nvml::driver_not_loaded;
    }
    if (symbol("cricket_nvml_version")) {
        if (!said_) log_error("'%s' is cricket's own library for applications, not NVIDIA's", path_.c_str());
        said_ = true;
        return nvml::library_not_found;
    }
    auto* with_flags = function<int(uint32_t)>("nvmlInitWithFlags");
    auto* plain = function<int()>("nvmlInit_v2");
    if (!with_flags && !plain) return nvml::function_not_found;
    const int status = with_flags ? with_flags(flags) : plain();
    initialized_ = status == nvml::success;
    if (initialized_)
        log_info("NVML is '%s'", path_.c_str());
    else if (!said_)
        log_warn("nvmlInit of '%s' failed with %d", path_.c_str(), status);
    said_ = !initialized_;
    return status;
}

}  // namespace cricket::server
