// SPDX-License-Identifier: MIT
#include "criu_action.h"

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <nlohmann/json.hpp>

#include "checkpoint_folder.h"
#include "command.h"
#include "criu_watch.h"
#include "partial_directory.h"
#include "paths.h"
#include "process_files.h"
#include "sealed_json.h"
#include "session_names.h"
#include "snapshot_store.h"

namespace cricket::ctl {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using server::ControlClient;
using server::SessionState;
using server::SessionStatus;

constexpr int sessions_format = 1;
constexpr char epoch_file[] = "cricket-epoch";
constexpr uint32_t quiesce_ms = 120000;

std::string control_socket() {
    const char* socket = std::getenv("CRICKET_SOCKET");
    return server::control_path(socket && *socket ? socket : server::default_socket_path());
}

std::string environment(const char* name) {
    const char* value = std::getenv(name);
    if (!value || !*value) throw CommandError(std::string("criu did not say ") + name);
    return value;
}

std::string folder_of(const std::string& token) {
    return "cricket-" + token;
}

bool leaves_running(pid_t criu) {
    std::ifstream words("/proc/" + std::to_string(criu) + "/cmdline");
    for (std::string word; std::getline(words, word, '\0');)
        if (word == "-R" || word == "--leave-running" || word == "-s" || word == "--leave-stopped")
            return true;
    return false;
}

// criu, if it is what has started this process: only then is each of its stages sure to come here. criu names itself in the
// path of its folder.
pid_t criu_that_started_us() {
    int pid = 0, descriptor = 0;
    const bool named = std::sscanf(environment("CRTOOLS_IMAGE_DIR").c_str(), "/proc/%d/fd/%d", &pid, &descriptor) == 2;
    if (named && server::is_ending(pid)) throw CommandError("criu has ended");
    return named && pid == ::getppid() ? pid : 0;
}

void write_list(const std::string& images, const std::string& epoch_id, bool unfinished, json sessions) {
    json list = {{"format", sessions_format},
                 {"kind", "cricket sessions of a dump"},
                 {"epoch_id", epoch_id},
                 {"sessions", std::move(sessions)}};
    if (unfinished) list["unfinished"] = true;
    const std::string place = images + "/" + sessions_file, beside = place + ".new";
    ::unlink(beside.c_str());  // of one that was killed
    server::write_sealed(beside, list);
    if (::rename(beside.c_str(), place.c_str()) != 0)
        throw CommandError("cannot rename '" + beside + "' to '" + place + "': " + std::strerror(errno));
}

void after_dump(const std::string& images) {
    const pid_t root = std::atoi(environment("CRTOOLS_INIT_PID").c_str());
    ControlClient control = ControlClient::connect(control_socket());
    const std::vector<SessionStatus> found = sessions_below(control, root);
    for (const SessionStatus& session : found) require_saveable(session);
    ::unlink((images + "/" + sessions_file).c_str());  // of an older dump in the same folder
    if (found.empty()) return;

    // The images say nothing of the sessions: whoever restores them when this is not finished is to hear of it.
    const std::string epoch_id = new_epoch_id();
    write_list(images, epoch_id, true, json::array());
    const pid_t criu = server::tracer_of(root);
    std::vector<std::string> names, made;
    json list = json::array();
    try {
        // All before the first is saved: what one's device does may reach into memory of another.
        for (const SessionStatus& session : found) require(control.quiesce(server::session_name(session.id), quiesce_ms, false));
        for (const SessionStatus& session : found) {
            const std::string name = server::session_name(session.id),
                              token = server::token_text(session.token);
            names.push_back(name);
            const std::string folder = images + "/" + folder_of(token);
            server::SnapshotRequest request;
            request.directory = folder;
            request.checkpoint = epoch_id;
            request.frozen = true;
            server::SnapshotState state = control.begin_snapshot(name, request);
            if (state.error.empty()) state = control.wait_snapshot(name, state.id);
            if (!state.error.empty()) throw CommandError(describe(session) + ": " + state.error);
            made.push_back(folder);
            const server::SnapshotReader reader(folder);
            list.push_back({{"session", token},
                            {"program", session.program},
                            {"pid", session.pid},
                            {"manifest", reader.manifest_checksum()}});
        }
        std::ofstream mark(images + "/" + epoch_file);
        mark << epoch_id << "\n";
        mark.close();
        if (!mark)
            throw CommandError("cannot write '" + images + "/" + epoch_file + "': " + std::strerror(errno));
        write_list(images, epoch_id, false, list);
        server::sync_directory(images);
        // Whatever becomes of us: from now on the server looks what criu does.
        require(control.criu_dumped(criu, root, leaves_running(criu)));
    } catch (...) {
        for (const std::string& folder : made) server::remove_tree(folder);
        try {
            write_list(images, epoch_id, true, json::array());
        } catch (const std::exception&) {
            // the one of the beginning may still be there; what it names is gone in any case
        }
        throw;  // the connection ends, and with it the standstill
    }
    std::cerr << "cricketctl: " << names.size() << (names.size() == 1 ? " session" : " sessions")
              << " saved in " << images << ", epoch " << epoch_id << "\n";
}

// The list of a dump and the epoch it belongs to, checked; null when the dump has no sessions.
json read_list(const std::string& images) {
    const std::string path = images + "/" + sessions_file;
    if (!fs::exists(path)) return {};
    const json body = server::read_sealed(path, sessions_format).body;
    const std::string not_in_it = "the dump in '" + images + "' was not finished, and its programs went on: their sessions are not in it";
    if (body.value("unfinished", false)) throw CommandError(not_in_it);
    const std::string epoch_id = body.at("epoch_id").get<std::string>();
    std::ifstream mark(images + "/" + epoch_file);
    std::string marked;
    mark >> marked;
    if (marked != epoch_id)
        throw CommandError("'" + path + "' is of epoch " + epoch_id + ", the images are of epoch " +
                           (marked.empty() ? "none" : marked));
    for (const json& one : body.at("sessions")) {
        const std::string folder = images + "/" + folder_of(one.at("session").get<std::string>());
        if (!fs::exists(folder)) throw CommandError(not_in_it + " ('" + folder + "' is missing)");
        const server::SnapshotReader reader(folder);
        if (reader.info().checkpoint != epoch_id)
            throw CommandError("'" + folder + "' does not belong to the images: it is of epoch " +
                               (reader.info().checkpoint.empty() ? "none" : reader.info().checkpoint) +
                               ", they are of epoch " + epoch_id);
        if (reader.manifest_checksum() != one.at("manifest"))
            throw CommandError("'" + folder + "/manifest.json' is not the one that '" + path +
                               "' was written with");
    }
    return body;
}

void before_restore(const std::string& images) {
    const json body = read_list(images);
    if (body.is_null()) return;
    ControlClient control = ControlClient::connect(control_socket());
    // What is loaded goes again when criu fails; else it would hold the GPU's memory until it has been parked too long.
    if (const pid_t criu = criu_that_started_us()) require(control.criu_restores(criu));
    std::vector<std::string> loaded;
    try {
        for (const json& one : body.at("sessions"))
            loaded.push_back(server::session_name(
                load_or_keep(control, images + "/" + folder_of(one.at("session").get<std::string>())).id));
    } catch (...) {
        for (const std::string& name : loaded) control.drop(name, true);
        throw;
    }
}

void tell_restored(const std::string& images, bool let_go) {
    const pid_t criu = criu_that_started_us();
    if (!criu || !fs::exists(images + "/" + sessions_file)) return;
    const pid_t root = std::atoi(environment("CRTOOLS_INIT_PID").c_str());
    require(ControlClient::connect(control_socket()).criu_restored(criu, root, let_go));
}

void after_restore(const std::string& images) { tell_restored(images, false); }

void after_resume(const std::string& images) { tell_restored(images, true); }

}  // namespace

