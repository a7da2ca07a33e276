// SPDX-License-Identifier: MIT
// Memory of every kind, and pointers in it to everything that has an address.
#include <atomic>
#include <new>

#include "kind.h"

namespace kinds {
namespace {

// -------------------------------------------------- pointers in device memory: to memory, to virtual tables, to functions
struct Shape {
    Shape* next = nullptr;
    __device__ virtual unsigned area() const = 0;
};
struct Square : Shape {
    unsigned side;
    __device__ explicit Square(unsigned s) : side(s) {}
    __device__ unsigned area() const override { return side * side; }
};
struct Strip : Shape {
    unsigned *length, width;
    __device__ Strip(unsigned* l, unsigned w) : length(l), width(w) {}
    __device__ unsigned area() const override { return *length * width; }
};
__device__ unsigned twice(unsigned x) { return 2 * x; }
__device__ unsigned square(unsigned x) { return x * x; }
using Function = unsigned (*)(unsigned);

struct Pointers {
    Shape* first;
    unsigned*** deep;
    Function functions[2];
};

__global__ void link(Pointers* to, char* room, unsigned* length, unsigned** level1, unsigned*** level2) {
    auto* one = new (room) Square(5);
    auto* two = new (room + 64) Strip(length, 7);
    auto* three = new (room + 128) Square(11);
    one->next = two;
    two->next = three;
    *length = 3;
    *level1 = length;
    *level2 = level1;
    to->first = one;
    to->deep = level2;
    to->functions[0] = twice;
    to->functions[1] = square;
}

__global__ void follow(const Pointers* from, unsigned* result) {
    unsigned sum = 0;
    for (const Shape* shape = from->first; shape; shape = shape->next) sum += shape->area();
    sum += 1000 * ***from->deep;
    for (const Function function : from->functions) sum = function(sum);
    *result = sum;
}

struct {
    Pointers* pointers;
    unsigned* result;
} linked;

void linked_set_up() {
    char* room;
    unsigned *length, **level1, ***level2;
    RT(cudaMalloc(&linked.pointers, sizeof(Pointers)));
    RT(cudaMalloc(&linked.result, sizeof(unsigned)));
    RT(cudaMalloc(&room, 192));
    RT(cudaMalloc(&length, sizeof(unsigned)));
    RT(cudaMalloc(&level1, sizeof(void*)));
    RT(cudaMalloc(&level2, sizeof(void*)));
    link<<<1, 1>>>(linked.pointers, room, length, level1, level2);
    RT(cudaDeviceSynchronize());
}

void linked_look() {
    follow<<<1, 1>>>(linked.pointers, linked.result);
    RT(cudaDeviceSynchronize());
    const unsigned sum = 25 + 21 + 121 + 3000;
    SAME(words_of(linked.result, 1)[0], (2 * sum) * (2 * sum));
}

// --------------------------------------------------------------------------------------------------- variables of modules
__device__ unsigned plain = 1;
static __device__ unsigned hidden = 2;
__constant__ unsigned constant[3] = {3, 3, 3};
__managed__ unsigned managed_variable = 4;
__device__ unsigned large[5000];
__device__ unsigned* to_plain = &plain;

__global__ void add_variables(unsigned* result) {
    static __device__ unsigned local = 5;
    *result = *to_plain + hidden + constant[1] + managed_variable + local + large[4999];
}

unsigned* variables_result;

void variables_set_up() {
    RT(cudaMalloc(&variables_result, sizeof(unsigned)));
    const unsigned ten = 10, twenty = 20, hundred = 100;
    RT(cudaMemcpyToSymbol(plain, &ten, sizeof ten));
    RT(cudaMemcpyToSymbol(constant, &twenty, sizeof twenty, sizeof twenty));
    RT(cudaMemcpyToSymbol(large, &hundred, sizeof hundred, 4999 * sizeof hundred));
    managed_variable = 1000;
}

void variables_look() {
    SAME(managed_variable, 1000u);
    add_variables<<<1, 1>>>(variables_result);
    RT(cudaDeviceSynchronize());
    SAME(words_of(variables_result, 1)[0], 10u + 2 + 20 + 1000 + 5 + 100);
}

// ---------------------------------------------------------------------------------------------- memory of the application
__global__ void increase(unsigned* first, unsigned* second, unsigned* third, unsigned by) {
    *first += by;
    *second += by;
    *third += by;
}

__global__ void add(unsigned* sum, const unsigned* first, const unsigned* second) { *sum = *first + *second; }

struct {
    unsigned *pinned, *registered, *managed, *read_only_host;
    unsigned *registered_on_device, *sum;
} host;
constexpr size_t pinned_untouched = 8192, registered_untouched = 1024;  // pages that only the device looks at

void host_set_up() {
    RT(cudaHostAlloc(&host.pinned, 1 << 16, cudaHostAllocMapped | cudaHostAllocPortable));
    RT(cudaMallocHost(&host.read_only_host, 4096));
    host.registered = static_cast<unsigned*>(std::aligned_alloc(4096, 8192));
    RT(cudaHostRegister(host.registered, 8192, cudaHostRegisterMapped));
    RT(cudaHostGetDevicePointer(&host.registered_on_device, host.registered, 0));
    RT(cudaMallocManaged(&host.managed, 1 << 20));
    *host.pinned = 1;
    *host.registered = 2;
    *host.managed = 3;
    host.managed[1 << 17] = 33;
    *host.read_only_host = 4;
    host.pinned[pinned_untouched] = 44;
    host.registered[registered_untouched] = 55;
    RT(cudaMalloc(&host.sum, sizeof *host.sum));
    increase<<<1, 1>>>(host.pinned, host.registered_on_device, host.managed, 10);
    RT(cudaDeviceSynchronize());
}

void host_look() {
    add<<<1, 1>>>(host.sum, host.pinned + pinned_untouched, host.registered_on_device + registered_untouched);
    SAME(words_of(host.sum, 1)[0], 44u + 55);
    SAME(*host.pinned, 11u);
    SAME(*host.registered, 12u);
    SAME(*host.managed, 13u);
    SAME(host.managed[1 << 17], 33u);
    SAME(*host.read_only_host, 4u);
    increase<<<1, 1>>>(host.pinned, host.registered_on_device, host.managed, 100);
    RT(cudaDeviceSynchronize());
    SAME(*host.registered, 112u);
    increase<<<1, 1>>>(host.pinned, host.registered_on_device, host.managed, unsigned(-100));
    RT(cudaDeviceSynchronize());
    unsigned flags = 0;
    CU(cuMemHostGetFlags(&flags, host.pinned));
    CHECK(flags & CU_MEMHOSTALLOC_DEVICEMAP);
    cudaPointerAttributes attributes{};
    RT(cudaPointerGetAttributes(&attributes, host.managed));
    SAME(int(attributes.type), int(cudaMemoryTypeManaged));
}

// ------------------------------------------------------------------------------------------------ plain device memory
struct {
    unsigned *small, *large, *pitched;
    size_t pitch;
} plain_memory;
constexpr size_t large_words = (3u << 20) + 17;

void device_memory_set_up() {
    unsigned* between;
    RT(cudaMalloc(&plain_memory.small, 40));
    RT(cudaMalloc(&between, 1 << 22));
    RT(cudaMalloc(&plain_memory.large, large_words * sizeof(unsigned)));
    RT(cudaFree(between));
    RT(cudaMallocPitch(&plain_memory.pitched, &plain_memory.pitch, 100, 30));
    fill(plain_memory.small, 10, 1);
    fill(plain_memory.large, large_words, 2);
    fill(plain_memory.pitched, plain_memory.pitch * 30 / 4, 3);
}

void device_memory_look() {
    check_filled(plain_memory.small, 10, 1);
    check_filled(plain_memory.large, large_words, 2);
    check_filled(plain_memory.pitched, plain_memory.pitch * 30 / 4, 3);
    CUdeviceptr base = 0;
    size_t size = 0;
    CU(cuMemGetAddressRange(&base, &size, device(plain_memory.large) + 1000));
    CHECK(base == device(plain_memory.large) && size == large_words * sizeof(unsigned));
    unsigned* more;
    RT(cudaMalloc(&more, 1 << 20));
    RT(cudaFree(more));
}

// --------------------------------------------------------------------------------------------------------------- pools
struct {
    CUmemoryPool pool;
    CUdeviceptr first, second, of_default;
    CUstream stream;
} pooled;

void pool_set_up() {
    CUmemPoolProps props{};
    props.allocType = CU_MEM_ALLOCATION_TYPE_PINNED;
    props.location = {CU_MEM_LOCATION_TYPE_DEVICE, 0};
    CU(cuMemPoolCreate(&pooled.pool, &props));
    cuuint64_t threshold = 12345678;
    CU(cuMemPoolSetAttribute(pooled.pool, CU_MEMPOOL_ATTR_RELEASE_THRESHOLD, &threshold));
    int no = 0;
    CU(cuMemPoolSetAttribute(pooled.pool, CU_MEMPOOL_ATTR_REUSE_ALLOW_OPPORTUNISTIC, &no));
    CU(cuStreamCreate(&pooled.stream, CU_STREAM_NON_BLOCKING));
    CU(cuMemAllocFromPoolAsync(&pooled.first, 100000, pooled.pool, pooled.stream));
    CU(cuMemAllocFromPoolAsync(&pooled.second, 3 << 20, pooled.pool, pooled.stream));
    CU(cuMemAllocAsync(&pooled.of_default, 5000, pooled.stream));
    CU(cuStreamSynchronize(pooled.stream));
    fill(reinterpret_cast<void*>(pooled.first), 25000, 4);
    fill(reinterpret_cast<void*>(pooled.second), 3 << 18, 5);
    fill(reinterpret_cast<void*>(pooled.of_default), 1250, 6);
}

void pool_look() {
    check_filled(reinterpret_cast<void*>(pooled.first), 25000, 4);
    check_filled(reinterpret_cast<void*>(pooled.second), 3 << 18, 5);
    check_filled(reinterpret_cast<void*>(pooled.of_default), 1250, 6);
    cuuint64_t threshold = 0, used = 0;
    int opportunistic = 1;
    CU(cuMemPoolGetAttribute(pooled.pool, CU_MEMPOOL_ATTR_RELEASE_THRESHOLD, &threshold));
    SAME(threshold, 12345678u);
    CU(cuMemPoolGetAttribute(pooled.pool, CU_MEMPOOL_ATTR_REUSE_ALLOW_OPPORTUNISTIC, &opportunistic));
    SAME(opportunistic, 0);
    CU(cuMemPoolGetAttribute(pooled.pool, CU_MEMPOOL_ATTR_USED_MEM_CURRENT, &used));
    CHECK(used >= 100000 + (3 << 20));
    CUdeviceptr more = 0;
    CU(cuMemAllocFromPoolAsync(&more, 1 << 20, pooled.pool, pooled.stream));
    CU(cuMemFreeAsync(more, pooled.stream));
    CU(cuStreamSynchronize(pooled.stream));
}

// ------------------------------------------------------------------------------- the application's own address ranges
struct {
    CUdeviceptr range, alias;
    CUmemGenericAllocationHandle handle;
    size_t granule;
} mapped;

void mapped_set_up() {
    CUmemAllocationProp prop{};
    prop.type = CU_MEM_ALLOCATION_TYPE_PINNED;
    prop.location = {CU_MEM_LOCATION_TYPE_DEVICE, 0};
    CU(cuMemGetAllocationGranularity(&mapped.granule, &prop, CU_MEM_ALLOC_GRANULARITY_MINIMUM));
    CU(cuMemAddressReserve(&mapped.range, 4 * mapped.granule, 0, 0, 0));
    CU(cuMemAddressReserve(&mapped.alias, mapped.granule, 0, 0, 0));
    CU(cuMemCreate(&mapped.handle, mapped.granule, &prop, 0));
    CU(cuMemMap(mapped.range + mapped.granule, mapped.granule, 0, mapped.handle, 0));
    CU(cuMemMap(mapped.alias, mapped.granule, 0, mapped.handle, 0));
    CUmemAccessDesc access{{CU_MEM_LOCATION_TYPE_DEVICE, 0}, CU_MEM_ACCESS_FLAGS_PROT_READWRITE};
    CU(cuMemSetAccess(mapped.range + mapped.granule, mapped.granule, &access, 1));
    CU(cuMemSetAccess(mapped.alias, mapped.granule, &access, 1));
    fill(reinterpret_cast<void*>(mapped.range + mapped.granule), mapped.granule / 4, 7);
}

void mapped_look() {
    check_filled(reinterpret_cast<void*>(mapped.alias), mapped.granule / 4, 7);
    CU(cuMemsetD32(mapped.alias, 99, 1));
    SAME(words_of(reinterpret_cast<void*>(mapped.range + mapped.granule), 1)[0], 99u);
    CU(cuMemsetD32(mapped.range + mapped.granule, 7, 1));
    CUmemGenericAllocationHandle again = 0;
    CU(cuMemRetainAllocationHandle(&again, reinterpret_cast<void*>(mapped.alias)));
    CHECK(again == mapped.handle);
    CU(cuMemRelease(again));
    CU(cuMemMap(mapped.range, mapped.granule, 0, mapped.handle, 0));
    CU(cuMemUnmap(mapped.range, mapped.granule));
}

// -------------------------------------------------------------------------- arrays, mipmaps, textures and surfaces
constexpr unsigned side = 64;

__global__ void read_textures(const cudaTextureObject_t* textures, cudaSurfaceObject_t surface, unsigned* out) {
    const unsigned x = threadIdx.x, y = blockIdx.x;
    const unsigned plane = tex2D<unsigned>(textures[0], x + 0.5f, y + 0.5f);
    const unsigned level = tex2DLod<unsigned>(textures[1], (x + 0.5f) / side, (y + 0.5f) / side, 1.f);
    unsigned stored = 0;
    surf2Dread(&stored, surface, x * 4, y);
    out[y * side + x] = plane * 10000 + level * 100 + stored;
}

struct {
    cudaArray_t plane, surface_array;
    cudaMipmappedArray_t mipmap;
    cudaTextureObject_t textures[2], *on_device;
    cudaSurfaceObject_t surface;
    unsigned* out;
} arrays;

void arrays_set_up() {
    const cudaChannelFormatDesc format = cudaCreateChannelDesc<unsigned>();
    RT(cudaMallocArray(&arrays.plane, &format, side, side));
    RT(cudaMallocArray(&arrays.surface_array, &format, side, side, cudaArraySurfaceLoadStore));
    RT(cudaMallocMipmappedArray(&arrays.mipmap, &format, make_cudaExtent(side, side, 0), 2));
    RT(cudaMalloc(&arrays.out, side * side * 4));
    RT(cudaMalloc(&arrays.on_device, sizeof arrays.textures));
    std::vector<unsigned> words(side * side);
    const auto put = [&](cudaArray_t array, unsigned width, unsigned first) {
        for (unsigned i = 0; i < width * width; ++i) words[i] = (i + first) % 97;
        RT(cudaMemcpy2DToArray(array, 0, 0, words.data(), width * 4, width * 4, width, cudaMemcpyHostToDevice));
    };
    put(arrays.plane, side, 1);
    put(arrays.surface_array, side, 2);
    cudaArray_t level;
    RT(cudaGetMipmappedArrayLevel(&level, arrays.mipmap, 1));
    put(level, side / 2, 3);
    cudaResourceDesc resource{};
    cudaTextureDesc texture{};
    texture.filterMode = texture.mipmapFilterMode = cudaFilterModePoint;
    texture.readMode = cudaReadModeElementType;
    resource.resType = cudaResourceTypeArray;
    resource.res.array.array = arrays.plane;
    RT(cudaCreateTextureObject(&arrays.textures[0], &resource, &texture, nullptr));
    resource.res.array.array = arrays.surface_array;
    RT(cudaCreateSurfaceObject(&arrays.surface, &resource));
    resource.resType = cudaResourceTypeMipmappedArray;
    resource.res.mipmap.mipmap = arrays.mipmap;
    texture.normalizedCoords = 1;
    texture.maxMipmapLevelClamp = 1;
    RT(cudaCreateTextureObject(&arrays.textures[1], &resource, &texture, nullptr));
    RT(cudaMemcpy(arrays.on_device, arrays.textures, sizeof arrays.textures, cudaMemcpyHostToDevice));
}

void arrays_look() {
    read_textures<<<side, side>>>(arrays.on_device, arrays.surface, arrays.out);
    RT(cudaDeviceSynchronize());
    const std::vector<unsigned> words = words_of(arrays.out, side * side);
    for (unsigned i = 0; i < side * side; ++i) {
        const unsigned x = i % side, y = i / side, coarse = y / 2 * (side / 2) + x / 2;
        const unsigned should = (i + 1) % 97 * 10000 + (coarse + 3) % 97 * 100 + (i + 2) % 97;
        if (words[i] != should) fail(__FILE__, __LINE__, "texel %u is %u, should be %u", i, words[i], should);
    }
}

const Kinds kinds{{"device-memory", device_memory_set_up, device_memory_look},
                  {"pointers", linked_set_up, linked_look},
                  {"variables", variables_set_up, variables_look},
                  {"host-memory", host_set_up, host_look},
                  {"pool", pool_set_up, pool_look},
                  {"virtual-memory", mapped_set_up, mapped_look},
                  {"arrays", arrays_set_up, arrays_look}};

}  // namespace
}  // namespace kinds
