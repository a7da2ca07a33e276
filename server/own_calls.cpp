// SPDX-License-Identifier: MIT
#include "own_calls.h"

namespace cricket::server {

Attachment own_image(const void* begin, size_t bytes) {
    const auto* first = static_cast<const std::byte*>(begin);
    return std::make_shared<const ImageBytes>(std::vector<std::byte>(first, first + bytes));
}

std::string OwnCalls::load(const Attachment& image, const std::string& what, uint64_t* module) {
    cuModuleLoadData_args args{};
    cuModuleLoadData_res res{};
    call_.attachment = image;
    execute(Proc::cuModuleLoadData, &args, &res);
    call_.attachment.reset();
    *module = res.module;
    return said("loading " + what, res.status);
}

std::string OwnCalls::unload(uint64_t module, const std::string& what) {
    cuModuleUnload_args args{};
    cuModuleUnload_res res{};
    args.hmod = module;
    execute(Proc::cuModuleUnload, &args, &res);
    return said("unloading " + what, res.status);
}

std::string OwnCalls::find(uint64_t module, const std::string& name, const std::string& what, uint64_t* function) {
    cuModuleGetFunction_args args{};
    cuModuleGetFunction_res res{};
    args.hmod = module;
    args.name.data = name.c_str();
    args.name.size = name.size() + 1;
    args.name.present = true;
    execute(Proc::cuModuleGetFunction, &args, &res);
    *function = res.hfunc;
    return said("finding " + what, res.status);
}

std::string OwnCalls::resolve(uint64_t function, const std::string& what, CUfunction* out) {
    if (session_.make_current(context_) != CUDA_SUCCESS || !session_.loading.function(call_, function, out) || !*out)
        return what + " cannot be loaded";
    return {};
}

}  // namespace cricket::server
