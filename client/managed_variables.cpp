// SPDX-License-Identifier: MIT
#include "client/managed_variables.h"

#include <stdlib.h>
#include <sys/mman.h>

#include <cstring>
#include <mutex>
#include <vector>

#include "client/contexts.h"
#include "client/log.h"
#include "client/reply_guard.h"
#include "client/session.h"
#include "cricket/quick_hash.h"
#include "custom.h"

namespace cricket::client::managed {

std::atomic<bool> some{false};

namespace {

constexpr uint64_t page = 4096;
constexpr uint64_t piece_bytes = 256 * 1024;  // of one message

struct Variable {
    uint64_t address, bytes;
    unsigned char* known;  // what the worker has, as far as we know
};

// The lock is held over calls: what one thread wrote is sent before another's launch.
struct All {
    std::mutex mutex;
    std::vector<Variable> variables;
    std::vector<uint64_t> pages;  // mapped by us
    unsigned char* buffer = nullptr;
};
All& all() {
    static auto* one = new All;  // never destroyed: see Session::start
    return *one;
}
constinit thread_local bool inside __attribute__((tls_model("initial-exec"))) = false;  // our own calls

unsigned char* at(uint64_t address) { return reinterpret_cast<unsigned char*>(address); }

// Changed bytes on their way: runs of u64 address, u64 bytes, and the bytes.
class Runs {
  public:
    bool add(uint64_t address, uint64_t bytes) {
        if (used_ + 16 + bytes > room && !send()) return false;
        const uint64_t head[2] = {address, bytes};
        std::memcpy(buffer_ + used_, head, sizeof head);
        std::memcpy(buffer_ + used_ + sizeof head, at(address), bytes);
        used_ += sizeof head + bytes;
        return true;
    }
    bool send() {
        if (!used_) return true;
        cricketManagedWrite_args args{};
        cricketManagedWrite_res res{};
        args.runs = {buffer_, static_cast<uint32_t>(used_), true, false};
        used_ = 0;
        ReplyGuard guard;
        return call(args, res) == CUDA_SUCCESS;
    }
    explicit Runs(unsigned char* buffer) : buffer_(buffer) {}
    static constexpr uint64_t room = 64 * 1024;

