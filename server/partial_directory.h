// SPDX-License-Identifier: MIT
// A folder that comes into being wholly or not at all: filled beside its place, then renamed into it.
#pragma once

#include <stdexcept>
#include <string>

#include "cricket/unique_fd.h"

namespace cricket::server {

struct DirectoryError : std::runtime_error {
    using std::runtime_error::runtime_error;
};

// All members throw DirectoryError. The partial folder is locked (flock) while its maker lives: those that
// nobody holds are removed by the next maker for the same target.
class PartialDirectory {
  public:
    // `target` must not exist, be empty, or contain a file `mark`, which says that it is one of ours to
    // replace.
    PartialDirectory(const std::string& target, const std::string& mark);
    // Whether it could be made, without making anything.
    static void check(const std::string& target, const std::string& mark);
    ~PartialDirectory();  // removes what was not published
    PartialDirectory(const PartialDirectory&) = delete;

    // Whether a folder has the name of one that is being made, or was.
    static bool is_partial(const std::string& name);

    const std::string& target() const { return target_; }
    const std::string& path() const { return path_; }
    // A descriptor whose duplicates hold the folder, too: for programs that write there.
    int hold() const { return fd_.get(); }
    // Syncs the folder's entries (file contents are their writers' business) and puts it in place of the
    // target.
    void publish();

  private:
    PartialDirectory() = default;
    void place(const std::string& target, const std::string& mark);
    void check_target() const;
    std::string target_, mark_, parent_, path_;
    UniqueFd fd_;
};

// Removes a whole folder so that under its name there is all of it or nothing. Throws DirectoryError.
void discard_directory(const std::string& path);
// Removes what makers of `target` that live no more left half-made.
void remove_half_made(const std::string& target) noexcept;
// Removes one such folder by its own name. False when somebody writes there still, but can write no more from now on.
bool end_half_made(const std::string& partial) noexcept;
// Removes what makers in `parent` that live no more left half-made (or half-removed); how many that were.
unsigned remove_abandoned(const std::string& parent);
void remove_tree(const std::string& path) noexcept;
void sync_directory(const std::string& path);

}  // namespace cricket::server
