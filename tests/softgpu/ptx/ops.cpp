// SPDX-License-Identifier: MIT
// Picks the handlers for the machine at hand.
#include "ops.h"

#include <cstdlib>
#include <string_view>

namespace softgpu::ptx {

namespace base {
extern const OpSet kOps;
}
namespace v3 {
extern const OpSet kOps;
}
namespace v4 {
extern const OpSet kOps;
}

const OpSet& ops() {
    static const OpSet* chosen = [] {
        bool has3 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                    __builtin_cpu_supports("bmi2") && __builtin_cpu_supports("f16c") &&
                    __builtin_cpu_supports("lzcnt") && __builtin_cpu_supports("movbe");
        bool has4 = has3 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                    __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
                    __builtin_cpu_supports("avx512cd");
        // SOFTGPU_LEVEL=base|v3 lowers the choice, to test each on one machine.
        const char* wish = std::getenv("SOFTGPU_LEVEL");
        std::string_view most = wish ? wish : "";
        if (most == "base") has3 = has4 = false;
        if (most == "v3") has4 = false;
        return has4 ? &v4::kOps : has3 ? &v3::kOps : &base::kOps;
    }();
    return *chosen;
}

}  // namespace softgpu::ptx
