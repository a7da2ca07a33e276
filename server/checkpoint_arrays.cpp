// SPDX-License-Identifier: MIT
#include "checkpoint_arrays.h"

#include <algorithm>
#include <cstring>
#include <functional>

#include "checkpoint_parts.h"
#include "dispatch.h"
#include "rpc/array_format.h"
#include "rpc/pieces.h"
#include "snapshot_chunks.h"

namespace cricket::server {
namespace {

using nlohmann::json;

constexpr uint64_t piece_bytes = 16u << 20;

[[noreturn]] void fail(const std::string& what) { fail_checkpoint(what); }

std::string name_of(uint64_t number, unsigned part) {
    char text[64];
    std::snprintf(text, sizeof text, "array %#llx, part %u", static_cast<unsigned long long>(number), part);
    return text;
}

// An array whose rows can be copied: a whole one, a level of a mipmap, or a plane of either.
struct Part {
    uint64_t number = 0;  // of the array or mipmap that it is of
    unsigned index = 0;   // among the parts of that
    CUarray array{};
    rpc::CopyExtent extent;
};

unsigned flags_of(Session& session, CUarray array) {
    CUDA_ARRAY3D_DESCRIPTOR descriptor{};
    return session.driver.cuArray3DGetDescriptor(&descriptor, array) == CUDA_SUCCESS ? descriptor.Flags : 0;
}

// Adds the array, or its planes where the array as a whole has no rows.
void add_parts(Session& session, uint64_t number, CUarray array, std::vector<Part>* parts) {
    CUDA_ARRAY3D_DESCRIPTOR descriptor{};
    const CUresult status = session.driver.cuArray3DGetDescriptor(&descriptor, array);
    if (status != CUDA_SUCCESS) fail(name_of(number, 0) + ": " + result_name(session.driver, status));
    const auto layout = rpc::element_layout(descriptor.Format, descriptor.NumChannels);
    if (layout.bytes) {
        const auto blocks = [&](uint64_t elements) { return std::max<uint64_t>((elements + layout.side - 1) / layout.side, 1); };
        const auto index = static_cast<unsigned>(std::ranges::count(*parts, number, &Part::number));
        parts->push_back({number, index, array,
                          {blocks(descriptor.Width) * layout.bytes, blocks(descriptor.Height), std::max<uint64_t>(descriptor.Depth, 1)}});
        return;
    }
    for (unsigned plane = 0;; ++plane) {
        CUarray one{};
        if (!session.driver.cuArrayGetPlane || session.driver.cuArrayGetPlane(&one, array, plane) != CUDA_SUCCESS) {
            if (plane == 0) fail(name_of(number, 0) + " has a format (" + std::to_string(descriptor.Format) + ") that cannot be saved");
            return;
        }
        add_parts(session, number, one, parts);
    }
}

// Living arrays and mipmaps that were made alone, with the context of each.
void for_each_array(Session& session, const std::function<void(uint64_t number, uint64_t context)>& visit) {
    std::vector<std::pair<uint64_t, uint64_t>> found;
    for (const auto& [place, entry] : session.journal.entries()) {
        if (entry.effect.kind != Effect::Kind::Create || session.journal.creation(entry.effect.object) != &entry) continue;
        const HandleKind kind = Objects::kind_of(entry.effect.object);
        if ((kind == HandleKind::Array || kind == HandleKind::MipmappedArray) &&
            Objects::kind_of(entry.effect.owner) == HandleKind::Context)
            found.push_back({entry.effect.object, entry.effect.owner});
    }
    for (const auto& [number, context] : found) visit(number, context);
}

std::vector<Part> parts_of(Session& session, uint64_t number) {
    std::vector<Part> parts;
    if (auto* array = static_cast<CUarray>(session.objects.get(HandleKind::Array, number))) add_parts(session, number, array, &parts);
    if (auto* mipmap = static_cast<CUmipmappedArray>(session.objects.get(HandleKind::MipmappedArray, number))) {
        CUarray level{};
        for (unsigned i = 0; session.driver.cuMipmappedArrayGetLevel(&level, mipmap, i) == CUDA_SUCCESS; ++i)
            add_parts(session, number, level, &parts);
    }
    return parts;
}

// Copies a piece of a part between the array and `memory`, where its rows follow each other.
CUresult copy_piece(Session& session, const Part& part, const rpc::Piece& piece, void* memory, bool to_array) {
    CUDA_MEMCPY3D copy{};
    copy.WidthInBytes = piece.extent.width;
    copy.Height = piece.extent.height;
    copy.Depth = piece.extent.depth;
    if (to_array) {
        copy.srcMemoryType = CU_MEMORYTYPE_HOST;
        copy.srcHost = memory;
        copy.srcPitch = piece.extent.width;
        copy.srcHeight = piece.extent.height;
        copy.dstMemoryType = CU_MEMORYTYPE_ARRAY;
        copy.dstArray = part.array;
        copy.dstXInBytes = piece.x;
        copy.dstY = piece.y;
        copy.dstZ = piece.z;
    } else {
        copy.srcMemoryType = CU_MEMORYTYPE_ARRAY;
        copy.srcArray = part.array;
        copy.srcXInBytes = piece.x;
        copy.srcY = piece.y;
        copy.srcZ = piece.z;
        copy.dstMemoryType = CU_MEMORYTYPE_HOST;
        copy.dstHost = memory;
        copy.dstPitch = piece.extent.width;
        copy.dstHeight = piece.extent.height;
    }
    return session.driver.cuMemcpy3D(&copy);
}

// One creation of a texture or surface object; the value that the driver gave it. Its number is the entry's.
uint64_t make_value(Session& session, Executor& executor, const JournalEntry& entry) {
    const DispatchEntry& dispatch = dispatch_table[entry.procedure - wire::first_cuda_proc];
    XDR xdrs;
    rpc::memory_xdr(&xdrs, entry.message.data(), static_cast<uint32_t>(entry.message.size()), XDR_DECODE);
    Call call{session, session.driver, session.objects, {}, nullptr, 0, entry.attachment, true, 0, 0};
    uint32_t xid = 0, procedure = 0;
    std::vector<std::byte> args(dispatch.args_size), res(dispatch.res_size);
    if (!rpc::decode_call_head(&xdrs, &xid, &procedure, &call.credential) || procedure != entry.procedure ||
        !(*dispatch.xdr_args)(&xdrs, static_cast<void*>(args.data()), 0))
        fail(std::string("repeating ") + dispatch.name + ": its message cannot be read");
    session.objects.force({entry.effect.object});
    executor.execute(dispatch, entry.procedure, call, args.data(), res.data());
    int32_t status = 0;
    std::memcpy(&status, res.data(), sizeof status);
    if (status != CUDA_SUCCESS)
        fail(std::string("repeating ") + dispatch.name + ": " + result_name(session.driver, static_cast<CUresult>(status)));
    Effect effect;
    dispatch.effect(args.data(), res.data(), &effect);
    XDR free_args{}, free_res{};
    free_args.x_op = free_res.x_op = XDR_FREE;
    (*dispatch.xdr_args)(&free_args, static_cast<void*>(args.data()), 0);
    (*dispatch.xdr_res)(&free_res, static_cast<void*>(res.data()), 0);
    return effect.object;
}

}  // namespace

std::string arrays_refusal(Session& session) {
    std::string why;
    for_each_array(session, [&](uint64_t number, uint64_t context) {
        if (!why.empty() || session.make_current(context) != CUDA_SUCCESS) return;
        auto* array = static_cast<CUarray>(session.objects.get(HandleKind::Array, number));
        auto* mipmap = static_cast<CUmipmappedArray>(session.objects.get(HandleKind::MipmappedArray, number));
        if (mipmap) session.driver.cuMipmappedArrayGetLevel(&array, mipmap, 0);
        if (array && flags_of(session, array) & (CUDA_ARRAY3D_SPARSE | CUDA_ARRAY3D_DEFERRED_MAPPING))
            why = "a CUDA array whose memory the program maps itself";
    });
    return why;
}

std::map<uint64_t, uint64_t> array_bytes(Session& session, std::vector<std::string>* unreadable) {
    std::map<uint64_t, uint64_t> bytes;
    for_each_array(session, [&](uint64_t number, uint64_t context) {
        if (session.make_current(context) != CUDA_SUCCESS) return;
        try {
            for (const Part& part : parts_of(session, number))
                bytes[context] += part.extent.width * part.extent.height * part.extent.depth;
        } catch (const std::runtime_error& error) {
            unreadable->push_back(error.what());
        }
    });
    return bytes;
}

json save_arrays(Session& session, SnapshotWriter& writer, Capture& capture) {
    struct Saved {
        Part part;
        uint64_t context;
    };
    std::vector<Saved> all;
    uint64_t bytes = 0;
    for_each_array(session, [&](uint64_t number, uint64_t context) {
        if (const CUresult status = session.make_current(context); status != CUDA_SUCCESS)
            fail("the context of " + name_of(number, 0) + ": " + result_name(session.driver, status));
        for (const Part& part : parts_of(session, number)) {
            all.push_back({part, context});
            bytes += part.extent.width * part.extent.height * part.extent.depth;
        }
    });
    capture.arrays = std::make_shared<HostAside>(places::arrays_aside);
    std::byte* aside = capture.arrays->take(bytes, aside_host_limit());
    SnapshotStream* out = aside ? nullptr : &writer.begin("arrays");
    if (aside) capture.array_pieces.push_back({{aside, bytes}, writer.add_part("arrays"), 0});
    std::vector<std::byte> memory(aside || all.empty() ? 0 : piece_bytes);
    json list = json::array();
    uint64_t at = 0;
    for (const auto& [part, context] : all) {
        if (const CUresult status = session.make_current(context); status != CUDA_SUCCESS)
            fail("the context of " + name_of(part.number, 0) + ": " + result_name(session.driver, status));
        list.push_back({part.number, part.index, part.extent.width, part.extent.height, part.extent.depth, at, context});
        rpc::Pieces pieces(part.extent, piece_bytes);
        for (rpc::Piece piece; pieces.next(&piece); at += piece.bytes()) {
            std::byte* to = aside ? aside + at : memory.data();
            if (const CUresult status = copy_piece(session, part, piece, to, false); status != CUDA_SUCCESS)
                fail("reading " + name_of(part.number, part.index) + ": " + result_name(session.driver, status));
            if (out) out->write(to, piece.bytes());
        }
    }
    return list;
}

void read_arrays(Session& session, const json& list,
                 const std::function<void(const std::string& what, uint64_t at, std::span<const std::byte> now)>& visit,
                 const std::function<void(const std::string& what)>& gone) {
    std::vector<std::byte> memory(list.empty() ? 0 : piece_bytes);
    for (const json& one : list) {
        const uint64_t number = one[0], context = one[6];
        const unsigned index = one[1];
        const std::string name = name_of(number, index);
        std::vector<Part> parts;
        if (session.make_current(context) == CUDA_SUCCESS) parts = parts_of(session, number);
        const rpc::CopyExtent extent{one[2], one[3], one[4]};
        if (index >= parts.size() || parts[index].extent.width != extent.width || parts[index].extent.height != extent.height ||
            parts[index].extent.depth != extent.depth) {
            gone(name);
            continue;
        }
        uint64_t at = one[5];
        rpc::Pieces pieces(extent, piece_bytes);
        for (rpc::Piece piece; pieces.next(&piece); at += piece.bytes()) {
            if (const CUresult status = copy_piece(session, parts[index], piece, memory.data(), false); status != CUDA_SUCCESS)
                fail("reading " + name + ": " + result_name(session.driver, status));
            visit(name, at, std::span(memory).first(piece.bytes()));
        }
    }
}

void load_arrays(Session& session, SnapshotReader& reader, const json& list) {
    std::vector<Part> parts;
    std::vector<std::byte> memory(list.empty() ? 0 : piece_bytes);
    for (const json& one : list) {
        const uint64_t number = one[0], context = one[6];
        const unsigned index = one[1];
        if (const CUresult status = session.make_current(context); status != CUDA_SUCCESS)
            fail("the context of " + name_of(number, index) + ": " + result_name(session.driver, status));
        if (parts.empty() || parts.front().number != number) parts = parts_of(session, number);
        const rpc::CopyExtent extent{one[2], one[3], one[4]};
        if (index >= parts.size() || parts[index].extent.width != extent.width || parts[index].extent.height != extent.height ||
            parts[index].extent.depth != extent.depth)
            fail(name_of(number, index) + " is of another shape after it was made again");
        uint64_t at = one[5];
        rpc::Pieces pieces(extent, piece_bytes);
        for (rpc::Piece piece; pieces.next(&piece); at += piece.bytes()) {
            reader.read("arrays", at, memory.data(), piece.bytes());
            if (const CUresult status = copy_piece(session, parts[index], piece, memory.data(), true); status != CUDA_SUCCESS)
                fail("writing " + name_of(number, index) + ": " + result_name(session.driver, status));
        }
    }
}

bool made_by_value(const JournalEntry& entry) {
    const HandleKind kind = Objects::kind_of(entry.effect.object);
    return entry.effect.kind == Effect::Kind::Create && (kind == HandleKind::TexObject || kind == HandleKind::SurfObject);
}

// The driver hands out the places of a table, those that were given back first. Making the objects in the order of their
// values, with others in the places of those that are gone, gives each its own again; the others end when all are made.
void load_values(Session& session, Executor& executor, std::vector<JournalEntry> entries) {
    std::ranges::sort(entries, {}, [](const JournalEntry& entry) { return entry.effect.key[0]; });
    struct Other {
        HandleKind kind;
        uint64_t value, context;
    };
    std::vector<Other> others;
    constexpr size_t most_others = 65536;
    for (const JournalEntry& entry : entries) {
        const HandleKind kind = Objects::kind_of(entry.effect.object);
        const uint64_t wanted = entry.effect.key[0];
        while (true) {
            const uint64_t made = make_value(session, executor, entry);
            if (made == wanted) break;
            session.objects.remove(kind, entry.effect.object);
            others.push_back({kind, made, entry.effect.owner});
            if (made > wanted || others.size() > most_others)
                fail(std::string("the ") + handle_kind_name(kind) + " with value " + std::to_string(wanted) + " would now be " +
                     std::to_string(made) + ": kernels that were given it would read something else");
        }
        session.forget_objects(session.journal.record(entry));
    }
    for (const Other& other : others) {
        if (session.make_current(other.context) != CUDA_SUCCESS) continue;
        if (other.kind == HandleKind::TexObject)
            session.driver.cuTexObjectDestroy(other.value);
        else
            session.driver.cuSurfObjectDestroy(other.value);
    }
}

}  // namespace cricket::server
