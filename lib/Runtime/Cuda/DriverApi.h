//===- DriverApi.h - what we use of NVIDIA's driver API ---------*- C++ -*-===//
//
// Declarations of our own: no header of CUDA is needed to build, no library of it
// to link. Names and numbers are those of the binary interface of libcuda.so.1,
// which never changes (a function that changes gets a new suffix).
//
//===----------------------------------------------------------------------===//
#ifndef SKIM_LIB_RUNTIME_CUDA_DRIVERAPI_H
#define SKIM_LIB_RUNTIME_CUDA_DRIVERAPI_H

#include <cstddef>
#include <cstdint>

namespace skim::cuda {

using Result = int;
using DeviceHandle = int;
using Address = uint64_t; // CUdeviceptr
using ContextHandle = struct OpaqueContext *;
using ModuleHandle = struct OpaqueModule *;
using FunctionHandle = struct OpaqueFunction *;
using StreamHandle = struct OpaqueStream *;
using EventHandle = struct OpaqueEvent *;
using GraphHandle = struct OpaqueGraph *;
using GraphExecHandle = struct OpaqueGraphExec *;

// CUresult
inline constexpr Result kSuccess = 0, kInvalidValue = 1, kOutOfMemory = 2, kNotInitialized = 3, kNoDevice = 100,
                        kInvalidDevice = 101, kInvalidImage = 200, kNoBinaryForGpu = 209, kInvalidPtx = 218,
                        kNotFound = 500, kIllegalAddress = 700;
// CUdevice_attribute
inline constexpr int kClockRate = 13, kMultiprocessors = 16, kMemoryClockRate = 36, kMemoryBusWidth = 37,
                     kL2CacheSize = 38, kCapabilityMajor = 75, kCapabilityMinor = 76, kSharedMemoryOptIn = 97;
// CUfunction_attribute
inline constexpr int kMaxThreadsPerBlock = 0, kSharedSizeBytes = 1, kLocalSizeBytes = 3, kRegisters = 4,
                     kMaxDynamicSharedSizeBytes = 8;
// CUjit_option
inline constexpr int kJitErrorLogBuffer = 5, kJitErrorLogBufferSizeBytes = 6;
// CUstream_flags, CUstreamCaptureMode, CUevent_flags
inline constexpr unsigned kStreamNonBlocking = 1, kEventDefault = 0, kEventDisableTiming = 2;
inline constexpr int kCaptureThreadLocal = 1;

/// X(name, symbol, arguments).
#define SKIM_CUDA_FUNCTIONS(X)                                                                                         \
  X(init, cuInit, (unsigned flags))                                                                                    \
  X(driverVersion, cuDriverGetVersion, (int *version))                                                                 \
  X(errorName, cuGetErrorName, (Result result, const char **name))                                                     \
  X(errorText, cuGetErrorString, (Result result, const char **text))                                                   \
  X(deviceCount, cuDeviceGetCount, (int *count))                                                                       \
  X(deviceGet, cuDeviceGet, (DeviceHandle * device, int index))                                                        \
  X(deviceName, cuDeviceGetName, (char *name, int bytes, DeviceHandle device))                                         \
  X(deviceAttribute, cuDeviceGetAttribute, (int *value, int attribute, DeviceHandle device))                           \
  X(deviceMemory, cuDeviceTotalMem_v2, (size_t *bytes, DeviceHandle device))                                           \
  X(contextRetain, cuDevicePrimaryCtxRetain, (ContextHandle * context, DeviceHandle device))                           \
  X(contextRelease, cuDevicePrimaryCtxRelease_v2, (DeviceHandle device))                                               \
  X(contextPush, cuCtxPushCurrent_v2, (ContextHandle context))                                                         \
  X(contextPop, cuCtxPopCurrent_v2, (ContextHandle * context))                                                         \
  X(memoryInfo, cuMemGetInfo_v2, (size_t *free, size_t *total))                                                        \
  X(memoryAllocate, cuMemAlloc_v2, (Address * address, size_t bytes))                                                  \
  X(memoryFree, cuMemFree_v2, (Address address))                                                                       \
  X(pinnedAllocate, cuMemAllocHost_v2, (void **memory, size_t bytes))                                                  \
  X(pinnedFree, cuMemFreeHost, (void *memory))                                                                         \
  X(copyIn, cuMemcpyHtoDAsync_v2, (Address to, const void *from, size_t bytes, StreamHandle stream))                   \
  X(copyOut, cuMemcpyDtoHAsync_v2, (void *to, Address from, size_t bytes, StreamHandle stream))                        \
  X(copyWithin, cuMemcpyDtoDAsync_v2, (Address to, Address from, size_t bytes, StreamHandle stream))                   \
  X(memorySet, cuMemsetD8Async, (Address to, unsigned char value, size_t bytes, StreamHandle stream))                  \
  X(streamCreate, cuStreamCreate, (StreamHandle * stream, unsigned flags))                                             \
  X(streamDestroy, cuStreamDestroy_v2, (StreamHandle stream))                                                          \
  X(streamSynchronize, cuStreamSynchronize, (StreamHandle stream))                                                     \
  X(captureBegin, cuStreamBeginCapture_v2, (StreamHandle stream, int mode))                                            \
  X(captureEnd, cuStreamEndCapture, (StreamHandle stream, GraphHandle * graph))                                        \
  X(graphInstantiate, cuGraphInstantiateWithFlags,                                                                     \
    (GraphExecHandle * exec, GraphHandle graph, unsigned long long flags))                                             \
  X(graphLaunch, cuGraphLaunch, (GraphExecHandle exec, StreamHandle stream))                                           \
  X(graphExecDestroy, cuGraphExecDestroy, (GraphExecHandle exec))                                                      \
  X(graphDestroy, cuGraphDestroy, (GraphHandle graph))                                                                 \
  X(eventCreate, cuEventCreate, (EventHandle * event, unsigned flags))                                                 \
  X(eventRecord, cuEventRecord, (EventHandle event, StreamHandle stream))                                              \
  X(eventSynchronize, cuEventSynchronize, (EventHandle event))                                                         \
  X(eventElapsed, cuEventElapsedTime, (float *milliseconds, EventHandle begin, EventHandle end))                       \
  X(eventDestroy, cuEventDestroy_v2, (EventHandle event))                                                              \
  X(moduleLoad, cuModuleLoadDataEx,                                                                                    \
    (ModuleHandle * module, const void *image, unsigned count, int *options, void **values))                           \
  X(moduleUnload, cuModuleUnload, (ModuleHandle module))                                                               \
  X(moduleFunction, cuModuleGetFunction, (FunctionHandle * function, ModuleHandle module, const char *name))           \
  X(functionAttribute, cuFuncGetAttribute, (int *value, int attribute, FunctionHandle function))                       \
  X(functionSetAttribute, cuFuncSetAttribute, (FunctionHandle function, int attribute, int value))                     \
  X(launch, cuLaunchKernel,                                                                                            \
    (FunctionHandle function, unsigned gridX, unsigned gridY, unsigned gridZ, unsigned blockX, unsigned blockY,        \
     unsigned blockZ, unsigned sharedBytes, StreamHandle stream, void **parameters, void **extra))

/// The functions, as libcuda.so.1 gives them.
struct Functions {
#define SKIM_CUDA_POINTER(name, symbol, arguments) Result(*name) arguments = nullptr;
  SKIM_CUDA_FUNCTIONS(SKIM_CUDA_POINTER)
#undef SKIM_CUDA_POINTER
};

} // namespace skim::cuda

#endif // SKIM_LIB_RUNTIME_CUDA_DRIVERAPI_H
