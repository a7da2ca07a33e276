// SPDX-License-Identifier: MIT
// A session made again from a snapshot (checkpoint_save.cpp says what is where in one): first the journal, then memory at
// its places, then what lies in memory, then what depends on that.
#include "checkpoint.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <map>
#include <optional>
#include <nlohmann/json.hpp>
#include <set>

#include "checkpoint_arrays.h"
#include "checkpoint_devices.h"
#include "checkpoint_parts.h"
#include "crew.h"
#include "cricket/clock.h"
#include "cricket/primary_contexts.h"
#include "device_pipe.h"
#include "dispatch.h"
#include "log.h"
#include "placement.h"
#include "session_names.h"
#include "snapshot_store.h"
#include "variables.h"

namespace cricket::server {
namespace {

using nlohmann::json;
[[noreturn]] void fail(const std::string& what) { fail_checkpoint(what); }

// Runs one journalled call again; the numbers it gives out are those of its first life.
void replay(Session& session, Executor& executor, const JournalEntry& entry, Placement* placement) {
    const DispatchEntry& dispatch = dispatch_table[entry.procedure - wire::first_cuda_proc];
    const std::string what = std::string(dispatch.name) + " (call " + std::to_string(entry.seq) + ")";
    XDR xdrs;
    rpc::memory_xdr(&xdrs, entry.message.data(), static_cast<uint32_t>(entry.message.size()), XDR_DECODE);
    Call call{session, session.driver, session.objects, {}, nullptr, 0, entry.attachment, true, 0, 0};
    uint32_t xid = 0, procedure = 0;
    if (!rpc::decode_call_head(&xdrs, &xid, &procedure, &call.credential) || procedure != entry.procedure)
        fail("repeating " + what + ": its message cannot be read");
    std::vector<std::byte> args(dispatch.args_size);  // operator new aligns it, and every byte is zero
    std::vector<std::byte> res(dispatch.res_size);
    if (!(*dispatch.xdr_args)(&xdrs, static_cast<void*>(args.data()), 0))
        fail("repeating " + what + ": its arguments cannot be read");
    if (entry.effect.kind == Effect::Kind::Create) session.objects.force({entry.effect.object});
    if (placement) {  // a module is loaded where it is made, a library in its first use in a context
        const HandleKind loads = entry.effect.kind == Effect::Kind::Load ? HandleKind::Library : HandleKind::Module;
        if (Objects::kind_of(entry.effect.object) == loads) placement->before_load(entry.effect.object, call.credential.context);
    }
    executor.execute(dispatch, entry.procedure, call, args.data(), res.data());
    int32_t status = 0;
    std::memcpy(&status, res.data(), sizeof status);
    if (status != CUDA_SUCCESS) fail("repeating " + what + ": " + result_name(session.driver, static_cast<CUresult>(status)));
    if (!session.objects.all_forced_used()) fail("repeating " + what + ": it gave an object that exists already");
    XDR free_args{}, free_res{};
    free_args.x_op = free_res.x_op = XDR_FREE;
    (*dispatch.xdr_args)(&free_args, static_cast<void*>(args.data()), 0);
    (*dispatch.xdr_res)(&free_res, static_cast<void*>(res.data()), 0);
    session.forget_objects(session.journal.record(entry));
    session.note_created(entry.effect);
}

// Returns the entries that are repeated once memory is there.
std::vector<JournalEntry> load_journal(Session& session, Executor& executor, SnapshotReader& reader, bool only_code, Placement* placement) {
    std::vector<JournalEntry> by_value;
    std::map<uint64_t, Attachment> images;
    for (const json& one : reader.meta().at("journal")) {
        JournalEntry entry;
        entry.seq = one.at("seq");
        entry.procedure = one.at("procedure");
        const uint32_t index = entry.procedure - wire::first_cuda_proc;
        if (index >= dispatch_count || one.at("name") != dispatch_table[index].name)
            fail("the snapshot's journal names " + one.at("name").get<std::string>() + ", which this server numbers otherwise");
        entry.effect.kind = static_cast<Effect::Kind>(one.at("kind").get<int>());
        entry.effect.object = one.at("object");
        const HandleKind kind = Objects::kind_of(entry.effect.object);
        // What is loaded in a context goes with the reset.
        if (only_code && ((kind != HandleKind::Library && kind != HandleKind::Kernel) || entry.effect.kind == Effect::Kind::Load)) continue;
        entry.effect.owner = one.at("owner");
        entry.effect.key[0] = one.at("key")[0];
        entry.effect.key[1] = one.at("key")[1];
        entry.message.resize(one.at("bytes").get<uint64_t>());
        reader.read("journal", one.at("at"), entry.message);
        if (one.contains("image")) {
            const uint64_t at = one["image"][0], bytes = one["image"][1];
            Attachment& image = images[at];
            if (!image) {
                void* place = bytes >= wire::smallest_offer ? map_image(-1, 0, bytes) : nullptr;
                std::vector<std::byte> data(place ? 0 : bytes);
                std::byte* to = place ? static_cast<std::byte*>(place) : data.data();
                reader.read("images", at, to, bytes);
                image = place ? std::make_shared<const ImageBytes>(place, bytes, std::span<const std::byte>(to, bytes))
                              : std::make_shared<const ImageBytes>(std::move(data));
                if (!place) session.images.note(image);
            }
            entry.attachment = image;
        }
        if (GraphHistory::recreates(entry.effect.object))
            session.journal.record(entry);  // load_graphs()
        else if (made_by_value(entry))
            by_value.push_back(std::move(entry));
        else
            replay(session, executor, entry, placement);
    }
    if (placement) placement->give_back();
    return by_value;
}

void load_text(Session& session, SnapshotReader& reader) {
    if (!reader.meta().contains("text")) return;
    const json& meta = reader.meta()["text"];
    session.device_text.set_possible(meta.at("possible"));
    for (int stream = 0; stream < DeviceText::streams; ++stream) {
        const json& one = meta.at("streams").at(static_cast<size_t>(stream));
        std::vector<char> text(one[2].get<size_t>());
        reader.read("text", one[1], text.data(), text.size());
        session.device_text.restore(stream, one[0], text);
    }
}

void load_replies(Executor& executor, SnapshotReader& reader) {
    for (const json& one : reader.meta().at("replies")) {
        KeptReply kept;
        kept.slot = one.at("slot");
        kept.reply_offset = one.at("reply_offset");
        kept.reply_bytes = one.at("reply_bytes");
        kept.down_offset = one.at("down_offset");
        kept.down_bytes = one.at("down_bytes");
        kept.sent = true;
        kept.message.resize(one.at("message").get<uint64_t>());
        kept.down.resize(one.at("down").get<uint64_t>());
        const uint64_t at = one.at("at");
        reader.read("replies", at, kept.message);
        reader.read("replies", at + kept.message.size(), kept.down);
        executor.kept()[one.at("seq")] = std::move(kept);
    }
}

// Where device memory comes from: all of it is listed first, and then read in parallel.
class DeviceContent {
  public:
    DeviceContent(Session& session, const SnapshotReader& reader) : session_(session), reader_(reader) {}

