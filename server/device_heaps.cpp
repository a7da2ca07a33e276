// SPDX-License-Identifier: MIT
#include "device_heaps.h"

#include <algorithm>
#include <cstdio>

#include "checkpoint_parts.h"
#include "cricket/primary_contexts.h"
#include "device_heap_image.h"
#include "image_facts.h"
#include "log.h"
#include "record.h"
#include "relaxed.h"
#include "session.h"
#include "variables.h"

namespace cricket::server {
namespace {

// Unpacking a larger image takes so long that a launch cannot wait for it. Those are libraries, which hardly use the heap; what
// of them ran is asked once a snapshot is taken.
constexpr size_t largest_looked_at = 4u << 20;
constexpr uint64_t heap_alignment = 2u << 20;
constexpr uint64_t most_behind_first = 1u << 20;  // the first small piece lies so near the end of a fresh heap
constexpr unsigned blocks = 264, threads = 256, word_bytes = 16;

// Green contexts share their device's heap.
uint64_t context_of_heap(const Session& session) {
    const uint64_t current = session.current();
    for (const auto& [number, green] : session.green_contexts)
        if (green.context == current) return primary_context_number(green.device);
    return current;
}

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

bool uses_heap(Session& session, const Attachment& image, const std::string& name, CUdevice device) {
    try {
        return image_facts(image, arch_of(session.driver, device)).heap_kernels.count(name) != 0;
    } catch (const std::exception&) {
        return false;  // a snapshot will say that the image cannot be read
    }
}

}  // namespace

struct DeviceHeaps::Heap {
    CUfunction copy = nullptr;
    uint64_t first = 0;  // the address of the first piece that it ever gave
    uint64_t address = 0, bytes = 0;
    std::string wrong;  // why it cannot be saved
};

DeviceHeaps::DeviceHeaps() = default;
DeviceHeaps::~DeviceHeaps() = default;

void DeviceHeaps::before_launch(Call& call, uint64_t function) {
    Objects::Entry* entry = call.objects.entry(Objects::kind_of(function), function);
    const uint64_t context = call.session.current();
    if (!entry || !context || entry->may_run_in == context) [[likely]]
        return;
    entry->may_run_in = context;
    look(call, function, context_of_heap(call.session));
}

void DeviceHeaps::look(Call& call, uint64_t function, uint64_t context) {
    if (heaps_.count(context) || ran_.count({function, context})) return;
    Session& session = call.session;
    const auto device = session.context_devices.find(context);
    Attachment image;
    std::string name;
    if (device == session.context_devices.end() || !code_of(session, function, &image, &name)) return;
    const bool large = image->size() > largest_looked_at;
    ran_[{function, context}] = large;
    if (large || !uses_heap(session, image, name, device->second)) return;
    auto heap = std::make_unique<Heap>();
    heap->wrong = make(call, heap.get());
    if (heap->wrong.empty()) {
        cricketDeviceHeap_args args{};
        args.first = heap->first;
        args.address = heap->address;
        args.bytes = heap->bytes;
        record_extra(call, Proc::cricketDeviceHeap, xdr_routine(xdr_cricketDeviceHeap_args), &args,
                     {Effect::Kind::Load, context, 0, {0, 0}});
    } else {
        log_warn("the device heap of a context cannot be saved: %s", heap->wrong.c_str());
    }
    heaps_[context] = std::move(heap);
}

std::string DeviceHeaps::make(Call& call, Heap* heap) const {
    const DriverTable& driver = call.driver;
    const Captures::OwnWork own(call.session.captures);
    const Relaxed relaxed(driver);
    CUmodule module = nullptr;
    CUfunction begin = nullptr;
    CUdeviceptr variable = 0;
    size_t size = 0;
    CUstream stream = call.session.waiting_stream();
    if (!stream) return "there is no stream for its kernel";
    CUresult status = driver.cuModuleLoadData(&module, device_heap_image);
    if (status == CUDA_SUCCESS) status = driver.cuModuleGetFunction(&begin, module, "cricket_heap_begin");
    if (status == CUDA_SUCCESS) status = driver.cuModuleGetFunction(&heap->copy, module, "cricket_heap_copy");
    if (status == CUDA_SUCCESS) status = driver.cuModuleGetGlobal(&variable, &size, module, "cricket_heap_first");
    if (status == CUDA_SUCCESS) status = driver.cuLaunchKernel(begin, 1, 1, 1, 1, 1, 1, 0, stream, nullptr, nullptr);
    if (status == CUDA_SUCCESS) status = driver.cuMemcpyDtoHAsync(&heap->first, variable, sizeof heap->first, stream);
    if (status == CUDA_SUCCESS) status = driver.cuStreamSynchronize(stream);
    if (status == CUDA_SUCCESS) status = driver.cuCtxGetLimit(&size, CU_LIMIT_MALLOC_HEAP_SIZE);
    if (status != CUDA_SUCCESS) return "the kernel that finds it: " + result_name(driver, status);
    heap->bytes = size;
    heap->address = (heap->first - heap->bytes + heap_alignment - 1) / heap_alignment * heap_alignment;
    const uint64_t end = heap->address + heap->bytes;
    if (!heap->first || heap->first < heap->address || heap->first >= end || end - heap->first > most_behind_first ||
        heap->bytes % word_bytes != 0)
        return at_address("its first piece is", heap->first) + ", which is not near the end of " + std::to_string(heap->bytes) + " bytes";
    return {};
}

void DeviceHeaps::repeat(Call& call, uint64_t first, uint64_t address, uint64_t bytes) {
    auto heap = std::make_unique<Heap>();
    if (const std::string why = make(call, heap.get()); !why.empty()) fail_checkpoint("the device heap of malloc() in kernels: " + why);
    if (heap->first != first || heap->address != address || heap->bytes != bytes)
        fail_checkpoint(at_address("the device heap of malloc() in kernels was", address) + at_address(" and would now be", heap->address) +
                        ": pointers into it would be wrong");
    heaps_[context_of_heap(call.session)] = std::move(heap);
}

void DeviceHeaps::context_gone(uint64_t context) {
    heaps_.erase(context);
    std::erase_if(ran_, [&](const auto& one) { return one.first.second == context; });
}

void DeviceHeaps::object_gone(uint64_t number) {
    ran_.erase(ran_.lower_bound({number, 0}), ran_.lower_bound({number + 1, 0}));
}

std::string DeviceHeaps::refusal(Session& session) const {
    for (const auto& [context, heap] : heaps_)
        if (!heap->wrong.empty()) return "the device heap of malloc() in kernels cannot be restored: " + heap->wrong;
    for (const auto& [ran, large] : ran_) {
        const auto& [function, context] = ran;
        if (!large || heaps_.count(context)) continue;  // made before it or after it: it is there, and may lie elsewhere next time
        Attachment image;
        std::string name;
        if (!code_of(session, function, &image, &name)) continue;
        if (uses_heap(session, image, name, session.context_devices.at(context)))
            return "kernel " + name + " of a large library calls malloc() on the device, and where its heap lies is not known";
    }
    return {};
}

std::vector<DeviceHeaps::Part> DeviceHeaps::parts() const {
    std::vector<Part> all;
    for (const auto& [context, heap] : heaps_)
        if (heap->wrong.empty()) all.push_back({context, heap->address, heap->bytes});
    return all;
}

// Over when it returns.
CUresult DeviceHeaps::copy(Session& session, uint64_t context, CUdeviceptr to, CUdeviceptr from, uint64_t bytes) const {
    const auto heap = heaps_.find(context);
    CUstream stream = session.waiting_stream();
    if (heap == heaps_.end() || !heap->second->copy || bytes % word_bytes != 0 || !stream) return CUDA_ERROR_INVALID_VALUE;
    uint64_t words = bytes / word_bytes;
    void* parameters[] = {&to, &from, &words};
    const CUresult status =
        session.driver.cuLaunchKernel(heap->second->copy, blocks, 1, 1, threads, 1, 1, 0, stream, parameters, nullptr);
    return status == CUDA_SUCCESS ? session.driver.cuStreamSynchronize(stream) : status;
}

CUresult DeviceHeaps::read(Session& session, const Part& part, CUdeviceptr to) const {
    return copy(session, part.context, to, part.address, part.bytes);
}

namespace {

// A piece of device memory to copy through, as large as can be had.
class Between {
  public:
    explicit Between(Session& session, uint64_t wanted) : session_(session), bytes_(std::min<uint64_t>(wanted, 16u << 20)) {
        while (session_.device_memory.allocate(session_.current_device(), bytes_, 0, &address_) != CUDA_SUCCESS) {
            address_ = 0;
            if (bytes_ <= smallest) break;
            bytes_ = std::max<uint64_t>(smallest, bytes_ / 2 / word_bytes * word_bytes);
        }
    }
    ~Between() {
        if (!address_) return;
        session_.device_memory.free(address_);
        session_.device_memory.reclaim(address_);
    }
    Between(const Between&) = delete;
    CUdeviceptr address() const { return address_; }  // 0: there is no room
    uint64_t bytes() const { return bytes_; }

