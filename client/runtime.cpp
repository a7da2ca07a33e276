// SPDX-License-Identifier: MIT
// What the C++ library would do with exceptions, done without: the shim throws none, and libstdc++'s own way
// would bring the unwinder, a demangler and constructors that allocate into every process that preloads us.
// Memory that runs out inside a container, and a broken invariant of one, end the process with its name.
#include <pthread.h>

#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <new>

#include "client/log.h"

namespace {

[[noreturn]] void give_up(const char* what) {
    cricket::client::log(cricket::client::LogLevel::Error, "broken invariant: %s", what);
    std::abort();
}

void* allocate(std::size_t bytes) {
    void* memory = std::malloc(bytes ? bytes : 1);
    if (!memory) give_up("out of memory");
    return memory;
}

}  // namespace

// Hidden: only our own new and delete, never the application's.
void* operator new(std::size_t bytes) {
    return allocate(bytes);
}
void* operator new[](std::size_t bytes) {
    return allocate(bytes);
}
void* operator new(std::size_t bytes, const std::nothrow_t&) noexcept {
    return std::malloc(bytes ? bytes : 1);
}
void* operator new[](std::size_t bytes, const std::nothrow_t&) noexcept {
    return std::malloc(bytes ? bytes : 1);
}
void operator delete(void* memory) noexcept {
    std::free(memory);
}
void operator delete[](void* memory) noexcept {
    std::free(memory);
}
void operator delete(void* memory, std::size_t) noexcept {
    std::free(memory);
}
void operator delete[](void* memory, std::size_t) noexcept {
    std::free(memory);
}

// Called by the headers' containers, std::mutex and std::function.
namespace std {
void __throw_bad_alloc() {
    give_up("out of memory");
}
void __throw_bad_array_new_length() {
    give_up("array of an impossible length");
}
void __throw_length_error(const char* what) {
    give_up(what);
}
void __throw_logic_error(const char* what) {
    give_up(what);
}
void __throw_out_of_range(const char* what) {
    give_up(what);
}
void __throw_out_of_range_fmt(const char* what, ...) {
    give_up(what);
}
void __throw_invalid_argument(const char* what) {
    give_up(what);
}
void __throw_bad_function_call() {
    give_up("call of an empty std::function");
}
void __throw_system_error(int) {
    give_up("a mutex or condition variable failed");
}
}  // namespace std

extern "C" {
void __cxa_pure_virtual() {
    give_up("pure virtual function called");
}

// Function-local statics with a constructor. One lock for all of them, held while a constructor runs.
static pthread_mutex_t static_lock = PTHREAD_RECURSIVE_MUTEX_INITIALIZER_NP;

int __cxa_guard_acquire(std::atomic<char>* done) {
    if (done->load(std::memory_order_acquire)) return 0;
    pthread_mutex_lock(&static_lock);
    if (!done->load(std::memory_order_relaxed)) return 1;
    pthread_mutex_unlock(&static_lock);
    return 0;
}
void __cxa_guard_release(std::atomic<char>* done) {
    done->store(1, std::memory_order_release);
    pthread_mutex_unlock(&static_lock);
}
void __cxa_guard_abort(std::atomic<char>*) {
    pthread_mutex_unlock(&static_lock);
}
}

// What libraries shared with the server were compiled with exceptions refers to this. Nobody throws in them,
// but pthread_cancel() and an application's exception may unwind through: on to the next frame
// (_URC_CONTINUE_UNWIND).
extern "C" int __gxx_personality_v0(int, int, uint64_t, void*, void*) {
    return 8;
}
