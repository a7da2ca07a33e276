// SPDX-License-Identifier: MIT
// What all examples share, so that each file can be about its one idea: the options, progress lines that a
// test (or a person) can follow while the program is dumped and restored, and one way to end. The last line
// printed is "PASS ..." or "FAIL ...", because a restored process has no parent left that could read its exit
// status.
#pragma once

#include <getopt.h>
#include <unistd.h>

#include <csignal>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <initializer_list>
#include <string>

namespace example {

// An option that takes a whole number, or, where text is set, any word.
struct Option {
    const char* name;
    const char* help;
    long* number;
    std::string* text = nullptr;
};

struct Common {
    long steps;         // 0: until SIGTERM or SIGINT
    long delay_ms = 0;  // pause after every step, for people who want to watch
    bool quiet = false;
};

inline volatile std::sig_atomic_t stop_requested = 0;

[[noreturn]] __attribute__((format(printf, 1, 2))) inline void fail(const char* format, ...) {
    std::va_list arguments;
    va_start(arguments, format);
    char text[1024];
    std::vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    std::printf("FAIL %s\n", text);
    std::fflush(stdout);
    // Not exit(): other threads may be in the middle of a call, and destructors would wait for them.
    _exit(1);
}

__attribute__((format(printf, 1, 2))) inline int pass(const char* format, ...) {
    std::va_list arguments;
    va_start(arguments, format);
    std::printf("PASS ");
    std::vprintf(format, arguments);
    va_end(arguments);
    std::printf("\n");
    return std::fflush(stdout) == 0 ? 0 : 1;
}

inline void parse(int argc, char** argv, Common& common, std::initializer_list<Option> own = {}) {
    enum { kSteps = 1, kDelay, kQuiet, kHelp, kOwn };
    option table[32] = {{"steps", required_argument, nullptr, kSteps},
                        {"delay-ms", required_argument, nullptr, kDelay},
                        {"quiet", no_argument, nullptr, kQuiet},
                        {"help", no_argument, nullptr, kHelp}};
    int size = 4;
    for (const Option& o : own) {
        table[size] = {o.name, required_argument, nullptr, kOwn + (size - 4)};
        ++size;
    }
    const auto number = [&](const char* text) {
        char* end = nullptr;
        const long value = std::strtol(text, &end, 10);
        if (end == text || *end != '\0' || value < 0) {
            std::fprintf(stderr, "%s: '%s' is no whole number\n", argv[0], text);
            std::exit(2);
        }
        return value;
    };
    for (int c; (c = getopt_long(argc, argv, "", table, nullptr)) != -1;) {
        if (c == kSteps) {
            common.steps = number(optarg);
        } else if (c == kDelay) {
            common.delay_ms = number(optarg);
        } else if (c == kQuiet) {
            common.quiet = true;
        } else if (c >= kOwn) {
            const Option& o = own.begin()[c - kOwn];
            if (o.text) {
                *o.text = optarg;
            } else {
                *o.number = number(optarg);
            }
        } else {
            std::FILE* out = c == kHelp ? stdout : stderr;
            std::fprintf(out, "usage: %s [options]\n", argv[0]);
            std::fprintf(out, "  --steps N     stop after N steps; 0: at SIGTERM (%ld)\n", common.steps);
            std::fprintf(out, "  --delay-ms N  pause after every step\n");
            std::fprintf(out, "  --quiet       print the last line only\n");
            for (const Option& o : own) std::fprintf(out, "  --%s: %s\n", o.name, o.help);
            std::exit(c == kHelp ? 0 : 2);
        }
    }
    if (optind != argc) {
        std::fprintf(stderr, "%s: unexpected argument '%s'\n", argv[0], argv[optind]);
        std::exit(2);
    }
    struct sigaction action = {};
    action.sa_handler = [](int) { stop_requested = 1; };
    action.sa_flags = SA_RESTART;
    sigaction(SIGTERM, &action, nullptr);
    sigaction(SIGINT, &action, nullptr);
}

inline bool done(const Common& common, long step) {
    return stop_requested || (common.steps != 0 && step >= common.steps);
}

inline void pause(const Common& common) {
    if (common.delay_ms == 0 || stop_requested) return;
    timespec rest = {common.delay_ms / 1000, common.delay_ms % 1000 * 1000000};
    nanosleep(&rest, nullptr);
}

// True at most a hundred times a second: a line for every step would make the log the largest part of the
// work.
inline bool time_to_report(const Common& common) {
    if (common.quiet) return false;
    if (common.delay_ms != 0) return true;
    static timespec last = {};
    timespec now = {};
    clock_gettime(CLOCK_MONOTONIC, &now);
    const double elapsed = double(now.tv_sec - last.tv_sec) + 1e-9 * double(now.tv_nsec - last.tv_nsec);
    if (elapsed >= 0 && elapsed < 0.01) return false;
    last = now;
    return true;
}

// The programs' own source of numbers: the same on every machine, and any step's can be had without the steps
// before.
struct Random {
    unsigned long long state;
    explicit Random(unsigned long long seed) : state(seed * 0x9e3779b97f4a7c15ull + 0x853c49e6748fea9bull) {
        next();
        next();
    }
    unsigned next() {
        state = state * 6364136223846793005ull + 1442695040888963407ull;
        return unsigned(state >> 33);
    }
    unsigned below(unsigned bound) { return next() % bound; }
};

}  // namespace example

// CUDA_CHECK(call) ends the program with the call's text and the error's name when a runtime call fails.
#define CUDA_CHECK(call)                                                                                    \
    do {                                                                                                    \
        const cudaError_t cuda_check_result = (call);                                                       \
        if (cuda_check_result != cudaSuccess)                                                               \
            example::fail("%s:%d: %s: %s", __FILE__, __LINE__, #call, cudaGetErrorName(cuda_check_result)); \
    } while (false)
