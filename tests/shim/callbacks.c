// SPDX-License-Identifier: MIT
// Functions of the application that the driver calls: their order, arguments, what they may not do, the thread they run in;
// no thread before the first. Exit status 0: as it should be.
#include <cuda.h>
#include <dirent.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CHECK(condition)                                                                  \
    do {                                                                                  \
        if (!(condition)) {                                                               \
            fprintf(stderr, "%s:%d: %s does not hold\n", __FILE__, __LINE__, #condition); \
            _exit(1);                                                                     \
        }                                                                                 \
    } while (0)

static int threads(void) {
    int count = 0;
    DIR* tasks = opendir("/proc/self/task");
    CHECK(tasks);
    for (struct dirent* entry; (entry = readdir(tasks));) count += entry->d_name[0] != '.';
    closedir(tasks);
    return count;
}

enum { rounds = 300 };
static int order[2 * rounds], count;
static pthread_t main_thread;
static CUstream stream;
static CUdeviceptr memory;

static void CUDA_CB function(void* number) {
    CUdeviceptr other;
    int devices;
    sigset_t blocked;
    CHECK(!pthread_equal(pthread_self(), main_thread));
    CHECK(cuMemAlloc(&other, 4) == CUDA_ERROR_NOT_PERMITTED);
    CHECK(cuMemsetD8Async(memory, 1, 4, stream) == CUDA_ERROR_NOT_PERMITTED);
    CHECK(cuStreamSynchronize(stream) == CUDA_ERROR_NOT_PERMITTED);
    (void)cuDeviceGetCount(&devices);
    // The application's signals are for its own threads.
    pthread_sigmask(SIG_BLOCK, NULL, &blocked);
    CHECK(sigismember(&blocked, SIGUSR1) && sigismember(&blocked, SIGTERM));
    order[count++] = (int)(size_t)number;
}
static void CUDA_CB callback(CUstream on, CUresult status, void* number) {
    CHECK(on == stream && status == CUDA_SUCCESS);
    order[count++] = (int)(size_t)number;
}

// The work behind a function starts when it has returned.
static volatile int may_go;
static void CUDA_CB wait_for_word(void* unused) {
    (void)unused;
    while (!may_go) usleep(1000);
}

int main(void) {
    CUdevice device;
    CUcontext context;
    unsigned seen = 0;
    main_thread = pthread_self();
    CHECK(cuInit(0) == CUDA_SUCCESS && cuDeviceGet(&device, 0) == CUDA_SUCCESS);
    CHECK(cuDevicePrimaryCtxRetain(&context, device) == CUDA_SUCCESS && cuCtxSetCurrent(context) == CUDA_SUCCESS);
    CHECK(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING) == CUDA_SUCCESS);
    CHECK(cuMemAlloc(&memory, 4) == CUDA_SUCCESS);
    CHECK(threads() == 1);
    CHECK(cuLaunchHostFunc(stream, NULL, NULL) == CUDA_ERROR_INVALID_VALUE);
    CHECK(cuStreamAddCallback(stream, callback, NULL, 1) == CUDA_ERROR_INVALID_VALUE);
    CHECK(threads() == 1);
    for (size_t i = 0; i < rounds; ++i) {
        CHECK(cuLaunchHostFunc(stream, function, (void*)(2 * i)) == CUDA_SUCCESS);
        CHECK(cuStreamAddCallback(stream, callback, (void*)(2 * i + 1), 0) == CUDA_SUCCESS);
    }
    CHECK(threads() == 2);
    CHECK(cuStreamSynchronize(stream) == CUDA_SUCCESS);
    CHECK(count == 2 * rounds);
    for (int i = 0; i < count; ++i) CHECK(order[i] == i);

    CHECK(cuMemsetD32(memory, 1, 1) == CUDA_SUCCESS);
    CHECK(cuLaunchHostFunc(stream, wait_for_word, NULL) == CUDA_SUCCESS);
    CHECK(cuMemsetD32Async(memory, 2, 1, stream) == CUDA_SUCCESS);
    CHECK(cuStreamQuery(stream) == CUDA_ERROR_NOT_READY);
    CHECK(cuMemcpyDtoH(&seen, memory, sizeof seen) == CUDA_SUCCESS && seen == 1);  // the legacy stream does not wait
    may_go = 1;
    CHECK(cuStreamSynchronize(stream) == CUDA_SUCCESS);
    CHECK(cuMemcpyDtoH(&seen, memory, sizeof seen) == CUDA_SUCCESS && seen == 2);
    CHECK(threads() == 2);
    return 0;
}
