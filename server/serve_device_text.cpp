// SPDX-License-Identifier: MIT
#include "dispatch.h"
#include "session.h"

namespace cricket::server {

// out_at, err_at: what the application has written. All before is let go.
void serve_cricketDeviceText(Call& call, const cricketDeviceText_args& args, cricketDeviceText_res& res) {
    constexpr size_t most = 16 * 1024;
    const std::vector<char> out = call.session.device_text.read(0, args.out_at, most);
    const std::vector<char> err = call.session.device_text.read(1, args.err_at, most);
    if (!give_bytes(&res.out, out.data(), out.size()) || !give_bytes(&res.err, err.data(), err.size()))
        res.status = CUDA_ERROR_OUT_OF_MEMORY;
}

}  // namespace cricket::server
