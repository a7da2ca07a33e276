// SPDX-License-Identifier: MIT
#include "copy.h"

#include <cstring>

#include "capture.h"

namespace softgpu {
namespace {

// Bytes from the first to the last touched.
size_t span_of(const End& end, const Box& box) {
    return (box.depth - 1) * end.slice + (box.height - 1) * end.pitch + box.width;
}

enum class Memory { Pageable, Locked, Device, Array };

// Whether [address, address + size) is memory the driver knows. Mappings may be adjacent; anything else is
// one allocation.
Memory classify(uint64_t address, size_t size, Side side) {
    if (side == Side::Array) return Memory::Array;  // checked where the end was made
    auto range = memory_map().find(address);
    if (!range || range->kind == MemoryKind::Heap) {
        // Unknown memory is pageable host memory, but not within the fixed regions.
        bool ours = address >= kGraphBase && address < kReserveBase;
        require(side != Side::Device && !ours && address != 0);
        return Memory::Pageable;
    }
    auto kind = range->kind;
    while (address + size > range->end()) {
        uint64_t next = range->end();
        if (kind == MemoryKind::Registered && side != Side::Device) return Memory::Pageable;
        require(kind == MemoryKind::Mapped);
        range = memory_map().find(next);
        require(range && range->kind == MemoryKind::Mapped);
    }
    if (kind == MemoryKind::Mapped) require(range->readers != 0);
    return range->is_host() ? Memory::Locked : Memory::Device;
}

// The memory may be gone by the time the stream comes to the operation.
void check_again(Memory memory, const End& end, const Box& box) {
    if (memory == Memory::Pageable || memory == Memory::Array) return;
    try {
        classify(end.base, span_of(end, box), Side::Device);
    } catch (const Error&) {
        throw Sticky{CUDA_ERROR_ILLEGAL_ADDRESS,
                     "a copy or fill reached memory that was freed before it ran"};
    }
}

void copy_now(End to, End from, Box box) {
    for (size_t z = 0; z < box.depth; ++z)
        for (size_t y = 0; y < box.height; ++y)
            memmove(reinterpret_cast<void*>(to.base + z * to.slice + y * to.pitch),
                    reinterpret_cast<const void*>(from.base + z * from.slice + y * from.pitch), box.width);
}

// Rows that follow each other without a gap are one row.
void join_rows(End& to, End& from, Box& box) {
    if (box.height > 1 && to.pitch == box.width && from.pitch == box.width) {
        bool slices = box.depth == 1 || (to.slice == box.width * box.height && from.slice == to.slice);
        if (slices) {
            box = {box.width * box.height * box.depth};
        } else {
            box.width *= box.height;
            box.height = 1;
        }
    }
}

CUmemorytype type_of(Side side) {
    return side == Side::Host     ? CU_MEMORYTYPE_HOST
           : side == Side::Device ? CU_MEMORYTYPE_DEVICE
           : side == Side::Array  ? CU_MEMORYTYPE_ARRAY
                                  : CU_MEMORYTYPE_UNIFIED;
}

// A copy as the functions of graphs describe it.
CUDA_MEMCPY3D described(const End& to, const End& from, const Box& box) {
    CUDA_MEMCPY3D p = {};
    p.srcMemoryType = type_of(from.side);
    if (from.side == Side::Array) {
        p.srcArray = from.array->handle;
        p.srcXInBytes = from.x, p.srcY = from.y, p.srcZ = from.z;
    } else {
        if (from.side == Side::Host)
            p.srcHost = reinterpret_cast<const void*>(from.base);
        else
            p.srcDevice = from.base;
        p.srcPitch = from.pitch;
        p.srcHeight = from.pitch ? from.slice / from.pitch : 0;
    }
    p.dstMemoryType = type_of(to.side);
    if (to.side == Side::Array) {
        p.dstArray = to.array->handle;
        p.dstXInBytes = to.x, p.dstY = to.y, p.dstZ = to.z;
    } else {
        if (to.side == Side::Host)
            p.dstHost = reinterpret_cast<void*>(to.base);
        else
            p.dstDevice = to.base;
        p.dstPitch = to.pitch;
        p.dstHeight = to.pitch ? to.slice / to.pitch : 0;
    }
    p.WidthInBytes = box.width;
    p.Height = box.height;
    p.Depth = box.depth;
    return p;
}

void fill_now(uint64_t base, size_t pitch, unsigned value, unsigned value_size, size_t width, size_t height) {
    for (size_t y = 0; y < height; ++y) {
        auto row = reinterpret_cast<char*>(base + y * pitch);
        if (value_size == 1)
            memset(row, static_cast<int>(value & 0xff), width);
        else
            for (size_t i = 0; i < width; i += value_size)
                memcpy(row + i, &value, value_size);  // little endian
    }
}

// Width in bytes of a row.
size_t check_fill_shape(uint64_t base, size_t pitch, unsigned value_size, const Box& elements) {
    require(base % value_size == 0 && (elements.height == 1 || pitch % value_size == 0));
    size_t width;
    require(!__builtin_mul_overflow(elements.width, size_t{value_size}, &width));
    require(elements.height == 1 || pitch >= width);
    return width;
}

}  // namespace

void check_device_range(uint64_t address, size_t size) {
    classify(address, size, Side::Device);
}

void copy(const std::shared_ptr<Stream>& stream, End to, End from, Box box, bool wait) {
    if (box.width == 0 || box.height == 0 || box.depth == 0) return;
    if (wait) {
        refuse_if_capturing(*stream);
        potentially_unsafe();
    }
    if (capturing(*stream)) {
        MemcpyStep step{described(to, from, box), stream->context->handle};
        check_copy(step.params);
        captured(stream, step);
        return;
    }
    auto target = classify(to.base, span_of(to, box), to.side);
    auto source = classify(from.base, span_of(from, box), from.side);
    join_rows(to, from, box);

    if (source == Memory::Pageable && (target == Memory::Device || target == Memory::Array) && !wait) {
        auto staged = std::make_shared<std::vector<std::byte>>(box.width * box.height * box.depth);
        End middle{Side::Host, reinterpret_cast<uint64_t>(staged->data()), box.width, box.width * box.height};
        copy_now(middle, from, box);
        stream->submit([=] {
            MemoryInUse in_use;
            check_again(target, to, box);
            copy_now(to, middle, box);
            (void)staged;
        });
        return;
    }
    auto now = [=] {
        MemoryInUse in_use;
        check_again(target, to, box);
        check_again(source, from, box);
        copy_now(to, from, box);
    };
    // Between device memories even the synchronous functions do not wait.
    auto device = [](Memory memory) { return memory == Memory::Device || memory == Memory::Array; };
    bool on_device = device(source) && device(target);
    if ((wait && !on_device) || target == Memory::Pageable || source == Memory::Pageable) {
        stream->run(std::move(now));
        if (wait) stream->context->output.flush();
        require(stream->context->sticky() == CUDA_SUCCESS, stream->context->sticky());
    } else {
        stream->submit(std::move(now));
    }
}

void fill(const std::shared_ptr<Stream>& stream, uint64_t base, size_t pitch, unsigned value,
          unsigned value_size, Box elements, bool wait) {
    if (elements.width == 0 || elements.height == 0) return;
    if (wait) {
        refuse_if_capturing(*stream);
        potentially_unsafe();
    }
    if (capturing(*stream)) {
        MemsetStep step{
            {base, pitch, value, value_size, elements.width, elements.height, stream->context->handle}};
        check_fill(step.params);
        captured(stream, step);
        return;
    }
    size_t width = check_fill_shape(base, pitch, value_size, elements);
    check_device_range(base, (elements.height - 1) * pitch + width);
    stream->submit([=] {
        MemoryInUse in_use;
        check_again(Memory::Device, {Side::Device, base, pitch}, {width, elements.height});
        fill_now(base, pitch, value, value_size, width, elements.height);
    });
}

}  // namespace softgpu

