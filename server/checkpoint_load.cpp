// SPDX-License-Identifier: MIT
// A session made again from a snapshot (checkpoint_save.cpp says what is where in one): first the journal, then memory at
// its places, then what lies in memory, then what depends on that.
#include "checkpoint.h"

#include <cstring>
#include <map>
#include <nlohmann/json.hpp>

#include "checkpoint_arrays.h"
#include "checkpoint_data.h"
#include "checkpoint_parts.h"
#include "dispatch.h"
#include "session_names.h"
#include "snapshot_store.h"
#include "variables.h"

namespace cricket::server {
namespace {

using nlohmann::json;
[[noreturn]] void fail(const std::string& what) { fail_checkpoint(what); }

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
        if (GraphHistory::recreates(entry.effect.object))
            session.journal.record(entry);  // load_graphs()
        else if (made_by_value(entry))
            by_value.push_back(std::move(entry));
        else
            replay(session, executor, entry);
    }
    return by_value;
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

void load_graphs(Session& session, SnapshotReader& reader, uint64_t bytes) {
    if (!bytes) return;
    std::vector<uint8_t> cbor(bytes);
    reader.read("graphs", 0, cbor.data(), cbor.size());
    session.graph_history.recreate(json::from_cbor(cbor));
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
        load_graphs(session, reader, meta.value("graphs", uint64_t(0)));
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
