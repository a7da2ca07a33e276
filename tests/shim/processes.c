// SPDX-License-Identifier: MIT
// One case of how processes and threads begin and end around CUDA; processes.py runs them all. Exit status 0: as it should
// be. Every case that uses CUDA does so through use(), which checks what comes back.
#include <cuda.h>
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

extern char** environ;
static char self[4096];
static CUcontext context;

#define CHECK(condition)                                                                       \
    do {                                                                                       \
        if (!(condition)) {                                                                    \
            fprintf(stderr, "%s:%d: %s does not hold\n", __FILE__, __LINE__, #condition);      \
            _exit(1);                                                                          \
        }                                                                                      \
    } while (0)
#define OK(call)                                                                               \
    do {                                                                                       \
        const CUresult result_ = (call);                                                       \
        if (result_ != CUDA_SUCCESS) {                                                         \
            fprintf(stderr, "%s:%d: %s answers %d\n", __FILE__, __LINE__, #call, (int)result_); \
            _exit(1);                                                                          \
        }                                                                                      \
    } while (0)

static void begin(void) {
    CUdevice device;
    OK(cuInit(0));
    OK(cuDeviceGet(&device, 0));
    OK(cuDevicePrimaryCtxRetain(&context, device));
    OK(cuCtxSetCurrent(context));
}

static void use(unsigned seed) {
    unsigned seen[256] = {0};
    CUdeviceptr memory;
    OK(cuMemAlloc(&memory, sizeof seen));
    OK(cuMemsetD32(memory, seed, 256));
    OK(cuMemcpyDtoH(seen, memory, sizeof seen));
    for (int i = 0; i < 256; ++i) CHECK(seen[i] == seed);
    OK(cuMemFree(memory));
}

static int status_of(pid_t child) {
    int status = -1;
    while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

// A child that never touches CUDA, and ends with all its exit handlers: the parent's session goes on.
static int child_idle(void) {
    begin();
    use(1);
    for (int i = 0; i < 20; ++i) {
        const pid_t child = fork();
        if (child == 0) exit(0);
        use(2);
        CHECK(status_of(child) == 0);
        use(3);
    }
    return 0;
}

// A child that no handler of fork() saw: what ends with it is not its parent's session.
static int child_raw(void) {
    begin();
    use(1);
    const pid_t child = (pid_t)syscall(SYS_fork);
    if (child == 0) exit(0);
    CHECK(status_of(child) == 0);
    use(2);
    return 0;
}

// The parent has no session: each child has its own, and so has the parent afterwards.
static int child_own(void) {
    pid_t children[4];
    for (int i = 0; i < 4; ++i) {
        children[i] = fork();
        if (children[i] == 0) {
            begin();
            use(10 + i);
            exit(0);
        }
    }
    for (int i = 0; i < 4; ++i) CHECK(status_of(children[i]) == 0);
    begin();
    use(20);
    return 0;
}

// What the parent made is of no use in a child, whose every call answers as the driver's do there.
static int child_of_user(void) {
    begin();
    CUdeviceptr memory;
    OK(cuMemAlloc(&memory, 4096));
    const pid_t child = fork();
    if (child == 0) {
        CUdeviceptr other;
        int count;
        CHECK(cuMemAlloc(&other, 4096) == CUDA_ERROR_NOT_INITIALIZED);
        CHECK(cuCtxSynchronize() == CUDA_ERROR_NOT_INITIALIZED);
        CHECK(cuMemsetD8(memory, 0, 4096) == CUDA_ERROR_NOT_INITIALIZED);
        CHECK(cuDeviceGetCount(&count) == CUDA_ERROR_NOT_INITIALIZED);
        CHECK(cuInit(0) == CUDA_ERROR_NOT_INITIALIZED);
        exit(0);
    }
    CHECK(status_of(child) == 0);
    use(4);
    OK(cuMemFree(memory));
    return 0;
}

// A child of a program with threads in the middle of calls: no lock of theirs is in its way.
static volatile int stop;
static void* keep_busy(void* seed) {
    OK(cuCtxSetCurrent(context));
    while (!stop) use((unsigned)(size_t)seed);
    return NULL;
}
static int child_of_threads(void) {
    begin();
    pthread_t threads[3];
    for (size_t i = 0; i < 3; ++i) CHECK(pthread_create(&threads[i], NULL, keep_busy, (void*)(i + 30)) == 0);
    for (int i = 0; i < 30; ++i) {
        const pid_t child = fork();
        if (child == 0) {
            CUdeviceptr other;
            CHECK(cuMemAlloc(&other, 4096) == CUDA_ERROR_NOT_INITIALIZED);
            exit(0);
        }
        CHECK(status_of(child) == 0);
    }
    stop = 1;
    for (size_t i = 0; i < 3; ++i) pthread_join(threads[i], NULL);
    return 0;
}

static int simple(void) {
    begin();
    use(5);
    return 0;
}

static int spawn(void) {
    char* words[] = {self, "simple", NULL};
    begin();
    use(6);
    for (int i = 0; i < 3; ++i) {
        pid_t child;
        CHECK(posix_spawn(&child, self, NULL, NULL, words, environ) == 0);
        use(7);
        CHECK(status_of(child) == 0);
        child = vfork();
        if (child == 0) {
            execv(self, words);
            _exit(127);
        }
        use(8);
        CHECK(status_of(child) == 0);
    }
    return 0;
}

// The new program has nothing of the old one's session.
static int exec_simple(void) {
    char* words[] = {self, "simple", NULL};
    begin();
    use(9);
    execv(self, words);
    return 1;
}
// One without CUDA, that ends when its stdin does.
static int exec_other(void) {
    char* words[] = {"cat", NULL};
    begin();
    use(9);
    execvp("cat", words);
    return 1;
}

// Threads that end with their work only posted.
static CUdeviceptr shared_memory;
static void* post_only(void* number) {
    OK(cuCtxSetCurrent(context));
    for (int i = 0; i < 200; ++i)
        OK(cuMemsetD32Async(shared_memory + 4096 * (size_t)number, (unsigned)(size_t)number + 1, 1024, CU_STREAM_PER_THREAD));
    return NULL;
}
static int threads_end(void) {
    begin();
    OK(cuMemAlloc(&shared_memory, 8 * 4096));
    for (int round = 0; round < 10; ++round) {
        pthread_t threads[8];
        OK(cuMemsetD8(shared_memory, 0, 8 * 4096));
        OK(cuCtxSynchronize());
        for (size_t i = 0; i < 8; ++i) CHECK(pthread_create(&threads[i], NULL, post_only, (void*)i) == 0);
        for (size_t i = 0; i < 8; ++i) CHECK(pthread_join(threads[i], NULL) == 0);
        OK(cuCtxSynchronize());
        static unsigned seen[8 * 1024];
        OK(cuMemcpyDtoH(seen, shared_memory, sizeof seen));
        for (unsigned i = 0; i < 8 * 1024; ++i) CHECK(seen[i] == i / 1024 + 1);
    }
    return 0;
}

// The main thread leaves while another waits for the device.
static void CUDA_CB never_ends(void* started) {
    __atomic_store_n((int*)started, 1, __ATOMIC_SEQ_CST);
    for (;;) pause();
}
static void* wait_for_device(void* waits) {
    OK(cuCtxSetCurrent(context));
    __atomic_store_n((int*)waits, 1, __ATOMIC_SEQ_CST);
    (void)cuCtxSynchronize();
    return NULL;
}
static int exit_in_call(void) {
    static int started, waits;
    begin();
    OK(cuLaunchHostFunc(NULL, never_ends, &started));
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, wait_for_device, &waits) == 0);
    while (!__atomic_load_n(&started, __ATOMIC_SEQ_CST) || !__atomic_load_n(&waits, __ATOMIC_SEQ_CST)) usleep(1000);
    exit(0);
}

// It leaves while others post, as those of a framework do.
static void* post_for_ever(void* unused) {
    if (cuCtxSetCurrent(context) != CUDA_SUCCESS) return unused;
    while (cuMemsetD8Async(shared_memory, 1, 4096, NULL) == CUDA_SUCCESS) {
    }
    return unused;
}
static int exit_while_posting(void) {
    begin();
    OK(cuMemAlloc(&shared_memory, 4096));
    pthread_t threads[4];
    for (size_t i = 0; i < 4; ++i) CHECK(pthread_create(&threads[i], NULL, post_for_ever, NULL) == 0);
    for (int i = 0; i < 1000; ++i) OK(cuMemsetD8Async(shared_memory, 2, 4096, NULL));
    exit(0);
}

static int leave(void) {
    begin();
    use(11);
    _exit(0);
}

// The driver by dlopen, let go of and opened again; so a program that tries whether there is CUDA does.
static int open_and_close(void) {
    for (int i = 0; i < 5; ++i) {
        void* library = dlopen(i % 2 ? "libcuda.so.1" : "libcuda.so", RTLD_NOW | RTLD_LOCAL);
        CHECK(library);
        CUresult (*init)(unsigned);
        CUresult (*count)(int*);
        *(void**)&init = dlsym(library, "cuInit");  // as POSIX shows it
        *(void**)&count = dlsym(library, "cuDeviceGetCount");
        CHECK(init && count);
        int devices = 0;
        OK(init(0));
        OK(count(&devices));
        CHECK(devices > 0);
        CHECK(dlclose(library) == 0);
    }
    begin();
    use(12);
    return 0;
}

int main(int argc, char** argv) {
    const struct {
        const char* name;
        int (*run)(void);
    } cases[] = {{"child-idle", child_idle},     {"child-raw", child_raw},     {"child-own", child_own},       {"child-of-user", child_of_user},
                 {"child-of-threads", child_of_threads}, {"simple", simple},     {"spawn", spawn},
                 {"exec-simple", exec_simple},   {"exec-other", exec_other},     {"threads-end", threads_end},
                 {"exit-in-call", exit_in_call}, {"leave", leave},               {"open-and-close", open_and_close},
                 {"exit-while-posting", exit_while_posting}};
    const ssize_t length = readlink("/proc/self/exe", self, sizeof self - 1);
    CHECK(length > 0 && argc == 2);
    self[length] = 0;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; ++i)
        if (strcmp(argv[1], cases[i].name) == 0) return cases[i].run();
    fprintf(stderr, "%s: no case %s\n", argv[0], argv[1]);
    return 2;
}
