// SPDX-License-Identifier: MIT
// One instruction set level's handlers as a table.
#include "lanes.h"

namespace softgpu::ptx::SOFTGPU_LEVEL {

Handler integer(Op, Type);
Handler bits(Op, Type);
Handler floating(Op, Type);
CompareFn compare(Compare, Type);
Handler convert_int(Type to, Type from, bool saturate);
Handler convert_from_int(Type to, Type from);
Handler convert_to_int(Type to, Type from, Rounding);
Handler load(Type memory, unsigned width, Space space);
Handler store(unsigned width, unsigned memory, Space space);

extern const OpSet kOps;
const OpSet kOps = {integer,          bits,           floating, compare, convert_int,
                    convert_from_int, convert_to_int, load,     store};

}  // namespace softgpu::ptx::SOFTGPU_LEVEL
