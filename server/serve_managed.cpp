// SPDX-License-Identifier: MIT
// Managed memory. What is not of cuMemAllocManaged may be a __managed__ variable, which the driver placed: it answers.
#include <cstring>

#include "cricket/quick_hash.h"
#include "dispatch.h"
#include "session.h"

namespace cricket::server {
namespace {

CUmemLocation location_of(CUdevice device) {
    if (device == CU_DEVICE_CPU) return {CU_MEM_LOCATION_TYPE_HOST, 0};
    return {CU_MEM_LOCATION_TYPE_DEVICE, device};
}

bool ours(Call& call, uint64_t address) { return call.session.managed.find(address) != nullptr; }

CUresult stream_of(Call& call, uint64_t number, CUstream* stream) {
    if (number <= 2 && !call.session.current()) return CUDA_ERROR_INVALID_CONTEXT;
    return call.stream(number, stream) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
}

template <class T>
std::vector<T> array_of(const rpc::Blob& blob) {
    std::vector<T> all(blob.size / sizeof(T));
    if (!all.empty()) std::memcpy(static_cast<void*>(all.data()), blob.data, all.size() * sizeof(T));
    return all;
}

// Checks a batch, then prefetches where `locations` says (none: only discards, which leave the content as it is).
CUresult batch(Call& call, const std::vector<CUdeviceptr>& addresses, const std::vector<size_t>& sizes,
               const std::vector<CUmemLocation>& locations, const std::vector<size_t>& starts, bool prefetch, uint64_t flags,
               uint64_t stream_number) {
    CUstream stream = nullptr;
    if (addresses.empty() || addresses.size() != sizes.size() || flags || stream_number == 0) return CUDA_ERROR_INVALID_VALUE;
    if (const CUresult status = stream_of(call, stream_number, &stream); status != CUDA_SUCCESS) return status;
    if (stream == CU_STREAM_LEGACY) return CUDA_ERROR_INVALID_VALUE;
    for (size_t i = 0; i < addresses.size(); ++i)
        if (!call.session.managed.find(addresses[i], sizes[i]) || sizes[i] == 0) return CUDA_ERROR_INVALID_VALUE;
    if (!prefetch) return CUDA_SUCCESS;
    if (locations.empty() || locations.size() != starts.size() || locations.size() > addresses.size() || starts[0] != 0)
        return CUDA_ERROR_INVALID_VALUE;
    for (size_t i = 0; i < starts.size(); ++i) {
        if ((i && starts[i] <= starts[i - 1]) || starts[i] >= addresses.size()) return CUDA_ERROR_INVALID_VALUE;
        if (const CUresult status = call.session.managed.check(locations[i], true); status != CUDA_SUCCESS) return status;
    }
    for (size_t i = 0, where = 0; i < addresses.size(); ++i) {
        if (where + 1 < starts.size() && starts[where + 1] == i) ++where;
        call.session.managed.prefetch(addresses[i], sizes[i], locations[where]);
    }
    return CUDA_SUCCESS;
}

}  // namespace

// The client took the memory out of the memfd.
void serve_cuMemAllocManaged(Call& call, const cuMemAllocManaged_args& args, cuMemAllocManaged_res& res) {
    if (!call.session.current()) {
        res.status = CUDA_ERROR_INVALID_CONTEXT;
        return;
    }
    res.status = call.session.host_memory.add(args.address, args.bytesize, args.address - wire::host_base, args.flags);
    if (res.status == CUDA_SUCCESS)
        call.session.managed.add({args.address, args.bytesize, call.session.current_device(), call.session.current_home(), args.flags, 0});
}

void serve_cuMemAdvise(Call& call, const cuMemAdvise_args& args, cuMemAdvise_res& res) {
    const auto advice = static_cast<CUmem_advise>(args.advice);
    res.status = ours(call, args.devPtr) ? call.session.managed.advise(args.devPtr, args.count, advice, location_of(args.device))
                                         : call.driver.cuMemAdvise_v1(args.devPtr, args.count, advice, args.device);
}

void serve_cuMemAdvise_v2(Call& call, const cuMemAdvise_v2_args& args, cuMemAdvise_v2_res& res) {
    const auto advice = static_cast<CUmem_advise>(args.advice);
    res.status = ours(call, args.devPtr) ? call.session.managed.advise(args.devPtr, args.count, advice, args.location)
                                         : call.driver.cuMemAdvise_v2(args.devPtr, args.count, advice, args.location);
}

void serve_cuMemPrefetchAsync(Call& call, const cuMemPrefetchAsync_args& args, cuMemPrefetchAsync_res& res) {
    CUstream stream = nullptr;
    res.status = stream_of(call, args.hStream, &stream);
    if (res.status != CUDA_SUCCESS) return;
    res.status = ours(call, args.devPtr) ? call.session.managed.prefetch(args.devPtr, args.count, location_of(args.dstDevice))
                                         : call.driver.cuMemPrefetchAsync_v1(args.devPtr, args.count, args.dstDevice, stream);
}

void serve_cuMemPrefetchAsync_v2(Call& call, const cuMemPrefetchAsync_v2_args& args, cuMemPrefetchAsync_v2_res& res) {
    CUstream stream = nullptr;
    res.status = args.flags ? CUDA_ERROR_INVALID_VALUE : stream_of(call, args.hStream, &stream);
    if (res.status != CUDA_SUCCESS) return;
    res.status = ours(call, args.devPtr)
                     ? call.session.managed.prefetch(args.devPtr, args.count, args.location)
                     : call.driver.cuMemPrefetchAsync_v2(args.devPtr, args.count, args.location, args.flags, stream);
}

void serve_cuMemPrefetchBatchAsync(Call& call, const cuMemPrefetchBatchAsync_args& args, cuMemPrefetchBatchAsync_res& res) {
    res.status = batch(call, array_of<CUdeviceptr>(args.dptrs), array_of<size_t>(args.sizes),
                       array_of<CUmemLocation>(args.prefetchLocs), array_of<size_t>(args.prefetchLocIdxs), true, args.flags, args.hStream);
}

void serve_cuMemDiscardBatchAsync(Call& call, const cuMemDiscardBatchAsync_args& args, cuMemDiscardBatchAsync_res& res) {
    res.status = batch(call, array_of<CUdeviceptr>(args.dptrs), array_of<size_t>(args.sizes), {}, {}, false, args.flags, args.hStream);
}

void serve_cuMemDiscardAndPrefetchBatchAsync(Call& call, const cuMemDiscardAndPrefetchBatchAsync_args& args,
                                             cuMemDiscardAndPrefetchBatchAsync_res& res) {
    res.status = batch(call, array_of<CUdeviceptr>(args.dptrs), array_of<size_t>(args.sizes),
                       array_of<CUmemLocation>(args.prefetchLocs), array_of<size_t>(args.prefetchLocIdxs), true, args.flags, args.hStream);
}

// One attribute's bytes.
static CUresult range_attribute(Call& call, uint64_t address, uint64_t bytes, CUmem_range_attribute attribute, uint64_t size,
                                std::vector<int32_t>* out) {
    constexpr uint64_t most = 1u << 16;
    if (size == 0 || size > most) return CUDA_ERROR_INVALID_VALUE;
    if (ours(call, address)) return call.session.managed.range_attribute(address, bytes, attribute, size, out);
    out->assign((size + 3) / 4, 0);
    return call.driver.cuMemRangeGetAttribute(out->data(), size, attribute, address, bytes);
}

void serve_cuMemRangeGetAttribute(Call& call, const cuMemRangeGetAttribute_args& args, cuMemRangeGetAttribute_res& res) {
    std::vector<int32_t> values;
    res.status = range_attribute(call, args.devPtr, args.count, static_cast<CUmem_range_attribute>(args.attribute), args.dataSize, &values);
    if (res.status == CUDA_SUCCESS && !give_bytes(&res.data, values.data(), args.dataSize)) res.status = CUDA_ERROR_OUT_OF_MEMORY;
}

// Results: the attributes' bytes one behind the other, each filled up to a multiple of 4.
void serve_cuMemRangeGetAttributes(Call& call, const cuMemRangeGetAttributes_args& args, cuMemRangeGetAttributes_res& res) {
    const auto sizes = array_of<size_t>(args.dataSizes);
    const auto attributes = array_of<CUmem_range_attribute>(args.attributes);
    std::vector<int32_t> all, one;
    if (sizes.size() != attributes.size() || sizes.empty()) res.status = CUDA_ERROR_INVALID_VALUE;
    for (size_t i = 0; i < sizes.size() && res.status == CUDA_SUCCESS; ++i) {
        res.status = range_attribute(call, args.devPtr, args.count, attributes[i], sizes[i], &one);
        all.insert(all.end(), one.begin(), one.end());
    }
    if (res.status == CUDA_SUCCESS && !give_bytes(&res.values, all.data(), all.size() * sizeof(int32_t))) res.status = CUDA_ERROR_OUT_OF_MEMORY;
}

void serve_cuStreamAttachMemAsync(Call& call, const cuStreamAttachMemAsync_args& args, cuStreamAttachMemAsync_res& res) {
    CUstream stream = nullptr;
    res.status = stream_of(call, args.hStream, &stream);
    if (res.status != CUDA_SUCCESS) return;
    if (!ours(call, args.dptr)) {
        res.status = call.driver.cuStreamAttachMemAsync(stream, args.dptr, args.length, args.flags);
        return;
    }
    const ManagedAllocation& allocation = *call.session.managed.find(args.dptr);
    const bool known = args.flags == CU_MEM_ATTACH_GLOBAL || args.flags == CU_MEM_ATTACH_HOST || args.flags == CU_MEM_ATTACH_SINGLE;
    if (!known || args.dptr != allocation.address || (args.length && args.length != allocation.bytes) ||
        (args.flags == CU_MEM_ATTACH_SINGLE && stream == CU_STREAM_LEGACY))
        res.status = CUDA_ERROR_INVALID_VALUE;
}

// Memory of a __managed__ variable, which this process's own code can reach; null when it is none (its module is gone).
static void* variable_at(Call& call, uint64_t address, uint64_t bytes) {
    if (ours(call, address) || bytes == 0 || bytes > rpc::max_blob_bytes) return nullptr;
    unsigned managed = 0;
    CUdeviceptr start = 0;
    size_t size = 0;
    if (call.driver.cuPointerGetAttribute(&managed, CU_POINTER_ATTRIBUTE_IS_MANAGED, address) != CUDA_SUCCESS || !(managed & 0xff) ||
        call.driver.cuPointerGetAttribute(&start, CU_POINTER_ATTRIBUTE_RANGE_START_ADDR, address) != CUDA_SUCCESS ||
        call.driver.cuPointerGetAttribute(&size, CU_POINTER_ATTRIBUTE_RANGE_SIZE, address) != CUDA_SUCCESS)
        return nullptr;
    return address - start < size && bytes <= size - (address - start) ? reinterpret_cast<void*>(address) : nullptr;
}

void serve_cricketManagedRead(Call& call, const cricketManagedRead_args& args, cricketManagedRead_res& res) {
    const void* from = variable_at(call, args.address, args.bytes);
    if (!from)
        res.status = CUDA_ERROR_INVALID_VALUE;
    else if (!args.hash || quick_hash(from, args.bytes) != args.hash)
        res.status = give_bytes(&res.data, from, args.bytes) ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
}

void serve_cricketManagedWrite(Call& call, const cricketManagedWrite_args& args, cricketManagedWrite_res& res) {
    const auto* at = static_cast<const std::byte*>(args.runs.data);
    for (uint64_t left = args.runs.size; left && res.status == CUDA_SUCCESS;) {
        uint64_t head[2];
        void* to = nullptr;
        if (left >= sizeof head) std::memcpy(head, at, sizeof head);
        if (left < sizeof head || head[1] > left - sizeof head || !(to = variable_at(call, head[0], head[1]))) {
            res.status = CUDA_ERROR_INVALID_VALUE;
            return;
        }
        std::memcpy(to, at + sizeof head, head[1]);
        at += sizeof head + head[1];
        left -= sizeof head + head[1];
    }
}

}  // namespace cricket::server
