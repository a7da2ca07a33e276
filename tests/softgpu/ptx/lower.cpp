// SPDX-License-Identifier: MIT
// From the parsed text to a runnable program: who calls whom, where shared variables and frames lie, then
// decoding and layout of every function.
#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <new>
#include <set>

#include "decode.h"

namespace softgpu::ptx {

Constants::Constants() {
    value(0, 8);
}

void Constants::Free::operator()(void* p) const {
    std::free(p);
}

uint32_t Constants::allocate(unsigned width) {
    size_t bytes = width == 1 ? 64 : size_t{kLanes} * width;  // predicates: one word, kept aligned
    if (used_ + bytes > capacity_) {
        size_t capacity = std::max<size_t>(4096, capacity_ * 2);
        void* grown = std::aligned_alloc(256, capacity);
        if (!grown) throw std::bad_alloc();
        if (used_) std::memcpy(grown, bytes_, used_);
        storage_.reset(grown);
        bytes_ = static_cast<uint8_t*>(grown);
        capacity_ = capacity;
    }
    auto at = static_cast<uint32_t>(used_);
    used_ += bytes;
    return at;
}

void Constants::fill(uint32_t at, uint64_t bits, unsigned width) {
    if (width == 1) {
        auto lanes = static_cast<uint32_t>(bits);
        std::memcpy(bytes_ + at, &lanes, sizeof lanes);
        return;
    }
    for (uint32_t i = 0; i < kLanes; ++i) std::memcpy(bytes_ + at + i * width, &bits, width);
}

uint32_t Constants::value(uint64_t bits, unsigned width) {
    if (width > 1 && width < 8) bits &= (uint64_t{1} << (8 * width)) - 1;
    auto [it, fresh] = values_.try_emplace({bits, width}, 0);
    if (fresh) {
        it->second = allocate(width);
        fill(it->second, bits, width);
    }
    return it->second | kConstant;
}

uint32_t Constants::address(const VariableDecl* variable, int64_t offset) {
    auto [it, fresh] = addresses_.try_emplace({variable, offset}, 0);
    if (fresh) {
        it->second = allocate(8);
        fill(it->second, 0, 8);
    }
    return it->second | kConstant;
}

void Constants::placed(const VariableDecl* variable, uint64_t address) {
    for (auto it = addresses_.lower_bound({variable, INT64_MIN});
         it != addresses_.end() && it->first.first == variable; ++it)
        fill(it->second, address + static_cast<uint64_t>(it->first.second), 8);
}

namespace {

// What one function uses directly.
struct Uses {
    std::set<Function*> callees;
    std::set<VariableDecl*> shared;
    bool indirect = false;
};

class Lowering {
  public:
    explicit Lowering(Program& program) : program_(program) {}

    void run() {
        create_functions();
        uses_.resize(program_.functions.size());
        for (auto& f : program_.functions) collect(*f);
        for (VariableDecl* v : program_.ast.globals)
            for (const Initial& i : v->initial) address_taken(i.symbol);
        place_shared();
        for (auto& f : program_.functions) place_frame(*f);
        for (auto& f : program_.functions) {
            if (!f->decl->defined) continue;
            Decoder decoder(program_, *f);
            decoder.decode();
            lay_out(*f, decoder);
        }
        measure_stacks();
    }

  private:
    static Builtin builtin_named(std::string_view name) {
        if (name == "vprintf") return Builtin::Printf;
        if (name == "__assertfail") return Builtin::AssertFail;
        if (name == "malloc") return Builtin::Malloc;
        if (name == "free") return Builtin::Free;
        if (name == "cudaGraphSetConditional") return Builtin::SetConditional;
        return Builtin::None;
    }

    void create_functions() {
        std::map<FunctionDecl*, Function*> made;
        for (FunctionDecl& d : program_.ast.functions) {
            auto f = std::make_unique<Function>();
            f->name = d.name;
            f->decl = &d;
            f->index = static_cast<uint32_t>(program_.functions.size());
            if (!d.defined) f->builtin = builtin_named(d.name);
            made[&d] = f.get();
            program_.functions.push_back(std::move(f));
        }
        for (auto& [name, decl] : program_.ast.function_named) program_.function_named[name] = made[decl];
    }

    void address_taken(std::string_view name) {
        auto it = program_.function_named.find(name);
        if (it != program_.function_named.end()) address_taken_.insert(it->second);
    }

    void collect(Function& f) {
        Uses& uses = uses_[f.index];
        std::function<void(const Operand&)> look = [&](const Operand& o) {
            if (o.kind == Operand::Kind::Variable && o.variable->space == Space::Shared)
                uses.shared.insert(o.variable);
            if (o.kind == Operand::Kind::Name) address_taken(o.name);
            for (const Operand& part : o.parts) look(part);
        };
        for (const Statement& s : f.decl->body) {
            if (s.label) continue;
            if (s.opcode == "call" && !s.operands.empty()) {
                const Operand& target = s.operands[0];
                auto it = target.kind == Operand::Kind::Name ? program_.function_named.find(target.name)
                                                             : program_.function_named.end();
                if (it != program_.function_named.end())
                    uses.callees.insert(it->second);
                else
                    uses.indirect = true;
                continue;
            }
            for (const Operand& o : s.operands) look(o);
        }
    }

