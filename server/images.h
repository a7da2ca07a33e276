// SPDX-License-Identifier: MIT
// Images that clients hand over as files. They are mapped at places of our own, as everything large of the worker is: what
// the kernel places for the driver must not depend on it. The same part of the same file is mapped once.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <tuple>
#include <utility>

#include "attachment.h"
#include "cricket/image_offer.h"
#include "cricket/unique_fd.h"

namespace cricket::server {

// Memory for an image at a place of our own: of `fd` from `offset` on (a multiple of the page size), or anonymous and
// writable when fd is -1. Null when it cannot be had. Given back with munmap.
void* map_image(int fd, uint64_t offset, uint64_t bytes);

class Images {
  public:
    // The link's thread: a file came.
    void offer(const wire::ImageOffer& offer, UniqueFd file);
    // The executor: what was offered under that id. Waits a few seconds for it; null when it does not come or is not what
    // it was said to be.
    Attachment take(uint64_t id, uint64_t size);
    // An image that came with its call: one that is held already where it is the same, since the journal keeps each for ever.
    Attachment hold(std::span<const std::byte> image);
    void note(const Attachment& image);  // is held already

  private:
    struct Offered {
        wire::ImageOffer offer;
        UniqueFd file;
    };
    Attachment map(const Offered& offered);
    static std::pair<uint64_t, uint64_t> key(std::span<const std::byte> image);

    std::mutex mutex_;  // of offers_
    std::condition_variable came_;
    std::map<uint64_t, Offered> offers_;
    // By device, inode, offset and size; the executor's.
    std::map<std::tuple<uint64_t, uint64_t, uint64_t, uint64_t>, std::pair<uint64_t, std::weak_ptr<const ImageBytes>>> mapped_;
    std::map<std::pair<uint64_t, uint64_t>, std::weak_ptr<const ImageBytes>> held_;  // by size and hash; the executor's
    size_t look_at_ = 64;  // so many in held_, and those that are gone are taken out
};

}  // namespace cricket::server
