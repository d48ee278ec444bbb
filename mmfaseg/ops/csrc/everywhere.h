// MMFASEG_EVERYWHERE: an inline function for the host and for CUDA devices.
#pragma once

#if defined(__CUDACC__)
#define MMFASEG_EVERYWHERE __host__ __device__ __forceinline__
#elif defined(__GNUC__)
#define MMFASEG_EVERYWHERE inline __attribute__((always_inline))
#else
#define MMFASEG_EVERYWHERE inline
#endif