using namespace softgpu;

namespace {

End host(const void* pointer) {
    return {Side::Host, reinterpret_cast<uint64_t>(pointer)};
}
End dev(CUdeviceptr pointer) {
    return {Side::Device, pointer};
}
End either(CUdeviceptr pointer) {
    return {Side::Either, pointer};
}

CUresult copy_line(CUstream on, End to, End from, size_t size, bool wait) {
    return api([&] { copy(stream(on), to, from, {size}, wait); });
}

}  // namespace

CUresult cuMemcpy(CUdeviceptr to, CUdeviceptr from, size_t size) {
    return copy_line(nullptr, either(to), either(from), size, true);
}
CUresult cuMemcpyAsync(CUdeviceptr to, CUdeviceptr from, size_t size, CUstream on) {
    return copy_line(on, either(to), either(from), size, false);
}
CUresult cuMemcpyHtoD_v2(CUdeviceptr to, const void* from, size_t size) {
    return copy_line(nullptr, dev(to), host(from), size, true);
}
CUresult cuMemcpyHtoDAsync_v2(CUdeviceptr to, const void* from, size_t size, CUstream on) {
    return copy_line(on, dev(to), host(from), size, false);
}
CUresult cuMemcpyDtoH_v2(void* to, CUdeviceptr from, size_t size) {
    return copy_line(nullptr, host(to), dev(from), size, true);
}
CUresult cuMemcpyDtoHAsync_v2(void* to, CUdeviceptr from, size_t size, CUstream on) {
    return copy_line(on, host(to), dev(from), size, false);
}
CUresult cuMemcpyDtoD_v2(CUdeviceptr to, CUdeviceptr from, size_t size) {
    return copy_line(nullptr, dev(to), dev(from), size, true);
}
CUresult cuMemcpyDtoDAsync_v2(CUdeviceptr to, CUdeviceptr from, size_t size, CUstream on) {
    return copy_line(on, dev(to), dev(from), size, false);
}

