// SPDX-License-Identifier: MIT
// What the image that criu takes of the application holds of its host memory, told by what this side knows at that moment: the
// application stands still, criu has read nothing yet (dump_watch.h). Whatever differs from that in the image's later life the
// application has written itself, but for what the device wrote after that moment, which is found by comparing. So both sides'
// writes are kept to the byte, however often the application is dumped and restored before it attaches again.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <nlohmann/json_fwd.hpp>
#include <vector>

#include "host_aside.h"
#include "places.h"

namespace cricket::server {

class SnapshotReader;
class SnapshotWriter;
struct HostRegistration;

class HostImage {
  public:
    static constexpr uint64_t page = 4096;
    // By address, as HostMemory has them; `memory` is where the memfd is mapped here.
    using Ranges = std::map<uint64_t, HostRegistration>;

    explicit HostImage(const std::byte* memory) : memory_(memory) {}
    // The device stands still too, with so many calls executed: the image has all.
    void take_all(const Ranges& ranges, uint64_t executed);
    // It does not: the memory is copied, to be compared with once it does. False, and nothing is known, without room for that or
    // when it is not done by `until_ns`.
    bool copy(const Ranges& ranges, uint64_t until_ns);
    static bool room_for(const Ranges& ranges);
    // The device stands still, and nothing more is executed before the application is back: the copy is given back.
    void close(uint64_t executed);
    void forget();
    bool open() const { return copy_.data() != nullptr; }
    // Forgets what calls that were executed since have made untrue.
    void expire(uint64_t executed);

    // By offset of a page in the memfd.
    bool covers(uint64_t offset) const { return piece_of(offset) != nullptr; }
    // Puts what the device wrote into the page as the application has it; of a page that is covered.
    void bring(uint64_t offset, std::byte* theirs) const;

    bool known() const { return !pieces_.empty(); }
    bool known_at(uint64_t executed) const { return known() && !open() && executed_ == executed; }
    nlohmann::json save(SnapshotWriter& writer) const;  // closed
    void load(const nlohmann::json& saved, SnapshotReader& reader, uint64_t executed);

  private:
    using Bits = std::array<uint64_t, page / 64>;  // a byte each
    struct Piece {
        uint64_t bytes;
        const std::byte* copy;  // null once closed
    };
    const Piece* piece_of(uint64_t offset, uint64_t* inside = nullptr) const;

    const std::byte* const memory_;
    HostAside copy_{places::host_image};
    std::map<uint64_t, Piece> pieces_;  // by offset
    std::map<uint64_t, Bits> written_;  // of pages that the device wrote, by offset
    uint64_t executed_ = 0;             // once closed
};

}  // namespace cricket::server
