// SPDX-License-Identifier: MIT
// cuGetExportTable: the undocumented tables that CUDA's own libraries ask for. What is known of them, and
// from where, is in facts/cuda-driver.md. A slot that nobody was seen calling names itself once and refuses;
// a table that nobody needs is refused.
#include <pthread.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "client/compile_cache.h"
#include "client/contexts.h"
#include "client/devices.h"
#include "client/log.h"
#include "client/primary.h"
#include "client/reply_guard.h"
#include "client/software_validity.h"
#include "client/unsupported.h"
#include "custom.h"

namespace cricket::client {
namespace {

enum Table {
    cudart_interface,
    callback_hooks,
    tools_tls,
    context_storage,
    context_checks,
    validity,
    tools_context,
    tools_module,
    topology,
    compilations,
    table_count
};

struct TableInfo {
    unsigned char uuid[16];  // as the bytes lie in memory
    size_t slots;
    bool sized;  // slot 0 is the table's size in bytes
    const char* name;
};
constexpr TableInfo tables[table_count] = {
    {{0x6b, 0xd5, 0xfb, 0x6c, 0x5b, 0xf4, 0xe7, 0x4a, 0x89, 0x87, 0xd9, 0x39, 0x12, 0xfd, 0x9d, 0xf9},
     13,
     true,
     "runtime interface"},
    {{0xa0, 0x94, 0x79, 0x8c, 0x2e, 0x74, 0x2e, 0x74, 0x93, 0xf2, 0x08, 0x00, 0x20, 0x0c, 0x0a, 0x66},
     7,
     true,
     "runtime callback hooks"},
    {{0x42, 0xd8, 0x5a, 0x81, 0x23, 0xf6, 0xcb, 0x47, 0x82, 0x98, 0xf6, 0xe7, 0x8a, 0x3a, 0xec, 0xdc},
     3,
     true,
     "tools TLS"},
    {{0xc6, 0x93, 0x33, 0x6e, 0x11, 0x21, 0xdf, 0x11, 0xa8, 0xc3, 0x68, 0xf3, 0x55, 0xd8, 0x95, 0x93},
     4,
     false,
     "context-local storage"},
    {{0x26, 0x3e, 0x88, 0x60, 0x7c, 0xd2, 0x61, 0x43, 0x92, 0xf6, 0xbb, 0xd5, 0x00, 0x6d, 0xfa, 0x7e},
     15,
     true,
     "context checks"},
    {{0xd4, 0x08, 0x20, 0x55, 0xbd, 0xe6, 0x70, 0x4b, 0x8d, 0x34, 0xba, 0x12, 0x3c, 0x66, 0xe1, 0xf2},
     3,
     true,
     "software validity"},
    {{0x21, 0x31, 0x8c, 0x60, 0x97, 0x14, 0x32, 0x48, 0x8c, 0xa6, 0x41, 0xff, 0x73, 0x24, 0xc8, 0xf2},
     93,
     true,
     "tools context"},
    {{0x6e, 0x16, 0x3f, 0xbe, 0xb9, 0x58, 0x44, 0x4d, 0x83, 0x5c, 0xe1, 0x82, 0xaf, 0xf1, 0x99, 0x1e},
     99,
     true,
     "tools module"},
    {{0x17, 0x34, 0xdc, 0x26, 0x80, 0x0d, 0x47, 0x45, 0x87, 0x26, 0xc0, 0xf1, 0xe7, 0xdd, 0x8b, 0xca},
     17,
     true,
     "multiprocessor topology"},
    {{0xda, 0x91, 0x51, 0xd3, 0x3a, 0xe6, 0xcc, 0x41, 0xa5, 0xc0, 0x4f, 0x26, 0xd5, 0x33, 0xe3, 0x28},
     7,
     true,
     "compile cache"},
};

// Asked for and survived without: a table of the real NVML's (first half), one of cudart 13.
constexpr unsigned char optional_tables[][8] = {
    {0x69, 0xa2, 0x8e, 0x9f, 0x24, 0x49, 0x8b, 0x47},
    {0xf8, 0xcf, 0xf9, 0x51, 0x21, 0x46, 0x8b, 0x4e},
};

// ---- runtime interface
// ---------------------------------------------------------------------------------------

CUresult load_wrapper(CUmodule* module, const void* wrapper) {
    return impl_cuModuleLoadFatBinary(module, wrapper);
}

// The last three look like JIT options; nobody was seen passing any.
CUresult load_with_options(const char* slot, CUmodule* module, const void* image, const void* options,
                           const void* values, uint32_t count) {
    if (count || options || values) return unsupported(slot, "options of the runtime's module load");
    return impl_cuModuleLoadFatBinary(module, image);
}

CUresult load_wrapper_extended(CUmodule* module, const void* wrapper, void* options, void* values,
                               uint32_t count) {
    return load_with_options("runtime interface slot 6", module, wrapper, options, values, count);
}

CUresult load_fatbin_extended(const void* fatbin, CUmodule* module, void* options, void* values,
                              uint32_t count) {
    return load_with_options("runtime interface slot 8", module, fatbin, options, values, count);
}

// Called for each device when the runtime starts, long before it retains one.
CUresult primary_context(CUcontext* context, CUdevice device) {
    return context ? primary::handle(context, device) : CUDA_ERROR_INVALID_VALUE;
}

CUresult nothing(uintptr_t) {
    return CUDA_SUCCESS;
}

CUresult load_compilers() {
    return CUDA_SUCCESS;
}

// ---- runtime callback hooks
// ----------------------------------------------------------------------------------

template <size_t bytes>
CUresult hand_out_buffer(void** buffer, size_t* size) {
    alignas(16) static unsigned char zeroes[bytes];
    if (!buffer || !size) return CUDA_ERROR_INVALID_VALUE;
    *buffer = zeroes;
    *size = bytes;
    return CUDA_SUCCESS;
}

// ---- contexts
// ------------------------------------------------------------------------------------------------

CUresult tls_context(CUcontext* context) {
    if (!context) return CUDA_ERROR_INVALID_VALUE;
    *context = from_number<CUcontext>(contexts::top());
    return CUDA_SUCCESS;
}

CUresult storage_put(CUcontext context, void* key, void* value, contexts::Destructor destructor) {
    if (!initialized()) return CUDA_ERROR_NOT_INITIALIZED;
    return contexts::put(to_number(context), key, value, destructor);
}

CUresult storage_delete(CUcontext context, void* key) {
    if (!initialized()) return CUDA_ERROR_NOT_INITIALIZED;
    return contexts::erase(to_number(context), key);
}

CUresult storage_get(void** value, CUcontext context, void* key) {
    if (!initialized()) return CUDA_ERROR_NOT_INITIALIZED;
    return value ? contexts::get(to_number(context), key, value) : CUDA_ERROR_INVALID_VALUE;
}

CUresult check_context(CUcontext, uint32_t* out, void**) {
    if (out) *out = 0;
    return CUDA_SUCCESS;
}

CUresult check_nothing() {
    return CUDA_SUCCESS;
}

// Which of the two is the context was not seen; both orders can be told apart, as a context is a session
// number.
CUresult tools_device(void* first, void* second) {
    if (!initialized()) return CUDA_ERROR_NOT_INITIALIZED;
    if (first && !contexts::known(to_number(first))) std::swap(first, second);
    if (!second) return CUDA_ERROR_INVALID_VALUE;
    if (first && !contexts::known(to_number(first))) return CUDA_ERROR_INVALID_CONTEXT;
    return impl_cuCtxGetDevice_v2(static_cast<CUdevice*>(second), static_cast<CUcontext>(first));
}

CUresult tools_context_id(CUcontext context, uint64_t* id) {
    unsigned long long value;
    if (!id) return CUDA_ERROR_INVALID_VALUE;
    CUresult result = impl_cuCtxGetId(context, &value);
    if (result == CUDA_SUCCESS) *id = value;
    return result;
}

// What tools call a stream: opaque to cuBLAS and cuSOLVER, which only ask its id. The default stream has a name too.
CUresult tools_stream(CUcontext, CUstream stream, CUstream* out) {
    if (!initialized()) return CUDA_ERROR_NOT_INITIALIZED;
    if (!out) return CUDA_ERROR_INVALID_VALUE;
    *out = stream ? stream : CU_STREAM_LEGACY;
    return CUDA_SUCCESS;
}

CUresult tools_stream_id(CUcontext, CUstream stream, unsigned long long* id) { return cuStreamGetId(stream, id); }

// ---- functions of a module
// -----------------------------------------------------------------------------------

using Visit = void (*)(void* user, CUfunction function, const char* name);

// cuFFT's visitor takes the function and returns nothing: natively the first function was visited and the answer was 1 in
// every call seen (each module held one kernel).
int visit_functions(CUcontext, CUmodule module, Visit visit, void* user) {
    unsigned count = 0;
    if (CUresult result = cuModuleGetFunctionCount(&count, module); result != CUDA_SUCCESS) return result;
    if (count == 0) return 0;
    auto functions = static_cast<CUfunction*>(std::calloc(count, sizeof(CUfunction)));
    if (!functions) return CUDA_ERROR_OUT_OF_MEMORY;
    int answer = cuModuleEnumerateFunctions(functions, count, module);
    const char* name = nullptr;
    if (answer == CUDA_SUCCESS) answer = cuFuncGetName(&name, functions[0]);
    if (answer == CUDA_SUCCESS) {
        visit(user, functions[0], name);
        answer = 1;
    }
    std::free(functions);
    return answer;
}

// ---- multiprocessor topology
// ---------------------------------------------------------------------------------

// Two arrays of a byte for each TPC, for the caller to give back with topology_free().
CUresult topology_get(uint8_t** gpcs, uint8_t** ranks) {
    if (!initialized()) return CUDA_ERROR_NOT_INITIALIZED;
    if (!gpcs || !ranks) return CUDA_ERROR_INVALID_VALUE;
    cricketTopology_args args{};
    cricketTopology_res res{};
    args.context = current_context();
    ReplyGuard guard;
    if (CUresult result = call(args, res, {.reply_bytes = 8192}); result != CUDA_SUCCESS) return result;
    auto* first = static_cast<uint8_t*>(std::malloc(res.gpcs.size ? res.gpcs.size : 1));
    auto* second = static_cast<uint8_t*>(std::malloc(res.ranks.size ? res.ranks.size : 1));
    if (!first || !second) {
        std::free(first);
        std::free(second);
        return CUDA_ERROR_OUT_OF_MEMORY;
    }
    if (res.gpcs.size) std::memcpy(first, res.gpcs.data, res.gpcs.size);
    if (res.ranks.size) std::memcpy(second, res.ranks.data, res.ranks.size);
    *gpcs = first;
    *ranks = second;
    return CUDA_SUCCESS;
}

CUresult topology_free(uint8_t* gpcs, uint8_t* ranks) {
    std::free(gpcs);
    std::free(ranks);
    return CUDA_SUCCESS;
}

// ---- software validity
// ---------------------------------------------------------------------------------------

CUresult establish_validity(uint32_t version, uint64_t unix_seconds, uint64_t* result);

// ---- the tables
// ----------------------------------------------------------------------------------------------

template <Table table, size_t slot>
CUresult unlisted() {
    char uuid[37];
    format_uuid(tables[table].uuid, uuid);
    char name[96];
    std::snprintf(name, sizeof name, "export table %s slot %zu", uuid, slot);
    note_unsupported(name, tables[table].name, __builtin_return_address(0));
    return CUDA_ERROR_NOT_SUPPORTED;  // before cuInit too: tables are no functions of the driver
}

template <Table table, size_t slot>
constexpr auto entry = &unlisted<table, slot>;
template <>
constexpr auto entry<cudart_interface, 1> = &load_wrapper;
template <>
constexpr auto entry<cudart_interface, 2> = &primary_context;
template <>
constexpr auto entry<cudart_interface, 6> = &load_wrapper_extended;
template <>
constexpr auto entry<cudart_interface, 7> = &nothing;
template <>
constexpr auto entry<cudart_interface, 8> = &load_fatbin_extended;
template <>
constexpr auto entry<cudart_interface, 12> = &load_compilers;
template <>
constexpr auto entry<callback_hooks, 2> = &hand_out_buffer<1024>;
template <>
constexpr auto entry<callback_hooks, 6> = &hand_out_buffer<14>;
template <>
constexpr auto entry<tools_tls, 2> = &tls_context;
template <>
constexpr auto entry<context_storage, 0> = &storage_put;
template <>
constexpr auto entry<context_storage, 1> = &storage_delete;
template <>
constexpr auto entry<context_storage, 2> = &storage_get;
template <>
constexpr auto entry<context_checks, 2> = &check_context;
template <>
constexpr auto entry<context_checks, 3> = &check_nothing;
template <>
constexpr auto entry<validity, 1> = &establish_validity;
template <>
constexpr auto entry<tools_context, 3> = &tools_device;
template <>
constexpr auto entry<tools_context, 4> = &tools_context_id;
template <>
constexpr auto entry<tools_context, 39> = &tools_stream_id;
template <>
constexpr auto entry<tools_context, 51> = &tools_stream;
template <>
constexpr auto entry<tools_module, 7> = &visit_functions;
template <>
constexpr auto entry<topology, 4> = &topology_get;
template <>
constexpr auto entry<topology, 13> = &topology_free;
template <>
constexpr auto entry<compilations, 1> = &compile_cache::begin;
template <>
constexpr auto entry<compilations, 2> = &compile_cache::end;
template <>
constexpr auto entry<compilations, 3> = &compile_cache::find;
template <>
constexpr auto entry<compilations, 4> = &compile_cache::store;
template <>
constexpr auto entry<compilations, 6> = &compile_cache::release;

template <Table table, size_t slot>
constexpr auto cell() {
    if constexpr (slot == 0 && tables[table].sized)
        return tables[table].slots * sizeof(void*);
    else
        return entry<table, slot>;
}

// The slots one behind the other, each with its own type, so that the compiler and not a constructor fills
// them in.
template <Table table, size_t slot = 0, bool last = slot + 1 == tables[table].slots>
struct Slots {
    decltype(cell<table, slot>()) value = cell<table, slot>();
    Slots<table, slot + 1> next;
};
template <Table table, size_t slot>
struct Slots<table, slot, true> {
    decltype(cell<table, slot>()) value = cell<table, slot>();
};
template <Table table>
constinit const Slots<table> data{};
static_assert(sizeof data<tools_module> == 99 * sizeof(void*));

const void* data_of(int table) {
    switch (table) {
        case cudart_interface:
            return &data<cudart_interface>;
        case callback_hooks:
            return &data<callback_hooks>;
        case tools_tls:
            return &data<tools_tls>;
        case context_storage:
            return &data<context_storage>;
        case context_checks:
            return &data<context_checks>;
        case validity:
            return &data<validity>;
        case tools_context:
            return &data<tools_context>;
        case tools_module:
            return &data<tools_module>;
        case topology:
            return &data<topology>;
        case compilations:
            return &data<compilations>;
    }
    return nullptr;
}

CUresult establish_validity(uint32_t version, uint64_t unix_seconds, uint64_t* result) {
    if (!result) return CUDA_ERROR_INVALID_VALUE;
    ValidityQuestion question;
    question.driver_version = static_cast<uint32_t>(devices::driver_version());
    question.version = version;
    question.pid = static_cast<uint32_t>(getpid());
    question.thread = static_cast<uint32_t>(pthread_self());
    question.interface_table = reinterpret_cast<uint64_t>(data_of(cudart_interface));
    question.validity_table = reinterpret_cast<uint64_t>(data_of(validity));
    question.validity_function = reinterpret_cast<uint64_t>(&establish_validity);
    question.unix_seconds = unix_seconds;
    ValidityDevice found[devices::max_cached];
    size_t count = version % 10 < 2 ? 0 : devices::validity_devices(found);
    uint64_t answer[2];
    answer_validity(question, found, count, answer);
    std::memcpy(result, answer, sizeof answer);
    return CUDA_SUCCESS;
}

// A table that the driver has and we refuse; what it has not itself is an invalid value.
bool is_refused(const CUuuid* id) {
    for (auto& table : optional_tables)
        if (std::memcmp(table, id->bytes, sizeof table) == 0) return true;
    return false;
}

// Names a table that is not known, once; beyond 32 of them nobody reads the log any more.
void name_unknown(const CUuuid* id) {
    static constinit std::atomic<uint64_t> named[32]{};
    uint64_t half;
    std::memcpy(&half, id->bytes, sizeof half);
    for (auto& name : named) {
        uint64_t expected = 0;
        if (name.compare_exchange_strong(expected, half)) {
            char text[37];
            format_uuid(id->bytes, text);
            log(LogLevel::Warn, "export table %s is not known: refused", text);
            return;
        }
        if (expected == half) return;
    }
}

}  // namespace

CUresult impl_cuGetExportTable(const void** ppExportTable, const CUuuid* pExportTableId) {
    if (!ppExportTable || !pExportTableId) return CUDA_ERROR_INVALID_VALUE;
    for (int table = 0; table < table_count; ++table)
        if (std::memcmp(tables[table].uuid, pExportTableId->bytes, 16) == 0) {
            *ppExportTable = data_of(table);
            return CUDA_SUCCESS;
        }
    *ppExportTable = nullptr;
    if (is_refused(pExportTableId)) return CUDA_ERROR_NOT_FOUND;
    name_unknown(pExportTableId);
    return CUDA_ERROR_INVALID_VALUE;
}

}  // namespace cricket::client
