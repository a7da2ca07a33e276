// SPDX-License-Identifier: MIT
// A library that opens another one by its bare name, which works only through its own RUNPATH
// ($ORIGIN/plugins): the dynamic linker finds it by the return address of dlopen's caller.
#include <dlfcn.h>

void* open_plugin(void);
void* open_plugin(void) {
    void* volatile handle = dlopen("libplugin.so", RTLD_NOW | RTLD_LOCAL);  // volatile: no tail call
    return handle;
}
