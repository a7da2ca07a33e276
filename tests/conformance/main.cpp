// SPDX-License-Identifier: MIT
// conform [GLOB]: runs every case and prints what each call answered. Cases share worker processes, since cuInit costs
// a third of a second; a case that ends its worker (a driver that is handed NULL may crash) is reported as its signal,
// and the next worker goes on behind it. The parent itself never touches CUDA.
#include <fnmatch.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "conform.h"

namespace conform {
namespace {

constexpr unsigned call_seconds = 5, sequence_seconds = 20;  // of a generated case, of the others
constexpr int state_lost = 9;  // exit status of a worker whose context is no longer usable

// Shared with the workers.
struct Progress {
    size_t begun;
    size_t done;
};

CUcontext primary;
CUmodule loaded;
const Unit* current_unit;
bool retiring;

// Back to what the next case expects; false when that cannot be.
bool reset_state() {
    CUcontext context = nullptr;
    for (int depth = 0; depth < 64; ++depth) {
        if (cuCtxGetCurrent(&context) != CUDA_SUCCESS) return false;
        if (!context) break;
        if (cuCtxPopCurrent(&context) != CUDA_SUCCESS) return false;
    }
    if (current_unit->group != Group::Context) return true;
    if (!primary && cuDevicePrimaryCtxRetain(&primary, 0) != CUDA_SUCCESS) return false;
    return cuCtxSetCurrent(primary) == CUDA_SUCCESS && cuCtxSynchronize() == CUDA_SUCCESS;
}

[[noreturn]] void work(const std::vector<Unit>& todo, size_t from, Progress* progress) {
    const Group group = todo[from].group;
    current_unit = &todo[from];
    if (group != Group::Uninitialized) {
        if (cuInit(0) != CUDA_SUCCESS || !reset_state()) {
            std::printf("no usable device\n");
            std::fflush(stdout);
            _exit(1);
        }
    }
    for (size_t at = from; at < todo.size() && todo[at].group == group; ++at) {
        current_unit = &todo[at];
        progress->begun = at;
        alarm(todo[at].data ? call_seconds : sequence_seconds);
        todo[at].run(todo[at]);
        const bool usable = group == Group::Uninitialized || reset_state();
        alarm(0);
        std::fflush(stdout);
        progress->done = at + 1;
        if (!usable || retiring || todo[at].alone) _exit(state_lost);
    }
    _exit(0);
}

}  // namespace

std::vector<Unit>& units() {
    static std::vector<Unit> all;
    return all;
}

CUresult told(const char* text, CUresult result) {
    std::printf("%s %s -> %d\n", current_unit->name.c_str(), text, static_cast<int>(result));
    std::fflush(stdout);
    return result;
}

CUresult told_now(const char* text, CUresult result) {
    CUcontext context = nullptr;
    if (result != CUDA_SUCCESS || cuCtxGetCurrent(&context) != CUDA_SUCCESS || !context) return told(text, result);
    const CUresult later = cuCtxSynchronize();
    std::printf("%s %s -> %d%s\n", current_unit->name.c_str(), text, static_cast<int>(later), later ? " later" : "");
    std::fflush(stdout);
    return later;
}

void value(const char* name, long long number) {
    std::printf("%s %s = %lld\n", current_unit->name.c_str(), name, number);
    std::fflush(stdout);
}

void text(const char* name, const char* text) {
    std::printf("%s %s = '%s'\n", current_unit->name.c_str(), name, text);
    std::fflush(stdout);
}

void bytes(const char* name, const void* data, size_t size) {
    uint64_t hash = 14695981039346656037u;  // FNV-1a
    for (size_t i = 0; i < size; ++i) hash = (hash ^ static_cast<const uint8_t*>(data)[i]) * 1099511628211u;
    std::printf("%s %s = %zu bytes %016llx\n", current_unit->name.c_str(), name, size,
                static_cast<unsigned long long>(hash));
}

void say(const char* what) { std::printf("%s %s\n", current_unit->name.c_str(), what); }

extern "C" const unsigned char conform_kernels[];  // kernels.ptx, generated

void retire_process() { retiring = true; }

CUmodule kernels() {
    if (!loaded && cuModuleLoadData(&loaded, conform_kernels) != CUDA_SUCCESS) loaded = nullptr;
    return loaded;
}

CUfunction kernel(const char* name) {
    CUfunction function = nullptr;
    const CUresult result = cuModuleGetFunction(&function, kernels(), name);
    if (result != CUDA_SUCCESS) std::printf("%s no kernel %s: %d\n", current_unit->name.c_str(), name, result);
    return function;
}

}  // namespace conform

int main(int argc, char** argv) {
    using namespace conform;
    add_generated();
    std::vector<Unit> todo;
    for (const Unit& unit : units())
        if (argc < 2 || fnmatch(argv[1], unit.name.c_str(), 0) == 0) todo.push_back(unit);
    std::stable_sort(todo.begin(), todo.end(), [](const Unit& a, const Unit& b) { return a.group < b.group; });
    if (argc > 1 && !std::strcmp(argv[1], "--list")) {
        for (const Unit& unit : units()) std::printf("%s\n", unit.name.c_str());
        return 0;
    }
    auto* progress = static_cast<Progress*>(
        mmap(nullptr, sizeof(Progress), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
    if (progress == MAP_FAILED) return 1;
    for (size_t next = 0; next < todo.size();) {
        progress->begun = next;
        progress->done = next;
        std::fflush(stdout);
        const pid_t child = fork();
        if (child < 0) return 1;
        if (child == 0) work(todo, next, progress);
        int status = 0;
        if (waitpid(child, &status, 0) != child) return 1;
        next = progress->done;
        if (WIFSIGNALED(status)) {
            // A worker that dies between two cases has the last one to thank.
            const size_t guilty = progress->begun < progress->done ? progress->done - 1 : progress->begun;
            std::printf("%s ended by %s\n", todo[guilty].name.c_str(),
                        WTERMSIG(status) == SIGALRM ? "hanging" : strsignal(WTERMSIG(status)));
            next = guilty + 1;
        } else if (WEXITSTATUS(status) != 0 && WEXITSTATUS(status) != state_lost) {
            if (progress->done == progress->begun) std::printf("%s ended with status %d\n", todo[progress->begun].name.c_str(), WEXITSTATUS(status));
            return 1;
        }
    }
    std::printf("cases: %zu\n", todo.size());
}
