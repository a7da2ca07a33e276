// SPDX-License-Identifier: MIT
// A snapshot's data files: `memory` (device allocations, one after the other), `host` (registered host memory),
// `variables` (contents of module variables), `arrays` (checkpoint_arrays.h), `journal` (calls to repeat) with `images` (their attachments), `replies`
// (what the client may still ask for). The manifest's meta says where in them what is.
#include "checkpoint.h"

#include <cstring>
#include <map>
#include <nlohmann/json.hpp>
#include <stdexcept>

#include "checkpoint_arrays.h"
#include "dispatch.h"
#include "session_names.h"
#include "snapshot_store.h"
#include "variables.h"

namespace cricket::server {
namespace {

using nlohmann::json;

constexpr uint64_t piece_bytes = 16u << 20;

[[noreturn]] void fail(const std::string& what) { throw std::runtime_error(what); }

std::string result_name(const DriverTable& driver, CUresult result) {
    const char* name = nullptr;
    if (driver.cuGetErrorName) driver.cuGetErrorName(result, &name);
    return name ? name : "error " + std::to_string(result);
}

// What cannot be made again yet, by name.
void refuse_unrestorable(Session& session) {
    if (const std::string callbacks = session.callbacks.describe_pending(); !callbacks.empty())
        fail("device work waits for " + callbacks + ": let the program go on until it has run");
    session.forget_destroyed();
    if (session.captures.any()) fail(session.captures.describe() + ", which cannot be restored");
    for (const auto& [place, entry] : session.journal.entries()) {
        if (entry.effect.kind != Effect::Kind::Create) continue;
        switch (const HandleKind kind = Objects::kind_of(entry.effect.object)) {
            case HandleKind::Context:
            case HandleKind::Module:
            case HandleKind::Library:
            case HandleKind::Kernel:
            case HandleKind::Function:
            case HandleKind::Stream:
            case HandleKind::Event:
            case HandleKind::LogsCallback:
            case HandleKind::AsyncCallback:
            case HandleKind::Array:
            case HandleKind::MipmappedArray:
            case HandleKind::TexObject:
            case HandleKind::SurfObject:
                break;
            default:
                fail(std::string("the session holds a ") + handle_kind_name(kind) + " (made by " +
                     dispatch_table[entry.procedure - wire::first_cuda_proc].name + "), which cannot be restored yet");
        }
    }
    each_loaded_image(session, [](const LoadedImage& image) {
        if (!image.facts.heap_user.empty())
            fail("the module with kernel " + image.facts.heap_user +
                 " calls malloc() on the device, and the device heap cannot be restored yet");
    });
    if (const std::string why = arrays_refusal(session); !why.empty()) fail(why + " cannot be restored yet");
    if (const std::string why = session.shared_refusal(); !why.empty()) fail(why + ", which cannot be restored yet");
    if (const CUresult status = session.synchronize_all(); status != CUDA_SUCCESS)
        fail("a context has the sticky error " + result_name(session.driver, status) + ", which cannot be restored");
}

// Pinned memory to copy through.
class Staging {
  public:
    explicit Staging(const DriverTable& driver) : driver_(driver) {
        if (driver_.cuMemAllocHost(&pinned_, piece_bytes) != CUDA_SUCCESS) {
            pinned_ = nullptr;
            pageable_.resize(piece_bytes);
        }
    }
    ~Staging() {
        if (pinned_) driver_.cuMemFreeHost(pinned_);
    }
    Staging(const Staging&) = delete;
    std::byte* data() { return pinned_ ? static_cast<std::byte*>(pinned_) : pageable_.data(); }

