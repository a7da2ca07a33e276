// SPDX-License-Identifier: MIT
#include "numbered.h"

#include <signal.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <filesystem>
#include <iostream>
#include <optional>

#include "checkpoint_folder.h"
#include "progress.h"
#include "prune.h"
#include "snapshot_store.h"

namespace cricket::ctl {
namespace {

namespace fs = std::filesystem;

constexpr char number_format[] = "%06u";
constexpr size_t most_digits = 9;

std::optional<unsigned> number_of(const std::string& name) {
    unsigned number = 0;
    const char* end = name.data() + name.size();
    const auto parsed = std::from_chars(name.data(), end, number);
    if (name.size() > most_digits || parsed.ec != std::errc() || parsed.ptr != end) return {};
    return number;
}

std::vector<std::string> names_in(const std::string& directory) {
    std::vector<std::string> names;
    std::error_code error;
    for (fs::directory_iterator at(directory, error); !error && at != fs::directory_iterator();
         at.increment(error))
        names.push_back(at->path().filename());
    if (error && error != std::errc::no_such_file_or_directory)
        throw CommandError("cannot read '" + directory + "': " + error.message());
    std::ranges::sort(names);
    return names;
}

// What is wrong with one whose app's half is good, empty when all of it is; reads everything.
std::string damage_of(const std::string& checkpoint, const CheckpointInfo& info) {
    try {
        for (const SavedSession& one : info.sessions) {
            const server::SnapshotReader reader(checkpoint + "/" + one.folder);
            Progress progress("reading all of " + checkpoint);
            reader.verify_all([&](uint64_t done, uint64_t of) { progress.update(done, of); });
        }
        return {};
    } catch (const std::exception& error) {
        return error.what();
    }
}

struct Damaged {
    std::string path, wrong;
};

// For a word in a shell.
std::string quoted(const std::string& text) {
    std::string all = "'";
    for (const char c : text) all += c == '\'' ? std::string("'\\''") : std::string(1, c);
    return all + "'";
}

}  // namespace

std::vector<unsigned> NumberedCheckpoints::numbers() const {
    std::vector<unsigned> found;
    for (const std::string& name : names_in(directory_))
        if (const auto number = number_of(name)) found.push_back(*number);
    std::ranges::sort(found);
    return found;
}

std::vector<std::string> NumberedCheckpoints::set_aside() const {
    std::vector<std::string> found;
    for (const std::string& name : names_in(directory_))
        if (is_set_aside(name)) found.push_back(directory_ + "/" + name);
    return found;
}

std::string NumberedCheckpoints::path(unsigned number) const {
    char name[32];
    std::snprintf(name, sizeof name, number_format, number);
    return directory_ + "/" + name;
}

std::string NumberedCheckpoints::next_path() const {
    unsigned last = 0;
    for (const std::string& name : names_in(directory_))
        if (const auto number = number_of(fs::path(name).stem())) last = std::max(last, *number);
    return path(last + 1);
}

StoreOptions NumberedCheckpoints::next_store(unsigned keep) const {
    const std::vector<unsigned> all = numbers();
    const size_t back = keep > 1 ? 2 : 1;
    StoreOptions store;
    store.series = true;
    if (all.size() < back)
        store.first = true;
    else
        store.base = path(all[all.size() - back]);
    return store;
}

std::vector<std::string> NumberedCheckpoints::remove_all() {
    const std::vector<std::string> kept = set_aside();
    std::error_code ignored;
    for (const std::string& name : names_in(directory_))
        if (!is_set_aside(name)) fs::remove_all(directory_ + "/" + name, ignored);
    if (kept.empty()) fs::remove(directory_, ignored);
    return kept;
}

pid_t NumberedCheckpoints::go_on(const std::string& socket, const RestoreOptions& how,
                                 const std::function<void()>& clear_up) {
    std::vector<Damaged> damaged;
    std::vector<unsigned> all = numbers();
    std::ranges::reverse(all);
    for (const unsigned number : all) {
        RestoreOptions options = how;
        options.directory = path(number);
        CheckpointInfo info;
        std::string wrong;
        try {
            info = check_checkpoint(options.directory);
        } catch (const std::exception& error) {
            wrong = error.what();
        }
        if (wrong.empty()) {
            // Whoever has this number now, it is not ours to end.
            if (::kill(info.pid, 0) == 0 || errno == EPERM)
                throw CommandError(
                    "there is a process " + std::to_string(info.pid) + ", whose number the program in '" +
                    options.directory +
                    "' needs: it may be that program, left by a run that was killed (then: kill " +
                    std::to_string(info.pid) + ", and the same command again)");
            options.checked = &info;
            try {
                restore(socket, options);
            } catch (const std::exception& error) {
                clear_up();
                wrong = damage_of(options.directory, info);
                if (wrong.empty())
                    throw CommandError("'" + options.directory +
                                       "' is whole, but could not be brought back: " + error.what() +
                                       "; nothing of it is lost, and the same command tries again");
            }
        }
        if (!wrong.empty()) {
            std::cerr << "cricketctl: '" << options.directory << "' is damaged and not used: " << wrong
                      << "\n";
            damaged.push_back({options.directory, wrong});
            continue;
        }
        if (damaged.empty()) return info.pid;
        std::cerr << "cricketctl: going on from an older one, '" << options.directory << "' of "
                  << time_text(info.created) << "\n";
        for (const Damaged& one : damaged) {
            std::error_code error;
            fs::rename(one.path, one.path + damaged_suffix, error);
            std::cerr << "cricketctl: '" << one.path << "' is kept"
                      << (error ? " under its name: " + error.message()
                                : " as '" + one.path + damaged_suffix + "'")
                      << "\n";
        }
        return info.pid;
    }
    std::string why;
    for (const Damaged& one : damaged) why += (why.empty() ? "" : "; ") + one.wrong;
    for (const std::string& one : set_aside())
        why += (why.empty() ? "" : "; ") + ("'" + one + "' was found damaged before");
    const std::string job = fs::path(directory_).parent_path();
    throw CommandError("no checkpoint in '" + directory_ +
                       "' is whole, so nothing was begun and nothing changed: " + why +
                       ". To begin anew and keep all that is there: mv " + quoted(job) + " " +
                       quoted(job + damaged_suffix) + ", then the same command");
}

}  // namespace cricket::ctl
