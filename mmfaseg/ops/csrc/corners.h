// The four pixels around a sampling location, for every device.
#pragma once

#include <cmath>
#include <cstdint>

#include "host_device.h"

namespace mmfaseg {

// Weights of the four pixels, and their offsets from the first pixel of the
// level, in pixels; -1 for a pixel outside the map.
template <typename Acc>
struct Corners {
  Acc right, bottom;  // distance from the left and upper pixel, 0 to 1
  int64_t offset[4];  // upper left, upper right, lower left, lower right

  MMFASEG_HOST_DEVICE Acc weight(int corner) const {
    const Acc x = corner & 1 ? right : 1 - right;
    const Acc y = corner & 2 ? bottom : 1 - bottom;
    return x * y;
  }
};

// Returns whether any of the pixels around (x, y) is inside the map.
template <typename Acc>
MMFASEG_HOST_DEVICE bool find_corners(Acc x, Acc y, int64_t height,
                                      int64_t width, Corners<Acc>* corners) {
  if (!(x > -1 && y > -1 && x < Acc(width) && y < Acc(height))) return false;
  const Acc left = std::floor(x), top = std::floor(y);
  const int64_t column = static_cast<int64_t>(left);
  const int64_t row = static_cast<int64_t>(top);
  corners->right = x - left;
  corners->bottom = y - top;
  const bool inside_x[2] = {column >= 0, column + 1 < width};
  const bool inside_y[2] = {row >= 0, row + 1 < height};
  for (int i = 0; i < 4; ++i) {
    const bool inside = inside_x[i & 1] && inside_y[i >> 1];
    const int64_t pixel = (row + (i >> 1)) * width + column + (i & 1);
    corners->offset[i] = inside ? pixel : -1;
  }
  return true;
}

// Gradients of one sample, computed from the dot products of the four pixels
// with the gradient of the output.
template <typename Acc>
struct SampleGradient {
  Acc weight, x, y;  // x and y in units of the map
};

template <typename Acc>
MMFASEG_HOST_DEVICE SampleGradient<Acc> sample_gradient(
    const Corners<Acc>& corners, const Acc (&dots)[4], Acc weight,
    int64_t height, int64_t width) {
  const Acc upper = dots[0] + corners.right * (dots[1] - dots[0]);
  const Acc lower = dots[2] + corners.right * (dots[3] - dots[2]);
  const Acc slope =
      (dots[1] - dots[0]) +
      corners.bottom * ((dots[3] - dots[2]) - (dots[1] - dots[0]));
  return {upper + corners.bottom * (lower - upper), weight * Acc(width) * slope,
          weight * Acc(height) * (lower - upper)};
}

}  // namespace mmfaseg
