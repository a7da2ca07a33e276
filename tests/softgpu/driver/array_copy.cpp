// SPDX-License-Identifier: MIT
// Copies of lines from and to arrays, and batches of copies.
#include <algorithm>
#include <cstdint>

#include "copy.h"

using namespace softgpu;

namespace {

// Bytes of an array by offset: rows follow each other without gaps.
End line(CUarray handle, size_t offset, size_t size) {
    auto of = array(handle);
    require(offset <= of->bytes() && size <= of->bytes() - offset);
    End end{Side::Array, of->base + offset, of->pitch(), of->slice(), of};
    end.z = offset / of->slice();
    end.y = offset % of->slice() / of->pitch();
    end.x = offset % of->pitch();
    return end;
}

End host(const void* pointer) {
    return {Side::Host, reinterpret_cast<uint64_t>(pointer)};
}
End dev(CUdeviceptr pointer) {
    return {Side::Device, pointer};
}

template <typename Make>
CUresult copy_line(CUstream on, size_t size, bool wait, Make ends) {
    return api([&] {
        auto s = stream(on);
        auto [to, from] = ends();
        copy(s, to, from, {size}, wait);
    });
}

using Ends = std::pair<End, End>;

}  // namespace

CUresult cuMemcpyDtoA_v2(CUarray to, size_t offset, CUdeviceptr from, size_t size) {
    return copy_line(nullptr, size, true, [&] { return Ends(line(to, offset, size), dev(from)); });
}
CUresult cuMemcpyAtoD_v2(CUdeviceptr to, CUarray from, size_t offset, size_t size) {
    return copy_line(nullptr, size, true, [&] { return Ends(dev(to), line(from, offset, size)); });
}
CUresult cuMemcpyHtoA_v2(CUarray to, size_t offset, const void* from, size_t size) {
    return copy_line(nullptr, size, true, [&] { return Ends(line(to, offset, size), host(from)); });
}
CUresult cuMemcpyAtoH_v2(void* to, CUarray from, size_t offset, size_t size) {
    return copy_line(nullptr, size, true, [&] { return Ends(host(to), line(from, offset, size)); });
}
CUresult cuMemcpyAtoA_v2(CUarray to, size_t to_offset, CUarray from, size_t from_offset, size_t size) {
    return copy_line(nullptr, size, true,
                     [&] { return Ends(line(to, to_offset, size), line(from, from_offset, size)); });
}
CUresult cuMemcpyHtoAAsync_v2(CUarray to, size_t offset, const void* from, size_t size, CUstream on) {
    return copy_line(on, size, false, [&] { return Ends(line(to, offset, size), host(from)); });
}
CUresult cuMemcpyAtoHAsync_v2(void* to, CUarray from, size_t offset, size_t size, CUstream on) {
    return copy_line(on, size, false, [&] { return Ends(host(to), line(from, offset, size)); });
}

