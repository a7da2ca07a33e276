// SPDX-License-Identifier: MIT
// Stands where a system has its driver, under the name libcuda.so.1: whoever loads it has escaped the shim.
int escaped = 1;