  private:
    const DriverTable& driver_;
    void* pinned_ = nullptr;
    std::vector<std::byte> pageable_;
};

void save_range(const DriverTable& driver, Staging& staging, SnapshotStream& out, uint64_t address, uint64_t bytes,
                const std::string& what) {
    for (uint64_t done = 0; done < bytes;) {
        const uint64_t piece = std::min(bytes - done, piece_bytes);
        const CUresult status = driver.cuMemcpyDtoH(staging.data(), address + done, piece);
        if (status != CUDA_SUCCESS) fail("reading " + what + ": " + result_name(driver, status));
        out.write(staging.data(), piece);
        done += piece;
    }
}

void load_range(const DriverTable& driver, Staging& staging, SnapshotReader& in, const std::string& file,
                uint64_t offset, uint64_t address, uint64_t bytes, const std::string& what) {
    for (uint64_t done = 0; done < bytes;) {
        // Pieces that end at chunk boundaries are read without an extra copy.
        const uint64_t room = piece_bytes - (offset + done) % snapshot_chunk_bytes;
        const uint64_t piece = std::min(bytes - done, room);
        in.read(file, offset + done, staging.data(), piece);
        const CUresult status = driver.cuMemcpyHtoD(address + done, staging.data(), piece);
        if (status != CUDA_SUCCESS) fail("writing " + what + ": " + result_name(driver, status));
        done += piece;
    }
}

std::string at_address(const std::string& what, uint64_t address) {
    char text[32];
    std::snprintf(text, sizeof text, " at %#llx", static_cast<unsigned long long>(address));
    return what + text;
}

json save_journal(Session& session, SnapshotWriter& writer) {
    auto& journal = writer.begin("journal");
    auto& images = writer.begin("images");
    std::map<const void*, std::pair<uint64_t, uint64_t>> written;  // the same image is written once
    json list = json::array();
    for (const auto& [place, entry] : session.journal.entries()) {
        json one{{"seq", entry.seq},
                 {"procedure", entry.procedure},
                 {"name", dispatch_table[entry.procedure - wire::first_cuda_proc].name},
                 {"kind", static_cast<int>(entry.effect.kind)},
                 {"object", entry.effect.object},
                 {"owner", entry.effect.owner},
                 {"key", {entry.effect.key[0], entry.effect.key[1]}},
                 {"at", journal.size()},
                 {"bytes", entry.message.size()}};
        journal.write(entry.message);
        if (entry.attachment) {
            auto [place, is_new] = written.try_emplace(entry.attachment.get(), images.size(), entry.attachment->size());
            if (is_new) images.write(entry.attachment->span());
            one["image"] = {place->second.first, place->second.second};
        }
        list.push_back(std::move(one));
    }
    return list;
}

json save_replies(Executor& executor, SnapshotWriter& writer) {
    auto& out = writer.begin("replies");
    json list = json::array();
    for (const auto& [seq, kept] : executor.kept()) {
        if (!kept.sent) fail("call " + std::to_string(seq) + " is still waiting for the device");
        list.push_back({{"seq", seq},
                        {"slot", kept.slot},
                        {"reply_offset", kept.reply_offset},
                        {"reply_bytes", kept.reply_bytes},
                        {"down_offset", kept.down_offset},
                        {"down_bytes", kept.down_bytes},
                        {"at", out.size()},
                        {"message", kept.message.size()},
                        {"down", kept.down.size()}});
        out.write(kept.message);
        out.write(kept.down);
    }
    return list;
}

json save_memory(Session& session, Staging& staging, SnapshotWriter& writer) {
    auto& out = writer.begin("memory");
    json list = json::array();
    for (const auto& [address, allocation] : session.device_memory.allocations()) {
        list.push_back({address, allocation.bytes, allocation.device, out.size(), allocation.context, allocation.pool});
        save_range(session.driver, staging, out, address, allocation.bytes, at_address("device memory", address));
    }
    return list;
}

// Physical memory of the application's own virtual-memory calls, mapped or not.
json save_virtual(Session& session, Staging& staging, SnapshotWriter& writer) {
    auto& out = writer.begin("virtual");
    json list = json::array();
    for (const auto& [number, allocation] : session.virtual_memory.allocations()) {
        const std::string what = "physical memory " + std::to_string(number);
        CUdeviceptr address = 0;
        if (const CUresult status = session.virtual_memory.map_aside(allocation, &address); status != CUDA_SUCCESS)
            fail("mapping " + what + ": " + result_name(session.driver, status));
        list.push_back({number, out.size()});
        save_range(session.driver, staging, out, address, allocation.bytes, what);
        session.virtual_memory.unmap_aside(allocation, address);
    }
    return list;
}

void load_virtual(Session& session, Staging& staging, SnapshotReader& reader, const json& list) {
    for (const json& one : list) {
        const uint64_t number = one[0], at = one[1];
        const std::string what = "physical memory " + std::to_string(number);
        const auto& allocation = session.virtual_memory.allocations().at(number);
        CUdeviceptr address = 0;
        if (const CUresult status = session.virtual_memory.map_aside(allocation, &address); status != CUDA_SUCCESS)
            fail("mapping " + what + ": " + result_name(session.driver, status));
        load_range(session.driver, staging, reader, "virtual", at, address, allocation.bytes, what);
        session.virtual_memory.unmap_aside(allocation, address);
    }
}

json save_variables(Session& session, Staging& staging, SnapshotWriter& writer) {
    auto& out = writer.begin("variables");
    json list = json::array();
    for (const ModuleVariable& variable : module_variables(session)) {
        list.push_back({{"image", variable.image},
                        {"context", variable.context},
                        {"name", variable.name},
                        {"address", variable.address},
                        {"bytes", variable.bytes},
                        {"at", out.size()}});
        if (const CUresult status = session.make_current(variable.context); status != CUDA_SUCCESS)
            fail("context of variable " + variable.name + ": " + result_name(session.driver, status));
        save_range(session.driver, staging, out, variable.address, variable.bytes, "variable " + variable.name);
    }
    return list;
}

json save_host(Session& session, bool coordinated, SnapshotWriter& writer) {
    auto& out = writer.begin("host");
    json list = json::array();
    for (const auto& [address, range] : session.host_memory.ranges()) {
        list.push_back({{"address", address}, {"bytes", range.bytes}, {"offset", range.offset}, {"flags", range.flags}, {"pageable", range.pageable}, {"at", out.size()}});
        if (!coordinated) out.write(HostMemory::content(range), range.bytes);
    }
    return list;
}

json save_copies(Session& session) {
    json list = json::array();
    for (const CopyToHost& copy : session.copies_to_host)
        list.push_back({copy.range.address, copy.range.bytes, copy.told_by});
    return list;
}

// What kernels have printed and the application has not fetched.
json save_text(Session& session, SnapshotWriter& writer) {
    auto& out = writer.begin("text");
    json one{{"possible", session.device_text.possible()}};
    for (int stream = 0; stream < DeviceText::streams; ++stream) {
        const uint64_t fetched = session.device_text.fetched(stream);
        const std::vector<char> text = session.device_text.read(stream, fetched, session.device_text.end(stream) - fetched);
        one["streams"].push_back({fetched, out.size(), text.size()});
        out.write(std::as_bytes(std::span(text)));
    }
    return one;
}

json save_events(Session& session) {
    json list = json::array();
    for (const auto& [number, time] : session.event_times) {
        if (!time.recorded) continue;
        double ms = time.ms;
        float since = 0;
        if (!time.old) {
            auto* event = static_cast<CUevent>(session.objects.get(HandleKind::Event, number));
            if (!event || !session.time_base || session.driver.cuEventElapsedTime(&since, session.time_base, event) != CUDA_SUCCESS)
                since = 0;
            ms = session.time_base_ms + since;
        }
        list.push_back({number, ms});
    }
    return list;
}

}  // namespace

void save_checkpoint(Session& session, Executor& executor, const std::string& directory, const std::string& checkpoint,
                     bool coordinated) {
    refuse_unrestorable(session);
    const bool on_device = session.any_context();
    SnapshotWriter writer(directory);
    json meta;
    meta["coordinated"] = coordinated;
    meta["program"] = session.program;
    meta["environment"] = session.environment;
    for (const auto& [names, times] : session.unsupported)
        meta["unsupported"].push_back({names.first, names.second, times});
    meta["pid"] = session.client_pid;
    meta["previous_epoch"] = session.previous_epoch;
    meta["attached_at"] = session.attached_at;
    meta["executed"] = session.executed;
    meta["callbacks_done"] = session.callbacks.done();
    meta["text"] = save_text(session, writer);
    meta["up_end"] = session.up_end;
    meta["last_index"] = session.objects.last_index();
    meta["posted"] = {session.posted().result, session.posted().seq};
    meta["host_file_bytes"] = session.host_memory.file_size();
    for (const auto& [device, count] : session.primary_retained) meta["primary_retained"].push_back({device, count});
    for (const auto& [number, device] : session.context_devices) meta["contexts"].push_back({number, device});
    if (!session.pools.empty()) meta["pools"] = session.pools.describe();  // gives back what nobody uses any more
    for (const auto& chunk : session.device_memory.describe())
        meta["chunks"].push_back({chunk.address, chunk.bytes, chunk.device, static_cast<int>(chunk.kind)});
    if (!session.virtual_memory.empty()) meta["virtual"] = session.virtual_memory.describe();
    meta["journal"] = save_journal(session, writer);
    meta["replies"] = save_replies(executor, writer);
    meta["host"] = save_host(session, coordinated, writer);
    meta["managed"] = session.managed.describe();
    meta["copies_to_host"] = save_copies(session);
    if (on_device) {
        Staging staging(session.driver);
        meta["variables"] = save_variables(session, staging, writer);
        session.any_context();
        meta["memory"] = save_memory(session, staging, writer);
        if (!session.virtual_memory.empty()) meta["virtual_content"] = save_virtual(session, staging, writer);
        meta["arrays"] = save_arrays(session, writer);
        session.any_context();
        meta["events"] = save_events(session);
    }
    writer.finish({token_text(session.token), session.epoch, checkpoint}, meta);
}

namespace {

// Runs one journalled call again; the numbers it gives out are those of its first life.
void replay(Session& session, Executor& executor, const JournalEntry& entry) {
    const DispatchEntry& dispatch = dispatch_table[entry.procedure - wire::first_cuda_proc];
    const std::string what = std::string(dispatch.name) + " (call " + std::to_string(entry.seq) + ")";
    XDR xdrs;
    xdrmem_create(&xdrs, reinterpret_cast<char*>(const_cast<std::byte*>(entry.message.data())),
                  static_cast<u_int>(entry.message.size()), XDR_DECODE);
    Call call{session, session.driver, session.objects, {}, nullptr, 0, entry.attachment, true, 0, 0};
    uint32_t xid = 0, procedure = 0;
    if (!rpc::decode_call_head(&xdrs, &xid, &procedure, &call.credential) || procedure != entry.procedure)
        fail("repeating " + what + ": its message cannot be read");
    std::vector<std::byte> args(dispatch.args_size);  // operator new aligns it, and every byte is zero
    std::vector<std::byte> res(dispatch.res_size);
    if (!(*dispatch.xdr_args)(&xdrs, static_cast<void*>(args.data()), 0))
        fail("repeating " + what + ": its arguments cannot be read");
    if (entry.effect.kind == Effect::Kind::Create) session.objects.force({entry.effect.object});
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
std::vector<JournalEntry> load_journal(Session& session, Executor& executor, SnapshotReader& reader) {
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
            }
            entry.attachment = image;
        }
        if (made_by_value(entry))
            by_value.push_back(std::move(entry));
        else
            replay(session, executor, entry);
    }
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

void load_variables(Session& session, Staging& staging, SnapshotReader& reader, const json& list) {
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
            fail(at_address("variable " + name + " was", address) + at_address(" and would now be", found->second.address) +
                 ": pointers to it would be wrong");
        if (session.make_current(context) != CUDA_SUCCESS) fail("context of variable " + name + " cannot be used");
        load_range(session.driver, staging, reader, "variables", one.at("at"), address, bytes, "variable " + name);
    }
}

