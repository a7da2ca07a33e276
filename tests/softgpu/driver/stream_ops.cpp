// SPDX-License-Identifier: MIT
// Operations of a stream that are neither kernels nor copies: waits for and writes of values in memory, and
// calls into the host program.
#include <time.h>

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

CUresult submit(CUstream on, std::vector<ValueOperation> list) {
    return api([&] {
        auto s = stream(on);
        for (auto& operation : list) check(operation);
        s->submit([list = std::move(list), context = s->context.get()] {
            for (auto& operation : list) run(operation, *context);
        });
    });
}

}  // namespace

bool in_host_function() {
    return host_function_running;
}

}  // namespace softgpu

using namespace softgpu;

CUresult cuStreamWaitValue32_v2(CUstream on, CUdeviceptr address, cuuint32_t value, unsigned flags) {
    return submit(on, {{false, address, value, 4, flags}});
}
CUresult cuStreamWaitValue64_v2(CUstream on, CUdeviceptr address, cuuint64_t value, unsigned flags) {
    return submit(on, {{false, address, value, 8, flags}});
}
CUresult cuStreamWriteValue32_v2(CUstream on, CUdeviceptr address, cuuint32_t value, unsigned flags) {
    return submit(on, {{true, address, value, 4, flags}});
}
CUresult cuStreamWriteValue64_v2(CUstream on, CUdeviceptr address, cuuint64_t value, unsigned flags) {
    return submit(on, {{true, address, value, 8, flags}});
}

CUresult cuStreamBatchMemOp_v2(CUstream on, unsigned count, CUstreamBatchMemOpParams* params,
                               unsigned flags) {
    if (!params || count > 256 || flags != 0) return CUDA_ERROR_INVALID_VALUE;
    std::vector<ValueOperation> list;
    for (unsigned i = 0; i < count; ++i) {
        auto& wait = params[i].waitValue;
        auto& write = params[i].writeValue;
        switch (params[i].operation) {
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
                return CUDA_ERROR_NOT_SUPPORTED;
        }
    }
    return submit(on, std::move(list));
}

// The first versions took the same arguments.
CUresult cuStreamWaitValue32(CUstream on, CUdeviceptr address, cuuint32_t value, unsigned flags) {
    return cuStreamWaitValue32_v2(on, address, value, flags);
}
CUresult cuStreamWaitValue64(CUstream on, CUdeviceptr address, cuuint64_t value, unsigned flags) {
    return cuStreamWaitValue64_v2(on, address, value, flags);
}
CUresult cuStreamWriteValue32(CUstream on, CUdeviceptr address, cuuint32_t value, unsigned flags) {
    return cuStreamWriteValue32_v2(on, address, value, flags);
}
CUresult cuStreamWriteValue64(CUstream on, CUdeviceptr address, cuuint64_t value, unsigned flags) {
    return cuStreamWriteValue64_v2(on, address, value, flags);
}
CUresult cuStreamBatchMemOp(CUstream on, unsigned count, CUstreamBatchMemOpParams* params, unsigned flags) {
    return cuStreamBatchMemOp_v2(on, count, params, flags);
}

CUresult cuLaunchHostFunc(CUstream on, CUhostFn function, void* data) {
    return api([&] {
        require(function);
        stream(on)->submit([=] {
            HostFunctionScope scope;
            function(data);
        });
    });
}

CUresult cuStreamAddCallback(CUstream on, CUstreamCallback callback, void* data, unsigned flags) {
    return api([&] {
        require(callback && flags == 0);
        auto s = stream(on);
        s->submit(
            [=, context = s->context.get()] {
                HostFunctionScope scope;
                callback(on, context->sticky(), data);
            },
            {}, true);
    });
}
