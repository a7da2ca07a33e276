// SPDX-License-Identifier: MIT
// Initialization, devices, names of errors, cuGetProcAddress.
#include <cstring>

#include "conform.h"

CASE_UNINITIALIZED(init_order) {
    int count = -5;
    CHECK(cuDeviceGetCount(&count));
    CUcontext context = nullptr;
    CHECK(cuCtxGetCurrent(&context));
    const char* name = nullptr;
    CHECK(cuGetErrorName(CUDA_ERROR_NOT_INITIALIZED, &name));
    conform::text("name", name);
    CHECK(cuInit(7));
    CHECK(cuInit(0));
    CHECK(cuInit(0));
    CHECK(cuDeviceGetCount(&count));
    VALUE(count > 0);
    CHECK(cuCtxGetCurrent(&context));
    VALUE(context == nullptr);
    CHECK(cuDriverGetVersion(nullptr));
    int version = 0;
    CHECK(cuDriverGetVersion(&version));
    VALUE(version);
}

CASE_BARE(devices) {
    int count = 0;
    NEED(cuDeviceGetCount(&count));
    CUdevice device = -1;
    CHECK(cuDeviceGet(&device, 0));
    VALUE(device);
    CHECK(cuDeviceGet(&device, -1));
    CHECK(cuDeviceGet(&device, count));
    CHECK(cuDeviceGet(nullptr, 0));
    char name[64] = "untouched";
    CHECK(cuDeviceGetName(name, sizeof name, 0));
    conform::text("name", name);
    CHECK(cuDeviceGetName(name, 4, 0));
    conform::bytes("four bytes of the name", name, 4);
    CHECK(cuDeviceGetName(name, 0, 0));
    CHECK(cuDeviceGetName(nullptr, 10, 0));
    CHECK(cuDeviceGetName(name, sizeof name, 99));
    CUuuid uuid{};
    CHECK(cuDeviceGetUuid(&uuid, 0));
    conform::bytes("uuid", &uuid, sizeof uuid);
    CHECK(cuDeviceGetUuid_v2(&uuid, 0));
    conform::bytes("uuid", &uuid, sizeof uuid);
    char bus[32] = "";
    CHECK(cuDeviceGetPCIBusId(bus, sizeof bus, 0));
    conform::text("bus", bus);
    CHECK(cuDeviceGetByPCIBusId(&device, bus));
    VALUE(device);
    CHECK(cuDeviceGetByPCIBusId(&device, "9999:99:99.9"));
    CHECK(cuDeviceGetByPCIBusId(&device, "nonsense"));
    size_t total = 0;
    CHECK(cuDeviceTotalMem(&total, 0));
    VALUE(total > (1u << 20));
    CHECK(cuDeviceTotalMem(&total, 99));
    CHECK(cuDeviceTotalMem(nullptr, 0));
    int major = 0, minor = 0;
    CHECK(cuDeviceComputeCapability(&major, &minor, 0));
    VALUE(major * 10 + minor);
    int attribute = 0;
    for (int i = 0; i < CU_DEVICE_ATTRIBUTE_MAX + 3; ++i) {
        attribute = -1;
        const CUresult result = cuDeviceGetAttribute(&attribute, static_cast<CUdevice_attribute>(i), 0);
        char line[64];
        std::snprintf(line, sizeof line, "attribute %d: %d", i, static_cast<int>(result));
        conform::value(line, attribute);
    }
    CHECK(cuDeviceGetAttribute(nullptr, CU_DEVICE_ATTRIBUTE_WARP_SIZE, 0));
    CHECK(cuDeviceGetAttribute(&attribute, CU_DEVICE_ATTRIBUTE_WARP_SIZE, 99));
    CUdevprop properties{};
    CHECK(cuDeviceGetProperties(&properties, 0));
    conform::bytes("properties", &properties, sizeof properties);
    int can = -1;
    CHECK(cuDeviceCanAccessPeer(&can, 0, 0));
    VALUE(can);
    CHECK(cuDeviceCanAccessPeer(&can, 0, 99));
    CUexecAffinityType affinity = CU_EXEC_AFFINITY_TYPE_SM_COUNT;
    CHECK(cuDeviceGetExecAffinitySupport(&can, affinity, 0));
    size_t width = 0;
    CHECK(cuDeviceGetTexture1DLinearMaxWidth(&width, CU_AD_FORMAT_FLOAT, 1, 0));
    VALUE(width);
}

CASE_BARE(errors) {
    const char* name = "untouched";
    for (int code : {0, 1, 2, 3, 4, 100, 101, 200, 201, 209, 218, 300, 400, 401, 500, 600, 700, 701, 719, 800, 801, 900, 906, 910, 999}) {
        CHECK(cuGetErrorName(static_cast<CUresult>(code), &name));
        conform::text("name", name ? name : "(null)");
        CHECK(cuGetErrorString(static_cast<CUresult>(code), &name));
        conform::text("text", name ? name : "(null)");
    }
    CHECK(cuGetErrorName(static_cast<CUresult>(12345), &name));
    VALUE(name == nullptr);
    CHECK(cuGetErrorString(static_cast<CUresult>(-1), &name));
    VALUE(name == nullptr);
    CHECK(cuGetErrorName(CUDA_SUCCESS, nullptr));
}

CASE_BARE(proc_address) {
    void* function = nullptr;
    CUdriverProcAddressQueryResult how{};
    const auto ask = [&](const char* name, int version, cuuint64_t flags) {
        function = nullptr;
        how = static_cast<CUdriverProcAddressQueryResult>(77);
        char line[128];
        const CUresult result = cuGetProcAddress(name, &function, version, flags, &how);
        std::snprintf(line, sizeof line, "%s@%d/%llu -> %d found %d query", name, version, static_cast<unsigned long long>(flags),
                      static_cast<int>(result), function != nullptr);
        conform::value(line, how);
    };
    ask("cuMemAlloc", 2000, 0);
    ask("cuMemAlloc", 3020, 0);
    ask("cuMemAlloc", 13000, 0);
    ask("cuMemAlloc", 1000, 0);
    ask("cuMemAlloc_v2", 13000, 0);
    ask("cuStreamSynchronize", 13000, CU_GET_PROC_ADDRESS_PER_THREAD_DEFAULT_STREAM);
    ask("cuStreamSynchronize", 13000, CU_GET_PROC_ADDRESS_LEGACY_STREAM);
    ask("cuStreamSynchronize", 13000, 3);
    ask("cuStreamSynchronize", 13000, 77);
    ask("cuGraphAddNode", 12020, 0);
    ask("cuGraphAddNode", 12030, 0);
    ask("cuGraphAddNode", 13000, 0);
    ask("cuCtxGetDevice", 13000, 0);
    ask("cuNoSuchFunction", 13000, 0);
    ask("", 13000, 0);
    ask("cuInit", 99000, 0);
    CHECK(cuGetProcAddress(nullptr, &function, 13000, 0, &how));
    CHECK(cuGetProcAddress("cuInit", nullptr, 13000, 0, &how));
    CHECK(cuGetProcAddress("cuInit", &function, 13000, 0, nullptr));
}
