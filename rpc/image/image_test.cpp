// SPDX-License-Identifier: MIT
// Reads images that nvcc made in this build (argv[1] is their folder), whole and damaged. Damaged ones lie
// right before an unmapped page, so that a read past the end ends the test.
#include "image.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <iterator>
#include <random>

namespace cricket::image {
namespace {

std::string folder;

std::vector<std::byte> read(const std::string& name) {
    std::ifstream file(folder + "/" + name, std::ios::binary);
    std::vector<char> bytes{std::istreambuf_iterator<char>(file), {}};
    if (bytes.empty()) throw std::runtime_error(folder + "/" + name + " is missing");
    auto first = reinterpret_cast<const std::byte*>(bytes.data());
    return {first, first + bytes.size()};
}

// A copy of bytes whose end is the end of readable memory.
class Guarded {
  public:
    explicit Guarded(std::span<const std::byte> bytes) : size_(bytes.size()) {
        size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
        mapped_ = (size_ + page - 1) / page * page + page;
        base_ = static_cast<std::byte*>(
            mmap(nullptr, mapped_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
        mprotect(base_ + mapped_ - page, page, PROT_NONE);
        data_ = base_ + mapped_ - page - size_;
        std::copy(bytes.begin(), bytes.end(), data_);
    }
    ~Guarded() { munmap(base_, mapped_); }
    Guarded(const Guarded&) = delete;
    std::span<std::byte> span() { return {data_, size_}; }

  private:
    std::byte *base_, *data_;
    size_t size_, mapped_;
};

const Variable* find(const std::vector<Variable>& list, const std::string& part) {
    auto found =
        std::find_if(list.begin(), list.end(), [&](auto& v) { return v.name.find(part) != v.name.npos; });
    return found == list.end() ? nullptr : &*found;
}

void expect_names(const Member& member) {
    auto list = variables(member);
    struct Expected {
        const char* part;
        uint64_t size;
        bool constant, managed;
    } expected[] = {{"anonymous_variable", 2, false, false}, {"static_variable", 4, false, false},
                    {"plain_variable", 24, false, false},    {"vector_variable", 32, false, false},
                    {"constant_variable", 16, true, false},  {"managed_variable", 8, false, true},
                    {"templatedIfE", 4, false, false},       {"templatedIdE", 4, false, false}};
    for (auto& e : expected) {
        auto variable = find(list, e.part);
        ASSERT_TRUE(variable) << e.part;
        EXPECT_EQ(variable->size, e.size) << e.part;
        EXPECT_EQ(variable->constant, e.constant) << e.part;
        EXPECT_EQ(variable->managed, e.managed) << e.part;
    }
    EXPECT_FALSE(find(list, "shared_variable"));
    EXPECT_EQ(list.size(), std::size(expected));
    auto names = kernels(member);
    std::sort(names.begin(), names.end());
    EXPECT_EQ(names,
              (std::vector<std::string>{"_Z9templatedIdEvPT_i", "_Z9templatedIfEvPT_i", "plain_kernel"}));
}

class Fatbin : public testing::TestWithParam<const char*> {};

TEST_P(Fatbin, HasItsMembers) {
    auto image = read(GetParam());
    EXPECT_EQ(kind_of(image.data()), Kind::Fatbin);
    EXPECT_EQ(size_of(image.data()), image.size());
    auto list = members(image);
    ASSERT_EQ(list.size(), 3u);
    int texts = 0;
    for (auto& member : list) {
        texts += member.kind == Kind::Ptx;
        EXPECT_TRUE(member.arch == 75 || (member.kind == Kind::Elf && member.arch == 90)) << member.arch;
        expect_names(member);
    }
    EXPECT_EQ(texts, 1);
}

TEST_P(Fatbin, TruncatedIsRefused) {
    auto image = read(GetParam());
    std::mt19937 random(1);
    for (size_t size = 0; size < image.size(); size += 1 + random() % 97) {
        Guarded part{std::span<const std::byte>(image).first(size)};
        EXPECT_THROW(members(part.span()), ImageError) << size;
    }
}

TEST_P(Fatbin, FlippedNeverReadsOutside) {
    auto image = read(GetParam());
    Guarded copy(image);
    std::mt19937 random(2);
    int refused = 0;
    for (int round = 0; round < 1500; ++round) {
        // Most of the structure is in the first bytes; the rest is hit as well.
        size_t at = random() % (round % 2 ? image.size() : 200);
        auto bit = std::byte{1} << random() % 8;
        copy.span()[at] ^= bit;
        try {
            for (auto& member : members(copy.span())) variables(member), kernels(member);
        } catch (const ImageError& error) {
            EXPECT_STRNE(error.what(), "");
            ++refused;
        }
        copy.span()[at] ^= bit;
    }
    EXPECT_GT(refused, 100);
    EXPECT_EQ(members(copy.span()).size(), 3u);
}

INSTANTIATE_TEST_SUITE_P(Image, Fatbin,
                         testing::Values("none.fatbin", "lz4.fatbin", "zstd.fatbin", "default.fatbin"));

TEST(Fatbins, CompressionsAreWhatTheirNamesSay) {
    EXPECT_LT(read("lz4.fatbin").size(), read("none.fatbin").size() * 2 / 3);
    EXPECT_LT(read("zstd.fatbin").size(), read("lz4.fatbin").size());
    EXPECT_EQ(members(read("lz4.fatbin"))[1].data, members(read("none.fatbin"))[1].data);
    EXPECT_EQ(members(read("zstd.fatbin"))[0].data, members(read("none.fatbin"))[0].data);
}

TEST(Fatbins, OnlyWhatADeviceWouldRun) {
    const auto image = read("default.fatbin");
    const auto chosen = [&](int arch) {
        std::string text;
        for (auto& member : members(image, arch))
            text += (member.kind == Kind::Elf ? "cubin " : "ptx ") + std::to_string(member.arch) + ";";
        return text;
    };
    EXPECT_EQ(chosen(90), "cubin 90;");
    EXPECT_EQ(chosen(75), "cubin 75;");
    EXPECT_EQ(chosen(86), "ptx 75;");  // cubins of another generation do not run there
    EXPECT_EQ(chosen(70), chosen(0));  // none does: all of them
    EXPECT_EQ(members(image, 0).size(), 3u);
}

TEST(Fatbins, WrapperIsFollowed) {
    auto image = read("zstd.fatbin");
    struct {
        uint32_t magic = 0x466243b1, version = 1;
        const void* data;
        const void* more = nullptr;
    } wrapper;
    wrapper.data = image.data();
    EXPECT_EQ(kind_of(&wrapper), Kind::FatbinWrapper);
    EXPECT_EQ(unwrap(&wrapper), image.data());
    EXPECT_EQ(size_of(&wrapper), image.size());
    EXPECT_THROW(unwrap(image.data()), ImageError);
    wrapper.data = "text";
    EXPECT_THROW(unwrap(&wrapper), ImageError);
}

TEST(Cubin, SizeAndNames) {
    auto image = read("sm_75.cubin");
    EXPECT_EQ(kind_of(image.data()), Kind::Elf);
    EXPECT_EQ(size_of(image.data()), image.size());
    auto list = members(image);
    ASSERT_EQ(list.size(), 1u);
    EXPECT_EQ(list[0].arch, 75);
    expect_names(list[0]);
}

TEST(Cubin, DamagedNeverReadsOutside) {
    auto image = read("sm_75.cubin");
    auto visit = [](std::span<const std::byte> bytes) {
        Member member{Kind::Elf, 75, {bytes.begin(), bytes.end()}};
        member.data.shrink_to_fit();
        variables(member);
        kernels(member);
    };
    int refused = 0;
    for (size_t size = 0; size < image.size(); size += 61) {
        try {
            visit(std::span<const std::byte>(image).first(size));
        } catch (const ImageError&) {
            ++refused;
        }
    }
    EXPECT_GT(refused, 10);  // what follows the last section used (program headers) may be missing
    std::mt19937 random(3);
    for (int round = 0; round < 20000; ++round) {
        auto& byte = image[random() % image.size()];
        auto bit = std::byte{1} << random() % 8;
        byte ^= bit;
        try {
            visit(image);
        } catch (const ImageError&) {
        }
        byte ^= bit;
    }
}

TEST(Ptx, SizeAndNames) {
    auto image = read("plain.ptx");
    std::string text(reinterpret_cast<const char*>(image.data()), image.size());
    EXPECT_EQ(kind_of(text.c_str()), Kind::Ptx);
    EXPECT_EQ(size_of(text.c_str()), text.size() + 1);
    auto list = members(image);
    ASSERT_EQ(list.size(), 1u);
    EXPECT_EQ(list[0].arch, 75);
    expect_names(list[0]);
}

std::vector<Variable> variables_of(std::string_view text) {
    return variables(members(std::as_bytes(std::span(text)))[0]);
}

TEST(Ptx, Declarations) {
    auto list = variables_of(
        "// .global .u32 commented;\n/* .const .u32 too; */ .version 9.0\n.target sm_90a, debug\n"
        ".extern .global .u32 elsewhere;\n.visible .global .u64 pointer = generic(elsewhere)+4;\n"
        ".global .align 16 .v4 .f32 matrix[3][2];\n.weak .const .b8 unsized[] = {1, 2};\n"
        ".file 1 \"a { b.cu\"\n.visible .entry k(.param .u64 p) .maxntid 4,1,1 { .global .u32 inner; }\n");
    ASSERT_EQ(list.size(), 3u);
    EXPECT_EQ(list[0].name, "pointer");
    EXPECT_EQ(list[0].size, 8u);
    EXPECT_EQ(list[1].name, "matrix");
    EXPECT_EQ(list[1].size, 96u);
    EXPECT_EQ(list[2].name, "unsized");
    EXPECT_EQ(list[2].size, 0u);
    EXPECT_TRUE(list[2].constant);
    EXPECT_THROW(variables_of(".version 9.0\n.entry k { .reg"), ImageError);
    EXPECT_THROW(variables_of(".version 9.0\n.global .u32 x"), ImageError);
}

TEST(Ptx, DeviceHeap) {
    using Names = std::vector<std::string>;
    auto uses = [](std::string_view text) { return heap_kernels(members(std::as_bytes(std::span(text)))[0]); };
    const std::string head = ".version 9.0\n.target sm_75\n.extern .func  (.param .b64 func_retval0) malloc\n(\n.param .b64 a\n)\n;\n"
                             ".extern .func free\n(\n.param .b64 a\n)\n;\n";
    const std::string inner = ".func (.param .b64 r) inner(.param .b64 n) { call.uni (r), malloc, (n); ret; }\n";
    const std::string kernels = ".visible .entry a() { { .reg .b64 t; call.uni (p0), \n inner, \n (\n p1\n ); } ret; }\n"
                                ".visible .entry b() { ret; }\n.entry c() { call free, (x); }\n";
    EXPECT_EQ(uses(head + ".visible .entry b() { ret; }\n"), Names{});
    EXPECT_EQ(uses(head + inner + kernels), (Names{"a", "c"}));
    EXPECT_EQ(uses(head + ".func inner() { mallocate: ret; }\n" + kernels), (Names{"c"}));
    EXPECT_EQ(uses(head + inner + ".visible .entry b() { call (p), %rd1, (q), prototype_0; ret; }\n"), (Names{"b"}));
    EXPECT_EQ(uses(head + ".visible .entry b() { call (p), %rd1, (q), prototype_0; ret; }\n"), Names{});
    EXPECT_THROW(uses(head + ".visible .entry b() { "), ImageError);
    EXPECT_EQ(heap_kernels(members(read("plain.ptx"))[0]), Names{});
    EXPECT_EQ(heap_kernels(members(read("sm_75.cubin"))[0]), Names{});
    EXPECT_EQ(heap_kernels(members(read("heap.cubin"))[0]), (Names{"calling", "allocating"}));
}

TEST(Ptx, Printing) {
    auto may = [](std::string_view text) { return prints(members(std::as_bytes(std::span(text)))[0]); };
    EXPECT_TRUE(may(".version 9.0\n.target sm_75\n.extern .func (.param .b32 r) vprintf\n(\n.param .b64 a,\n.param .b64 b\n)\n;\n"));
    EXPECT_TRUE(may(".version 9.0\n.target sm_75\n.extern .func __assertfail\n(\n.param .b64 a\n)\n;\n"));
    EXPECT_FALSE(prints(members(read("plain.ptx"))[0]));
    EXPECT_FALSE(prints(members(read("sm_75.cubin"))[0]));
}

TEST(Kinds, NothingElseIsTaken) {
    EXPECT_EQ(kind_of(nullptr), std::nullopt);
    EXPECT_EQ(kind_of(""), std::nullopt);
    EXPECT_EQ(kind_of("\x01\x02\x03\x04"), std::nullopt);
    EXPECT_EQ(kind_of("BC\xc0\xde"), std::nullopt);  // LLVM bitcode
    EXPECT_EQ(kind_of("x"), Kind::Ptx);
    EXPECT_THROW(size_of("\x01\x02\x03\x04"), ImageError);
    EXPECT_THROW(members({}), ImageError);
    uint32_t wrapper[6] = {0x466243b1, 1};
    EXPECT_THROW(members(std::as_bytes(std::span(wrapper))), ImageError);
}

}  // namespace
}  // namespace cricket::image

int main(int argc, char** argv) {
    testing::InitGoogleTest(&argc, argv);
    if (argc != 2) return fprintf(stderr, "usage: %s FOLDER_WITH_IMAGES\n", argv[0]), 2;
    cricket::image::folder = argv[1];
    return RUN_ALL_TESTS();
}
