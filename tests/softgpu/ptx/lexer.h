// SPDX-License-Identifier: MIT
// Tokens of PTX text. Words start with a letter or one of _ $ %; a dot word (".u32", ".L2::128B") is one
// token, so an opcode is a word followed by dot words. Views point into the text handed to the lexer.
#pragma once

#include <cstdint>
#include <string_view>

#include "ptx.h"

namespace softgpu::ptx {

struct Token {
    enum class Kind { End, Word, Dot, Number, String, Punct };
    Kind kind = Kind::End;
    std::string_view text;
    int line = 0;

    bool is(char c) const { return kind == Kind::Punct && text[0] == c; }
    bool is(std::string_view word) const { return (kind == Kind::Word || kind == Kind::Dot) && text == word; }
};

class Lexer {
  public:
    explicit Lexer(std::string_view text) : text_(text) { advance(); }

    const Token& peek() const { return token_; }
    Token take() {
        Token t = token_;
        advance();
        return t;
    }
    // Drops every token of the line the next token stands on, counted from `line`.
    void skip_line(int line);
    // Drops raw text up to and including the next '}'.
    void skip_braces();

    // The text of the given 1-based line, for messages.
    std::string line_text(int line) const;

  private:
    void advance();
    void skip_space();

    std::string_view text_;
    size_t at_ = 0;
    int line_ = 1;
    Token token_;
};

}  // namespace softgpu::ptx
