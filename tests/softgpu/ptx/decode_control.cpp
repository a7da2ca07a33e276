// SPDX-License-Identifier: MIT
// Branches, calls, barriers, exchanges within the warp.
#include <algorithm>

#include "decode.h"

namespace softgpu::ptx {

namespace {

uint8_t byte_of(auto e) {
    return static_cast<uint8_t>(e);
}

}  // namespace

void Decoder::bra() {
    take(".uni");
    expect_operands(1);
    if (operand(0).kind != Operand::Kind::Name) fail("expected a label");
    Instr in = start(plain::nothing());
    in.kind = in.guard == kNone ? Kind::Jump : Kind::Branch;
    emit(in);
    drafts_.back().label = operand(0).name;
}

void Decoder::brx() {
    if (!take(".idx")) fail("unsupported branch");
    take(".uni");
    expect_operands(2);
    if (operand(1).kind != Operand::Kind::Name) fail("expected the name of a table");
    Instr in = start(plain::nothing());
    in.kind = Kind::BranchTable;
    in.op[0] = source(0, Type::U32);
    emit(in);
    drafts_.back().table = operand(1).name;
}

Slot Decoder::call_slot(const Operand& o) const {
    if (o.kind != Operand::Kind::Variable || o.variable->space != Space::Param || o.variable->entry_param)
        fail("only .param variables can be passed");
    return Slot{static_cast<uint32_t>(o.variable->offset), static_cast<uint32_t>(o.variable->size)};
}

void Decoder::call() {
    take(".uni");
    auto site = std::make_unique<CallSite>();
    for (const Operand& o : statement_->results) site->results.push_back(call_slot(o));
    for (const Operand& o : statement_->arguments) site->arguments.push_back(call_slot(o));
    Instr in = start(plain::nothing());
    in.kind = Kind::Call;
    const Operand& target = operand(0);
    if (target.kind == Operand::Kind::Name) {
        auto it = program_.function_named.find(target.name);
        if (it == program_.function_named.end()) fail("call of an unknown function");
        const Function* f = it->second;
        if (!f->decl->defined && f->builtin == Builtin::None) fail("call of a function without a definition");
        if (f->decl->entry) fail("call of a kernel");
        auto same = [](const std::vector<Slot>& given, const std::vector<VariableDecl*>& declared) {
            return std::equal(given.begin(), given.end(), declared.begin(), declared.end(),
                              [](const Slot& s, const VariableDecl* v) { return s.size == v->size; });
        };
        if (!same(site->arguments, f->decl->params) || !same(site->results, f->decl->results))
            fail("call does not fit the function's parameters");
        site->callee = f;
    } else {
        site->target = source(target, Type::U64);
    }
    in.data = site.get();
    function_.calls.push_back(std::move(site));
    emit(in);
}

void Decoder::ret() {
    take(".uni");
    expect_operands(0);
    Instr in = start(plain::nothing());
    in.kind = Kind::Return;
    emit(in);
}

void Decoder::exit() {
    expect_operands(0);
    Instr in = start(plain::nothing());
    in.kind = Kind::Exit;
    emit(in);
}

void Decoder::trap() {
    expect_operands(0);
    Instr in = start(plain::nothing());
    in.kind = Kind::Trap;
    emit(in);
}

void Decoder::bar() {
    if (take(".warp")) {
        if (!take(".sync")) fail("unsupported barrier");
        warp_barrier(0);
        return;
    }
    barrier();
}

void Decoder::warp_barrier(size_t at) {
    expect_operands(at + 1);
    Instr in = start(plain::nothing());
    in.kind = Kind::WarpBarrier;
    in.op[5] = mask_operand(at);
    emit(in);
}

// op: [0] number, [1] threads, [2] result, [3] predicate; flag: [0] mode, [1] reduction, [2] predicate
// negated.
void Decoder::barrier() {
    take(".cta");
    if (take(".cluster")) fail("cluster barriers are not supported");
    int mode = take_one({".sync", ".arrive", ".red"});
    if (mode < 0) fail("unsupported barrier");
    take(".aligned");
    Instr in = start(plain::nothing());
    in.kind = Kind::Barrier;
    in.flag[0] = byte_of(mode == 0   ? BarrierUse::Mode::Sync
                         : mode == 1 ? BarrierUse::Mode::Arrive
                                     : BarrierUse::Mode::Reduce);
    size_t at = 0;
    if (mode == 2) {
        int reduction = take_one({".and", ".or", ".popc"});
        if (reduction < 0) fail("barrier reduction without an operation");
        Type t = take_type();
        bool popc = reduction == 2;
        if (t != (popc ? Type::U32 : Type::Pred)) fail("unsupported type");
        expect_operands(3, 4);
        in.flag[1] = byte_of(popc        ? BarrierUse::Reduce::Popc
                             : reduction ? BarrierUse::Reduce::Or
                                         : BarrierUse::Reduce::And);
        in.op[2] = popc ? destination(0, Type::U32) : predicate_destination(operand(0));
        bool negated = false;
        in.op[3] = predicate_source(operand(statement_->operands.size() - 1), negated);
        in.flag[2] = negated;
        at = 1;
        in.op[0] = source(1, Type::U32);
        if (statement_->operands.size() == 4) in.op[1] = source(2, Type::U32);
    } else {
        expect_operands(mode == 1 ? 2 : 1, 2);
        in.op[0] = source(at, Type::U32);
        if (statement_->operands.size() == 2) in.op[1] = source(at + 1, Type::U32);
    }
    emit(in);
}

// op: [0] d, [1] p, [2] a, [3] b, [4] c, [5] members.
void Decoder::shfl() {
    if (!take(".sync")) fail("shfl without .sync is not supported");
    int mode = take_one({".up", ".down", ".bfly", ".idx"});
    if (mode < 0 || take_type() != Type::B32) fail("unsupported shuffle");
    expect_operands(5);
    Instr in = start(plain::shfl(byte_of(mode)));
    in.kind = Kind::Collective;
    Operand d = operand(0);
    if (!d.parts.empty() && d.parts[0].kind != Operand::Kind::Sink)
        in.op[1] = predicate_destination(d.parts[0]);
    d.parts.clear();
    for (size_t k = 1; k <= 3; ++k) in.op[1 + k] = source(k, Type::B32);
    in.op[5] = mask_operand(4);
    in.op[0] = destination(d, 4);
    emit(in);
}

void Decoder::vote() {
    if (!take(".sync")) fail("vote without .sync is not supported");
    int mode = take_one({".all", ".any", ".uni", ".ballot"});
    Type t = take_type();
    if (mode < 0 || t != (mode == 3 ? Type::B32 : Type::Pred)) fail("unsupported vote");
    expect_operands(3);
    Instr in = start(plain::vote(byte_of(mode)));
    in.kind = Kind::Collective;
    bool negated = false;
    in.op[1] = predicate_source(operand(1), negated);
    in.flag[0] = negated;
    in.op[5] = mask_operand(2);
    in.op[0] = mode == 3 ? destination(0, t) : predicate_destination(operand(0));
    emit(in);
}

void Decoder::match() {
    int mode = take_one({".any", ".all"});
    Type t = take_type();
    if (mode < 0 || !take(".sync") || (t != Type::B32 && t != Type::B64)) fail("unsupported match");
    expect_operands(3);
    Instr in = start(plain::match(mode == 1, size_of(t)));
    in.kind = Kind::Collective;
    Operand d = operand(0);
    if (!d.parts.empty() && d.parts[0].kind != Operand::Kind::Sink)
        in.op[1] = predicate_destination(d.parts[0]);
    d.parts.clear();
    in.op[2] = source(1, t);
    in.op[5] = mask_operand(2);
    in.op[0] = destination(d, 4);
    emit(in);
}

void Decoder::redux() {
    if (!take(".sync")) fail("redux without .sync");
    int op = take_one({".add", ".min", ".max", ".and", ".or", ".xor"});
    Type t = take_type();
    if (op < 0) fail("unsupported reduction");
    constexpr Op kOps[] = {Op::Add, Op::Min, Op::Max, Op::And, Op::Or, Op::Xor};
    expect_operands(3);
    Instr in = start(plain::redux(kOps[op], t));
    in.kind = Kind::Collective;
    in.op[1] = source(1, t);
    in.op[5] = mask_operand(2);
    in.op[0] = destination(0, t);
    emit(in);
}

void Decoder::elect() {
    if (!take(".sync")) fail("elect without .sync");
    expect_operands(2);
    Instr in = start(plain::elect());
    in.kind = Kind::Collective;
    Operand d = operand(0);
    if (d.parts.empty()) fail("elect needs a predicate");
    in.op[1] = predicate_destination(d.parts[0]);
    d.parts.clear();
    in.op[5] = mask_operand(1);
    in.op[0] = destination(d, 4);
    emit(in);
}

void Decoder::activemask() {
    Type t = take_type();
    if (t != Type::B32) fail("unsupported type");
    simple(plain::activemask(), t, {});
}

void Decoder::nanosleep() {
    Type t = take_type();
    expect_operands(1);
    Instr in = start(plain::nothing());
    in.op[1] = source(0, t);
    in.guard = kNone;
    in.kind = Kind::Pause;
    emit(in);
}

void Decoder::ignored() {
    modifiers_.clear();
    emit_to(plain::nothing(), {});
}

}  // namespace softgpu::ptx
