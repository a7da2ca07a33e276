// SPDX-License-Identifier: MIT
// Dispatch by opcode, and what all opcodes share: modifiers, operands, constants, special registers.
#include "decode.h"

#include <bit>
#include <unordered_map>

namespace softgpu::ptx {

namespace {

uint32_t register_bytes(Type t) {
    if (t == Type::Pred) return 4;
    return kLanes * std::max(2u, size_of(t));
}

}  // namespace

Decoder::Decoder(Program& program, Function& function) : program_(program), function_(function) {
    const auto& declared = function.decl->registers;
    registers_.resize(declared.size());
    uint32_t at = 0;
    for (bool predicates : {false, true}) {
        for (size_t i = 0; i < declared.size(); ++i) {
            if ((declared[i].type == Type::Pred) != predicates) continue;
            registers_[i] = at;
            at += register_bytes(declared[i].type);
        }
    }
    function_.register_bytes = (at + 63) & ~63u;
}

Decoder::Member Decoder::member_for(std::string_view opcode) {
    using D = Decoder;
    static const std::unordered_map<std::string_view, Member> kMembers = {
        {"add", &D::add_sub},
        {"sub", &D::add_sub},
        {"addc", &D::add_sub_carry},
        {"subc", &D::add_sub_carry},
        {"mul", &D::mul},
        {"mad", &D::mad},
        {"madc", &D::mad_carry},
        {"mul24", &D::mul24},
        {"mad24", &D::mad24},
        {"rem", &D::integer_binary},
        {"abs", &D::integer_or_float_unary},
        {"neg", &D::integer_or_float_unary},
        {"min", &D::min_max},
        {"max", &D::min_max},
        {"sad", &D::sad},
        {"div", &D::div},
        {"and", &D::logic},
        {"or", &D::logic},
        {"xor", &D::logic},
        {"not", &D::not_},
        {"cnot", &D::not_},
        {"shl", &D::shift},
        {"shr", &D::shift},
        {"shf", &D::shf},
        {"lop3", &D::lop3},
        {"bfe", &D::bfe},
        {"bfi", &D::bfi},
        {"popc", &D::count},
        {"clz", &D::count},
        {"brev", &D::count},
        {"bfind", &D::bfind},
        {"fns", &D::fns},
        {"prmt", &D::prmt},
        {"szext", &D::szext},
        {"bmsk", &D::bmsk},
        {"dp4a", &D::dot_product},
        {"dp2a", &D::dot_product},
        {"fma", &D::fma},
        {"rcp", &D::unary_approximate},
        {"sqrt", &D::unary_approximate},
        {"rsqrt", &D::unary_approximate},
        {"sin", &D::unary_approximate},
        {"cos", &D::unary_approximate},
        {"ex2", &D::unary_approximate},
        {"lg2", &D::unary_approximate},
        {"tanh", &D::unary_approximate},
        {"copysign", &D::copysign},
        {"testp", &D::testp},
        {"setp", &D::setp},
        {"set", &D::set},
        {"mov", &D::mov},
        {"cvt", &D::cvt},
        {"cvta", &D::cvta},
        {"isspacep", &D::isspacep},
        {"selp", &D::selp},
        {"slct", &D::slct},
        {"ld", &D::ld},
        {"ldu", &D::ld},
        {"st", &D::st},
        {"atom", &D::atom},
        {"red", &D::red},
        {"membar", &D::fence},
        {"fence", &D::fence},
        {"prefetch", &D::prefetch},
        {"prefetchu", &D::prefetch},
        {"cp", &D::cp},
        {"tex", &D::tex},
        {"tld4", &D::tex},
        {"suld", &D::surface},
        {"sust", &D::surface},
        {"txq", &D::texture_query},
        {"suq", &D::texture_query},
        {"bra", &D::bra},
        {"brx", &D::brx},
        {"call", &D::call},
        {"ret", &D::ret},
        {"exit", &D::exit},
        {"trap", &D::trap},
        {"brkpt", &D::trap},
        {"bar", &D::bar},
        {"barrier", &D::barrier},
        {"shfl", &D::shfl},
        {"vote", &D::vote},
        {"match", &D::match},
        {"redux", &D::redux},
        {"elect", &D::elect},
        {"activemask", &D::activemask},
        {"nanosleep", &D::nanosleep},
        {"pmevent", &D::ignored},
        {"griddepcontrol", &D::ignored},
        {"discard", &D::prefetch},
        {"applypriority", &D::prefetch},
    };
    auto it = kMembers.find(opcode);
    return it == kMembers.end() ? nullptr : it->second;
}

void Decoder::fail(const std::string& why) const {
    throw ParseError(statement_->line, std::string(statement_->text), why);
}

void Decoder::decode() {
    for (const Statement& s : function_.decl->body) {
        if (s.label) {
            if (!labels_.emplace(std::pair{s.scope, s.opcode}, drafts_.size()).second)
                throw ParseError(s.line, std::string(s.text), "label defined twice");
        } else {
            decode(s);
        }
    }
    // Falling off the end returns; labels may stand there too.
    Instr end;
    end.kind = Kind::Return;
    end.simple = false;
    drafts_.push_back(Draft{end, {}, {}, 0});
}

void Decoder::decode(const Statement& s) {
    statement_ = &s;
    modifiers_ = s.modifiers;
    Member member = member_for(s.opcode);
    if (!member) fail("unknown instruction '" + std::string(s.opcode) + "'");
    (this->*member)();
    finish();
}

size_t Decoder::label_position(std::string_view label, int scope, int line) const {
    for (int at = scope; at >= 0; at = function_.decl->scope_parent[static_cast<size_t>(at)]) {
        auto it = labels_.find({at, label});
        if (it != labels_.end()) return it->second;
    }
    throw ParseError(line, std::string(label), "unknown label");
}

bool Decoder::take(std::string_view modifier) {
    auto it = std::find(modifiers_.begin(), modifiers_.end(), modifier);
    if (it == modifiers_.end()) return false;
    modifiers_.erase(it);
    return true;
}

bool Decoder::take_any(std::initializer_list<std::string_view> modifiers) {
    return take_one(modifiers) >= 0;
}

int Decoder::take_one(std::initializer_list<std::string_view> modifiers) {
    int index = 0;
    for (std::string_view m : modifiers) {
        if (take(m)) return index;
        ++index;
    }
    return -1;
}

Type Decoder::take_type_or(Type otherwise) {
    for (auto it = modifiers_.begin(); it != modifiers_.end(); ++it) {
        Type t = type_named(*it);
        if (t == Type::None) continue;
        modifiers_.erase(it);
        return t;
    }
    return otherwise;
}

Type Decoder::take_type() {
    Type t = take_type_or(Type::None);
    if (t == Type::None) fail("no supported type");
    return t;
}

void Decoder::finish() const {
    if (!modifiers_.empty()) fail("unsupported modifier '" + std::string(modifiers_.front()) + "'");
}

Rounding Decoder::take_rounding(bool integer) {
    int r = integer ? take_one({".rni", ".rzi", ".rmi", ".rpi"}) : take_one({".rn", ".rz", ".rm", ".rp"});
    return r < 0 ? Rounding::Nearest : static_cast<Rounding>(r);
}

const Operand& Decoder::operand(size_t k) const {
    if (k >= statement_->operands.size()) fail("too few operands");
    return statement_->operands[k];
}

void Decoder::expect_operands(size_t least, size_t most) const {
    if (statement_->operands.size() < least) fail("too few operands");
    if (statement_->operands.size() > most) fail("too many operands");
}

unsigned Decoder::register_width(const Operand& o) const {
    if (o.kind != Operand::Kind::Register) fail("expected a register");
    Type t = register_type(o.reg);
    if (t == Type::Pred) fail("a predicate cannot stand here");
    return std::max(2u, size_of(t));
}

uint32_t Decoder::scratch(unsigned width) {
    uint32_t at = (function_.register_bytes + 63) & ~63u;
    function_.register_bytes = at + kLanes * std::max(2u, width);
    return at;
}

uint32_t Decoder::destination(const Operand& o, unsigned width) {
    if (o.kind == Operand::Kind::Sink) return scratch(width);
    if (o.negated || register_width(o) != std::max(2u, width)) fail("destination register of the wrong size");
    return register_at(o.reg);
}

uint32_t Decoder::predicate_destination(const Operand& o) {
    if (o.kind == Operand::Kind::Sink) return scratch(2);
    if (o.kind != Operand::Kind::Register || register_type(o.reg) != Type::Pred || o.negated)
        fail("expected a predicate register");
    return register_at(o.reg);
}

uint32_t Decoder::predicate_source(const Operand& o, bool& negated) {
    negated = o.negated;
    if (o.kind == Operand::Kind::Integer) return program_.constants.value(o.value ? ~0u : 0u, 1);
    if (o.kind != Operand::Kind::Register || register_type(o.reg) != Type::Pred) fail("expected a predicate");
    return register_at(o.reg);
}

uint32_t Decoder::source(const Operand& o, Type t) {
    unsigned width = std::max(2u, size_of(t));
    if (!o.parts.empty()) fail("unexpected second operand");
    switch (o.kind) {
        case Operand::Kind::Register:
            if (o.negated || register_width(o) != width) fail("source register of the wrong size");
            return register_at(o.reg);
        case Operand::Kind::Integer:
            if (t == Type::F32 || t == Type::F64) fail("integer constant for a floating-point operand");
            return program_.constants.value(o.value, width);
        case Operand::Kind::Float: {
            uint64_t bits = o.value;
            if (is_signed(t) || is_unsigned(t) || width == 2) fail("floating-point constant for this type");
            if (width == 4 && o.type == Type::F64)
                bits = std::bit_cast<uint32_t>(static_cast<float>(std::bit_cast<double>(bits)));
            if (width == 8 && o.type == Type::F32)
                bits = std::bit_cast<uint64_t>(
                    static_cast<double>(std::bit_cast<float>(static_cast<uint32_t>(bits))));
            return program_.constants.value(bits, width);
        }
        case Operand::Kind::Special:
            return special(o.name, width);
        case Operand::Kind::Variable:
        case Operand::Kind::Name:
            return symbol_address(o, width);
        default:
            fail("operand of this kind cannot stand here");
    }
}

uint32_t Decoder::special(std::string_view name, unsigned width) {
    if (name == "WARP_SZ") return program_.constants.value(kLanes, width);
    Handler fn = plain::special(name);
    if (!fn) fail("unsupported special register '" + std::string(name) + "'");
    unsigned have = plain::special_is_wide(name) ? 8 : 4;
    if (width < have && have == 8 && width == 4) fail("64-bit special register read as 32 bits");
    if (width == 2) fail("special register read as 16 bits");
    Instr in = start(fn);
    in.guard = kNone;
    in.op[0] = scratch(have);
    emit(in);
    if (width == have) return in.op[0];
    Instr widen = start(ops().convert_int(Type::U64, Type::U32, false));
    widen.guard = kNone;
    widen.op[0] = scratch(8);
    widen.op[1] = in.op[0];
    widen.flag[2] = 8;
    widen.flag[3] = 4;
    emit(widen);
    return widen.op[0];
}

// A register or constant holding the address of a variable in its own space, or of a function.
uint32_t Decoder::symbol_address(const Operand& o, unsigned width) {
    if (o.kind == Operand::Kind::Name) {
        auto it = program_.function_named.find(o.name);
        if (it == program_.function_named.end()) fail("unknown name '" + std::string(o.name) + "'");
        if (width != 8) fail("a function's address has 64 bits");
        return program_.constants.value(code_address(it->second->index), 8);
    }
    const VariableDecl& v = *o.variable;
    auto offset = static_cast<uint64_t>(o.offset);
    if (width != 4 && width != 8) fail("address of the wrong size");
    switch (v.space) {
        case Space::Global:
        case Space::Const:
            if (width != 8) fail("a global address has 64 bits");
            return program_.constants.address(&v, o.offset);
        case Space::Shared:
            if (!(v.external && v.size == 0)) return program_.constants.value(v.offset + offset, width);
            break;
        case Space::Param:
            if (v.entry_param) return program_.constants.value(v.offset + offset, width);
            break;
        default:
            break;
    }
    Instr in = start(v.space == Space::Shared ? plain::dynamic_shared_address() : plain::frame_address());
    in.guard = kNone;
    in.op[0] = scratch(width);
    in.imm = static_cast<int64_t>(v.space == Space::Shared ? offset : v.offset + offset);
    in.flag[0] = width == 8;
    emit(in);
    return in.op[0];
}

// Fills in the address part of a memory instruction: op[4], imm, address64, the cache slot.
void Decoder::address(const Operand& o, Space space, Instr& in) {
    if (o.kind != Operand::Kind::Address) fail("expected an address");
    in.space = static_cast<uint8_t>(space);
    in.slot = next_slot_++ % 64;
    in.imm = o.offset;
    in.address64 = true;
    if (o.parts.empty()) {
        in.op[4] = program_.constants.value(0, 8);
        return;
    }
    if (o.parts.size() > 1) fail("unsupported address operand");
    const Operand& base = o.parts[0];
    if (base.kind == Operand::Kind::Register) {
        in.op[4] = register_at(base.reg);
        unsigned width = register_width(base);
        if (width == 4 && (space == Space::Global || space == Space::Const || space == Space::Generic))
            fail("a 32-bit register cannot hold an address of this space");
        if (width < 4) fail("address register of the wrong size");
        in.address64 = width == 8;
        return;
    }
    if (base.kind != Operand::Kind::Variable) fail("unknown name in an address");
    const VariableDecl& v = *base.variable;
    bool frame = v.space == Space::Local || (v.space == Space::Param && !v.entry_param);
    if (frame && (space == Space::Local || space == Space::Param)) {
        in.op[4] = kNone;
        in.imm += static_cast<int64_t>(v.offset);
        in.space = static_cast<uint8_t>(Space::Local);
        return;
    }
    if (space == Space::Generic ? v.space != Space::Global : v.space != space)
        fail("variable of another state space");
    in.op[4] = symbol_address(base, 8);
}

Instr Decoder::start(Handler fn) {
    if (!fn) fail("unsupported type or combination");
    Instr in;
    in.fn = fn;
    in.line = statement_->line;
    if (statement_->guarded) {
        in.guard = register_at(statement_->guard);
        in.guard_not = statement_->guard_negated;
    }
    return in;
}

void Decoder::emit(Instr in) {
    in.simple = in.kind == Kind::Plain && in.guard == kNone && in.csr == 0;
    drafts_.push_back(Draft{in, {}, {}, statement_->scope});
}

// An instruction whose operands are already resolved.
void Decoder::emit_to(Handler fn, std::initializer_list<uint32_t> operands) {
    Instr in = start(fn);
    size_t k = 0;
    for (uint32_t o : operands) in.op[k++] = o;
    emit(in);
}

// d, a, b, ... with one register each.
void Decoder::simple(Handler fn, Type result, std::initializer_list<Type> sources) {
    finish();
    expect_operands(1 + sources.size());
    Instr in = start(fn);
    size_t k = 1;
    for (Type t : sources) {
        in.op[k] = source(k, t);
        ++k;
    }
    in.op[0] = destination(0, result);
    emit(in);
}

}  // namespace softgpu::ptx
