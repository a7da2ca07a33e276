// SPDX-License-Identifier: MIT
// Operations of a stream that are neither kernels nor copies: waits for and writes of values in memory, and
// calls into the host program.
#include <time.h>

#include "capture.h"
#include "copy.h"

namespace softgpu {
namespace {

thread_local bool host_function_running = false;

class HostFunctionScope {
  public:
    HostFunctionScope() { host_function_running = true; }
    ~HostFunctionScope() { host_function_running = false; }
};

struct ValueOperation {
    bool write;
    uint64_t address, value;
    unsigned size;       // 4 or 8
    unsigned condition;  // CUstreamWaitValue_flags
};

void check(const ValueOperation& operation) {
    require(operation.address % operation.size == 0);
    check_device_range(operation.address, operation.size);
    if (operation.write)
        require((operation.condition & ~unsigned{CU_STREAM_WRITE_VALUE_NO_MEMORY_BARRIER}) == 0);
    else
        require(operation.condition <= CU_STREAM_WAIT_VALUE_NOR);
}

template <typename Value>
bool satisfied(Value now, Value wanted, unsigned condition) {
    switch (condition) {
        case CU_STREAM_WAIT_VALUE_GEQ:
            return static_cast<std::make_signed_t<Value>>(now - wanted) >= 0;
        case CU_STREAM_WAIT_VALUE_EQ:
            return now == wanted;
        case CU_STREAM_WAIT_VALUE_AND:
            return (now & wanted) != 0;
        default:
            return ~(now | wanted) != 0;
    }
}

template <typename Value>
bool step(const ValueOperation& operation) {
    MemoryInUse in_use;
    auto range = memory_map().find(operation.address);
    if (!range)
        throw Sticky{CUDA_ERROR_ILLEGAL_ADDRESS, "a stream waited for or wrote a value in freed memory"};
    std::atomic_ref<Value> memory(*reinterpret_cast<Value*>(operation.address));
    if (!operation.write)
        return satisfied<Value>(memory.load(), static_cast<Value>(operation.value), operation.condition);
    memory.store(static_cast<Value>(operation.value));
    return true;
}

void run(const ValueOperation& operation, const Context& context) {
    // The value may come from anywhere, even from another process: there is nothing to be woken by.
    for (long pause = 1000; !(operation.size == 4 ? step<uint32_t>(operation) : step<uint64_t>(operation));) {
        if (context.ending || context.faulted) return;
        timespec time{0, pause};
        nanosleep(&time, nullptr);
        if (pause < 200000) pause *= 2;
    }
}

// The first two structures of an operation are laid out alike for both sizes.
std::vector<ValueOperation> operations(const std::vector<CUstreamBatchMemOpParams>& params) {
    std::vector<ValueOperation> list;
    for (auto& p : params) {
        auto& wait = p.waitValue;
        auto& write = p.writeValue;
        switch (p.operation) {
            case CU_STREAM_MEM_OP_WAIT_VALUE_32:
                list.push_back({false, wait.address, wait.value, 4, wait.flags});
                break;
            case CU_STREAM_MEM_OP_WAIT_VALUE_64:
                list.push_back({false, wait.address, wait.value64, 8, wait.flags});
                break;
            case CU_STREAM_MEM_OP_WRITE_VALUE_32:
                list.push_back({true, write.address, write.value, 4, write.flags});
                break;
            case CU_STREAM_MEM_OP_WRITE_VALUE_64:
                list.push_back({true, write.address, write.value64, 8, write.flags});
                break;
            case CU_STREAM_MEM_OP_BARRIER:
                break;  // operations of a stream are in order anyway
            default:
                fail(CUDA_ERROR_NOT_SUPPORTED);
        }
        if (p.operation != CU_STREAM_MEM_OP_BARRIER) check(list.back());
    }
    return list;
}

CUresult submit(CUstream on, std::vector<CUstreamBatchMemOpParams> params) {
    return api([&] {
        auto s = stream(on);
        MemOpsStep step{s->context->handle, std::move(params), 0};
        auto todo = action(step);
        if (!captured(s, step)) s->submit(std::move(todo));
    });
}

CUresult submit_one(CUstream on, CUstreamBatchMemOpType what, CUdeviceptr address, cuuint64_t value,
                    unsigned flags) {
    CUstreamBatchMemOpParams p = {};
    p.waitValue.operation = what;  // writeValue has the same members at the same places
    p.waitValue.address = address;
    p.waitValue.value64 = value;
    p.waitValue.flags = flags;
    return submit(on, {p});
}

CUresult switched_off() {
    return api([] {
        current();
        require(false, CUDA_ERROR_NOT_SUPPORTED);
    });
}

}  // namespace

bool in_host_function() {
    return host_function_running;
}

Action action(const MemOpsStep& step) {
    auto context = contexts().get(step.context, CUDA_ERROR_INVALID_CONTEXT);
    return [list = operations(step.list), context] {
        for (auto& operation : list) run(operation, *context);
    };
}

Action action(const HostStep& step) {
    return [step] {
        HostFunctionScope scope;
        step.function(step.data);
    };
}

}  // namespace softgpu

