// SPDX-License-Identifier: MIT
// Preloaded: CLOCK_MONOTONIC is off by as many seconds as the file CRICKET_TEST_CLOCK says, as it is for a process that was
// restored on a machine that was started at another time.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

int clock_gettime(clockid_t clock, struct timespec* now) {
    static int (*real)(clockid_t, struct timespec*);
    if (!real) *(void**)&real = dlsym(RTLD_NEXT, "clock_gettime");  // as POSIX shows it
    const int result = real(clock, now);
    const char* path = getenv("CRICKET_TEST_CLOCK");
    FILE* file = path && clock == CLOCK_MONOTONIC ? fopen(path, "re") : NULL;
    long seconds = 0;
    if (file && fscanf(file, "%ld", &seconds) == 1) now->tv_sec += seconds;
    if (file) fclose(file);
    return result;
}
