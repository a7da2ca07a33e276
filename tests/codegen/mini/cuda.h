// SPDX-License-Identifier: MIT
// A small API in the manner of cuda.h: one function for each rule of the description language. The round-trip test
// generates both ends for it and runs them.
#pragma once

#include <stddef.h>

#define CUDAAPI

#ifdef __cplusplus
extern "C" {
#endif

typedef enum cudaError_enum {
    CUDA_SUCCESS = 0,
    CUDA_ERROR_INVALID_VALUE = 1,
    CUDA_ERROR_OUT_OF_MEMORY = 2,
    CUDA_ERROR_NOT_INITIALIZED = 3,
    CUDA_ERROR_INVALID_CONTEXT = 201,
    CUDA_ERROR_INVALID_HANDLE = 400,
    CUDA_ERROR_NOT_SUPPORTED = 801
} CUresult;
typedef enum CUmini_mode_enum { CU_MINI_LOW = -1, CU_MINI_HIGH = 7 } CUmini_mode;

typedef unsigned long long CUdeviceptr;
typedef int CUdevice;
typedef struct CUctx_st* CUcontext;
typedef struct CUfunc_st* CUfunction;
typedef struct CUkern_st* CUkernel;
typedef struct CUstream_st* CUstream;
typedef struct CUevent_st* CUevent;
typedef unsigned long long CUtexObject_v1;
typedef CUtexObject_v1 CUtexObject;
typedef CUtexObject_v1 CUsurfObject;

typedef struct CUplain_st {
    int id;
    unsigned char bytes[11];
    union {
        float f;
        unsigned int u;
    } value;
} CUplain;

typedef struct CUnested_st {
    CUevent event;
    CUfunction function;
    unsigned int count;
    void* reserved;
    void* device_address;
} CUnested;

#define cuOld cuOld_v2

CUresult CUDAAPI cuEventMake(CUevent* event, unsigned int flags);
CUresult CUDAAPI cuEventEnd(CUevent event);
CUresult CUDAAPI cuEventOwned(CUevent* made, CUevent from, CUdevice device);
CUresult CUDAAPI cuEventRate(CUevent event, CUmini_mode mode, int value);
CUresult CUDAAPI cuScalars(int* sum, int a, unsigned short b, size_t c, float d, CUmini_mode mode, CUdeviceptr address);
CUresult CUDAAPI cuOptional(size_t* first, size_t* second, const CUplain* input);
CUresult CUDAAPI cuPlain(CUplain* out, CUplain by_value, const CUplain* by_pointer);
CUresult CUDAAPI cuArrayIn(unsigned long long* sum, const unsigned int* values, size_t count);
CUresult CUDAAPI cuArrayOut(unsigned int* values, size_t count, unsigned int start);
CUresult CUDAAPI cuArrayCounted(unsigned int* values, size_t* count);
CUresult CUDAAPI cuHandlesIn(unsigned int* known, const CUevent* events, unsigned int count);
CUresult CUDAAPI cuHandlesOut(CUevent* events, unsigned int count);
CUresult CUDAAPI cuTextIn(size_t* length, const char* text);
CUresult CUDAAPI cuTextOut(char* text, int size, CUdevice device);
CUresult CUDAAPI cuNameOf(const char** name, CUfunction function);
CUresult CUDAAPI cuInOut(CUplain* value, CUdeviceptr address);
CUresult CUDAAPI cuNullOnly(int* out, void* extra, void (*callback)(void*));
CUresult CUDAAPI cuSkipped(int* out, void* ignored);
CUresult CUDAAPI cuAddress(void* address, CUdeviceptr* out);
CUresult CUDAAPI cuStruct(unsigned int* sum, const CUnested* nested);
CUresult CUDAAPI cuTexture(CUtexObject* out, CUtexObject in);
CUresult CUDAAPI cuWork(CUdeviceptr target, unsigned char value, CUstream stream);
CUresult CUDAAPI cuWork_ptsz(CUdeviceptr target, unsigned char value, CUstream stream);
CUresult CUDAAPI cuWorkNow(CUdeviceptr target, unsigned char value);
CUresult CUDAAPI cuWorkNow_ptds(CUdeviceptr target, unsigned char value);
CUresult CUDAAPI cuByHand(int a, CUstream stream);
CUresult CUDAAPI cuByHand_ptsz(int a, CUstream stream);
CUresult CUDAAPI cuLocal(int* out);
CUresult CUDAAPI cuServed(int* out, int in);
CUresult CUDAAPI cuContextUse(CUcontext context);
CUresult CUDAAPI cuGiven(CUevent event, unsigned int count, unsigned int reserved, CUstream stream);
CUresult CUDAAPI cuGiven_ptsz(CUevent event, unsigned int count, unsigned int reserved, CUstream stream);
CUresult CUDAAPI cuNever(void* anything);
CUresult CUDAAPI cuOld_v2(int* out);
CUresult CUDAAPI cuMissing(int* out);
CUresult CUDAAPI cuSurface(CUsurfObject* out, unsigned int value);
CUresult CUDAAPI cuSurfaceEnd(CUsurfObject object);
CUresult CUDAAPI cuAncient(int* out);

#ifdef __CUDA_API_VERSION_INTERNAL
#undef cuOld
CUresult CUDAAPI cuOld(int* out);
#endif

#ifdef __cplusplus
}
#endif
