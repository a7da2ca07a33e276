// SPDX-License-Identifier: MIT
// What was written comes back; what was damaged does not, and the error says where.
#include "snapshot_store.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <random>
#include <thread>

#include "scratch.h"
#include "sealed_json.h"

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
    const Bytes big = random_bytes(8 * snapshot_chunk_bytes + 12345, 1);
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
    // The only pack of a snapshot that has one.
    static std::string pack_of(const std::string& folder) {
        const auto packs = SnapshotReader(folder).packs();
        EXPECT_EQ(packs.size(), 1u);
        return folder + "/" + packs.at(0).name;
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
    EXPECT_THAT(error_of([&] { reader.read("memory", big.size() - 1, out); }), HasSubstr("memory"));
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
    EXPECT_LT(std::filesystem::file_size(pack_of(path("zeros"))), 4 * snapshot_chunk_bytes);
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
    const std::string folder = make(), pack = pack_of(folder);
    flip(pack, snapshot_chunk_bytes + 17);
    expect_damage(folder, AllOf(HasSubstr(pack), HasSubstr("corrupt"), HasSubstr("chunk 1 of part 'memory'")));
    flip(pack, snapshot_chunk_bytes + 17);
    flip(folder + "/" + index_file, 100);
    EXPECT_THAT(error_of([&] { SnapshotReader reader(folder); }), AllOf(HasSubstr(index_file), HasSubstr("corrupt")));
}

TEST_F(SnapshotStore, PacksOfSeveralThreadsAreOnePart) {
    {
        SnapshotWriter writer(path("parallel"));
        const uint32_t part = writer.add_part("memory");
        std::vector<std::thread> threads;
        std::atomic<size_t> next{0};
        const size_t run = 3 * snapshot_chunk_bytes;
        for (int i = 0; i < 3; ++i)
            threads.emplace_back([&] {
                SnapshotPack& pack = writer.add_pack();
                for (size_t at; (at = next.fetch_add(run)) < big.size();)
                    pack.put(part, at, std::span(big).subspan(at, std::min(run, big.size() - at)));
                pack.sync();
            });
        for (std::thread& thread : threads) thread.join();
        writer.put_zeros(part, 10 * snapshot_chunk_bytes + 100, 1000);
        writer.finish(info, {});
    }
    SnapshotReader reader(path("parallel"));
    reader.verify_all();
    Bytes out(big.size());
    reader.read("memory", 0, out);
    EXPECT_EQ(out, big);
    Bytes zeros(1000, std::byte{1});
    reader.read("memory", 10 * snapshot_chunk_bytes + 100, zeros);
    EXPECT_EQ(zeros, Bytes(1000));
    EXPECT_THAT(error_of([&] { reader.read("memory", big.size() - 1, std::span(out).first(2)); }),
                HasSubstr("has no bytes"));  // what lies between was never written
}

TEST_F(SnapshotStore, CompressedChunksComeBack) {
    Bytes text(5 * snapshot_chunk_bytes + 99);
    for (size_t i = 0; i < text.size(); ++i) text[i] = static_cast<std::byte>(i / 1000);
    std::copy(big.begin(), big.begin() + snapshot_chunk_bytes, text.begin());  // one that cannot be
    SnapshotOptions options;
    options.compress = 1;
    {
        SnapshotWriter writer(path("packed"), options);
        writer.begin("memory").write(text);
        writer.finish(info, {});
    }
    EXPECT_LT(std::filesystem::file_size(pack_of(path("packed"))), 2 * snapshot_chunk_bytes);
    SnapshotReader reader(path("packed"));
    reader.verify_all();
    EXPECT_EQ(reader.read_all("memory"), text);
    flip(pack_of(path("packed")), snapshot_chunk_bytes + 20);
    expect_damage(path("packed"), AllOf(HasSubstr("corrupt"), HasSubstr("chunk 1 of part 'memory'")));
}

class SnapshotSeries : public SnapshotStore {
  protected:
    SnapshotFigures save(const std::string& name, const std::string& base, const Bytes& data) {
        SnapshotOptions options;
        options.identify = true;
        if (!base.empty()) options.base = path(base);
        SnapshotWriter writer(path(name), options);
        writer.begin("memory").write(data);
        writer.begin("name").write(name.data(), name.size());
        const SnapshotFigures figures = writer.figures();
        writer.finish(info, {});
        return figures;
    }
};