void load_host(Session& session, bool coordinated, SnapshotReader& reader) {
    const json& meta = reader.meta();
    const json& list = meta.at("host");
    if (list.empty()) return;
    std::string why;
    if (!session.host_memory.prepare(meta.at("host_file_bytes"), &why)) fail(why);
    for (const json& one : list) {
        const uint64_t address = one.at("address"), bytes = one.at("bytes"), offset = one.at("offset");
        const CUresult status = one.value("pageable", false) ? session.host_memory.share(address, bytes, offset)
                                                             : session.host_memory.add(address, bytes, offset, one.at("flags"));
        if (status != CUDA_SUCCESS) fail(at_address("host memory", address) + ": " + result_name(session.driver, status));
        if (!coordinated) reader.read("host", one.at("at"), reinterpret_cast<void*>(address), bytes);
    }
    session.managed.recreate(meta.value("managed", json::array()));
    for (const json& one : meta.at("copies_to_host"))
        session.copies_to_host.push_back({{one[0], one[1]}, nullptr, one[2], nullptr});
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

}  // namespace

Variables saved_environment(const std::string& directory) {
    try {
        return SnapshotReader(directory).meta().value("environment", Variables());
    } catch (const std::exception&) {
        return {};  // load_checkpoint() will say what is wrong
    }
}