using namespace softgpu;

CUresult cuStreamWaitValue32_v2(CUstream on, CUdeviceptr address, cuuint32_t value, unsigned flags) {
    return submit_one(on, CU_STREAM_MEM_OP_WAIT_VALUE_32, address, value, flags);
}
CUresult cuStreamWaitValue64_v2(CUstream on, CUdeviceptr address, cuuint64_t value, unsigned flags) {
    return submit_one(on, CU_STREAM_MEM_OP_WAIT_VALUE_64, address, value, flags);
}
CUresult cuStreamWriteValue32_v2(CUstream on, CUdeviceptr address, cuuint32_t value, unsigned flags) {
    return submit_one(on, CU_STREAM_MEM_OP_WRITE_VALUE_32, address, value, flags);
}
CUresult cuStreamWriteValue64_v2(CUstream on, CUdeviceptr address, cuuint64_t value, unsigned flags) {
    return submit_one(on, CU_STREAM_MEM_OP_WRITE_VALUE_64, address, value, flags);
}

CUresult cuStreamBatchMemOp_v2(CUstream on, unsigned count, CUstreamBatchMemOpParams* params,
                               unsigned flags) {
    if (!params || count > 256 || flags != 0) return CUDA_ERROR_INVALID_VALUE;
    return submit(on, {params, params + count});
}

// The first versions are for memory operations that had to be switched on in the driver.
CUresult cuStreamWaitValue32(CUstream, CUdeviceptr, cuuint32_t, unsigned) {
    return switched_off();
}
CUresult cuStreamWaitValue64(CUstream, CUdeviceptr, cuuint64_t, unsigned) {
    return switched_off();
}
CUresult cuStreamWriteValue32(CUstream, CUdeviceptr, cuuint32_t, unsigned) {
    return switched_off();
}
CUresult cuStreamWriteValue64(CUstream, CUdeviceptr, cuuint64_t, unsigned) {
    return switched_off();
}
CUresult cuStreamBatchMemOp(CUstream, unsigned, CUstreamBatchMemOpParams*, unsigned) {
    return switched_off();
}

CUresult cuLaunchHostFunc(CUstream on, CUhostFn function, void* data) {
    return api([&] {
        require(function);
        auto s = stream(on);
        HostStep step{function, data};
        if (captured(s, step)) return;
        s->submit([todo = action(step), context = s->context.get()] {
            context->output.flush();
            todo();
        });
    });
}

CUresult cuStreamAddCallback(CUstream on, CUstreamCallback callback, void* data, unsigned flags) {
    return api([&] {
        require(callback && flags == 0);
        auto s = stream(on);
        s->submit(
            [=, context = s->context.get()] {
                context->output.flush();
                HostFunctionScope scope;
                callback(on, context->sticky(), data);
            },
            {}, true);
    });
}