namespace {

std::shared_ptr<Stream> batch_stream(CUstream handle) {
    require(handle && handle != CU_STREAM_LEGACY);  // these have no form for the legacy stream
    return stream(handle);
}

// Calls one(i) for each copy of a batch, and says at which one it failed.
template <typename One>
void each(size_t count, size_t* failed_at, One one) {
    if (failed_at) *failed_at = SIZE_MAX;
    for (size_t i = 0; i < count; ++i) {
        try {
            one(i);
        } catch (const Error&) {
            if (failed_at) *failed_at = i;
            throw;
        }
    }
}

CUresult copy_batch(CUdeviceptr* to, CUdeviceptr* from, size_t* sizes, size_t count,
                    CUmemcpyAttributes* attributes, size_t* first_of, size_t attribute_count,
                    size_t* failed_at, CUstream on) {
    return api([&] {
        require(to && from && sizes && count && attributes && first_of && attribute_count);
        require(attribute_count <= count && first_of[0] == 0);
        for (size_t i = 0; i < attribute_count; ++i) {
            require(i == 0 || (first_of[i] > first_of[i - 1] && first_of[i] < count));
            require(attributes[i].srcAccessOrder > CU_MEMCPY_SRC_ACCESS_ORDER_INVALID &&
                    attributes[i].srcAccessOrder <= CU_MEMCPY_SRC_ACCESS_ORDER_ANY);
        }
        auto s = batch_stream(on);
        each(count, failed_at, [&](size_t i) {
            require(sizes[i] > 0);
            copy(s, {Side::Either, to[i]}, {Side::Either, from[i]}, {sizes[i]}, false);
        });
    });
}

End operand(const CUmemcpy3DOperand& o, const CUextent3D& extent, Box& box) {
    if (o.type == CU_MEMCPY_OPERAND_TYPE_ARRAY) {
        auto of = array(o.op.array.array);
        auto& at = o.op.array.offset;
        box = {extent.width * of->element, extent.height, extent.depth};
        size_t x = at.x * of->element;
        require(x + box.width <= of->pitch() && at.y + box.height <= of->rows() &&
                at.z + box.depth <= of->slices());
        return {Side::Array, of->base + at.z * of->slice() + at.y * of->pitch() + x,
                of->pitch(), of->slice(),
                of,          x,
                at.y,        at.z};
    }
    require(o.type == CU_MEMCPY_OPERAND_TYPE_POINTER);
    auto& p = o.op.ptr;
    size_t row = p.rowLength ? p.rowLength : box.width,
           height = p.layerHeight ? p.layerHeight : extent.height;
    return {Side::Either, p.ptr, row, row * height};
}

CUresult copy_3d_batch(size_t count, CUDA_MEMCPY3D_BATCH_OP* list, unsigned long long flags,
                       size_t* failed_at, CUstream on) {
    return api([&] {
        require(count && list && flags == 0);
        auto s = batch_stream(on);
        each(count, failed_at, [&](size_t i) {
            auto& one = list[i];
            require(one.extent.width && one.extent.height && one.extent.depth);
            // Between pointers an element is a byte; with an array it is the array's.
            Box box{one.extent.width, one.extent.height, one.extent.depth}, unused = box;
            if (one.src.type == CU_MEMCPY_OPERAND_TYPE_ARRAY) operand(one.src, one.extent, box);
            auto to =
                operand(one.dst, one.extent, one.dst.type == CU_MEMCPY_OPERAND_TYPE_ARRAY ? box : unused);
            auto from = operand(one.src, one.extent, unused);
            size_t element = box.width / one.extent.width;
            for (auto end : {&to, &from})
                if (!end->array && element > 1) end->pitch *= element, end->slice *= element;
            copy(s, to, from, box, false);
        });
    });
}

}  // namespace

CUresult cuMemcpyBatchAsync_v2(CUdeviceptr* to, CUdeviceptr* from, size_t* sizes, size_t count,
                               CUmemcpyAttributes* attributes, size_t* first_of, size_t attribute_count,
                               CUstream on) {
    return copy_batch(to, from, sizes, count, attributes, first_of, attribute_count, nullptr, on);
}
CUresult cuMemcpyBatchAsync(CUdeviceptr* to, CUdeviceptr* from, size_t* sizes, size_t count,
                            CUmemcpyAttributes* attributes, size_t* first_of, size_t attribute_count,
                            size_t* failed_at, CUstream on) {
    return copy_batch(to, from, sizes, count, attributes, first_of, attribute_count, failed_at, on);
}
CUresult cuMemcpy3DBatchAsync_v2(size_t count, CUDA_MEMCPY3D_BATCH_OP* list, unsigned long long flags,
                                 CUstream on) {
    return copy_3d_batch(count, list, flags, nullptr, on);
}
CUresult cuMemcpy3DBatchAsync(size_t count, CUDA_MEMCPY3D_BATCH_OP* list, size_t* failed_at,
                              unsigned long long flags, CUstream on) {
    return copy_3d_batch(count, list, flags, failed_at, on);
}
