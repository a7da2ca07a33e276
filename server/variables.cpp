// SPDX-License-Identifier: MIT
#include "variables.h"

#include <algorithm>

namespace cricket::server {

int arch_of(const DriverTable& driver, CUdevice device) {
    int major = 0, minor = 0;
    driver.cuDeviceGetAttribute(&major, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, device);
    driver.cuDeviceGetAttribute(&minor, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR, device);
    return 10 * major + minor;
}

void each_loaded_image(Session& session, const std::function<void(const LoadedImage&)>& visit) {
    for (const auto& [place, entry] : session.journal.entries()) {
        const uint64_t number = entry.effect.object;
        if (entry.effect.kind != Effect::Kind::Create || !entry.attachment) continue;
        if (session.journal.creation(number) != &entry) continue;  // unloaded since
        const bool library = Objects::kind_of(number) == HandleKind::Library;
        void* handle = session.objects.get(Objects::kind_of(number), number);
        if (!handle) continue;
        for (const auto& [context, device] : session.context_devices)
            if (library ? session.loading.library_in(number, context) : entry.effect.owner == context)
                visit({number, context, library, handle, image_facts(entry.attachment, arch_of(session.driver, device))});
    }
}

std::vector<std::pair<Attachment, int>> loaded_images(Session& session) {
    std::vector<std::pair<Attachment, int>> found;
    for (const auto& [place, entry] : session.journal.entries()) {
        if (entry.effect.kind != Effect::Kind::Create || !entry.attachment) continue;
        if (session.journal.creation(entry.effect.object) != &entry) continue;
        for (const auto& [context, device] : session.context_devices) {
            const std::pair one(entry.attachment, arch_of(session.driver, device));
            if (std::ranges::find(found, one) == found.end()) found.push_back(one);
        }
    }
    return found;
}

std::vector<ModuleVariable> module_variables(Session& session) {
    std::vector<ModuleVariable> found;
    const DriverTable& driver = session.driver;
    each_loaded_image(session, [&](const LoadedImage& image) {
        if (image.facts.variables.empty() || session.make_current(image.context) != CUDA_SUCCESS) return;
        CUmodule module = image.library ? nullptr : static_cast<CUmodule>(image.handle);
        if (image.library &&
            driver.cuLibraryGetModule(&module, static_cast<CUlibrary>(image.handle)) != CUDA_SUCCESS)
            return;
        for (const std::string& name : image.facts.variables) {
            CUdeviceptr address = 0;
            size_t bytes = 0;
            if (driver.cuModuleGetGlobal(&address, &bytes, module, name.c_str()) == CUDA_SUCCESS && bytes)
                found.push_back({image.number, image.context, name, address, bytes});
        }
    });
    return found;
}

}  // namespace cricket::server
