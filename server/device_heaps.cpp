// SPDX-License-Identifier: MIT
#include "device_heaps.h"

#include "image_facts.h"
#include "session.h"
#include "variables.h"

namespace cricket::server {
namespace {

constexpr size_t largest_looked_at = 4u << 20;  // the unpacking of larger images takes longer than a call may

// A function's image, and its name there.
bool code_of(Session& session, uint64_t number, Attachment* image, std::string* name) {
    const char* text = nullptr;
    CUresult status = CUDA_ERROR_NOT_SUPPORTED;
    const DriverTable& driver = session.driver;
    if (Objects::kind_of(number) == HandleKind::Kernel) {
        auto* kernel = static_cast<CUkernel>(session.objects.get(HandleKind::Kernel, number));
        if (kernel && driver.cuKernelGetName) status = driver.cuKernelGetName(&text, kernel);
    } else if (Objects::kind_of(number) == HandleKind::Function) {
        auto* function = static_cast<CUfunction>(session.objects.get(HandleKind::Function, number));
        if (function && driver.cuFuncGetName) status = driver.cuFuncGetName(&text, function);
    }
    if (status != CUDA_SUCCESS || !text) return false;
    *name = text;
    for (uint64_t of = number; of; of = session.journal.owner(of)) {
        const JournalEntry* made = session.journal.creation(of);
        if (!made) return false;
        *image = made->attachment;
        if (*image) return true;
    }
    return false;
}

bool uses_heap(Session& session, const Attachment& image, const std::string& name, uint64_t context) {
    const auto device = session.context_devices.find(context);
    if (device == session.context_devices.end()) return false;
    try {
        return image_facts(image, arch_of(session.driver, device->second)).heap_kernels.count(name) != 0;
    } catch (const std::exception&) {
        return false;  // a snapshot says itself that the image cannot be read
    }
}

}  // namespace

void DeviceHeaps::before_launch(Call& call, uint64_t function) {
    Session& session = call.session;
    Objects::Entry* entry = call.objects.entry(Objects::kind_of(function), function);
    const uint64_t context = session.current_home();
    if (!entry || !context || entry->may_run_in == context) [[likely]]
        return;
    entry->may_run_in = context;
    Code code;
    if (!ran_.count({function, context}) && code_of(session, function, &code.image, &code.name))
        ran_[{function, context}] = std::move(code);
}

void DeviceHeaps::context_gone(uint64_t context) {
    std::erase_if(ran_, [&](const auto& one) { return one.first.second == context; });
    users_.erase(context);
    std::erase_if(gone_, [&](const auto& one) { return one.first.first == context; });
}

void DeviceHeaps::object_gone(Session& session, uint64_t number) {
    for (auto one = ran_.lower_bound({number, 0}); one != ran_.end() && one->first.first == number; one = ran_.erase(one)) {
        const uint64_t context = one->first.second;
        Code& code = one->second;
        if (users_.count(context)) continue;
        if (code.image->size() > largest_looked_at)
            gone_[{context, code.name}] = std::move(code);
        else if (uses_heap(session, code.image, code.name, context))
            users_[context] = code.name;
    }
}

std::string DeviceHeaps::refusal(Session& session) const {
    std::string user = users_.empty() ? std::string() : users_.begin()->second;
    for (auto one = ran_.begin(); one != ran_.end() && user.empty(); ++one)
        if (uses_heap(session, one->second.image, one->second.name, one->first.second)) user = one->second.name;
    for (auto one = gone_.begin(); one != gone_.end() && user.empty(); ++one)
        if (uses_heap(session, one->second.image, one->second.name, one->first.first)) user = one->second.name;
    if (user.empty()) return {};
    return "kernel " + user + " has run, which calls malloc() or free() on the device, and the device heap cannot be restored";
}

}  // namespace cricket::server