CUresult cuMemcpyPeer(CUdeviceptr to, CUcontext to_context, CUdeviceptr from, CUcontext from_context,
                      size_t size) {
    return api([&] {
        context_or_current(to_context);
        context_or_current(from_context);
        copy(stream(nullptr), dev(to), dev(from), {size}, true);
    });
}

CUresult cuMemcpyPeerAsync(CUdeviceptr to, CUcontext to_context, CUdeviceptr from, CUcontext from_context,
                           size_t size, CUstream on) {
    return api([&] {
        context_or_current(to_context);
        context_or_current(from_context);
        copy(stream(on), dev(to), dev(from), {size}, false);
    });
}

namespace {

End end_of_array(CUarray handle, size_t x, size_t y, size_t z, const Box& box) {
    auto of = array(handle);
    require(x + box.width <= of->pitch() && y + box.height <= of->rows() && z + box.depth <= of->slices());
    return {
        Side::Array, of->base + z * of->slice() + y * of->pitch() + x, of->pitch(), of->slice(), of, x, y, z};
}

// One end of a CUDA_MEMCPY2D/3D: its fields by name differ only in the prefix.
End end_of(CUmemorytype type, const void* host_pointer, CUdeviceptr device_pointer, CUarray array_handle,
           size_t x, size_t y, size_t z, size_t pitch, size_t height, const Box& box) {
    End end{Side::Either, 0, pitch, pitch * height};
    switch (type) {
        case CU_MEMORYTYPE_HOST:
            end.side = Side::Host, end.base = reinterpret_cast<uint64_t>(host_pointer);
            break;
        case CU_MEMORYTYPE_DEVICE:
            end.side = Side::Device, end.base = device_pointer;
            break;
        case CU_MEMORYTYPE_UNIFIED:
            end.base = device_pointer;
            break;
        case CU_MEMORYTYPE_ARRAY:
            return end_of_array(array_handle, x, y, z, box);
        default:
            fail(CUDA_ERROR_INVALID_VALUE);
    }
    if (end.pitch == 0) end.pitch = box.width + x;  // one row, as pitch 0 is taken
    if (end.slice == 0) end.slice = end.pitch * box.height;
    require(box.height <= 1 || end.pitch >= box.width + x);
    require(box.depth <= 1 || height == 0 || height >= box.height + y);
    end.base += z * end.slice + y * end.pitch + x;
    return end;
}

template <typename Params>
End target_of(const Params& p, const Box& box) {
    return end_of(p.dstMemoryType, p.dstHost, p.dstDevice, p.dstArray, p.dstXInBytes, p.dstY, p.dstZ,
                  p.dstPitch, p.dstHeight, box);
}
template <typename Params>
End source_of(const Params& p, const Box& box) {
    return end_of(p.srcMemoryType, p.srcHost, p.srcDevice, p.srcArray, p.srcXInBytes, p.srcY, p.srcZ,
                  p.srcPitch, p.srcHeight, box);
}

CUresult copy_2d(const CUDA_MEMCPY2D* p, CUstream on, bool wait) {
    return api([&] {
        require(p);
        auto s = stream(on);
        Box box{p->WidthInBytes, p->Height};
        if (!box.width || !box.height) return;
        auto to = end_of(p->dstMemoryType, p->dstHost, p->dstDevice, p->dstArray, p->dstXInBytes, p->dstY, 0,
                         p->dstPitch, 0, box);
        auto from = end_of(p->srcMemoryType, p->srcHost, p->srcDevice, p->srcArray, p->srcXInBytes, p->srcY,
                           0, p->srcPitch, 0, box);
        copy(s, to, from, box, wait);
    });
}

template <typename Params>
void copy_box(const Params* p, CUstream on, bool wait) {
    require(p && p->srcLOD == 0 && p->dstLOD == 0);
    auto s = stream(on);
    Box box{p->WidthInBytes, p->Height, p->Depth};
    if (!box.width || !box.height || !box.depth) return;
    copy(s, target_of(*p, box), source_of(*p, box), box, wait);
}

}  // namespace

