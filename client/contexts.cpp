// SPDX-License-Identifier: MIT
#include "client/contexts.h"

#include <pthread.h>

#include <atomic>
#include <cstdlib>

#include "client/locked.h"
#include "client/log.h"

namespace cricket::client {
namespace {

// ---- each thread's stack
// -------------------------------------------------------------------------------------

// Small, trivially destructible and without a constructor: it lies in the static TLS of every thread of every
// process that preloads us. Deeper stacks go on in heap memory, which a pthread key frees with the thread.
constexpr uint32_t inline_depth = 4;
struct Stack {
    uint64_t current;       // copy of the top, 0 when empty
    uint64_t cached_epoch;  // registry epoch at which cached_* held for `current`; 0: never
    CUdevice cached_device;
    CUresult cached_result;
    uint32_t depth;
    uint32_t heap_capacity;
    uint64_t* heap;
    uint64_t entries[inline_depth];
};
[[gnu::tls_model("initial-exec")]] thread_local constinit Stack stack{};

pthread_key_t heap_key;
pthread_once_t heap_key_once = PTHREAD_ONCE_INIT;

uint64_t* stack_entry(uint32_t index) {
    return index < inline_depth ? &stack.entries[index] : &stack.heap[index - inline_depth];
}

void top_changed() {
    stack.current = stack.depth ? *stack_entry(stack.depth - 1) : 0;
    stack.cached_epoch = 0;
}

// Runs at thread exit; destructors of others may still call CUDA afterwards.
void drop_heap(void* heap) {
    std::free(heap);
    stack.heap = nullptr;
    stack.heap_capacity = 0;
    if (stack.depth > inline_depth) stack.depth = inline_depth;
    top_changed();
}

bool reserve_one() {
    if (stack.depth < inline_depth + stack.heap_capacity) return true;
    uint32_t wanted = stack.heap_capacity ? 2 * stack.heap_capacity : 16;
    auto grown = static_cast<uint64_t*>(std::realloc(stack.heap, wanted * sizeof(uint64_t)));
    if (!grown) return false;
    pthread_once(&heap_key_once, [] { pthread_key_create(&heap_key, drop_heap); });
    pthread_setspecific(heap_key, grown);
    stack.heap = grown;
    stack.heap_capacity = wanted;
    return true;
}

// ---- registry
// ------------------------------------------------------------------------------------------------

struct Value {
    Value* next;
    void* key;
    void* value;
    contexts::Destructor destructor;
};

struct Context {
    Context* next;
    uint64_t number;
    CUdevice device;
    bool primary;
    bool active;    // a primary context may not be
    uint64_t home;  // of a green context: its device's primary one, where its values are; else itself
    uint64_t driver_id;
    Value* values;
    unsigned attached;
};

// Guards the list and everything in it; never held over a call to the server or to a destructor. Not taken
// unless CUDA was initialised in this process, so a forked child cannot meet it locked.
pthread_mutex_t registry_lock = PTHREAD_MUTEX_INITIALIZER;
Context* registry = nullptr;
std::atomic<uint64_t> registry_epoch{1};  // grows whenever what a thread may have cached becomes wrong

Context* find(uint64_t number) {
    for (Context* context = registry; context; context = context->next)
        if (context->number == number) return context;
    return nullptr;
}

void changed() {
    registry_epoch.fetch_add(1, std::memory_order_release);
}

Value* find_value(Context* context, void* key, Value*** link = nullptr) {
    for (Value** at = &context->values; *at; at = &(*at)->next)
        if ((*at)->key == key) {
            if (link) *link = at;
            return *at;
        }
    return nullptr;
}

// Inactive, unless it was known already. False when memory ran out.
bool add_new(uint64_t number, CUdevice device, bool primary, uint64_t home) {
    auto fresh = static_cast<Context*>(std::malloc(sizeof(Context)));
    if (!fresh) return false;
    *fresh = {nullptr, number, device, primary, false, home, 0, nullptr, 0};
    Locked locked(registry_lock);
    if (find(number)) {
        std::free(fresh);
        return true;
    }
    fresh->next = registry;
    registry = fresh;
    changed();
    return true;
}

// Where the values of a context are.
Context* find_home(uint64_t number) {
    Context* context = find(number);
    return context && context->home != number ? find(context->home) : context;
}

CUresult device_locked(uint64_t number, CUdevice* device) {
    const Context* context = find(number);
    if (!context) return CUDA_ERROR_CONTEXT_IS_DESTROYED;
    *device = context->device;
    return context->active ? CUDA_SUCCESS : CUDA_ERROR_CONTEXT_IS_DESTROYED;
}

}  // namespace

uint64_t current_context() {
    CUdevice unused;
    return contexts::current_device(&unused) == CUDA_SUCCESS ? stack.current : 0;
}

namespace contexts {

uint64_t top() {
    return stack.current;
}

bool push(uint64_t number) {
    if (!reserve_one()) return false;
    *stack_entry(stack.depth++) = number;
    top_changed();
    return true;
}

bool pop(uint64_t* number) {
    if (!stack.depth) return false;
    *number = *stack_entry(--stack.depth);
    top_changed();
    return true;
}

bool replace_top(uint64_t number) {
    if (!stack.depth) return push(number);
    *stack_entry(stack.depth - 1) = number;
    top_changed();
    return true;
}

CUresult current_device(CUdevice* device) {
    if (!stack.current) return CUDA_ERROR_INVALID_CONTEXT;
    uint64_t epoch = registry_epoch.load(std::memory_order_acquire);
    if (stack.cached_epoch != epoch) {
        // The epoch was read first: a change in between makes the next call look again.
        Locked locked(registry_lock);
        stack.cached_result = device_locked(stack.current, &stack.cached_device);
        stack.cached_epoch = epoch;
    }
    if (stack.cached_result == CUDA_SUCCESS) *device = stack.cached_device;
    return stack.cached_result;
}

static bool add_active(uint64_t number, CUdevice device, bool primary, uint64_t home) {
    if (!add_new(number, device, primary, home)) return false;
    Locked locked(registry_lock);
    if (Context* context = find(number)) context->active = true;
    changed();
    return true;
}

bool add(uint64_t number, CUdevice device, bool primary) {
    return add_active(number, device, primary, number);
}

bool add_green(uint64_t number, CUdevice device, uint64_t home) {
    return add_active(number, device, false, home);
}

bool add_inactive_primary(uint64_t number, CUdevice device) {
    return add_new(number, device, true, number);
}

void remove(uint64_t number) {
    Context* gone = nullptr;
    {
        Locked locked(registry_lock);
        for (Context** at = &registry; *at; at = &(*at)->next)
            if ((*at)->number == number) {
                gone = *at;
                *at = gone->next;
                break;
            }
        changed();
    }
    if (!gone) return;
    for (Value* value = gone->values; value;) {
        Value* next = value->next;
        std::free(value);
        value = next;
    }
    std::free(gone);
}

void deactivate(uint64_t number) {
    Locked locked(registry_lock);
    if (Context* context = find(number)) context->active = false;
    changed();
}

bool known(uint64_t number) {
    Locked locked(registry_lock);
    return find(number) != nullptr;
}

bool is_primary(uint64_t number) {
    Locked locked(registry_lock);
    const Context* context = find(number);
    return context && context->primary;
}

bool is_green(uint64_t number) {
    Locked locked(registry_lock);
    const Context* context = find(number);
    return context && context->home != number;
}

bool attach(uint64_t number) {
    Locked locked(registry_lock);
    Context* context = find(number);
    if (context) ++context->attached;
    return context != nullptr;
}

bool detach(uint64_t number) {
    Locked locked(registry_lock);
    Context* context = find(number);
    if (!context || !context->attached) return false;
    --context->attached;
    return true;
}

CUresult device_of(uint64_t number, CUdevice* device) {
    Locked locked(registry_lock);
    if (!find(number)) return CUDA_ERROR_INVALID_CONTEXT;
    return device_locked(number, device);
}

uint64_t driver_id(uint64_t number) {
    Locked locked(registry_lock);
    const Context* context = find(number);
    return context ? context->driver_id : 0;
}

void set_driver_id(uint64_t number, uint64_t id) {
    Locked locked(registry_lock);
    if (Context* context = find(number)) context->driver_id = id;
}

CUresult put(uint64_t number, void* key, void* value, Destructor destructor) {
    if (!number) number = stack.current;
    auto fresh = static_cast<Value*>(std::malloc(sizeof(Value)));
    if (!fresh) return CUDA_ERROR_OUT_OF_MEMORY;
    Locked locked(registry_lock);
    Context* context = find_home(number);
    if (!context) {
        std::free(fresh);
        return CUDA_ERROR_INVALID_CONTEXT;
    }
    if (Value* old = find_value(context, key)) {
        std::free(fresh);
        old->value = value;
        old->destructor = destructor;
        return CUDA_SUCCESS;
    }
    *fresh = {context->values, key, value, destructor};
    context->values = fresh;
    return CUDA_SUCCESS;
}

CUresult get(uint64_t number, void* key, void** value) {
    if (!number) number = stack.current;
    Locked locked(registry_lock);
    Context* context = find_home(number);
    if (!context) return CUDA_ERROR_INVALID_CONTEXT;
    const Value* found = find_value(context, key);
    if (!found) return CUDA_ERROR_INVALID_HANDLE;
    *value = found->value;
    return CUDA_SUCCESS;
}

CUresult erase(uint64_t number, void* key) {
    if (!number) number = stack.current;
    Value* gone = nullptr;
    {
        Locked locked(registry_lock);
        Context* context = find_home(number);
        if (!context) return CUDA_ERROR_INVALID_CONTEXT;
        Value** link;
        gone = find_value(context, key, &link);
        if (!gone) return CUDA_ERROR_INVALID_HANDLE;
        *link = gone->next;
    }
    std::free(gone);
    return CUDA_SUCCESS;
}

void destroy_values(uint64_t number) {
    // One at a time: a destructor may put, get or erase others.
    for (;;) {
        Value* value;
        {
            Locked locked(registry_lock);
            Context* context = find_home(number);
            if (!context || !context->values) return;
            value = context->values;
            context->values = value->next;
        }
        if (value->destructor)
            value->destructor(reinterpret_cast<CUcontext>(number), value->key, value->value);
        std::free(value);
    }
}

}  // namespace contexts
}  // namespace cricket::client
