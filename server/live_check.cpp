// SPDX-License-Identifier: MIT
#include "live_check.h"

#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <mutex>
#include <vector>

#include "checkpoint_arrays.h"
#include "checkpoint_parts.h"
#include "device_pipe.h"
#include "messages.h"
#include "own_calls.h"
#include "session_names.h"
#include "snapshot_store.h"
#include "variables.h"

namespace cricket::server {
namespace {

using nlohmann::json;

constexpr uint64_t grain = 4096;           // of differences
constexpr size_t most_differences = 1000;  // named
constexpr time_t patience = 30;            // seconds for the probe and the streams

// Each thread writes a word made of its number and a seed.
constexpr char probe_ptx[] = R"(.version 7.0
.target sm_50
.address_size 64
.visible .entry cricket_probe(.param .u64 out, .param .u32 seed)
{
    .reg .b32 %r<7>;
    .reg .b64 %rd<4>;
    ld.param.u64 %rd1, [out];
    ld.param.u32 %r1, [seed];
    cvta.to.global.u64 %rd1, %rd1;
    mov.u32 %r2, %ctaid.x;
    mov.u32 %r3, %ntid.x;
    mov.u32 %r4, %tid.x;
    mad.lo.s32 %r5, %r2, %r3, %r4;
    mad.lo.s32 %r6, %r5, -1640531527, %r1;
    mul.wide.u32 %rd2, %r5, 4;
    add.s64 %rd3, %rd1, %rd2;
    st.global.u32 [%rd3], %r6;
    ret;
}
)";
constexpr unsigned probe_blocks = 64, probe_threads = 64;

std::string hex(uint64_t value) {
    char text[32];
    std::snprintf(text, sizeof text, "%#llx", static_cast<unsigned long long>(value));
    return text;
}

// What is on the device is read by one thread, with several copies under way, and compared by several, each with a reader of
// its own.
class Comparison {
  public:
    Comparison(Session& session, SnapshotReader& reader) : session_(session), reader_(reader) {}
    ~Comparison() {
        for (Lane& lane : lanes_)
            if (session_.driver.cuCtxSetCurrent(lane.context) == CUDA_SUCCESS) close_lane(session_.driver, lane);
        session_.forget_current();
    }
    Comparison(const Comparison&) = delete;

    // `context`: whose it is; 0: of any that is on the device. Compared by run().
    void device(const std::string& what, const std::string& part, uint64_t at, uint64_t address, uint64_t bytes, uint64_t shown,
                uint64_t context, CUdevice device) {
        const uint32_t lane = lane_of(context, device);
        const size_t range = begin(what, bytes);
        for (uint64_t done = 0; done < bytes; done += DevicePipe::buffer_bytes) {
            const auto some = static_cast<uint32_t>(std::min(bytes - done, DevicePipe::buffer_bytes));
            runs_.push_back({address + done, some, lane, sources_.size()});
            sources_.push_back({range, part, at + done, shown + done});
        }
        device_bytes_ += bytes;
    }
    // Memory that the worker has at hand.
    void host(const std::string& what, const std::string& part, uint64_t at, std::span<const std::byte> content, uint64_t shown) {
        const size_t range = begin(what, content.size());
        std::vector<std::byte> expected;
        for (uint64_t done = 0; done < content.size(); done += DevicePipe::buffer_bytes)
            compare({range, part, at + done, shown + done},
                    content.subspan(done, std::min<uint64_t>(content.size() - done, DevicePipe::buffer_bytes)), &expected);
    }
    void gone(const std::string& what) { gone_.push_back(what); }
    void run() {
        if (runs_.empty()) return;
        DevicePipe pipe(session_.driver, lanes_, device_bytes_);
        std::vector<std::vector<std::byte>> expected(pipe.workers());
        std::atomic<bool> stop{false};
        pipe.pull(runs_, stop, [&](unsigned worker, const DeviceRun& run, std::span<std::byte> now) {
            compare(sources_[run.tag], now, &expected[worker]);
        });
        runs_.clear();
        sources_.clear();
        device_bytes_ = 0;
        session_.forget_current();
    }
    void report(json* into) {
        std::ranges::sort(differences_, {}, [](const Stretch& one) { return std::pair(one.range, one.address); });
        std::vector<Stretch> joined;
        uint64_t differing = 0;
        for (const Stretch& one : differences_) {
            differing += one.bytes;
            if (!joined.empty() && joined.back().range == one.range && joined.back().address + joined.back().bytes == one.address)
                joined.back().bytes += one.bytes;
            else
                joined.push_back(one);
        }
        json list = json::array();
        for (size_t i = 0; i < joined.size() && i < most_differences; ++i)
            list.push_back({{"what", names_[joined[i].range]}, {"address", hex(joined[i].address)}, {"bytes", joined[i].bytes}});
        (*into)["ranges"] = names_.size();
        (*into)["bytes"] = bytes_;
        (*into)["differ"] = std::move(list);
        (*into)["stretches"] = joined.size();
        (*into)["differing_bytes"] = differing;
        (*into)["gone"] = gone_;
    }

