// SPDX-License-Identifier: MIT
#include "checkpoint_folder.h"

#include <fcntl.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <memory>
#include <optional>
#include <vector>

#include "command.h"
#include "cricket/unique_fd.h"
#include "partial_directory.h"
#include "sealed_json.h"
#include "snapshot_store.h"

namespace cricket::ctl {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr int checkpoint_format = 2, oldest_checkpoint_format = 1;
constexpr char epoch_file[] = "cricket-epoch";

// What criu writes after its images are complete, or that nobody needs.
bool is_by_the_way(const std::string& name) {
    return name.ends_with(".log") || name.starts_with("stats-") || name.ends_with(".pid");
}

struct Summary {
    uint64_t bytes = 0, checksum = 0;
};

Summary summarize(const std::string& path, bool sync) {
    const auto fail = [&](const char* verb) {
        throw CommandError(std::string("cannot ") + verb + " '" + path + "': " + std::strerror(errno));
    };
    UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!fd) fail("open");
    ::posix_fadvise(fd.get(), 0, 0, POSIX_FADV_SEQUENTIAL);
    const std::unique_ptr<XXH3_state_t, XXH_errorcode (*)(XXH3_state_t*)> state(XXH3_createState(),
                                                                                XXH3_freeState);
    XXH3_64bits_reset(state.get());
    std::vector<char> buffer(1 << 20);
    Summary result;
    for (;;) {
        const ssize_t got = ::read(fd.get(), buffer.data(), buffer.size());
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) fail("read");
        if (got == 0) break;
        XXH3_64bits_update(state.get(), buffer.data(), static_cast<size_t>(got));
        result.bytes += static_cast<uint64_t>(got);
    }
    result.checksum = XXH3_64bits_digest(state.get());
    if (sync && ::fsync(fd.get()) != 0) fail("sync");
    return result;
}

std::string read_epoch(const std::string& directory) {
    const std::string path = directory + "/app/" + epoch_file;
    std::ifstream file(path);
    std::string text;
    if (!(file >> text))
        throw CommandError("'" + path + "' is missing or empty: '" + directory + "' is no whole checkpoint");
    return text;
}

}  // namespace

std::string gpu_folder(size_t number) { return number == 0 ? "gpu" : "gpu-" + std::to_string(number + 1); }

std::string programs_of(const CheckpointInfo& info) {
    std::string text;
    for (size_t i = 0; i < info.sessions.size(); ++i)
        text.append(i == 0 ? "" : i + 1 < info.sessions.size() ? ", " : " and ").append(info.sessions[i].program);
    return text;
}

json read_checkpoint_list(const std::string& directory) {
    return server::read_sealed(directory + "/" + checkpoint_file, checkpoint_format, oldest_checkpoint_format).body;
}

std::vector<SavedSession> sessions_in(const json& list) {
    std::vector<SavedSession> found;
    if (list.at("format") == 1) {
        found.push_back({list.at("session").get<std::string>(), list.at("program").get<std::string>(), list.at("pid").get<int32_t>(), gpu_folder(0)});
        return found;
    }
    for (const json& one : list.at("sessions"))
        found.push_back({one.at("session").get<std::string>(), one.at("program").get<std::string>(), one.at("pid").get<int32_t>(),
                         gpu_folder(found.size())});
    return found;
}

std::string new_epoch_id() {
    uint64_t id = 0;
    if (::getrandom(&id, sizeof id, 0) != sizeof id) throw CommandError("no random numbers");
    return server::hex64(id);
}

void mark_app(const std::string& directory, const std::string& epoch_id) {
    const std::string path = directory + "/app/" + epoch_file;
    std::ofstream file(path);
    file << epoch_id << "\n";
    file.close();
    if (!file) throw CommandError("cannot write '" + path + "': " + std::strerror(errno));
}

