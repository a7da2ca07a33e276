// SPDX-License-Identifier: MIT
// Lies in a folder that only opener.c's RUNPATH names.
int plugin_value = 42;
