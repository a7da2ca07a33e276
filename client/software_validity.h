// SPDX-License-Identifier: MIT
// The CUDA runtime's check that it talks to a driver it knows. The answer binds to this process, thread and
// the addresses of our tables, so it cannot be forwarded. Described in facts/cuda-driver.md ("Software
// validity").
#pragma once

#include <cstddef>
#include <cstdint>

namespace cricket::client {

struct ValidityDevice {
    uint8_t uuid[16];
    int32_t pci_domain, pci_bus, pci_device;
};
static_assert(sizeof(ValidityDevice) == 28, "fed to the digest as it lies in memory");

struct ValidityQuestion {
    uint32_t driver_version;  // as cuDriverGetVersion says, e.g. 13000
    uint32_t version;         // of the check, from the caller
    uint32_t pid;
    uint32_t thread;             // low half of pthread_self()
    uint64_t interface_table;    // address of the CUDART_INTERFACE table
    uint64_t validity_table;     // address of this check's table
    uint64_t validity_function;  // address of the function asked
    uint64_t unix_seconds;       // from the caller
};
static_assert(sizeof(ValidityQuestion) == 48, "fed to the digest as it lies in memory");

void answer_validity(const ValidityQuestion& question, const ValidityDevice* devices, size_t device_count,
                     uint64_t (&answer)[2]);

}  // namespace cricket::client
