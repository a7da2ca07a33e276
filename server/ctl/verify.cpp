// SPDX-License-Identifier: MIT
// Proofs: that what lies in a folder is whole, and that what runs is what was saved.
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <iostream>
#include <nlohmann/json.hpp>

#include "checkpoint_folder.h"
#include "command.h"
#include "criu_action.h"
#include "progress.h"
#include "series.h"
#include "session_names.h"
#include "snapshot_store.h"

namespace cricket::ctl {
namespace {

using nlohmann::json;
using server::ControlClient;
using server::SessionState;
using server::SessionStatus;

constexpr uint32_t quiesce_ms = 120000;
constexpr size_t most_shown = 20;

bool is_snapshot(const std::string& directory) {
    return ::access((directory + "/manifest.json").c_str(), F_OK) == 0;
}

bool is_checkpoint(const std::string& directory) {
    return !is_snapshot(directory) && (::access((directory + "/" + checkpoint_file).c_str(), F_OK) == 0 ||
                                       ::access((directory + "/gpu").c_str(), F_OK) == 0);
}

void read_all(const server::SnapshotReader& reader) {
    Progress progress("verifying " + reader.directory());
    reader.verify_all([&](uint64_t done, uint64_t of) { progress.update(done, of); });
}

// Prints what was found; false when the session is not what it should be.
bool show_live(const json& report) {
    bool good = true;
    for (const json& context : report.at("contexts")) {
        for (const json& why : context.at("failed")) {
            good = false;
            std::cout << "  context on device " << context.at("device") << ": " << why.get<std::string>()
                      << "\n";
        }
        if (context.at("failed").empty())
            std::cout << "  context on device " << context.at("device") << ": the probe kernel ran, "
                      << context.at("streams") << " streams and " << context.at("events")
                      << " events answer\n";
    }
    if (report.at("contexts").empty()) std::cout << "  no context yet\n";
    if (!report.contains("snapshot")) {
        std::cout << "  memory: not compared, since no snapshot was named and none was loaded\n";
        return good;
    }
    const uint64_t then = report.at("calls_then"), now = report.at("calls_now");
    const json &differ = report.at("differ"), &gone = report.at("gone");
    const uint64_t stretches = report.at("stretches");
    std::cout << "  memory: " << report.at("ranges") << " ranges, " << bytes_text(report.at("bytes"))
              << " compared with " << report.at("snapshot").get<std::string>();
    if (differ.empty() && gone.empty()) {
        std::cout << ": all as saved\n";
        return good;
    }
    std::cout << ": " << bytes_text(report.at("differing_bytes")) << " differ in " << stretches << " places, "
              << gone.size() << " ranges are gone\n";
    size_t shown = 0;
    for (const json& one : gone)
        if (shown++ < most_shown) std::cout << "    " << one.get<std::string>() << ": gone\n";
    for (const json& one : differ)
        if (shown++ < most_shown)
            std::cout << "    " << one.at("what").get<std::string>() << " at "
                      << one.at("address").get<std::string>() << ": " << one.at("bytes") << " bytes differ\n";
    if (const size_t all = gone.size() + stretches; all > most_shown)
        std::cout << "    and " << all - most_shown << " more\n";
    if (now == then) return false;
    std::cout << "  the program has made " << now - then << " calls since, so that may be its own work\n";
    return good;
}

}  // namespace

void verify(const std::string& directory) {
    struct stat status {};
    if (::stat(directory.c_str(), &status) != 0)
        throw CommandError("cannot open '" + directory + "': " + std::strerror(errno));
    try {
        if (::access((directory + "/" + sessions_file).c_str(), F_OK) == 0) {
            verify_dump(directory);
            std::cout << directory
                      << ": sessions of a dump by criu, good (criu's images have no checksums)\n";
        } else if (is_checkpoint(directory)) {
            const CheckpointInfo info = check_checkpoint(directory);
            for (const SavedSession& one : info.sessions) read_all(server::SnapshotReader(directory + "/" + one.folder));
            std::cout << directory << ": checkpoint of " << programs_of(info) << " (pid " << info.pid
                      << "), epoch " << info.epoch_id << (info.without_gpu ? ", without the GPU" : "")
                      << ", good\n";
        } else {
            const server::SnapshotReader reader(directory);
            read_all(reader);
            std::cout << directory << ": snapshot of session " << reader.info().session << ", good\n";
        }
    } catch (const std::exception& error) {
        throw ExitWith{Exit::Damaged, error.what()};
    }
}

void verify_live(const std::string& socket, const std::string& target, std::string directory, bool as_json) {
    ControlClient control = ControlClient::connect(socket);
    const SessionStatus session = find_session(control, target);
    if (!directory.empty() && is_checkpoint(directory)) directory = gpu_half(directory, server::token_text(session.token));
    const std::string name = server::session_name(session.id);
    const bool stopped = session.state == SessionState::Running;
    if (stopped) require(control.quiesce(name, quiesce_ms, false));
    const server::ReportResult answer = control.check(name, directory);
    if (stopped) require(control.resume(name));
    require(answer.result);
    const json report = json::parse(answer.report);
    bool good = true;
    if (as_json) {
        std::cout << report.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) << "\n";
        for (const json& context : report.at("contexts")) good &= context.at("failed").empty();
        if (report.contains("snapshot") && report.at("calls_then") == report.at("calls_now"))
            good &= report.at("differ").empty() && report.at("gone").empty();
    } else {
        std::cout << describe(session) << ":\n";
        good = show_live(report);
    }
    if (!good) throw ExitWith{Exit::Damaged, describe(session) + " is not what it should be"};
}

}  // namespace cricket::ctl
