// SPDX-License-Identifier: MIT
#include "series.h"

#include <algorithm>
#include <filesystem>
#include <future>
#include <iostream>
#include <vector>

#include "checkpoint_folder.h"
#include "progress.h"
#include "prune.h"
#include "sealed_json.h"
#include "session_names.h"
#include "snapshot_store.h"

namespace cricket::ctl {
namespace {

namespace fs = std::filesystem;
using server::SnapshotState;

constexpr auto look_again = std::chrono::milliseconds(20);
constexpr char manifest[] = "/manifest.json";

std::string seconds(uint64_t us) {
    char text[32];
    std::snprintf(text, sizeof text, us < 1'000'000 ? "%.1f ms" : "%.2f s", static_cast<double>(us) / (us < 1'000'000 ? 1e3 : 1e6));
    return text;
}

// Itself, or those of a checkpoint, its first session's first.
std::vector<std::string> snapshots_in(const std::string& directory) {
    if (fs::exists(directory + manifest)) return {directory};
    std::vector<std::string> found;
    for (std::string next = directory + "/" + gpu_folder(0); fs::exists(next + manifest); next = directory + "/" + gpu_folder(found.size()))
        found.push_back(next);
    return found;
}

bool is_of(const std::string& snapshot, const std::string& session) {
    try {
        return server::read_sealed(snapshot + manifest, server::snapshot_format, server::oldest_snapshot_format).body.value("session", "") ==
               session;
    } catch (const std::exception&) {
        return false;  // nothing that could be shared
    }
}

// The newest snapshot of the session beside `result`, or in its place; empty when there is none.
std::string newest_beside(const std::string& result, const std::string& session) {
    std::vector<std::pair<fs::file_time_type, std::string>> found;
    std::error_code error;
    for (const auto& entry : fs::directory_iterator(fs::path(result).parent_path(), error)) {
        const std::string name = entry.path().filename();
        if (name.find(".partial-") != std::string::npos || is_set_aside(name)) continue;
        for (const std::string& folder : snapshots_in(entry.path())) {
            std::error_code missing;
            const auto time = fs::last_write_time(folder + manifest, missing);
            if (!missing) found.push_back({time, folder});
        }
    }
    std::ranges::sort(found, std::greater());
    for (const auto& [time, folder] : found)
        if (is_of(folder, session)) return folder;
    return {};
}

}  // namespace

std::string gpu_half(const std::string& directory, const std::string& session_token) {
    const std::vector<std::string> all = snapshots_in(directory);
    if (all.empty()) throw CommandError("'" + directory + "' is neither a snapshot nor a checkpoint");
    const auto own = std::ranges::find_if(all, [&](const std::string& one) { return is_of(one, session_token); });
    return own == all.end() ? all[0] : *own;
}

server::SnapshotRequest snapshot_request(const StoreOptions& options, const std::string& session_token,
                                         const std::string& directory, const std::string& result) {
    server::SnapshotRequest request;
    request.directory = directory;
    request.series = options.series || !options.base.empty();
    request.compress = options.compress;
    if (!options.base.empty())
        request.base = gpu_half(options.base, session_token);
    else if (options.series && !options.first)
        request.base = newest_beside(result, session_token);
    return request;
}

std::string describe(const SnapshotState& state) {
    std::string text = bytes_text(state.total) + " in " + seconds(state.complete) + ", of which the program stood still " +
                       seconds(state.secured) + "; " + bytes_text(state.written) + " written";
    if (state.zeros) text += ", " + bytes_text(state.zeros) + " zero";
    if (state.shared) text += ", " + bytes_text(state.shared) + " shared with the one before";
    return text;
}

void snapshot(const std::string& socket, const std::string& target, const std::string& directory, const StoreOptions& options,
              bool live) {
    server::ControlClient control = server::ControlClient::connect(socket);
    std::string token;
    if (options.series || !options.base.empty()) token = server::token_text(find_session(control, target).token);
    server::SnapshotRequest request = snapshot_request(options, token, directory, directory);
    request.live = live;
    SnapshotState state = control.begin_snapshot(target, request);
    Progress progress("writing " + directory);
    const uint64_t id = state.id;
    if (state.error.empty()) {
        // Asked for before it ends: a session that is over goes as soon as its snapshot is complete.
        std::future<SnapshotState> complete = std::async(std::launch::async, [&] {
            try {
                return server::ControlClient::connect(socket).wait_snapshot(target, id);
            } catch (const std::exception& error) {
                SnapshotState failed;
                failed.error = error.what();
                return failed;
            }
        });
        while (complete.wait_for(look_again) != std::future_status::ready) {
            const SnapshotState now = control.snapshot_state(target, id);
            if (now.error.empty()) progress.update(now.done, now.total);
        }
        state = complete.get();
    }
    progress.end();
    if (!state.error.empty()) throw CommandError(state.error);
    std::cout << "saved in " << directory << ": " << describe(state) << "\n";
}

}  // namespace cricket::ctl
