// mmfaseg::hrca_gather, mmfaseg::hrca_scatter: windows of a map as tokens.
//
// Letters: B batch, C channels, H x W the map (stride 4), G_h x G_w the grid of
// windows (the stride-32 map), s the window size in pixels of the map, K the
// number of selected windows. Window i is at row i / G_w, column i % G_w of the
// grid and has the pixels [row * s, row * s + s) x [column * s, ...).
//
// hrca_gather(feature, position, window_index, window_size, grid_height,
//             grid_width, level_embed) -> (value, key)
//   feature, position: (B, C, H, W), any strides; the types may differ.
//   window_index: int64 (B, K), values in [0, G_h * G_w).
//   level_embed: (C,), optional.
//   value = feature + level_embed, key = feature + level_embed + position, at
//   the pixels of the windows, window by window, each row-major: contiguous
//   (B, K * s * s, C), in the type that feature and position promote to. Sums
//   are computed in float, or in double if that type is double, and rounded
//   once. Pixels outside the map are 0. Only the selected windows are read.
//
// hrca_scatter(grad, other, window_index, ..., height, width, dtype,
//              channels_last) -> map
//   The adjoint for one map: grad (+ other) at the pixels of the windows, 0
//   elsewhere; (B, C, H, W), contiguous or channels-last. Tokens outside the
//   map are ignored. A window that is selected twice gets the sum over both, in
//   order.
//
// Both are deterministic: each output is written by one thread, in a fixed
// order of summation. B, C and K may be 0. An index out of range raises an
// error that names it (on CUDA it stops the kernel).
#pragma once

#include <torch/csrc/stable/ops.h>

#include <cstdint>
#include <optional>

#include "checks.h"
#include "host_device.h"

namespace mmfaseg {

struct Windows {
  int64_t batch, count, channels;   // B, K, C
  int64_t height, width;            // H, W
  int64_t grid_height, grid_width;  // G_h, G_w
  int64_t size;                     // s

  // Number of tokens of an image, K * s * s.
  MMFASEG_HOST_DEVICE int64_t tokens() const { return count * size * size; }
};

// Strides of a map in elements.
struct MapStrides {
  int64_t batch, channel, row, column;
};

inline MapStrides map_strides(const Tensor& map) {
  return {map.stride(0), map.stride(1), map.stride(2), map.stride(3)};
}

inline MapStrides dense_strides(const Windows& w, bool channels_last) {
  const int64_t image = w.channels * w.height * w.width;
  if (channels_last) return {image, 1, w.width * w.channels, w.channels};
  return {image, w.height * w.width, w.width, 1};
}

inline void check_windows(const Windows& w, const Tensor& window_index) {
  check(w.size >= 1, "window_size must be at least 1, got ", w.size);
  check(w.grid_height >= 1 && w.grid_width >= 1, "the grid of windows is ",
        w.grid_height, "x", w.grid_width, ", but must not be empty");
  check((w.grid_height - 1) * w.size < w.height &&
            (w.grid_width - 1) * w.size < w.width,
        "windows of ", w.size, "x", w.size, " pixels on a grid of ",
        w.grid_height, "x", w.grid_width, " do not fit a map of ", w.height,
        "x", w.width);
  check(window_index.scalar_type() == ScalarType::Long,
        "window_index must be int64");
  check_shape("window_index", window_index, {w.batch, w.count});
}

inline ScalarType promote(ScalarType a, ScalarType b) {
  if (a == b) return a;
  const bool has_double = a == ScalarType::Double || b == ScalarType::Double;
  return has_double ? ScalarType::Double : ScalarType::Float;
}

// Checks the arguments of hrca_gather and returns their sizes.
inline Windows gather_windows(const Tensor& feature, const Tensor& position,
                              const Tensor& window_index, int64_t window_size,
                              int64_t grid_height, int64_t grid_width) {
  check(feature.dim() == 4,
        "feature must have the shape (B, C, H, W), but has ",
        to_string(feature));
  check(window_index.dim() == 2,
        "window_index must have the shape (B, K), but has ",
        to_string(window_index));
  const Windows w{feature.size(0), window_index.size(1), feature.size(1),
                  feature.size(2), feature.size(3),      grid_height,
                  grid_width,      window_size};
  check_shape("position", position, {w.batch, w.channels, w.height, w.width});
  check_windows(w, window_index);
  check_supported("feature", feature.scalar_type());
  check_supported("position", position.scalar_type());
  check_same_device("position", position, feature);
  check_same_device("window_index", window_index, feature);
  return w;
}

// Returns the level embedding, if any, in the type of the sums.
inline std::optional<Tensor> gather_embed(
    const std::optional<Tensor>& level_embed, const Windows& w,
    const Tensor& feature, ScalarType sums) {
  if (!level_embed) return std::nullopt;
  check_shape("level_embed", *level_embed, {w.channels});
  check_supported("level_embed", level_embed->scalar_type());
  check_same_device("level_embed", *level_embed, feature);
  return torch::stable::contiguous(torch::stable::to(*level_embed, sums));
}

// Checks the arguments of hrca_scatter and returns their sizes.
inline Windows scatter_windows(const Tensor& grad,
                               const std::optional<Tensor>& other,
                               const Tensor& window_index, int64_t window_size,
                               int64_t grid_height, int64_t grid_width,
                               int64_t height, int64_t width,
                               ScalarType dtype) {
  check(grad.dim() == 3, "grad must have the shape (B, K * s * s, C), but has ",
        to_string(grad));
  check(window_index.dim() == 2,
        "window_index must have the shape (B, K), but has ",
        to_string(window_index));
  const Windows w{
      grad.size(0), window_index.size(1), grad.size(2), height,
      width,        grid_height,          grid_width,   window_size};
  check_windows(w, window_index);
  check_shape("grad", grad, {w.batch, w.tokens(), w.channels});
  check_supported("grad", grad.scalar_type());
  check_supported("dtype", dtype);
  check_same_device("window_index", window_index, grad);
  if (other) {
    check_shape("other", *other, {w.batch, w.tokens(), w.channels});
    check(other->scalar_type() == grad.scalar_type(),
          "other must have the type of grad");
    check_same_device("other", *other, grad);
  }
  return w;
}

// Returns zeros of the shape (B, C, H, W).
inline Tensor scatter_map(const Tensor& grad, const Windows& w,
                          ScalarType dtype, bool channels_last) {
  if (!channels_last) {
    return torch::stable::new_zeros(
        grad, {w.batch, w.channels, w.height, w.width}, dtype);
  }
  // (B, H, W, C) -> (B, H, C, W) -> (B, C, H, W)
  const Tensor pixels = torch::stable::new_zeros(
      grad, {w.batch, w.height, w.width, w.channels}, dtype);
  return torch::stable::transpose(torch::stable::transpose(pixels, 2, 3), 1, 2);
}

}  // namespace mmfaseg
