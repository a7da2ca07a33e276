// SPDX-License-Identifier: MIT
// Device resources (CUdevResource): bytes that the application keeps, some of them the driver's business. Where each came from
// is in the journal, as calls of cricketDevResources; a restore asks again, compares what may be compared, and from then on
// turns the bytes that the application has into those of the driver that is there now.
#pragma once

#include <cuda.h>

#include <cstdint>
#include <vector>

#include "call.h"

namespace cricket::server {

// How a resource was had.
struct ResourceOrigin {
    enum Kind : uint32_t { Device, Context, Green, Split } kind = Device;
    int32_t device = 0;    // Device
    uint64_t object = 0;   // Context, Green: its number
    CUdevResourceType type = CU_DEV_RESOURCE_TYPE_SM;  // but of a split
    CUdevResource input{}; // Split: as the application knows it
    uint32_t groups = 0;   // asked for
    uint32_t flags = 0, minimum = 0;
    bool remaining = false;
};

class DeviceResources {
  public:
    // The driver's bytes for the application's; what is not known stays as it is.
    CUdevResource of_driver(const CUdevResource& told) const;
    // The driver answered these; what becomes of them for the application. New ones get into the journal.
    void tell(Call& call, const ResourceOrigin& origin, std::vector<CUdevResource>* resources);
    // A restore: what the application was told, and what the driver says now.
    void replace(const std::vector<CUdevResource>& told, const std::vector<CUdevResource>& now);

  private:
    struct Known {
        CUdevResource told, driver;
    };
    std::vector<Known> known_;
};

// Asks the driver; a split's groups are followed by what remains, where that was asked for.
CUresult ask_for_resources(Call& call, const ResourceOrigin& origin, std::vector<CUdevResource>* resources);

}  // namespace cricket::server
