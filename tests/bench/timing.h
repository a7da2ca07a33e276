// SPDX-License-Identifier: MIT
// What the programs of this folder measure with: the host's monotonic clock, medians, and their results as the inside of a
// JSON object.
#pragma once

#include <time.h>

#include <algorithm>
#include <cstdio>
#include <string>
#include <vector>

inline double now_us() {
    timespec t{};
    ::clock_gettime(CLOCK_MONOTONIC, &t);
    return static_cast<double>(t.tv_sec) * 1e6 + static_cast<double>(t.tv_nsec) / 1e3;
}

inline double median(std::vector<double> times) {
    const auto middle = times.begin() + static_cast<std::ptrdiff_t>(times.size() / 2);
    std::nth_element(times.begin(), middle, times.end());
    return *middle;
}

// Median time of one of `count` calls of `body`, after a few that do not count.
template <class Body>
double median_us(int count, Body body) {
    std::vector<double> times;
    for (int i = 0; i < count + 20; ++i) {
        const double begin = now_us();
        body();
        if (i >= 20) times.push_back(now_us() - begin);
    }
    return median(times);
}

inline std::string results;
inline void report(const std::string& name, double value) {
    char text[160];
    std::snprintf(text, sizeof text, "%s\"%s\": %.4f", results.empty() ? "" : ", ", name.c_str(), value);
    results += text;
}
