// SPDX-License-Identifier: MIT
// A checkpoint or a snapshot without one: everything is asked that the real one would ask before anything
// stops, and what it would find in its way later, as far as that can be seen from outside.
#include <sys/statvfs.h>

#include <cstdio>
#include <filesystem>
#include <iostream>
#include <nlohmann/json.hpp>

#include "app_survey.h"
#include "checkpoint_folder.h"
#include "command.h"
#include "criu.h"
#include "expected_times.h"
#include "partial_directory.h"
#include "session_names.h"
#include "snapshot_request.h"

namespace cricket::ctl {
namespace {

using nlohmann::json;
using server::ControlClient;
using server::SessionState;
using server::SessionStatus;

class DryRun {
  public:
    DryRun(std::string what, const DryRunOptions& options) : what_(std::move(what)), options_(options) {}

    // Notes what `step` throws as something that would refuse.
    template <typename Step>
    void attempt(Step&& step) {
        try {
            step();
        } catch (const std::exception& error) {
            refused_.push_back(error.what());
        }
    }
    void look_at_session(ControlClient& control, const std::string& name) {
        const server::ReportResult answer = control.survey(name);
        if (!answer.result.ok) {
            refused_.push_back(answer.result.error);
            return;
        }
        json session = json::parse(answer.report);
        if (options_.without_gpu) session["devices"] = json::array();
        if (options_.without_gpu && !session.value("client_host", false)) refused_.push_back(server::host_memory_is_here);
        for (const json& why : session.at("refused"))
            if (!options_.without_gpu) refused_.push_back(why);
        for (const json& why : session.at("for_now")) for_now_.push_back(why);
        sessions_.push_back(std::move(session));
    }
    void look_at_app(pid_t pid) {
        app_ = survey_app(pid, options_.criu_arguments);
        for (const std::string& why : app_.in_the_way) refused_.push_back("criu would refuse: " + why);
    }
    void look_at_place(const std::string& directory, const char* mark, const SessionStatus& session) {
        rates_ = expected_rates(directory, server::token_text(session.token));
        attempt([&] { server::PartialDirectory::check(directory, mark); });
        struct statvfs status {};
        const std::string parent = std::filesystem::path(directory).parent_path();
        if (::statvfs(parent.c_str(), &status) != 0) return;
        room_ = uint64_t(status.f_bavail) * status.f_frsize;
        if (bytes() > room_)
            refused_.push_back("about " + bytes_text(bytes()) + " would be written, and " + parent +
                               " has room for " + bytes_text(room_));
    }

    // Says it all; throws ExitWith when it would be refused.
    void report(const std::vector<SessionStatus>& sessions) const {
        if (options_.json)
            report_json(sessions);
        else
            report_text(sessions);
        if (!refused_.empty() || !for_now_.empty()) throw ExitWith{Exit::Refused};
    }

  private:
    uint64_t of_devices(const char* key) const {
        uint64_t sum = 0;
        for (const json& session : sessions_)
            for (const json& device : session.value("devices", json::array())) sum += device.at(key).get<uint64_t>();
        return sum;
    }
    // Registered host memory is part of criu's images when the program is there.
    static uint64_t host_bytes(const json& session) {
        return session.value("client_host", false) ? 0 : session.value("host_bytes", uint64_t(0));
    }
    static uint64_t other_bytes(const json& session) {
        uint64_t sum = 0;
        for (const char* key : {"journal_bytes", "image_bytes", "reply_bytes"}) sum += session.value(key, uint64_t(0));
        return sum;
    }
    uint64_t of_all(uint64_t (*part)(const json& session)) const {
        uint64_t sum = 0;
        for (const json& session : sessions_) sum += part(session);
        return sum;
    }
    uint64_t device_bytes() const {
        return of_devices("bytes") + of_devices("arrays") + of_devices("variables");
    }
    uint64_t other_bytes() const { return of_all(other_bytes); }
    uint64_t host_bytes() const { return of_all(host_bytes); }
    uint64_t bytes() const { return device_bytes() + other_bytes() + host_bytes() + app_.bytes(); }
    // Until the content is secured, for which the session stands still, and until it is in the files.
    double secured_seconds() const {
        double seconds = static_cast<double>(other_bytes() + host_bytes()) / rates_.to_host;
        for (const json& session : sessions_)
            for (const json& device : session.value("devices", json::array())) {
                const double needed = device.at("bytes").get<double>();
                seconds += needed / (device.at("free").get<double>() >= needed ? rates_.aside : rates_.to_host);
            }
        return seconds;
    }
    double device_seconds() const {
        return secured_seconds() +
               static_cast<double>(device_bytes() + other_bytes() + host_bytes()) / rates_.write;
    }
    double app_seconds() const {
        return app_.processes ? rates_.criu_seconds + static_cast<double>(app_.bytes()) / rates_.app : 0;
    }
    // Both halves are saved at the same time.
    double pause() const { return std::max(secured_seconds(), app_seconds()); }
    double seconds() const { return std::max(device_seconds(), app_seconds()); }

