// SPDX-License-Identifier: MIT
// Loaded code. A module is a program in one context, with storage for its variables; a library is a program
// from which a module is made in each context that uses it. Functions and kernels name one entry of them.
#pragma once

#include <span>
#include <string>

#include "context.h"
#include "ptx/ptx.h"

namespace softgpu {

// What cuFuncSetAttribute and cuKernelSetAttribute set; -1: not set.
struct Settings {
    std::atomic<int> max_dynamic_shared = -1, carveout = -1, non_portable_cluster = 0, cluster_policy = 0;
};

class Module;

struct Function {
    std::shared_ptr<Module> module;
    CUfunction handle = nullptr;
    const ptx::Kernel* kernel = nullptr;  // in module->code
    std::shared_ptr<Settings> settings;   // of the CUkernel where there is one
};

class Module {
  public:
    struct Variable {
        std::string name;
        uint64_t address, size;
        bool managed;
    };

    // Gives the variables their places and first values.
    Module(std::shared_ptr<Context> context, std::unique_ptr<ptx::Module> code);

    const std::shared_ptr<Context> context;
    const std::unique_ptr<ptx::Module> code;
    CUmodule handle = nullptr;
    uint64_t library = 0;  // Library::id, 0 for one that cuModuleLoad* made
    std::vector<Variable> variables;
    std::vector<CUfunction> functions;  // in the order of code->kernels()

    // Takes the variables away; nothing may run in it any more.
    void unload();
    const Variable& variable(const char* name) const;  // or CUDA_ERROR_NOT_FOUND

  private:
    uint64_t base_ = 0, size_ = 0;
};

struct Kernel {
    uint64_t library = 0;  // Library::id
    CUlibrary library_handle = nullptr;
    size_t index = 0;  // among the entries of the program
    ptx::Kernel info;
    std::vector<std::shared_ptr<Settings>> settings;  // by device
};

struct Library {
    uint64_t id = 0;
    CUlibrary handle = nullptr;
    std::string ptx;
    std::mutex mutex;
    std::unique_ptr<ptx::Module> parsed;  // for the first module made; guarded by mutex
    std::vector<ptx::Variable> variables;
    std::vector<CUkernel> kernels;
};

using Modules = Registry<Module, CUmodule, 0x7c05>;
using Functions = Registry<Function, CUfunction, 0x7c06>;
using Libraries = Registry<Library, CUlibrary, 0x7c07>;
using Kernels = Registry<Kernel, CUkernel, 0x7c08>;
inline Modules& modules() {
    return immortal<Modules>();
}
inline Functions& functions() {
    return immortal<Functions>();
}
inline Libraries& libraries() {
    return immortal<Libraries>();
}
inline Kernels& kernels() {
    return immortal<Kernels>();
}

// Options of the compiler that loading runs; the logs are all that is used.
struct JitOptions {
    JitOptions(unsigned count, const CUjit_option* options, void** values);
    void report(const std::string& error) const;  // fills the logs, and their sizes

  private:
    char *error_ = nullptr, *info_ = nullptr;
    size_t error_size_ = 0, info_size_ = 0;
    void **error_filled_ = nullptr, **info_filled_ = nullptr;
};

// The PTX of an image that runs on this device; fails as cuModuleLoadData does.
std::string ptx_of(const void* image);
std::unique_ptr<ptx::Module> compile(const std::string& text, const JitOptions& options);
std::vector<char> read_file(const char* path);  // with a NUL behind the contents

// Makes handles for a new module and its functions. For one of a library: its id, and the settings of each
// entry.
std::shared_ptr<Module> enter_module(std::shared_ptr<Context> context, std::unique_ptr<ptx::Module> code,
                                     uint64_t library = 0,
                                     std::span<const std::shared_ptr<Settings>> settings = {});
void unload_module(const std::shared_ptr<Module>& module);
void unload_modules_of(Context& context);

// The function that a handle means: a CUfunction, or a CUkernel, which stands for its function in this
// context.
std::shared_ptr<Function> function(CUfunction handle, const std::shared_ptr<Context>& context);
std::shared_ptr<Module> module_of_library(CUlibrary library, const std::shared_ptr<Context>& context);

// How many blocks of so many threads fit on a multiprocessor; 0 for a block that never fits.
int blocks_per_multiprocessor(const ptx::Kernel& kernel, int threads, size_t dynamic_shared);
int function_attribute(const ptx::Kernel& kernel, const Settings& settings, CUfunction_attribute which);
void set_function_attribute(const ptx::Kernel& kernel, Settings& settings, CUfunction_attribute which,
                            int value);

}  // namespace softgpu
