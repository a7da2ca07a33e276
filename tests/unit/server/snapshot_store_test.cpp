// SPDX-License-Identifier: MIT
// What was written comes back; what was damaged does not, and the error says where.
#include "snapshot_store.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <random>
#include <thread>

#include "scratch.h"

namespace cricket::server {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using Bytes = std::vector<std::byte>;

Bytes random_bytes(size_t count, unsigned seed) {
    std::mt19937_64 random(seed);
    Bytes result(count);
    for (std::byte& byte : result) byte = static_cast<std::byte>(random());
    return result;
}

template <typename Function>
std::string error_of(Function&& function) {
    try {
        function();
    } catch (const SnapshotError& error) {
        return error.what();
    }
    return "no error";
}

class SnapshotStore : public Scratch {
  protected:
    const Bytes big = random_bytes(2 * snapshot_chunk_bytes + 12345, 1);
    const Bytes small = random_bytes(777, 2);
    const SnapshotInfo info{"000102030405060708090a0b0c0d0e0f", 0x1122334455667788, "feed"};

    std::string make(const std::string& name = "snapshot") {
        SnapshotWriter writer(path(name));
        writer.begin("memory").write(big);
        writer.begin("objects").write(small);
        writer.finish(info, {{"answer", 42}});
        return path(name);
    }
    // Both ways of finding damage must say the same.
    void expect_damage(const std::string& folder, const testing::Matcher<std::string>& matcher) {
        EXPECT_THAT(error_of([&] { SnapshotReader(folder).verify_all(); }), matcher);
        EXPECT_THAT(error_of([&] {
                        SnapshotReader reader(folder);
                        for (const std::string& name : reader.names()) reader.read_all(name);
                    }),
                    matcher);
    }
    static void flip(const std::string& file, size_t at) {
        std::string text = content(file);
        text[at] = static_cast<char>(text[at] ^ 0x10);
        put(file, text);
    }
};

TEST_F(SnapshotStore, GivesBackWhatWasWritten) {
    SnapshotReader reader(make());
    EXPECT_EQ(reader.info().session, info.session);
    EXPECT_EQ(reader.info().epoch, info.epoch);
    EXPECT_EQ(reader.info().checkpoint, info.checkpoint);
    EXPECT_EQ(reader.meta().at("answer"), 42);
    EXPECT_THAT(reader.names(), testing::ElementsAre("memory", "objects"));
    EXPECT_EQ(reader.read_all("memory"), big);
    EXPECT_EQ(reader.read_all("objects"), small);
    reader.verify_all();
    EXPECT_EQ(entries(), 1u) << "something was left beside the snapshot";
}

TEST_F(SnapshotStore, ReadsAnyRange) {
    SnapshotReader reader(make());
    std::mt19937 random(3);
    for (int i = 0; i < 200; ++i) {
        const size_t from = random() % big.size(),
                     count = random() % std::min<size_t>(big.size() - from, 100000);
        Bytes out(count);
        reader.read("memory", from, out);
        ASSERT_TRUE(std::equal(out.begin(), out.end(), big.begin() + static_cast<ptrdiff_t>(from)));
    }
    Bytes out(2);
    EXPECT_THAT(error_of([&] { reader.read("memory", big.size() - 1, out); }), HasSubstr("memory.data"));
    EXPECT_THAT(error_of([&] { reader.read("nothing", 0, out); }), HasSubstr("nothing"));
}

TEST_F(SnapshotStore, ReadsFromSeveralThreads) {
    SnapshotReader reader(make());
    std::vector<std::thread> threads;
    std::atomic<int> wrong{0};
    for (size_t part = 0; part < 4; ++part)
        threads.emplace_back([&, part] {
            for (size_t at = part * 1000; at + 5000 < big.size(); at += 499979) {
                Bytes out(5000);
                reader.read("memory", at, out);
                if (!std::equal(out.begin(), out.end(), big.begin() + static_cast<ptrdiff_t>(at))) ++wrong;
            }
        });
    for (std::thread& thread : threads) thread.join();
    EXPECT_EQ(wrong, 0);
}

TEST_F(SnapshotStore, PiecesOfAnySizeMakeTheSameFile) {
    {
        SnapshotWriter writer(path("pieces"));
        SnapshotStream& stream = writer.begin("memory");
        std::mt19937 random(4);
        for (size_t at = 0; at < big.size();) {
            const size_t count = std::min<size_t>(random() % (5 << 20), big.size() - at);
            stream.write(big.data() + at, count);
            at += count;
        }
        EXPECT_EQ(stream.size(), big.size());
        writer.finish(info, {});
    }
    EXPECT_EQ(SnapshotReader(path("pieces")).read_all("memory"), big);
}

TEST_F(SnapshotStore, ZerosTakeNoRoom) {
    constexpr uint64_t many = 64 * snapshot_chunk_bytes;
    {
        SnapshotWriter writer(path("zeros"));
        SnapshotStream& stream = writer.begin("memory");
        stream.write(small);
        stream.write_zeros(many);
        stream.write(small);
        stream.write(Bytes(snapshot_chunk_bytes * 3));
        writer.finish(info, {});
    }
    struct stat status {};
    ASSERT_EQ(::stat(path("zeros/memory.data").c_str(), &status), 0);
    EXPECT_EQ(static_cast<uint64_t>(status.st_size), 2 * small.size() + many + 3 * snapshot_chunk_bytes);
    EXPECT_LT(static_cast<uint64_t>(status.st_blocks) * 512, 4 * snapshot_chunk_bytes);
    SnapshotReader reader(path("zeros"));
    reader.verify_all();
    Bytes out(small.size());
    reader.read("memory", small.size() + many, out);
    EXPECT_EQ(out, small);
    Bytes zeros(3 * snapshot_chunk_bytes, std::byte{1});
    reader.read("memory", snapshot_chunk_bytes, zeros);
    EXPECT_EQ(zeros, Bytes(zeros.size()));
}

TEST_F(SnapshotStore, AnEmptyPartIsThereAndEmpty) {
    {
        SnapshotWriter writer(path("empty"));
        writer.begin("nothing");
        writer.finish(info, nullptr);
    }
    SnapshotReader reader(path("empty"));
    EXPECT_TRUE(reader.has("nothing"));
    EXPECT_FALSE(reader.has("memory"));
    EXPECT_EQ(reader.size("nothing"), 0u);
}

TEST_F(SnapshotStore, ATurnedBitIsFoundInItsChunk) {
    const std::string folder = make();
    flip(folder + "/memory.data", snapshot_chunk_bytes + 17);
    expect_damage(folder, AllOf(HasSubstr("memory.data"), HasSubstr("corrupt"), HasSubstr("chunk 1 ")));
}

TEST_F(SnapshotStore, ADamagedHoleIsFound) {
    {
        SnapshotWriter writer(path("zeros"));
        writer.begin("memory").write_zeros(3 * snapshot_chunk_bytes);
        writer.finish(info, {});
    }
    const int fd = ::open(path("zeros/memory.data").c_str(), O_WRONLY);
    ASSERT_EQ(::pwrite(fd, "x", 1, snapshot_chunk_bytes * 2 + 5), 1);
    ::close(fd);
    expect_damage(path("zeros"), AllOf(HasSubstr("memory.data"), HasSubstr("chunk 2 ")));
}

TEST_F(SnapshotStore, EachTurnedBitOfTheManifestIsFound) {
    const std::string folder = make();
    const std::string manifest = folder + "/manifest.json", whole = content(manifest);
    for (size_t at = 0; at < whole.size(); ++at)
        for (const char bit : {'\x01', '\x04', '\x20', '\x80'}) {
            std::string damaged = whole;
            damaged[at] = static_cast<char>(damaged[at] ^ bit);
            put(manifest, damaged);
            ASSERT_THAT(error_of([&] { SnapshotReader reader(folder); }), HasSubstr("manifest.json"))
                << "byte " << at << " bit " << int(bit);
        }
}

TEST_F(SnapshotStore, TruncatedFilesAreNamed) {
    const std::string folder = make();
    std::filesystem::resize_file(folder + "/objects.data", 776);
    expect_damage(folder, AllOf(HasSubstr("objects.data"), HasSubstr("truncated"),
                                HasSubstr("776 bytes instead of 777")));
    std::filesystem::resize_file(folder + "/objects.data", 778);
    expect_damage(folder, AllOf(HasSubstr("objects.data"), HasSubstr("too long")));
    std::filesystem::remove(folder + "/objects.data");
    expect_damage(folder, AllOf(HasSubstr("objects.data"), HasSubstr("No such file")));

    const std::string manifest = folder + "/manifest.json", whole = content(manifest);
    for (size_t length = 0; length < whole.size(); ++length) {
        std::filesystem::resize_file(manifest, 0);
        put(manifest, whole.substr(0, length));
        ASSERT_THAT(error_of([&] { SnapshotReader reader(folder); }), HasSubstr("manifest.json"));
    }
}

TEST_F(SnapshotStore, AnotherVersionIsSaidToBeThat) {
    const std::string folder = make(), manifest = folder + "/manifest.json";
    nlohmann::json body = nlohmann::json::parse(content(manifest));
    body["format"] = 2;
    put(manifest, body.dump());
    expect_damage(folder,
                  AllOf(HasSubstr("manifest.json"), HasSubstr("version 2"), HasSubstr("reads version 1")));
}

TEST_F(SnapshotStore, NoSnapshotAtAllIsSaidToBeThat) {
    EXPECT_THAT(error_of([&] { SnapshotReader reader(path("none")); }),
                AllOf(HasSubstr("none"), HasSubstr("No such file")));
    put(path("file"), "x");
    EXPECT_THAT(error_of([&] { SnapshotReader reader(path("file")); }), HasSubstr("no folder"));
}

TEST_F(SnapshotStore, AnUnfinishedWriterLeavesNothing) {
    {
        SnapshotWriter writer(path("unfinished"));
        writer.begin("memory").write(big);
        EXPECT_EQ(entries(), 1u);
    }
    EXPECT_EQ(entries(), 0u);
}

TEST_F(SnapshotStore, AnOlderSnapshotIsReplacedOnlyAtTheEnd) {
    const std::string folder = make();
    {
        SnapshotWriter writer(folder);
        writer.begin("memory").write(small);
        EXPECT_EQ(SnapshotReader(folder).read_all("memory"), big);
        writer.finish(info, {});
    }
    EXPECT_EQ(SnapshotReader(folder).read_all("memory"), small);
    EXPECT_EQ(entries(), 1u);
}

TEST_F(SnapshotStore, OtherFoldersAreNotReplaced) {
    std::filesystem::create_directory(path("precious"));
    put(path("precious/data"), "x");
    EXPECT_THAT(error_of([&] { SnapshotWriter writer(path("precious")); }), HasSubstr("precious"));
    put(path("file"), "x");
    EXPECT_THAT(error_of([&] { SnapshotWriter writer(path("file")); }), HasSubstr("no folder"));
    EXPECT_THAT(error_of([&] { SnapshotWriter writer(path("no/where")); }), HasSubstr("no/where"));
    std::filesystem::create_directory(path("empty"));
    SnapshotWriter writer(path("empty/"));
    writer.finish(info, {});
    SnapshotReader reader(path("empty"));
}

TEST_F(SnapshotStore, WhatDeadWritersLeftIsRemovedWhatLivingOnesHoldIsNot) {
    std::filesystem::create_directory(path("snapshot.partial-00000001"));
    put(path("snapshot.partial-00000001/memory.data"), "x");
    std::filesystem::create_directory(path("snapshot.partial-00000002"));
    const int held = ::open(path("snapshot.partial-00000002").c_str(), O_RDONLY | O_DIRECTORY);
    ASSERT_EQ(::flock(held, LOCK_EX), 0);
    std::filesystem::create_directory(path("other.partial-00000001"));
    make();
    EXPECT_FALSE(std::filesystem::exists(path("snapshot.partial-00000001")));
    EXPECT_TRUE(std::filesystem::exists(path("snapshot.partial-00000002")));
    EXPECT_TRUE(std::filesystem::exists(path("other.partial-00000001")));
    ::close(held);
}

TEST_F(SnapshotStore, AFullDiskIsNamedAndLeavesNothing) {
    struct rlimit before {
    }, little{};
    ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
    little = before;
    little.rlim_cur = 1 << 20;
    const auto old = ::signal(SIGXFSZ, SIG_IGN);
    ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &little), 0);
    const std::string error = error_of([&] { make(); });
    ::setrlimit(RLIMIT_FSIZE, &before);
    ::signal(SIGXFSZ, old);
    EXPECT_THAT(error,
                AllOf(HasSubstr("cannot write"), HasSubstr("memory.data"), HasSubstr("File too large")));
    EXPECT_EQ(entries(), 0u);
}

TEST_F(SnapshotStore, PartsHaveProperNames) {
    SnapshotWriter writer(path("names"));
    for (const char* name : {"", "..", "a/b", ".hidden", "a b"})
        EXPECT_NE(error_of([&] { writer.begin(name); }), "no error") << name;
    writer.begin("memory");
    EXPECT_THAT(error_of([&] { writer.begin("memory"); }), HasSubstr("twice"));
}

}  // namespace
}  // namespace cricket::server
