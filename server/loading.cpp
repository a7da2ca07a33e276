// SPDX-License-Identifier: MIT
#include "loading.h"

#include "dispatch.h"
#include "record.h"
#include "session.h"

namespace cricket::server {
namespace {

constexpr CUdevice no_device = -1;

// While a stream is captured, loading code is one of the calls that only a relaxed thread may make.
class Relaxed {
  public:
    explicit Relaxed(const DriverTable& driver) : driver_(driver) {
        if (driver_.cuThreadExchangeStreamCaptureMode)
            exchanged_ = driver_.cuThreadExchangeStreamCaptureMode(&mode_) == CUDA_SUCCESS;
    }
    ~Relaxed() {
        if (exchanged_) driver_.cuThreadExchangeStreamCaptureMode(&mode_);
    }
    Relaxed(const Relaxed&) = delete;
    Relaxed& operator=(const Relaxed&) = delete;

  private:
    const DriverTable& driver_;
    CUstreamCaptureMode mode_ = CU_STREAM_CAPTURE_MODE_RELAXED;
    bool exchanged_ = false;
};

}  // namespace

// One entry of the journal; `device`: for a question about a kernel.
void Loading::note(Call& call, uint64_t number, CUdevice device) {
    if (call.replaying) return;
    cricketLoad_args args{};
    args.object = number;
    args.device = device;
    record_extra(call, Proc::cricketLoad, xdr_routine(xdr_cricketLoad_args), &args, {Effect::Kind::Load, number, 0, {0, 0}});
}

bool Loading::function(Call& call, uint64_t number, CUfunction* out) {
    const bool is_kernel = Objects::kind_of(number) == HandleKind::Kernel;
    Objects::Entry* entry = call.objects.entry(is_kernel ? HandleKind::Kernel : HandleKind::Function, number);
    if (!entry) {
        *out = nullptr;
        return number == 0;
    }
    *out = static_cast<CUfunction>(entry->handle);
    const uint64_t context = call.session.current_home();
    if (entry->loaded_in == context || !context) [[likely]]
        return true;
    const bool loaded = is_kernel ? load_kernel(call, number, static_cast<CUkernel>(entry->handle))
                                  : entry->loaded_in || load_function(call, number, *out);
    if (loaded) entry->loaded_in = context;
    return true;
}

// What cuModuleGetFunction and cuKernelGetFunction hand out is loaded by them, in their place of the journal.
bool Loading::load_function(Call& call, uint64_t number, CUfunction function) {
    const DriverTable& driver = call.driver;
    if (!driver.cuFuncLoad || !driver.cuFuncIsLoaded) return true;
    CUfunctionLoadingState state = CU_FUNCTION_LOADING_STATE_UNLOADED;
    if (driver.cuFuncIsLoaded(&state, function) == CUDA_SUCCESS && state == CU_FUNCTION_LOADING_STATE_LOADED) return true;
    Relaxed relaxed(driver);
    if (driver.cuFuncLoad(function) != CUDA_SUCCESS) return false;
    note(call, number, no_device);
    return true;
}

bool Loading::load_kernel(Call& call, uint64_t number, CUkernel kernel) {
    const uint64_t context = call.session.current_home();
    if (loaded_.count({number, context})) return true;
    if (const uint64_t library_number = call.session.journal.owner(number)) library(call, library_number);
    const DriverTable& driver = call.driver;
    Relaxed relaxed(driver);
    CUfunction function = nullptr;
    if (driver.cuKernelGetFunction(&function, kernel) != CUDA_SUCCESS) return false;
    if (driver.cuFuncLoad && driver.cuFuncLoad(function) != CUDA_SUCCESS) return false;
    note(call, number, no_device);
    loaded_.insert({number, context});
    functions_[function] = {number, context};
    return true;
}

Loading::KernelOf Loading::kernel_of(CUfunction function) const {
    const auto found = functions_.find(function);
    return found == functions_.end() ? KernelOf{} : found->second;
}

void Loading::library(Call& call, uint64_t number) {
    const uint64_t context = call.session.current_home();
    if (!context || loaded_.count({number, context})) return;
    auto* library = static_cast<CUlibrary>(call.objects.get(HandleKind::Library, number));
    if (!library) return;
    Relaxed relaxed(call.driver);
    CUmodule module = nullptr;
    if (call.driver.cuLibraryGetModule(&module, library) != CUDA_SUCCESS) return;
    note(call, number, no_device);
    loaded_.insert({number, context});
}

void Loading::kernel_on(Call& call, uint64_t number, CUdevice device) {
    if (asked_.count({number, device})) return;
    auto* kernel = static_cast<CUkernel>(call.objects.get(HandleKind::Kernel, number));
    if (!kernel) return;
    auto here = call.session.context_devices.find(call.session.current());
    if (here != call.session.context_devices.end() && here->second == device) load_library_of(call, number);
    Relaxed relaxed(call.driver);
    int threads = 0;
    if (call.driver.cuKernelGetAttribute(&threads, CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK, kernel, device) != CUDA_SUCCESS)
        return;
    note(call, number, device);
    asked_.insert({number, device});
}

CUresult Loading::repeat(Call& call, uint64_t number, CUdevice device) {
    CUfunction function = nullptr;
    if (device != no_device) {
        kernel_on(call, number, device);
        return asked_.count({number, device}) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
    }
    if (Objects::kind_of(number) == HandleKind::Library) {
        library(call, number);
        return library_in(number, call.session.current_home()) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
    }
    if (!this->function(call, number, &function)) return CUDA_ERROR_INVALID_HANDLE;
    const Objects::Entry* entry = call.objects.entry(Objects::kind_of(number), number);
    return entry && entry->loaded_in == call.session.current_home() ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
}

void Loading::context_gone(uint64_t context) {
    std::erase_if(loaded_, [&](const auto& one) { return one.second == context; });
    std::erase_if(functions_, [&](const auto& one) { return one.second.context == context; });
}

void Loading::object_gone(uint64_t number) {
    loaded_.erase(loaded_.lower_bound({number, 0}), loaded_.lower_bound({number + 1, 0}));
    asked_.erase(asked_.lower_bound({number, 0}), asked_.lower_bound({number + 1, 0}));
    if (Objects::kind_of(number) == HandleKind::Kernel)
        std::erase_if(functions_, [&](const auto& one) { return one.second.kernel == number; });
}

bool driver_function(Call& call, uint64_t number, CUfunction* out) {
    return call.session.loading.function(call, number, out);
}

void load_library(Call& call, uint64_t library) { call.session.loading.library(call, library); }

void load_library_of(Call& call, uint64_t kernel) {
    if (const uint64_t library = call.session.journal.owner(kernel)) load_library(call, library);
}

void load_kernel_on(Call& call, uint64_t kernel, CUdevice device) {
    call.session.loading.kernel_on(call, kernel, device);
}

void serve_cricketLoad(Call& call, const cricketLoad_args& args, cricketLoad_res& res) {
    res.status = call.session.loading.repeat(call, args.object, args.device);
}

}  // namespace cricket::server
