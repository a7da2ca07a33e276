// SPDX-License-Identifier: MIT
// The checkpoints of a long job: numbered, the newest of them that is whole is gone on from. One that is
// damaged is never removed: it keeps its place until an older one runs in its stead, and then gets a name by
// which nothing takes it for good.
#pragma once

#include <sys/types.h>

#include <functional>
#include <string>
#include <vector>

#include "command.h"

namespace cricket::ctl {

class NumberedCheckpoints {
  public:
    explicit NumberedCheckpoints(std::string directory) : directory_(std::move(directory)) {}

    // Whether there is anything to go on from, whole or not.
    bool any() const { return !numbers().empty() || !set_aside().empty(); }
    // Brings back the newest whole one; its program's process id. `how` says all but the directory;
    // `clear_up` ends what an attempt that failed has left. Throws CommandError when there is none, or when
    // one is whole and cannot be brought back.
    pid_t go_on(const std::string& socket, const RestoreOptions& how, const std::function<void()>& clear_up);
    // Where the next is to be, and with which it shares what has not changed. While several are kept, that is
    // not its neighbour: damage to what two have in common must leave another one whole.
    std::string next_path() const;
    StoreOptions next_store(unsigned keep) const;
    // All but those that were set aside, whose paths it returns.
    std::vector<std::string> remove_all();

  private:
    std::vector<unsigned> numbers() const;  // ascending
    std::vector<std::string> set_aside() const;
    std::string path(unsigned number) const;

    const std::string directory_;
};

}  // namespace cricket::ctl
