// SPDX-License-Identifier: MIT
#include "worker.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <malloc.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <latch>
#include <string>
#include <vector>

#include "checkpoint.h"
#include "checkpoint_survey.h"
#include "image_facts.h"
#include "last_words.h"
#include "live_check.h"
#include "log.h"
#include "rpc/ring/spinning.h"
#include "session_names.h"
#include "variables.h"
#include "worker_link.h"

namespace cricket::server {
namespace {

// On one core, few, many. An application between two calls is usually back sooner; a kernel or a copy for which the
// application waits.
constexpr uint64_t spin_ns[] = {0, 60'000, 1'000'000};
constexpr uint64_t spin_for_device_ns[] = {0, 500'000, 10'000'000};
const auto cores = static_cast<size_t>(ring::cores());
constexpr uint64_t longest_sleep_us = 20'000;  // then look whether the client still lives
constexpr uint64_t between_looks_ns = 250'000'000;  // at whether the client is still the same program
constexpr uint64_t gone_for_sure_ns = 10'000'000'000;  // an application whose memory is gone ends within this time
constexpr uint64_t keep_spares_ns = 1'000'000'000;  // device memory for allocations that may come soon
constexpr uint64_t callback_grace_ns = 10'000'000;  // a host function that needs nobody has returned by then
constexpr unsigned fetch_threads = 3;          // that exist, used or not: part of the address space
constexpr int control_threads = 4;             // that may run at once without a new stack
constexpr auto status_patience = std::chrono::milliseconds(2);
constexpr uint32_t settle_ms = 10'000;         // for a client that was just killed to be noticed as gone

constexpr auto between_checks = std::chrono::milliseconds(20);  // whether the executor has begun a command
constexpr uint32_t forced_drop_ms = 5'000;  // then without the executor
constexpr uint32_t answer_ms = 60'000;      // for what is asked of a session that may be in a long call

constexpr char unwanted_words[] = "whoever asked has gone away";
constexpr char plain_words[] = "its client speaks plain RPC (CRICKET_TRANSPORT), which has no checkpoints";

}  // namespace

Worker::Worker(const WorkerConfig& config, const DriverTable& driver, Exchange* exchange)
    : config_(config), session_(driver), executor_(session_), saver_(session_, executor_) {
    session_.snapshot_hooks = &saver_;
    session_.share_through(exchange);
    published_.id = config.session_id;
    published_.started = ::time(nullptr);
    published_.state_since = published_.started;
}

Worker::~Worker() {
    stop_.store(true);
    have_commands_.store(true);
    changed_.notify_all();
    if (thread_.joinable()) thread_.join();
}

OpResult Worker::start() {
    // The driver wants the thread that uses it to be the one that opened it.
    std::promise<OpResult> opened;
    auto result = opened.get_future();
    thread_ = std::thread([this, &opened] {
        const uint64_t began = now_ns();
        std::string why = session_.open();
        if (why.empty() && !config_.restore_dir.empty()) {
            log_info("session %llu: the driver is open after %.1f ms", id(), static_cast<double>(now_ns() - began) / 1e6);
            try {
                client_host_wins_ = load_checkpoint(session_, executor_, config_.restore_dir, config_.without_gpu, config_.place, checked_);
                session_.environment = with_devices(std::move(session_.environment), config_.devices);  // for ever
                set_state(SessionState::Parked);
            } catch (const Displaced& error) {
                why = error.what();
                if (!config_.place && displaced_) {
                    log_info("%s; once more, with the driver led there", why.c_str());
                    displaced_();  // comes back when it cannot
                }
            } catch (const std::exception& error) {
                why = error.what();
            }
        }
        if (session_.driver_result != CUDA_SUCCESS && !config_.restore_dir.empty()) {
            const char* visible = std::getenv("CUDA_VISIBLE_DEVICES");
            if (visible) why += std::string(", with CUDA_VISIBLE_DEVICES=") + visible + " of the snapshot (--devices names others)";
        }
        // An application may be meant to see no device: then its own cuInit is to say so, in the driver's words.
        if (session_.driver_result != CUDA_SUCCESS && config_.restore_dir.empty()) {
            no_driver_ = why;
            why.clear();
        }
        const bool ok = why.empty();
        opened.set_value(ok ? OpResult{} : OpResult::failure(why));
        if (ok) run();
    });
    return result.get();
}

std::future<OpResult> Worker::post(std::function<OpResult()> command) {
    std::packaged_task<OpResult()> task(std::move(command));
    auto result = task.get_future();
    {
        std::lock_guard lock(mutex_);
        commands_.push_back(std::move(task));
        have_commands_.store(true);
        if (sleeps_) ring_->wake();
    }
    changed_.notify_all();
    return result;
}

OpResult Worker::on_executor(const std::function<OpResult()>& command) { return post(command).get(); }

OpResult Worker::on_executor_within(uint32_t timeout_ms, const std::function<bool()>& unwanted, const std::function<OpResult()>& command) {
    enum Stage { Waiting, Begun, GivenUp };
    const auto stage = std::make_shared<std::atomic<Stage>>(Waiting);
    std::future<OpResult> result = post([stage, command] {
        Stage waiting = Waiting;
        return stage->compare_exchange_strong(waiting, Begun) ? command() : OpResult{};
    });
    const auto began = std::chrono::steady_clock::now();
    while (result.wait_for(between_checks) != std::future_status::ready) {
        const bool late = timeout_ms && std::chrono::steady_clock::now() - began > std::chrono::milliseconds(timeout_ms);
        const bool gone = unwanted && unwanted();
        Stage waiting = Waiting;
        if ((late || gone) && stage->compare_exchange_strong(waiting, GivenUp))
            return OpResult::failure(gone ? unwanted_words : "a call of the session has not come back from the driver for " + std::to_string(timeout_ms) + " ms");
    }
    return result.get();
}

void Worker::run_commands() {
    for (;;) {
        std::packaged_task<OpResult()> task;
        {
            std::unique_lock lock(mutex_);
            if (commands_.empty()) {
                have_commands_.store(stop_.load());
                if (!std::exchange(status_wanted_, false)) return;
                lock.unlock();
                publish_status();
                changed_.notify_all();
                return;
            }
            task = std::move(commands_.front());
            commands_.pop_front();
        }
        task();
        publish_status();
    }
}

void Worker::publish_status() {
    std::lock_guard lock(mutex_);
    published_.token = session_.token;
    published_.epoch = session_.epoch;
    published_.pid = session_.client_pid;
    published_.program = session_.program;
    published_.device_bytes = session_.device_memory.bytes();
    published_.host_bytes = session_.host_memory.bytes();
    published_.calls = session_.executed;
    published_.unsupported.clear();
    for (const auto& [names, times] : session_.unsupported)
        published_.unsupported.push_back({names.first, names.second, times});
}

void Worker::set_state(SessionState state) {
    if (state_ != state) log_info("session %llu is %s", id(), state_name(state));
    state_ = state;
    publish_status();
    {
        std::lock_guard lock(mutex_);
        if (published_.state != state) published_.state_since = ::time(nullptr);
        published_.state = state;
    }
    changed_.notify_all();
}

void Worker::run() {
    ::prctl(PR_SET_TIMERSLACK, 1'000);  // of idle(), in ns
    spin_budget_.set(spin_ns[cores], ring::cores() == ring::Cores::Few);
    uint64_t active = 0;  // when something last moved; 0: since the last look at the clock
    while (!stop_.load(std::memory_order_relaxed)) {
        if (have_commands_.load(std::memory_order_acquire)) run_commands();
        if (joining_ && !over_) {
            step_joining();
            continue;
        }
        if (!ring_ || over_ || state_ == SessionState::Parked || state_ == SessionState::Quiesced) {
            std::unique_lock lock(mutex_);
            changed_.wait(lock, [&] { return have_commands_.load() || stop_.load(); });
            continue;
        }
        bool moved = false;
        try {
            moved = state_ == SessionState::Running && may_step() && executor_.step(*ring_);
        } catch (const ring::BadRecord& bad) {
            log_error("session %llu: the client breaks the protocol: %s: the session ends", id(), bad.what());
            over_ = true;
            end();
            continue;
        }
        if (executor_.said_goodbye()) {
            end_with_client("has ended");
            continue;
        }
        if (!moved || executor_.waiting()) moved |= executor_.poll(ring_.get());
        if (moved) {
            if (active && !asleep_) spin_budget_.paid();
            asleep_ = false;
            active = 0;
            continue;
        }
        const uint64_t now = now_ns();
        if (active == 0) active = now;
        idle(now - active);
    }
}

// Behind a callback that does not return, the driver takes only so many launches before it blocks its caller. When the
// callback does not return because criu has stopped the client, that would be for ever: so with many calls behind one, the
// next are executed only while the client runs.
bool Worker::may_step() {
    if (!session_.callbacks.pending()) {
        behind_callback_ = 0;
        return true;
    }
    if (++behind_callback_ < 256 || behind_callback_ % 64) return true;
    if (!client_.stopped()) return true;
    --behind_callback_;  // asked again next time
    return false;
}

void Worker::idle(uint64_t idle_ns) {
    session_.callbacks.collect();  // of those that no thread of the driver waits for
    if (idle_ns == 0) spin_ = spin_budget_.next();
    if (idle_ns < spin_) {
        // The device's end is looked for without a pause.
        for (int i = 0; i < 8 && ring_->empty() && !executor_.waiting(); ++i) __builtin_ia32_pause();
        return;
    }
    if (state_ == SessionState::Running && client_.exited()) {
        // It posts nothing more: what is in the ring now is all there will be. What a callback that cannot run any more
        // is in the way of is sent again by the client when it is back.
        if (!ring_->empty() && !session_.callbacks.pending() && !executor_.client_gone()) return;
        if (Executor::goodbye_is_posted(*ring_))
            end_with_client("has ended");
        else
            park();
        return;
    }
    // Its first thread has ended, not it: then its memory cannot be had under its number.
    if (executor_.client_gone() && idle_ns > gone_for_sure_ns) session_.fetcher->refuse();
    if (const uint64_t now = now_ns(); state_ == SessionState::Running && now - looked_at_client_ > between_looks_ns) {
        looked_at_client_ = now;
        if (client_.became_another(ring_->channel().fd())) {
            end_with_client(another_program);
            return;
        }
    }
    look_at_copy();
    // Data in the up buffer whose place the client wants is awaited as a reply is.
    const bool waiting = executor_.waiting() ||
                         (ring_->channel().client_page().wants_progress.load(std::memory_order_acquire) &&
                          ring_->channel().server_page().up_head.load(std::memory_order_relaxed) < session_.up_end);
    // While the device is awaited, look again after a hundredth of the time already waited.
    if (waiting && idle_ns < spin_for_device_ns[cores]) return;
    const uint64_t sleep_us = waiting ? std::min<uint64_t>(idle_ns / 100'000 + 1, 500) : longest_sleep_us;
    if (!asleep_) spin_budget_.in_vain();
    asleep_ = true;
    if (idle_ns > keep_spares_ns && !waiting) session_.device_memory.release_spares();
    if (idle_ns > longest_sleep_us * 1000 && !waiting && !told_of_dumps_) note_standstill();
    if (state_ == SessionState::Running) publish_status();
    sleep(sleep_us);
}

// Until the client posts something, or a command comes.
void Worker::sleep(uint64_t most_us) {
    {
        std::lock_guard lock(mutex_);
        if (!commands_.empty()) return;
        sleeps_ = true;  // ring_ stays
    }
    ring_->sleep(most_us);
    std::lock_guard lock(mutex_);
    sleeps_ = false;
}

// Device work that waits for a callback of the application would wait for ever: then the session is parked with that work
// unfinished, and the channel it uses stays until the client is back and has run the callbacks (step_joining).
void Worker::park() {
    session_.callbacks.detach();
    client_.forget();
    settle_unless_callbacks();
    set_state(SessionState::Parked);
}

void Worker::end_with_client(const char* what) {
    log_info("session %llu: process %d %s", id(), session_.client_pid, what);
    over_ = true;
    end();
}

void Worker::settle_unless_callbacks() {
    while (!session_.callbacks.pending() && (executor_.waiting() || session_.busy()))
        if (!executor_.poll(ring_.get())) ::usleep(50);
    if (!session_.callbacks.pending())
        settle();
    else
        log_info("session %llu: device work waits for %s", id(), session_.callbacks.describe_pending().c_str());
}

// The device is idle: nothing uses the channel any more.
void Worker::settle() {
    executor_.finish_waiting(ring_.get());
    if (const CUresult status = session_.synchronize_all(); status != CUDA_SUCCESS)
        log_warn("session %llu: the device answers error %d while parking", id(), static_cast<int>(status));
    session_.device_memory.release_spares();
    session_.host_memory.image().close(session_.executed);
    executor_.save_bulk(*ring_);
    session_.channel_leaves();
    ring_.reset();
}

// As it is now, unless the executor is in a long call: a session that is never idle publishes nothing by itself.
SessionStatus Worker::status() {
    std::unique_lock lock(mutex_);
    status_wanted_ = true;
    have_commands_.store(true);
    changed_.notify_all();
    changed_.wait_for(lock, status_patience, [this] { return !status_wanted_; });
    return published_;
}

// What a snapshot wants to know of images is found out here, where the session does not wait for it.
OpResult Worker::look_at_images(uint32_t timeout_ms, const std::function<bool()>& unwanted) {
    std::vector<std::pair<Attachment, int>> images;
    const OpResult looked = on_executor_within(timeout_ms, unwanted, [&] {
        images = loaded_images(session_);
        return OpResult{};
    });
    for (const auto& [image, arch] : images) {
        try {
            image_facts(image, arch);
        } catch (const std::exception&) {
            // said by whoever needs them
        }
    }
    return looked;
}

OpResult Worker::quiesce(uint32_t timeout_ms, const std::function<bool()>& unwanted) {
    if (plain_) return OpResult::failure(plain_words);
    if (const OpResult looked = look_at_images(timeout_ms, unwanted); !looked.ok) return looked;
    return on_executor_within(timeout_ms, unwanted, [this, timeout_ms, &unwanted]() -> OpResult {
        const uint64_t end = now_ns() + uint64_t(timeout_ms) * 1'000'000;
        while (joining_ && !over_) {
            const pid_t pid = joining_->peer.pid;
            if (unwanted && unwanted()) return OpResult::failure(unwanted_words);
            if (timeout_ms && now_ns() > end) return OpResult::failure("process " + std::to_string(pid) + " is still being attached");
            step_joining();
        }
        if (state_ == SessionState::Quiesced) return {};
        if (state_ == SessionState::Parked) {
            held_ = true;
            return {};
        }
        if (!ring_) return OpResult::failure("the session has no client on a ring");
        // Kernels may run for as long as they like: the device is asked, not waited for, until the time is over. What only
        // the program can bring to an end, it is let go on with: a capture, a host function that waits for another thread.
        uint64_t pending_since = 0, asked_wanted = 0;
        for (;;) {
            session_.callbacks.collect();
            session_.captures.look_for_ended();
            const bool pending = session_.callbacks.pending(), capturing = session_.captures.any();
            // What has ended posts nothing more: what it did post is executed, its goodbye above all.
            const bool ended = client_.exited(), rest = ended && !pending && !ring_->empty() && !executor_.client_gone();
            if (!pending && !capturing && !rest && !executor_.waiting() && !session_.busy()) break;
            const uint64_t now = now_ns();
            pending_since = !pending ? 0 : pending_since ? pending_since : now;
            if (pending && client_.stopped())  // as when criu holds it: it would be awaited in vain
                return OpResult::failure("the device waits for " + session_.callbacks.describe_pending() + ", and process " +
                                         std::to_string(session_.client_pid) + " is stopped");
            if (now - asked_wanted > between_looks_ns / 10) {
                asked_wanted = now;
                if (unwanted && unwanted()) return OpResult::failure(unwanted_words);
            }
            if (timeout_ms && now > end)
                return OpResult::failure(
                    (capturing ? session_.captures.describe() : std::string("the device is still busy")) + " after " + std::to_string(timeout_ms) +
                    " ms" + (pending      ? ": it waits for " + session_.callbacks.describe_pending()
                             : capturing ? ", which cannot be saved"
                                         : ": a kernel or a copy of the session runs longer"));
            const bool go_on = capturing || rest || (pending && now - pending_since > callback_grace_ns);
            bool moved = false;
            try {
                moved = go_on && may_step() && executor_.step(*ring_);
            } catch (const ring::BadRecord& bad) {
                return OpResult::failure(std::string("the client breaks the protocol: ") + bad.what());
            }
            if (executor_.said_goodbye()) return OpResult::failure(program_has_ended);
            if (ended && (pending || capturing) && ring_->empty())
                return OpResult::failure((pending ? "the device waits for " + session_.callbacks.describe_pending() : session_.captures.describe()) +
                                         ", and process " + std::to_string(session_.client_pid) + " has gone");
            if (!executor_.poll(ring_.get()) && !moved) ring_->sleep(100);
        }
        const CUresult status = session_.synchronize_all();
        if (status != CUDA_SUCCESS) {
            const char* name = nullptr;
            if (session_.driver.cuGetErrorName) session_.driver.cuGetErrorName(status, &name);
            return OpResult::failure(std::string("the device has a sticky error: ") + (name ? name : "unknown"));
        }
        executor_.finish_waiting(ring_.get());
        if (client_.exited())  // the host memory here is then the newest, as of any parked session
            park();
        else
            set_state(SessionState::Quiesced);
        return {};
    });
}

OpResult Worker::resume() {
    return on_executor([this]() -> OpResult {
        if (state_ == SessionState::Quiesced) set_state(SessionState::Running);
        held_ = false;
        if (std::optional<Comer> comer = std::exchange(held_off_, {}))
            attach(comer->hello, comer->peer, std::move(comer->channel), std::move(comer->host));
        return {};
    });
}

OpResult Worker::snapshot(const std::string& directory, const std::string& checkpoint) {
    SnapshotRequest request;
    request.directory = directory;
    request.checkpoint = checkpoint;
    SnapshotState state = begin_snapshot(request);
    if (state.error.empty()) state = wait_snapshot(state.id);
    return state.error.empty() ? OpResult{} : OpResult::failure(state.error);
}

// A client killed a moment ago is noticed soon; a running one is stopped only when that was asked for.
OpResult Worker::stand_for_snapshot(bool live, bool* stopped) {
    {
        std::unique_lock lock(mutex_);
        const auto settled = [&] {
            return published_.state == SessionState::Parked || published_.state == SessionState::Quiesced || live;
        };
        changed_.wait_for(lock, std::chrono::milliseconds(settle_ms), settled);
        if (!live || published_.state != SessionState::Running) return {};
    }
    const OpResult quiesced = quiesce(settle_ms, {});
    *stopped = quiesced.ok;
    return quiesced;
}

SnapshotState Worker::begin_snapshot(const SnapshotRequest& request) {
    SnapshotState state;
    const auto failed = [&](const std::string& why) {
        state.error = why;
        state.phase = SnapshotPhase::Failed;
        return state;
    };
    if (plain_) return failed(plain_words);
    try {
        saver_.prepare(request);
    } catch (const std::exception& error) {
        return failed(error.what());
    }
    bool stopped = false;
    OpResult result;
    // Whatever is thrown, memory that is short above all, ends this snapshot: the next one waits for its end.
    try {
        result = stand_for_snapshot(request.live, &stopped);
        if (result.ok) result = on_executor([&]() -> OpResult {
            if (state_ != SessionState::Parked && state_ != SessionState::Quiesced)
                return OpResult::failure("process " + std::to_string(session_.client_pid) +
                                         " is running: dump it with criu first, or use cricketctl checkpoint");
            const bool without_host = state_ == SessionState::Parked ? client_host_wins_ : !request.frozen;
            if (request.without_gpu && !without_host) return OpResult::failure(host_memory_is_here);
            if (ring_) executor_.save_bulk(*ring_);
            try {
                saver_.begin(without_host);
            } catch (const std::exception& error) {
                return OpResult::failure(error.what());
            }
            state = saver_.state();
            return {};
        });
    } catch (const std::exception& error) {
        result = OpResult::failure(error.what());
    }
    if (!result.ok && saver_.securing()) saver_.cancel(result.error);
    if (stopped) resume();
    return result.ok ? state : failed(result.error);
}

SnapshotState Worker::wait_snapshot(uint64_t id) { return saver_.wait(id ? id : saver_.state().id); }

SnapshotState Worker::snapshot_state(uint64_t id) {
    SnapshotState state = saver_.state();
    if (id && id != state.id) state.error = "another snapshot came after it";
    return state;
}

SnapshotState Worker::abort_snapshot(uint64_t id) {
    if (saver_.state().id == id) saver_.abort();
    return wait_snapshot(id);
}

// The session is over; a snapshot that is being written is completed first.
void Worker::end() {
    saver_.when_idle([this] {
        if (end_) end_();
    });
}

ReportResult Worker::survey() {
    if (plain_) return {OpResult::failure(plain_words), {}};
    ReportResult answer;
    if (answer.result = look_at_images(answer_ms, {}); !answer.result.ok) return answer;
    answer.result = on_executor_within(answer_ms, {}, [&]() -> OpResult {
        try {
            nlohmann::json report = survey_session(session_, executor_);
            report["state"] = state_name(state_);
            report["client_host"] = state_ != SessionState::Parked || client_host_wins_;  // criu's half holds the host memory
            answer.report = report.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
        } catch (const std::exception& error) {
            return OpResult::failure(error.what());
        }
        return {};
    });
    return answer;
}

ReportResult Worker::check(const std::string& directory) {
    if (plain_) return {OpResult::failure(plain_words), {}};
    ReportResult answer;
    answer.result = on_executor_within(answer_ms, {}, [&]() -> OpResult {
        if (state_ != SessionState::Parked && state_ != SessionState::Quiesced)
            return OpResult::failure("process " + std::to_string(session_.client_pid) + " is running");
        if (const std::string callbacks = session_.callbacks.describe_pending(); !callbacks.empty())
            return OpResult::failure("device work waits for " + callbacks);
        std::string place = directory;
        if (place.empty() && !config_.restore_dir.empty() && ::access(config_.restore_dir.c_str(), F_OK) == 0) place = config_.restore_dir;
        try {
            const nlohmann::json report = check_live(session_, executor_, place);
            answer.report = report.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
        } catch (const std::exception& error) {
            return OpResult::failure(error.what());
        }
        return {};
    });
    return answer;
}

OpResult Worker::drop(bool force) {
    if (force)
        saver_.abort();
    else if (saver_.active())
        return OpResult::failure("a snapshot of it is being written");
    const OpResult result = on_executor_within(force ? forced_drop_ms : answer_ms, {}, [this, force]() -> OpResult {
        if (!force && (state_ == SessionState::Running || state_ == SessionState::Quiesced) &&
            !client_.exited())
            return OpResult::failure("process " + std::to_string(session_.client_pid) + " is attached");
        return {};
    });
    return force ? OpResult{} : result;
}

// Where the kernel puts what the driver maps must depend on the session's calls alone. So nothing of ours is mapped in
// between: all threads allocate from the heap proper, and the stacks of control threads are in glibc's cache before the
// driver is loaded.
static void settle_address_space() {
    ::mallopt(M_ARENA_MAX, 1);
    ::mallopt(M_MMAP_MAX, 0);
    std::latch all(control_threads);
    std::vector<std::thread> threads;
    for (int i = 0; i < control_threads; ++i) threads.emplace_back([&] { all.arrive_and_wait(); });
    for (std::thread& thread : threads) thread.join();
}

// This worker anew, in the same process for its supervisor: where the driver has put something cannot be undone in one that it
// runs in. As it was started (worker_process.cpp), with one word more.
static void begin_again(int link_fd) {
    std::ifstream file("/proc/self/cmdline");
    std::vector<std::string> words;
    for (std::string word; std::getline(file, word, '\0');) words.push_back(word);
    words.push_back("--place");
    std::vector<char*> arguments;
    for (std::string& word : words) arguments.push_back(word.data());
    arguments.push_back(nullptr);
    for (const int fd : {STDOUT_FILENO, STDERR_FILENO}) ::dup2(log_descriptor(), fd);
    ::close_range(STDERR_FILENO + 1, ~0u, CLOSE_RANGE_CLOEXEC);
    ::fcntl(link_fd, F_SETFD, 0);
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);  // of the thread that calls exec
    rlimit stack{};
    if (::getrlimit(RLIMIT_STACK, &stack) == 0) {
        stack.rlim_cur = std::min<rlim_t>(room_for_stacks, stack.rlim_max);
        ::setrlimit(RLIMIT_STACK, &stack);
    }
    sigset_t none;
    sigemptyset(&none);
    ::pthread_sigmask(SIG_SETMASK, &none, nullptr);
    ::execv("/proc/self/exe", arguments.data());
    log_warn("the worker cannot be started again: %s", std::strerror(errno));
}

int worker_main(const WorkerConfig& config, int link_fd) {
    DeviceText::take_standard_streams();
    leave_last_words();
    Fetcher fetcher(fetch_threads, Fetcher::default_threads());
    settle_address_space();
    if (!config.restore_dir.empty())
        set_variables(with_devices(saved_environment(config.restore_dir), config.devices));
    const Variables environment = current_variables();
    void* library = ::dlopen(config.driver_path.c_str(), RTLD_NOW | RTLD_LOCAL);
    DriverTable driver;
    OpResult loaded;
    if (!library)
        loaded = OpResult::failure(config.driver_path + ": " + ::dlerror());
    else if (load_driver_table(&driver, library) == 0)
        loaded = OpResult::failure(config.driver_path + " exports no CUDA driver API");
    Exchange exchange(link_fd);
    Worker worker(config, driver, &exchange);
    worker.set_environment(environment);
    worker.use(fetcher);
    WorkerLink link(link_fd, worker, &exchange);
    worker.on_end([&link] { link.stop(); });
    worker.on_checked([&link] { link.checked(); });
    worker.on_displaced([link_fd] { begin_again(link_fd); });
    if (loaded.ok) loaded = worker.start();
    link.started(loaded);
    if (!loaded.ok) return EXIT_FAILURE;
    link.run();
    worker.finish_snapshot();
    // The driver's own clean-up is not waited for: the kernel gives everything back at once.
    ::_exit(EXIT_SUCCESS);
}

}  // namespace cricket::server
