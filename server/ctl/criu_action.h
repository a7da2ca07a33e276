// SPDX-License-Identifier: MIT
// cricketctl as criu's --action-script, for those who drive criu themselves:
//
//     criu dump -t PID -D IMG --action-script /usr/bin/cricketctl
//     criu restore -D IMG --action-script /usr/bin/cricketctl
//
// When the dump is complete and its programs still stand still, each program's session is saved into IMG/cricket-TOKEN, and
// IMG/cricket-sessions.json names them. Before the restore they are loaded. A script that fails makes criu let the programs
// go on, or begin none. The server is found by CRICKET_SOCKET of criu's environment, or as always.
#pragma once

#include <string>

namespace cricket::ctl {

inline constexpr char sessions_file[] = "cricket-sessions.json";

// To be called early in main(), behind is_action_script(): true when criu runs this process; `status` is then its exit
// status. What it says goes to stderr, which is criu's.
bool is_criu_action(int* status);

// Reads and checks everything that belongs to a dump in criu's folder; for `cricketctl verify`.
void verify_dump(const std::string& images);

}  // namespace cricket::ctl