  private:
    struct Source {
        size_t range;
        std::string part;
        uint64_t at, shown;
    };
    struct Stretch {
        size_t range;
        uint64_t address, bytes;
    };
    size_t begin(const std::string& what, uint64_t bytes) {
        bytes_ += bytes;
        names_.push_back(what);
        return names_.size() - 1;
    }
    uint32_t lane_of(uint64_t context, CUdevice device) {
        for (const auto& [number, of] : session_.context_devices)
            if (!context && of == device) context = number;
        if (!context && !session_.context_devices.empty()) context = session_.context_devices.begin()->first;
        auto* handle = static_cast<CUcontext>(session_.objects.get(HandleKind::Context, context));
        for (size_t i = 0; i < lanes_.size(); ++i)
            if (lanes_[i].context == handle) return static_cast<uint32_t>(i);
        Lane lane;
        lane.context = handle;
        lane.device = device;
        lanes_.push_back(std::move(lane));
        if (const CUresult status = open_lane(session_.driver, lanes_.back()); status != CUDA_SUCCESS)
            fail_checkpoint("a context cannot be used: " + result_name(session_.driver, status));
        session_.forget_current();
        return static_cast<uint32_t>(lanes_.size() - 1);
    }
    void compare(const Source& source, std::span<const std::byte> now, std::vector<std::byte>* expected) {
        expected->resize(DevicePipe::buffer_bytes);
        const auto was = std::span(*expected).first(now.size());
        reader_.read(source.part, source.at, was);
        if (std::memcmp(was.data(), now.data(), now.size()) == 0) return;
        std::vector<Stretch> found;
        for (uint64_t done = 0; done < now.size(); done += grain) {
            const uint64_t some = std::min<uint64_t>(grain, now.size() - done);
            if (std::memcmp(was.data() + done, now.data() + done, some) == 0) continue;
            if (!found.empty() && found.back().address + found.back().bytes == source.shown + done)
                found.back().bytes += some;
            else
                found.push_back({source.range, source.shown + done, some});
        }
        std::lock_guard lock(mutex_);
        differences_.insert(differences_.end(), found.begin(), found.end());
    }

    Session& session_;
    SnapshotReader& reader_;
    std::vector<Lane> lanes_;
    std::vector<DeviceRun> runs_;
    std::vector<Source> sources_;  // of the runs
    std::vector<std::string> names_;  // of the ranges
    std::vector<std::string> gone_;
    uint64_t bytes_ = 0, device_bytes_ = 0;
    std::mutex mutex_;  // of differences_, while run() runs
    std::vector<Stretch> differences_;
};

// Physical memory that no mapping shows is mapped for as long as the object lives.
class MappedAside {
  public:
    explicit MappedAside(Session& session) : session_(session) {}
    ~MappedAside() {
        for (const auto& [number, address] : mapped_)
            session_.virtual_memory.unmap_aside(session_.virtual_memory.allocations().at(number), address);
    }
    MappedAside(const MappedAside&) = delete;
    // 0: there is none, or it cannot be mapped.
    CUdeviceptr map(uint64_t number) {
        const auto found = session_.virtual_memory.allocations().find(number);
        CUdeviceptr address = 0;
        if (found == session_.virtual_memory.allocations().end() ||
            session_.virtual_memory.map_aside(found->second, &address) != CUDA_SUCCESS)
            return 0;
        mapped_.push_back({number, address});
        return address;
    }