    void add(const std::string& part, uint64_t offset, uint64_t address, uint64_t bytes, uint64_t context, int32_t device) {
        const uint32_t lane = lane_of(context, device);
        const auto chunks = reader_.chunks(part);
        auto chunk = std::upper_bound(chunks.begin(), chunks.end(), offset,
                                      [](uint64_t at, const ChunkRecord& one) { return at < one.offset; });
        if (chunk != chunks.begin()) --chunk;
        bool after_zeros = true;
        for (uint64_t done = 0; done < bytes;) {
            while (chunk != chunks.end() && chunk->offset + chunk->bytes <= offset + done) ++chunk;
            // What is in no chunk is left to the reader, who says so.
            const bool known = chunk != chunks.end() && chunk->offset <= offset + done;
            const uint64_t end = known ? std::min(bytes, chunk->offset + chunk->bytes - offset) : bytes;
            const bool zeros = known && chunk->pack == zeros_pack;
            while (done < end) {
                const uint64_t most = zeros ? end - done : DevicePipe::buffer_bytes;
                uint64_t length = std::min(end - done, most);
                if (zeros && !zeros_.empty() && zeros_.back().address + zeros_.back().tag == address + done) {
                    zeros_.back().tag += length;
                } else if (zeros) {
                    zeros_.push_back({address + done, 0, lane, length});
                } else if (!after_zeros && !runs_.empty() && runs_.back().bytes + length <= DevicePipe::buffer_bytes) {
                    runs_.back().bytes += static_cast<uint32_t>(length);
                } else {
                    runs_.push_back({address + done, static_cast<uint32_t>(length), lane, sources_.size()});
                    sources_.push_back({&part_name(part), offset + done});
                }
                after_zeros = zeros;
                done += length;
            }
        }
        bytes_ += bytes;
    }

