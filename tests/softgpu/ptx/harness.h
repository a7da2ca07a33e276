// SPDX-License-Identifier: MIT
// For the tests: a module with its variables placed, memory that is valid only where allocated, launches with
// typed arguments, and evaluation of single instructions on lists of operands.
#pragma once

#include <gtest/gtest.h>

#include <cstring>
#include <functional>
#include <list>
#include <mutex>
#include <string>
#include <vector>

#include "ptx.h"

namespace softgpu::ptx::test {

constexpr const char* kHeader = ".version 9.0\n.target sm_90\n.address_size 64\n";

class Gpu {
  public:
    explicit Gpu(std::string_view text) : module_(Module::parse(text)) {
        for (size_t i = 0; i < module_->variables().size(); ++i) {
            places_.push_back(raw(module_->variables()[i].size));
            module_->place(i, places_.back());
        }
        module_->initialize();
    }

    Module& module() { return *module_; }

    template <class T>
    T* array(const std::vector<T>& values) {
        T* p = static_cast<T*>(raw(values.size() * sizeof(T)));
        if (!values.empty()) std::memcpy(p, values.data(), values.size() * sizeof(T));
        return p;
    }
    template <class T>
    T* array(size_t n) {
        return array(std::vector<T>(n));
    }
    template <class T>
    T* variable(std::string_view name) {
        for (size_t i = 0; i < places_.size(); ++i)
            if (module_->variables()[i].name == name) return static_cast<T*>(places_[i]);
        throw std::runtime_error("no variable " + std::string(name));
    }

    const Kernel& kernel(std::string_view name) const {
        for (const Kernel& k : module_->kernels())
            if (k.name == name) return k;
        throw std::runtime_error("no kernel " + std::string(name));
    }

    template <class... A>
    void run(std::string_view name, Dim3 grid, Dim3 block, A... arguments) {
        const Kernel& k = kernel(name);
        ASSERT_EQ(k.params.size(), sizeof...(A));
        std::vector<std::byte> params(k.param_bytes);
        size_t i = 0;
        [[maybe_unused]] auto put = [&](const auto& a) {
            ASSERT_EQ(k.params[i].size, sizeof a);
            std::memcpy(params.data() + k.params[i++].offset, &a, sizeof a);
        };
        (put(arguments), ...);
        Launch launch = this->launch;
        launch.grid = grid;
        launch.block = block;
        launch.params = params;
        launch.heap_allocate = [this](size_t n) { return raw(n); };
        launch.heap_free = [this](void*) { ++freed; };
        module_->run(
            k, launch, [this](uint64_t a, uint64_t n, bool) { return range(a, n); },
            [this](std::string_view s) { printed += s; }, threads);
    }

    Launch launch;  // dynamic shared memory and the like for the next run
    unsigned threads = 2;
    std::string printed;
    std::atomic<int> freed{0};

  private:
    void* raw(size_t size) {
        std::lock_guard lock(mutex_);
        memory_.emplace_back(size + 256);
        auto begin = (reinterpret_cast<uintptr_t>(memory_.back().data()) + 255) & ~uintptr_t{255};
        ranges_.push_back({begin, begin + size});
        return reinterpret_cast<void*>(begin);
    }
    AccessRange range(uint64_t address, uint64_t size) {
        std::lock_guard lock(mutex_);
        for (const AccessRange& r : ranges_)
            if (address >= r.begin && address + size <= r.end) return r;
        return {};
    }

    std::unique_ptr<Module> module_;
    std::mutex mutex_;
    std::list<std::vector<char>> memory_;
    std::vector<AccessRange> ranges_;
    std::vector<void*> places_;
};

// ".reg" type and suffix of a C++ type.
template <class T>
std::string bits_type() {
    return ".b" + std::to_string(8 * sizeof(T));
}

// Evaluates an instruction text with destination %d and sources %a, %b, %c on every row of operands: once by
// whole warps, once with odd and even threads in different branches. Both must agree.
template <class D, class A, class B, class C>
std::vector<D> evaluate(const std::string& text, const std::vector<A>& a, const std::vector<B>& b,
                        const std::vector<C>& c) {
    auto load = [](const char* name, size_t size, const char* base) {
        std::string wide = size < 2 ? "2" : std::to_string(size);
        std::string out =
            std::string("mul.wide.u32 %x, %i, ") + std::to_string(size) + "; add.s64 %x, %x, " + base + ";\n";
        return out + "ld.global.b" + std::to_string(8 * size) + " " + name + ", [%x];\n";
    };
    auto reg = [](const char* name, size_t size) {
        return ".reg .b" + std::to_string(8 * std::max<size_t>(size, 2)) + " " + name + ";\n";
    };
    auto kernel = [&](const std::string& name, const std::string& body) {
        return ".visible .entry " + name +
               "(.param .u64 d, .param .u64 a, .param .u64 b, .param .u64 c, .param .u32 n)\n{\n" +
               reg("%d", sizeof(D)) + reg("%a", sizeof(A)) + reg("%b", sizeof(B)) + reg("%c", sizeof(C)) +
               ".reg .u32 %i, %n, %t, %u; .reg .u64 %x, %pd, %pa, %pb, %pc; .reg .pred %past, %odd, %p, %q;\n"
               "ld.param.u64 %pd, [d]; ld.param.u64 %pa, [a]; ld.param.u64 %pb, [b]; ld.param.u64 %pc, [c];\n"
               "ld.param.u32 %n, [n]; mov.u32 %i, %ctaid.x; mov.u32 %t, %ntid.x; mov.u32 %u, %tid.x;\n"
               "mad.lo.u32 %i, %i, %t, %u; setp.ge.u32 %past, %i, %n; @%past ret;\n" +
               load("%a", sizeof(A), "%pa") + load("%b", sizeof(B), "%pb") + load("%c", sizeof(C), "%pc") +
               body + "mul.wide.u32 %x, %i, " + std::to_string(sizeof(D)) +
               "; add.s64 %x, %x, %pd;\nst.global.b" + std::to_string(8 * sizeof(D)) +
               " [%x], %d;\nret;\n}\n";
    };
    std::string parted = "and.b32 %t, %i, 1; setp.eq.u32 %odd, %t, 1; @%odd bra ODD;\n{" + text +
                         "}\nbra JOIN;\nODD:\n{" + text + "}\nJOIN:\n";
    Gpu gpu(kHeader + kernel("whole", "{" + text + "}\n") + kernel("parted", parted));
    std::vector<D> results[2];
    auto n = static_cast<uint32_t>(a.size());
    for (int k = 0; k < 2; ++k) {
        D* d = gpu.array<D>(n);
        gpu.run(k ? "parted" : "whole", {(n + 63) / 64}, {64}, d, gpu.array(a), gpu.array(b), gpu.array(c),
                n);
        results[k].assign(d, d + n);
    }
    EXPECT_EQ(std::memcmp(results[0].data(), results[1].data(), n * sizeof(D)), 0)
        << "divergent lanes differ: " << text;
    return results[0];
}

}  // namespace softgpu::ptx::test
