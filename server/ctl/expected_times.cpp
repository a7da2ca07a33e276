// SPDX-License-Identifier: MIT
#include "expected_times.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <thread>
#include <vector>

#include "checkpoint_folder.h"
#include "cricket/unique_fd.h"
#include "sealed_json.h"

namespace cricket::ctl {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using Clock = std::chrono::steady_clock;

constexpr size_t piece_bytes = 1u << 20;
constexpr uint64_t most_bytes = 48u << 20;  // a thread
constexpr auto longest = std::chrono::milliseconds(80);
constexpr unsigned most_threads = 4;
constexpr double criu_rate = 1.1e9;  // what criu itself can do, where writing costs nothing
constexpr uint64_t telling_bytes = 4u << 20;  // less says more of the beginning than of the rate

double seconds_since(Clock::time_point began) { return std::chrono::duration<double>(Clock::now() - began).count(); }

// Writes into a file without a name and says how fast that was; 0: it cannot be done here.
double write_rate(const std::string& folder, unsigned threads) {
    std::atomic<uint64_t> written{0};
    const auto began = Clock::now();
    const auto work = [&] {
        const UniqueFd file(::open(folder.c_str(), O_TMPFILE | O_WRONLY | O_CLOEXEC, 0600));
        std::vector<char> piece(piece_bytes, 'x');
        for (uint64_t mine = 0; file && mine < most_bytes && Clock::now() - began < longest; mine += piece_bytes) {
            if (::write(file.get(), piece.data(), piece.size()) != static_cast<ssize_t>(piece.size())) break;
            written += piece_bytes;
        }
        if (file) ::fdatasync(file.get());
    };
    std::vector<std::thread> others;
    for (unsigned i = 1; i < threads; ++i) others.emplace_back(work);
    work();
    for (std::thread& other : others) other.join();
    return static_cast<double>(written) / std::max(seconds_since(began), 1e-6);
}

// What the newest checkpoint of the session beside `directory` took.
json newest_took(const std::string& directory, const std::string& session, std::string* name) {
    json newest;
    int64_t created = -1;
    std::error_code error;
    for (const auto& entry : fs::directory_iterator(fs::path(directory).parent_path(), error)) {
        const fs::path file = entry.path() / checkpoint_file;
        if (!fs::exists(file, error)) continue;
        try {
            const json body = read_checkpoint_list(entry.path());
            const std::vector<SavedSession> saved = sessions_in(body);
            if (std::ranges::find(saved, session, &SavedSession::token) == saved.end() || body.value("created", int64_t(0)) < created ||
                !body.contains("took"))
                continue;
            created = body.at("created");
            newest = body.at("took");
            *name = entry.path().filename();
        } catch (const std::exception&) {
            continue;  // no checkpoint, or a damaged one: list and verify say so
        }
    }
    return newest;
}

}  // namespace

ExpectedRates expected_rates(const std::string& directory, const std::string& session) {
    ExpectedRates rates;
    const std::string folder = fs::path(directory).parent_path();
    const double one = write_rate(folder, 1);
    const double several = write_rate(folder, std::clamp(std::thread::hardware_concurrency(), 1u, most_threads));
    if (one > 0 && several > 0) {
        rates.write = std::max(one, several);
        rates.app = 1 / (1 / criu_rate + 1 / one);
        rates.from = "measured by writing there";
    }
    std::string name;
    const json took = newest_took(directory, session, &name);
    if (took.is_null()) return rates;
    const double device = took.value("device_bytes", 0.0), app = took.value("app_bytes", 0.0), criu = took.value("criu", 0.0),
                 secured = took.value("secured", 0.0), complete = took.value("complete", 0.0);
    if (app > telling_bytes && criu > rates.criu_seconds) rates.app = app / (criu - rates.criu_seconds / 2);
    if (device > telling_bytes && complete > secured) rates.write = device / (complete - secured);
    if (device > telling_bytes && secured > 0) rates.aside = rates.to_host = device / secured;
    rates.from = "as " + name + " took";
    return rates;
}

}  // namespace cricket::ctl
