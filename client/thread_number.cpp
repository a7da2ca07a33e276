// SPDX-License-Identifier: MIT
// Lock-free, since the process may fork at any moment: numbers that are free are bits of a few words.
#include "client/thread_number.h"

#include <pthread.h>

#include <atomic>

#include "client/captures.h"

namespace cricket::client {
namespace {

constexpr uint32_t words = 64, bits = 64;  // numbers above are not used again
constinit std::atomic<uint64_t> free_numbers[words] = {};
constinit std::atomic<uint32_t> next_number{1};
constinit thread_local uint32_t own_number __attribute__((tls_model("initial-exec"))) = 0;

constinit pthread_once_t once = PTHREAD_ONCE_INIT;
constinit pthread_key_t key = 0;
constinit bool has_key = false;

// Another destructor of the thread may still make calls: they get a number again, and this is called again.
void thread_ends(void*) {
    const uint32_t number = own_number;
    own_number = 0;
    // What such a thread has begun to capture would be the next one's.
    if (number < words * bits && !captures::active())
        free_numbers[number / bits].fetch_or(uint64_t{1} << number % bits, std::memory_order_release);
}

uint32_t take() {
    for (uint32_t word = 0; word < words; ++word) {
        uint64_t left = free_numbers[word].load(std::memory_order_relaxed);
        while (left) {
            if (free_numbers[word].compare_exchange_weak(left, left & (left - 1), std::memory_order_acquire))
                return word * bits + static_cast<uint32_t>(__builtin_ctzll(left));
        }
    }
    return next_number.fetch_add(1, std::memory_order_relaxed);
}

uint32_t begin() {
    ::pthread_once(&once, [] { has_key = ::pthread_key_create(&key, thread_ends) == 0; });
    own_number = take();
    if (has_key) ::pthread_setspecific(key, &own_number);
    return own_number;
}

}  // namespace

uint32_t thread_number() { return own_number ? own_number : begin(); }

}  // namespace cricket::client
