// SPDX-License-Identifier: MIT
// The Module of ptx.h: a program with its variables' places, and launching its kernels.
#include <immintrin.h>

#include <algorithm>
#include <cstring>
#include <thread>

#include "ops.h"
#include "parser.h"
#include "runtime.h"

namespace softgpu::ptx {

namespace {

class ModuleImpl final : public Module {
  public:
    explicit ModuleImpl(std::string_view text) {
        while (!text.empty() && text.back() == '\0') text.remove_suffix(1);
        program_.ast.text = text;
        parse_text(program_.ast);
        lower(program_);
        for (const VariableDecl* v : program_.ast.globals)
            variables_.push_back(Variable{std::string(v->name), v->space == Space::Const, v->visible,
                                          v->managed, v->external, v->size, v->align});
        for (auto& f : program_.functions)
            if (f->decl->entry && f->decl->defined) add_kernel(*f);
    }

    const std::vector<Variable>& variables() const override { return variables_; }
    const std::vector<Kernel>& kernels() const override { return kernels_; }
    int target() const override { return program_.ast.target; }

    void place(size_t index, void* storage) override {
        VariableDecl* v = program_.ast.globals.at(index);
        v->placed = reinterpret_cast<uint64_t>(storage);
        program_.constants.placed(v, v->placed);
    }

    void initialize() override {
        for (const VariableDecl* v : program_.ast.globals) {
            if (v->external) continue;
            auto* at = reinterpret_cast<uint8_t*>(v->placed);
            if (!at) throw std::logic_error("PTX variable '" + std::string(v->name) + "' has no place");
            std::memset(at, 0, v->size);
            for (const Initial& i : v->initial) {
                uint64_t value = i.symbol.empty() ? i.value : (address_of(i) + i.value) >> i.shift;
                std::memcpy(at + i.offset, &value, i.size);
            }
        }
    }

    void run(const Kernel& kernel, const Launch& launch, const AccessCheck& may_access,
             const std::function<void(std::string_view)>& print, unsigned threads) const override;

  private:
    uint64_t address_of(const Initial& i) const {
        if (auto it = program_.ast.variable_named.find(i.symbol); it != program_.ast.variable_named.end())
            return it->second->placed;
        if (auto it = program_.function_named.find(i.symbol); it != program_.function_named.end())
            return code_address(it->second->index);
        throw ParseError(i.line, std::string(i.symbol), "unknown symbol in an initial value");
    }

    void add_kernel(const Function& f) {
        Kernel k;
        k.name = f.name;
        uint64_t end = 0;
        for (const VariableDecl* v : f.decl->params) {
            k.params.push_back(Param{static_cast<uint32_t>(v->offset), static_cast<uint32_t>(v->size)});
            end = std::max(end, v->offset + v->size);
        }
        k.param_bytes = static_cast<uint32_t>(end);
        k.static_shared_bytes = f.static_shared;
        k.local_bytes = f.stack_bytes;
        if (f.decl->max_threads) k.max_threads = f.decl->max_threads;
        // The virtual registers are in single assignment; ptxas needs far fewer, and no more than let a block
        // run.
        uint64_t words = 0;
        for (const RegisterDecl& r : f.decl->registers)
            words += size_of(r.type) == 8 ? 2 : r.type == Type::Pred ? 0 : 1;
        k.registers =
            static_cast<uint32_t>(std::clamp<uint64_t>(words / 4, 16, std::min(255u, 65536 / k.max_threads)));
        kernels_.push_back(std::move(k));
    }

    Program program_;
    std::vector<Variable> variables_;
    std::vector<Kernel> kernels_;
};

void ModuleImpl::run(const Kernel& kernel, const Launch& launch, const AccessCheck& may_access,
                     const std::function<void(std::string_view)>& print, unsigned threads) const {
    auto found = program_.function_named.find(kernel.name);
    if (found == program_.function_named.end() || !found->second->decl->entry)
        throw std::invalid_argument("no kernel '" + kernel.name + "' in this module");
    const Function& entry = *found->second;
    uint64_t block_threads = uint64_t{launch.block.x} * launch.block.y * launch.block.z;
    uint64_t blocks = uint64_t{launch.grid.x} * launch.grid.y * launch.grid.z;
    if (block_threads == 0 || blocks == 0 || block_threads > 1024)
        throw std::invalid_argument("impossible dimensions in the launch of '" + kernel.name + "'");
    if (launch.params.size() < kernel.param_bytes)
        throw std::invalid_argument("parameter buffer of '" + kernel.name + "' too small");
    static std::atomic<uint64_t> grids{0};
    LaunchState state;
    state.program = &program_;
    state.entry = &entry;
    state.launch = launch;
    state.params.assign(launch.params.begin(), launch.params.end());
    state.may_access = &may_access;
    state.print = &print;
    state.grid_id = ++grids;
    state.blocks = blocks;
    state.block_threads = static_cast<uint32_t>(block_threads);
    state.warps = (state.block_threads + kLanes - 1) / kLanes;
    state.shared_bytes = entry.static_shared + launch.dynamic_shared_bytes;
    state.local_bytes =
        entry.unbounded_stack ? std::max(entry.stack_bytes, launch.stack_bytes) : entry.stack_bytes;
    // An odd number of cache lines apart, the lanes' stacks do not crowd the same cache sets.
    if (state.local_bytes) state.local_bytes = ((state.local_bytes + 63) & ~63u) | 64u;

    unsigned workers = threads ? threads : std::max(1u, std::thread::hardware_concurrency());
    workers = static_cast<unsigned>(std::min<uint64_t>(workers, blocks));
    state.workers = workers;
    run_on_pool(workers, [&state] {
        unsigned saved = _mm_getcsr();
        _mm_setcsr(kCsrDefault);
        try {
            Worker(state).run();
        } catch (...) {
            state.set_fault(std::current_exception());
        }
        _mm_setcsr(saved);
    });
    if (state.fault) std::rethrow_exception(state.fault);
}

}  // namespace

std::unique_ptr<Module> Module::parse(std::string_view ptx) {
    return std::make_unique<ModuleImpl>(ptx);
}

}  // namespace softgpu::ptx
