// Vectors of eight floats, on every target of Clang and of GCC 12 or newer, and
// clones of a function for the instruction sets of x86-64. Other compilers get
// plain loops.
#pragma once

#include <torch/headeronly/util/BFloat16.h>
#include <torch/headeronly/util/Half.h>

#include <cstdint>
#include <cstring>
#include <type_traits>

#include "../host_device.h"

#if defined(__GNUC__) && !defined(__clang__) && __GNUC__ >= 12
#define MMFASEG_GCC_12 1
#else
#define MMFASEG_GCC_12 0
#endif

// A function with this mark is compiled for AVX-512, AVX2 and SSE2; the loader
// picks what the processor has. What it calls has to be inlined into it.
#if MMFASEG_GCC_12 && defined(__x86_64__) && defined(__GLIBC__)
#define MMFASEG_CLONES \
  __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define MMFASEG_CLONES
#endif

namespace mmfaseg {

// Rounds to nearest, ties to even; NaN stays NaN. c10's own conversion of
// bfloat16 branches, which keeps a loop from being vectorised.
template <typename T, typename Acc>
MMFASEG_HOST_DEVICE T round_to(Acc number) {
  if constexpr (std::is_same_v<T, c10::BFloat16>) {
    const float single = static_cast<float>(number);
    uint32_t bits;
    std::memcpy(&bits, &single, sizeof(bits));
    const uint32_t rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
    const uint32_t chosen = single == single ? rounded : 0x7fc0;
    return T(static_cast<uint16_t>(chosen), T::from_bits());
  } else {
    return static_cast<T>(number);
  }
}

constexpr int64_t kLane = 8;

#if MMFASEG_GCC_12 || defined(__clang__)
typedef float Lanes __attribute__((vector_size(32)));

MMFASEG_HOST_DEVICE Lanes load_lanes(const float* from) {
  Lanes lanes;
  std::memcpy(&lanes, from, sizeof(lanes));
  return lanes;
}

MMFASEG_HOST_DEVICE Lanes load_lanes(const c10::BFloat16* from) {
  typedef uint16_t Halves __attribute__((vector_size(16)));
  typedef uint32_t Words __attribute__((vector_size(32)));
  Halves halves;
  std::memcpy(&halves, from, sizeof(halves));
  const Words words = __builtin_convertvector(halves, Words) << 16;
  Lanes lanes;
  std::memcpy(&lanes, &words, sizeof(lanes));
  return lanes;
}

MMFASEG_HOST_DEVICE Lanes load_lanes(const c10::Half* from) {
  float numbers[kLane];
  for (int64_t i = 0; i < kLane; ++i) numbers[i] = float(from[i]);
  return load_lanes(numbers);
}

MMFASEG_HOST_DEVICE void add_lanes(float* to, const Lanes& lanes) {
  const Lanes sum = load_lanes(to) + lanes;
  std::memcpy(to, &sum, sizeof(sum));
}

// Transposes 8 x 8 numbers: pairs, then pairs of pairs, then halves.
MMFASEG_HOST_DEVICE void transpose_lanes(Lanes (&rows)[kLane]) {
  Lanes a[kLane], b[kLane];
  for (int i = 0; i < 8; i += 2) {
    a[i] =
        __builtin_shufflevector(rows[i], rows[i + 1], 0, 8, 1, 9, 4, 12, 5, 13);
    a[i + 1] = __builtin_shufflevector(rows[i], rows[i + 1], 2, 10, 3, 11, 6,
                                       14, 7, 15);
  }
  for (int i = 0; i < 8; i += 4) {
    for (int j = 0; j < 2; ++j) {
      b[i + 2 * j] = __builtin_shufflevector(a[i + j], a[i + j + 2], 0, 1, 8, 9,
                                             4, 5, 12, 13);
      b[i + 2 * j + 1] = __builtin_shufflevector(a[i + j], a[i + j + 2], 2, 3,
                                                 10, 11, 6, 7, 14, 15);
    }
  }
  for (int i = 0; i < 4; ++i) {
    rows[i] = __builtin_shufflevector(b[i], b[i + 4], 0, 1, 2, 3, 8, 9, 10, 11);
    rows[i + 4] =
        __builtin_shufflevector(b[i], b[i + 4], 4, 5, 6, 7, 12, 13, 14, 15);
  }
}

// Whether add_transposed does anything for sums of this type.
template <typename Acc>
constexpr bool has_lanes = std::is_same_v<Acc, float>;

// Adds kLane neighbouring pixels of kLane channels to kLane tokens. All loads
// come before the first use, so that many are under way at once: each is a line
// of memory of its own.
template <typename T>
MMFASEG_HOST_DEVICE void add_transposed(const T* pixels, int64_t channel_stride,
                                        float* tokens, int64_t token_stride) {
  Lanes lanes[kLane];
  for (int64_t i = 0; i < kLane; ++i) {
    lanes[i] = load_lanes(pixels + i * channel_stride);
  }
  transpose_lanes(lanes);
  for (int64_t i = 0; i < kLane; ++i) {
    add_lanes(tokens + i * token_stride, lanes[i]);
  }
}
#else
template <typename Acc>
constexpr bool has_lanes = false;
#endif

}  // namespace mmfaseg
