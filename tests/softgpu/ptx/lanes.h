// SPDX-License-Identifier: MIT
// Loops over the lanes of a warp, shaped so that the compiler vectorizes them. Included by the ops_*.cpp
// files that are compiled per instruction set level: everything here must inline or live in that level's
// namespace.
#pragma once

#include "ops.h"
#include "warp.h"

#ifndef SOFTGPU_LEVEL
#error "compile with -DSOFTGPU_LEVEL=<namespace>"
#endif

#define SOFTGPU_INLINE [[gnu::always_inline]] inline

namespace softgpu::ptx::SOFTGPU_LEVEL {

// d[i] = f(i) in active lanes. f runs for inactive lanes too: it must not trap. d may be one of f's inputs.
template <class D, class F>
SOFTGPU_INLINE void each(const Warp& w, D* d, F f) {
    if (w.full) [[likely]] {
#pragma GCC ivdep
        for (unsigned i = 0; i < kLanes; ++i) d[i] = f(i);
        return;
    }
    alignas(64) D t[kLanes];
    uint32_t mask = w.mask;
#pragma GCC ivdep
    for (unsigned i = 0; i < kLanes; ++i) t[i] = f(i);
#pragma GCC ivdep
    for (unsigned i = 0; i < kLanes; ++i) d[i] = (mask >> i & 1) ? t[i] : d[i];
}

template <class D, class A, class F>
void unary(Warp& w, const Instr& in) {
    const A* a = w.reg<A>(in.op[1]);
    each(w, w.reg<D>(in.op[0]), [=](unsigned i) { return F{}(a[i]); });
}

template <class D, class A, class B, class F>
void binary(Warp& w, const Instr& in) {
    const A* a = w.reg<A>(in.op[1]);
    const B* b = w.reg<B>(in.op[2]);
    each(w, w.reg<D>(in.op[0]), [=](unsigned i) { return F{}(a[i], b[i]); });
}

template <class D, class A, class B, class C, class F>
void ternary(Warp& w, const Instr& in) {
    const A* a = w.reg<A>(in.op[1]);
    const B* b = w.reg<B>(in.op[2]);
    const C* c = w.reg<C>(in.op[3]);
    each(w, w.reg<D>(in.op[0]), [=](unsigned i) { return F{}(a[i], b[i], c[i]); });
}

}  // namespace softgpu::ptx::SOFTGPU_LEVEL
