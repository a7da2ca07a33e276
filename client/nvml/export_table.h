// SPDX-License-Identifier: MIT
#pragma once

namespace cricket::nvml {

// The table of nvmlInternalGetExportTable with this uuid (16 bytes), or null.
const void* export_table(const void* uuid);

}  // namespace cricket::nvml