namespace softgpu {
namespace {

// For steps of graphs: what their memory is shows when they run, since the graph may allocate it.
void check_later_end(const End& end, const Box& box) {
    size_t size = span_of(end, box);
    if (end.side != Side::Array && !in_graph_memory(end.base, size)) classify(end.base, size, end.side);
}

}  // namespace

void check_copy(const CUDA_MEMCPY3D& p) {
    require(p.srcLOD == 0 && p.dstLOD == 0);
    Box box{p.WidthInBytes, p.Height, p.Depth};
    require(box.width && box.height && box.depth);
    check_later_end(target_of(p, box), box);
    check_later_end(source_of(p, box), box);
}

void check_fill(const CUDA_MEMSET_NODE_PARAMS_v2& p) {
    require(p.elementSize == 1 || p.elementSize == 2 || p.elementSize == 4);
    require(p.width && p.height);
    size_t width = check_fill_shape(p.dst, p.pitch, p.elementSize, {p.width, p.height});
    check_later_end({Side::Device, p.dst, p.pitch}, {width, p.height});
}

Action action(const MemcpyStep& step) {
    auto& p = step.params;
    Box box{p.WidthInBytes, p.Height, p.Depth};
    auto to = target_of(p, box), from = source_of(p, box);
    join_rows(to, from, box);
    return [=] {
        MemoryInUse in_use;
        try {
            classify(to.base, span_of(to, box), to.side);
            classify(from.base, span_of(from, box), from.side);
        } catch (const Error&) {
            throw Sticky{CUDA_ERROR_ILLEGAL_ADDRESS, "a graph's copy reached memory that is not there"};
        }
        copy_now(to, from, box);
    };
}

Action action(const MemsetStep& step) {
    return [p = step.params] {
        MemoryInUse in_use;
        size_t width = p.width * p.elementSize;
        check_again(Memory::Device, {Side::Device, p.dst, p.pitch}, {width, p.height});
        fill_now(p.dst, p.pitch, p.value, p.elementSize, width, p.height);
    };
}

}  // namespace softgpu