    void load() {
        for (const DeviceRun& run : zeros_) {
            CUresult status = session_.driver.cuCtxSetCurrent(lanes_[run.lane].context);
            if (status == CUDA_SUCCESS) status = session_.driver.cuMemsetD8Async(run.address, 0, run.tag, lanes_[run.lane].stream);
            if (status != CUDA_SUCCESS) fail(at_address("writing device memory", run.address) + ": " + result_name(session_.driver, status));
        }
        if (!runs_.empty()) {
            DevicePipe pipe(session_.driver, lanes_, bytes_);
            pipe.push(runs_, stop_, [&](unsigned, const DeviceRun& run, std::span<std::byte> to) {
                reader_.read(*sources_[run.tag].part, sources_[run.tag].offset, to);
            });
        }
        for (Lane& lane : lanes_) {
            CUresult status = session_.driver.cuCtxSetCurrent(lane.context);
            if (status == CUDA_SUCCESS) status = session_.driver.cuStreamSynchronize(lane.stream);
            close_lane(session_.driver, lane);
            if (status != CUDA_SUCCESS) fail("writing device memory: " + result_name(session_.driver, status));
        }
        session_.forget_current();
    }
    uint64_t bytes() const { return bytes_; }

  private:
    struct Source {
        const std::string* part;
        uint64_t offset;
    };
    const std::string& part_name(const std::string& part) { return *names_.insert(part).first; }
    uint32_t lane_of(uint64_t context, int32_t device) {
        for (const auto& [number, of] : session_.context_devices)
            if (!context && of == device) context = number;
        if (!context) context = session_.context_devices.begin()->first;
        auto [place, is_new] = lane_numbers_.try_emplace(context, static_cast<uint32_t>(lanes_.size()));
        if (is_new) {
            Lane lane;
            lane.context = static_cast<CUcontext>(session_.objects.get(HandleKind::Context, context));
            lane.device = device;
            const CUresult status = open_lane(session_.driver, lane);
            session_.forget_current();
            if (status != CUDA_SUCCESS) fail("a context cannot be used: " + result_name(session_.driver, status));
            lanes_.push_back(std::move(lane));
        }
        return place->second;
    }

