// SPDX-License-Identifier: MIT
// Links of the JIT linker that are under way: what was added before is linked with what is added after.
#include <cstring>

#include "kind.h"

namespace kinds {
namespace {

const char* const caller = R"(.version 7.0
.target sm_75
.address_size 64
.extern .func (.param .b32 result) twice(.param .b32 number);
.visible .entry use(.param .u64 out)
{
    .reg .b32 %value;
    .reg .b64 %out;
    {
        .param .b32 number;
        .param .b32 result;
        mov.u32 %value, 21;
        st.param.b32 [number], %value;
        call.uni (result), twice, (number);
        ld.param.b32 %value, [result];
    }
    ld.param.u64 %out, [out];
    cvta.to.global.u64 %out, %out;
    st.global.u32 [%out], %value;
    ret;
}
)";
const char* const called = R"(.version 7.0
.target sm_75
.address_size 64
.visible .func (.param .b32 result) twice(.param .b32 number)
{
    .reg .b32 %value;
    ld.param.b32 %value, [number];
    add.u32 %value, %value, %value;
    st.param.b32 [result], %value;
    ret;
}
)";

void add(CUlinkState state, const char* text, const char* name) {
    CU(cuLinkAddData(state, CU_JIT_INPUT_PTX, const_cast<char*>(text), std::strlen(text) + 1, name, 0, nullptr, nullptr));
}

struct {
    CUlinkState complete, begun[16];  // each look ends one of these
    unsigned next = 0;
    size_t bytes;
    CUdeviceptr word;
} linking;

void run(void* cubin) {
    CUmodule module;
    CUfunction function;
    CU(cuModuleLoadData(&module, cubin));
    CU(cuModuleGetFunction(&function, module, "use"));
    CU(cuMemsetD32(linking.word, 0, 1));
    void* parameters[] = {&linking.word};
    CU(cuLaunchKernel(function, 1, 1, 1, 1, 1, 1, 0, nullptr, parameters, nullptr));
    SAME(words_of(reinterpret_cast<void*>(linking.word), 1)[0], 42u);
    CU(cuModuleUnload(module));
}

void linking_set_up() {
    CU(cuMemAlloc(&linking.word, 4));
    for (CUlinkState& state : linking.begun) {
        CU(cuLinkCreate(0, nullptr, nullptr, &state));
        add(state, caller, "caller");
    }
    CUlinkState gone;
    CU(cuLinkCreate(0, nullptr, nullptr, &gone));
    add(gone, caller, "gone");
    CU(cuLinkDestroy(gone));
    void* cubin = nullptr;
    CU(cuLinkCreate(0, nullptr, nullptr, &linking.complete));
    add(linking.complete, caller, "caller");
    add(linking.complete, called, "called");
    CU(cuLinkComplete(linking.complete, &cubin, &linking.bytes));
    run(cubin);
}

void linking_look() {
    CHECK(linking.next < sizeof linking.begun / sizeof *linking.begun);
    const CUlinkState state = linking.begun[linking.next++];
    void* cubin = nullptr;
    size_t bytes = 0;
    add(state, called, "called");
    CU(cuLinkComplete(state, &cubin, &bytes));
    CHECK(bytes > 0);
    run(cubin);
    CU(cuLinkDestroy(state));
}

const Kinds kinds{{"linking", linking_set_up, linking_look}};

}  // namespace
}  // namespace kinds
