// SPDX-License-Identifier: MIT
#include <climits>
#include <cstdio>
#include <ctime>
#include <filesystem>
#include <iostream>
#include <nlohmann/json.hpp>

#include "command.h"
#include "printable.h"
#include "sealed_json.h"
#include "session_names.h"

namespace cricket::ctl {
namespace {

using server::SessionStatus;

std::string age_text(int64_t seconds) {
    char text[32];
    if (seconds < 0) seconds = 0;
    if (seconds < 3600)
        std::snprintf(text, sizeof text, "%lld:%02lld", static_cast<long long>(seconds / 60),
                      static_cast<long long>(seconds % 60));
    else
        std::snprintf(text, sizeof text, "%lldh%02lldm", static_cast<long long>(seconds / 3600),
                      static_cast<long long>(seconds % 3600 / 60));
    return text;
}

}  // namespace

void show_status(const std::string& socket, bool as_json) {
    const server::ControlStatus status = server::ControlClient::connect(socket).status();
    const int64_t now = std::time(nullptr);
    if (as_json) {
        nlohmann::json sessions = nlohmann::json::array();
        for (const SessionStatus& session : status.sessions) {
            nlohmann::json unsupported = nlohmann::json::array();
            for (const server::UnsupportedUse& use : session.unsupported)
                unsupported.push_back({{"function", use.function}, {"library", use.library}, {"times", use.times}});
            sessions.push_back({{"id", server::session_name(session.id)},
                                {"token", server::token_text(session.token)},
                                {"epoch", server::hex64(session.epoch)},
                                {"pid", session.pid},
                                {"program", session.program},
                                {"state", server::state_name(session.state)},
                                {"device_bytes", session.device_bytes},
                                {"host_bytes", session.host_bytes},
                                {"calls", session.calls},
                                {"started", session.started},
                                {"age_seconds", now - session.started},
                                {"state_seconds", now - session.state_since},
                                {"unsupported", std::move(unsupported)}});
        }
        const nlohmann::json answer = {
            {"server", {{"pid", status.pid}, {"version", status.version}, {"driver", status.driver}}},
            {"sessions", std::move(sessions)}};
        std::cout << answer.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) << "\n";
        return;
    }
    std::printf("server %d, cricket %s, driver %s, %zu session%s\n", status.pid, status.version.c_str(),
                status.driver.c_str(), status.sessions.size(), status.sessions.size() == 1 ? "" : "s");
    if (status.sessions.empty()) return;
    std::printf("%-8s %8s  %-20s %-12s %12s %12s %12s %10s\n", "SESSION", "PID", "PROGRAM", "STATE", "DEVICE",
                "HOST", "CALLS", "AGE");
    for (const SessionStatus& session : status.sessions) {
        std::printf("%-8s %8d  %-20s %-12s %12s %12s %12llu %10s\n", server::session_name(session.id).c_str(),
                    session.pid, session.program.c_str(), server::state_name(session.state),
                    bytes_text(session.device_bytes).c_str(), bytes_text(session.host_bytes).c_str(),
                    static_cast<unsigned long long>(session.calls), age_text(now - session.started).c_str());
        for (const server::UnsupportedUse& use : session.unsupported)
            std::printf("  not supported: %s, used %llu time%s%s%s\n", use.function.c_str(),
                        static_cast<unsigned long long>(use.times), use.times == 1 ? "" : "s",
                        use.library.empty() ? "" : " by ", server::printable(use.library).c_str());
    }
}

std::string describe(const SessionStatus& session) {
    return "session " + server::session_name(session.id) + " (" +
           (session.program.empty() ? "no program yet" : session.program) + ", pid " +
           std::to_string(session.pid) + ")";
}

std::string absolute_path(const std::string& path) {
    if (path.empty()) throw CommandError("the name of a folder or file is empty");
    if (path.size() >= PATH_MAX) throw CommandError("a path of " + std::to_string(path.size()) + " characters is too long: " + path);
    std::filesystem::path result = std::filesystem::absolute(path).lexically_normal();
    return result.has_filename() ? result : result.parent_path();
}

std::string bytes_text(uint64_t bytes) {
    constexpr const char* units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    double value = static_cast<double>(bytes);
    int unit = 0;
    while (value >= 1024 && unit < 4) {
        value /= 1024;
        ++unit;
    }
    char text[32];
    std::snprintf(text, sizeof text, unit == 0 ? "%.0f %s" : "%.1f %s", value, units[unit]);
    return text;
}

void require(const server::OpResult& result) {
    if (!result.ok) throw CommandError(result.error);
}

}  // namespace cricket::ctl