bool is_criu_action(int* status) {
    const char* stage = std::getenv("CRTOOLS_SCRIPT_ACTION");
    if (!stage) return false;
    *status = 0;
    void (*action)(const std::string& images) = nullptr;
    if (std::strcmp(stage, "post-dump") == 0) action = after_dump;
    if (std::strcmp(stage, "pre-restore") == 0) action = before_restore;
    if (std::strcmp(stage, "post-restore") == 0) action = after_restore;
    if (std::strcmp(stage, "post-resume") == 0) action = after_resume;
    if (!action) return true;
    ::signal(SIGPIPE, SIG_IGN);
    // criu closes them, and what is opened next must not be taken for them.
    while (::open("/dev/null", O_RDWR) <= STDERR_FILENO) {
    }
    try {
        // criu names it by a descriptor of its own, which means nothing to the server.
        const std::string images = fs::canonical(environment("CRTOOLS_IMAGE_DIR"));
        action(images);
    } catch (const std::exception& error) {
        std::cerr << "cricketctl (" << stage << "): " << error.what() << "\n";
        *status = 1;
    }
    return true;
}

void verify_dump(const std::string& images) {
    const json body = read_list(images);
    for (const json& one : body.at("sessions"))
        server::SnapshotReader(images + "/" + folder_of(one.at("session").get<std::string>())).verify_all();
}

}  // namespace cricket::ctl
