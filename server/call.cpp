// SPDX-License-Identifier: MIT
#include "call.h"

#include "session.h"

namespace cricket::server {

uint64_t Call::home() const { return session.home(credential.context); }

CUstream Call::default_stream() {
    return credential.flags & wire::per_thread_default_stream ? session.thread_stream(credential.thread)
                                                              : CU_STREAM_LEGACY;
}

bool Call::stream(uint64_t number, CUstream* out) {
    if (number == 0) {
        *out = default_stream();
    } else if (number == 1) {
        *out = CU_STREAM_LEGACY;
    } else if (number == 2) {
        if (session.current_home() != session.current()) return false;  // a green context has no such streams
        *out = session.thread_stream(credential.thread);
    } else {
        *out = static_cast<CUstream>(objects.get(HandleKind::Stream, number));
        return *out != nullptr;
    }
    return true;
}

const void* Call::read(const rpc::Bulk& bulk) {
    if (attachment && replaying) return attachment->size() == bulk.size ? attachment->data() : nullptr;
    switch (bulk.where) {
        case rpc::Bulk::Where::Inline:
            return bulk.bytes.present && bulk.bytes.size == bulk.size ? bulk.bytes.data : nullptr;
        case rpc::Bulk::Where::Shared:
            return session.up_data(bulk.offset, bulk.size);
        case rpc::Bulk::Where::Host:
            return session.host_memory.valid(bulk.offset, bulk.size) ? reinterpret_cast<void*>(bulk.offset)
                                                                     : nullptr;
        case rpc::Bulk::Where::Fetched: {
            auto* place = static_cast<std::byte*>(session.up_data(bulk.offset, bulk.size));
            if (!place || !session.fetcher) return nullptr;
            const auto result = session.fetcher->fetch(place, bulk.address, bulk.size);
            client_gone = result == Fetcher::Result::Gone;
            // Memory of devices cannot be read from here, which its own process can; nobody's memory it will find out itself.
            if (result != Fetcher::Result::Ok) read_error = static_cast<CUresult>(wire::fetch_refused);
            if (result == Fetcher::Result::Refused) session.ring->channel().server_page().can_fetch = 0;
            return result == Fetcher::Result::Ok ? place : nullptr;
        }
        default:
            return nullptr;
    }
}

void* Call::write(const rpc::Bulk& bulk) {
    switch (bulk.where) {
        case rpc::Bulk::Where::Shared:
            down_offset = bulk.offset;
            down_bytes = bulk.size;
            return session.down_data(bulk.offset, bulk.size);
        case rpc::Bulk::Where::Host:
            return session.host_memory.valid(bulk.offset, bulk.size) ? reinterpret_cast<void*>(bulk.offset)
                                                                     : nullptr;
        default:
            return nullptr;
    }
}

bool Call::wants_reply() const {
    return credential.flags & wire::wants_reply && !(credential.flags & wire::answer_at_once);
}

}  // namespace cricket::server