TEST_F(SnapshotSeries, WhatIsTheSameIsStoredOnce) {
    save("first", "", big);
    Bytes changed = big;
    changed[3 * snapshot_chunk_bytes + 5] ^= std::byte{1};
    save("second", "first", changed);
    save("third", "second", big);  // a chunk that the second did not have
    for (const char* name : {"first", "second", "third"}) SnapshotReader(path(name)).verify_all();
    EXPECT_EQ(SnapshotReader(path("second")).packs().size(), 2u);
    EXPECT_EQ(std::filesystem::file_size(path("second") + "/" + SnapshotReader(path("second")).packs()[1].name),
              snapshot_chunk_bytes + 6);
    // Each is whole without the others.
    std::filesystem::remove_all(path("first"));
    std::filesystem::remove_all(path("second"));
    SnapshotReader third(path("third"));
    third.verify_all();
    EXPECT_EQ(third.read_all("memory"), big);
}

TEST_F(SnapshotSeries, AnUnfinishedOneTakesNothingFromItsBase) {
    save("first", "", big);
    {
        SnapshotOptions options;
        options.identify = true;
        options.base = path("first");
        SnapshotWriter writer(path("second"), options);
        writer.begin("memory").write(big);
    }
    SnapshotReader(path("first")).verify_all();
    EXPECT_EQ(entries(), 1u);
}

TEST_F(SnapshotSeries, PacksThatAreMostlyOfThePastAreLeftBehind) {
    save("s0", "", big);
    Bytes data = big;
    for (size_t i = 0; i < 8; ++i) {
        data[i * snapshot_chunk_bytes] ^= std::byte{1};
        save("s" + std::to_string(i + 1), "s" + std::to_string(i), data);
    }
    SnapshotReader last(path("s8"));
    last.verify_all();
    EXPECT_EQ(last.read_all("memory"), data);
    for (const auto& pack : last.packs())
        for (const auto& old : SnapshotReader(path("s0")).packs()) EXPECT_NE(pack.name, old.name);
}

TEST_F(SnapshotSeries, ABaseWithoutIdsSharesNothing) {
    const std::string folder = make("plain");
    SnapshotOptions options;
    options.identify = true;
    options.base = folder;
    SnapshotWriter writer(path("second"), options);
    EXPECT_THAT(writer.base_refusal(), HasSubstr("series"));
    writer.begin("memory").write(big);
    writer.finish(info, {});
    EXPECT_EQ(SnapshotReader(path("second")).read_all("memory"), big);
    options.base = path("none");
    EXPECT_THAT(error_of([&] { SnapshotWriter third(path("third"), options); }), HasSubstr("none"));
}

// What the first format's writer made: a file of its own for each part, and a checksum of every 4 MiB in the manifest.
class SnapshotFormat1 : public SnapshotStore {
  protected:
    std::string make_v1(const std::map<std::string, Bytes>& parts) {
        constexpr size_t chunk = 4u << 20;
        const std::string folder = path("old");
        std::filesystem::create_directory(folder);
        nlohmann::json files = nlohmann::json::array();
        for (const auto& [name, data] : parts) {
            nlohmann::json sums = nlohmann::json::array();
            for (size_t at = 0; at < data.size(); at += chunk)
                sums.push_back(hex64(XXH3_64bits(data.data() + at, std::min(chunk, data.size() - at))));
            put(folder + "/" + name + ".data", std::string(reinterpret_cast<const char*>(data.data()), data.size()));
            files.push_back({{"name", name}, {"bytes", data.size()}, {"chunks", sums}});
        }
        write_sealed(folder + "/manifest.json", {{"format", 1}, {"kind", "cricket session"}, {"created", 1}, {"tool", "cricket 0"},
                                                 {"session", info.session}, {"epoch", hex64(info.epoch)},
                                                 {"checkpoint", info.checkpoint}, {"chunk_bytes", chunk}, {"files", files},
                                                 {"meta", {{"answer", 42}}}});
        return folder;
    }
};