bool load_checkpoint(Session& session, Executor& executor, const std::string& directory) {
    SnapshotReader reader(directory);
    const json& meta = reader.meta();
    const bool coordinated = meta.at("coordinated");
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
    std::vector<JournalEntry> by_value = load_journal(session, executor, reader);
    session.objects.set_last_index(meta.at("last_index"));
    if (meta.contains("primary_retained")) {
        for (const json& one : meta["primary_retained"]) {
            const CUdevice device = one[0];
            const unsigned wanted = one[1];
            unsigned& now = session.primary_retained[device];
            for (CUcontext ignored; now < wanted; ++now) session.driver.cuDevicePrimaryCtxRetain(&ignored, device);
            for (; now > wanted; --now) session.driver.cuDevicePrimaryCtxRelease(device);
        }
    }
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
    if (session.any_context()) {
        Staging staging(session.driver);
        load_host(session, coordinated, reader);
        load_variables(session, staging, reader, meta.value("variables", json::array()));
        session.any_context();
        for (const json& one : meta.value("memory", json::array()))
            load_range(session.driver, staging, reader, "memory", one[3], one[0], one[1], at_address("device memory", one[0]));
        load_virtual(session, staging, reader, meta.value("virtual_content", json::array()));
        load_arrays(session, reader, meta.value("arrays", json::array()));
        load_values(session, executor, std::move(by_value));
        session.any_context();
        load_events(session, meta.value("events", json::array()));
        if (const CUresult status = session.synchronize_all(); status != CUDA_SUCCESS)
            fail("the device after the restore: " + result_name(session.driver, status));
    }
    load_text(session, reader);
    load_replies(executor, reader);
    return coordinated;
}

}  // namespace cricket::server
