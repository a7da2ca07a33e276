// SPDX-License-Identifier: MIT
// How fast a checkpoint will be, for --dry-run: as the last one of the session beside it was, else as what is measured there.
#pragma once

#include <string>

namespace cricket::ctl {

struct ExpectedRates {          // bytes a second
    double aside = 1e12;        // a copy of device memory on the device
    double to_host = 2e10;      // where there is no room for that
    double write = 4e9;         // into files, by several threads
    double app = 0.75e9;        // criu's images
    double criu_seconds = 0.05; // of criu, whatever it writes
    std::string from = "assumed";
};

// `directory`: where the checkpoint will be; `session`: its token. Leaves nothing behind, takes a fifth of a second at most.
ExpectedRates expected_rates(const std::string& directory, const std::string& session);

}  // namespace cricket::ctl
