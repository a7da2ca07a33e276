// SPDX-License-Identifier: MIT
#include "chunk_hash.h"

#include <algorithm>

#include "chunk_hash_image.h"
#include "own_calls.h"

namespace cricket::server {
namespace {

constexpr char kernel_name[] = "cricket_hash", kernel[] = "the kernel that hashes memory";
constexpr unsigned threads = 256;
constexpr size_t most_chunks = size_t(1) << 20;  // in one launch

const Attachment& kernel_image() {
    static const Attachment image = own_image(chunk_hash_image, sizeof chunk_hash_image);
    return image;
}

// The kernel as an earlier snapshot has loaded it, maybe in an earlier life.
uint64_t known_kernel(const Journal& journal, uint64_t context) {
    const auto ours = [](const Attachment& image) {
        const auto mine = kernel_image()->span();
        return image && (image == kernel_image() ||
                         (image->size() == mine.size() && std::equal(mine.begin(), mine.end(), image->data())));
    };
    for (const auto& [place, entry] : journal.entries()) {
        if (entry.effect.kind != Effect::Kind::Create || journal.creation(entry.effect.object) != &entry ||
            Objects::kind_of(entry.effect.object) != HandleKind::Function)
            continue;
        const JournalEntry* module = journal.creation(entry.effect.owner);
        if (module && module->effect.owner == context && ours(module->attachment)) return entry.effect.object;
    }
    return 0;
}

std::string find_kernel(Session& session, Executor& executor, uint64_t context, CUfunction* out) {
    OwnCalls calls(session, executor, context);
    uint64_t function = known_kernel(session.journal, context), module = 0;
    std::string why;
    if (!function) why = calls.load(kernel_image(), kernel, &module);
    if (!function && why.empty()) why = calls.find(module, kernel_name, kernel, &function);
    return why.empty() ? calls.resolve(function, kernel, out) : why;
}

}  // namespace

std::string hash_chunks(Session& session, Executor& executor, uint64_t context, std::span<const HashedChunk> chunks,
                        std::span<ContentId> ids) {
    static_assert(sizeof(HashedChunk) == 16 && sizeof(ContentId) == 16);
    const DriverTable& driver = session.driver;
    CUfunction function = nullptr;
    if (std::string why = find_kernel(session, executor, context, &function); !why.empty()) return why;
    if (chunks.empty()) return {};
    const size_t at_once = std::min(chunks.size(), most_chunks), table = at_once * sizeof(HashedChunk);
    CUdeviceptr in = 0;
    if (const CUresult status = session.device_memory.allocate(session.current_device(), 2 * table, 0, &in); status != CUDA_SUCCESS)
        return "no room on the device for a list of chunks: " + result_name(driver, status);
    const CUdeviceptr out = in + table;
    std::string why;
    for (size_t done = 0; done < chunks.size() && why.empty(); done += at_once) {
        const size_t count = std::min(at_once, chunks.size() - done);
        CUdeviceptr from = in, to = out;
        void* parameters[] = {&from, &to};
        CUresult status = driver.cuMemcpyHtoD(in, chunks.data() + done, count * sizeof(HashedChunk));
        if (status == CUDA_SUCCESS)
            status = driver.cuLaunchKernel(function, static_cast<unsigned>(count), 1, 1, threads, 1, 1, 0, CU_STREAM_LEGACY, parameters,
                                           nullptr);
        if (status == CUDA_SUCCESS) status = driver.cuMemcpyDtoH(ids.data() + done, out, count * sizeof(ContentId));
        if (status != CUDA_SUCCESS) why = "hashing device memory: " + result_name(driver, status);
    }
    session.device_memory.free(in);
    session.device_memory.reclaim(in);
    return why;
}

}  // namespace cricket::server
