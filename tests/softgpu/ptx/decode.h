// SPDX-License-Identifier: MIT
// Decoding of one function's statements into instructions, in the order of the text. Each opcode has a member
// function; it takes the modifiers it understands, and whatever is left is refused.
#pragma once

#include <string>
#include <vector>

#include "ops.h"

namespace softgpu::ptx {

// An instruction before layout: where it branches is still a position in the text's order.
struct Draft {
    Instr in;
    std::string_view label;  // target of a branch
    std::string_view table;  // .branchtargets name
    int scope = 0;
};

class Decoder {
  public:
    Decoder(Program& program, Function& function);

    // Fills drafts() and label positions.
    void decode();
    std::vector<Draft>& drafts() { return drafts_; }
    // The draft index of a label seen from a scope; throws ParseError for an unknown one.
    size_t label_position(std::string_view label, int scope, int line) const;

  private:
    using Member = void (Decoder::*)();
    static Member member_for(std::string_view opcode);
    void decode(const Statement& s);
    [[noreturn]] void fail(const std::string& why) const;

    // Modifiers.
    bool take(std::string_view modifier);
    bool take_any(std::initializer_list<std::string_view> modifiers);
    // Index of the one that is present, or -1.
    int take_one(std::initializer_list<std::string_view> modifiers);
    Type take_type();  // the first type among the modifiers; fails without one
    Type take_type_or(Type otherwise);
    void finish() const;  // fails when modifiers are left
    Rounding take_rounding(bool integer = false);

    // Operands.
    const Operand& operand(size_t k) const;
    void expect_operands(size_t least, size_t most) const;
    void expect_operands(size_t count) const { expect_operands(count, count); }
    uint32_t register_at(uint32_t reg) const { return registers_[reg]; }
    Type register_type(uint32_t reg) const { return function_.decl->registers[reg].type; }
    unsigned register_width(const Operand& o) const;
    uint32_t destination(const Operand& o, unsigned width);
    uint32_t destination(size_t k, Type t) { return destination(operand(k), size_of(t)); }
    uint32_t source(const Operand& o, Type t);
    uint32_t source(size_t k, Type t) { return source(operand(k), t); }
    uint32_t predicate_source(const Operand& o, bool& negated);
    uint32_t predicate_destination(const Operand& o);
    uint32_t scratch(unsigned width);
    uint32_t symbol_address(const Operand& o, unsigned width);
    uint32_t special(std::string_view name, unsigned width);
    void address(const Operand& o, Space space, Instr& in);
    uint32_t mask_operand(size_t k) { return source(k, Type::B32); }

    Instr start(Handler fn);
    void emit(Instr in);
    void emit_to(Handler fn, std::initializer_list<uint32_t> operands);
    void simple(Handler fn, Type result, std::initializer_list<Type> sources);

    // decode_int.cpp
    void add_sub();
    void add_sub_carry();
    void mul();
    void mad();
    void mad_carry();
    void mul24();
    void mad24();
    void integer_binary();
    void integer_or_float_unary();
    void min_max();
    void sad();
    void div();
    void logic();
    void not_();
    void shift();
    void shf();
    void lop3();
    void bfe();
    void bfi();
    void count();
    void bfind();
    void fns();
    void prmt();
    void szext();
    void bmsk();
    void dot_product();

    // decode_float.cpp
    bool half_arithmetic(Op op, Type t, size_t sources, bool ftz = false);
    void float_arithmetic(Op op, Op saturated, Type t, size_t sources);
    void fma();
    void unary_approximate();
    void copysign();
    void testp();
    void setp();
    void set();
    Compare take_compare(Type t);
    bool take_bool_op(uint8_t& op);

    // decode_move.cpp
    void mov();
    void cvt();
    void cvta();
    void isspacep();
    void selp();
    void slct();
    void pack(const Operand& d, const Operand& s, unsigned whole);
    void unpack(const Operand& d, const Operand& s, unsigned whole);

    // decode_memory.cpp
    Space take_space(bool required);
    bool take_order();
    void ld();
    void st();
    void atom();
    void red();
    void fence();
    void prefetch();
    void cp();

    // decode_texture.cpp
    void tex();
    void surface();
    void texture_query();
    void texture_place(const Operand& o, TextureAccess& access, Type coordinate);
    void texture_values(const Operand& o, TextureAccess& access, bool written);
    // decode_control.cpp
    void bra();
    void brx();
    void call();
    void ret();
    void exit();
    void trap();
    void bar();
    void barrier();
    void shfl();
    void vote();
    void match();
    void redux();
    void elect();
    void activemask();
    void nanosleep();
    void ignored();
    void cta_barrier(int kind, size_t at);
    void warp_barrier(size_t at);
    Slot call_slot(const Operand& o) const;

    Program& program_;
    Function& function_;
    std::vector<uint32_t> registers_;  // byte offset of each
    uint32_t next_scratch_ = 0;
    std::vector<Draft> drafts_;
    std::map<std::pair<int, std::string_view>, size_t> labels_;
    const Statement* statement_ = nullptr;
    std::vector<std::string_view> modifiers_;  // not taken yet
    uint16_t next_slot_ = 0;
};

// layout.cpp: orders the drafts' basic blocks so that each comes after all its predecessors but for loops,
// whose blocks stay together, and resolves branches.
void lay_out(Function& function, Decoder& decoder);

}  // namespace softgpu::ptx