    std::set<Function*> reached_from(Function* f) const {
        std::set<Function*> seen;
        std::vector<Function*> todo{f};
        while (!todo.empty()) {
            Function* g = todo.back();
            todo.pop_back();
            if (!seen.insert(g).second) continue;
            const Uses& uses = uses_[g->index];
            todo.insert(todo.end(), uses.callees.begin(), uses.callees.end());
            if (uses.indirect) todo.insert(todo.end(), address_taken_.begin(), address_taken_.end());
        }
        return seen;
    }

    // Each variable gets the lowest offset free in every kernel that reaches it, so one layout serves them
    // all.
    void place_shared() {
        std::map<VariableDecl*, std::vector<Function*>> users;
        std::vector<VariableDecl*> order;
        for (auto& f : program_.functions) {
            if (!f->decl->entry) continue;
            for (Function* g : reached_from(f.get()))
                for (VariableDecl* v : uses_[g->index].shared) {
                    auto& list = users[v];
                    if (list.empty()) order.push_back(v);
                    if (list.empty() || list.back() != f.get()) list.push_back(f.get());
                }
        }
        std::sort(order.begin(), order.end(), [](auto* a, auto* b) { return a->line < b->line; });
        std::map<Function*, std::vector<VariableDecl*>> in_kernel;
        for (VariableDecl* v : order) {
            if (v->external && v->size == 0) continue;
            uint64_t at = 0;
            for (bool moved = true; moved;) {
                moved = false;
                at = (at + v->align - 1) / v->align * v->align;
                for (Function* k : users[v])
                    for (VariableDecl* other : in_kernel[k])
                        if (at < other->offset + other->size && other->offset < at + v->size) {
                            at = other->offset + other->size;
                            moved = true;
                        }
            }
            v->offset = at;
            for (Function* k : users[v]) {
                in_kernel[k].push_back(v);
                k->static_shared = std::max(k->static_shared, static_cast<uint32_t>(at + v->size));
            }
        }
        // Dynamic shared memory starts behind the static one, aligned for any access.
        for (auto& f : program_.functions) {
            bool dynamic = false;
            if (f->decl->entry)
                for (Function* g : reached_from(f.get()))
                    for (VariableDecl* v : uses_[g->index].shared) dynamic |= v->external && v->size == 0;
            if (dynamic) f->static_shared = (f->static_shared + 15) & ~15u;
        }
    }

    // Formal parameters, then .local variables and call slots; those of disjoint scopes share space.
    void place_frame(Function& f) {
        uint64_t at = 0;
        auto put = [&](VariableDecl* v, uint64_t& end) {
            v->offset = (end + v->align - 1) / v->align * v->align;
            end = v->offset + v->size;
        };
        const FunctionDecl& d = *f.decl;
        if (!d.entry) {
            for (auto* list : {&d.results, &d.params})
                for (VariableDecl* v : *list) {
                    put(v, at);
                    auto& slots = list == &d.results ? f.results : f.params;
                    slots.push_back(Slot{static_cast<uint32_t>(v->offset), static_cast<uint32_t>(v->size)});
                }
        }
        std::vector<uint64_t> end(std::max<size_t>(d.scope_parent.size(), 1), 0);
        uint64_t most = at;
        for (size_t scope = 0; scope < end.size(); ++scope) {  // parents have smaller numbers
            bool body = scope == 0 || d.scope_parent.empty();
            end[scope] = body ? at : end[static_cast<size_t>(d.scope_parent[scope])];
            for (VariableDecl* v : variables_in(d, static_cast<int>(scope))) put(v, end[scope]);
            most = std::max(most, end[scope]);
        }
        if (most > (1u << 24)) throw ParseError(d.line, std::string(d.name), "local variables too large");
        f.frame_bytes = static_cast<uint32_t>((most + 15) & ~uint64_t{15});
    }

    std::vector<VariableDecl*> variables_in(const FunctionDecl& d, int scope) {
        if (by_scope_of_ != &d) {
            by_scope_.clear();
            for (VariableDecl* v : d.variables)
                if (v->space == Space::Local || v->space == Space::Param) by_scope_[v->scope].push_back(v);
            by_scope_of_ = &d;
        }
        return by_scope_[scope];
    }

    // The deepest chain of calls; recursion and indirect calls make it unbounded.
    void measure_stacks() {
        struct Measure {
            uint32_t depth = 0;
            bool open = false, unbounded = false;
        };
        std::map<Function*, Measure> done;
        std::function<Measure(Function*)> measure = [&](Function* f) -> Measure {
            auto [it, fresh] = done.try_emplace(f);
            if (!fresh) return it->second.open ? Measure{0, false, true} : it->second;
            it->second.open = true;
            Measure m{0, false, uses_[f->index].indirect};
            for (Function* g : uses_[f->index].callees) {
                Measure below = measure(g);
                m.depth = std::max(m.depth, below.depth);
                m.unbounded |= below.unbounded;
            }
            m.depth += f->frame_bytes;
            return done[f] = m;
        };
        for (auto& f : program_.functions) {
            if (!f->decl->entry) continue;
            Measure m = measure(f.get());
            f->stack_bytes = m.depth;
            f->unbounded_stack = m.unbounded;
        }
    }

    Program& program_;
    std::vector<Uses> uses_;
    std::set<Function*> address_taken_;
    const FunctionDecl* by_scope_of_ = nullptr;
    std::map<int, std::vector<VariableDecl*>> by_scope_;
};

}  // namespace

void lower(Program& program) {
    Lowering(program).run();
}

}  // namespace softgpu::ptx
