// SPDX-License-Identifier: MIT
// Run under LD_PRELOAD: every way to ask for the driver leads to the shim; every other dlopen behaves as
// ever. Argument: the folder of the decoy libcuda.so.1.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

void* open_plugin(void);

static int failures;

static void expect(int holds, const char* what, const char* detail) {
    if (holds) return;
    const char* error = dlerror();
    printf("%s: %s (%s)\n", what, detail, error ? error : "no dlerror");
    ++failures;
}

static void expect_shim(const char* name, int mode) {
    const void* ours = dlsym(RTLD_DEFAULT, "cricket_shim_version");
    void* handle = dlopen(name, mode);
    expect(handle != NULL, name, "was not opened");
    if (!handle) return;
    expect(dlsym(handle, "cricket_shim_version") == ours, name, "is another library");
    expect(dlsym(handle, "escaped") == NULL, name, "is the decoy");
    expect(dlsym(handle, "cuInit") == dlsym(RTLD_DEFAULT, "cuInit"), name, "has another cuInit");
    dlclose(handle);
}

int main(int argc, char** argv) {
    if (argc != 2) return 2;
    expect(dlsym(RTLD_DEFAULT, "cricket_shim_version") != NULL, "the shim", "is not preloaded");

    char path[4096];
    snprintf(path, sizeof path, "%s/libcuda.so.1", argv[1]);
    expect(access(path, R_OK) == 0, path, "missing");
    expect_shim("libcuda.so.1", RTLD_NOW);
    expect_shim("libcuda.so", RTLD_LAZY);
    expect_shim(path, RTLD_NOW);
    expect_shim(path, RTLD_NOW | RTLD_GLOBAL);
    expect_shim(path, RTLD_NOW | RTLD_NOLOAD);
    snprintf(path, sizeof path, "%s/libcuda.so.999.1", argv[1]);  // does not exist: the shim all the same
    expect_shim(path, RTLD_NOW);
    if (chdir(argv[1]) == 0) expect_shim("./libcuda.so.1", RTLD_NOW);
    if (chdir("/") == 0) expect_shim("libcuda.so.1", RTLD_NOW);

    void* handle = dlopen(NULL, RTLD_NOW);
    expect(handle != NULL && dlsym(handle, "main") == NULL, "dlopen(NULL)", "is not the program");
    handle = dlopen("libm.so.6", RTLD_NOW);
    expect(handle && dlsym(handle, "cos"), "libm.so.6", "not opened");
    snprintf(path, sizeof path, "%s/libnothing.so", argv[1]);
    expect(dlopen(path, RTLD_NOW) == NULL, path, "opened");
    const char* error = dlerror();
    expect(error && strstr(error, "libnothing.so"), "dlerror", error ? error : "says nothing");
    expect(dlopen("libplugin.so", RTLD_NOW) == NULL, "libplugin.so",
           "found without the RUNPATH of its library");
    dlerror();
    handle = open_plugin();
    expect(handle != NULL, "libplugin.so", "not found through its opener's RUNPATH");
    if (handle) expect(*(int*)dlsym(handle, "plugin_value") == 42, "plugin_value", "wrong");
    errno = EDOM;
    handle = dlopen("libc.so.6", RTLD_NOW);
    expect(handle && errno == EDOM, "errno", "changed");
    return failures ? 1 : 0;
}
