// SPDX-License-Identifier: MIT
// The GPU's halves of a checkpoint, one a session of the program, all of the same moment.
#pragma once

#include <future>
#include <list>
#include <string>
#include <vector>

#include "command.h"
#include "interrupts.h"

namespace cricket::ctl {

// A session, and a connection of its own over which it is asked; a second interrupt ends the wait for an answer.
struct AskedSession {
    AskedSession(const std::string& socket, const server::SessionStatus& of, Interrupts& interrupts);
    const server::SessionStatus session;
    const std::string name;
    server::ControlClient control;
    const Interrupts::Ends ends;
};

// Sessions that stand at a call boundary with idle devices, all at the same time, as long as this lives; a server whose
// connection ends lets them go on, too.
class Quiesced {
  public:
    // `timeout`: seconds. Throws CommandError that says which session could not be stopped, and why.
    Quiesced(const std::string& socket, const std::vector<server::SessionStatus>& sessions, uint32_t timeout, Interrupts& interrupts);
    ~Quiesced();
    Quiesced(const Quiesced&) = delete;
    void resume();                 // throws CommandError
    void release() { all_.clear(); }  // of sessions that are no more

  private:
    struct One : AskedSession {
        using AskedSession::AskedSession;
        bool stopped = false;
    };
    void attempt(uint32_t milliseconds, std::string* busy);

    Interrupts& interrupts_;
    std::list<One> all_;
};

// The snapshots of these sessions, written at the same time into WORK/gpu, WORK/gpu-2 and so on.
class Halves {
  public:
    // Begins them all. `requests`: one a session.
    Halves(const std::string& socket, const std::vector<server::SessionStatus>& sessions,
           const std::vector<server::SnapshotRequest>& requests, Interrupts& interrupts);
    Halves(const Halves&) = delete;
    // Waits until the content of all is secured: then the program may go on. Throws CommandError.
    void wait_secured();
    void settle() noexcept;  // the same, whatever comes of it
    // Waits until all are on the disk, and shows progress. Throws CommandError.
    void wait_complete(const std::string& what, const Interrupts& interrupts);
    // Ends what is not complete: nothing may be written into a folder that is being removed.
    void give_up() noexcept;
    // What has failed so far, for whom something else has failed; empty: nothing.
    std::string errors() noexcept;

    uint64_t bytes() const;
    double secured() const, complete() const;  // seconds that the last of them took
    // A line for each, with its figures.
    std::string describe(const std::string& where, const std::string& epoch_id) const;

  private:
    struct One : AskedSession {
        using AskedSession::AskedSession;
        server::SnapshotState state;
        std::future<server::OpResult> securing;
    };
    CommandError failed(const One& one, const std::string& why) const;

    std::list<One> all_;
};

}  // namespace cricket::ctl
