// SPDX-License-Identifier: MIT
#include "checkpoint_data.h"

#include <algorithm>
#include <cstdio>

#include "checkpoint_parts.h"

namespace cricket::server {

std::string result_name(const DriverTable& driver, CUresult result) {
    const char* name = nullptr;
    if (driver.cuGetErrorName) driver.cuGetErrorName(result, &name);
    return name ? name : "error " + std::to_string(result);
}

std::string at_address(const std::string& what, uint64_t address) {
    char text[32];
    std::snprintf(text, sizeof text, " at %#llx", static_cast<unsigned long long>(address));
    return what + text;
}

void save_range(const DriverTable& driver, Staging& staging, SnapshotStream& out, uint64_t address, uint64_t bytes,
                const std::string& what) {
    for (uint64_t done = 0; done < bytes;) {
        const uint64_t piece = std::min(bytes - done, Staging::piece_bytes);
        const CUresult status = driver.cuMemcpyDtoH(staging.data(), address + done, piece);
        if (status != CUDA_SUCCESS) fail_checkpoint("reading " + what + ": " + result_name(driver, status));
        out.write(staging.data(), piece);
        done += piece;
    }
}

void load_range(const DriverTable& driver, Staging& staging, SnapshotReader& in, const std::string& file,
                uint64_t offset, uint64_t address, uint64_t bytes, const std::string& what) {
    for (uint64_t done = 0; done < bytes;) {
        // Pieces that end at chunk boundaries are read without an extra copy.
        const uint64_t room = Staging::piece_bytes - (offset + done) % snapshot_chunk_bytes;
        const uint64_t piece = std::min(bytes - done, room);
        in.read(file, offset + done, staging.data(), piece);
        const CUresult status = driver.cuMemcpyHtoD(address + done, staging.data(), piece);
        if (status != CUDA_SUCCESS) fail_checkpoint("writing " + what + ": " + result_name(driver, status));
        done += piece;
    }
}

}  // namespace cricket::server
