// SPDX-License-Identifier: MIT
// The device runtime's functions that nvcc leaves external: printf, failed assertions, the heap.
#include <algorithm>
#include <cstdio>

#include "runtime.h"

namespace softgpu::ptx {

namespace {

template <class T>
T argument(const Warp& w, const CallSite& site, unsigned k, unsigned lane) {
    T value{};
    std::memcpy(&value, w.local + uint64_t{lane} * w.local_bytes + w.frame_base + site.arguments[k].offset,
                sizeof value);
    return value;
}

template <class T>
void give(const Warp& w, const CallSite& site, unsigned lane, T value) {
    std::memcpy(w.local + uint64_t{lane} * w.local_bytes + w.frame_base + site.results[0].offset, &value,
                sizeof value);
}

std::string read_string(Warp& w, const Instr& in, unsigned lane, uint64_t address) {
    std::string text;
    if (address == 0) return "(null)";
    for (;; ++address) {
        char c = static_cast<char>(*host_address(w, in, Space::Generic, lane, address, 1, false));
        if (c == '\0') return text;
        text += c;
    }
}

// CUDA's printf: C's without %n and without positions; every argument sits in the buffer at its own
// alignment.
class Formatter {
  public:
    Formatter(Warp& w, const Instr& in, unsigned lane, uint64_t arguments)
        : w_(w), in_(in), lane_(lane), at_(arguments) {}

    std::string format(const std::string& text) {
        std::string out;
        for (size_t i = 0; i < text.size();) {
            if (text[i] != '%') {
                out += text[i++];
                continue;
            }
            size_t begin = i++;
            if (i < text.size() && text[i] == '%') {
                out += '%';
                ++i;
                continue;
            }
            std::string spec = "%";
            while (i < text.size() && std::string_view("-+ #0").find(text[i]) != std::string_view::npos)
                spec += text[i++];
            number(text, i, spec);
            if (i < text.size() && text[i] == '.') {
                spec += text[i++];
                number(text, i, spec);
            }
            std::string length;
            while (i < text.size() && std::string_view("hlLqjzt").find(text[i]) != std::string_view::npos)
                length += text[i++];
            if (i >= text.size() || !convert(out, spec, length, text[i])) {
                out += text.substr(begin, i + 1 - begin);  // unknown: printed as it stands
            }
            ++i;
        }
        return out;
    }

  private:
    void number(const std::string& text, size_t& i, std::string& spec) {
        if (i < text.size() && text[i] == '*') {
            spec += std::to_string(next<int32_t>());
            ++i;
            return;
        }
        while (i < text.size() && text[i] >= '0' && text[i] <= '9') spec += text[i++];
    }

    bool convert(std::string& out, const std::string& spec, const std::string& length, char c) {
        bool wide = length == "l" || length == "ll" || length == "q" || length == "j" || length == "z" ||
                    length == "t" || length == "L";
        switch (c) {
            case 'd':
            case 'i': {
                long long v = wide ? next<int64_t>() : next<int32_t>();
                if (length == "h") v = static_cast<short>(v);
                if (length == "hh") v = static_cast<signed char>(v);
                print(out, spec + "lld", v);
                return true;
            }
            case 'u':
            case 'x':
            case 'X':
            case 'o': {
                unsigned long long v = wide ? next<uint64_t>() : next<uint32_t>();
                if (length == "h") v = static_cast<unsigned short>(v);
                if (length == "hh") v = static_cast<unsigned char>(v);
                print(out, spec + "ll" + c, v);
                return true;
            }
            case 'f':
            case 'F':
            case 'e':
            case 'E':
            case 'g':
            case 'G':
            case 'a':
            case 'A':
                print(out, spec + c, next<double>());
                return true;
            case 'c':
                print(out, spec + c, next<int32_t>());
                return true;
            case 's':
                print(out, spec + c, read_string(w_, in_, lane_, next<uint64_t>()).c_str());
                return true;
            case 'p':
                print(out, spec + c, reinterpret_cast<void*>(next<uint64_t>()));
                return true;
            default:
                return false;
        }
    }

    template <class T>
    T next() {
        at_ = (at_ + sizeof(T) - 1) & ~uint64_t{sizeof(T) - 1};
        T value;
        std::memcpy(&value, host_address(w_, in_, Space::Generic, lane_, at_, sizeof(T), false),
                    sizeof value);
        at_ += sizeof(T);
        return value;
    }

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
#pragma GCC diagnostic ignored "-Wformat-security"
    template <class T>
    static void print(std::string& out, const std::string& spec, T value) {
        int size = std::snprintf(nullptr, 0, spec.c_str(), value);
        if (size <= 0) return;
        size_t old = out.size();
        out.resize(old + static_cast<size_t>(size) + 1);
        std::snprintf(out.data() + old, static_cast<size_t>(size) + 1, spec.c_str(), value);
        out.resize(old + static_cast<size_t>(size));
    }
#pragma GCC diagnostic pop

