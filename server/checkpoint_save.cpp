// SPDX-License-Identifier: MIT
// A snapshot's data files: `memory` (device allocations, one after the other), `host` (registered host memory),
// `variables` (contents of module variables), `arrays` (checkpoint_arrays.h), `journal` (calls to repeat) with `images` (their attachments), `replies`
// (what the client may still ask for). The manifest's meta says where in them what is.
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

// As CBOR, since parameters are bytes.
json save_graphs(Session& session, SnapshotWriter& writer) {
    auto& out = writer.begin("graphs");
    const std::vector<uint8_t> bytes = json::to_cbor(session.graph_history.describe());
    out.write(std::as_bytes(std::span(bytes)));
    return bytes.size();
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
        meta["graphs"] = save_graphs(session, writer);
        session.any_context();
        meta["events"] = save_events(session);
    }
    writer.finish({token_text(session.token), session.epoch, checkpoint}, meta);
}

}  // namespace cricket::server
