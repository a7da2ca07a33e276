// SPDX-License-Identifier: MIT
// The linker: keeps texts of PTX, and what it makes of them is one text that the loader accepts. Definitions
// that were open in one are found in the others by the interpreter, which also reports what stays open.
#include <cstring>

#include "module.h"

namespace softgpu {
namespace {

struct Link {
    JitOptions options;
    std::vector<std::string> texts;
    std::string image;  // what Complete answered with
};

using Links = Registry<Link, CUlinkState, 0x7c13>;
Links& links() {
    return immortal<Links>();
}

// The text without the directives that stand once at the head of a module.
std::string body_of(const std::string& text) {
    std::string body;
    for (size_t at = 0; at < text.size();) {
        size_t end = text.find('\n', at);
        if (end == std::string::npos) end = text.size();
        auto line = std::string_view(text).substr(at, end - at);
        auto word = line.substr(std::min(line.find_first_not_of(" \t"), line.size()));
        bool head =
            word.starts_with(".version") || word.starts_with(".target") || word.starts_with(".address_size");
        if (!head) body.append(line).append("\n");
        at = end + 1;
    }
    return body;
}

void add(Link& link, CUjitInputType type, const void* data, size_t size) {
    require(data && size);
    switch (type) {
        case CU_JIT_INPUT_PTX:
            link.texts.emplace_back(static_cast<const char*>(data),
                                    strnlen(static_cast<const char*>(data), size));
            break;
        case CU_JIT_INPUT_FATBINARY:
            link.texts.push_back(std::string(ptx_of(data).c_str()));
            break;
        case CU_JIT_INPUT_CUBIN:
        case CU_JIT_INPUT_OBJECT:
        case CU_JIT_INPUT_LIBRARY:
            log("the linker was given machine code, which this device cannot run");
            fail(CUDA_ERROR_NO_BINARY_FOR_GPU);
        default:
            fail(CUDA_ERROR_INVALID_VALUE);
    }
}

}  // namespace
}  // namespace softgpu

using namespace softgpu;

CUresult cuLinkCreate_v2(unsigned count, CUjit_option* options, void** values, CUlinkState* out) {
    return api([&] {
        require(out);
        current();
        *out = links().add(std::make_shared<Link>(Link{JitOptions(count, options, values), {}, {}}));
    });
}

CUresult cuLinkAddData_v2(CUlinkState handle, CUjitInputType type, void* data, size_t size, const char*,
                          unsigned, CUjit_option*, void**) {
    return api([&] { add(*links().get(handle), type, data, size); });
}

CUresult cuLinkAddFile_v2(CUlinkState handle, CUjitInputType type, const char* path, unsigned, CUjit_option*,
                          void**) {
    return api([&] {
        auto link = links().get(handle);
        auto bytes = read_file(path);
        add(*link, type, bytes.data(), bytes.size());
    });
}

CUresult cuLinkComplete(CUlinkState handle, void** image, size_t* size) {
    return api([&] {
        require(image);
        auto link = links().get(handle);
        require(!link->texts.empty());
        link->image = link->texts[0];
        for (size_t i = 1; i < link->texts.size(); ++i) link->image += "\n" + body_of(link->texts[i]);
        compile(link->image, link->options);
        *image = link->image.data();
        if (size) *size = link->image.size() + 1;  // with the NUL
    });
}

CUresult cuLinkDestroy(CUlinkState handle) {
    return api([&] { links().remove(handle); });
}

CUresult cuLinkCreate(unsigned count, CUjit_option* options, void** values, CUlinkState* out) {
    return cuLinkCreate_v2(count, options, values, out);
}
CUresult cuLinkAddData(CUlinkState handle, CUjitInputType type, void* data, size_t size, const char* name,
                       unsigned count, CUjit_option* options, void** values) {
    return cuLinkAddData_v2(handle, type, data, size, name, count, options, values);
}
CUresult cuLinkAddFile(CUlinkState handle, CUjitInputType type, const char* path, unsigned count,
                       CUjit_option* options, void** values) {
    return cuLinkAddFile_v2(handle, type, path, count, options, values);
}