    Session& session_;
    const SnapshotReader& reader_;
    std::vector<Lane> lanes_;
    std::map<uint64_t, uint32_t> lane_numbers_;
    std::set<std::string> names_;
    std::vector<DeviceRun> runs_, zeros_;  // of zeros, the tag says how many
    std::vector<Source> sources_;
    std::atomic<bool> stop_{false};
    uint64_t bytes_ = 0;
};

void add_memory(const json& meta, DeviceContent& content) {
    if (meta.contains("memory_ranges")) {
        for (const json& one : meta["memory_ranges"]) content.add("memory", one[3], one[0], one[1], 0, one[2]);
    } else {  // of format 1
        for (const json& one : meta.value("memory", json::array())) content.add("memory", one[3], one[0], one[1], 0, one[2]);
    }
}

// Returns what add_virtual() mapped, by number.
std::vector<std::pair<uint64_t, CUdeviceptr>> add_virtual(Session& session, const json& list, DeviceContent& content) {
    std::vector<std::pair<uint64_t, CUdeviceptr>> mapped;
    const auto whole = session.virtual_memory.mapped_whole();
    for (const json& one : list) {
        const uint64_t number = one[0];
        const auto& allocation = session.virtual_memory.allocations().at(number);
        const auto there = whole.find(number);
        CUdeviceptr address = there == whole.end() ? 0 : there->second;
        if (!address) {
            if (const CUresult status = session.virtual_memory.map_aside(allocation, &address); status != CUDA_SUCCESS)
                fail("mapping physical memory " + std::to_string(number) + ": " + result_name(session.driver, status));
            mapped.push_back({number, address});
        }
        content.add("virtual", one[1], address, allocation.bytes, 0, allocation.properties.location.id);
    }
    return mapped;
}

void add_variables(Session& session, const json& list, DeviceContent& content) {
    std::map<std::tuple<uint64_t, uint64_t, std::string>, ModuleVariable> now;
    for (ModuleVariable& variable : module_variables(session)) {
        auto key = std::make_tuple(variable.image, variable.context, variable.name);
        now[key] = std::move(variable);
    }
    for (const json& one : list) {
        const std::string name = one.at("name");
        const uint64_t address = one.at("address"), bytes = one.at("bytes"), context = one.at("context");
        auto found = now.find({one.at("image").get<uint64_t>(), context, name});
        if (found == now.end()) fail("variable " + name + " is not there any more after its module was loaded again");
        if (found->second.address != address || found->second.bytes != bytes)
            throw Displaced(at_address("variable " + name + " was", address) + at_address(" and would now be", found->second.address) +
                            ": pointers to it would be wrong");
        content.add("variables", one.at("at"), address, bytes, context, session.context_devices.at(context));
    }
}

// Says in the log how long each step took.
class Steps {
  public:
    void done(const char* step) {
        const uint64_t now = now_ns();
        char text[64];
        std::snprintf(text, sizeof text, "%s%s %.1f ms", text_.empty() ? "" : ", ", step, static_cast<double>(now - last_) / 1e6);
        text_ += text;
        last_ = now;
    }
    void log(const std::string& directory, uint64_t bytes) const {
        log_info("'%s' is restored, %.1f MiB of device memory in %.1f ms: %s", directory.c_str(),
                 static_cast<double>(bytes) / 1048576, static_cast<double>(now_ns() - began_) / 1e6, text_.c_str());
    }

