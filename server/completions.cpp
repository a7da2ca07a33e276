// SPDX-License-Identifier: MIT
#include "completions.h"

#include <sys/mman.h>

#include "places.h"
#include "session.h"

namespace cricket::server {

void Completions::Page::look_at_late() {
    std::erase_if(late, [this](const Word& word) {
        if (!word.written()) return false;
        idle.push_back(word.place);
        return true;
    });
}

bool Completions::show_device(const DriverTable& driver, std::byte* memory, uint64_t bytes) {
    CUdeviceptr seen = 0;
    if (driver.cuMemHostRegister(memory, bytes, CU_MEMHOSTREGISTER_DEVICEMAP) != CUDA_SUCCESS) return false;
    if (driver.cuMemHostGetDevicePointer(&seen, memory, 0) == CUDA_SUCCESS && seen == reinterpret_cast<CUdeviceptr>(memory)) return true;
    driver.cuMemHostUnregister(memory);
    return false;
}

Completions::Page Completions::make() {
    if (spare_.empty()) {
        auto* place = reinterpret_cast<void*>(places::completions.address + made_ * page_bytes);
        void* memory = ::mmap(place, page_bytes, PROT_READ | PROT_WRITE,
                              MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
        if (memory == MAP_FAILED) return {};
        ++made_;
        spare_.push_back(static_cast<std::byte*>(memory));
    }
    std::byte* const base = spare_.back();
    if (!show_device(driver_, base, page_bytes)) return {};
    spare_.pop_back();
    Page page{base, {}, {}};
    for (unsigned i = 0; i < words; ++i)
        page.idle.push_back(reinterpret_cast<Place*>(base + i * word_stride));
    return page;
}

Completions::Word Completions::behind(uint64_t context, CUstream stream) {
    auto found = pages_.find(context);
    if (found == pages_.end()) found = pages_.emplace(context, make()).first;
    std::vector<Place*>& idle = found->second.idle;
    if (idle.empty()) found->second.look_at_late();
    if (idle.empty()) return {};
    const Word word{idle.back(), idle.back()->load(std::memory_order_relaxed) + 1};
    if (driver_.cuStreamWriteValue32(stream, reinterpret_cast<CUdeviceptr>(word.place), word.value,
                                     CU_STREAM_WRITE_VALUE_DEFAULT) != CUDA_SUCCESS)
        return {};
    idle.pop_back();
    return word;
}

void Completions::give(Word word) {
    if (!word.place) return;
    const auto at = reinterpret_cast<uint64_t>(word.place);
    for (auto& [context, page] : pages_) {
        if (at - reinterpret_cast<uint64_t>(page.base) >= page_bytes) continue;
        if (word.written())
            page.idle.push_back(word.place);
        else
            page.late.push_back(word);
    }
}

void Completions::context_ends(uint64_t context) {
    const auto found = pages_.find(context);
    if (found == pages_.end() || !found->second.base) return;
    Page& page = found->second;
    page.look_at_late();
    // One with a word that is still awaited stays as it is.
    if (page.idle.size() == words && driver_.cuMemHostUnregister(page.base) == CUDA_SUCCESS)
        spare_.push_back(page.base);
    page = {};
}

}  // namespace cricket::server
