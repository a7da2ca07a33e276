// SPDX-License-Identifier: MIT
// Functions compiled twice: by nvcc for the interpreter, by the host's compiler for what they should give.
#pragma once

#include <math.h>
#include <stdint.h>

#ifdef __CUDACC__
#define EVERYWHERE __host__ __device__
#else
#define EVERYWHERE
#endif

struct Mixed {
    int8_t small;
    int32_t word;
    double real;
    int16_t pair[3];
    uint64_t wide;
};

EVERYWHERE inline uint64_t mix(uint64_t x) {
    x ^= x >> 33;
    x *= 0xff51afd7ed558ccdull;
    x ^= x >> 33;
    x *= 0xc4ceb9fe1a85ec53ull;
    return x ^ x >> 33;
}

EVERYWHERE inline int64_t divisions(uint64_t seed) {
    int64_t a = (int64_t)mix(seed), b = (int64_t)(mix(seed + 1) >> (seed % 60)) | 1;
    uint64_t ua = (uint64_t)a, ub = (uint64_t)b;
    int32_t c = (int32_t)a, d = (int32_t)(b >> 7) | 1;
    uint64_t sum = (uint64_t)(a / b) + 3 * (uint64_t)(a % b) + ua / ub - ua % ub;
    sum += (uint64_t)(c / d) * 7 + (uint32_t)c / 10 + (uint64_t)(c % 1000) + (uint64_t)((int16_t)c / 3);
    return (int64_t)sum;
}

EVERYWHERE inline uint32_t branches(uint32_t n) {
    uint32_t steps = 0;
    for (uint32_t v = n + 1; v != 1; ++steps) {
        if (v % 2)
            v = 3 * v + 1;
        else
            v /= 2;
        if (steps > 300) break;
    }
    for (uint32_t i = 0; i < n % 17; ++i) {
        for (uint32_t k = i; k < 20; ++k) {
            if ((k * i) % 7 == 3) continue;
            if (k * 3 > n) goto out;
            steps += k ^ i;
        }
    }
out:
    return steps;
}

EVERYWHERE inline int select_case(int n, int v) {
    switch (n % 13) {
        case 0:
            return v * 3;
        case 1:
            v += 17;
            break;
        case 2:
            return v ^ 0x55;
        case 3:
            v -= n;  // falls through
        case 4:
            v *= 2;
            break;
        case 5:
            return -v;
        case 6:
            for (int i = 0; i < n; ++i) v = (int)((unsigned)v + (unsigned)i * (unsigned)v);
            break;
        case 7:
            return v / 3;
        case 8:
            v = ~v;
            break;
        case 9:
            return v << 3;
        case 10:
            return v >> 2;
        default:
            v = 1;
    }
    return v + 1;
}

EVERYWHERE inline int ackermann(int m, int n) {
    if (m == 0) return n + 1;
    if (n == 0) return ackermann(m - 1, 1);
    return ackermann(m - 1, ackermann(m, n - 1));
}

EVERYWHERE inline int local_sort(int seed) {
    int a[24];
    for (int i = 0; i < 24; ++i) a[i] = (int)(mix((uint64_t)(seed * 31 + i)) % 1000);
    for (int i = 1; i < 24; ++i) {
        int v = a[i], k = i;
        for (; k > 0 && a[k - 1] > v; --k) a[k] = a[k - 1];
        a[k] = v;
    }
    unsigned sum = 0;
    for (int i = 0; i < 24; ++i) sum = sum * 3 + (unsigned)a[i];
    return (int)(sum + (unsigned)a[seed % 24]);
}

EVERYWHERE inline Mixed change(Mixed m, int by) {
    m.small = (int8_t)(m.small + by);
    m.word *= by;
    m.real = m.real / by + m.pair[by % 3];
    m.pair[by % 3] = (int16_t)m.word;
    m.wide ^= (uint64_t)by << 40;
    return m;
}

// In double precision, then in single: libm's and CUDA's results agree within a few units.
EVERYWHERE inline double double_functions(int which, double x) {
    switch (which) {
        case 0:
            return sin(x);
        case 1:
            return cos(x * 1e6);
        case 2:
            return exp(x);
        case 3:
            return log(fabs(x) + 1e-3);
        case 4:
            return pow(fabs(x) + 0.5, 1.7);
        case 5:
            return tanh(x) + atan2(x, 2.0);
        case 6:
            return sqrt(fabs(x)) + cbrt(x);
        case 7:
            return erf(x) + floor(x) - ceil(x * 3) + fmod(x, 0.7);
        case 8:
            return lgamma(fabs(x) + 1.5);
        default:
            return 1 / (x + 11) + rint(x * 5) + hypot(x, 3.0);
    }
}

EVERYWHERE inline float float_functions(int which, float x) {
    switch (which) {
        case 0:
            return sinf(x);
        case 1:
            return cosf(x * 1000);
        case 2:
            return expf(x);
        case 3:
            return logf(fabsf(x) + 1e-3f);
        case 4:
            return powf(fabsf(x) + 0.5f, 1.7f);
        case 5:
            return tanf(x * 0.1f) + atanf(x);
        case 6:
            return sqrtf(fabsf(x)) + cbrtf(x);
        case 7:
            return erff(x) + floorf(x) - ceilf(x * 3) + fmodf(x, 0.7f);
        case 8:
            return x / 3.7f + 1.0f / (x + 11.5f);
        default:
            return exp2f(x) + log10f(fabsf(x) + 1);
    }
}
