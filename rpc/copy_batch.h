// SPDX-License-Identifier: MIT
// An operation of cuMemcpy3DBatchAsync counts in elements; as a box it counts in bytes (copy_3d.h).
#pragma once

#include "rpc/copy_3d.h"

namespace cricket::rpc {

// `element`: bytes of the array's elements, 1 between pointers. Pointers are of the unified address space.
inline CopyEnd end_of(const CUmemcpy3DOperand& operand, const CUextent3D& extent, uint64_t element) {
    CopyEnd end;
    if (operand.type == CU_MEMCPY_OPERAND_TYPE_ARRAY) {
        end.type = CU_MEMORYTYPE_ARRAY;
        end.array = operand.op.array.array;
        end.x = operand.op.array.offset.x * element;
        end.y = operand.op.array.offset.y;
        end.z = operand.op.array.offset.z;
    } else {
        end.type = CU_MEMORYTYPE_UNIFIED;
        end.address = operand.op.ptr.ptr;
        end.pitch = (operand.op.ptr.rowLength ? operand.op.ptr.rowLength : extent.width) * element;
        end.height = operand.op.ptr.layerHeight ? operand.op.ptr.layerHeight : extent.height;
    }
    return end;
}

inline CopyFields fields_of(const CUDA_MEMCPY3D_BATCH_OP& operation, uint64_t element) {
    CopyFields copy{};
    set_source(&copy, end_of(operation.src, operation.extent, element));
    set_target(&copy, end_of(operation.dst, operation.extent, element));
    copy.WidthInBytes = operation.extent.width * element;
    copy.Height = operation.extent.height;
    copy.Depth = operation.extent.depth;
    return copy;
}

}  // namespace cricket::rpc
