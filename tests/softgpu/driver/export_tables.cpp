// SPDX-License-Identifier: MIT
// cuGetExportTable: what CUDA's runtime needs to accept this driver, so that runtime programs run on it
// without the server, too. Which slots are asked for, and with what, is in facts/cuda-driver.md.
#include <pthread.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <cstring>
#include <utility>

#include "client/software_validity.h"
#include "context.h"
#include "module.h"
#include "green.h"
#include "storage.h"

namespace softgpu {
namespace {

using Slot = const void*;

// A slot that nobody was seen calling. `size` is that of the table, which tells most of them apart.
template <size_t Size, size_t Index>
CUresult unlisted() {
    log("slot %zu of the export table with %zu slots is not known", Index, Size);
    return CUDA_ERROR_NOT_SUPPORTED;
}

template <typename Function>
Slot slot(Function* function) {
    return reinterpret_cast<Slot>(function);
}

template <size_t Count>
struct Table {
    explicit Table(std::initializer_list<std::pair<size_t, Slot>> known, bool sized = true) {
        fill(std::make_index_sequence<Count>());
        if (sized) slots[0] = reinterpret_cast<Slot>(Count * sizeof(Slot));
        for (auto& [index, function] : known) slots[index] = function;
    }
    template <size_t... Index>
    void fill(std::index_sequence<Index...>) {
        slots = {slot(&unlisted<Count, Index>)...};
    }
    std::array<Slot, Count> slots;
};

CUresult load_wrapper(CUmodule* module, const void* wrapper) {
    return cuModuleLoadFatBinary(module, wrapper);
}

CUresult load_extended(CUmodule* module, const void* wrapper, void*, void*, unsigned) {
    return cuModuleLoadFatBinary(module, wrapper);
}

CUresult load_fatbin(const void* fatbin, CUmodule* module, void*, void*, unsigned) {
    return cuModuleLoadFatBinary(module, fatbin);
}

CUresult primary_context(CUcontext* context, CUdevice dev) {
    return api([&] {
        require(context);
        *context = device(dev).primary.handle;
    });
}

CUresult nothing(uintptr_t) {
    return CUDA_SUCCESS;
}

template <size_t Bytes>
CUresult hand_out_buffer(void** buffer, size_t* size) {
    alignas(16) static unsigned char zeroes[Bytes];
    return api_always([&] {
        require(buffer && size);
        *buffer = zeroes;
        *size = Bytes;
    });
}

CUresult current_context(CUcontext* context) {
    return api_always([&] {
        require(context);
        *context = current_handle();
    });
}

CUcontext or_current(CUcontext context) {
    if (!context) context = current_handle();
    require(context, CUDA_ERROR_INVALID_CONTEXT);
    auto green = green_of(context);
    return green ? green->device.primary.handle : context;
}

CUresult storage_put(CUcontext context, void* key, void* value, StorageDestructor destructor) {
    return api([&] { put_storage(or_current(context), key, value, destructor); });
}

CUresult storage_delete(CUcontext context, void* key) {
    return api([&] { delete_storage(or_current(context), key); });
}

CUresult storage_get(void** value, CUcontext context, void* key) {
    return api([&] {
        require(value);
        *value = get_storage(or_current(context), key);
    });
}

CUresult check_context(CUcontext, unsigned* out, void**) {
    if (out) *out = 0;
    return CUDA_SUCCESS;
}

CUresult check_nothing() {
    return CUDA_SUCCESS;
}

CUresult context_device(CUcontext context, CUdevice* dev) {
    return cuCtxGetDevice_v2(dev, context);
}

CUresult context_id(CUcontext context, unsigned long long* id) {
    return cuCtxGetId(context, id);
}

int visit_functions(CUcontext, CUmodule handle, int (*visit)(void*, CUfunction, const char*), void* user) {
    auto module = modules().find(handle);
    if (!module) return CUDA_ERROR_INVALID_HANDLE;
    int answer = 0;
    for (size_t i = 0; i < module->functions.size() && answer == 0; ++i)
        answer = visit(user, module->functions[i], module->code->kernels()[i].name.c_str());
    return answer;
}

CUresult establish_validity(unsigned version, uint64_t unix_seconds, uint64_t* result);

const Table<13>& runtime_interface() {
    static const Table<13> table{{1, slot(&load_wrapper)},  {2, slot(&primary_context)},
                                 {6, slot(&load_extended)}, {7, slot(&nothing)},
                                 {8, slot(&load_fatbin)},   {12, slot(&check_nothing)}};
    return table;
}

const Table<3>& validity() {
    static const Table<3> table{{1, slot(&establish_validity)}};
    return table;
}

CUresult establish_validity(unsigned version, uint64_t unix_seconds, uint64_t* result) {
    namespace client = cricket::client;
    return api_always([&] {
        require(result);
        client::ValidityQuestion question = {};
        question.driver_version = CUDA_VERSION;
        question.version = version;
        question.pid = static_cast<uint32_t>(getpid());
        question.thread = static_cast<uint32_t>(pthread_self());
        question.interface_table = reinterpret_cast<uint64_t>(&runtime_interface());
        question.validity_table = reinterpret_cast<uint64_t>(&validity());
        question.validity_function = reinterpret_cast<uint64_t>(&establish_validity);
        question.unix_seconds = unix_seconds;
        std::vector<client::ValidityDevice> devices;
        for (int i = 0; version % 10 >= 2 && i < device_count(); ++i) {
            auto& one = devices.emplace_back();
            memcpy(one.uuid, device(i).uuid.bytes, sizeof one.uuid);
            unsigned domain = 0, bus = 0, number = 0;
            sscanf(device(i).bus_id.c_str(), "%x:%x:%x", &domain, &bus, &number);
            one.pci_domain = static_cast<int32_t>(domain);
            one.pci_bus = static_cast<int32_t>(bus);
            one.pci_device = static_cast<int32_t>(number);
        }
        uint64_t answer[2];
        client::answer_validity(question, devices.data(), devices.size(), answer);
        memcpy(result, answer, sizeof answer);
    });
}

struct Known {
    unsigned char uuid[16];
    const void* table;
};

const void* find(const CUuuid& id) {
    // 1, 3 and 4 tell tools of graphs and launches; there are none.
    static const Table<7> callback_hooks{{1, slot(&check_nothing)},
                                         {2, slot(&hand_out_buffer<1024>)},
                                         {3, slot(&check_nothing)},
                                         {4, slot(&check_nothing)},
                                         {6, slot(&hand_out_buffer<14>)}};
    static const Table<3> tools_tls{{2, slot(&current_context)}};
    static const Table<4> context_storage{
        {{0, slot(&storage_put)}, {1, slot(&storage_delete)}, {2, slot(&storage_get)}}, false};
    static const Table<15> context_checks{{2, slot(&check_context)}, {3, slot(&check_nothing)}};
    static const Table<93> tools_context{{3, slot(&context_device)}, {4, slot(&context_id)}};
    static const Table<99> tools_module{{7, slot(&visit_functions)}};
    static const Known known[] = {
        {{0x6b, 0xd5, 0xfb, 0x6c, 0x5b, 0xf4, 0xe7, 0x4a, 0x89, 0x87, 0xd9, 0x39, 0x12, 0xfd, 0x9d, 0xf9},
         &runtime_interface()},
        {{0xa0, 0x94, 0x79, 0x8c, 0x2e, 0x74, 0x2e, 0x74, 0x93, 0xf2, 0x08, 0x00, 0x20, 0x0c, 0x0a, 0x66},
         &callback_hooks},
        {{0x42, 0xd8, 0x5a, 0x81, 0x23, 0xf6, 0xcb, 0x47, 0x82, 0x98, 0xf6, 0xe7, 0x8a, 0x3a, 0xec, 0xdc},
         &tools_tls},
        {{0xc6, 0x93, 0x33, 0x6e, 0x11, 0x21, 0xdf, 0x11, 0xa8, 0xc3, 0x68, 0xf3, 0x55, 0xd8, 0x95, 0x93},
         &context_storage},
        {{0x26, 0x3e, 0x88, 0x60, 0x7c, 0xd2, 0x61, 0x43, 0x92, 0xf6, 0xbb, 0xd5, 0x00, 0x6d, 0xfa, 0x7e},
         &context_checks},
        {{0xd4, 0x08, 0x20, 0x55, 0xbd, 0xe6, 0x70, 0x4b, 0x8d, 0x34, 0xba, 0x12, 0x3c, 0x66, 0xe1, 0xf2},
         &validity()},
        {{0x21, 0x31, 0x8c, 0x60, 0x97, 0x14, 0x32, 0x48, 0x8c, 0xa6, 0x41, 0xff, 0x73, 0x24, 0xc8, 0xf2},
         &tools_context},
        {{0x6e, 0x16, 0x3f, 0xbe, 0xb9, 0x58, 0x44, 0x4d, 0x83, 0x5c, 0xe1, 0x82, 0xaf, 0xf1, 0x99, 0x1e},
         &tools_module},
    };
    for (auto& one : known)
        if (memcmp(one.uuid, id.bytes, sizeof one.uuid) == 0) return one.table;
    return nullptr;
}

}  // namespace
}  // namespace softgpu

using namespace softgpu;

CUresult cuGetExportTable(const void** table, const CUuuid* id) {
    return api_always([&] {
        require(table && id);
        *table = find(*id);
        require(*table, CUDA_ERROR_NOT_FOUND);
    });
}