  private:
    Session& session_;
    std::vector<std::pair<uint64_t, CUdeviceptr>> mapped_;
};

void compare_memory(Session& session, Comparison& comparison, MappedAside& aside, const json& meta) {
    session.any_context();
    for (const json& one : meta.value("memory", json::array())) {
        const uint64_t address = one[0], bytes = one[1];
        const DeviceAllocation* now = session.device_memory.find(address);
        if (!now || now->address != address || now->bytes != bytes)
            comparison.gone(at_address("device memory", address));
        else
            comparison.device("device memory", "memory", one[3], address, bytes, address, 0, now->device);
    }
    session.any_context();
    for (const json& one : meta.value("virtual_content", json::array())) {
        const uint64_t number = one[0];
        const std::string what = "physical memory " + std::to_string(number);
        const CUdeviceptr address = aside.map(number);
        if (!address) {
            comparison.gone(what);
            continue;
        }
        const auto& physical = session.virtual_memory.allocations().at(number);
        comparison.device(what, "virtual", one[1], address, physical.bytes, 0, 0, physical.properties.location.id);
    }
}

void compare_variables(Session& session, Comparison& comparison, const json& meta) {
    std::map<std::tuple<uint64_t, uint64_t, std::string>, ModuleVariable> now;
    for (ModuleVariable& variable : module_variables(session)) {
        auto key = std::make_tuple(variable.image, variable.context, variable.name);
        now[key] = std::move(variable);
    }
    for (const json& one : meta.value("variables", json::array())) {
        const std::string name = one.at("name");
        const uint64_t context = one.at("context"), address = one.at("address"), bytes = one.at("bytes");
        const auto found = now.find({one.at("image").get<uint64_t>(), context, name});
        if (found == now.end() || found->second.address != address || found->second.bytes != bytes ||
            !session.context_devices.contains(context))
            comparison.gone(at_address("variable " + name, address));
        else
            comparison.device("variable " + name, "variables", one.at("at"), address, bytes, address, context,
                              session.context_devices.at(context));
    }
}

void compare_arrays(Session& session, Comparison& comparison, const json& meta) {
    read_arrays(
        session, meta.value("arrays", json::array()),
        [&](const std::string& what, uint64_t at, std::span<const std::byte> now) { comparison.host(what, "arrays", at, now, at); },
        [&](const std::string& what) { comparison.gone(what); });
}

// Where the snapshot has it: what a coordinated one leaves to criu is the program's business.
void compare_host(Session& session, Comparison& comparison, const json& meta) {
    if (meta.at("coordinated").get<bool>()) return;
    for (const json& one : meta.value("host", json::array())) {
        const uint64_t address = one.at("address"), bytes = one.at("bytes");
        const auto found = session.host_memory.ranges().find(address);
        if (found == session.host_memory.ranges().end() || found->second.bytes != bytes)
            comparison.gone(at_address("host memory", address));
        else
            comparison.host("host memory", "host", one.at("at"), {HostMemory::content(found->second), bytes}, address);
    }
}

// Waits for an event without blocking in the driver, which might be for ever.
CUresult wait_event(const DriverTable& driver, CUevent event) {
    timespec now{}, end{};
    ::clock_gettime(CLOCK_MONOTONIC, &end);
    end.tv_sec += patience;
    for (;;) {
        const CUresult status = driver.cuEventQuery(event);
        if (status != CUDA_ERROR_NOT_READY) return status;
        ::clock_gettime(CLOCK_MONOTONIC, &now);
        if (now.tv_sec > end.tv_sec) return CUDA_ERROR_NOT_READY;
        ::usleep(50);
    }
}

// Runs a kernel of our own in a context. Empty, or what went wrong.
class Probe {
  public:
    Probe(Session& session, Executor& executor, uint64_t context)
        : session_(session), driver_(session.driver), context_(context), calls_(session, executor, context) {}
    std::string run() {
        static const Attachment image = own_image(probe_ptx, sizeof probe_ptx);
        uint64_t module = 0;
        std::string why = calls_.load(image, kernel, &module);
        if (!why.empty()) return why;
        why = run_kernel(module);
        const std::string not_unloaded = calls_.unload(module, kernel);
        return why.empty() ? not_unloaded : why;
    }

  private:
    static constexpr char kernel[] = "the probe kernel";

