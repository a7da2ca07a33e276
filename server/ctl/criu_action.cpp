// SPDX-License-Identifier: MIT
#include "criu_action.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <nlohmann/json.hpp>

#include "app_survey.h"
#include "checkpoint_folder.h"
#include "command.h"
#include "cricket/unique_fd.h"
#include "partial_directory.h"
#include "paths.h"
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

pid_t tracer_of(pid_t pid) {
    std::ifstream status("/proc/" + std::to_string(pid) + "/status");
    for (std::string line; std::getline(status, line);)
        if (line.starts_with("TracerPid:")) return std::atoi(line.c_str() + 10);
    return 0;
}

bool leaves_running(pid_t criu) {
    std::ifstream words("/proc/" + std::to_string(criu) + "/cmdline");
    for (std::string word; std::getline(words, word, '\0');)
        if (word == "-R" || word == "--leave-running" || word == "-s" || word == "--leave-stopped")
            return true;
    return false;
}

// Goes on as a process of its own until criu has let the program go on or ended it. A session whose program
// was ended is in the images; dropping it frees its GPU, and it does not execute what the images will send
// again.
void keep_until_decided(ControlClient& control, const std::vector<std::string>& sessions, pid_t pid) {
    const pid_t criu = tracer_of(pid);
    if (criu == 0) return;  // nobody would tell
    UniqueFd program(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
    UniqueFd tracer(static_cast<int>(::syscall(SYS_pidfd_open, criu, 0)));
    if (!program || !tracer) return;
    const bool stays = leaves_running(criu);
    const pid_t child = ::fork();
    if (child != 0) {
        if (child > 0) ::_exit(0);  // criu goes on; the connection lives in the child
        return;
    }
    ::setsid();
    const UniqueFd null(::open("/dev/null", O_RDWR | O_CLOEXEC));
    for (const int fd : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) ::dup2(null.get(), fd);
    bool ended = false;
    for (;;) {
        pollfd waiting[] = {{program.get(), POLLIN, 0}, {tracer.get(), POLLIN, 0}};
        ::poll(waiting, 2, 1);
        ended = waiting[0].revents != 0;
        if (ended || waiting[1].revents || tracer_of(pid) != criu) break;
    }
    // criu lets go of a program that it ends, too, which is over a moment later.
    if (!ended && !stays) {
        pollfd waiting{program.get(), POLLIN, 0};
        ended = ::poll(&waiting, 1, 1000) > 0;
    }
    for (const std::string& session : sessions) {
        try {
            if (ended)
                control.drop(session, true);
            else
                control.resume(session);
        } catch (const std::exception&) {
            // The server resumes what this connection has stopped.
        }
    }
    ::_exit(0);
}

void after_dump(const std::string& images) {
    const pid_t root = std::atoi(environment("CRTOOLS_INIT_PID").c_str());
    const std::vector<pid_t> tree = process_tree(root);
    ControlClient control = ControlClient::connect(control_socket());
    std::vector<SessionStatus> found;
    for (SessionStatus& session : control.status().sessions) {
        if (std::ranges::find(tree, session.pid) == tree.end() || session.state == SessionState::Parked)
            continue;
        if (session.state != SessionState::Running)
            throw CommandError(describe(session) +
                               " is not running; cricketctl resume lets a stopped one go on");
        found.push_back(std::move(session));
    }
    ::unlink((images + "/" + sessions_file).c_str());  // of an older dump in the same folder
    if (found.empty()) return;

    const std::string epoch_id = new_epoch_id();
    std::vector<std::string> names, made;
    json list = json::array();
    try {
        for (const SessionStatus& session : found) {
            const std::string name = server::session_name(session.id),
                              token = server::token_text(session.token);
            require(control.quiesce(name, quiesce_ms, false));
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
        server::write_sealed(images + "/" + sessions_file, {{"format", sessions_format},
                                                            {"kind", "cricket sessions of a dump"},
                                                            {"epoch_id", epoch_id},
                                                            {"sessions", std::move(list)}});
        server::sync_directory(images);
    } catch (...) {
        for (const std::string& folder : made) server::remove_tree(folder);
        throw;  // the connection ends, and with it the standstill
    }
    std::cerr << "cricketctl: " << names.size() << (names.size() == 1 ? " session" : " sessions")
              << " saved in " << images << ", epoch " << epoch_id << "\n";
    keep_until_decided(control, names, root);
}

// The list of a dump and the epoch it belongs to, checked; null when the dump has no sessions.
json read_list(const std::string& images) {
    const std::string path = images + "/" + sessions_file;
    if (!fs::exists(path)) return {};
    const json body = server::read_sealed(path, sessions_format).body;
    const std::string epoch_id = body.at("epoch_id").get<std::string>();
    std::ifstream mark(images + "/" + epoch_file);
    std::string marked;
    mark >> marked;
    if (marked != epoch_id)
        throw CommandError("'" + path + "' is of epoch " + epoch_id + ", the images are of epoch " +
                           (marked.empty() ? "none" : marked));
    for (const json& one : body.at("sessions")) {
        const std::string folder = images + "/" + folder_of(one.at("session").get<std::string>());
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

}  // namespace

bool is_criu_action(int* status) {
    const char* stage = std::getenv("CRTOOLS_SCRIPT_ACTION");
    if (!stage) return false;
    *status = 0;
    const bool dump = std::strcmp(stage, "post-dump") == 0, restore = std::strcmp(stage, "pre-restore") == 0;
    if (!dump && !restore) return true;
    ::signal(SIGPIPE, SIG_IGN);
    // criu closes them, and what is opened next must not be taken for them.
    while (::open("/dev/null", O_RDWR) <= STDERR_FILENO) {
    }
    try {
        // criu names it by a descriptor of its own, which means nothing to the server.
        const std::string images = fs::canonical(environment("CRTOOLS_IMAGE_DIR"));
        if (dump)
            after_dump(images);
        else
            before_restore(images);
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
