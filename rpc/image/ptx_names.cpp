// SPDX-License-Identifier: MIT
// Names in a PTX text. Only module scope is looked at; bodies are skipped, so no instruction has to be
// understood.
#include <algorithm>
#include <cctype>
#include <charconv>
#include <set>
#include <string_view>

#include "format.h"

namespace cricket::image::detail {
namespace {

// Splits the text into words (directives, identifiers, numbers), punctuation characters and nothing else.
class Words {
  public:
    explicit Words(const Member& member)
        : rest_(reinterpret_cast<const char*>(member.data.data()), member.data.size()) {}

    // Empty at the end of the text.
    std::string_view next() {
        skip_blank();
        if (rest_.empty()) return {};
        size_t length = 1;
        if (rest_[0] == '"') {
            length = rest_.find('"', 1);
            if (length == rest_.npos) throw ImageError("PTX: unterminated string");
            ++length;
        } else if (is_word(rest_[0])) {
            while (length < rest_.size() && is_word(rest_[length])) ++length;
        }
        auto word = rest_.substr(0, length);
        rest_.remove_prefix(length);
        return word;
    }

    std::string_view peek() {
        auto saved = rest_;
        auto word = next();
        rest_ = saved;
        return word;
    }

    // After an opening bracket was read: reads up to the closing one that matches.
    void skip_to_closing(char open, char close) {
        for (int depth = 1; depth > 0;) {
            auto word = next();
            if (word.empty()) throw ImageError(std::string("PTX: truncated, '") + close + "' is missing");
            if (word[0] == open) ++depth;
            if (word[0] == close) --depth;
        }
    }

  private:
    static bool is_word(char c) {
        return std::isalnum(static_cast<unsigned char>(c)) || c == '_' || c == '$' || c == '%' || c == '.';
    }

    void skip_blank() {
        for (;;) {
            while (!rest_.empty() && (std::isspace(static_cast<unsigned char>(rest_[0])) || rest_[0] == '\0'))
                rest_.remove_prefix(1);
            if (rest_.starts_with("//")) {
                rest_.remove_prefix(std::min(rest_.size(), rest_.find('\n')));
            } else if (rest_.starts_with("/*")) {
                auto end = rest_.find("*/", 2);
                rest_.remove_prefix(end == rest_.npos ? rest_.size() : end + 2);
            } else {
                return;
            }
        }
    }

    std::string_view rest_;
};

uint64_t number(std::string_view word) {
    uint64_t value = 0;
    int base = 10;
    if (word.starts_with("0x")) word.remove_prefix(2), base = 16;
    auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), value, base);
    return error == std::errc() ? value : 0;
}

// Bytes of a fundamental type such as .u32 or .b8; 0 for anything else.
uint64_t type_size(std::string_view word) {
    if (word.size() < 3 || word[0] != '.' || std::string_view("busf").find(word[1]) == word.npos) return 0;
    uint64_t bits = number(word.substr(2));
    return bits == 8 || bits == 16 || bits == 32 || bits == 64 || bits == 128 ? bits / 8 : 0;
}

// After .global or .const: the declarators up to the semicolon.
void read_declaration(Words& words, bool constant, bool external, std::vector<Variable>& result) {
    uint64_t element = 0;
    bool managed = false;
    for (;;) {
        auto word = words.next();
        if (word.empty()) throw ImageError("PTX: truncated declaration");
        if (word == ".align") {
            words.next();
        } else if (word == ".attribute") {
            if (words.next() != "(") throw ImageError("PTX: .attribute without '('");
            for (auto item = words.next(); item != ")"; item = words.next()) {
                if (item.empty()) throw ImageError("PTX: truncated .attribute");
                managed |= item == ".managed";
            }
        } else if (word == ".v2" || word == ".v4" || word == ".v8") {
            element *= static_cast<uint64_t>(word[2] - '0');
            if (!element) element = static_cast<uint64_t>(word[2] - '0');
        } else if (word[0] == '.') {
            uint64_t size = type_size(word);
            element = element ? element * size : size;
        } else if (word == ";") {
            return;
        } else if (word != ",") {
            Variable variable{std::string(word), element, constant, managed};
            while (words.peek() == "[") {
                words.next();
                auto bound = words.next();
                if (bound == "]") {
                    variable.size = 0;
                } else {
                    if (__builtin_mul_overflow(variable.size, number(bound), &variable.size))
                        variable.size = 0;
                    words.skip_to_closing('[', ']');
                }
            }
            if (words.peek() == "=") {
                words.next();
                if (words.peek() == "{")
                    words.next(), words.skip_to_closing('{', '}');
                else
                    for (auto next = words.peek(); next != ";" && next != "," && !next.empty();
                         next = words.peek())
                        words.next();
            }
            if (!external) result.push_back(std::move(variable));
        }
    }
}

