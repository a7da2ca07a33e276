// SPDX-License-Identifier: MIT
// What the parser makes of PTX text: variables and functions with their statements, names already resolved to
// registers and variables where the language demands declaration before use. Views point into Ast::text.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace softgpu::ptx {

enum class Space : uint8_t { Generic, Global, Const, Shared, Local, Param };

enum class Type : uint8_t {
    None,
    Pred,
    B8,
    B16,
    B32,
    B64,
    U8,
    U16,
    U32,
    U64,
    S8,
    S16,
    S32,
    S64,
    F16,
    F16x2,
    BF16,
    BF16x2,
    F32,
    F64
};

// Bytes of a value of the type; 4 for predicates (a lane mask of the warp).
unsigned size_of(Type type);
bool is_signed(Type type);
bool is_unsigned(Type type);
bool is_bits(Type type);
bool is_float(Type type);  // any of F16 to F64
// The type named by a dot word such as ".u32"; None when it names none.
Type type_named(std::string_view dot_word);

// One scalar of an initializer.
struct Initial {
    uint64_t offset = 0;
    unsigned size = 0;
    uint64_t value = 0;       // the scalar, or the addend of a symbol
    std::string_view symbol;  // a variable or function whose address is stored
    unsigned shift = 0;       // of the symbol's address, for mask operators such as 0xFF00(sym)
    int line = 0;
};

struct VariableDecl {
    std::string_view name;
    Space space = Space::Global;
    Type type = Type::None;
    uint64_t size = 0, align = 1;
    bool visible = false, external = false, managed = false;
    bool array = false;
    bool entry_param = false;  // in the launch's parameter buffer rather than the frame
    std::vector<Initial> initial;
    int line = 0;
    int scope = 0;          // of a body's variable
    int module_index = -1;  // position among the module's .global and .const variables
    uint64_t offset = 0;    // in the shared window, the frame or the parameter buffer
    uint64_t placed = 0;    // where the driver put a .global or .const variable
};

struct Operand {
    enum class Kind { Register, Integer, Float, Variable, Name, Special, Vector, Address, Sink };
    Kind kind = Kind::Integer;
    uint32_t reg = 0;        // Register
    bool negated = false;    // !%p
    uint64_t value = 0;      // Integer; bits of a Float
    Type type = Type::None;  // F32 or F64 of a Float
    VariableDecl* variable = nullptr;
    std::string_view name;       // Name (label, function), Special such as %tid.x
    int64_t offset = 0;          // Address, and symbol+offset
    std::vector<Operand> parts;  // Vector; base of an Address (none: absolute); second destination of d|p
};

struct Statement {
    int line = 0;
    int scope = 0;
    std::string_view text;  // from the opcode to the semicolon
    bool guarded = false, guard_negated = false;
    uint32_t guard = 0;
    std::string_view opcode;
    std::vector<std::string_view> modifiers;
    std::vector<Operand> operands;
    // call: (results) target, (arguments), prototype or table
    std::vector<Operand> results, arguments;
    bool label = false;  // `opcode` is a label's name
};

struct RegisterDecl {
    std::string_view name;
    Type type = Type::None;
};

struct LabelTable {
    int scope = 0;
    std::vector<std::string_view> labels;
};

struct FunctionDecl {
    std::string_view name;
    bool entry = false, visible = false, defined = false, external = false;
    std::vector<VariableDecl*> params, results;
    std::vector<VariableDecl*> variables;  // .local, .shared and .param declared in the body
    std::vector<RegisterDecl> registers;
    std::vector<Statement> body;
    std::map<std::pair<int, std::string_view>, LabelTable> tables;  // .branchtargets by scope and name
    std::vector<int> scope_parent;                                  // by scope number; 0 is the body
    uint32_t max_threads = 0;                                       // 0: not said
    int line = 0;
};

struct Ast {
    std::string text;
    int target = 0;
    std::deque<VariableDecl> storage;    // every variable; pointers stay valid
    std::vector<VariableDecl*> globals;  // .global and .const of module scope, in order
    std::vector<VariableDecl*> shared;   // .shared of module scope
    std::deque<FunctionDecl> functions;
    std::map<std::string_view, FunctionDecl*> function_named;
    std::map<std::string_view, VariableDecl*> variable_named;
};

// Throws ParseError.
void parse_text(Ast& ast);

}  // namespace softgpu::ptx
