// SPDX-License-Identifier: MIT
// A worker without a GPU: it answers hellos and control calls, its session's whole state is one number, and
// it does what a test asks for in the client's program name ("crash", "slow"...).
#include <sys/mman.h>
#include <sys/personality.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <mutex>
#include <thread>

#include "device_text.h"
#include "log.h"
#include "snapshot_store.h"
#include "supervisor.h"
#include "worker_config.h"
#include "worker_link.h"

namespace cricket::server {

// No kernel prints here: the streams stay where they are.
void DeviceText::take_standard_streams() {}

namespace {

class WorkerDouble : public WorkerOps {
  public:
    void attach(const wire::Hello& hello, const ucred& peer, UniqueFd channel, UniqueFd) override {
        std::lock_guard lock(mutex_);
        status_.token = hello.token;
        status_.epoch = hello.next_epoch;
        status_.pid = peer.pid;
        status_.program = hello.program;
        set_state(SessionState::Running);
        ++status_.calls;  // here: the number of hellos
        void* page = ::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, channel.get(), 4096);
        if (page == MAP_FAILED) return;
        auto* server = static_cast<wire::ServerPage*>(page);
        server->answered_epoch = hello.next_epoch;
        server->session_id = status_.id;
        server->server_pid = static_cast<uint32_t>(::getpid());
        server->attach_state = static_cast<uint32_t>(wire::AttachState::Attached);
        ::munmap(page, 4096);
        if (status_.program == "crash") std::abort();
        if (status_.program == "park") set_state(SessionState::Parked);
    }
    SessionStatus status() override {
        std::lock_guard lock(mutex_);
        return status_;
    }
    OpResult quiesce(uint32_t timeout_ms, const std::function<bool()>&) override {
        std::lock_guard lock(mutex_);
        if (status_.program == "busy")
            return OpResult::failure("a kernel runs longer than " + std::to_string(timeout_ms) + " ms");
        set_state(SessionState::Quiesced);
        return {};
    }
    OpResult resume() override {
        std::lock_guard lock(mutex_);
        if (status_.state != SessionState::Quiesced) return OpResult::failure("the session is not quiesced");
        set_state(SessionState::Running);
        return {};
    }
    OpResult snapshot(const std::string& directory, const std::string& checkpoint) override {
        SessionStatus now = status();
        if (now.state == SessionState::Running) return OpResult::failure("the session is running");
        if (now.program == "unsavable") return OpResult::failure("texture object 7 cannot be saved");
        while (now.program == "slow" && ::access(std::getenv("CRICKET_TEST_GATE"), F_OK) != 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));
        try {
            SnapshotWriter writer(directory);
            writer.begin("state").write(&now.calls, sizeof now.calls);
            writer.finish({token_text(now.token), now.epoch, checkpoint},
                          {{"program", now.program}, {"pid", now.pid}});
        } catch (const SnapshotError& error) {
            return OpResult::failure(error.what());
        }
        return {};
    }
    OpResult drop(bool force) override {
        std::lock_guard lock(mutex_);
        if (status_.state == SessionState::Running && !force)
            return OpResult::failure("its client is attached");
        return {};
    }
    void restore(const std::string& directory) {
        SnapshotReader reader(directory);
        std::lock_guard lock(mutex_);
        reader.read("state", 0, &status_.calls, sizeof status_.calls);
        parse_token(reader.info().session, &status_.token);
        status_.epoch = reader.info().epoch;
        status_.program = reader.meta().at("program").get<std::string>();
        status_.pid = reader.meta().at("pid").get<int32_t>();
        set_state(SessionState::Parked);
    }
    void set_id(uint64_t id) {
        std::lock_guard lock(mutex_);
        status_.id = id;
        status_.started = std::time(nullptr);
    }

  private:
    void set_state(SessionState state) {
        status_.state = state;
        status_.state_since = std::time(nullptr);
    }
    std::mutex mutex_;
    SessionStatus status_;
};

}  // namespace

int worker_main(const WorkerConfig& config, int link_fd) {
    if (!(::personality(0xffffffff) & ADDR_NO_RANDOMIZE)) std::abort();
    WorkerDouble worker;
    worker.set_id(config.session_id);
    WorkerLink link(link_fd, worker);
    if (const char* reason = std::getenv("WORKER_DOUBLE_START")) {
        link.started(OpResult::failure(reason));
        return 1;
    }
    try {
        if (!config.restore_dir.empty()) worker.restore(config.restore_dir);
    } catch (const std::exception& error) {
        link.started(OpResult::failure(error.what()));
        return 1;
    }
    link.started({});
    link.run();
    return 0;
}

}  // namespace cricket::server