    void report_json(const std::vector<SessionStatus>& sessions) const {
        json names = json::array();
        for (const SessionStatus& one : sessions)
            names.push_back({{"session", server::session_name(one.id)}, {"program", one.program}, {"pid", one.pid}});
        const json answer = {{"sessions", std::move(names)},
                             {"refused", refused_},
                             {"for_now", for_now_},
                             {"bytes",
                              {{"device", device_bytes()},
                               {"host", host_bytes()},
                               {"other", other_bytes()},
                               {"application", app_.bytes()},
                               {"all", bytes()}}},
                             {"seconds",
                              {{"pause", pause()},
                               {"device", device_seconds()},
                               {"application", app_seconds()},
                               {"all", seconds()}}},
                             {"times_from", rates_.from},
                             {"processes", app_.processes},
                             {"room", room_},
                             {"surveys", sessions_}};
        std::cout << answer.dump(2, ' ', false, json::error_handler_t::replace) << "\n";
    }

    void report_text(const std::vector<SessionStatus>& sessions) const {
        for (size_t i = 0; i < sessions.size(); ++i) std::cout << (i ? " and " : "") << describe(sessions[i]);
        std::cout << ": a " << what_
                  << (refused_.empty()
                          ? for_now_.empty() ? " would be taken\n" : " would be refused at this moment\n"
                          : " would be refused\n");
        for (const std::string& why : refused_) std::cout << "  refused: " << why << "\n";
        for (const std::string& why : for_now_) std::cout << "  not now: " << why << "\n";
        for (const json& session : sessions_) {
            for (const json& device : session.value("devices", json::array()))
                std::cout << "  device " << device.at("device") << "     " << bytes_text(device.at("bytes"))
                          << " in " << device.at("allocations") << " allocations, arrays "
                          << bytes_text(device.at("arrays")) << ", variables "
                          << bytes_text(device.at("variables")) << " (" << device.at("name").get<std::string>()
                          << ", " << bytes_text(device.at("free")) << " of " << bytes_text(device.at("total"))
                          << " free)\n";
            std::cout << "  host memory  " << bytes_text(session.value("host_bytes", uint64_t(0))) << " registered"
                      << (session.value("client_host", false) ? ", saved with the program\n" : "\n");
        }
        if (app_.processes)
            std::cout << "  program      " << bytes_text(app_.bytes()) << " in " << app_.processes
                      << (app_.processes == 1 ? " process\n" : " processes\n");
        std::cout << "  written      about " << bytes_text(bytes());
        if (room_) std::cout << "; room for " << bytes_text(room_);
        char times[200];
        std::snprintf(times, sizeof times, "\n  complete     after about %.2f s%s\n", seconds(),
                      app_.processes ? ", when what runs on the GPU is over" : "");
        if (app_.processes && options_.leave_running)
            std::snprintf(times, sizeof times,
                          "\n  pause        about %.2f s (criu %.2f s, device %.2f s), when what runs on the "
                          "GPU is over\n"
                          "  complete     after about %.2f s\n",
                          pause(), app_seconds(), secured_seconds(), seconds());
        std::cout << times << "  (times: " << rates_.from << ")\n";
    }

    const std::string what_;
    const DryRunOptions& options_;
    std::vector<std::string> refused_, for_now_;
    std::vector<json> sessions_;  // their surveys
    AppSurvey app_;
    uint64_t room_ = 0;
    ExpectedRates rates_;
};

}  // namespace

void dry_checkpoint(const std::string& socket, const DryRunOptions& options) {
    ControlClient control = ControlClient::connect(socket);
    const Tree tree = find_tree(control, options.target);
    DryRun run(options.leave_running ? "checkpoint that leaves it running" : "checkpoint", options);
    run.attempt([] { find_criu(); });
    run.attempt([&] { run.look_at_app(tree.root); });
    for (const SessionStatus& session : tree.sessions) run.look_at_session(control, server::session_name(session.id));
    run.look_at_place(options.directory, checkpoint_file, tree.sessions[0]);
    run.report(tree.sessions);
}

void dry_snapshot(const std::string& socket, const DryRunOptions& options) {
    ControlClient control = ControlClient::connect(socket);
    const SessionStatus session = find_session(control, options.target);
    DryRun run("snapshot", options);
    run.look_at_session(control, server::session_name(session.id));
    if (session.state != SessionState::Parked && session.state != SessionState::Quiesced)
        run.attempt([&] {
            throw CommandError("process " + std::to_string(session.pid) +
                               " is running: dump it with criu first, or use cricketctl checkpoint");
        });
    run.look_at_place(options.directory, "manifest.json", session);
    run.report({session});
}

}  // namespace cricket::ctl
