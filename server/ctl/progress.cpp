// SPDX-License-Identifier: MIT
#include "progress.h"

#include <unistd.h>

#include <cstdio>

#include "command.h"

namespace cricket::ctl {
namespace {

using namespace std::chrono_literals;

constexpr auto patience = 500ms;        // without a word
constexpr auto between_frames = 100ms;  // on a terminal
constexpr auto between_lines = 5s;      // elsewhere
constexpr size_t bar_width = 30;

std::string time_text(double seconds) {
    char text[32];
    if (seconds < 60)
        std::snprintf(text, sizeof text, "%.0f s", seconds);
    else if (seconds < 3600)
        std::snprintf(text, sizeof text, "%d:%02d min", static_cast<int>(seconds) / 60,
                      static_cast<int>(seconds) % 60);
    else
        std::snprintf(text, sizeof text, "%d:%02d h", static_cast<int>(seconds) / 3600,
                      static_cast<int>(seconds) / 60 % 60);
    return text;
}

}  // namespace

Progress::Progress(std::string what) : what_(std::move(what)), terminal_(::isatty(STDERR_FILENO) == 1) {}

void Progress::update(uint64_t done, uint64_t of) {
    const auto now = Clock::now();
    if (now - began_ < patience ||
        (shown_ != Clock::time_point{} &&
         now - shown_ < (terminal_ ? Clock::duration(between_frames) : between_lines)))
        return;
    shown_ = now;
    const double seconds = std::chrono::duration<double>(now - began_).count();
    const double rate = static_cast<double>(done) / seconds;
    std::string line = what_ + ": " + bytes_text(done);
    if (of >= done && of > 0) {
        line += " of " + bytes_text(of) + " (" + std::to_string(100 * (done >> 4) / ((of >> 4) + 1)) + " %)";
        if (terminal_) {
            const size_t full =
                static_cast<size_t>(static_cast<double>(done) / static_cast<double>(of) * bar_width);
            line = "[" + std::string(full, '=') + std::string(bar_width - full, ' ') + "] " + line;
        }
    }
    line += ", " + bytes_text(static_cast<uint64_t>(rate)) + "/s";
    if (of > done && rate > 0) line += ", " + time_text(static_cast<double>(of - done) / rate) + " left";
    if (!terminal_) {
        std::fprintf(stderr, "%s\n", line.c_str());
        return;
    }
    const size_t width = line.size();
    if (width < width_) line.append(width_ - width, ' ');
    width_ = width;
    std::fprintf(stderr, "\r%s", line.c_str());
    std::fflush(stderr);
}

void Progress::end() {
    if (terminal_ && width_ > 0) std::fprintf(stderr, "\r%s\r", std::string(width_, ' ').c_str());
    width_ = 0;
}

}  // namespace cricket::ctl