TEST_F(SnapshotFormat1, IsRead) {
    const Bytes long_one = random_bytes((9u << 20) + 5, 7);
    const std::string folder = make_v1({{"memory", long_one}, {"objects", small}, {"none", {}}});
    SnapshotReader reader(folder);
    EXPECT_EQ(reader.format(), 1);
    EXPECT_EQ(reader.meta().at("answer"), 42);
    EXPECT_EQ(reader.info().checkpoint, info.checkpoint);
    reader.verify_all();
    EXPECT_EQ(reader.read_all("memory"), long_one);
    EXPECT_EQ(reader.read_all("objects"), small);
    EXPECT_EQ(reader.size("none"), 0u);
    Bytes out(100000);
    reader.read("memory", (4u << 20) - 500, out);
    EXPECT_TRUE(std::equal(out.begin(), out.end(), long_one.begin() + (4u << 20) - 500));
    SnapshotOptions options;
    options.base = folder;
    EXPECT_THAT(SnapshotWriter(path("new"), options).base_refusal(), HasSubstr("format 1"));
}

TEST_F(SnapshotFormat1, DamageIsNamed) {
    const std::string folder = make_v1({{"memory", random_bytes((9u << 20) + 5, 7)}});
    flip(folder + "/memory.data", (4u << 20) + 17);
    expect_damage(folder, AllOf(HasSubstr("memory.data"), HasSubstr("corrupt"), HasSubstr("chunk 1 ")));
    std::filesystem::resize_file(folder + "/memory.data", 776);
    expect_damage(folder, AllOf(HasSubstr("memory.data"), HasSubstr("truncated")));
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
    for (const std::string& file : {pack_of(folder), folder + "/" + index_file}) {
        const size_t whole = std::filesystem::file_size(file);
        std::filesystem::resize_file(file, whole - 1);
        expect_damage(folder, AllOf(HasSubstr(file), HasSubstr("truncated"),
                                    HasSubstr(std::to_string(whole - 1) + " bytes instead of " + std::to_string(whole))));
        std::filesystem::resize_file(file, whole + 1);
        expect_damage(folder, AllOf(HasSubstr(file), HasSubstr("too long")));
        std::filesystem::rename(file, path("away"));
        expect_damage(folder, AllOf(HasSubstr(file), HasSubstr("No such file")));
        std::filesystem::copy(path("away"), file);
        std::filesystem::resize_file(file, whole);
        std::filesystem::remove(path("away"));
    }

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
    body["format"] = 3;
    put(manifest, body.dump());
    expect_damage(folder,
                  AllOf(HasSubstr("manifest.json"), HasSubstr("version 3"), HasSubstr("reads version 1 to 2")));
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

TEST_F(SnapshotStore, FoldersOfDeadMakersAreFoundByTheirNames) {
    EXPECT_TRUE(PartialDirectory::is_partial("gpu.partial-0123abcd"));
    for (const char* other : {"gpu", ".partial-0123abcd", "gpu.partial-0123abc", "gpu.partial-0123abcx", "gpu.partial-0123abcd.old"})
        EXPECT_FALSE(PartialDirectory::is_partial(other)) << other;
    std::filesystem::create_directories(path("gpu.partial-0123abcd/inside"));
    std::filesystem::create_directory(path("other"));
    {
        const PartialDirectory living(path("app"), "mark");
        EXPECT_EQ(remove_abandoned(root), 1u);
        EXPECT_TRUE(std::filesystem::exists(living.path()));
    }
    EXPECT_EQ(entries(), 1u);
}

TEST_F(SnapshotStore, AFolderIsDiscardedAsAWhole) {
    std::filesystem::create_directories(path("gpu/inside"));
    put(path("gpu/inside/file"), "text");
    discard_directory(path("gpu"));
    EXPECT_EQ(entries(), 0u);
    EXPECT_THROW(discard_directory(path("gpu")), DirectoryError);
}

TEST_F(SnapshotStore, APlaceIsLookedAtWithoutMakingAnything) {
    PartialDirectory::check(path("gpu"), "mark");
    std::filesystem::create_directories(path("mine/inside"));
    EXPECT_THROW(PartialDirectory::check(path("mine"), "mark"), DirectoryError);
    EXPECT_THROW(PartialDirectory::check(path("no/where"), "mark"), DirectoryError);
    put(path("mine/mark"), "");
    PartialDirectory::check(path("mine"), "mark");
    EXPECT_EQ(entries(), 1u);
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
                AllOf(HasSubstr("cannot write"), HasSubstr(pack_suffix), HasSubstr("File too large")));
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
