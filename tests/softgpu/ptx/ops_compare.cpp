// SPDX-License-Identifier: MIT
// Comparisons of whole warps into lane masks.
#include "lanes.h"

namespace softgpu::ptx::SOFTGPU_LEVEL {

namespace {

template <class T>
constexpr bool kFloating = static_cast<T>(0.5) != T(0);

template <class T, Compare c>
SOFTGPU_INLINE bool holds(T a, T b) {
    bool ordered = a == a && b == b;
    switch (c) {
        case Compare::Eq:
            return a == b;
        case Compare::Ne:
            return kFloating<T> ? ordered && a != b : a != b;
        case Compare::Lt:
            return a < b;
        case Compare::Le:
            return a <= b;
        case Compare::Gt:
            return a > b;
        case Compare::Ge:
            return a >= b;
        case Compare::Equ:
            return !ordered || a == b;
        case Compare::Neu:
            return a != b;
        case Compare::Ltu:
            return !(a >= b);
        case Compare::Leu:
            return !(a > b);
        case Compare::Gtu:
            return !(a <= b);
        case Compare::Geu:
            return !(a < b);
        case Compare::Num:
            return ordered;
        case Compare::Nan:
            return !ordered;
    }
    return false;
}

template <class T, Compare c>
uint32_t lanes(const void* pa, const void* pb) {
    const T* a = static_cast<const T*>(pa);
    const T* b = static_cast<const T*>(pb);
    uint32_t bits = 0;
    for (unsigned i = 0; i < kLanes; ++i) bits |= (holds<T, c>(a[i], b[i]) ? 1u : 0u) << i;
    return bits;
}

template <class T>
CompareFn pick(Compare c) {
    switch (c) {
        case Compare::Eq:
            return lanes<T, Compare::Eq>;
        case Compare::Ne:
            return lanes<T, Compare::Ne>;
        case Compare::Lt:
            return lanes<T, Compare::Lt>;
        case Compare::Le:
            return lanes<T, Compare::Le>;
        case Compare::Gt:
            return lanes<T, Compare::Gt>;
        case Compare::Ge:
            return lanes<T, Compare::Ge>;
        default:
            break;
    }
    if constexpr (kFloating<T>) {
        switch (c) {
            case Compare::Equ:
                return lanes<T, Compare::Equ>;
            case Compare::Neu:
                return lanes<T, Compare::Neu>;
            case Compare::Ltu:
                return lanes<T, Compare::Ltu>;
            case Compare::Leu:
                return lanes<T, Compare::Leu>;
            case Compare::Gtu:
                return lanes<T, Compare::Gtu>;
            case Compare::Geu:
                return lanes<T, Compare::Geu>;
            case Compare::Num:
                return lanes<T, Compare::Num>;
            case Compare::Nan:
                return lanes<T, Compare::Nan>;
            default:
                break;
        }
    }
    return nullptr;
}

}  // namespace

CompareFn compare(Compare c, Type t) {
    bool equality = c == Compare::Eq || c == Compare::Ne;
    switch (t) {
        case Type::U16:
            return pick<uint16_t>(c);
        case Type::S16:
            return pick<int16_t>(c);
        case Type::U32:
            return pick<uint32_t>(c);
        case Type::S32:
            return pick<int32_t>(c);
        case Type::U64:
            return pick<uint64_t>(c);
        case Type::S64:
            return pick<int64_t>(c);
        case Type::B16:
            return equality ? pick<uint16_t>(c) : nullptr;
        case Type::B32:
            return equality ? pick<uint32_t>(c) : nullptr;
        case Type::B64:
            return equality ? pick<uint64_t>(c) : nullptr;
        case Type::F32:
            return pick<float>(c);
        case Type::F64:
            return pick<double>(c);
        default:
            return nullptr;
    }
}

}  // namespace softgpu::ptx::SOFTGPU_LEVEL
