// SPDX-License-Identifier: MIT
// Run under LD_PRELOAD: a process that makes no CUDA call has nothing of the shim but its code: no
// descriptor, no thread, no signal handler, no shared mapping, no memory of ours in the heap's way.
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static int failures;

static void expect(int holds, const char* what, const char* detail) {
    if (holds) return;
    printf("%s: %s\n", what, detail);
    ++failures;
}

static int entries(const char* folder) {
    DIR* open = opendir(folder);
    int count = 0;
    for (struct dirent* entry; (entry = readdir(open));) count += entry->d_name[0] != '.';
    closedir(open);
    return count;
}

int main(void) {
    const char* version = dlsym(RTLD_DEFAULT, "cricket_shim_version");
    expect(version && *version, "the shim", "is not preloaded");
    expect(entries("/proc/self/task") == 1, "threads", "more than one");
    expect(entries("/proc/self/fd") == 4, "descriptors",
           "more than stdin, stdout, stderr and the listing's own");
    for (int number = 1; number < NSIG; ++number) {
        struct sigaction action;
        if (sigaction(number, NULL, &action) == 0 &&
            (action.sa_handler != SIG_DFL && action.sa_handler != SIG_IGN))
            expect(0, "signal handler", strsignal(number));
    }
    char line[1024];
    FILE* maps = fopen("/proc/self/maps", "r");
    while (fgets(line, sizeof line, maps)) {
        char permissions[8];
        sscanf(line, "%*s %7s", permissions);
        expect(permissions[3] == 'p' || strstr(line, "gconv") || strstr(line, "locale"), "shared mapping",
               line);
        expect(!strstr(line, "memfd") && !strstr(line, "/dev/nvidia"), "mapping", line);
    }
    fclose(maps);
    return failures ? 1 : 0;
}
