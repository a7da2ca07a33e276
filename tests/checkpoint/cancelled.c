// SPDX-License-Identifier: MIT
// Cancels a thread that is in its first call of CUDA, which lasts, and then uses CUDA itself.
#include <cuda.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

static void* calls(void* unused) {
    cuInit(0);
    for (;;) pause();
    return unused;
}

int main(void) {
    sigset_t told;
    int number, count = 0;
    void* result = NULL;
    pthread_t thread;
    sigemptyset(&told);
    sigaddset(&told, SIGUSR1);
    pthread_sigmask(SIG_BLOCK, &told, NULL);
    pthread_create(&thread, NULL, calls, NULL);
    sigwait(&told, &number);
    pthread_cancel(thread);
    puts("cancelled");
    fflush(stdout);
    pthread_join(thread, &result);
    sigwait(&told, &number);
    if (result != PTHREAD_CANCELED || cuInit(0) != CUDA_SUCCESS || cuDeviceGetCount(&count) != CUDA_SUCCESS || count < 1)
        return puts("FAIL") && 1;
    puts("PASS");
    return 0;
}
