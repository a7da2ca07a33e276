// SPDX-License-Identifier: MIT
// Kernels of our own in a context of the application's. What they load moves what the driver places later, so their calls
// are executed as the application's are: journalled, and repeated by a restore.
#pragma once

#include <string>

#include "checkpoint_parts.h"
#include "dispatch.h"
#include "executor.h"
#include "session.h"

namespace cricket::server {

// On the executor's thread, the session standing. What returns a string returns why not, empty when it went well.
class OwnCalls {
  public:
    OwnCalls(Session& session, Executor& executor, uint64_t context)
        : session_(session),
          executor_(executor),
          context_(context),
          call_{session, session.driver, session.objects, {}, nullptr, 0, {}, false, 0, 0} {
        call_.credential.seq = session.executed;
        call_.credential.context = context;
    }

    // `what` names the kernel in errors.
    std::string load(const Attachment& image, const std::string& what, uint64_t* module);
    std::string unload(uint64_t module, const std::string& what);
    std::string find(uint64_t module, const std::string& name, const std::string& what, uint64_t* function);
    // Makes the context current. For the driver's own launch call.
    std::string resolve(uint64_t function, const std::string& what, CUfunction* out);

  private:
    template <typename Args, typename Res>
    void execute(Proc procedure, Args* args, Res* res) {
        const auto number = static_cast<uint32_t>(procedure);
        executor_.execute(dispatch_table[number - wire::first_cuda_proc], number, call_, args, res);
    }
    std::string said(const std::string& what, int32_t status) const {
        return status == CUDA_SUCCESS ? std::string() : what + ": " + result_name(session_.driver, static_cast<CUresult>(status));
    }

    Session& session_;
    Executor& executor_;
    const uint64_t context_;
    Call call_;
};

// Code that is part of the server, as an image to load.
Attachment own_image(const void* begin, size_t bytes);

}  // namespace cricket::server
