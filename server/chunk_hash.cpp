// SPDX-License-Identifier: MIT
#include "chunk_hash.h"

#include <algorithm>

#include "checkpoint_parts.h"
#include "chunk_hash_image.h"
#include "dispatch.h"

namespace cricket::server {
namespace {

constexpr char kernel_name[] = "cricket_hash";
constexpr unsigned threads = 256;
constexpr size_t most_chunks = size_t(1) << 20;  // in one launch

const Attachment& kernel_image() {
    static const Attachment image = std::make_shared<const ImageBytes>(std::vector<std::byte>(
        reinterpret_cast<const std::byte*>(chunk_hash_image), reinterpret_cast<const std::byte*>(chunk_hash_image) + sizeof chunk_hash_image));
    return image;
}

class Kernel {
  public:
    Kernel(Session& session, Executor& executor, uint64_t context)
        : session_(session),
          executor_(executor),
          context_(context),
          call_{session, session.driver, session.objects, {}, nullptr, 0, {}, false, 0, 0} {
        call_.credential.seq = session.executed;
        call_.credential.context = context;
    }

    std::string find(CUfunction* out) {
        uint64_t number = known();
        if (!number) {
            if (std::string why = load(&number); !why.empty()) return why;
        }
        if (session_.make_current(context_) != CUDA_SUCCESS || !session_.loading.function(call_, number, out) || !*out)
            return "the kernel that hashes memory cannot be loaded";
        return {};
    }

  private:
    template <typename Args, typename Res>
    void execute(Proc procedure, Args* args, Res* res) {
        const auto number = static_cast<uint32_t>(procedure);
        executor_.execute(dispatch_table[number - wire::first_cuda_proc], number, call_, args, res);
    }
    std::string said(const char* what, int32_t status) const {
        return std::string(what) + ": " + result_name(session_.driver, static_cast<CUresult>(status));
    }

    // Loaded by an earlier snapshot, maybe in an earlier life.
    uint64_t known() const {
        const Journal& journal = session_.journal;
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
            if (module && module->effect.owner == context_ && ours(module->attachment)) return entry.effect.object;
        }
        return 0;
    }

    std::string load(uint64_t* number) {
        cuModuleLoadData_args load{};
        cuModuleLoadData_res loaded{};
        call_.attachment = kernel_image();
        execute(Proc::cuModuleLoadData, &load, &loaded);
        call_.attachment.reset();
        if (loaded.status != CUDA_SUCCESS) return said("loading the kernel that hashes memory", loaded.status);
        cuModuleGetFunction_args get{};
        cuModuleGetFunction_res got{};
        get.hmod = loaded.module;
        get.name.data = kernel_name;
        get.name.size = sizeof kernel_name;
        get.name.present = true;
        execute(Proc::cuModuleGetFunction, &get, &got);
        if (got.status != CUDA_SUCCESS) return said("finding the kernel that hashes memory", got.status);
        *number = got.hfunc;
        return {};
    }

    Session& session_;
    Executor& executor_;
    const uint64_t context_;
    Call call_;
};

}  // namespace

std::string hash_chunks(Session& session, Executor& executor, uint64_t context, std::span<const HashedChunk> chunks,
                        std::span<ContentId> ids) {
    static_assert(sizeof(HashedChunk) == 16 && sizeof(ContentId) == 16);
    const DriverTable& driver = session.driver;
    CUfunction function = nullptr;
    if (std::string why = Kernel(session, executor, context).find(&function); !why.empty()) return why;
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