  private:
    const uint64_t began_ = now_ns();
    uint64_t last_ = began_;
    std::string text_;
};

void load_host(Session& session, bool coordinated, SnapshotReader& reader) {
    const json& meta = reader.meta();
    const json& list = meta.at("host");
    if (list.empty()) return;
    std::string why;
    if (!session.host_memory.prepare(meta.at("host_file_bytes"), &why)) fail(why);
    struct Piece {
        uint64_t address, at, bytes;
    };
    std::vector<Piece> pieces;
    for (const json& one : list) {
        const uint64_t address = one.at("address"), bytes = one.at("bytes"), offset = one.at("offset"), at = one.at("at");
        const CUresult status = one.value("pageable", false) ? session.host_memory.share(address, bytes, offset)
                                                             : session.host_memory.add(address, bytes, offset, one.at("flags"));
        if (status != CUDA_SUCCESS) fail(at_address("host memory", address) + ": " + result_name(session.driver, status));
        if (!coordinated)
            for (uint64_t done = 0; done < bytes; done += DevicePipe::buffer_bytes)
                pieces.push_back({address + done, at + done, std::min(bytes - done, DevicePipe::buffer_bytes)});
    }
    std::atomic<size_t> next{0};
    std::atomic<bool> stop{false};
    with_crew(pieces.empty() ? 0 : std::min<unsigned>(crew_size(pieces.size() * DevicePipe::buffer_bytes), static_cast<unsigned>(pieces.size())),
              stop, [&](unsigned) {
                  for (size_t i; !stop && (i = next.fetch_add(1)) < pieces.size();)
                      reader.read("host", pieces[i].at, reinterpret_cast<void*>(pieces[i].address), pieces[i].bytes);
              });
    if (meta.contains("host_image")) session.host_memory.image().load(meta["host_image"], reader, session.executed);
    session.managed.recreate(meta.value("managed", json::array()));
    for (const json& one : meta.at("copies_to_host"))
        session.copies_to_host.push_back({{{one[0], one[1]}}, nullptr, nullptr, one[2], nullptr});
}

// Recorded events are recorded again, so that waiting for them and asking them answers as before.
void load_events(Session& session, const json& list) {
    for (const json& one : list) {
        const uint64_t number = one[0];
        auto* event = static_cast<CUevent>(session.objects.get(HandleKind::Event, number));
        if (!event || session.make_current(session.journal.owner(number)) != CUDA_SUCCESS) continue;
        session.driver.cuEventRecord(event, CU_STREAM_LEGACY);
        session.event_times[number] = {one[1], true, true};
        session.time_base_ms = std::max<double>(session.time_base_ms, one[1]);
    }
    // The new base before any new event, whatever stream that is recorded in: time must not run backwards from the
    // restored events to those recorded from now on. The caller synchronizes.
    if (!session.event_times.empty() && !session.time_base &&
        session.driver.cuEventCreate(&session.time_base, CU_EVENT_DEFAULT) == CUDA_SUCCESS)
        session.driver.cuEventRecord(session.time_base, CU_STREAM_LEGACY);
}

void load_graphs(Session& session, SnapshotReader& reader, uint64_t bytes) {
    if (!bytes) return;
    std::vector<uint8_t> cbor(bytes);
    reader.read("graphs", 0, cbor.data(), cbor.size());
    session.graph_history.put_off(json::from_cbor(cbor));
}

// The application has this device's primary context, and nothing is in it.
void lose(Session& session, CUdevice device) {
    const uint64_t number = primary_context_number(device);
    session.make_current(0);
    session.context_devices.erase(number);
    session.lost_devices.insert(device);
}

// Of a session that was saved without its GPU: its primary contexts, as the first calls of the application would make them.
void retain_empty(Session& session, Executor& executor, const json& meta) {
    int devices = 0;
    session.driver.cuDeviceGetCount(&devices);
    for (const json& one : meta.value("primary_retained", json::array())) {
        const CUdevice device = one[0];
        if (device >= devices) {  // its calls say that the contents are lost all the same, until the application resets it
            log_info("device %d of this session is not here: there %s %d", device, devices == 1 ? "is" : "are", devices);
            session.primary_retained[device] = one[1];
            continue;
        }
        for (unsigned count = one[1]; count > 0; --count) {
            Call call{session, session.driver, session.objects, {}, nullptr, 0, {}, false, 0, 0};
            cuDevicePrimaryCtxRetain_args args{};
            cuDevicePrimaryCtxRetain_res res{};
            args.dev = device;
            const auto procedure = static_cast<uint32_t>(Proc::cuDevicePrimaryCtxRetain);
            executor.execute(dispatch_table[procedure - wire::first_cuda_proc], procedure, call, &args, &res);
            if (res.status != CUDA_SUCCESS)
                fail("the context of device " + std::to_string(device) + ": " +
                     result_name(session.driver, static_cast<CUresult>(res.status)));
        }
    }
    log_info("this session comes back without its GPU: calls answer CUDA_ERROR_CONTEXT_IS_DESTROYED until the application "
             "resets the device");
}

// Where the session stood in its log of calls, and whose it is.
void load_position(Session& session, const SnapshotReader& reader) {
    const json& meta = reader.meta();
    if (!parse_token(reader.info().session, &session.token)) fail("the snapshot's session token is not 32 hex digits");
    session.epoch = reader.info().epoch;
    session.previous_epoch = meta.at("previous_epoch");
    session.attached_at = meta.at("attached_at");
    session.executed = meta.at("executed");
    session.up_end = meta.at("up_end");
    session.callbacks.set_done(meta.value("callbacks_done", uint64_t(0)));
    session.program = meta.at("program");
    session.environment = meta.value("environment", Variables());
    for (const json& one : meta.value("unsupported", json::array())) session.unsupported[{one[0], one[1]}] = one[2];
    session.client_pid = meta.at("pid");
    session.set_posted({meta.at("posted")[0], meta.at("posted")[1]});
    session.refused_fetch = meta.value("refused_fetch", 0u);  // earlier snapshots do not say
}

// As often as the application had retained each, whatever the journal's calls did.
void retain_primaries(Session& session, const json& meta) {
    for (const json& one : meta.value("primary_retained", json::array())) {
        const CUdevice device = one[0];
        const unsigned wanted = one[1];
        unsigned& now = session.primary_retained[device];
        for (CUcontext ignored; now < wanted; ++now) session.driver.cuDevicePrimaryCtxRetain(&ignored, device);
        for (; now > wanted; --now) session.driver.cuDevicePrimaryCtxRelease(device);
    }
}

// Device memory, pools and the application's own address ranges, without what is in them.
void make_memory(Session& session, const json& meta) {
    if (meta.contains("chunks")) {
        std::vector<DeviceMemory::ChunkDescription> chunks;
        std::vector<DeviceAllocation> allocations;
        for (const json& one : meta["chunks"]) chunks.push_back({one[0], one[1], one[2], static_cast<DeviceMemory::ChunkKind>(one[3].get<int>())});
        for (const json& one : meta.value("memory", json::array()))
            allocations.push_back({one[0], one[1], one[2], one.size() > 4 ? one[4].get<uint64_t>() : 0,
                                   one.size() > 5 ? one[5].get<uint64_t>() : 0, false});
        const CUresult status = session.device_memory.recreate(chunks, allocations);
        if (status != CUDA_SUCCESS) fail("device memory cannot be made again: " + result_name(session.driver, status));
    }
    if (meta.contains("pools")) {
        const CUresult status = session.pools.recreate(meta["pools"]);
        if (status != CUDA_SUCCESS) fail("memory pools cannot be made again: " + result_name(session.driver, status));
    }
    if (meta.contains("virtual")) {
        const CUresult status = session.virtual_memory.recreate(meta["virtual"]);
        if (status != CUDA_SUCCESS) fail("the application's address ranges cannot be made again: " + result_name(session.driver, status));
    }
}

// Returns the bytes.
uint64_t load_device_memory(Session& session, const SnapshotReader& reader) {
    const json& meta = reader.meta();
    DeviceContent content(session, reader);
    add_variables(session, meta.value("variables", json::array()), content);
    session.any_context();
    add_memory(meta, content);
    const auto mapped = add_virtual(session, meta.value("virtual_content", json::array()), content);
    content.load();
    for (const auto& [number, address] : mapped)
        session.virtual_memory.unmap_aside(session.virtual_memory.allocations().at(number), address);
    session.any_context();
    return content.bytes();
}

}  // namespace

Variables saved_environment(const std::string& directory) {
    try {
        return SnapshotReader(directory).meta().value("environment", Variables());
    } catch (const std::exception&) {
        return {};  // load_checkpoint() will say what is wrong
    }
}

bool load_checkpoint(Session& session, Executor& executor, const std::string& directory, bool without_gpu, bool place,
                     const std::function<void()>& checked) {
    Steps steps;
    SnapshotReader reader(directory);
    steps.done("manifest");
    const json& meta = reader.meta();
    const bool coordinated = meta.at("coordinated");
    if (without_gpu && !coordinated) fail("without the GPU only the GPU's half of a checkpoint can be loaded: its program has the newest host memory");
    without_gpu |= meta.value("without_gpu", false);
    load_position(session, reader);
    if (!without_gpu) require_devices(session.driver, reader);
    session.contexts_lost = without_gpu || meta.contains("lost");
    if (without_gpu) retain_empty(session, executor, meta);
    std::optional<Placement> placement;
    if (place && !without_gpu) placement.emplace(session, meta.value("variables", json::array()));
    std::vector<JournalEntry> by_value = load_journal(session, executor, reader, without_gpu, placement ? &*placement : nullptr);
    if (!without_gpu) require_free_memory(session, meta);
    checked();
    steps.done("journal");
    session.objects.set_last_index(meta.at("last_index"));
    retain_primaries(session, meta);
    if (!without_gpu) make_memory(session, meta);
    steps.done("memory made");
    uint64_t device_bytes = 0;
    if (!without_gpu && session.any_context()) {
        load_host(session, coordinated, reader);
        steps.done("host memory");
        device_bytes = load_device_memory(session, reader);
        steps.done("device memory");
        load_arrays(session, reader, meta.value("arrays", json::array()));
        load_values(session, executor, std::move(by_value));
        load_graphs(session, reader, meta.value("graphs", uint64_t(0)));
        session.any_context();
        load_events(session, meta.value("events", json::array()));
        if (const CUresult status = session.synchronize_all(); status != CUDA_SUCCESS)
            fail("the device after the restore: " + result_name(session.driver, status));
        steps.done("arrays and events");
    }
    if (without_gpu)
        for (const auto& [device, count] : session.primary_retained)
            if (count) lose(session, device);
    for (const CUdevice device : meta.value("lost", std::vector<CUdevice>())) lose(session, device);
    load_text(session, reader);
    load_replies(executor, reader);
    steps.log(directory, device_bytes);
    return coordinated;
}

}  // namespace cricket::server
