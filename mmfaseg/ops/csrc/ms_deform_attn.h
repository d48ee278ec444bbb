// mmfaseg::ms_deform_attn: multi-scale deformable attention.
//
// Zhu et al., Deformable DETR, ICLR 2021, equation 3. Letters: B batch, S value
// tokens, h heads, d channels per head, N queries, n_l levels, P points.
//
// ms_deform_attn(value, spatial_shapes, sampling_locations, attention_weights)
//     -> output
//   value: (B, S, h, d): the levels one after the other, each row-major.
//   spatial_shapes: (H_0, W_0, H_1, W_1, ...).
//   sampling_locations: (B, N, h, n_l, P, 2), (x, y), 0 to 1 inside the map,
//     float, or double if value is double.
//   attention_weights: (B, N, h, n_l, P), same type as sampling_locations.
//   output: (B, N, h * d), same type as value.
// Sampling is bilinear; the center of pixel i of n is at (i + 0.5) / n, and
// pixels outside the map are 0. Sums are computed in float or double and
// rounded once. If a location or weight is not finite, the output is not
// finite.
//
// ms_deform_attn_backward(grad_output, ...) -> gradients of value, locations
// and weights.
//
// On the CPU both are deterministic for any number of threads: one thread sums
// the gradient of a value over the queries in order. On CUDA the forward is
// deterministic; the gradient of value is not, because it uses atomic
// additions. For float16 and bfloat16, the backward needs additional memory: on
// the CPU 4 * S * d bytes per thread, on CUDA the gradient of value in float.
// B, N, h, d, n_l and P may be 0.
#pragma once

#include <cstdint>
#include <vector>

#include "checks.h"

namespace mmfaseg {

constexpr int64_t kMaxLevels = 16;

struct DeformShape {
  int64_t batch, tokens, heads, dims, queries, levels, points;
};

// Checks the arguments and returns their sizes.
inline DeformShape deform_shape(const Tensor& value,
                                const std::vector<int64_t>& spatial_shapes,
                                const Tensor& sampling_locations,
                                const Tensor& attention_weights) {
  check(value.dim() == 4, "value must have the shape (B, S, h, d), but has ",
        to_string(value));
  check(attention_weights.dim() == 5,
        "attention_weights must have the shape (B, N, h, levels, points), but "
        "has ",
        to_string(attention_weights));
  check(spatial_shapes.size() % 2 == 0,
        "spatial_shapes must have two numbers for each level, but has ",
        spatial_shapes.size());
  const int64_t levels = static_cast<int64_t>(spatial_shapes.size() / 2);
  const DeformShape s{value.size(0),
                      value.size(1),
                      value.size(2),
                      value.size(3),
                      attention_weights.size(1),
                      levels,
                      attention_weights.size(4)};
  check(levels <= kMaxLevels, levels, " levels, but at most ", kMaxLevels,
        " are supported");
  int64_t tokens = 0;
  for (int64_t l = 0; l < levels; ++l) {
    const int64_t height = spatial_shapes[2 * l];
    const int64_t width = spatial_shapes[2 * l + 1];
    check(height >= 1 && width >= 1, "level ", l, " has ", height, "x", width,
          " pixels, but must not be empty");
    tokens += height * width;
  }
  check(tokens == s.tokens, "value has ", s.tokens,
        " tokens, but spatial_shapes have ", tokens);
  check_shape("attention_weights", attention_weights,
              {s.batch, s.queries, s.heads, levels, s.points});
  check_shape("sampling_locations", sampling_locations,
              {s.batch, s.queries, s.heads, levels, s.points, 2});
  check_supported("value", value.scalar_type());
  const ScalarType type = accumulate_type(value.scalar_type());
  check(sampling_locations.scalar_type() == type &&
            attention_weights.scalar_type() == type,
        "sampling_locations and attention_weights must be float32, or float64 "
        "if value is float64");
  check_same_device("sampling_locations", sampling_locations, value);
  check_same_device("attention_weights", attention_weights, value);
  return s;
}

inline void check_grad_output(const Tensor& grad_output, const Tensor& value,
                              const DeformShape& s) {
  check_shape("grad_output", grad_output,
              {s.batch, s.queries, s.heads * s.dims});
  check(grad_output.scalar_type() == value.scalar_type(),
        "grad_output must have the type of value");
  check_same_device("grad_output", grad_output, value);
}

}  // namespace mmfaseg
