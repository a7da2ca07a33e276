// SPDX-License-Identifier: MIT
// What the parser makes of a module, and that it refuses by line and text what it does not know.
#include "harness.h"

namespace softgpu::ptx::test {
namespace {

struct Refused {
    int line;
    std::string text, what;
};

Refused refused(const std::string& text) {
    try {
        Module::parse(text);
    } catch (const ParseError& e) {
        return {e.line(), e.text(), e.what()};
    }
    ADD_FAILURE() << "accepted: " << text;
    return {};
}

// The instruction stands in line 7.
Refused refused_instruction(const std::string& instruction) {
    return refused(std::string(kHeader) +
                   ".visible .entry k(.param .u64 p)\n{\n.reg .b32 %r<9>; .reg .b64 %d<9>; .reg .pred %p<9>; "
                   ".reg .f32 %f<9>; .reg .b16 %h<9>;\n" +
                   instruction + "\nret;\n}\n");
}

TEST(Refusal, Instructions) {
    for (const std::string instruction : {
             "frobnicate.b32 %r1, %r2;",        // unknown opcode
             "add.s32.foo %r1, %r2, %r3;",      // unknown modifier
             "add.q32 %r1, %r2, %r3;",          // unknown type
             "add.sat.u32 %r1, %r2, %r3;",      // modifier not for the type
             "add.s32 %r1, %r2;",               // too few operands
             "add.s32 %r1, %r2, %r3, %r4;",     // too many
             "add.s32 %d1, %r2, %r3;",          // sizes
             "add.s32 %r1, %undeclared, %r3;",  //
             "add.s32 %r1, %r2, 0f3F800000;",   //
             "mul.s32 %r1, %r2, %r3;",          // which half
             "mov.u32 %r1, %nosuchregister;",   //
             "setp.foo.s32 %p1, %r1, %r2;",     //
             "ld.global.u32 %r1, [%r2];",       // 32-bit address
             "ld.sparkling.u32 %r1, [%d2];",    //
             "ld.global.u64 %r1, [%d2];",       // register too small
             "tex.2d.v4.f32.f32 {%f1, %f2, %f3, %f4}, [%d1, {%f5}];",
             "tensormap.replace.tile.global_address.global.b1024.b64 [%d1], %d2;",
             "wmma.load.a.sync.aligned.row.m16n16k16.global.f16 {%r1, %r2}, [%d1];",
             "mma.sync.aligned.m8n8k4.row.col.f32.f16.f16.f32 {%f1}, {%r1}, {%r2}, {%f2};",
             "bra NOWHERE;",
             "call nobody;",
             "shfl.down.b32 %r1, %r2, 1, 31;",  // without .sync
             "cvt.f16.f32 %h1, %f1;",           // without a rounding; nor is s32.f32 given one
             "atom.global.mul.u32 %r1, [%d1], %r2;",
             "@%r1 mov.u32 %r2, 0;",
         }) {
        Refused r = refused_instruction(instruction);
        EXPECT_EQ(r.line, 7) << instruction << ": " << r.what;
        EXPECT_NE(r.what.find("line 7"), std::string::npos);
        if (instruction.starts_with("tensormap")) {
            EXPECT_NE(r.what.find("unknown instruction 'tensormap'"), std::string::npos) << r.what;
        }
        if (instruction != "bra NOWHERE;") {
            EXPECT_NE(r.what.find(instruction.substr(0, 8)), std::string::npos) << r.what;
        }
    }
}

TEST(Refusal, CallsThatDoNotFit) {
    std::string text =
        kHeader + std::string(
                      ".func (.param .b32 r) f(.param .b64 a) { ret; }\n.visible .entry k()\n{\n"
                      ".param .b32 a; .param .b32 r;\ncall (r), f, (a);\nret; }\n");
    EXPECT_EQ(refused(text).line, 8);
    // What the device runtime's functions take is known whatever their declaration says.
    Gpu gpu(kHeader +
            std::string(".extern .func (.param .b64 r) malloc(.param .b32 n);\n.visible .entry k() {\n"
                        ".param .b32 a; .param .b64 r; call (r), malloc, (a); ret; }\n"));
    EXPECT_THROW(gpu.run("k", {1}, {1}), Fault);
}

TEST(Refusal, Directives) {
    auto line = [](const std::string& text) { return refused(kHeader + text).line; };
    EXPECT_EQ(line("\n.surprise 3;\n"), 5);
    EXPECT_EQ(line(".global .texref tex;\n"), 4);
    EXPECT_EQ(line(".global .align 3 .b8 x[4];\n"), 4);
    EXPECT_EQ(line(".global .u32 x[2] = {1, 2, 3};\n"), 4);
    EXPECT_EQ(line(".global .u32 x;\n.global .u32 x;\n"), 5);
    EXPECT_EQ(line(".visible .entry k() { ret; }\n.visible .entry k() { ret; }\n"), 5);
    EXPECT_EQ(line(".visible .entry k()\n{\n.reg .b128 %x;\nret; }\n"), 6);
    EXPECT_EQ(line(".visible .entry k()\n{\nret;\n"), 7);
    EXPECT_EQ(refused(".version 9.0\n.target sm_75\n.address_size 32\n").line, 3);
    EXPECT_EQ(refused(".version 9.0\n.target gfx90a\n.address_size 64\n").line, 2);
    refused("");
    refused("not ptx at all");
    refused(std::string(kHeader) + "/* without end");
    refused(std::string(kHeader) + ".global .b8 x[99999999999999999999];");
}

TEST(Module, Descriptions) {
    std::string text = kHeader + std::string(R"(
.file 1 "some/file.cu", 1700000000, 1234
.extern .global .align 4 .b8 elsewhere[];
.weak .global .align 16 .b8 here[48];
.global .align 8 .f64 hidden = 0d3FF0000000000000;
.extern .func (.param .b32 r) vprintf(.param .b64 a, .param .b64 b);
.visible .func helper() .noreturn { trap; }
.visible .entry bounded(.param .u8 a, .param .align 16 .b8 b[16], .param .f32 c)
.maxntid 8, 4, 2
.minnctapersm 2
{
    .pragma "nounroll";
    .loc 1 3 5
    .shared .align 16 .b8 s[100];
    .local .align 4 .b8 l[40];
    .reg .b32 %r<5>;
    mov.u32 %r1, s;
    { .local .align 4 .b8 inner[24]; .reg .b64 %x; mov.u64 %x, inner; }
    { .local .align 4 .b8 other[16]; .reg .b64 %x; mov.u64 %x, other; }
    ret;
}
.entry exact() .reqntid 64 { ret; }
	.section .debug_info
	{
.b32 5996
.b8 2,3
L: .b64 $L__tmp27-4
	}
)");
    text += '\0';
    auto m = Module::parse(text);
    EXPECT_EQ(m->target(), 90);
    ASSERT_EQ(m->variables().size(), 3u);
    EXPECT_TRUE(m->variables()[0].external);
    EXPECT_EQ(m->variables()[0].size, 0u);
    EXPECT_TRUE(m->variables()[1].visible);
    EXPECT_EQ(m->variables()[1].align, 16u);
    EXPECT_FALSE(m->variables()[2].visible);
    EXPECT_EQ(m->variables()[2].size, 8u);
    ASSERT_EQ(m->kernels().size(), 2u);
    const Kernel& k = m->kernels()[0];
    EXPECT_EQ(k.name, "bounded");
    EXPECT_EQ(k.max_threads, 64u);
    EXPECT_EQ(k.static_shared_bytes, 100u);
    EXPECT_EQ(k.local_bytes, 64u);
    EXPECT_EQ(k.param_bytes, 36u);
    EXPECT_EQ(k.params[1].offset, 16u);
    EXPECT_GE(k.registers, 16u);
    EXPECT_EQ(m->kernels()[1].max_threads, 64u);
}

TEST(Module, ScopesAndShadowing) {
    Gpu gpu(kHeader + std::string(R"(
.visible .entry k(.param .u64 out) {
    .reg .b32 %r<4>; .reg .b64 %o; ld.param.u64 %o, [out]; mov.u32 %r1, 1;
    { .reg .b32 %r<3>; mov.u32 %r1, 50; { .reg .b32 %r1; mov.u32 %r1, 60; bra L; L: add.u32 %r1, %r1, 1; st.global.u32 [%o+4], %r1; } st.global.u32 [%o], %r1; }
    { bra L; L: st.global.u32 [%o+8], %r1; }
    ret; })"));
    uint32_t* out = gpu.array<uint32_t>(3);
    gpu.run("k", {1}, {1}, out);
    EXPECT_EQ(out[0], 50u);
    EXPECT_EQ(out[1], 61u);
    EXPECT_EQ(out[2], 1u);
}

TEST(Module, ImpossibleLaunches) {
    Gpu gpu(kHeader + std::string(".visible .entry k() { ret; }"));
    EXPECT_THROW(gpu.run("k", {0}, {32}), std::invalid_argument);
    EXPECT_THROW(gpu.run("k", {1}, {2048}), std::invalid_argument);
}

}  // namespace
}  // namespace softgpu::ptx::test
