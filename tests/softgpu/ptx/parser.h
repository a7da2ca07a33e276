// SPDX-License-Identifier: MIT
// Recursive descent over the tokens; fills an Ast. One object parses one text.
#pragma once

#include <unordered_map>

#include "ast.h"
#include "lexer.h"

namespace softgpu::ptx {

class Parser {
  public:
    explicit Parser(Ast& ast) : ast_(ast), lexer_(ast.text) {}
    void parse();

  private:
    struct Linkage {
        bool visible = false, external = false;
    };
    struct Number {
        uint64_t bits = 0;
        Type type = Type::None;  // F32 or F64, else an integer
    };
    // What a name means in a body: one register, a range %r<10> of them, or a variable.
    struct Entity {
        VariableDecl* variable = nullptr;
        uint32_t reg = 0;
        uint32_t count = 0;  // of a range; 0: a single register
    };
    struct Scope {
        int id = 0;
        std::unordered_map<std::string_view, Entity> names;
    };

    [[noreturn]] void fail(const std::string& why);
    [[noreturn]] void fail(const std::string& why, int line);
    Token expect(char c);
    bool accept(char c);
    bool accept(std::string_view word);
    std::string_view expect_word(const char* what);
    Number number_of(const Token& token);
    Number expect_number();
    uint64_t expect_integer();

    void parse_directive();
    void parse_target();
    void parse_variables(const Linkage& linkage, FunctionDecl* function);
    VariableDecl parse_variable_type(Space space);
    void parse_declarator(VariableDecl& v);
    void parse_initializer(VariableDecl& v);
    Initial parse_initial(Type type);
    void parse_parameters(FunctionDecl& f, std::vector<VariableDecl*>& list);
    void parse_function(bool entry, const Linkage& linkage);
    void add_global(VariableDecl& v);

    // parser_body.cpp
    void parse_body(FunctionDecl& f);
    void parse_registers(FunctionDecl& f);
    void parse_statement(FunctionDecl& f);
    void parse_labelled(FunctionDecl& f, std::string_view label, int line);
    void parse_call(Statement& s);
    Operand parse_operand();
    Operand parse_address();
    Operand parse_named(std::string_view name);
    bool declare(std::string_view name, Entity entity);
    const Entity* find(std::string_view name, uint32_t& reg) const;

    Ast& ast_;
    Lexer lexer_;
    std::vector<Scope> scopes_;
    std::vector<std::pair<std::string_view, std::string_view>> aliases_;
};

}  // namespace softgpu::ptx
