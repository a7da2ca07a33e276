// SPDX-License-Identifier: MIT
#include "halves.h"

#include <algorithm>
#include <chrono>
#include <thread>

#include "progress.h"
#include "series.h"
#include "session_names.h"

namespace cricket::ctl {
namespace {

using server::ControlClient;
using server::OpResult;
using server::SessionStatus;
using server::SnapshotPhase;
using server::SnapshotState;
using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

constexpr auto look_again = 20ms;
// For several sessions to stop at once; longer each time.
constexpr std::chrono::milliseconds first_attempt = 200ms, longest_attempt = 10s;

}  // namespace

AskedSession::AskedSession(const std::string& socket, const SessionStatus& of, Interrupts& interrupts)
    : session(of), name(server::session_name(of.id)), control(ControlClient::connect(socket)), ends(interrupts, Interrupts::Second, control) {}

// The kernels of one session may wait for those of another, as NCCL's do: where one stops before its call and the other behind it,
// neither becomes idle. Then all go on for a while, and stop elsewhere.
Quiesced::Quiesced(const std::string& socket, const std::vector<SessionStatus>& sessions, uint32_t timeout, Interrupts& interrupts)
    : interrupts_(interrupts) {
    for (const SessionStatus& session : sessions) all_.emplace_back(socket, session, interrupts);
    const auto end = Clock::now() + std::chrono::seconds(timeout);
    std::chrono::milliseconds patience = all_.size() == 1 ? std::chrono::seconds(timeout) : first_attempt;
    for (;;) {
        const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(end - Clock::now());
        std::string busy;
        attempt(static_cast<uint32_t>((all_.size() == 1 ? patience : std::clamp(left, 1ms, patience)).count()), &busy);
        if (busy.empty()) return;
        resume();
        if (all_.size() == 1) throw CommandError(busy);
        if (Clock::now() + patience > end)
            throw CommandError("the sessions could not be stopped at the same time in " + std::to_string(timeout) + " s: " + busy);
        interrupts_.wait(patience);
        patience = std::min<std::chrono::milliseconds>(2 * patience, longest_attempt);
    }
}

// `busy`: what has not become idle in this time. Throws what will not get better by waiting.
void Quiesced::attempt(uint32_t milliseconds, std::string* busy) {
    const auto stop = [&](One& one) {
        const Interrupts::Ends ends(interrupts_, Interrupts::First, one.control);
        const auto began = Clock::now();
        const OpResult result = one.control.quiesce(one.name, milliseconds, false);
        one.stopped = result.ok;
        return std::pair(result, Clock::now() - began >= std::chrono::milliseconds(milliseconds));
    };
    std::vector<std::future<std::pair<OpResult, bool>>> stopping;
    for (One& one : all_) stopping.push_back(std::async(std::launch::async, stop, std::ref(one)));
    for (const auto& one : stopping) one.wait();
    interrupts_.check();  // which may have ended a connection that had just had its answer
    auto of = all_.begin();
    for (auto& one : stopping) {
        const auto [result, in_time] = one.get();
        const std::string who = all_.size() == 1 ? "" : describe((of++)->session) + ": ";
        if (!result.ok && !in_time) throw CommandError(who + result.error);
        if (!result.ok) *busy += (busy->empty() ? "" : "; ") + who + result.error;
    }
}

Quiesced::~Quiesced() {
    try {
        resume();
    } catch (const std::exception&) {
        // The server resumes them as soon as these connections end.
    }
}

void Quiesced::resume() {
    OpResult failed;
    for (One& one : all_) {
        if (!std::exchange(one.stopped, false)) continue;
        try {
            if (const OpResult result = one.control.resume(one.name); !result.ok) failed = result;
        } catch (const server::ControlError& error) {
            failed = OpResult::failure(error.what());
        }
    }
    require(failed);
}

Halves::Halves(const std::string& socket, const std::vector<SessionStatus>& sessions,
               const std::vector<server::SnapshotRequest>& requests, Interrupts& interrupts) {
    for (const SessionStatus& session : sessions) all_.emplace_back(socket, session, interrupts);
    size_t number = 0;
    for (One& one : all_)
        one.securing = std::async(std::launch::async, [&one, request = requests[number++]]() -> OpResult {
            try {
                one.state = one.control.begin_snapshot(one.name, request);
            } catch (const std::exception& error) {
                return OpResult::failure(error.what());
            }
            return one.state.error.empty() ? OpResult{} : OpResult::failure(one.state.error);
        });
}

CommandError Halves::failed(const One& one, const std::string& why) const {
    return CommandError(all_.size() == 1 ? why : ctl::describe(one.session) + ": " + why);
}

void Halves::wait_secured() {
    for (One& one : all_)
        if (one.securing.valid())
            if (const OpResult result = one.securing.get(); !result.ok) {
                one.state.error = result.error;
                throw failed(one, result.error);
            }
}

void Halves::settle() noexcept {
    for (const One& one : all_)
        if (one.securing.valid()) one.securing.wait();
}

void Halves::wait_complete(const std::string& what, const Interrupts& interrupts) {
    wait_secured();
    {
        Progress progress(what);
        for (bool writing = true; writing && !interrupts.any();) {
            writing = false;
            uint64_t done = 0, total = 0;
            for (One& one : all_) {
                // Looked at in between, so that an interrupt is noticed.
                const SnapshotState now = one.control.snapshot_state(one.name, one.state.id);
                writing |= now.phase == SnapshotPhase::Writing;
                done += now.done;
                total += now.total;
            }
            if (!writing) break;
            progress.update(done, total);
            std::this_thread::sleep_for(look_again);
        }
    }
    interrupts.check();
    for (One& one : all_) {
        one.state = one.control.wait_snapshot(one.name, one.state.id);
        if (!one.state.error.empty()) throw failed(one, one.state.error);
    }
}

void Halves::give_up() noexcept {
    for (One& one : all_) {
        try {
            if (one.securing.valid()) one.securing.wait();
            if (one.state.id) one.control.abort_snapshot(one.name, one.state.id);
        } catch (const std::exception&) {
            // the server has gone, and its worker with it
        }
    }
}

std::string Halves::errors() noexcept {
    std::string all;
    for (One& one : all_) {
        std::string error;
        try {
            if (one.securing.valid()) error = one.securing.get().error;
            if (error.empty() && one.state.id) error = one.control.snapshot_state(one.name, one.state.id).error;
        } catch (const std::exception& failure) {
            error = failure.what();
        }
        if (!error.empty()) all += (all.empty() ? "" : "; ") + std::string(failed(one, error).what());
    }
    return all;
}

uint64_t Halves::bytes() const {
    uint64_t sum = 0;
    for (const One& one : all_) sum += one.state.total;
    return sum;
}

double Halves::secured() const {
    uint64_t longest = 0;
    for (const One& one : all_) longest = std::max(longest, one.state.secured);
    return static_cast<double>(longest) / 1e6;
}

double Halves::complete() const {
    uint64_t longest = 0;
    for (const One& one : all_) longest = std::max(longest, one.state.complete);
    return static_cast<double>(longest) / 1e6;
}

std::string Halves::describe(const std::string& where, const std::string& epoch_id) const {
    std::string text;
    for (const One& one : all_)
        text += ctl::describe(one.session) + " saved in " + where + ", epoch " + epoch_id + ": " + ctl::describe(one.state) + "\n";
    return text;
}

}  // namespace cricket::ctl
