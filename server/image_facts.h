// SPDX-License-Identifier: MIT
// What a snapshot needs to know of an image, read out of the member that runs on a device. Found once for each image that
// was loaded: unpacking a large library takes seconds.
#pragma once

#include <set>
#include <string>

#include "attachment.h"

namespace cricket::server {

struct ImageFacts {
    std::set<std::string> variables;
    std::set<std::string> heap_kernels;  // that may call malloc() or free()
};

// `arch`: 10 * major + minor. Throws image::ImageError. Valid as long as the image. From any thread.
const ImageFacts& image_facts(const Attachment& image, int arch);

}  // namespace cricket::server
