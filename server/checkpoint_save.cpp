// SPDX-License-Identifier: MIT
// A snapshot's parts: `memory` (device memory, at offsets that are those of its addresses within a chunk), `virtual` (physical
// memory of the virtual-memory calls), `variables` (of modules), `arrays` (checkpoint_arrays.h), `host` (registered host
// memory), `journal` (calls to repeat) with `images` (their attachments), `replies` (what the client may still ask for),
// `text`. The manifest's meta says where in them what is.
#include "checkpoint_capture.h"

#include <map>
#include <nlohmann/json.hpp>

#include "checkpoint_arrays.h"
#include "checkpoint_devices.h"
#include "checkpoint_parts.h"
#include "cricket/round_up.h"
#include "dispatch.h"
#include "session_names.h"
#include "snapshot_store.h"
#include "variables.h"

namespace cricket::server {
namespace {

using nlohmann::json;
[[noreturn]] void fail(const std::string& what) { fail_checkpoint(what); }

// Allocations that lie near each other in one chunk of device memory are one range: many small ones cost little.
json save_memory(Session& session, SnapshotWriter& writer, Capture& capture) {
    constexpr uint64_t near = 64u << 10;
    const uint32_t part = writer.add_part("memory");
    const auto chunks = session.device_memory.describe();
    auto chunk = chunks.begin();
    json list = json::array();
    CapturedRange range;
    uint64_t chunk_end = 0, next_offset = 0;
    const auto close = [&] {
        if (!range.bytes) return;
        next_offset = round_up(range.offset + range.bytes, snapshot_chunk_bytes);
        capture.ranges.push_back(range);
        capture.meta["memory_ranges"].push_back({range.address, range.bytes, range.device, range.offset});
    };
    for (const auto& [address, allocation] : session.device_memory.allocations()) {
        if (!range.bytes || address >= chunk_end || address > range.address + range.bytes + near) {
            close();
            while (chunk != chunks.end() && chunk->address + chunk->bytes <= address) ++chunk;
            chunk_end = chunk == chunks.end() ? address : chunk->address + chunk->bytes;
            range = {address, 0, part, next_offset + address % snapshot_chunk_bytes, 0, allocation.device};
        }
        range.bytes = std::max(range.bytes, address + allocation.bytes - range.address);
        list.push_back({address, allocation.bytes, allocation.device, range.offset + (address - range.address),
                        allocation.context, allocation.pool});
    }
    close();
    return list;
}

// Physical memory of the application's own virtual-memory calls, mapped or not.
json save_virtual(Session& session, SnapshotWriter& writer, Capture& capture) {
    const uint32_t part = writer.add_part("virtual");
    json list = json::array();
    uint64_t offset = 0;
    const auto mapped = session.virtual_memory.mapped_whole();
    for (const auto& [number, allocation] : session.virtual_memory.allocations()) {
        const auto there = mapped.find(number);
        CUdeviceptr address = there == mapped.end() ? 0 : there->second;
        if (!address) {
            if (const CUresult status = session.virtual_memory.map_aside(allocation, &address); status != CUDA_SUCCESS)
                fail("mapping physical memory " + std::to_string(number) + ": " + result_name(session.driver, status));
            capture.mapped.push_back({number, address});
        }
        list.push_back({number, offset});
        capture.ranges.push_back({address, allocation.bytes, part, offset, 0, allocation.properties.location.id});
        offset = round_up(offset + allocation.bytes, snapshot_chunk_bytes);
    }
    return list;
}

json save_variables(Session& session, SnapshotWriter& writer, Capture& capture) {
    constexpr uint64_t apart = 256;
    const uint32_t part = writer.add_part("variables");
    json list = json::array();
    uint64_t offset = 0;
    for (const ModuleVariable& variable : module_variables(session)) {
        list.push_back({{"image", variable.image},
                        {"context", variable.context},
                        {"name", variable.name},
                        {"address", variable.address},
                        {"bytes", variable.bytes},
                        {"at", offset}});
        capture.ranges.push_back({variable.address, variable.bytes, part, offset, variable.context,
                                  session.context_devices.at(variable.context)});
        offset = round_up(offset + variable.bytes, apart);
    }
    return list;
}

json save_host(Session& session, bool coordinated, SnapshotWriter& writer, Capture& capture) {
    const uint32_t part = writer.add_part("host");
    json list = json::array();
    uint64_t at = 0;
    for (const auto& [address, range] : session.host_memory.ranges()) {
        list.push_back({{"address", address}, {"bytes", range.bytes}, {"offset", range.offset}, {"flags", range.flags}, {"pageable", range.pageable}, {"at", at}});
        if (coordinated) continue;
        capture.host.push_back({{static_cast<const std::byte*>(HostMemory::content(range)), range.bytes}, part, at});
        at = round_up(at + range.bytes, snapshot_chunk_bytes);
    }
    return list;
}

json save_copies(Session& session) {
    json list = json::array();
    for (const CopyToHost& copy : session.copies_to_host)
        if (!copy.told_by_callback(session.callbacks.done()))
            for (const HostRange& range : copy.ranges) list.push_back({range.address, range.bytes, copy.told_by});
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
json save_graphs(const json& graphs, SnapshotWriter& writer) {
    auto& out = writer.begin("graphs");
    const std::vector<uint8_t> bytes = json::to_cbor(graphs);
    out.write(std::as_bytes(std::span(bytes)));
    return bytes.size();
}

// Libraries and kernels, which a reset of the device leaves to the application.
void save_code(Session& session, Capture& capture) {
    for (const auto& [place, entry] : session.journal.entries()) {
        const HandleKind kind = Objects::kind_of(entry.effect.object);
        if (kind != HandleKind::Library && kind != HandleKind::Kernel) continue;
        const JournalEntry* creation = session.journal.creation(entry.effect.object);
        if (creation == &entry || (creation && entry.effect.kind == Effect::Kind::State)) capture.journal.push_back(entry);
    }
}

}  // namespace

void capture_session(Session& session, Executor& executor, bool coordinated, bool without_gpu, SnapshotWriter& writer,
                     Capture& capture) {
    json graphs;
    if (without_gpu)
        refuse_passing(session);
    else
        graphs = refuse_unrestorable(session);
    const bool on_device = !without_gpu && session.any_context();
    json& meta = capture.meta;
    if (without_gpu) meta["without_gpu"] = true;
    if (session.contexts_lost) meta["lost"] = session.lost_devices;
    meta["coordinated"] = coordinated;
    meta["program"] = session.program;
    meta["environment"] = session.environment;
    int version = 0;
    if (session.driver.cuDriverGetVersion(&version) == CUDA_SUCCESS) meta["driver_version"] = version;
    if (!without_gpu) meta["devices"] = describe_devices(session);
    session.any_context();
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
    meta["refused_fetch"] = session.refused_fetch;
    for (const auto& [device, count] : session.primary_retained) meta["primary_retained"].push_back({device, count});
    for (const auto& [number, device] : session.context_devices) meta["contexts"].push_back({number, device});
    for (const auto& [seq, kept] : executor.kept()) {
        if (!kept.sent) fail("call " + std::to_string(seq) + " is still waiting for the device");
        capture.replies.push_back({seq, kept});
    }
    capture.info.session = token_text(session.token);
    capture.info.epoch = session.epoch;
    if (without_gpu) {
        save_code(session, capture);
        return;
    }

    meta["host_file_bytes"] = session.host_memory.file_size();
    if (!session.pools.empty()) meta["pools"] = session.pools.describe();  // gives back what nobody uses any more
    for (const auto& chunk : session.device_memory.describe())
        meta["chunks"].push_back({chunk.address, chunk.bytes, chunk.device, static_cast<int>(chunk.kind)});
    if (!session.virtual_memory.empty()) meta["virtual"] = session.virtual_memory.describe();
    for (const auto& [place, entry] : session.journal.entries()) capture.journal.push_back(entry);
    meta["host"] = save_host(session, coordinated, writer, capture);
    session.host_memory.image().expire(session.executed);
    if (HostImage& image = session.host_memory.image(); !coordinated && image.known() && !image.open()) meta["host_image"] = image.save(writer);
    meta["managed"] = session.managed.describe();
    meta["copies_to_host"] = save_copies(session);
    if (on_device) {
        meta["variables"] = save_variables(session, writer, capture);
        session.any_context();
        meta["memory"] = save_memory(session, writer, capture);
        if (!session.virtual_memory.empty()) meta["virtual_content"] = save_virtual(session, writer, capture);
        meta["arrays"] = save_arrays(session, writer, capture);
        meta["graphs"] = save_graphs(graphs, writer);
        session.any_context();
        meta["events"] = save_events(session);
    }
}

void unmap_captured(Session& session, Capture& capture) {
    for (const auto& [number, address] : capture.mapped)
        session.virtual_memory.unmap_aside(session.virtual_memory.allocations().at(number), address);
    capture.mapped.clear();
}

void describe_calls(Capture& capture, SnapshotWriter& writer) {
    auto& journal = writer.begin("journal");
    const uint32_t images = writer.add_part("images");
    std::map<const void*, uint64_t> placed;  // the same image is written once
    uint64_t images_end = 0;
    json list = json::array();
    for (const JournalEntry& entry : capture.journal) {
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
        if (const Attachment& image = entry.attachment) {
            auto [place, is_new] = placed.try_emplace(image.get(), images_end);
            if (is_new) {
                capture.images.push_back({image->span(), images, images_end});
                images_end = round_up(images_end + image->size(), snapshot_chunk_bytes);
            }
            one["image"] = {place->second, image->size()};
        }
        list.push_back(std::move(one));
    }
    capture.meta["journal"] = std::move(list);

    auto& replies = writer.begin("replies");
    list = json::array();
    for (const auto& [seq, kept] : capture.replies) {
        list.push_back({{"seq", seq},
                        {"slot", kept.slot},
                        {"reply_offset", kept.reply_offset},
                        {"reply_bytes", kept.reply_bytes},
                        {"down_offset", kept.down_offset},
                        {"down_bytes", kept.down_bytes},
                        {"at", replies.size()},
                        {"message", kept.message.size()},
                        {"down", kept.down.size()}});
        replies.write(kept.message);
        replies.write(kept.down);
    }
    capture.meta["replies"] = std::move(list);
}

}  // namespace cricket::server
