// SPDX-License-Identifier: MIT
#include "images.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>

#include "call_image.h"
#include "cricket/round_up.h"
#include "log.h"
#include "places.h"
#include "session.h"

namespace cricket::server {
namespace {

constexpr size_t most_offers = 256;  // that no call has taken yet
constexpr auto patience = std::chrono::seconds(5);
constexpr uint64_t page = 4096;

}  // namespace

// Places are not used again: there are terabytes of them.
void* map_image(int fd, uint64_t offset, uint64_t bytes) {
    static uint64_t next = places::images.address;
    const uint64_t rounded = round_up(bytes, page);
    if (bytes == 0 || rounded > places::images.end() - next) return nullptr;
    const int flags = MAP_FIXED_NOREPLACE | (fd < 0 ? MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE : MAP_PRIVATE);
    void* mapping = ::mmap(reinterpret_cast<void*>(next), rounded, fd < 0 ? PROT_READ | PROT_WRITE : PROT_READ, flags, fd,
                           fd < 0 ? 0 : static_cast<off_t>(offset));
    if (mapping == MAP_FAILED) return nullptr;
    next += rounded + page;
    return mapping;
}

void Images::offer(const wire::ImageOffer& offer, UniqueFd file) {
    std::lock_guard lock(mutex_);
    if (offers_.size() >= most_offers) offers_.erase(offers_.begin());
    offers_[offer.id] = {offer, std::move(file)};
    came_.notify_all();
}

Attachment Images::take(uint64_t id, uint64_t size) {
    Offered offered;
    {
        std::unique_lock lock(mutex_);
        if (!came_.wait_for(lock, patience, [&] { return offers_.count(id) != 0; })) {
            log_warn("an image of %llu bytes was offered and did not come", static_cast<unsigned long long>(size));
            return nullptr;
        }
        offered = std::move(offers_.extract(id).mapped());
    }
    return offered.offer.size == size ? map(offered) : nullptr;
}

Attachment Images::map(const Offered& offered) {
    const wire::ImageOffer& offer = offered.offer;
    const unsigned long long id = offer.id, size = offer.size;
    struct stat about {};
    const int fd = offered.file.get();
    const bool regular = ::fstat(fd, &about) == 0 && S_ISREG(about.st_mode);
    if (!regular || offer.size == 0 || offer.size > wire::largest_offer || offer.offset > wire::largest_offer ||
        static_cast<uint64_t>(about.st_size) < offer.offset + offer.size) {
        log_warn("offer %016llx: no file with %llu bytes of an image at offset %llu", id, size, static_cast<unsigned long long>(offer.offset));
        return nullptr;
    }
    // A memfd that could still shrink under the mapping would end the worker.
    const int seals = ::fcntl(fd, F_GET_SEALS);
    if (about.st_nlink == 0 && seals >= 0 && !(seals & F_SEAL_SHRINK)) {
        log_warn("offer %016llx: the image of %llu bytes is in a memfd that is not sealed", id, size);
        return nullptr;
    }
    auto& [hash, known] = mapped_[{about.st_dev, about.st_ino, offer.offset, offer.size}];
    if (Attachment image = known.lock(); image && hash == offer.hash) return image;
    const uint64_t before = offer.offset % page;
    const uint64_t bytes = before + offer.size;
    void* mapping = map_image(fd, offer.offset - before, bytes);
    if (!mapping) {
        log_warn("offer %016llx: the image of %llu bytes cannot be mapped: %s", id, size, std::strerror(errno));
        return nullptr;
    }
    auto image = std::make_shared<const ImageBytes>(
        mapping, bytes, std::span<const std::byte>(static_cast<const std::byte*>(mapping) + before, offer.size));
    if (wire::sampled_hash(image->data(), image->size()) != offer.hash) {
        log_warn("offer %016llx: the file's %llu bytes are not the image that the application sees", id, size);
        return nullptr;
    }
    hash = offer.hash;
    known = image;
    return image;
}

std::pair<uint64_t, uint64_t> Images::key(std::span<const std::byte> image) {
    return {image.size(), wire::sampled_hash(image.data(), image.size())};
}

Attachment Images::hold(std::span<const std::byte> image) {
    const auto known = held_.find(key(image));
    if (known != held_.end())
        if (Attachment same = known->second.lock(); same && std::memcmp(same->data(), image.data(), image.size()) == 0) return same;
    auto copy = std::make_shared<const ImageBytes>(std::vector<std::byte>(image.begin(), image.end()));
    note(copy);
    return copy;
}

void Images::note(const Attachment& image) {
    if (held_.size() >= look_at_) {
        std::erase_if(held_, [](const auto& one) { return one.second.expired(); });
        look_at_ = 2 * held_.size() + 64;
    }
    held_[key(image->span())] = image;
}

// The image of a call, copied out of the channel; null when it is not where the call says.
Attachment take_image(Call& call, const rpc::Bulk& bulk) {
    if (!call.attachment && bulk.where == rpc::Bulk::Where::Offered) {
        call.attachment = call.session.images.take(bulk.offset, bulk.size);
        return call.attachment;
    }
    if (!call.attachment) {
        const auto* data = static_cast<const std::byte*>(call.read(bulk));
        if (!data || bulk.size == 0) return nullptr;
        call.attachment = call.session.images.hold({data, bulk.size});
    }
    return call.attachment;
}

CUresult no_image(const rpc::Bulk& bulk) {
    return bulk.where == rpc::Bulk::Where::Offered ? static_cast<CUresult>(wire::offer_missing) : CUDA_ERROR_INVALID_IMAGE;
}

}  // namespace cricket::server
