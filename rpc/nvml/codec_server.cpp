// SPDX-License-Identifier: MIT
#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "rpc/nvml/codec.h"

namespace cricket::nvml {
namespace {

// A driver may know a longer struct than the description does.
constexpr uint32_t slack = 4096;

uint64_t word(const void* pointer) { return reinterpret_cast<uint64_t>(pointer); }

uint32_t word_at(const char* place) {
    uint32_t value;
    std::memcpy(&value, place, sizeof value);
    return value;
}

HandleKind handle_kind(MemberKind kind) {
    switch (kind) {
        case MemberKind::Device: return HandleKind::Device;
        case MemberKind::Unit: return HandleKind::Unit;
        case MemberKind::GpuInstance: return HandleKind::GpuInstance;
        case MemberKind::ComputeInstance: return HandleKind::ComputeInstance;
        default: return HandleKind::None;
    }
}

bool encode_bytes(XDR* xdrs, char* data, uint32_t bytes) {
    return ::xdr_u_int(xdrs, &bytes) && ::xdr_opaque(xdrs, data, bytes);
}

}  // namespace

Arguments::~Arguments() {
    for (const Buffer& buffer : buffers_) {
        std::free(buffer.data);
        std::free(buffer.inner);
    }
}

char* Arguments::room_for(uint32_t bytes) { return static_cast<char*>(std::calloc(1, bytes + slack)); }

bool Arguments::decode(XDR* xdrs, const Function& function, Translator& translator) {
    const auto decode_bytes = [xdrs](char** data, uint32_t* bytes) {
        if (!::xdr_u_int(xdrs, bytes) || *bytes > most_bytes || *bytes > xdrs->x_handy) return false;
        *data = room_for(*bytes);
        return *data && ::xdr_opaque(xdrs, *data, *bytes);
    };
    for (unsigned i = 0; i < function.parameters; ++i) {
        const Parameter& parameter = function.parameter[i];
        Buffer& buffer = buffers_[i];
        bool_t present = FALSE;
        uint32_t narrow = 0;
        u_quad_t wide = 0;
        switch (parameter.kind) {
            case Kind::U32:
            case Kind::I32:
                if (!::xdr_u_int(xdrs, &narrow)) return false;
                words_[i] = narrow;
                break;
            case Kind::U64:
                if (!::xdr_u_hyper(xdrs, &wide)) return false;
                words_[i] = wide;
                break;
            case Kind::Handle:
                if (!::xdr_u_hyper(xdrs, &wide)) return false;
                words_[i] = word(translator.real_of(parameter.handle, wide));
                break;
            case Kind::Text:
                if (!::xdr_bool(xdrs, &present)) return false;
                if (present && !::xdr_string(xdrs, &buffer.data, most_text)) return false;
                words_[i] = word(buffer.data);
                break;
            case Kind::HandleOut:
                if (!::xdr_bool(xdrs, &present)) return false;
                if (present && !(buffer.data = room_for(0))) return false;
                break;
            case Kind::Memory:
                if (!::xdr_bool(xdrs, &present)) return false;
                if (!present) break;
                if (!decode_bytes(&buffer.data, &buffer.bytes)) return false;
                words_[i] = word(buffer.data);
                if (parameter.inner.element && buffer.bytes >= parameter.inner.offset + sizeof(char*)) {
                    if (!::xdr_bool(xdrs, &present)) return false;
                    if (present && !decode_bytes(&buffer.inner, &buffer.inner_bytes)) return false;
                    std::memcpy(buffer.data + parameter.inner.offset, &buffer.inner, sizeof buffer.inner);
                }
                break;
        }
    }
    // What was said of the lengths must be true of what was sent, since the driver will believe it.
    for (unsigned i = 0; i < function.parameters; ++i) {
        const Parameter& parameter = function.parameter[i];
        Buffer& buffer = buffers_[i];
        if (!buffer.data) continue;
        if (parameter.only_returned()) {
            const uint64_t bytes =
                parameter.returned_count ? most_returned : uint64_t(count_of(function, parameter)) * parameter.element;
            if (buffer.bytes != 0 || bytes > most_bytes) return false;
            std::free(buffer.data);
            buffer.bytes = static_cast<uint32_t>(bytes);
            buffer.data = room_for(buffer.bytes);
            words_[i] = word(buffer.data);
            if (!buffer.data) return false;
        } else if (parameter.kind != Kind::Memory) {
            continue;
        } else if (parameter.versioned) {
            const uint32_t said = buffer.bytes >= 4 ? word_at(buffer.data) & 0xffffff : 0;
            if (buffer.bytes != 4 && (said < 4 || said != buffer.bytes || said > parameter.element)) return false;
        } else if (buffer.bytes != uint64_t(count_of(function, parameter)) * parameter.element) {
            return false;
        }
        if (buffer.inner && buffer.inner_bytes != uint64_t(word_at(buffer.data + parameter.inner.count_offset)) *
                                                      parameter.inner.element)
            return false;
    }
    return true;
}

// 1 where nothing counts; bounded by what the parameter that counts can hold.
uint32_t Arguments::count_of(const Function& function, const Parameter& parameter) const {
    if (parameter.count < 0) return 1;
    const Buffer& counter = buffers_[parameter.count];
    switch (function.parameter[parameter.count].kind) {
        case Kind::U32: return static_cast<uint32_t>(words_[parameter.count]);
        case Kind::I32: return static_cast<uint32_t>(std::max(0, static_cast<int32_t>(words_[parameter.count])));
        default: return counter.data && counter.bytes >= 4 ? word_at(counter.data) : 0;
    }
}

uint32_t Arguments::returned_bytes(const Function& function, unsigned index, int status) const {
    const Parameter& parameter = function.parameter[index];
    const Buffer& buffer = buffers_[index];
    if (parameter.kind == Kind::Memory && !parameter.only_returned()) return buffer.bytes;
    if (status != success) return 0;
    return static_cast<uint32_t>(
        std::min<uint64_t>(uint64_t(count_of(function, parameter)) * parameter.element, buffer.bytes));
}

void Arguments::translate(const Function& function, unsigned index, uint32_t bytes, Translator& translator) {
    const Parameter& parameter = function.parameter[index];
    char* data = buffers_[index].data;
    const auto translate_handle = [&](HandleKind kind, char* place) {
        void* real;
        std::memcpy(&real, place, sizeof real);
        const uint64_t number = translator.number_of(kind, real);
        std::memcpy(place, &number, sizeof number);
    };
    if (parameter.kind == Kind::HandleOut)
        for (uint32_t at = 0; at + sizeof(void*) <= bytes; at += sizeof(void*))
            translate_handle(parameter.handle, data + at);
    for (const Member& member : parameter.members) {
        if (member.kind == MemberKind::None) continue;
        for (uint32_t at = 0; at + parameter.element <= bytes; at += parameter.element) {
            char* place = data + at + member.offset;
            if (member.kind == MemberKind::Pid) {
                const uint32_t pid = translator.application_of(word_at(place));
                std::memcpy(place, &pid, sizeof pid);
            } else {
                translate_handle(handle_kind(member.kind), place);
            }
        }
    }
}

bool Arguments::encode_reply(XDR* xdrs, const Function& function, int status, Translator& translator) {
    if (!::xdr_int(xdrs, &status)) return false;
    for (unsigned i = 0; i < function.parameters; ++i) {
        const Parameter& parameter = function.parameter[i];
        if ((parameter.kind != Kind::HandleOut && parameter.kind != Kind::Memory) || !buffers_[i].data) continue;
        const uint32_t bytes = returned_bytes(function, i, status);
        if (status == success) translate(function, i, bytes, translator);
        if (!encode_bytes(xdrs, buffers_[i].data, bytes)) return false;
        if (buffers_[i].inner && !encode_bytes(xdrs, buffers_[i].inner, buffers_[i].inner_bytes)) return false;
    }
    return true;
}

}  // namespace cricket::nvml
