// SPDX-License-Identifier: MIT
// As much of the shim as the supervisor looks at to know that it is no driver.
extern "C" [[gnu::visibility("default")]] const int cricket_shim_version;
extern "C" const int cricket_shim_version = 1;
