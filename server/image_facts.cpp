// SPDX-License-Identifier: MIT
#include "image_facts.h"

#include <map>
#include <memory>
#include <mutex>
#include <utility>

#include "rpc/image/image.h"

namespace cricket::server {

const ImageFacts& image_facts(const Attachment& image, int arch) {
    struct Known {
        std::weak_ptr<const ImageBytes> image;
        ImageFacts facts;
    };
    static std::mutex mutex;
    static std::map<std::pair<const ImageBytes*, int>, Known> known;
    const auto key = std::make_pair(image.get(), arch);
    {
        std::lock_guard lock(mutex);
        auto found = known.find(key);
        if (found != known.end() && found->second.image.lock() == image) return found->second.facts;
        std::erase_if(known, [](const auto& one) { return one.second.image.expired(); });
    }
    Known fresh{image, {}};
    for (const image::Member& member : image::members(image->span(), arch)) {
        for (const image::Variable& variable : image::variables(member)) fresh.facts.variables.insert(variable.name);
        for (std::string& name : image::heap_kernels(member)) fresh.facts.heap_kernels.insert(std::move(name));
    }
    std::lock_guard lock(mutex);
    return known.try_emplace(key, std::move(fresh)).first->second.facts;  // another thread may have been first
}

}  // namespace cricket::server
