// SPDX-License-Identifier: MIT
// Linked with NVML, as programs are (DT_NEEDED libnvidia-ml.so.1): asks for the same things again and again until
// SIGTERM, or --steps N times, and looks at each answer. Handles are those of the first step, over every checkpoint.
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int nvmlInit_v2(void);
int nvmlShutdown(void);
const char* nvmlErrorString(int result);
int nvmlDeviceGetCount_v2(unsigned* count);
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void** device);
int nvmlDeviceGetName(void* device, char* name, unsigned length);
int nvmlDeviceGetUUID(void* device, char* uuid, unsigned length);
int nvmlDeviceGetMemoryInfo(void* device, uint64_t memory[3]);
extern int escaped __attribute__((weak));  // decoy.c

static volatile sig_atomic_t stop;
static void on_term(int signal) {
    (void)signal;
    stop = 1;
}

static int fail(const char* what, int result) {
    printf("FAIL %s: %d %s\n", what, result, nvmlErrorString(result));
    return 1;
}

int main(int argc, char** argv) {
    long steps = argc == 3 && strcmp(argv[1], "--steps") == 0 ? atol(argv[2]) : 0;
    signal(SIGTERM, on_term);
    setvbuf(stdout, NULL, _IOLBF, 0);
    unsigned count = 0;
    void* device = NULL;
    char name[96], uuid[96], again[96];
    int result = nvmlInit_v2();
    if (result) return fail("nvmlInit", result);
    if ((result = nvmlDeviceGetCount_v2(&count)) || count == 0) return fail("nvmlDeviceGetCount", result);
    if ((result = nvmlDeviceGetHandleByIndex_v2(0, &device))) return fail("nvmlDeviceGetHandleByIndex", result);
    if ((result = nvmlDeviceGetName(device, name, sizeof name))) return fail("nvmlDeviceGetName", result);
    if ((result = nvmlDeviceGetUUID(device, uuid, sizeof uuid))) return fail("nvmlDeviceGetUUID", result);
    long step = 0;
    for (; !stop && (steps == 0 || step < steps); ++step) {
        uint64_t memory[3] = {0};
        if ((result = nvmlDeviceGetMemoryInfo(device, memory))) return fail("nvmlDeviceGetMemoryInfo", result);
        if (memory[0] == 0 || memory[1] + memory[2] > memory[0]) return fail("memory makes no sense", 0);
        memset(again, 0, sizeof again);
        if ((result = nvmlDeviceGetUUID(device, again, sizeof again))) return fail("nvmlDeviceGetUUID", result);
        if (strcmp(uuid, again) != 0) return fail("another uuid", 0);
        if (step % 20 == 0) printf("step %ld\n", step);
    }
    if ((result = nvmlShutdown())) return fail("nvmlShutdown", result);
    if (&escaped && escaped) return fail("the machine's own NVML was called", 0);
    printf("PASS %ld steps, %s, %s\n", step, name, uuid);
    return 0;
}
