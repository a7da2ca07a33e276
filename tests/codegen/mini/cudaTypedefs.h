// SPDX-License-Identifier: MIT
// As cudaTypedefs.h: one PFN_name_vVERSION for each ABI.
#pragma once

#include <cuda.h>

typedef CUresult(CUDAAPI* PFN_cuEventMake_v2000)(CUevent* event, unsigned int flags);
typedef CUresult(CUDAAPI* PFN_cuEventEnd_v2000)(CUevent event);
typedef CUresult(CUDAAPI* PFN_cuEventOwned_v2000)(CUevent* made, CUevent from, CUdevice device);
typedef CUresult(CUDAAPI* PFN_cuEventRate_v2000)(CUevent event, CUmini_mode mode, int value);
typedef CUresult(CUDAAPI* PFN_cuScalars_v2000)(int* sum, int a, unsigned short b, size_t c, float d, CUmini_mode mode, CUdeviceptr address);
typedef CUresult(CUDAAPI* PFN_cuOptional_v2000)(size_t* first, size_t* second, const CUplain* input);
typedef CUresult(CUDAAPI* PFN_cuPlain_v2000)(CUplain* out, CUplain by_value, const CUplain* by_pointer);
typedef CUresult(CUDAAPI* PFN_cuArrayIn_v2000)(unsigned long long* sum, const unsigned int* values, size_t count);
typedef CUresult(CUDAAPI* PFN_cuArrayOut_v2000)(unsigned int* values, size_t count, unsigned int start);
typedef CUresult(CUDAAPI* PFN_cuArrayCounted_v2000)(unsigned int* values, size_t* count);
typedef CUresult(CUDAAPI* PFN_cuHandlesIn_v2000)(unsigned int* known, const CUevent* events, unsigned int count);
typedef CUresult(CUDAAPI* PFN_cuHandlesOut_v2000)(CUevent* events, unsigned int count);
typedef CUresult(CUDAAPI* PFN_cuTextIn_v2000)(size_t* length, const char* text);
typedef CUresult(CUDAAPI* PFN_cuTextOut_v2000)(char* text, int size, CUdevice device);
typedef CUresult(CUDAAPI* PFN_cuNameOf_v2000)(const char** name, CUfunction function);
typedef CUresult(CUDAAPI* PFN_cuInOut_v2000)(CUplain* value, CUdeviceptr address);
typedef CUresult(CUDAAPI* PFN_cuNullOnly_v2000)(int* out, void* extra, void (*callback)(void*));
typedef CUresult(CUDAAPI* PFN_cuSkipped_v2000)(int* out, void* ignored);
typedef CUresult(CUDAAPI* PFN_cuAddress_v2000)(void* address, CUdeviceptr* out);
typedef CUresult(CUDAAPI* PFN_cuStruct_v2000)(unsigned int* sum, const CUnested* nested);
typedef CUresult(CUDAAPI* PFN_cuTexture_v2000)(CUtexObject* out, CUtexObject in);
typedef CUresult(CUDAAPI* PFN_cuWork_v2000)(CUdeviceptr target, unsigned char value, CUstream stream);
typedef CUresult(CUDAAPI* PFN_cuWork_v7000_ptsz)(CUdeviceptr target, unsigned char value, CUstream stream);
typedef CUresult(CUDAAPI* PFN_cuWorkNow_v2000)(CUdeviceptr target, unsigned char value);
typedef CUresult(CUDAAPI* PFN_cuWorkNow_v7000_ptds)(CUdeviceptr target, unsigned char value);
typedef CUresult(CUDAAPI* PFN_cuByHand_v2000)(int a, CUstream stream);
typedef CUresult(CUDAAPI* PFN_cuByHand_v7000_ptsz)(int a, CUstream stream);
typedef CUresult(CUDAAPI* PFN_cuLocal_v2000)(int* out);
typedef CUresult(CUDAAPI* PFN_cuServed_v2000)(int* out, int in);
typedef CUresult(CUDAAPI* PFN_cuContextUse_v2000)(CUcontext context);
typedef CUresult(CUDAAPI* PFN_cuGiven_v2000)(CUevent event, unsigned int count, unsigned int reserved, CUstream stream);
typedef CUresult(CUDAAPI* PFN_cuGiven_v7000_ptsz)(CUevent event, unsigned int count, unsigned int reserved, CUstream stream);
typedef CUresult(CUDAAPI* PFN_cuNever_v2000)(void* anything);
typedef CUresult(CUDAAPI* PFN_cuOld_v3020)(int* out);
typedef CUresult(CUDAAPI* PFN_cuMissing_v2000)(int* out);
typedef CUresult(CUDAAPI* PFN_cuOld_v2000)(int* out);
typedef CUresult(CUDAAPI* PFN_cuSurface_v2000)(CUsurfObject* out, unsigned int value);
typedef CUresult(CUDAAPI* PFN_cuSurfaceEnd_v2000)(CUsurfObject object);
typedef CUresult(CUDAAPI* PFN_cuAncient_v2000)(int* out);
