// SPDX-License-Identifier: MIT
#include "fixture.h"

using Links = Gpu;

namespace {

constexpr char kHead[] = ".version 8.0\n.target sm_75\n.address_size 64\n";
constexpr char kCaller[] = R"(
.extern .func (.param .b32 r) twice(.param .b32 a);
.visible .entry use(.param .u64 out) {
    .reg .b32 %r<2>; .reg .b64 %d<2>;
    { .param .b32 a; .param .b32 r; st.param.b32 [a], 21; call (r), twice, (a); ld.param.b32 %r1, [r]; }
    ld.param.u64 %d1, [out]; st.global.u32 [%d1], %r1; ret;
})";
constexpr char kCallee[] = R"(
.visible .func (.param .b32 r) twice(.param .b32 a) {
    .reg .b32 %r<2>;
    ld.param.b32 %r1, [a]; add.u32 %r1, %r1, %r1; st.param.b32 [r], %r1; ret;
})";

}  // namespace

TEST_F(Links, TextsBecomeOne) {
    std::string caller = std::string(kHead) + kCaller, callee = std::string(kHead) + kCallee;
    CUlinkState link = nullptr;
    ASSERT_OK(cuLinkCreate(0, nullptr, nullptr, &link));
    EXPECT_OK(cuLinkAddData(link, CU_JIT_INPUT_PTX, caller.data(), caller.size() + 1, "caller", 0, nullptr,
                            nullptr));
    void* linked = nullptr;
    size_t size = 0;
    EXPECT_CU(CUDA_ERROR_INVALID_PTX, cuLinkComplete(link, &linked, &size));  // twice is open
    EXPECT_OK(cuLinkAddData(link, CU_JIT_INPUT_PTX, callee.data(), callee.size() + 1, "callee", 0, nullptr,
                            nullptr));
    EXPECT_OK(cuLinkComplete(link, &linked, &size));
    CUmodule module = nullptr;
    EXPECT_OK(cuModuleLoadData(&module, linked));
    auto out = allocate(4);
    EXPECT_OK(launch(function(module, "use"), nullptr, 1, out));
    EXPECT_EQ(read<int>(out), 42);
    char machine[64] = {};
    EXPECT_CU(CUDA_ERROR_NO_BINARY_FOR_GPU,
              cuLinkAddData(link, CU_JIT_INPUT_CUBIN, machine, sizeof machine, nullptr, 0, nullptr, nullptr));
    EXPECT_CU(CUDA_ERROR_FILE_NOT_FOUND,
              cuLinkAddFile(link, CU_JIT_INPUT_PTX, "/nonexistent/file.ptx", 0, nullptr, nullptr));
    EXPECT_OK(cuLinkDestroy(link));
    EXPECT_CU(CUDA_ERROR_INVALID_HANDLE, cuLinkDestroy(link));
}

TEST_F(Links, CooperativeLaunches) {
    std::string text = std::string(kHead) + ".visible .entry nothing() { ret; }";
    CUmodule module = nullptr;
    EXPECT_OK(cuModuleLoadData(&module, text.c_str()));
    auto f = function(module, "nothing");
    int blocks = 0, processors = 0;
    EXPECT_OK(cuOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, f, 256, 0));
    EXPECT_OK(cuDeviceGetAttribute(&processors, CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT, device));
    auto most = static_cast<unsigned>(blocks * processors);
    EXPECT_OK(cuLaunchCooperativeKernel(f, most, 1, 1, 256, 1, 1, 0, nullptr, nullptr));
    EXPECT_CU(CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE,
              cuLaunchCooperativeKernel(f, most + 1, 1, 1, 256, 1, 1, 0, nullptr, nullptr));
    EXPECT_OK(cuCtxSynchronize());
}