  private:
    unsigned char* buffer_;
    uint64_t used_ = 0;
};

// Sends the bytes that differ from what the worker has, and no others: what the device changes beside them is its own.
void send_changes(Variable& variable, Runs& runs) {
    constexpr uint64_t longest = 16 * 1024;
    unsigned char* now = at(variable.address);
    if (std::memcmp(now, variable.known, variable.bytes) == 0) return;
    for (uint64_t i = 0; i < variable.bytes;) {
        if (now[i] == variable.known[i]) {
            ++i;
            continue;
        }
        uint64_t end = i;
        while (end < variable.bytes && end - i < longest && now[end] != variable.known[end]) ++end;
        if (!runs.add(variable.address + i, end - i)) return;
        std::memcpy(variable.known + i, now + i, end - i);
        i = end;
    }
}

// False when the variable is gone: its module was unloaded.
bool take(Variable& variable, bool first) {
    for (uint64_t done = 0; done < variable.bytes; done += piece_bytes) {
        const uint64_t bytes = variable.bytes - done < piece_bytes ? variable.bytes - done : piece_bytes;
        cricketManagedRead_args args{};
        cricketManagedRead_res res{};
        args.address = variable.address + done;
        args.bytes = bytes;
        args.hash = first ? 0 : quick_hash(variable.known + done, bytes);
        ReplyGuard guard;
        const CUresult result = call(args, res, {.reply_bytes = bytes});
        if (result == CUDA_ERROR_INVALID_VALUE) return false;
        if (result != CUDA_SUCCESS || res.data.size != bytes) continue;  // unchanged, or no server
        const auto* news = static_cast<const unsigned char*>(res.data.data);
        unsigned char* now = at(variable.address + done);
        unsigned char* known = variable.known + done;
        for (uint64_t i = 0; i < bytes; ++i) {
            if (news[i] == known[i]) continue;
            if (now[i] == known[i]) now[i] = news[i];  // else the host wrote it since: that is sent later
            known[i] = news[i];
        }
    }
    return true;
}

bool map_page(uint64_t address) {
    for (uint64_t known : all().pages)
        if (known == address) return true;
    void* wanted = at(address);
    void* got = ::mmap(wanted, page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    if (got != wanted) {
        if (got != MAP_FAILED) ::munmap(got, page);
        return false;
    }
    all().pages.push_back(address);
    return true;
}

class Inside {
  public:
    Inside() { inside = true; }
    ~Inside() { inside = false; }
};

}  // namespace

CUresult add(const char* name, CUdeviceptr address, size_t bytes) {
    std::lock_guard lock(all().mutex);
    for (const Variable& variable : all().variables)
        if (variable.address == address && variable.bytes == bytes) return CUDA_SUCCESS;
    for (uint64_t at_page = address / page * page; at_page < address + bytes; at_page += page) {
        if (map_page(at_page)) continue;
        log(LogLevel::Error, "managed variable %s at %#llx: something of this process is there already", name,
            static_cast<unsigned long long>(address));
        return CUDA_ERROR_NOT_SUPPORTED;
    }
    auto* known = static_cast<unsigned char*>(::calloc(1, bytes ? bytes : 1));
    if (!known) return CUDA_ERROR_OUT_OF_MEMORY;
    std::memset(at(address), 0, bytes);
    const Inside own_calls;
    Variable variable{address, bytes, known};
    take(variable, true);
    all().variables.push_back(variable);
    some.store(true, std::memory_order_release);
    return CUDA_SUCCESS;
}

void flush() {
    if (inside) return;
    std::lock_guard lock(all().mutex);
    const Inside own_calls;
    if (!all().buffer) all().buffer = static_cast<unsigned char*>(::malloc(Runs::room));
    if (!all().buffer) return;
    Runs runs(all().buffer);
    for (Variable& variable : all().variables) send_changes(variable, runs);
    runs.send();
}

void fetch() {
    if (inside) return;
    std::lock_guard lock(all().mutex);
    const Inside own_calls;
    for (size_t i = 0; i < all().variables.size();) {
        if (take(all().variables[i], false)) {
            ++i;
            continue;
        }
        ::free(all().variables[i].known);
        all().variables.erase(all().variables.begin() + static_cast<std::ptrdiff_t>(i));
    }
}

void Copying::settle() const {
    if (!initialized() || inside) return;
    cuStreamSynchronize_args args{};
    cuStreamSynchronize_res res{};
    call(args, res, {flags_});  // fetches
}

}  // namespace cricket::client::managed

namespace cricket::client {

CUresult impl_cuLibraryGetManaged(CUdeviceptr* dptr, size_t* bytes, CUlibrary library, const char* name) {
    if (!initialized()) return CUDA_ERROR_NOT_INITIALIZED;
    if (!name || (!dptr && !bytes)) return CUDA_ERROR_INVALID_VALUE;
    cuLibraryGetManaged_args args{};
    cuLibraryGetManaged_res res{};
    args.has_dptr = args.has_bytes = true;
    args.library = to_number(library);
    args.name = {name, static_cast<uint32_t>(std::strlen(name) + 1), true, false};
    {
        ReplyGuard guard;
        if (const CUresult result = call(args, res); result != CUDA_SUCCESS) return result;
    }
    if (dptr) *dptr = res.dptr;
    if (bytes) *bytes = res.bytes;
    return managed::add(name, res.dptr, res.bytes);
}

namespace {

// A variable that was found by name may be managed, too: asked where the answer is not known yet.
CUresult found(const char* name, CUdeviceptr address, size_t bytes) {
    cuPointerGetAttribute_args args{};
    cuPointerGetAttribute_res res{};
    args.attribute = CU_POINTER_ATTRIBUTE_IS_MANAGED;
    args.ptr = address;
    bool is_managed = false;
    {
        ReplyGuard guard;
        if (call(args, res) == CUDA_SUCCESS && res.value.size) is_managed = *static_cast<const unsigned char*>(res.value.data) != 0;
    }
    return is_managed ? managed::add(name, address, bytes) : CUDA_SUCCESS;
}

template <class Args, class Res>
CUresult get_global(Args& args, Res& res, CUdeviceptr* dptr, size_t* bytes, const char* name) {
    if (!name || (!dptr && !bytes)) return CUDA_ERROR_INVALID_VALUE;
    args.has_dptr = args.has_bytes = true;
    args.name = {name, static_cast<uint32_t>(std::strlen(name) + 1), true, false};
    {
        ReplyGuard guard;
        if (const CUresult result = call(args, res); result != CUDA_SUCCESS) return result;
    }
    if (dptr) *dptr = res.dptr;
    if (bytes) *bytes = res.bytes;
    return found(name, res.dptr, res.bytes);
}

}  // namespace

CUresult impl_cuModuleGetGlobal_v2(CUdeviceptr* dptr, size_t* bytes, CUmodule hmod, const char* name) {
    if (!initialized()) return CUDA_ERROR_NOT_INITIALIZED;
    if (!hmod) return CUDA_ERROR_INVALID_HANDLE;
    cuModuleGetGlobal_v2_args args{};
    cuModuleGetGlobal_v2_res res{};
    args.hmod = to_number(hmod);
    return get_global(args, res, dptr, bytes, name);
}

CUresult impl_cuLibraryGetGlobal(CUdeviceptr* dptr, size_t* bytes, CUlibrary library, const char* name) {
    if (!initialized()) return CUDA_ERROR_NOT_INITIALIZED;
    cuLibraryGetGlobal_args args{};
    cuLibraryGetGlobal_res res{};
    args.library = to_number(library);
    return get_global(args, res, dptr, bytes, name);
}

}  // namespace cricket::client
