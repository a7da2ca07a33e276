// SPDX-License-Identifier: MIT
// Module scope: directives, variables, function headers. Bodies are parser_body.cpp's.
#include "parser.h"

#include <algorithm>
#include <bit>
#include <charconv>
#include <cstring>

namespace softgpu::ptx {

namespace {

struct TypeRow {
    std::string_view word;
    Type type;
    unsigned size;
};

constexpr TypeRow kTypes[] = {
    {".pred", Type::Pred, 4}, {".b8", Type::B8, 1},         {".b16", Type::B16, 2},
    {".b32", Type::B32, 4},   {".b64", Type::B64, 8},       {".u8", Type::U8, 1},
    {".u16", Type::U16, 2},   {".u32", Type::U32, 4},       {".u64", Type::U64, 8},
    {".s8", Type::S8, 1},     {".s16", Type::S16, 2},       {".s32", Type::S32, 4},
    {".s64", Type::S64, 8},   {".f16", Type::F16, 2},       {".f16x2", Type::F16x2, 4},
    {".bf16", Type::BF16, 2}, {".bf16x2", Type::BF16x2, 4}, {".f32", Type::F32, 4},
    {".f64", Type::F64, 8},
};

}  // namespace

unsigned size_of(Type type) {
    for (auto& row : kTypes)
        if (row.type == type) return row.size;
    return 0;
}
bool is_signed(Type t) {
    return t >= Type::S8 && t <= Type::S64;
}
bool is_unsigned(Type t) {
    return t >= Type::U8 && t <= Type::U64;
}
bool is_bits(Type t) {
    return t >= Type::B8 && t <= Type::B64;
}
bool is_float(Type t) {
    return t >= Type::F16;
}

Type type_named(std::string_view word) {
    for (auto& row : kTypes)
        if (row.word == word) return row.type;
    return Type::None;
}

void Parser::fail(const std::string& why) {
    fail(why, lexer_.peek().line);
}
void Parser::fail(const std::string& why, int line) {
    throw ParseError(line, lexer_.line_text(line), why);
}

Token Parser::expect(char c) {
    if (!lexer_.peek().is(c))
        fail(std::string("expected '") + c + "', found '" + std::string(lexer_.peek().text) + "'");
    return lexer_.take();
}

bool Parser::accept(char c) {
    if (!lexer_.peek().is(c)) return false;
    lexer_.take();
    return true;
}

bool Parser::accept(std::string_view word) {
    if (!lexer_.peek().is(word)) return false;
    lexer_.take();
    return true;
}

std::string_view Parser::expect_word(const char* what) {
    if (lexer_.peek().kind != Token::Kind::Word)
        fail(std::string("expected ") + what + ", found '" + std::string(lexer_.peek().text) + "'");
    return lexer_.take().text;
}

Parser::Number Parser::number_of(const Token& token) {
    std::string_view t = token.text;
    Number n;
    auto parse = [&](std::string_view digits, int base) {
        auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), n.bits, base);
        if (error != std::errc{} || end != digits.data() + digits.size() || digits.empty())
            fail("malformed number '" + std::string(token.text) + "'", token.line);
    };
    if (t.size() > 2 && t[0] == '0' && (t[1] == 'f' || t[1] == 'F')) {
        if (t.size() != 10) fail("a .f32 constant has eight digits", token.line);
        parse(t.substr(2), 16);
        n.type = Type::F32;
    } else if (t.size() > 2 && t[0] == '0' && (t[1] == 'd' || t[1] == 'D')) {
        if (t.size() != 18) fail("a .f64 constant has sixteen digits", token.line);
        parse(t.substr(2), 16);
        n.type = Type::F64;
    } else {
        bool hex = t.starts_with("0x") || t.starts_with("0X");
        bool decimal_float = !hex && t.find_first_of(".eE") != t.npos;
        if (decimal_float) {
            double value = 0;
            auto [end, error] = std::from_chars(t.data(), t.data() + t.size(), value);
            if (error != std::errc{} || end != t.data() + t.size())
                fail("malformed number '" + std::string(t) + "'", token.line);
            n.bits = std::bit_cast<uint64_t>(value);
            n.type = Type::F64;
            return n;
        }
        if (t.ends_with('U') || t.ends_with('u')) t.remove_suffix(1);
        if (hex)
            parse(t.substr(2), 16);
        else if (t.starts_with("0b") || t.starts_with("0B"))
            parse(t.substr(2), 2);
        else if (t.size() > 1 && t[0] == '0')
            parse(t.substr(1), 8);
        else
            parse(t, 10);
    }
    return n;
}

