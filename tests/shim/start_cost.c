// SPDX-License-Identifier: MIT
// What the shim adds to the start and end of a process: /bin/true many times, with and without it in turn,
// medians compared in one run. Time of the processor, which does not grow with what else the machine has to do. Argument: libcudashim.so.
#define _GNU_SOURCE
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/wait.h>

enum { rounds = 300 };

static double microseconds(char* const environment[]) {
    char* const command[] = {"/bin/true", NULL};
    struct rusage used;
    pid_t child;
    int status;
    if (posix_spawn(&child, command[0], NULL, NULL, command, environment) != 0 ||
        wait4(child, &status, 0, &used) != child || status != 0) {
        fprintf(stderr, "cannot run /bin/true\n");
        exit(1);
    }
    return (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) * 1e6 + (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec);
}

static int compare(const void* a, const void* b) {
    double difference = *(const double*)a - *(const double*)b;
    return (difference > 0) - (difference < 0);
}

int main(int argc, char** argv) {
    if (argc != 2) return 2;
    char preload[4096];
    snprintf(preload, sizeof preload, "LD_PRELOAD=%s", argv[1]);
    char* const bare[] = {"PATH=/usr/bin:/bin", NULL};
    char* const shimmed[] = {"PATH=/usr/bin:/bin", preload, NULL};
    static double without[rounds], with[rounds];
    for (int i = 0; i < 10; ++i) microseconds(i % 2 ? shimmed : bare);
    for (int i = 0; i < rounds; ++i) {
        without[i] = microseconds(bare);
        with[i] = microseconds(shimmed);
    }
    qsort(without, rounds, sizeof *without, compare);
    qsort(with, rounds, sizeof *with, compare);
    double added = with[rounds / 2] - without[rounds / 2];
    printf("/bin/true: %.0f us without, %.0f us with the shim: %.0f us more (median of %d)\n",
           without[rounds / 2], with[rounds / 2], added, rounds);
    return added < 1000 ? 0 : 1;
}
