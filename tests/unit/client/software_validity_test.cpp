// SPDX-License-Identifier: MIT
// The software-validity answer against a second implementation (software_validity_vectors.py, run by the
// build) and against what the facts fix.
#include "client/software_validity.h"

#include <gtest/gtest.h>

#include <cstring>
#include <fstream>
#include <set>
#include <sstream>
#include <vector>

namespace cricket::client {
namespace {

ValidityDevice device(int n) {
    ValidityDevice made;
    for (int i = 0; i < 16; ++i) made.uuid[i] = static_cast<uint8_t>(17 * n + 3 * i);
    made.pci_domain = n / 4;
    made.pci_bus = 0x40 + n;
    made.pci_device = -n;
    return made;
}

std::vector<uint64_t> answer(const ValidityQuestion& question, int devices) {
    std::vector<ValidityDevice> list;
    for (int i = 0; i < devices; ++i) list.push_back(device(i));
    uint64_t words[2];
    answer_validity(question, list.data(), list.size(), words);
    return {words[0], words[1]};
}

constexpr ValidityQuestion sample{13000,          13002,          4242,           0xf7d8a740,
                                  0x7f0012345000, 0x7f0012346080, 0x7f0012340010, 1764000000};

TEST(SoftwareValidity, FixedWordsOfTheFirstTwoKinds) {
    for (uint32_t version : {0u, 10u, 11020u, 13000u}) {
        ValidityQuestion question = sample;
        question.version = version;
        EXPECT_EQ(answer(question, 2), (std::vector<uint64_t>{0x3341181C03CB675C, 0x8ED383AA1F4CD1E8}));
    }
    ValidityQuestion question = sample;
    question.version = 12081;
    EXPECT_EQ(answer(question, 2), (std::vector<uint64_t>{0x1841181C03CB675C, 0x8ED383AA1F4CD1E8}));
}

TEST(SoftwareValidity, OneVectorByHeart) {
    EXPECT_EQ(answer(sample, 1), (std::vector<uint64_t>{0x3718da452a3fa595, 0xa28a180f38d5f2dc}));
}

TEST(SoftwareValidity, AgreesWithTheSecondImplementation) {
    std::ifstream vectors(CRICKET_VALIDITY_VECTORS);
    ASSERT_TRUE(vectors) << CRICKET_VALIDITY_VECTORS;
    int compared = 0;
    for (std::string line; std::getline(vectors, line); ++compared) {
        std::istringstream in(line);
        uint64_t n[8], words[2];
        int devices;
        in >> std::hex;
        for (auto& value : n) in >> value;
        in >> std::dec >> devices >> std::hex >> words[0] >> words[1];
        ASSERT_TRUE(in) << line;
        ValidityQuestion question{static_cast<uint32_t>(n[0]),
                                  static_cast<uint32_t>(n[1]),
                                  static_cast<uint32_t>(n[2]),
                                  static_cast<uint32_t>(n[3]),
                                  n[4],
                                  n[5],
                                  n[6],
                                  n[7]};
        EXPECT_EQ(answer(question, devices), (std::vector<uint64_t>{words[0], words[1]})) << line;
    }
    EXPECT_GE(compared, 4);
}

// Process, thread, addresses, time and devices are all bound into the answer.
TEST(SoftwareValidity, EveryFieldMatters) {
    std::set<std::vector<uint64_t>> answers{answer(sample, 1)};
    for (size_t byte = 0; byte < sizeof sample; ++byte) {
        if (byte >= 4 && byte < 8) continue;  // the version's last digit chooses the kind
        ValidityQuestion question = sample;
        reinterpret_cast<unsigned char*>(&question)[byte] ^= 1;
        answers.insert(answer(question, 1));
    }
    ValidityQuestion question = sample;
    question.version += 1;
    answers.insert(answer(question, 1));
    answers.insert(answer(sample, 0));
    answers.insert(answer(sample, 2));
    EXPECT_EQ(answers.size(), 1 + sizeof sample - 4 + 3);
    EXPECT_EQ(answer(sample, 1), answer(sample, 1));
}

}  // namespace
}  // namespace cricket::client