Parser::Number Parser::expect_number() {
    bool minus = accept('-');
    if (lexer_.peek().kind != Token::Kind::Number)
        fail("expected a number, found '" + std::string(lexer_.peek().text) + "'");
    Number n = number_of(lexer_.take());
    if (minus) {
        if (n.type == Type::F32)
            n.bits ^= 0x80000000u;
        else if (n.type == Type::F64)
            n.bits ^= uint64_t{1} << 63;
        else
            n.bits = -n.bits;
    }
    return n;
}

uint64_t Parser::expect_integer() {
    Number n = expect_number();
    if (n.type != Type::None) fail("expected an integer");
    return n.bits;
}

void Parser::parse() {
    while (lexer_.peek().kind != Token::Kind::End) parse_directive();
    if (ast_.target == 0) throw ParseError(1, "", "no .target directive");
    for (auto& [alias, target] : aliases_) {
        auto it = ast_.function_named.find(target);
        if (it == ast_.function_named.end() || !it->second->defined)
            throw ParseError(1, std::string(target), "alias of an undefined function");
        ast_.function_named[alias] = it->second;
    }
}

void Parser::parse_directive() {
    Token t = lexer_.peek();
    if (t.kind != Token::Kind::Dot) fail("expected a directive");
    if (accept(".version")) {
        lexer_.skip_line(t.line);
    } else if (accept(".target")) {
        parse_target();
    } else if (accept(".address_size")) {
        if (expect_integer() != 64) fail("only 64-bit addresses are supported", t.line);
    } else if (accept(".file") || accept(".loc")) {
        lexer_.skip_line(t.line);
    } else if (accept(".section")) {
        lexer_.take();
        if (!lexer_.peek().is('{')) fail("expected '{'");
        lexer_.skip_braces();
    } else if (accept(".pragma")) {
        lexer_.skip_line(t.line);
    } else if (accept(".alias")) {
        std::string_view alias = expect_word("a function name");
        expect(',');
        aliases_.emplace_back(alias, expect_word("a function name"));
        expect(';');
    } else {
        Linkage linkage;
        for (;;) {
            if (accept(".visible"))
                linkage.visible = true;
            else if (accept(".weak") || accept(".common"))
                linkage.visible = true;
            else if (accept(".extern"))
                linkage.external = true;
            else
                break;
        }
        if (accept(".entry"))
            parse_function(true, linkage);
        else if (accept(".func"))
            parse_function(false, linkage);
        else if (lexer_.peek().is(".global") || lexer_.peek().is(".const") || lexer_.peek().is(".shared"))
            parse_variables(linkage, nullptr);
        else
            fail("unknown directive '" + std::string(lexer_.peek().text) + "'");
    }
}

void Parser::parse_target() {
    int line = lexer_.peek().line;
    do {
        std::string_view word = expect_word("a target");
        if (word.starts_with("sm_")) {
            int number = 0;
            std::from_chars(word.data() + 3, word.data() + word.size(), number);
            if (number < 20 || number > 200) fail("unknown target '" + std::string(word) + "'", line);
            ast_.target = number;
        } else if (word != "debug" && word != "texmode_independent") {
            fail("unsupported target option '" + std::string(word) + "'", line);
        }
    } while (accept(','));
}

