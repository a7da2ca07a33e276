// SPDX-License-Identifier: MIT
#include <cstring>

#include "dispatch.h"
#include "session.h"

namespace cricket::server {

void serve_cricketUnsupported(Call& call, const cricketUnsupported_args& args, cricketUnsupported_res&) {
    constexpr size_t most = 1024;
    const auto text = [](const rpc::Blob& blob) {
        constexpr size_t longest = 120;
        const char* from = static_cast<const char*>(blob.data);
        return from ? std::string(from, strnlen(from, std::min<size_t>(blob.size, longest))) : std::string();
    };
    auto& uses = call.session.unsupported;
    std::pair<std::string, std::string> key{text(args.function), text(args.library)};
    if (uses.size() < most || uses.count(key)) uses[std::move(key)] += args.times;
}

}  // namespace cricket::server
