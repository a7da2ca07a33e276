// SPDX-License-Identifier: MIT
// The only part of the shim compiled with exceptions: rpc/image reports with them, nobody above us may see
// one.
#include "client/image_bounds.h"

#include "client/log.h"
#include "rpc/image/image.h"

namespace cricket::client {

bool find_image(const void* data, const void** found, size_t* size) {
    try {
        const bool wrapped = image::kind_of(data) == image::Kind::FatbinWrapper;
        *found = wrapped ? image::unwrap(data) : data;
        *size = image::size_of(*found);
        return true;
    } catch (const std::exception& error) {
        log(LogLevel::Error, "image at %p: %s", data, error.what());
        return false;
    }
}

bool begins_image(const void* data) {
    return image::kind_of(data).has_value();
}

bool begins_ptx(const void* data) {
    return image::kind_of(data) == image::Kind::Ptx;
}

}  // namespace cricket::client