// `.space [.attribute] [.align n] .type name [dims] [= init] {, name ...};` In a body `function` owns them.
void Parser::parse_variables(const Linkage& linkage, FunctionDecl* function) {
    Space space = Space::Global;
    Token t = lexer_.take();
    if (t.is(".const"))
        space = Space::Const;
    else if (t.is(".shared"))
        space = Space::Shared;
    else if (t.is(".local"))
        space = Space::Local;
    else if (t.is(".param"))
        space = Space::Param;
    VariableDecl common = parse_variable_type(space);
    common.visible = linkage.visible;
    common.external = linkage.external;
    do {
        VariableDecl& v = ast_.storage.emplace_back(common);
        v.line = lexer_.peek().line;
        parse_declarator(v);
        v.scope = function ? scopes_.back().id : 0;
        if (accept('=')) parse_initializer(v);
        if (v.size == 0 && !(v.external && v.array)) fail("array without a size", v.line);
        if (function) {
            if (space == Space::Global || space == Space::Const)
                add_global(v);
            else
                function->variables.push_back(&v);
            if (!declare(v.name, Entity{.variable = &v}))
                fail("'" + std::string(v.name) + "' declared twice", v.line);
        } else if (space == Space::Shared) {
            ast_.shared.push_back(&v);
            ast_.variable_named[v.name] = &v;
        } else {
            add_global(v);
        }
    } while (accept(','));
    expect(';');
}

void Parser::add_global(VariableDecl& v) {
    auto it = ast_.variable_named.find(v.name);
    if (it != ast_.variable_named.end()) {
        VariableDecl& old = *it->second;  // an .extern declaration may precede the definition
        if (!old.external && !v.external) fail("'" + std::string(v.name) + "' declared twice", v.line);
        if (!v.external) {
            int index = old.module_index;
            old = v;
            old.module_index = index;
        }
        return;
    }
    v.module_index = static_cast<int>(ast_.globals.size());
    ast_.globals.push_back(&v);
    ast_.variable_named[v.name] = &v;
}

VariableDecl Parser::parse_variable_type(Space space) {
    VariableDecl v;
    v.space = space;
    uint64_t elements = 1;
    for (;;) {
        Token t = lexer_.peek();
        if (accept(".align")) {
            v.align = expect_integer();
            if (!std::has_single_bit(v.align)) fail("alignment is not a power of two", t.line);
        } else if (accept(".attribute")) {
            expect('(');
            do {
                Token a = lexer_.take();
                if (a.is(".managed"))
                    v.managed = true;
                else
                    fail("unsupported attribute '" + std::string(a.text) + "'", a.line);
            } while (accept(','));
            expect(')');
        } else if (accept(".ptr")) {  // parameter attributes: .ptr .space .align n
            for (auto s : {".global", ".const", ".shared", ".local"}) accept(s);
            if (accept(".align")) expect_integer();
        } else if (accept(".v2")) {
            elements = 2;
        } else if (accept(".v4")) {
            elements = 4;
        } else {
            break;
        }
        if (v.type != Type::None && lexer_.peek().kind != Token::Kind::Dot) break;
    }
    Token t = lexer_.peek();
    v.type = t.kind == Token::Kind::Dot ? type_named(t.text) : Type::None;
    if (v.type == Type::None || v.type == Type::Pred) fail("unsupported type '" + std::string(t.text) + "'");
    lexer_.take();
    if (lexer_.peek().is(".ptr")) {
        lexer_.take();
        for (auto s : {".global", ".const", ".shared", ".local"}) accept(s);
        if (accept(".align")) expect_integer();
    }
    v.size = size_of(v.type) * elements;
    v.align = std::max<uint64_t>(v.align, v.size);
    return v;
}

void Parser::parse_declarator(VariableDecl& v) {
    v.name = expect_word("a variable name");
    while (accept('[')) {
        v.array = true;
        uint64_t count = 0;
        if (!lexer_.peek().is(']')) {
            count = expect_integer();
            if (count > (uint64_t{1} << 40) / std::max<uint64_t>(v.size, 1)) fail("array too large");
        }
        expect(']');
        v.size *= count;
    }
}

void Parser::parse_initializer(VariableDecl& v) {
    if (v.space != Space::Global && v.space != Space::Const) fail("initial value in this state space");
    uint64_t offset = 0;
    unsigned size = size_of(v.type);
    auto level = [&](auto& self) -> void {
        if (accept('{')) {
            if (!lexer_.peek().is('}')) do
                    self(self);
                while (accept(','));
            expect('}');
            return;
        }
        Initial i = parse_initial(v.type);
        i.offset = offset;
        i.size = size;
        offset += size;
        v.initial.push_back(i);
    };
    level(level);
    if (v.size == 0) v.size = offset;
    if (offset > v.size) fail("more initial values than elements", v.line);
}

