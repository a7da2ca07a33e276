// SPDX-License-Identifier: MIT
// Every function of NVML that nvml.cpp does not define: as a GPU answers that has nothing to say there.
#define ENTRY(name) extern "C" [[gnu::visibility("default"), gnu::weak]] int name() { return 3; }  // NOT_SUPPORTED
#include "nvml_entries.h"
