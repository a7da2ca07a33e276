// SPDX-License-Identifier: MIT
// The shim itself, without a server: what it answers alone. Argument: libcudashim.so.
#include <cuda.h>
#include <dlfcn.h>
#include <gtest/gtest.h>
#include <pthread.h>
#include <unistd.h>

#include <cstring>
#include <set>
#include <string>

#include "client/software_validity.h"

namespace {

void* shim;

template <class F>
F function(const char* name) {
    void* found = dlsym(shim, name);
    EXPECT_TRUE(found) << name;
    return reinterpret_cast<F>(found);
}

using GetProcAddress = CUresult (*)(const char*, void**, int, cuuint64_t, CUdriverProcAddressQueryResult*);
using GetExportTable = CUresult (*)(const void**, const CUuuid*);
using Text = CUresult (*)(CUresult, const char**);

struct Found {
    void* address = nullptr;
    CUresult result{};
    CUdriverProcAddressQueryResult status{};
};

Found find(const char* name, int version, cuuint64_t flags = 0) {
    Found found;
    found.address = reinterpret_cast<void*>(1);
    found.status = static_cast<CUdriverProcAddressQueryResult>(99);
    found.result =
        function<GetProcAddress>("cuGetProcAddress_v2")(name, &found.address, version, flags, &found.status);
    return found;
}

void expect_symbol(const char* name, int version, cuuint64_t flags, const char* symbol) {
    Found found = find(name, version, flags);
    EXPECT_EQ(found.result, CUDA_SUCCESS) << name << '@' << version;
    EXPECT_EQ(found.status, CU_GET_PROC_ADDRESS_SUCCESS);
    EXPECT_EQ(found.address, dlsym(shim, symbol))
        << name << '@' << version << '/' << flags << " is not " << symbol;
}

TEST(ProcAddress, VersionsChooseTheAbi) {
    expect_symbol("cuMemAlloc", 2000, 0, "cuMemAlloc");
    expect_symbol("cuMemAlloc", 3010, 0, "cuMemAlloc");
    expect_symbol("cuMemAlloc", 3020, 0, "cuMemAlloc_v2");
    expect_symbol("cuMemAlloc", 13000, 0, "cuMemAlloc_v2");
    expect_symbol("cuMemAlloc", 99000, 0, "cuMemAlloc_v2");
    expect_symbol("cuCtxGetDevice", 2000, 0, "cuCtxGetDevice");
    expect_symbol("cuCtxGetDevice", 13000, 0, "cuCtxGetDevice_v2");
    expect_symbol("cuCtxCreate", 13000, 0, "cuCtxCreate_v4");
    expect_symbol("cuCtxCreate", 12000, 0, "cuCtxCreate_v3");
    expect_symbol("cuGetProcAddress", 11030, 0, "cuGetProcAddress");
    expect_symbol("cuGetProcAddress", 12000, 0, "cuGetProcAddress_v2");
    expect_symbol("cuInit", 2000, CU_GET_PROC_ADDRESS_LEGACY_STREAM, "cuInit");
}

TEST(ProcAddress, PerThreadDefaultStream) {
    constexpr auto per_thread = CU_GET_PROC_ADDRESS_PER_THREAD_DEFAULT_STREAM;
    expect_symbol("cuMemcpyHtoD", 7000, per_thread, "cuMemcpyHtoD_v2_ptds");
    expect_symbol("cuMemcpyHtoD", 7000, 0, "cuMemcpyHtoD_v2");
    expect_symbol("cuMemcpyHtoD", 6050, per_thread, "cuMemcpyHtoD_v2");  // before there was one
    expect_symbol("cuLaunchKernel", 7000, per_thread, "cuLaunchKernel_ptsz");
    expect_symbol("cuMemAlloc", 13000, per_thread, "cuMemAlloc_v2");  // has none
}

TEST(ProcAddress, WhatIsNotThere) {
    Found found = find("cuMemAlloc", 1000);
    EXPECT_EQ(found.result, CUDA_SUCCESS);  // the status says why
    EXPECT_EQ(found.status, CU_GET_PROC_ADDRESS_VERSION_NOT_SUFFICIENT);
    EXPECT_EQ(found.address, nullptr);
    for (const char* name :
         {"cuOfTheFuture", "cuMemAlloc_v2", "cuMemAll", "dlopen", "cricket_shim_version", "zzz"}) {
        found = find(name, 13000);
        EXPECT_EQ(found.result, CUDA_SUCCESS) << name;
        EXPECT_EQ(found.status, CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND) << name;
        EXPECT_EQ(found.address, nullptr) << name;
    }
    void* address;
    auto get = function<GetProcAddress>("cuGetProcAddress_v2");
    EXPECT_EQ(get(nullptr, &address, 13000, 0, nullptr), CUDA_ERROR_INVALID_VALUE);
    EXPECT_EQ(get("", &address, 13000, 0, nullptr), CUDA_ERROR_NOT_FOUND);
    EXPECT_EQ(get("cuMemAll", &address, 13000, 0, nullptr), CUDA_ERROR_NOT_FOUND);
    EXPECT_EQ(get("cuInit", nullptr, 13000, 0, nullptr), CUDA_ERROR_INVALID_VALUE);
    EXPECT_EQ(get("cuInit", &address, 13000, 0x100, nullptr), CUDA_ERROR_INVALID_VALUE);
    EXPECT_EQ(get("cuInit", &address, 13000, 3, nullptr), CUDA_SUCCESS);
    EXPECT_EQ(get("cuInit", &address, 13000, 0, nullptr), CUDA_SUCCESS);  // the status is optional
}

TEST(ErrorTexts, TheDriversWords) {
    auto name = function<Text>("cuGetErrorName"), text = function<Text>("cuGetErrorString");
    const char* said = nullptr;
    EXPECT_EQ(name(CUDA_ERROR_INVALID_VALUE, &said), CUDA_SUCCESS);
    EXPECT_STREQ(said, "CUDA_ERROR_INVALID_VALUE");
    EXPECT_EQ(text(CUDA_ERROR_INVALID_VALUE, &said), CUDA_SUCCESS);
    EXPECT_STREQ(said, "invalid argument");
    EXPECT_EQ(text(CUDA_ERROR_OUT_OF_MEMORY, &said), CUDA_SUCCESS);
    EXPECT_STREQ(said, "out of memory");
    EXPECT_EQ(text(CUDA_ERROR_NO_DEVICE, &said), CUDA_SUCCESS);
    EXPECT_STREQ(said, "no CUDA-capable device is detected");
    EXPECT_EQ(text(CUDA_SUCCESS, &said), CUDA_SUCCESS);
    EXPECT_STREQ(said, "no error");
    EXPECT_EQ(name(static_cast<CUresult>(12345), &said), CUDA_ERROR_INVALID_VALUE);
    EXPECT_EQ(said, nullptr);
    EXPECT_EQ(text(static_cast<CUresult>(12345), &said), CUDA_ERROR_INVALID_VALUE);
    EXPECT_EQ(said, nullptr);
    EXPECT_EQ(text(CUDA_SUCCESS, nullptr), CUDA_ERROR_INVALID_VALUE);
    // Whatever has a name has a text.
    int both = 0;
    for (int value = 0; value < 1000; ++value) {
        const char *a, *b;
        bool named = name(static_cast<CUresult>(value), &a) == CUDA_SUCCESS;
        EXPECT_EQ(named, text(static_cast<CUresult>(value), &b) == CUDA_SUCCESS) << value;
        both += named;
    }
    EXPECT_GE(both, 90);
}

TEST(BeforeInit, NothingAnswersAndNothingIsAttached) {
    int number;
    void* pointer;
    EXPECT_EQ(function<CUresult (*)(int*)>("cuDriverGetVersion")(&number), CUDA_SUCCESS);
    EXPECT_EQ(number, CUDA_VERSION);
    EXPECT_EQ(function<CUresult (*)(int*)>("cuDeviceGetCount")(&number), CUDA_ERROR_NOT_INITIALIZED);
    EXPECT_EQ(function<CUresult (*)(void**)>("cuCtxGetCurrent")(&pointer), CUDA_ERROR_NOT_INITIALIZED);
    EXPECT_EQ(function<CUresult (*)(void**, size_t)>("cuMemAlloc_v2")(&pointer, 16),
              CUDA_ERROR_NOT_INITIALIZED);
    EXPECT_EQ(function<CUresult (*)()>("cuCtxSynchronize")(), CUDA_ERROR_NOT_INITIALIZED);
}

// ---- export tables
// -------------------------------------------------------------------------------------------

struct Table {
    const char* uuid;
    size_t slots;
    bool sized;
};
constexpr Table tables[] = {
    {"6bd5fb6c5bf4e74a8987d93912fd9df9", 13, true}, {"a094798c2e742e7493f20800200c0a66", 7, true},
    {"42d85a8123f6cb478298f6e78a3aecdc", 3, true},  {"c693336e1121df11a8c368f355d89593", 4, false},
    {"263e88607cd2614392f6bbd5006dfa7e", 15, true}, {"d4082055bde6704b8d34ba123c66e1f2", 3, true},
    {"21318c60971432488ca641ff7324c8f2", 93, true}, {"6e163fbeb958444d835ce182aff1991e", 99, true},
    {"1734dc26800d47458726c0f1e7dd8bca", 17, true}, {"da9151d33ae6cc41a5c04f26d533e328", 7, true},
};

CUuuid uuid(const char* digits) {
    CUuuid made;
    for (int i = 0; i < 16; ++i)
        made.bytes[i] = static_cast<char>(std::stoi(std::string(digits + 2 * i, 2), nullptr, 16));
    return made;
}

const void* const* table(const char* digits) {
    const void* found = nullptr;
    CUuuid id = uuid(digits);
    EXPECT_EQ(function<GetExportTable>("cuGetExportTable")(&found, &id), CUDA_SUCCESS) << digits;
    return static_cast<const void* const*>(found);
}

TEST(ExportTables, ShapeAndUnlistedSlots) {
    for (const Table& expected : tables) {
        auto slots = table(expected.uuid);
        ASSERT_TRUE(slots) << expected.uuid;
        if (expected.sized) {
            EXPECT_EQ(reinterpret_cast<size_t>(slots[0]), expected.slots * sizeof(void*));
        }
        for (size_t i = expected.sized; i < expected.slots; ++i) {
            Dl_info info;
            ASSERT_TRUE(dladdr(slots[i], &info)) << expected.uuid << '[' << i << ']';
            EXPECT_EQ(info.dli_fbase, [] {
                Dl_info own;
                dladdr(dlsym(shim, "cuInit"), &own);
                return own.dli_fbase;
            }());
        }
        EXPECT_EQ(table(expected.uuid), slots);  // the same every time
    }
    using Slot = CUresult (*)(void*, void*, void*, void*);
    // The multiprocessors' order is asked of the server, which this process has none of; what was not given is given back.
    const auto topology = table("1734dc26800d47458726c0f1e7dd8bca");
    EXPECT_EQ(reinterpret_cast<Slot>(topology[4])(0, 0, 0, 0), CUDA_ERROR_NOT_INITIALIZED);
    EXPECT_EQ(reinterpret_cast<Slot>(topology[13])(0, 0, 0, 0), CUDA_SUCCESS);
    EXPECT_EQ(reinterpret_cast<Slot>(table("21318c60971432488ca641ff7324c8f2")[92])(0, 0, 0, 0),
              CUDA_ERROR_NOT_SUPPORTED);
}

TEST(ExportTables, OthersAreRefused) {
    const std::string nobodys = "00112233445566778899aabbccddeeff";  // the driver has none of this name either
    for (const std::string& other : {std::string("f8cff95121468b4eb9e2fb469e7c0dd9"), nobodys}) {
        const void* found = &found;
        CUuuid id = uuid(other.c_str());
        EXPECT_EQ(function<GetExportTable>("cuGetExportTable")(&found, &id),
                  other == nobodys ? CUDA_ERROR_INVALID_VALUE : CUDA_ERROR_NOT_FOUND);
        EXPECT_EQ(found, nullptr);
    }
    const void* found;
    CUuuid id = uuid(tables[0].uuid);
    EXPECT_EQ(function<GetExportTable>("cuGetExportTable")(&found, nullptr), CUDA_ERROR_INVALID_VALUE);
    EXPECT_EQ(function<GetExportTable>("cuGetExportTable")(nullptr, &id), CUDA_ERROR_INVALID_VALUE);
}

TEST(ExportTables, CallbackHooksHandOutZeroedBuffers) {
    using Hand = CUresult (*)(void**, size_t*);
    for (auto [slot, wanted] : {std::pair<size_t, size_t>{2, 1024}, {6, 14}}) {
        void *buffer = nullptr, *again = nullptr;
        size_t size = 0;
        auto hand = reinterpret_cast<Hand>(table("a094798c2e742e7493f20800200c0a66")[slot]);
        ASSERT_EQ(hand(&buffer, &size), CUDA_SUCCESS);
        EXPECT_EQ(size, wanted);
        for (size_t i = 0; i < size; ++i) EXPECT_EQ(static_cast<char*>(buffer)[i], 0);
        ASSERT_EQ(hand(&again, &size), CUDA_SUCCESS);
        EXPECT_EQ(again, buffer);
    }
}

TEST(ExportTables, ValidityBindsProcessThreadAndTables) {
    auto slots = table("d4082055bde6704b8d34ba123c66e1f2");
    using Establish = CUresult (*)(uint32_t, uint64_t, uint64_t*);
    auto establish = reinterpret_cast<Establish>(slots[1]);
    uint64_t said[2] = {};
    ASSERT_EQ(establish(13000, 1764000000, said), CUDA_SUCCESS);
    EXPECT_EQ(said[0], 0x3341181C03CB675Cu);
    ASSERT_EQ(establish(13002, 1764000000, said), CUDA_SUCCESS);
    cricket::client::ValidityQuestion question{
        CUDA_VERSION,
        13002,
        static_cast<uint32_t>(getpid()),
        static_cast<uint32_t>(pthread_self()),
        reinterpret_cast<uint64_t>(table("6bd5fb6c5bf4e74a8987d93912fd9df9")),
        reinterpret_cast<uint64_t>(slots),
        reinterpret_cast<uint64_t>(slots[1]),
        1764000000};
    uint64_t expected[2];
    cricket::client::answer_validity(question, nullptr, 0, expected);  // no device is known before cuInit
    EXPECT_EQ(said[0], expected[0]);
    EXPECT_EQ(said[1], expected[1]);
    EXPECT_EQ(establish(13002, 0, nullptr), CUDA_ERROR_INVALID_VALUE);
}

}  // namespace

int main(int argc, char** argv) {
    testing::InitGoogleTest(&argc, argv);
    if (argc != 2) return 2;
    shim = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);
    if (!shim) {
        fprintf(stderr, "%s\n", dlerror());
        return 1;
    }
    return RUN_ALL_TESTS();
}
