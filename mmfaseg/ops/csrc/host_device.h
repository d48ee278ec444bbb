// MMFASEG_HOST_DEVICE: an inline function for host and CUDA device code.
#pragma once

#if defined(__CUDACC__)
#define MMFASEG_HOST_DEVICE __host__ __device__ __forceinline__
#elif defined(__GNUC__)
#define MMFASEG_HOST_DEVICE inline __attribute__((always_inline))
#else
#define MMFASEG_HOST_DEVICE inline
#endif