void seal_checkpoint(const std::string& directory, const CheckpointInfo& info) {
    try {
        json files = json::array();
        uint64_t app_bytes = 0;
        for (const auto& entry : fs::directory_iterator(directory + "/app")) {
            const std::string name = entry.path().filename();
            if (is_by_the_way(name) || !entry.is_regular_file()) continue;
            const Summary summary = summarize(entry.path(), true);
            app_bytes += summary.bytes;
            files.push_back(
                {{"name", name}, {"bytes", summary.bytes}, {"checksum", server::hex64(summary.checksum)}});
        }
        server::sync_directory(directory + "/app");
        json outputs = json::array();
        for (const OutputFile& one : info.outputs) outputs.push_back({{"path", one.path}, {"bytes", one.bytes}});
        json sessions = json::array();
        for (const SavedSession& one : info.sessions) {
            const server::SnapshotReader gpu(directory + "/" + one.folder);
            sessions.push_back({{"session", one.token}, {"program", one.program}, {"pid", one.pid}, {"manifest", gpu.manifest_checksum()}});
        }
        server::write_sealed(directory + "/" + checkpoint_file,
                             {{"format", checkpoint_format},
                              {"kind", "cricket checkpoint"},
                              {"created", static_cast<int64_t>(std::time(nullptr))},
                              {"tool", "cricket " CRICKET_VERSION},
                              {"criu", info.criu_version},
                              {"epoch_id", info.epoch_id},
                              {"pid", info.pid},
                              {"sessions", std::move(sessions)},
                              {"took",
                               {{"device_bytes", info.device_bytes},
                                {"secured", info.secured},
                                {"complete", info.complete},
                                {"app_bytes", app_bytes},
                                {"criu", info.criu}}},
                              {"app", std::move(files)},
                              {"outputs", std::move(outputs)}});
    } catch (const fs::filesystem_error& error) {
        throw CommandError(error.what());
    } catch (const server::DirectoryError& error) {
        throw CommandError(error.what());
    } catch (const server::SealError& error) {
        throw CommandError(error.what());
    } catch (const server::SnapshotError& error) {
        throw CommandError(error.what());
    }
}

CheckpointInfo check_checkpoint(const std::string& directory) {
    const std::string list = directory + "/" + checkpoint_file;
    struct stat status {};
    if (::stat(directory.c_str(), &status) != 0)
        throw CommandError("cannot open '" + directory + "': " + std::strerror(errno));
    try {
        // Halves that do not belong together are said to be that, whatever else is wrong.
        const std::string app_epoch = read_epoch(directory);
        const auto check_epoch = [&](const std::string& folder, const server::SnapshotReader& gpu) {
            const std::string& gpu_epoch = gpu.info().checkpoint;
            if (gpu_epoch != app_epoch)
                throw CommandError("the halves in '" + directory + "' do not belong together: app/ is of epoch " + app_epoch + ", " + folder +
                                   "/ " + (gpu_epoch.empty() ? "a snapshot without one" : "of epoch " + gpu_epoch));
        };
        std::optional<server::SnapshotReader> gpu(std::in_place, directory + "/" + gpu_folder(0));
        check_epoch(gpu_folder(0), *gpu);
        const json body = read_checkpoint_list(directory);
        CheckpointInfo info;
        info.epoch_id = body.at("epoch_id").get<std::string>();
        info.sessions = sessions_in(body);
        info.pid = body.at("pid").get<int32_t>();
        info.created = body.value("created", int64_t(0));
        info.criu_version = body.at("criu").get<std::string>();
        for (const json& one : body.value("outputs", json::array()))
            info.outputs.push_back({one.at("path").get<std::string>(), one.at("bytes").get<uint64_t>()});
        if (info.epoch_id != app_epoch)
            throw CommandError("'" + list + "' is of epoch " + info.epoch_id + ", the halves are of epoch " +
                               app_epoch);
        if (info.sessions.empty()) throw CommandError("'" + list + "' names no session");
        for (size_t i = 0; i < info.sessions.size(); ++i) {
            const SavedSession& one = info.sessions[i];
            if (i > 0) check_epoch(one.folder, gpu.emplace(directory + "/" + one.folder));
            info.without_gpu |= gpu->meta().value("without_gpu", false);
            if ((body.at("format") == 1 ? body.at("gpu") : body.at("sessions")[i].at("manifest")) != gpu->manifest_checksum() ||
                one.token != gpu->info().session)
                throw CommandError("'" + directory + "/" + one.folder + "/manifest.json' is not the one that '" + list +
                                   "' was written with");
        }
        for (const json& entry : body.at("app")) {
            const std::string name = entry.at("name").get<std::string>();
            if (name.empty() || name.find('/') != std::string::npos || name == "..")
                throw CommandError("'" + list + "' names an impossible file '" + name + "'");
            const std::string path = directory + "/app/" + name;
            const uint64_t bytes = entry.at("bytes").get<uint64_t>();
            if (::stat(path.c_str(), &status) != 0)
                throw CommandError("cannot open '" + path + "': " + std::strerror(errno));
            if (static_cast<uint64_t>(status.st_size) != bytes)
                throw CommandError(
                    "'" + path + "' is " +
                    (static_cast<uint64_t>(status.st_size) < bytes ? "truncated" : "too long") + ": " +
                    std::to_string(status.st_size) + " bytes instead of " + std::to_string(bytes));
            if (server::hex64(summarize(path, false).checksum) != entry.at("checksum").get<std::string>())
                throw CommandError("'" + path + "' is corrupt: its checksum is wrong");
        }
        return info;
    } catch (const server::SealError& error) {
        throw CommandError(error.what());
    } catch (const server::SnapshotError& error) {
        throw CommandError(error.what());
    } catch (const json::exception& error) {
        throw CommandError("'" + list + "' lacks something: " + error.what());
    }
}

}  // namespace cricket::ctl
