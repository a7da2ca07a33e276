// SPDX-License-Identifier: MIT
// A temporary folder for each test, and files as strings.
#pragma once

#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

namespace cricket::server {

class Scratch : public testing::Test {
  protected:
    Scratch() {
        std::string name = (std::filesystem::temp_directory_path() / "cricket-XXXXXX").string();
        root = ::mkdtemp(name.data());
    }
    ~Scratch() override {
        std::error_code ignored;
        std::filesystem::remove_all(root, ignored);
    }
    std::string path(const std::string& name) const { return (root / name).string(); }
    size_t entries() const {
        return static_cast<size_t>(std::distance(std::filesystem::directory_iterator(root), {}));
    }
    static std::string content(const std::string& file) {
        std::ifstream stream(file, std::ios::binary);
        return {std::istreambuf_iterator<char>(stream), {}};
    }
    static void put(const std::string& file, const std::string& text) {
        std::ofstream(file, std::ios::binary) << text;
    }

    std::filesystem::path root;
};

}  // namespace cricket::server
