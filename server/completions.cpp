// SPDX-License-Identifier: MIT
#include "completions.h"

#include <sys/mman.h>

#include "session.h"

namespace cricket::server {

Completions::Page Completions::make() {
    Page page;
    // Stays mapped when its context ends: 4 KiB each.
    auto* place = reinterpret_cast<void*>(completions_place + made_ * page_bytes);
    void* memory = ::mmap(place, page_bytes, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    if (memory == MAP_FAILED) return page;
    ++made_;
    CUdeviceptr seen = 0;
    if (driver_.cuMemHostRegister(memory, page_bytes, CU_MEMHOSTREGISTER_DEVICEMAP) != CUDA_SUCCESS)
        return page;
    if (driver_.cuMemHostGetDevicePointer(&seen, memory, 0) != CUDA_SUCCESS ||
        seen != reinterpret_cast<CUdeviceptr>(memory)) {
        driver_.cuMemHostUnregister(memory);
        return page;
    }
    page.base = static_cast<std::byte*>(memory);
    for (unsigned i = 0; i < words; ++i)
        page.idle.push_back(reinterpret_cast<Place*>(page.base + i * word_stride));
    return page;
}

Completions::Word Completions::behind(uint64_t context, CUstream stream) {
    auto found = pages_.find(context);
    if (found == pages_.end()) found = pages_.emplace(context, make()).first;
    std::vector<Place*>& idle = found->second.idle;
    if (idle.empty()) return {};
    const Word word{idle.back(), idle.back()->load(std::memory_order_relaxed) + 1};
    if (driver_.cuStreamWriteValue32(stream, reinterpret_cast<CUdeviceptr>(word.place), word.value,
                                     CU_STREAM_WRITE_VALUE_DEFAULT) != CUDA_SUCCESS)
        return {};
    idle.pop_back();
    return word;
}

void Completions::give(Word word) {
    if (!word.written()) return;  // may be written yet
    const auto at = reinterpret_cast<uint64_t>(word.place);
    for (auto& [context, page] : pages_)
        if (at - reinterpret_cast<uint64_t>(page.base) < page_bytes) page.idle.push_back(word.place);
}

void Completions::context_ends(uint64_t context) {
    const auto found = pages_.find(context);
    if (found == pages_.end() || !found->second.base) return;
    driver_.cuMemHostUnregister(found->second.base);
    found->second = {};
}

}  // namespace cricket::server
