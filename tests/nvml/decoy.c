// SPDX-License-Identifier: MIT
// Stands where a machine has its libnvidia-ml.so.1, for programs that are linked with it: whoever calls it has
// escaped us.
int escaped;

static int escape(void) {
    escaped = 1;
    return 999;
}
int nvmlInit_v2(void) { return escape(); }
int nvmlShutdown(void) { return escape(); }
const char* nvmlErrorString(int result) {
    (void)result;
    escape();
    return "the decoy";
}
int nvmlDeviceGetCount_v2(void) { return escape(); }
int nvmlDeviceGetHandleByIndex_v2(void) { return escape(); }
int nvmlDeviceGetName(void) { return escape(); }
int nvmlDeviceGetUUID(void) { return escape(); }
int nvmlDeviceGetMemoryInfo(void) { return escape(); }
