// SPDX-License-Identifier: MIT
// The variables of a session's modules and libraries: __device__, __constant__ and __managed__, static ones included.
// The driver chooses where they live; a restore must find them at the same addresses.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "image_facts.h"
#include "session.h"

namespace cricket::server {

int arch_of(const DriverTable& driver, CUdevice device);  // 10 * major + minor

// A living module, or a library as it is loaded in one context.
struct LoadedImage {
    uint64_t number, context;
    bool library;
    void* handle;  // CUmodule or CUlibrary
    const ImageFacts& facts;
};
void each_loaded_image(Session& session, const std::function<void(const LoadedImage&)>& visit);

// Images whose facts each_loaded_image() would find out: in a thread of the caller's choice, since that takes seconds.
std::vector<std::pair<Attachment, int>> loaded_images(Session& session);

struct ModuleVariable {
    uint64_t image = 0;    // session number of the module or library
    uint64_t context = 0;  // in which context
    std::string name;
    uint64_t address = 0, bytes = 0;
};

// Asks the driver for every variable that the living images name. Throws std::runtime_error for an image that cannot
// be read.
std::vector<ModuleVariable> module_variables(Session& session);

}  // namespace cricket::server