struct Names {
    int target = 0;
    std::vector<Variable> variables;
    std::vector<std::string> kernels;
};

Names scan(const Member& member) {
    Names result;
    Words words(member);
    bool external = false;
    for (auto word = words.next(); !word.empty(); word = words.next()) {
        if (word == "{") {
            words.skip_to_closing('{', '}');
            external = false;
        } else if (word == "(") {
            words.skip_to_closing('(', ')');
        } else if (word == ";") {
            external = false;
        } else if (word == ".extern") {
            external = true;
        } else if (word == ".target") {
            auto name = words.next();
            if (name.starts_with("sm_")) result.target = static_cast<int>(number(name.substr(3)));
        } else if (word == ".entry") {
            auto name = words.next();
            if (name.empty()) throw ImageError("PTX: truncated after .entry");
            result.kernels.emplace_back(name);
        } else if (word == ".global" || word == ".const") {
            read_declaration(words, word == ".const", external, result.variables);
            external = false;
        }
    }
    return result;
}

}  // namespace

int ptx_target(const Member& member) {
    return scan(member).target;
}
std::vector<Variable> ptx_variables(const Member& member) {
    return scan(member).variables;
}
// By the calls in the bodies. One through a pointer may end in any function of the text.
std::vector<std::string> ptx_heap_kernels(const Member& member) {
    struct Function {
        std::string_view name;
        bool kernel = false, indirect = false;
        std::vector<std::string_view> calls;
    };
    const std::string_view text(reinterpret_cast<const char*>(member.data.data()), member.data.size());
    if (text.find("malloc") == text.npos && text.find("free") == text.npos) return {};
    std::vector<Function> functions;
    Words words(member);
    for (auto word = words.next(); !word.empty(); word = words.next()) {
        if (word == "{") {
            words.skip_to_closing('{', '}');
        } else if (word == ".entry" || word == ".func") {
            Function function;
            function.kernel = word == ".entry";
            word = words.next();
            while (word == "(" || word == ".attribute") {  // of the result
                if (word == "(") words.skip_to_closing('(', ')');
                word = words.next();
            }
            function.name = word;
            while (!word.empty() && word != "{" && word != ";") word = words.next();
            if (word != "{") continue;
            for (int depth = 1; depth > 0;) {
                word = words.next();
                if (word.empty()) throw ImageError("PTX: truncated, '}' is missing");
                depth += word == "{" ? 1 : word == "}" ? -1 : 0;
                if (word != "call" && !word.starts_with("call.")) continue;
                if (words.peek() == "(") {
                    words.next();
                    words.skip_to_closing('(', ')');
                    words.next();  // a comma
                }
                word = words.next();
                if (word.starts_with("%"))
                    function.indirect = true;
                else
                    function.calls.push_back(word);
            }
            functions.push_back(std::move(function));
        }
    }
    std::set<std::string_view> users{"malloc", "free"};
    bool shared = false;  // by a function that a pointer may lead to
    for (bool more = true; more;) {
        more = false;
        for (const Function& function : functions) {
            const bool uses = (shared && function.indirect) ||
                              std::ranges::any_of(function.calls, [&](std::string_view called) { return users.count(called) != 0; });
            if (!uses || !users.insert(function.name).second) continue;
            more = true;
            shared |= !function.kernel;
        }
    }
    const bool any = shared && starts_kernels(member);
    std::vector<std::string> result;
    for (const Function& function : functions)
        if (function.kernel && (any || users.count(function.name))) result.emplace_back(function.name);
    return result;
}
std::vector<std::string> ptx_kernels(const Member& member) {
    return scan(member).kernels;
}

}  // namespace cricket::image::detail