  private:
    static constexpr uint64_t smallest = 64u << 10;
    Session& session_;
    uint64_t bytes_;
    CUdeviceptr address_ = 0;
};

}  // namespace

CUresult DeviceHeaps::read_to_host(Session& session, const Part& part, std::span<std::byte> to) const {
    const Between between(session, part.bytes);
    CUresult status = between.address() ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
    for (uint64_t done = 0; done < part.bytes && status == CUDA_SUCCESS;) {
        const uint64_t piece = std::min(part.bytes - done, between.bytes());
        status = copy(session, part.context, between.address(), part.address + done, piece);
        if (status == CUDA_SUCCESS) status = session.driver.cuMemcpyDtoH(to.data() + done, between.address(), piece);
        done += piece;
    }
    return status;
}

CUresult DeviceHeaps::write(Session& session, const Part& part,
                            const std::function<void(uint64_t, std::span<std::byte>)>& source) const {
    const Between between(session, part.bytes);
    CUresult status = between.address() ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
    std::vector<std::byte> data(between.bytes());
    for (uint64_t done = 0; done < part.bytes && status == CUDA_SUCCESS;) {
        const uint64_t piece = std::min(part.bytes - done, between.bytes());
        source(done, std::span(data).first(piece));
        status = session.driver.cuMemcpyHtoD(between.address(), data.data(), piece);
        if (status == CUDA_SUCCESS) status = copy(session, part.context, part.address + done, between.address(), piece);
        done += piece;
    }
    return status;
}

void serve_cricketDeviceHeap(Call& call, const cricketDeviceHeap_args& args, cricketDeviceHeap_res& res) {
    if (!call.replaying) {
        res.status = CUDA_ERROR_INVALID_VALUE;
        return;
    }
    call.session.device_heaps.repeat(call, args.first, args.address, args.bytes);
}

}  // namespace cricket::server