    std::string run_kernel(uint64_t module) {
        uint64_t number = 0;
        CUfunction function = nullptr;
        std::string why = calls_.find(module, "cricket_probe", kernel, &number);
        if (why.empty()) why = calls_.resolve(number, kernel, &function);
        if (!why.empty()) return why;
        constexpr uint64_t words = probe_blocks * probe_threads, bytes = words * sizeof(uint32_t);
        CUdeviceptr out = 0;
        CUresult status = session_.device_memory.allocate(session_.current_device(), bytes, context_, &out);
        if (status != CUDA_SUCCESS) return "memory for the probe kernel: " + result_name(driver_, status);
        uint32_t seed = 0x5eed0000u + static_cast<uint32_t>(session_.executed);
        void* parameters[] = {&out, &seed};
        std::vector<uint32_t> result(words);
        CUevent event = nullptr;
        status = driver_.cuLaunchKernel(function, probe_blocks, 1, 1, probe_threads, 1, 1, 0,
                                        CU_STREAM_LEGACY, parameters, nullptr);
        if (status == CUDA_SUCCESS && (event = session_.take_event()))
            status = driver_.cuEventRecord(event, CU_STREAM_LEGACY);
        if (status == CUDA_SUCCESS && event) status = wait_event(driver_, event);
        const bool stuck = status == CUDA_ERROR_NOT_READY;
        if (event && !stuck) session_.give_event(event);
        if (status == CUDA_SUCCESS) status = driver_.cuMemcpyDtoH(result.data(), out, bytes);
        if (!stuck) {
            session_.device_memory.free(out);
            session_.device_memory.reclaim(out);
        }
        if (stuck) return "the probe kernel does not end";
        if (status != CUDA_SUCCESS) return "the probe kernel: " + result_name(driver_, status);
        for (uint32_t i = 0; i < words; ++i)
            if (result[i] != i * 2654435769u + seed)
                return "the probe kernel computed a wrong word " + std::to_string(i);
        return {};
    }

    Session& session_;
    const DriverTable& driver_;
    const uint64_t context_;
    OwnCalls calls_;
};

// All living objects of a kind in a context.
std::vector<uint64_t> objects_of(Session& session, HandleKind kind, uint64_t context) {
    std::vector<uint64_t> found;
    for (const auto& [place, entry] : session.journal.entries())
        if (entry.effect.kind == Effect::Kind::Create && entry.effect.owner == context &&
            Objects::kind_of(entry.effect.object) == kind &&
            session.journal.creation(entry.effect.object) == &entry)
            found.push_back(entry.effect.object);
    return found;
}

json check_context(Session& session, Executor& executor, uint64_t context, CUdevice device) {
    const DriverTable& driver = session.driver;
    json report{{"number", context}, {"device", device}};
    std::vector<std::string> failed;
    if (std::string why = Probe(session, executor, context).run(); !why.empty())
        failed.push_back(std::move(why));
    unsigned streams = 0, events = 0;
    if (const CUresult status = session.make_current(context); status != CUDA_SUCCESS)
        failed.push_back("the context: " + result_name(driver, status));
    for (const uint64_t number : objects_of(session, HandleKind::Stream, context)) {
        auto* stream = static_cast<CUstream>(session.objects.get(HandleKind::Stream, number));
        CUevent event = stream ? session.take_event() : nullptr;
        CUresult status = event ? driver.cuEventRecord(event, stream) : CUDA_ERROR_INVALID_HANDLE;
        if (status == CUDA_SUCCESS) status = wait_event(driver, event);
        if (event && status != CUDA_ERROR_NOT_READY) session.give_event(event);
        if (status == CUDA_SUCCESS)
            ++streams;
        else
            failed.push_back("stream " + hex(number) + ": " + result_name(driver, status));
    }
    for (const uint64_t number : objects_of(session, HandleKind::Event, context)) {
        auto* event = static_cast<CUevent>(session.objects.get(HandleKind::Event, number));
        const CUresult status = event ? driver.cuEventQuery(event) : CUDA_ERROR_INVALID_HANDLE;
        if (status == CUDA_SUCCESS)
            ++events;
        else
            failed.push_back("event " + hex(number) + ": " + result_name(driver, status));
    }
    report["streams"] = streams;
    report["events"] = events;
    report["failed"] = failed;
    return report;
}

}  // namespace

json check_live(Session& session, Executor& executor, const std::string& directory) {
    json report;
    if (!directory.empty()) {
        SnapshotReader reader(directory);
        const json& meta = reader.meta();
        if (reader.info().session != token_text(session.token))
            fail_checkpoint("'" + directory + "' is a snapshot of session " + reader.info().session +
                            ", this is session " + token_text(session.token));
        report["snapshot"] = directory;
        report["calls_then"] = meta.at("executed");
        report["calls_now"] = session.executed;
        Comparison comparison(session, reader);
        MappedAside aside(session);
        compare_memory(session, comparison, aside, meta);
        compare_variables(session, comparison, meta);
        comparison.run();
        session.any_context();
        compare_arrays(session, comparison, meta);
        report["arrays"] = meta.value("arrays", json::array()).size();
        compare_host(session, comparison, meta);
        comparison.report(&report);
    }
    // Behind the comparison: the kernel's memory is another's before and after.
    report["contexts"] = json::array();
    const std::map<uint64_t, CUdevice> contexts(session.context_devices);
    for (const auto& [number, device] : contexts)
        report["contexts"].push_back(check_context(session, executor, number, device));
    return report;
}

}  // namespace cricket::server