CUresult cuMemcpy2D_v2(const CUDA_MEMCPY2D* p) {
    return copy_2d(p, nullptr, true);
}
CUresult cuMemcpy2DUnaligned_v2(const CUDA_MEMCPY2D* p) {
    return copy_2d(p, nullptr, true);
}
CUresult cuMemcpy2DAsync_v2(const CUDA_MEMCPY2D* p, CUstream on) {
    return copy_2d(p, on, false);
}
CUresult cuMemcpy3D_v2(const CUDA_MEMCPY3D* p) {
    return api([&] { copy_box(p, nullptr, true); });
}
CUresult cuMemcpy3DAsync_v2(const CUDA_MEMCPY3D* p, CUstream on) {
    return api([&] { copy_box(p, on, false); });
}
CUresult cuMemcpy3DPeer(const CUDA_MEMCPY3D_PEER* p) {
    return api([&] { copy_box(p, nullptr, true); });
}
CUresult cuMemcpy3DPeerAsync(const CUDA_MEMCPY3D_PEER* p, CUstream on) {
    return api([&] { copy_box(p, on, false); });
}

namespace {

CUresult fill_box(CUstream on, CUdeviceptr base, size_t pitch, unsigned value, unsigned size, size_t width,
                  size_t height, bool wait) {
    return api([&] { fill(stream(on), base, pitch, value, size, {width, height}, wait); });
}

}  // namespace

CUresult cuMemsetD8_v2(CUdeviceptr p, unsigned char v, size_t n) {
    return fill_box(nullptr, p, 0, v, 1, n, 1, true);
}
CUresult cuMemsetD16_v2(CUdeviceptr p, unsigned short v, size_t n) {
    return fill_box(nullptr, p, 0, v, 2, n, 1, true);
}
CUresult cuMemsetD32_v2(CUdeviceptr p, unsigned v, size_t n) {
    return fill_box(nullptr, p, 0, v, 4, n, 1, true);
}
CUresult cuMemsetD8Async(CUdeviceptr p, unsigned char v, size_t n, CUstream on) {
    return fill_box(on, p, 0, v, 1, n, 1, false);
}
CUresult cuMemsetD16Async(CUdeviceptr p, unsigned short v, size_t n, CUstream on) {
    return fill_box(on, p, 0, v, 2, n, 1, false);
}
CUresult cuMemsetD32Async(CUdeviceptr p, unsigned v, size_t n, CUstream on) {
    return fill_box(on, p, 0, v, 4, n, 1, false);
}
CUresult cuMemsetD2D8_v2(CUdeviceptr p, size_t pitch, unsigned char v, size_t w, size_t h) {
    return fill_box(nullptr, p, pitch, v, 1, w, h, true);
}
CUresult cuMemsetD2D16_v2(CUdeviceptr p, size_t pitch, unsigned short v, size_t w, size_t h) {
    return fill_box(nullptr, p, pitch, v, 2, w, h, true);
}
CUresult cuMemsetD2D32_v2(CUdeviceptr p, size_t pitch, unsigned v, size_t w, size_t h) {
    return fill_box(nullptr, p, pitch, v, 4, w, h, true);
}
CUresult cuMemsetD2D8Async(CUdeviceptr p, size_t pitch, unsigned char v, size_t w, size_t h, CUstream on) {
    return fill_box(on, p, pitch, v, 1, w, h, false);
}
CUresult cuMemsetD2D16Async(CUdeviceptr p, size_t pitch, unsigned short v, size_t w, size_t h, CUstream on) {
    return fill_box(on, p, pitch, v, 2, w, h, false);
}
CUresult cuMemsetD2D32Async(CUdeviceptr p, size_t pitch, unsigned v, size_t w, size_t h, CUstream on) {
    return fill_box(on, p, pitch, v, 4, w, h, false);
}