    Warp& w_;
    const Instr& in_;
    unsigned lane_;
    uint64_t at_;
};

void emit(Warp& w, const std::string& text) {
    LaunchState& launch = w.block->launch;
    std::lock_guard lock(launch.mutex);
    if (launch.print && *launch.print) (*launch.print)(text);
}

int conversions(const std::string& format) {
    int count = 0;
    for (size_t i = 0; i < format.size(); ++i) {
        if (format[i] != '%') continue;
        if (i + 1 < format.size() && format[i + 1] == '%')
            ++i;
        else
            ++count;
    }
    return count;
}

[[noreturn]] void assert_failed(Warp& w, const Instr& in, const CallSite& site) {
    std::string first;
    for (uint32_t left = w.mask; left; left &= left - 1) {
        auto lane = static_cast<unsigned>(std::countr_zero(left));
        auto text = [&](unsigned k) {
            return read_string(w, in, lane, argument<uint64_t>(w, site, k, lane));
        };
        auto triple = [](uint32_t x, uint32_t y, uint32_t z) {
            return "[" + std::to_string(x) + "," + std::to_string(y) + "," + std::to_string(z) + "]";
        };
        const uint32_t* c = w.block->ctaid;
        std::string line = text(1) + ":" + std::to_string(argument<uint32_t>(w, site, 2, lane)) + ": " +
                           text(3) + ": block: " + triple(c[0], c[1], c[2]) +
                           ", thread: " + triple(w.tid[0][lane], w.tid[1][lane], w.tid[2][lane]) +
                           " Assertion `" + text(0) + "` failed.";
        if (first.empty()) first = line;
        if (w.block->launch.launch.complain)
            w.block->launch.launch.complain(line + "\n");
        else
            emit(w, line + "\n");
    }
    throw Fault(Fault::Kind::Assert, first);
}

// Whether the call passes what the function takes; the module's own declaration of it may be anything.
bool fits(Builtin builtin, const CallSite& site) {
    auto sizes = [](const std::vector<Slot>& slots, std::initializer_list<uint32_t> want) {
        return std::equal(slots.begin(), slots.end(), want.begin(), want.end(),
                          [](const Slot& s, uint32_t size) { return s.size == size; });
    };
    switch (builtin) {
        case Builtin::Printf:
            return sizes(site.arguments, {8, 8}) && (site.results.empty() || sizes(site.results, {4}));
        case Builtin::AssertFail:
            return sizes(site.arguments, {8, 8, 4, 8, 8});
        case Builtin::Malloc:
            return sizes(site.arguments, {8}) && sizes(site.results, {8});
        case Builtin::Free:
            return sizes(site.arguments, {8});
        case Builtin::SetConditional:
            return sizes(site.arguments, {8, 4});
        case Builtin::None:
            break;
    }
    return false;
}

}  // namespace

void call_builtin(Warp& w, const Instr& in, const CallSite& site, Builtin builtin) {
    auto each_lane = [&](auto f) {
        for (uint32_t left = w.mask; left; left &= left - 1) f(static_cast<unsigned>(std::countr_zero(left)));
    };
    if (!fits(builtin, site))
        fault_instruction(w, in, "call of a runtime function with the wrong parameters");
    LaunchState& launch = w.block->launch;
    switch (builtin) {
        case Builtin::Printf:
            each_lane([&](unsigned lane) {
                std::string format = read_string(w, in, lane, argument<uint64_t>(w, site, 0, lane));
                emit(w, Formatter(w, in, lane, argument<uint64_t>(w, site, 1, lane)).format(format));
                if (!site.results.empty()) give<int32_t>(w, site, lane, conversions(format));
            });
            return;
        case Builtin::AssertFail:
            assert_failed(w, in, site);
        case Builtin::Malloc:
            each_lane([&](unsigned lane) {
                auto size = argument<uint64_t>(w, site, 0, lane);
                void* p = launch.launch.heap_allocate ? launch.launch.heap_allocate(size) : nullptr;
                give(w, site, lane, reinterpret_cast<uint64_t>(p));
            });
            return;
        case Builtin::Free:
            each_lane([&](unsigned lane) {
                auto p = argument<uint64_t>(w, site, 0, lane);
                if (p && launch.launch.heap_free) launch.launch.heap_free(reinterpret_cast<void*>(p));
            });
            return;
        case Builtin::SetConditional:
            each_lane([&](unsigned lane) {
                if (launch.launch.set_conditional)
                    launch.launch.set_conditional(argument<uint64_t>(w, site, 0, lane),
                                                  argument<uint32_t>(w, site, 1, lane));
            });
            return;
        case Builtin::None:
            break;
    }
    fault_instruction(w, in, "call of an unknown runtime function");
}

}  // namespace softgpu::ptx
