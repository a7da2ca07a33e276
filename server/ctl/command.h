// SPDX-License-Identifier: MIT
// The commands of cricketctl. Each returns when it is done and throws when it is not.
#pragma once

#include <stdexcept>
#include <string>
#include <vector>

#include "control_client.h"

namespace cricket::ctl {

struct CheckpointInfo;

// One clear line for the user.
struct CommandError : std::runtime_error {
    using std::runtime_error::runtime_error;
};

// What cricketctl exits with, beside 0 (done) and what CLI11 says of a wrong command line.
enum class Exit : int {
    NotDone = 1,  // and why is on stderr; nothing was changed
    Damaged = 2,  // verify: the data is not what it should be, or the session does not answer as it should
    Refused = 3,  // --dry-run: it would be refused
};
struct ExitWith {
    Exit status;
    std::string why{};  // for stderr; empty: all is said
};

// Throws what went wrong, if something did.
void require(const server::OpResult& result);

struct StoreOptions {
    std::string base;       // a snapshot or checkpoint; empty: none
    bool series = false;    // the newest of the session beside the new one is the base, and it can be one itself
    bool first = false;     // of a series, but shares with none
    unsigned compress = 0;  // level of zstd; 0: none
};

struct CheckpointOptions {
    std::string target, directory;
    bool leave_running = false;
    bool without_gpu = false;  // the application's half alone
    StoreOptions store;
    uint32_t timeout = 120;  // seconds until what runs on the GPU must be over
    std::vector<std::string> criu_arguments;
};

struct DryRunOptions {
    std::string target, directory;  // directory: may be empty
    bool leave_running = false, json = false;
    std::vector<std::string> criu_arguments;
    bool without_gpu = false;
};

void show_status(const std::string& socket, bool as_json);
// Say what a checkpoint or a snapshot would be; throw ExitWith when it would be refused.
void dry_checkpoint(const std::string& socket, const DryRunOptions& options);
void dry_snapshot(const std::string& socket, const DryRunOptions& options);
void checkpoint(const std::string& socket, const CheckpointOptions& options);
struct RestoreOptions {
    std::string directory;
    std::string devices{};     // CUDA_VISIBLE_DEVICES for the session in place of the one it had; empty: as it was
    bool truncate = false;     // what the program has written to its files since is cut off: it will write it again
    bool without_gpu = false;  // nothing of what it had in the GPU
    std::vector<std::string> criu_arguments{};
    const CheckpointInfo* checked = nullptr;  // what check_checkpoint() has just said of the directory; null: it is yet to be asked
};
void restore(const std::string& socket, const RestoreOptions& options);
// Loads a snapshot, unless its session is here already, parked and as it was then: from an attempt before. Throws.
server::SessionStatus load_or_keep(server::ControlClient& control, const std::string& snapshot);
// A snapshot, or a checkpoint with both halves: reads everything.
void verify(const std::string& directory);
// A session against the snapshot it came from, or that in `directory`; stops it for as long as that takes.
void verify_live(const std::string& socket, const std::string& target, std::string directory, bool as_json);

// The session that SESSION, a token or a PID names; throws when there is none, or several.
server::SessionStatus find_session(server::ControlClient& control, const std::string& target);
// Of the sessions of a process and all below it, those whose program is there: parked ones, too, that a restored program belongs to
// which has not called CUDA since. Such a program comes to its session with its next call.
std::vector<server::SessionStatus> sessions_below(server::ControlClient& control, pid_t root);
// Throws why `session`, of these, cannot be saved now, and what helps.
void require_saveable(const server::SessionStatus& session);
// A process with all below it, and the sessions of these, at least one: what criu dumps at once.
struct Tree {
    pid_t root = 0;
    std::vector<server::SessionStatus> sessions;
};
// That of a PID, or of a SESSION's own process; throws what is in the way of stopping it.
Tree find_tree(server::ControlClient& control, const std::string& target);
// Throws if another process of the tree has a session by now.
void check_no_other(server::ControlClient& control, const Tree& tree);
std::string bytes_text(uint64_t bytes);  // "1.5 GiB"
std::string absolute_path(const std::string& path);
std::string describe(const server::SessionStatus& session);  // "session s7 (counter, pid 4711)"

}  // namespace cricket::ctl
