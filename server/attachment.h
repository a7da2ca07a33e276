// SPDX-License-Identifier: MIT
// Bulk data of a journalled call, a program image: kept as long as the journal repeats the call. Either bytes of our own
// or a mapping of the file that the application has mapped too, so that a large library costs no memory here.
#pragma once

#include <sys/mman.h>

#include <cstddef>
#include <memory>
#include <span>
#include <utility>
#include <vector>

namespace cricket::server {

class ImageBytes {
  public:
    explicit ImageBytes(std::vector<std::byte> own) : own_(std::move(own)), bytes_(own_) {}
    // Takes over a whole mapping, of which the image is a part.
    ImageBytes(void* mapping, size_t mapped, std::span<const std::byte> image)
        : mapping_(mapping), mapped_(mapped), bytes_(image) {}
    ~ImageBytes() {
        if (mapping_) ::munmap(mapping_, mapped_);
    }
    ImageBytes(const ImageBytes&) = delete;
    ImageBytes& operator=(const ImageBytes&) = delete;

    const std::byte* data() const { return bytes_.data(); }
    size_t size() const { return bytes_.size(); }
    std::span<const std::byte> span() const { return bytes_; }

  private:
    std::vector<std::byte> own_;
    void* mapping_ = nullptr;
    size_t mapped_ = 0;
    std::span<const std::byte> bytes_;
};

using Attachment = std::shared_ptr<const ImageBytes>;

}  // namespace cricket::server
