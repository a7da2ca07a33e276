// SPDX-License-Identifier: MIT
#include "variables.h"

#include <set>
#include <stdexcept>

#include "rpc/image/image.h"

namespace cricket::server {
namespace {

std::set<std::string> names_in(std::span<const std::byte> bytes) {
    std::set<std::string> names;
    for (const image::Member& member : image::members(bytes))
        for (const image::Variable& variable : image::variables(member)) names.insert(variable.name);
    return names;
}

}  // namespace

std::vector<ModuleVariable> module_variables(Session& session) {
    std::vector<ModuleVariable> found;
    const DriverTable& driver = session.driver;
    for (const auto& [place, entry] : session.journal.entries()) {
        const uint64_t number = entry.effect.object;
        if (entry.effect.kind != Effect::Kind::Create || !entry.attachment) continue;
        if (session.journal.creation(number) != &entry) continue;  // unloaded since
        const bool library = Objects::kind_of(number) == HandleKind::Library;
        void* handle = session.objects.get(Objects::kind_of(number), number);
        if (!handle) continue;
        const std::set<std::string> names = names_in(entry.attachment->span());
        if (names.empty()) continue;
        for (const auto& [context, device] : session.context_devices) {
            if (library ? !session.loading.library_in(number, context) : entry.effect.owner != context) continue;
            if (session.make_current(context) != CUDA_SUCCESS) continue;
            CUmodule module = library ? nullptr : static_cast<CUmodule>(handle);
            if (library && driver.cuLibraryGetModule(&module, static_cast<CUlibrary>(handle)) != CUDA_SUCCESS) continue;
            for (const std::string& name : names) {
                CUdeviceptr address = 0;
                size_t bytes = 0;
                if (driver.cuModuleGetGlobal(&address, &bytes, module, name.c_str()) != CUDA_SUCCESS || !bytes) continue;
                found.push_back({number, context, name, address, bytes});
            }
        }
    }
    return found;
}

}  // namespace cricket::server