Initial Parser::parse_initial(Type type) {
    Initial i;
    i.line = lexer_.peek().line;
    auto symbol = [&] {
        if (lexer_.peek().is("generic")) {
            lexer_.take();
            expect('(');
            i.symbol = expect_word("a symbol");
            if (lexer_.peek().is('+')) lexer_.take(), i.value = expect_integer();
            expect(')');
        } else {
            i.symbol = expect_word("a symbol");
        }
        while (lexer_.peek().is('+') || lexer_.peek().is('-')) {
            bool minus = lexer_.take().is('-');
            uint64_t addend = expect_integer();
            i.value += minus ? -addend : addend;
        }
    };
    if (lexer_.peek().kind == Token::Kind::Word) {
        symbol();
        return i;
    }
    Number n = expect_number();
    if (n.type == Type::None && accept('(')) {  // mask operator: the byte of the address selected by the mask
        unsigned shift = n.bits ? static_cast<unsigned>(std::countr_zero(n.bits)) : 0;
        if (n.bits == 0 || shift % 8 || n.bits >> shift != 0xff) fail("unsupported mask of an address");
        symbol();
        i.shift = shift;
        expect(')');
        return i;
    }
    i.value = n.bits;
    if (type == Type::F32 && n.type == Type::F64)
        i.value = std::bit_cast<uint32_t>(static_cast<float>(std::bit_cast<double>(n.bits)));
    else if (type == Type::F64 && n.type == Type::F32)
        i.value =
            std::bit_cast<uint64_t>(static_cast<double>(std::bit_cast<float>(static_cast<uint32_t>(n.bits))));
    return i;
}

void Parser::parse_parameters(FunctionDecl& f, std::vector<VariableDecl*>& list) {
    uint64_t offset = 0;
    if (accept(')')) return;
    do {
        Token t = lexer_.peek();
        if (!accept(".param")) fail("expected .param (register parameters are not supported)");
        VariableDecl& v = ast_.storage.emplace_back(parse_variable_type(Space::Param));
        v.line = t.line;
        v.entry_param = f.entry;
        parse_declarator(v);
        v.offset = (offset + v.align - 1) / v.align * v.align;
        offset = v.offset + v.size;
        list.push_back(&v);
    } while (accept(','));
    expect(')');
}

void Parser::parse_function(bool entry, const Linkage& linkage) {
    FunctionDecl header;
    header.entry = entry;
    header.line = lexer_.peek().line;
    header.visible = linkage.visible;
    header.external = linkage.external;
    if (!entry && accept('(')) parse_parameters(header, header.results);
    header.name = expect_word("a function name");
    if (accept('(')) parse_parameters(header, header.params);
    for (;;) {
        Token t = lexer_.peek();
        if (accept(".maxntid") || accept(".reqntid")) {
            uint64_t threads = expect_integer();
            while (accept(',')) threads *= expect_integer();
            header.max_threads = static_cast<uint32_t>(std::min<uint64_t>(threads, 1024));
        } else if (accept(".minnctapersm") || accept(".maxnreg") || accept(".maxnctapersm")) {
            expect_integer();
        } else if (accept(".noreturn")) {
        } else if (accept(".pragma")) {
            lexer_.skip_line(t.line);
        } else if (accept(".attribute")) {
            fail("unsupported function attribute", t.line);
        } else {
            break;
        }
    }
    FunctionDecl*& slot = ast_.function_named[header.name];
    if (!slot) {
        slot = &ast_.functions.emplace_back(header);
    } else if (lexer_.peek().is('{')) {
        if (slot->defined) fail("function '" + std::string(header.name) + "' defined twice", header.line);
        header.visible |= slot->visible;
        *slot = header;
    }
    if (accept(';')) return;
    if (!lexer_.peek().is('{')) fail("unknown directive '" + std::string(lexer_.peek().text) + "'");
    slot->defined = true;
    slot->external = false;
    parse_body(*slot);
}

void parse_text(Ast& ast) {
    Parser(ast).parse();
}

}  // namespace softgpu::ptx
