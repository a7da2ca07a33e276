// SPDX-License-Identifier: MIT
// Function bodies: nested scopes, declarations, labels and statements.
#include <charconv>

#include "parser.h"

namespace softgpu::ptx {

bool Parser::declare(std::string_view name, Entity entity) {
    return scopes_.back().names.emplace(name, entity).second;
}

// A register name is declared by itself or by a range: %r12 by `%r<13>` or more.
const Parser::Entity* Parser::find(std::string_view name, uint32_t& reg) const {
    size_t digits = name.size();
    while (digits > 0 && name[digits - 1] >= '0' && name[digits - 1] <= '9') --digits;
    uint32_t index = 0;
    bool numbered = digits < name.size() &&
                    std::from_chars(name.data() + digits, name.data() + name.size(), index).ec == std::errc{};
    for (auto scope = scopes_.rbegin(); scope != scopes_.rend(); ++scope) {
        auto it = scope->names.find(name);
        if (it != scope->names.end() && it->second.count == 0) {
            reg = it->second.reg;
            return &it->second;
        }
        if (!numbered) continue;
        it = scope->names.find(name.substr(0, digits));
        if (it != scope->names.end() && index < it->second.count) {
            reg = it->second.reg + index;
            return &it->second;
        }
    }
    return nullptr;
}

void Parser::parse_body(FunctionDecl& f) {
    expect('{');
    scopes_.assign(1, Scope{});
    f.scope_parent.assign(1, -1);
    for (auto* list : {&f.results, &f.params})
        for (VariableDecl* v : *list)
            if (!declare(v->name, Entity{.variable = v})) fail("parameter declared twice", v->line);
    while (!scopes_.empty()) {
        Token t = lexer_.peek();
        if (t.kind == Token::Kind::End) fail("function '" + std::string(f.name) + "' without end");
        if (accept('{')) {
            int parent = scopes_.back().id;
            scopes_.push_back(Scope{static_cast<int>(f.scope_parent.size()), {}});
            f.scope_parent.push_back(parent);
        } else if (accept('}')) {
            scopes_.pop_back();
        } else if (accept(';')) {
        } else if (accept(".reg")) {
            parse_registers(f);
        } else if (t.is(".local") || t.is(".shared") || t.is(".param") || t.is(".global") || t.is(".const")) {
            parse_variables(Linkage{}, &f);
        } else if (accept(".loc") || accept(".file") || accept(".pragma")) {
            lexer_.skip_line(t.line);
        } else {
            parse_statement(f);
        }
    }
}

void Parser::parse_registers(FunctionDecl& f) {
    Token t = lexer_.peek();
    if (t.is(".v2") || t.is(".v4")) fail("vector registers are not supported");
    Type type = t.kind == Token::Kind::Dot ? type_named(t.text) : Type::None;
    if (type == Type::None) fail("unsupported register type '" + std::string(t.text) + "'");
    lexer_.take();
    do {
        std::string_view name = expect_word("a register name");
        Entity e{.reg = static_cast<uint32_t>(f.registers.size())};
        uint64_t count = 1;
        if (accept('<')) {
            count = expect_integer();
            if (count == 0 || count > 1u << 20) fail("unreasonable number of registers", t.line);
            e.count = static_cast<uint32_t>(count);
            expect('>');
        }
        if (!declare(name, e)) fail("'" + std::string(name) + "' declared twice", t.line);
        f.registers.insert(f.registers.end(), count, RegisterDecl{name, type});
    } while (accept(','));
    expect(';');
}

void Parser::parse_statement(FunctionDecl& f) {
    Statement s;
    Token first = lexer_.peek();
    s.line = first.line;
    s.scope = scopes_.back().id;
    if (accept('@')) {
        s.guarded = true;
        s.guard_negated = accept('!');
        Operand guard = parse_named(expect_word("a predicate"));
        if (guard.kind != Operand::Kind::Register || f.registers[guard.reg].type != Type::Pred)
            fail("a guard must be a predicate register", s.line);
        s.guard = guard.reg;
    }
    s.opcode = expect_word("an instruction");
    if (!s.guarded && accept(':')) {
        parse_labelled(f, s.opcode, s.line);
        return;
    }
    while (lexer_.peek().kind == Token::Kind::Dot) s.modifiers.push_back(lexer_.take().text);
    if (s.opcode == "call") {
        parse_call(s);
    } else if (!lexer_.peek().is(';')) {
        do s.operands.push_back(parse_operand());
        while (accept(','));
    }
    if (!lexer_.peek().is(';')) fail("expected ';', found '" + std::string(lexer_.peek().text) + "'");
    const char* begin = first.text.data();
    s.text = std::string_view(begin, lexer_.peek().text.data() + 1 - begin);
    lexer_.take();
    f.body.push_back(std::move(s));
}

void Parser::parse_labelled(FunctionDecl& f, std::string_view label, int line) {
    Token t = lexer_.peek();
    if (accept(".branchtargets")) {
        LabelTable table{scopes_.back().id, {}};
        do table.labels.push_back(expect_word("a label"));
        while (accept(','));
        expect(';');
        f.tables[{table.scope, label}] = std::move(table);
    } else if (accept(".callprototype")) {
        // The call itself says which slots it passes; the prototype adds nothing to that.
        while (!lexer_.peek().is(';')) {
            if (lexer_.peek().kind == Token::Kind::End) fail("prototype without end", t.line);
            lexer_.take();
        }
        lexer_.take();
    } else if (t.is(".calltargets")) {
        while (!accept(';')) {
            if (lexer_.peek().kind == Token::Kind::End) fail("call targets without end", t.line);
            lexer_.take();
        }
    } else {
        Statement s;
        s.line = line;
        s.scope = scopes_.back().id;
        s.opcode = label;
        s.text = label;
        s.label = true;
        f.body.push_back(std::move(s));
    }
}

// call{.uni} (results), target, (arguments) {, prototype};
void Parser::parse_call(Statement& s) {
    auto list = [&](std::vector<Operand>& out) {
        if (!accept(')')) {
            do out.push_back(parse_operand());
            while (accept(','));
            expect(')');
        }
    };
    if (accept('(')) {
        list(s.results);
        expect(',');
    }
    s.operands.push_back(parse_operand());
    if (accept(',')) {
        if (accept('(')) {
            list(s.arguments);
            if (accept(',')) s.operands.push_back(parse_operand());
        } else {
            s.operands.push_back(parse_operand());
        }
    }
}

Operand Parser::parse_named(std::string_view name) {
    Operand o;
    uint32_t reg = 0;
    if (name == "_") {
        o.kind = Operand::Kind::Sink;
        return o;
    }
    if (const Entity* e = find(name, reg)) {
        if (e->variable) {
            o.kind = Operand::Kind::Variable;
            o.variable = e->variable;
        } else {
            o.kind = Operand::Kind::Register;
            o.reg = reg;
        }
        return o;
    }
    auto it = ast_.variable_named.find(name);
    if (it != ast_.variable_named.end()) {
        o.kind = Operand::Kind::Variable;
        o.variable = it->second;
        return o;
    }
    o.name = name;
    o.kind = Operand::Kind::Name;
    if (name.front() == '%' || name == "WARP_SZ") {
        o.kind = Operand::Kind::Special;
        const Token& next = lexer_.peek();
        if (next.is(".x") || next.is(".y") || next.is(".z") || next.is(".w"))
            o.name = std::string_view(name.data(), lexer_.take().text.data() + 2 - name.data());
    }
    return o;
}

Operand Parser::parse_operand() {
    Operand o;
    const Token& t = lexer_.peek();
    if (accept('{')) {
        o.kind = Operand::Kind::Vector;
        do o.parts.push_back(parse_operand());
        while (accept(','));
        expect('}');
    } else if (t.is('[')) {
        return parse_address();
    } else if (accept('!')) {
        o = parse_named(expect_word("a predicate"));
        if (o.kind != Operand::Kind::Register) fail("'!' needs a predicate register");
        o.negated = true;
    } else if (t.kind == Token::Kind::Number || t.is('-')) {
        Number n = expect_number();
        o.kind = n.type == Type::None ? Operand::Kind::Integer : Operand::Kind::Float;
        o.value = n.bits;
        o.type = n.type;
    } else if (t.kind == Token::Kind::Word) {
        o = parse_named(lexer_.take().text);
        if (o.kind == Operand::Kind::Variable && (lexer_.peek().is('+') || lexer_.peek().is('-'))) {
            bool minus = lexer_.take().is('-');
            auto n = static_cast<int64_t>(expect_integer());
            o.offset = minus ? -n : n;
        }
    } else {
        fail("unexpected '" + std::string(t.text) + "'");
    }
    if (accept('|')) o.parts.push_back(parse_operand());
    return o;
}

Operand Parser::parse_address() {
    Operand o;
    o.kind = Operand::Kind::Address;
    expect('[');
    if (lexer_.peek().kind == Token::Kind::Word) {
        o.parts.push_back(parse_named(lexer_.take().text));
        while (lexer_.peek().is('+') || lexer_.peek().is('-')) {
            bool minus = lexer_.take().is('-');
            auto n = static_cast<int64_t>(expect_integer());
            o.offset += minus ? -n : n;
        }
    } else {
        o.offset = static_cast<int64_t>(expect_integer());
    }
    while (accept(','))
        o.parts.push_back(parse_operand());  // texture coordinates and such, refused by opcode
    expect(']');
    return o;
}

}  // namespace softgpu::ptx
