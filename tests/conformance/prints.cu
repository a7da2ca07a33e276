// SPDX-License-Identifier: MIT
#include <cassert>
#include <cstdio>

extern "C" {

__global__ void speak(int number) { printf("printing_kernels says %d %s %.3f\n", number, "a word", number / 8.0); }

__global__ void insist(int number) { assert(number == 5); }

}
