// SPDX-License-Identifier: MIT
#include "journal.h"

#include <algorithm>
#include <iterator>

#include "objects.h"

namespace cricket::server {
namespace {

// Kinds whose making and ending move what the driver places afterwards, or which such a call needs when it is repeated.
bool places_memory(uint64_t object) {
    const HandleKind kind = Objects::kind_of(object);
    return kind == HandleKind::Context || kind == HandleKind::Module || kind == HandleKind::Library ||
           kind == HandleKind::Kernel || kind == HandleKind::Function || kind == HandleKind::GreenCtx;
}

// Kinds whose memory the driver places among that of what is loaded while they live.
bool among_loads(uint64_t object) {
    const HandleKind kind = Objects::kind_of(object);
    return kind == HandleKind::Array || kind == HandleKind::MipmappedArray;
}

}  // namespace

// Whether the making of an object that goes is repeated all the same.
bool Journal::outlives(uint64_t object) const {
    if (places_memory(object)) return true;
    const auto made = created_by_.find(object);
    return among_loads(object) && made != created_by_.end() && made->second < last_load_;
}

// Streams stay when their green context goes, as with the driver, which says of each that its context is destroyed.
bool Journal::leaves_streams(uint64_t object) const {
    const auto is_green = [](uint64_t number) { return Objects::kind_of(number) == HandleKind::GreenCtx; };
    return is_green(object) || is_green(owner(object));
}

void Journal::drop(uint64_t object, std::vector<uint64_t>* gone) {
    if (auto children = owned_.find(object); children != owned_.end()) {
        const std::vector<uint64_t> list = std::move(children->second);
        owned_.erase(children);
        const bool but_streams = leaves_streams(object);
        for (uint64_t child : list)
            if (!but_streams || Objects::kind_of(child) != HandleKind::Stream) drop(child, gone);
    }
    if (auto states = states_.find(object); states != states_.end()) {
        for (const Place& place : states->second) entries_.erase(place);
        states_.erase(states);
    }
    if (auto made = created_by_.find(object); made != created_by_.end()) {
        if (!outlives(object)) entries_.erase(made->second);
        created_by_.erase(made);
        gone->push_back(object);
    }
}

std::vector<uint64_t> Journal::record(JournalEntry entry) {
    std::vector<uint64_t> gone;
    const Effect effect = entry.effect;
    entry.part = 0;
    if (auto next = entries_.upper_bound({entry.seq, UINT32_MAX}); next != entries_.begin())
        if (auto last = std::prev(next); last->first.first == entry.seq) entry.part = last->first.second + 1;
    const Place place{entry.seq, entry.part};
    switch (effect.kind) {
        case Effect::Kind::None:
            break;
        case Effect::Kind::Create:
            if (created_by_.count(effect.object))
                break;  // the same object again: cuKernelGetFunction, retain
            created_by_[effect.object] = place;
            if (places_memory(effect.object)) last_load_ = place;
            if (effect.owner) owned_[effect.owner].push_back(effect.object);
            entries_[place] = std::move(entry);
            break;
        case Effect::Kind::Destroy: {
            const uint64_t owner_of = owner(effect.object);
            if (owner_of) std::erase(owned_[owner_of], effect.object);
            if (outlives(effect.object)) entries_[place] = std::move(entry);
            drop(effect.object, &gone);
            break;
        }
        case Effect::Kind::State: {
            auto& states = states_[effect.object];
            std::erase_if(states, [&](const Place& earlier) {
                const JournalEntry& other = entries_.at(earlier);
                const bool same =
                    other.procedure == entry.procedure &&
                    std::equal(std::begin(effect.key), std::end(effect.key), std::begin(other.effect.key));
                if (same) entries_.erase(earlier);
                return same;
            });
            states.push_back(place);
            entries_[place] = std::move(entry);
            break;
        }
        case Effect::Kind::Load:
            last_load_ = place;
            entries_[place] = std::move(entry);
            break;
    }
    return gone;
}

std::vector<uint64_t> Journal::forget_owned(uint64_t owner) {
    std::vector<uint64_t> gone;
    if (auto children = owned_.find(owner); children != owned_.end()) {
        const std::vector<uint64_t> list = std::move(children->second);
        owned_.erase(children);
        for (uint64_t child : list) drop(child, &gone);
    }
    return gone;
}

const JournalEntry* Journal::creation(uint64_t object) const {
    auto made = created_by_.find(object);
    return made == created_by_.end() ? nullptr : &entries_.at(made->second);
}

uint64_t Journal::owner(uint64_t object) const {
    const JournalEntry* made = creation(object);
    return made ? made->effect.owner : 0;
}

}  // namespace cricket::server
