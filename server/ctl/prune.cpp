// SPDX-License-Identifier: MIT
#include "prune.h"

#include <sys/stat.h>

#include <algorithm>
#include <cstdio>
#include <ctime>
#include <filesystem>
#include <iostream>
#include <map>
#include <nlohmann/json.hpp>
#include <vector>

#include "checkpoint_folder.h"
#include "command.h"
#include "partial_directory.h"
#include "sealed_json.h"
#include "snapshot_store.h"

namespace cricket::ctl {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

struct Entry {
    std::string name, path, session, program, wrong;
    bool whole = false;  // a checkpoint, not a snapshot alone
    bool aside = false;  // found damaged, and kept
    int64_t created = 0;
    uint64_t bytes = 0, own = 0;  // on the disk; what nothing else has by a hard link
};

void add_sizes(Entry* entry) {
    std::error_code error;
    for (auto it = fs::recursive_directory_iterator(entry->path, error);
         !error && it != fs::recursive_directory_iterator(); it.increment(error)) {
        struct stat status {};
        if (::lstat(it->path().c_str(), &status) != 0 || !S_ISREG(status.st_mode)) continue;
        const uint64_t bytes = static_cast<uint64_t>(status.st_blocks) * 512;
        entry->bytes += bytes;
        if (status.st_nlink == 1) entry->own += bytes;
    }
}

// Snapshots and checkpoints in the folder, oldest first.
std::vector<Entry> entries_of(const std::string& directory) {
    std::error_code error;
    fs::directory_iterator all(directory, error);
    if (error) throw CommandError("cannot read '" + directory + "': " + error.message());
    std::vector<Entry> found;
    for (const auto& item : all) {
        Entry entry;
        entry.name = item.path().filename();
        entry.path = item.path();
        if (server::PartialDirectory::is_partial(entry.name)) continue;
        entry.aside = is_set_aside(entry.name);
        entry.whole = fs::exists(item.path() / checkpoint_file, error);
        const std::string snapshot = entry.path + (entry.whole ? "/gpu" : "");
        const std::string manifest = snapshot + "/manifest.json";
        if (!entry.whole && !entry.aside && !fs::exists(manifest, error)) continue;
        try {
            const json body =
                server::read_sealed(manifest, server::snapshot_format, server::oldest_snapshot_format).body;
            entry.session = body.at("session").get<std::string>();
            entry.created = body.at("created").get<int64_t>();
            entry.program = body.at("meta").value("program", "");
        } catch (const std::exception& why) {
            entry.wrong = why.what();
        }
        if (entry.aside) entry.wrong = "found damaged by a cricketctl run, which kept it" + (entry.wrong.empty() ? "" : ": " + entry.wrong);
        add_sizes(&entry);
        found.push_back(std::move(entry));
    }
    std::ranges::sort(found, [](const Entry& a, const Entry& b) {
        return std::tie(a.created, a.name) < std::tie(b.created, b.name);
    });
    return found;
}

}  // namespace

std::string time_text(int64_t seconds) {
    const std::time_t time = seconds;
    std::tm local{};
    char text[32] = "?";
    if (seconds && ::localtime_r(&time, &local)) std::strftime(text, sizeof text, "%F %T", &local);
    return text;
}

void list_series(const std::string& directory, bool as_json) {
    const std::vector<Entry> entries = entries_of(directory);
    if (as_json) {
        json list = json::array();
        for (const Entry& entry : entries)
            list.push_back({{"name", entry.name},
                            {"kind", entry.whole ? "checkpoint" : "snapshot"},
                            {"session", entry.session},
                            {"program", entry.program},
                            {"created", entry.created},
                            {"bytes", entry.bytes},
                            {"own_bytes", entry.own},
                            {"wrong", entry.wrong}});
        std::cout << list.dump(2, ' ', false, json::error_handler_t::replace) << "\n";
        return;
    }
    std::printf("%-24s %-10s %-8s  %-16s %-19s %12s %12s\n", "NAME", "KIND", "SESSION", "PROGRAM", "TAKEN",
                "ON DISK", "ITS OWN");
    for (const Entry& entry : entries)
        if (entry.wrong.empty())
            std::printf("%-24s %-10s %-8s  %-16s %-19s %12s %12s\n", entry.name.c_str(),
                        entry.whole ? "checkpoint" : "snapshot", entry.session.substr(0, 8).c_str(),
                        entry.program.c_str(), time_text(entry.created).c_str(),
                        bytes_text(entry.bytes).c_str(), bytes_text(entry.own).c_str());
        else
            std::printf("%-24s cannot be read: %s\n", entry.name.c_str(), entry.wrong.c_str());
}

void prune_series(const PruneOptions& options) {
    std::vector<Entry> entries = entries_of(options.directory);
    std::ranges::reverse(entries);  // the newest first
    std::map<std::string, unsigned> kept;
    unsigned removed = 0;
    uint64_t freed = 0;
    std::vector<std::string> unreadable;
    for (const Entry& entry : entries) {
        if (entry.aside) continue;
        if (!entry.wrong.empty()) {
            unreadable.push_back(entry.wrong);
            continue;
        }
        if (kept[entry.session] < options.keep) {
            ++kept[entry.session];
            continue;
        }
        std::cout << (options.dry_run ? "would remove " : "removed ") << entry.path << " ("
                  << time_text(entry.created) << ", " << bytes_text(entry.own) << " of its own)\n";
        // Under its name there is the whole of it or nothing, whenever this ends.
        if (!options.dry_run) server::discard_directory(entry.path);
        ++removed;
        freed += entry.own;
    }
    if (!options.dry_run) removed += server::remove_abandoned(options.directory);
    std::cout << removed << (removed == 1 ? " folder, " : " folders, ") << bytes_text(freed)
              << (options.dry_run ? " would be freed at least\n" : " freed at least\n");
    if (!unreadable.empty()) {
        std::string all;
        for (const std::string& one : unreadable) all += (all.empty() ? "" : "; ") + one;
        throw CommandError("kept, since it cannot be read: " + all);
    }
}

}  // namespace cricket::ctl
