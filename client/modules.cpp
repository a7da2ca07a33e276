// SPDX-License-Identifier: MIT
// Loading program images. The client finds out how long an image is and reads files, since both are in its
// address space and file system; the image itself crosses as bulk data.
#include <cstring>

#include "client/contexts.h"
#include "client/file_bytes.h"
#include "client/function_cache.h"
#include "client/jit_options.h"
#include "client/log.h"
#include "client/reply_guard.h"
#include "client/session.h"
#include "custom.h"
#include "rpc/image/bounds.h"
#include "rpc/image/image.h"

namespace cricket::client {
namespace {

struct Image {
    const void* data = nullptr;
    size_t size = 0;
};

// The image that a bare pointer means. False, with a log line that says why, when it is none.
bool find_image(const void* data, Image* found) {
    const image::Bounds bounds = image::bounds_of(data);
    if (bounds.why) log(LogLevel::Error, "image at %p: %s", data, bounds.why);
    *found = {bounds.start, bounds.size};
    return !bounds.why;
}

template <class Args, class Res>
CUresult call_with_image(Proc proc, bool_t (*xdr_args)(XDR*, Args*), Args& args,
                         bool_t (*xdr_res)(XDR*, Res*), Res& res, const Image& image, uint64_t reply_bytes) {
    return call_with_data(proc, xdr_routine(xdr_args), &args, &args.image, image.data, image.size,
                          xdr_routine(xdr_res), &res, CallOptions{.reply_bytes = reply_bytes});
}

CUresult load_module(CUmodule* module, const Image& image) {
    cuModuleLoadData_args args{};
    cuModuleLoadData_res res{};
    ReplyGuard guard;
    CUresult result = call_with_image(Proc::cuModuleLoadData, xdr_cuModuleLoadData_args, args,
                                      xdr_cuModuleLoadData_res, res, image, 0);
    if (result == CUDA_SUCCESS) *module = from_number<CUmodule>(res.module);
    return result;
}

CUresult load_module(CUmodule* module, const void* data) {
    if (!initialized()) return CUDA_ERROR_NOT_INITIALIZED;
    if (!current_context()) return need_context();
    if (!module || !data) return CUDA_ERROR_INVALID_VALUE;
    Image image;
    if (!find_image(data, &image)) return CUDA_ERROR_INVALID_IMAGE;
    return load_module(module, image);
}

struct LibraryOptions {
    CUjit_option* jit_options;
    void** jit_values;
    unsigned jit_count;
    CUlibraryOption* options;
    void** values;
    unsigned count;
};

// That the code stays where it is cannot help a driver in another process; a table of host functions is used
// by nothing but unified functions, which are refused. So neither is sent.
CUresult check_library_options(const LibraryOptions& given, bool from_file) {
    if (!given.count) return CUDA_SUCCESS;
    if (!given.options) return CUDA_ERROR_INVALID_VALUE;
    for (unsigned i = 0; i < given.count; ++i) {
        if (given.options[i] < 0 || given.options[i] >= CU_LIBRARY_NUM_OPTIONS)
            return CUDA_ERROR_INVALID_VALUE;
        if (from_file && given.options[i] == CU_LIBRARY_BINARY_IS_PRESERVED) return CUDA_ERROR_INVALID_VALUE;
    }
    return CUDA_SUCCESS;
}

CUresult load_library(CUlibrary* library, const Image& image, const LibraryOptions& given) {
    JitOptions jit;
    CUresult result = jit.read("cuLibraryLoadData", given.jit_count, given.jit_options, given.jit_values);
    if (result != CUDA_SUCCESS) return result;
    cuLibraryLoadData_args args{};
    cuLibraryLoadData_res res{};
    args.numJitOptions = given.jit_count;
    args.jit_options = jit.codes_blob();
    args.jit_values = jit.values_blob();
    ReplyGuard guard;
    result = call_with_image(Proc::cuLibraryLoadData, xdr_cuLibraryLoadData_args, args,
                             xdr_cuLibraryLoadData_res, res, image, jit.reply_bytes());
    jit.write_back(res.jit_values, res.info_log, res.error_log);
    if (result == CUDA_SUCCESS) *library = from_number<CUlibrary>(res.library);
    return result;
}

CUresult read_image(FileBytes& file, const char* path, Image* found) {
    if (CUresult result = file.read(path); result != CUDA_SUCCESS) return result;
    const auto kind = image::kind_of(file.data());
    if (!kind) {
        log(LogLevel::Error, "image %s: neither fatbin, cubin nor PTX", path);
        return CUDA_ERROR_INVALID_IMAGE;
    }
    *found = {file.data(), kind == image::Kind::Ptx ? file.size() + 1 : file.size()};
    return CUDA_SUCCESS;
}

}  // namespace

CUresult impl_cuModuleLoadData(CUmodule* module, const void* image) {
    return load_module(module, image);
}

CUresult impl_cuModuleLoadFatBinary(CUmodule* module, const void* fatCubin) {
    return load_module(module, fatCubin);
}

CUresult impl_cuModuleLoad(CUmodule* module, const char* fname) {
    if (!initialized()) return CUDA_ERROR_NOT_INITIALIZED;
    if (!current_context()) return need_context();
    if (!module || !fname || !*fname) return CUDA_ERROR_INVALID_VALUE;
    FileBytes file;
    Image image;
    CUresult result = read_image(file, fname, &image);
    return result == CUDA_SUCCESS ? load_module(module, image) : result;
}

CUresult impl_cuModuleLoadDataEx(CUmodule* module, const void* image, unsigned int numOptions,
                                 CUjit_option* options, void** optionValues) {
    if (!initialized()) return CUDA_ERROR_NOT_INITIALIZED;
    if (!current_context()) return need_context();
    if (!module || !image) return CUDA_ERROR_INVALID_VALUE;
    JitOptions jit;
    CUresult result = jit.read("cuModuleLoadDataEx", numOptions, options, optionValues);
    if (result != CUDA_SUCCESS) return result;
    Image found;
    if (!find_image(image, &found)) return CUDA_ERROR_INVALID_IMAGE;
    cuModuleLoadDataEx_args args{};
    cuModuleLoadDataEx_res res{};
    args.numOptions = numOptions;
    args.jit_options = jit.codes_blob();
    args.jit_values = jit.values_blob();
    ReplyGuard guard;
    result = call_with_image(Proc::cuModuleLoadDataEx, xdr_cuModuleLoadDataEx_args, args,
                             xdr_cuModuleLoadDataEx_res, res, found, jit.reply_bytes());
    jit.write_back(res.jit_values, res.info_log, res.error_log);
    if (result == CUDA_SUCCESS) *module = from_number<CUmodule>(res.module);
    return result;
}

CUresult impl_cuLibraryLoadData(CUlibrary* library, const void* code, CUjit_option* jitOptions,
                                void** jitOptionsValues, unsigned int numJitOptions,
                                CUlibraryOption* libraryOptions, void** libraryOptionValues,
                                unsigned int numLibraryOptions) {
    if (!library || !code) return CUDA_ERROR_INVALID_VALUE;
    if (!initialized()) return CUDA_ERROR_NOT_INITIALIZED;
    const LibraryOptions given{jitOptions,     jitOptionsValues,    numJitOptions,
                               libraryOptions, libraryOptionValues, numLibraryOptions};
    if (CUresult result = check_library_options(given, false); result != CUDA_SUCCESS) return result;
    Image image;
    if (!find_image(code, &image)) return CUDA_ERROR_INVALID_IMAGE;
    return load_library(library, image, given);
}

CUresult impl_cuLibraryLoadFromFile(CUlibrary* library, const char* fileName, CUjit_option* jitOptions,
                                    void** jitOptionsValues, unsigned int numJitOptions,
                                    CUlibraryOption* libraryOptions, void** libraryOptionValues,
                                    unsigned int numLibraryOptions) {
    if (!library || !fileName) return CUDA_ERROR_INVALID_VALUE;
    if (!initialized()) return CUDA_ERROR_NOT_INITIALIZED;
    if (!*fileName) return CUDA_ERROR_INVALID_VALUE;
    const LibraryOptions given{jitOptions,     jitOptionsValues,    numJitOptions,
                               libraryOptions, libraryOptionValues, numLibraryOptions};
    if (CUresult result = check_library_options(given, true); result != CUDA_SUCCESS) return result;
    FileBytes file;
    Image image;
    CUresult result = read_image(file, fileName, &image);
    return result == CUDA_SUCCESS ? load_library(library, image, given) : result;
}

CUresult impl_cuModuleUnload(CUmodule hmod) {
    if (!initialized()) return CUDA_ERROR_NOT_INITIALIZED;
    cuModuleUnload_args args{};
    cuModuleUnload_res res{};
    args.hmod = to_number(hmod);
    ReplyGuard guard;
    const CUresult result = call(args, res);
    function_cache::forget_all();
    return result;
}

CUresult impl_cuLibraryUnload(CUlibrary library) {
    if (!initialized()) return CUDA_ERROR_NOT_INITIALIZED;
    cuLibraryUnload_args args{};
    cuLibraryUnload_res res{};
    args.library = to_number(library);
    ReplyGuard guard;
    const CUresult result = call(args, res);
    function_cache::forget_all();
    return result;
}

// Host functions of a library are told by a table among its options, which is never sent: the driver knows none.
CUresult impl_cuLibraryGetUnifiedFunction(void** fptr, CUlibrary library, const char* symbol) {
    if (!initialized()) return CUDA_ERROR_NOT_INITIALIZED;
    if (!fptr || !symbol) return CUDA_ERROR_INVALID_VALUE;
    cuLibraryGetUnifiedFunction_args args{};
    cuLibraryGetUnifiedFunction_res res{};
    args.library = to_number(library);
    args.symbol = {symbol, static_cast<uint32_t>(std::strlen(symbol) + 1), true, false};
    ReplyGuard guard;
    if (CUresult result = call(args, res); result != CUDA_SUCCESS) return result;
    return unsupported("cuLibraryGetUnifiedFunction", "the function is one of the server's process");
}

}  // namespace cricket::client
