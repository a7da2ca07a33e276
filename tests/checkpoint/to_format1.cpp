// SPDX-License-Identifier: MIT
// Writes a snapshot as the first format had it: a file for each part, and a checksum of every 4 MiB in the manifest.
//
//     to_format1 SNAPSHOT FOLDER
//     to_format1 LIST.json NEW.json      a checkpoint's list (cricket.json) with one session
#include <fcntl.h>
#include <unistd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <fstream>

#include "sealed_json.h"
#include "snapshot_store.h"

using namespace cricket::server;
using nlohmann::json;

int main(int argc, char** argv) {
    if (argc != 3) return 2;
    try {
        if (std::filesystem::is_regular_file(argv[1])) {
            json list = read_sealed(argv[1], 2).body;
            const json session = list.at("sessions").at(0);
            list["format"] = 1;
            list["session"] = session.at("session");
            list["program"] = session.at("program");
            list["gpu"] = session.at("manifest");
            list.erase("sessions");
            write_sealed(argv[2], list);
            return 0;
        }
        constexpr size_t chunk = 4u << 20;
        const SnapshotReader reader(argv[1]);
        const std::filesystem::path folder = argv[2];
        std::filesystem::create_directory(folder);
        json files = json::array();
        for (const std::string& name : reader.names()) {
            // What lies between the chunks of a part was never written.
            std::vector<std::byte> data(reader.size(name));
            for (const ChunkRecord& one : reader.chunks(name)) reader.read(name, one.offset, std::span(data).subspan(one.offset, one.bytes));
            json sums = json::array();
            for (size_t at = 0; at < data.size(); at += chunk)
                sums.push_back(hex64(XXH3_64bits(data.data() + at, std::min(chunk, data.size() - at))));
            std::ofstream(folder / (name + ".data"), std::ios::binary).write(reinterpret_cast<const char*>(data.data()), static_cast<std::streamsize>(data.size()));
            files.push_back({{"name", name}, {"bytes", data.size()}, {"chunks", std::move(sums)}});
        }
        json meta = reader.meta();
        meta.erase("memory_ranges");
        write_sealed(folder / "manifest.json", {{"format", 1}, {"kind", "cricket session"}, {"created", 1}, {"tool", "cricket of format 1"},
                                                {"session", reader.info().session}, {"epoch", hex64(reader.info().epoch)},
                                                {"checkpoint", reader.info().checkpoint}, {"chunk_bytes", chunk},
                                                {"files", std::move(files)}, {"meta", std::move(meta)}});
    } catch (const std::exception& error) {
        std::fprintf(stderr, "to_format1: %s\n", error.what());
        return 1;
    }
    return 0;
}
