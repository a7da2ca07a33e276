// SPDX-License-Identifier: MIT
// From an image to a program: finds the PTX in it and gives it to the interpreter.
#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>

#include "module.h"
#include "rpc/image/image.h"

namespace softgpu {

namespace image = cricket::image;

JitOptions::JitOptions(unsigned count, const CUjit_option* options, void** values) {
    require(count == 0 || (options && values));
    for (unsigned i = 0; i < count; ++i) {
        switch (options[i]) {
            case CU_JIT_ERROR_LOG_BUFFER:
                error_ = static_cast<char*>(values[i]);
                break;
            case CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES:
                error_size_ = static_cast<unsigned>(reinterpret_cast<uintptr_t>(values[i]));
                error_filled_ = &values[i];
                break;
            case CU_JIT_INFO_LOG_BUFFER:
                info_ = static_cast<char*>(values[i]);
                break;
            case CU_JIT_INFO_LOG_BUFFER_SIZE_BYTES:
                info_size_ = static_cast<unsigned>(reinterpret_cast<uintptr_t>(values[i]));
                info_filled_ = &values[i];
                break;
            case CU_JIT_MAX_REGISTERS:
                require(static_cast<unsigned>(reinterpret_cast<uintptr_t>(values[i])) != 0);
                break;
            default:
                break;  // optimization and the like: nothing to choose here
        }
    }
}

void JitOptions::report(const std::string& error) const {
    auto put = [](char* buffer, size_t size, void** filled, const std::string& text) {
        if (!buffer || !size) return;
        size_t length = std::min(text.size(), size - 1);
        memcpy(buffer, text.data(), length);
        buffer[length] = 0;
        if (filled) *filled = reinterpret_cast<void*>(length);
    };
    put(error_, error_size_, error_filled_, error);
    put(info_, info_size_, info_filled_, "");
}

std::string ptx_of(const void* data) {
    require(data);
    auto kind = image::kind_of(data);
    require(kind.has_value(), CUDA_ERROR_INVALID_IMAGE);
    try {
        if (*kind == image::Kind::FatbinWrapper) data = image::unwrap(data);
        auto members = image::members({static_cast<const std::byte*>(data), image::size_of(data)});
        const image::Member* best = nullptr;
        for (auto& member : members) {
            bool plain = *kind == image::Kind::Ptx;  // whether its target fits is for the compiler to say
            if (member.kind != image::Kind::Ptx || (!plain && member.arch > compute_capability())) continue;
            if (!best || member.arch > best->arch) best = &member;
        }
        if (!best) {
            log("an image without PTX for compute capability %d.%d or less (build with -gencode "
                "arch=compute_75,code=compute_75)",
                kMajor, kMinor);
            fail(CUDA_ERROR_NO_BINARY_FOR_GPU);
        }
        return {reinterpret_cast<const char*>(best->data.data()), best->data.size()};
    } catch (const image::ImageError& error) {
        log("%s", error.what());
        fail(CUDA_ERROR_INVALID_IMAGE);
    }
}

std::unique_ptr<ptx::Module> compile(const std::string& text, const JitOptions& options) {
    std::string why;
    try {
        auto module = ptx::Module::parse(text);
        if (module->target() > compute_capability()) {
            why = "its .target sm_" + std::to_string(module->target()) + " is higher than this device";
        } else {
            for (auto& variable : module->variables())
                if (variable.external && why.empty()) why = "undefined reference to '" + variable.name + "'";
        }
        if (why.empty()) {
            options.report("");
            return module;
        }
    } catch (const ptx::ParseError& error) {
        why = error.what();
    }
    log("PTX refused: %s", why.c_str());
    options.report("PTX refused: " + why + "\n");
    fail(CUDA_ERROR_INVALID_PTX);
}

std::vector<char> read_file(const char* path) {
    require(path);
    std::unique_ptr<FILE, int (*)(FILE*)> file(fopen(path, "rbe"), fclose);
    require(file != nullptr, errno == ENOENT ? CUDA_ERROR_FILE_NOT_FOUND : CUDA_ERROR_INVALID_VALUE);
    std::vector<char> bytes;
    char part[65536];
    while (size_t got = fread(part, 1, sizeof part, file.get())) bytes.insert(bytes.end(), part, part + got);
    require(!ferror(file.get()) && !bytes.empty(), CUDA_ERROR_INVALID_IMAGE);
    bytes.push_back(0);
    return bytes;
}

}  // namespace softgpu
