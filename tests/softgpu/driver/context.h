// SPDX-License-Identifier: MIT
// A context owns streams, events, modules and memory, and carries the sticky error. Its handle stays the same
// for the primary context of a device, however often that is made and destroyed, as with the real driver.
// Lock order: Primary::mutex, Context::mutex, registries.
#pragma once

#include <list>
#include <string>

#include "core.h"
#include "device.h"

namespace softgpu {

class Stream;
class Module;
struct Library;
class DeviceHeap;

// What kernels print. It leaves at the functions that synchronize, as with the real driver.
class Output {
  public:
    void print(std::string_view text);     // to stdout
    void complain(std::string_view text);  // to stderr: failed assertions
    void flush();

  private:
    std::mutex mutex_;
    std::string text_, complaints_;
};

class Context {
  public:
    static uint64_t next_id();
    static std::shared_ptr<Context> make(Device& device, CUcontext handle, unsigned flags, bool primary);
    Context(Device& device, CUcontext handle, unsigned flags, bool primary);  // for make()
    ~Context();

    Device& device;
    const CUcontext handle;
    const bool primary;
    const uint64_t id;
    std::atomic<unsigned> flags;
    std::atomic<uint32_t> peers;        // bit per device whose memory kernels may reach, its own included
    std::atomic<bool> ending = false;   // being destroyed: waits for values in memory end at once
    std::atomic<bool> faulted = false;  // there is a sticky error: kernels in flight end early
    std::atomic<CUfunc_cache> cache_config = CU_FUNC_CACHE_PREFER_NONE;
    std::atomic<CUsharedconfig> shared_config = CU_SHARED_MEM_CONFIG_FOUR_BYTE_BANK_SIZE;
    std::atomic<size_t> stack_size = 1024, printf_size = 1 << 20, sync_depth = 2, pending_launches = 2048;
    std::atomic<size_t> l2_granularity = 64, persisting_l2 = 0;

    CUresult sticky() const { return sticky_.load(); }
    // The first error stays.
    void set_sticky(CUresult error, const std::string& why);

    std::mutex mutex;  // guards what follows and the order of submissions
    std::list<std::shared_ptr<Stream>>
        streams;  // all with work in flight or a live handle, `legacy` included
    std::shared_ptr<Stream> legacy;

    std::mutex module_mutex;
    std::map<uint64_t, CUmodule> library_modules;  // by Library::id

    DeviceHeap& heap() { return *heap_; }
    Output output;

    // Waits for everything submitted so far, in all streams.
    void drain();
    // drain(), then reports the sticky error.
    void synchronize();
    // Ends what runs and frees all that the context owns.
    void tear_down();

  private:
    std::atomic<CUresult> sticky_ = CUDA_SUCCESS;
    std::unique_ptr<DeviceHeap> heap_;
};

using Contexts = Registry<Context, CUcontext, 0x7c01>;
inline Contexts& contexts() {
    return immortal<Contexts>();
}

// The calling thread's context, whatever its state; null when there is none.
CUcontext current_handle();
// Fails with CUDA_ERROR_INVALID_CONTEXT or CUDA_ERROR_CONTEXT_IS_DESTROYED.
std::shared_ptr<Context> current_in_any_state();
// Fails with the sticky error, too.
std::shared_ptr<Context> current();
// The context named, or the current one for null.
std::shared_ptr<Context> context_or_current(CUcontext handle);

}  // namespace softgpu
