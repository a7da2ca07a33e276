// SPDX-License-Identifier: MIT
// Generated code includes it beside cuda.h; this API has none of its functions.
#pragma once
