// SPDX-License-Identifier: MIT
// The one name we export that is not CUDA's (besides dlopen): how the server and tests recognise the shim,
// which must never be taken for a driver.
extern "C" {
[[gnu::visibility("default"), gnu::used]] extern const char cricket_shim_version[] = CRICKET_VERSION;
}
