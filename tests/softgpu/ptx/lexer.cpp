// SPDX-License-Identifier: MIT
// One pass over the text without copies.
#include "lexer.h"

#include <algorithm>
#include <cctype>

namespace softgpu::ptx {

namespace {

bool word_start(char c) {
    return std::isalpha(static_cast<unsigned char>(c)) || c == '_' || c == '$' || c == '%';
}
bool word_part(char c) {
    return std::isalnum(static_cast<unsigned char>(c)) || c == '_' || c == '$';
}

}  // namespace

void Lexer::skip_space() {
    while (at_ < text_.size()) {
        char c = text_[at_];
        if (c == '\n') {
            ++line_;
            ++at_;
        } else if (std::isspace(static_cast<unsigned char>(c))) {
            ++at_;
        } else if (text_.substr(at_, 2) == "//") {
            at_ = std::min(text_.find('\n', at_), text_.size());
        } else if (text_.substr(at_, 2) == "/*") {
            size_t end = text_.find("*/", at_ + 2);
            if (end == text_.npos) throw ParseError(line_, "/*", "comment without end");
            line_ += static_cast<int>(std::count(text_.begin() + at_, text_.begin() + end, '\n'));
            at_ = end + 2;
        } else {
            return;
        }
    }
}

void Lexer::advance() {
    skip_space();
    token_ = Token{Token::Kind::End, {}, line_};
    if (at_ >= text_.size()) return;
    size_t begin = at_;
    char c = text_[at_++];
    auto more = [&](auto accept) {
        while (at_ < text_.size() && accept(text_[at_])) ++at_;
    };
    if (word_start(c)) {
        more(word_part);
        token_.kind = Token::Kind::Word;
    } else if (c == '.' && at_ < text_.size() && (word_part(text_[at_]))) {
        more(word_part);
        while (text_.substr(at_, 2) == "::") {
            at_ += 2;
            more(word_part);
        }
        token_.kind = Token::Kind::Dot;
    } else if (std::isdigit(static_cast<unsigned char>(c))) {
        more(word_part);
        if (at_ + 1 < text_.size() && text_[at_] == '.' &&
            std::isdigit(static_cast<unsigned char>(text_[at_ + 1]))) {
            ++at_;
            more(word_part);
        }
        char e = text_[at_ - 1];
        bool hex = text_.substr(begin, 2) == "0x" || text_.substr(begin, 2) == "0X";
        if (!hex && (e == 'e' || e == 'E') && at_ < text_.size() &&
            (text_[at_] == '-' || text_[at_] == '+')) {
            ++at_;
            more(word_part);
        }
        token_.kind = Token::Kind::Number;
    } else if (c == '"') {
        while (at_ < text_.size() && text_[at_] != '"' && text_[at_] != '\n')
            at_ += text_[at_] == '\\' ? 2 : 1;
        if (at_ >= text_.size() || text_[at_] != '"')
            throw ParseError(line_, line_text(line_), "string without end");
        ++at_;
        token_.kind = Token::Kind::String;
    } else if (std::string_view("{}()[]<>,;:=+-!|@*/&~^?").find(c) != std::string_view::npos) {
        token_.kind = Token::Kind::Punct;
    } else {
        throw ParseError(line_, line_text(line_), "unexpected character");
    }
    token_.text = text_.substr(begin, at_ - begin);
}

void Lexer::skip_line(int line) {
    while (token_.kind != Token::Kind::End && token_.line == line) advance();
}

void Lexer::skip_braces() {
    size_t end = text_.find('}', at_);
    if (end == text_.npos) throw ParseError(line_, line_text(line_), "section without end");
    line_ += static_cast<int>(std::count(text_.begin() + at_, text_.begin() + end, '\n'));
    at_ = end + 1;
    advance();
}

std::string Lexer::line_text(int line) const {
    size_t begin = 0;
    for (int i = 1; i < line && begin != text_.npos; ++i) {
        begin = text_.find('\n', begin);
        if (begin != text_.npos) ++begin;
    }
    if (begin == text_.npos) return {};
    std::string_view t = text_.substr(begin, std::min(text_.find('\n', begin), text_.size()) - begin);
    while (!t.empty() && std::isspace(static_cast<unsigned char>(t.front()))) t.remove_prefix(1);
    while (!t.empty() && std::isspace(static_cast<unsigned char>(t.back()))) t.remove_suffix(1);
    return std::string(t);
}

}  // namespace softgpu::ptx
