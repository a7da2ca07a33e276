// SPDX-License-Identifier: MIT
// What NVML keeps in the process: how often it was initialized, the texts of its results, event sets, and the table
// that nvidia-smi insists on.
#include <cstdlib>

#include "client/log.h"
#include "client/nvml/export_table.h"
#include "client/nvml/exchange.h"
#include "client/nvml/forward.h"
#include "cricket/nvml_wire.h"

using namespace cricket;
using namespace cricket::nvml;

namespace {

constexpr int kept_texts = 64;

// As the server's library words them; kept for ever, since the caller may.
std::atomic<const char*> texts[kept_texts];

struct TextCall {
    int result;
    char* text = nullptr;
};

// The name where nobody can be asked for the text.
const char* own_text(int result) {
    switch (result) {
        case success: return "success";
        case uninitialized: return "NVML is not initialized";
        case invalid_argument: return "invalid argument";
        case not_supported: return "not supported";
        case no_permission: return "no permission";
        case not_found: return "not found";
        case driver_not_loaded: return "no cricket-server, or no driver behind it";
        case library_not_found: return "library not found";
        case function_not_found: return "function not found";
        case out_of_memory: return "out of memory";
        default: return "NVML error";
    }
}

const char* server_text(int result) {
    TextCall asked{result};
    Call call;
    call.procedure = wire::nvml_proc_error_string;
    call.encode = [](XDR* xdrs, void* user) { return xdr_int(xdrs, &static_cast<TextCall*>(user)->result) != 0; };
    call.decode = [](XDR* xdrs, void* user) {
        return xdr_string(xdrs, &static_cast<TextCall*>(user)->text, most_text) != 0;
    };
    call.user = &asked;
    call.wait_for_server = false;
    return exchange(call) == Outcome::Done ? asked.text : nullptr;
}

struct InitCall {
    uint32_t flags;
    int status = unknown_error;
};

int initialize(uint32_t flags) {
    InitCall init{flags};
    Call call;
    call.procedure = wire::nvml_proc_init;
    call.encode = [](XDR* xdrs, void* user) { return xdr_u_int(xdrs, &static_cast<InitCall*>(user)->flags) != 0; };
    call.decode = [](XDR* xdrs, void* user) { return xdr_int(xdrs, &static_cast<InitCall*>(user)->status) != 0; };
    call.user = &init;
    call.wait_for_server = false;
    const Outcome outcome = exchange(call);
    const int status = outcome == Outcome::Done ? init.status : driver_not_loaded;
    if (status == success) users.fetch_add(1);
    client::log(client::LogLevel::Debug, "nvmlInit -> %d", status);
    return status;
}

std::atomic<uint64_t> event_sets{0};

}  // namespace

#define EXPORTED extern "C" [[gnu::visibility("default")]]

EXPORTED int nvmlInit() { return initialize(0); }
EXPORTED int nvmlInit_v2() { return initialize(0); }
EXPORTED int nvmlInitWithFlags(uint32_t flags) { return initialize(flags); }

EXPORTED int nvmlShutdown() {
    int32_t count = users.load();
    do
        if (count <= 0) return uninitialized;
    while (!users.compare_exchange_weak(count, count - 1));
    return success;
}

EXPORTED const char* nvmlErrorString(int result) {
    const bool kept = result >= 0 && result < kept_texts;
    const int place = kept ? result : kept_texts - 1;
    if (!kept && result != unknown_error) return own_text(unknown_error);
    if (const char* text = texts[place].load(std::memory_order_acquire)) return text;
    const char* text = users.load() > 0 ? server_text(result) : nullptr;
    if (!text) return own_text(result);
    const char* none = nullptr;
    if (texts[place].compare_exchange_strong(none, text)) return text;
    std::free(const_cast<char*>(text));
    return none;
}

// nvidia-smi makes one at its start. Nothing can be registered with it: see rpc/spec/nvml/event.spec.
EXPORTED int nvmlEventSetCreate(void** set) {
    if (users.load() <= 0) return uninitialized;
    if (!set) return invalid_argument;
    *set = reinterpret_cast<void*>(event_sets.fetch_add(1) + 1);
    return success;
}

EXPORTED int nvmlEventSetFree(void* set) {
    if (users.load() <= 0) return uninitialized;
    const auto number = reinterpret_cast<uint64_t>(set);
    return number >= 1 && number <= event_sets.load() ? success : invalid_argument;
}

EXPORTED int nvmlInternalGetExportTable(const void** table, const void* uuid) {
    if (!table || !uuid) return invalid_argument;
    *table = export_table(uuid);
    if (*table) return success;
    static std::atomic<bool> said{false};
    char text[37];
    client::format_uuid(uuid, text);
    client::log_once(said, client::LogLevel::Info, "NVML's export table %s is not known", text);
    return not_found;
}

extern "C" {
// How the server and tests recognise this library, which must never be taken for NVIDIA's.
[[gnu::visibility("default"), gnu::used]] extern const char cricket_nvml_version[] = CRICKET_VERSION;
}
