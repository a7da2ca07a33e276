// SPDX-License-Identifier: MIT
// Names are bytes: as text they are shown, and in sealed files they come back.
#include "sealed_json.h"

#include <gmock/gmock.h>

#include "printable.h"
#include "scratch.h"

namespace cricket::server {
namespace {

using nlohmann::json;

TEST(Printable, ShowsTextOnOneLine) {
    EXPECT_EQ(printable("counter"), "counter");
    EXPECT_EQ(printable("ni\u00f1o \u65e5 \U0001f600"), "ni\u00f1o \u65e5 \U0001f600");
    EXPECT_EQ(printable("new\nline\t\x1b[31m\x7f"), "new?line??[31m?");
    EXPECT_EQ(printable("c1 \u0085, separators \u2028 \u2029"), "c1 ?, separators ? ?");
    EXPECT_EQ(printable("caf\xe9"), "caf?");
    EXPECT_EQ(printable("cut \xe6\x97"), "cut ??");
    EXPECT_EQ(printable("\xc0\xaf overlong, \xed\xa0\x80 surrogate, \xf4\x90\x80\x80 beyond, \xff"), "?? overlong, ??? surrogate, ???? beyond, ?");
    EXPECT_EQ(printable({"a\0b", 3}), "a?b");
}

TEST(Printable, StaysInItsField) {
    char field[8];
    std::memset(field, 'x', sizeof field);
    make_printable(field, sizeof field);
    EXPECT_STREQ(field, "xxxxxxx");
    std::memcpy(field, "abcdef\xc3\xb1", 8);  // the last character is cut
    make_printable(field, sizeof field);
    EXPECT_STREQ(field, "abcdef?");
}

class SealedJson : public Scratch {
  protected:
    json there_and_back(const json& body) {
        const std::string file = path("sealed");
        write_sealed(file, body);
        json again = read_sealed(file, 1).body;
        std::filesystem::remove(file);
        return again;
    }
};

TEST_F(SealedJson, BringsBackWhatIsNoText) {
    std::string all;
    for (int byte = 0; byte < 256; ++byte) all += static_cast<char>(byte);
    for (const std::string& name : {std::string("counter"), std::string("ni\u00f1o"), std::string("caf\xe9"), all, std::string("\U0010ff41"), std::string("\U0010ffff \xff"),
                                    std::string("\U0010feff \U0001f600")}) {
        const json body = {{"format", 1}, {"name", name}, {"list", {1, name, {{name, true}}}}, {"none", nullptr}, {"empty", json::object()}};
        EXPECT_EQ(there_and_back(body), body) << printable(name);
    }
}

TEST_F(SealedJson, IsUtf8) {
    write_sealed(path("sealed"), {{"format", 1}, {"name", "caf\xe9"}});
    EXPECT_TRUE(json::accept(content(path("sealed"))));
    EXPECT_THAT(content(path("sealed")), testing::HasSubstr("caf\U0010ffe9"));
}

}  // namespace
}  // namespace cricket::server
