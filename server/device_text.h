// SPDX-License-Identifier: MIT
// What kernels print. The driver writes device printf to the process's stdout and the text of a failed assert to its
// stderr, when the application waits for the device; in a worker both are memfds of ours (a pipe could fill up and block),
// from which the client fetches the text and writes it to the application's own stdout and stderr. Positions count all
// text since the session began and say what the client has: a restore brings back what it had not fetched.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace cricket::server {

class DeviceText {
  public:
    static constexpr int streams = 2;  // 0: stdout, 1: stderr

    // Puts memfds in place of the process's stdout and stderr, and the log where stderr was. Before the driver is loaded.
    static void take_standard_streams();

    // An image is loaded: from now on text is looked for, if its kernels can print. Looking costs a microsecond, so it is
    // not done for nothing.
    void note_image(std::span<const std::byte> image);
    bool possible() const { return possible_; }
    void set_possible(bool possible) { possible_ = possible; }

    // Finds out how much there is; the driver must have been made to flush before.
    void look();
    // Bytes of both streams since the session began, as last looked.
    uint64_t total() const { return end_[0] + end_[1]; }
    uint64_t end(int stream) const { return end_[stream]; }
    uint64_t fetched(int stream) const { return fetched_[stream]; }
    // Text from `position` on, at most `limit` bytes. What lies before it has arrived and is let go.
    std::vector<char> read(int stream, uint64_t position, size_t limit);

    // Restore: nothing is there, `fetched` bytes had been fetched, `text` not yet.
    void restore(int stream, uint64_t fetched, std::span<const char> text);

  private:
    bool possible_ = false;
    uint64_t base_[streams] = {};     // position of the memfd's first byte
    uint64_t end_[streams] = {};
    uint64_t fetched_[streams] = {};  // text before it has been let go
};

}  // namespace cricket::server
