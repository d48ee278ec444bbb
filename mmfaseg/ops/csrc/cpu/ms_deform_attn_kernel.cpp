// ms_deform_attn and its gradient on the CPU; see ../ms_deform_attn.h.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <optional>
#include <tuple>
#include <type_traits>
#include <vector>

#include "../corners.h"
#include "../ms_deform_attn.h"

// Compiles a function for AVX-512, AVX2 and SSE2; the loader selects the
// version for the processor. Functions that it calls have to be inlined.
#if defined(__GNUC__) && !defined(__clang__) && __GNUC__ >= 12 && \
    defined(__x86_64__) && defined(__GLIBC__)
#define MMFASEG_CLONES \
  __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define MMFASEG_CLONES
#endif

namespace mmfaseg {
namespace {

// Number of channels of a head that are processed at a time.
constexpr int64_t kBlock = 64;

// Rounds to nearest, ties to even; NaN stays NaN. The branches in the bfloat16
// conversion of c10 prevent vectorization.
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

struct Problem {
  DeformShape shape;
  const int64_t* spatial_shapes;
};

// Writes channels [0, dims) of one query and head. kDims is dims if it is known
// at compile time, else 0.
template <typename T, typename Acc, int kDims>
MMFASEG_HOST_DEVICE void attend(const Problem& p, const T* value,
                                const Acc* locations, const Acc* weights,
                                int64_t dims, T* output) {
  static const T kZeros[kBlock] = {};
  const int64_t n = kDims ? kDims : dims;
  const int64_t pixel_stride = p.shape.heads * p.shape.dims;
  Acc sum[kDims ? kDims : kBlock] = {};
  Acc poison = 0;  // becomes NaN if a skipped sample is not finite
  int64_t start = 0;  // first token of the level
  for (int64_t l = 0; l < p.shape.levels; ++l) {
    const int64_t height = p.spatial_shapes[2 * l];
    const int64_t width = p.spatial_shapes[2 * l + 1];
    const T* level = value + start * pixel_stride;
    for (int64_t i = 0; i < p.shape.points; ++i, locations += 2, ++weights) {
      const Acc x = locations[0] * Acc(width) - Acc(0.5);
      const Acc y = locations[1] * Acc(height) - Acc(0.5);
      const Acc weight = *weights;
      Corners<Acc> corners;
      if (!find_corners(x, y, height, width, &corners)) {
        poison += 0 * weight + 0 * x + 0 * y;
        continue;
      }
      const T* pixel[4];
      Acc share[4];
      for (int k = 0; k < 4; ++k) {
        const int64_t offset = corners.offset[k];
        pixel[k] = offset < 0 ? kZeros : level + offset * pixel_stride;
        share[k] = weight * corners.weight(k);
      }
#pragma omp simd
      for (int64_t c = 0; c < n; ++c) {
        sum[c] += share[0] * Acc(pixel[0][c]) + share[1] * Acc(pixel[1][c]) +
                  share[2] * Acc(pixel[2][c]) + share[3] * Acc(pixel[3][c]);
      }
    }
    start += height * width;
  }
#pragma omp simd
  for (int64_t c = 0; c < n; ++c) {
    output[c] = round_to<T>(sum[c] + poison);
  }
}

template <typename T, typename Acc, int kDims>
MMFASEG_HOST_DEVICE void attend_rows(const Problem& p, const T* value,
                                     const Acc* locations, const Acc* weights,
                                     T* output, int64_t begin, int64_t end) {
  const DeformShape& s = p.shape;
  const int64_t samples = s.levels * s.points;
  for (int64_t row = begin; row < end; ++row) {  // of (B, N, h)
    const int64_t head = row % s.heads;
    const int64_t batch = row / s.heads / s.queries;
    const T* first = value + (batch * s.tokens * s.heads + head) * s.dims;
    for (int64_t c = 0; c < s.dims; c += kBlock) {
      attend<T, Acc, kDims>(
          p, first + c, locations + row * samples * 2, weights + row * samples,
          std::min(kBlock, s.dims - c), output + row * s.dims + c);
    }
  }
}

// Adds the gradients of one query and head for channels [0, dims). The pixels
// of grad_value are grad_stride numbers apart.
template <typename T, typename Acc, int kDims>
MMFASEG_HOST_DEVICE void attend_backward(const Problem& p, const T* grad_output,
                                         const T* value, const Acc* locations,
                                         const Acc* weights, int64_t dims,
                                         int64_t grad_stride, Acc* grad_value,
                                         Acc* grad_locations,
                                         Acc* grad_weights) {
  static const T kZeros[kBlock] = {};
  const int64_t n = kDims ? kDims : dims;
  const int64_t pixel_stride = p.shape.heads * p.shape.dims;
  Acc unused[kDims ? kDims : kBlock] = {};  // gradient of pixels outside
  Acc grad[kDims ? kDims : kBlock];
  for (int64_t c = 0; c < n; ++c) grad[c] = Acc(grad_output[c]);
  int64_t start = 0;  // first token of the level
  for (int64_t l = 0; l < p.shape.levels; ++l) {
    const int64_t height = p.spatial_shapes[2 * l];
    const int64_t width = p.spatial_shapes[2 * l + 1];
    for (int64_t i = 0; i < p.shape.points;
         ++i, locations += 2, ++weights, grad_locations += 2, ++grad_weights) {
      const Acc x = locations[0] * Acc(width) - Acc(0.5);
      const Acc y = locations[1] * Acc(height) - Acc(0.5);
      const Acc weight = *weights;
      Corners<Acc> corners;
      if (!find_corners(x, y, height, width, &corners)) continue;
      const T* pixel[4];
      Acc* target[4];
      Acc share[4];
      for (int k = 0; k < 4; ++k) {
        const int64_t token = start + corners.offset[k];
        const bool inside = corners.offset[k] >= 0;
        pixel[k] = inside ? value + token * pixel_stride : kZeros;
        target[k] = inside ? grad_value + token * grad_stride : unused;
        share[k] = weight * corners.weight(k);
      }
      Acc dot0 = 0, dot1 = 0, dot2 = 0, dot3 = 0;
#pragma omp simd reduction(+ : dot0, dot1, dot2, dot3)
      for (int64_t c = 0; c < n; ++c) {
        dot0 += grad[c] * Acc(pixel[0][c]);
        dot1 += grad[c] * Acc(pixel[1][c]);
        dot2 += grad[c] * Acc(pixel[2][c]);
        dot3 += grad[c] * Acc(pixel[3][c]);
      }
      for (int k = 0; k < 4; ++k) {
        Acc* to = target[k];
        const Acc part = share[k];
#pragma omp simd
        for (int64_t c = 0; c < n; ++c) to[c] += part * grad[c];
      }
      const Acc dots[4] = {dot0, dot1, dot2, dot3};
      const SampleGradient<Acc> part =
          sample_gradient(corners, dots, weight, height, width);
      *grad_weights += part.weight;
      grad_locations[0] += part.x;
      grad_locations[1] += part.y;
    }
    start += height * width;
  }
}

// Adds the gradients of all queries of one image and head, in order.
template <typename T, typename Acc, int kDims>
MMFASEG_HOST_DEVICE void attend_head_backward(
    const Problem& p, const T* grad_output, const T* value,
    const Acc* locations, const Acc* weights, int64_t batch, int64_t head,
    int64_t grad_stride, Acc* grad_value, Acc* grad_locations,
    Acc* grad_weights) {
  const DeformShape& s = p.shape;
  const int64_t samples = s.levels * s.points;
  const T* first = value + (batch * s.tokens * s.heads + head) * s.dims;
  for (int64_t query = 0; query < s.queries; ++query) {
    const int64_t row = (batch * s.queries + query) * s.heads + head;
    for (int64_t c = 0; c < s.dims; c += kBlock) {
      attend_backward<T, Acc, kDims>(
          p, grad_output + row * s.dims + c, first + c,
          locations + row * samples * 2, weights + row * samples,
          std::min(kBlock, s.dims - c), grad_stride, grad_value + c,
          grad_locations + row * samples * 2, grad_weights + row * samples);
    }
  }
}

// Compiled once for each instruction set, and for 32 channels per head, which
// published models have.
#define MMFASEG_DEFINE_CLONES(T, Acc)                                          \
  MMFASEG_CLONES void forward_rows(const Problem& p, const T* value,           \
                                   const Acc* locations, const Acc* weights,   \
                                   T* output, int64_t begin, int64_t end) {    \
    if (p.shape.dims == 32) {                                                  \
      attend_rows<T, Acc, 32>(p, value, locations, weights, output, begin,     \
                              end);                                            \
    } else {                                                                   \
      attend_rows<T, Acc, 0>(p, value, locations, weights, output, begin,      \
                             end);                                             \
    }                                                                          \
  }                                                                            \
  MMFASEG_CLONES void backward_head(                                           \
      const Problem& p, const T* grad_output, const T* value,                  \
      const Acc* locations, const Acc* weights, int64_t batch, int64_t head,   \
      int64_t grad_stride, Acc* grad_value, Acc* grad_locations,               \
      Acc* grad_weights) {                                                     \
    if (p.shape.dims == 32) {                                                  \
      attend_head_backward<T, Acc, 32>(                                        \
          p, grad_output, value, locations, weights, batch, head, grad_stride, \
          grad_value, grad_locations, grad_weights);                           \
    } else {                                                                   \
      attend_head_backward<T, Acc, 0>(                                         \
          p, grad_output, value, locations, weights, batch, head, grad_stride, \
          grad_value, grad_locations, grad_weights);                           \
    }                                                                          \
  }

MMFASEG_DEFINE_CLONES(float, float)
MMFASEG_DEFINE_CLONES(double, double)
MMFASEG_DEFINE_CLONES(c10::Half, float)
MMFASEG_DEFINE_CLONES(c10::BFloat16, float)
#undef MMFASEG_DEFINE_CLONES

template <typename T, typename Acc>
void forward(const Problem& p, const Tensor& value, const Tensor& locations,
             const Tensor& weights, const Tensor& output) {
  const T* value_data = value.const_data_ptr<T>();
  const Acc* location_data = locations.const_data_ptr<Acc>();
  const Acc* weight_data = weights.const_data_ptr<Acc>();
  T* output_data = output.mutable_data_ptr<T>();
  torch::stable::parallel_for(
      0, p.shape.batch * p.shape.queries * p.shape.heads, 256,
      [&](int64_t begin, int64_t end) {
        forward_rows(p, value_data, location_data, weight_data, output_data,
                     begin, end);
      });
}

template <typename T, typename Acc>
void backward(const Problem& p, const Tensor& grad_output, const Tensor& value,
              const Tensor& locations, const Tensor& weights,
              const Tensor& grad_value, const Tensor& grad_locations,
              const Tensor& grad_weights) {
  const T* grad_data = grad_output.const_data_ptr<T>();
  const T* value_data = value.const_data_ptr<T>();
  const Acc* location_data = locations.const_data_ptr<Acc>();
  const Acc* weight_data = weights.const_data_ptr<Acc>();
  T* grad_value_data = grad_value.mutable_data_ptr<T>();
  Acc* grad_location_data = grad_locations.mutable_data_ptr<Acc>();
  Acc* grad_weight_data = grad_weights.mutable_data_ptr<Acc>();
  const DeformShape& s = p.shape;
  const int64_t pixel_stride = s.heads * s.dims;
  const auto run_head = [&](int64_t batch, int64_t head, int64_t stride,
                            Acc* sums) {
    backward_head(p, grad_data, value_data, location_data, weight_data, batch,
                  head, stride, sums, grad_location_data, grad_weight_data);
  };
  torch::stable::parallel_for(
      0, s.batch * s.heads, 1, [&](int64_t begin, int64_t end) {
        // sums of one head, if T is float16 or bfloat16
        std::optional<Tensor> sums;
        if constexpr (!std::is_same_v<T, Acc>) {
          sums = torch::stable::new_empty(grad_weights, {s.tokens, s.dims});
        }
        for (int64_t task = begin; task < end; ++task) {
          const int64_t batch = task / s.heads, head = task % s.heads;
          T* first =
              grad_value_data + (batch * s.tokens * s.heads + head) * s.dims;
          if constexpr (std::is_same_v<T, Acc>) {
            run_head(batch, head, pixel_stride, first);
          } else {
            Acc* sum = sums->template mutable_data_ptr<Acc>();
            std::fill_n(sum, s.tokens * s.dims, Acc(0));
            run_head(batch, head, s.dims, sum);
            for (int64_t i = 0; i < s.tokens; ++i) {
              for (int64_t c = 0; c < s.dims; ++c) {
                first[i * pixel_stride + c] = round_to<T>(sum[i * s.dims + c]);
              }
            }
          }
        }
      });
}

Tensor ms_deform_attn_cpu(const Tensor& value,
                          const std::vector<int64_t>& spatial_shapes,
                          const Tensor& sampling_locations,
                          const Tensor& attention_weights) {
  const DeformShape s = deform_shape(value, spatial_shapes, sampling_locations,
                                     attention_weights);
  const Problem p{s, spatial_shapes.data()};
  const Tensor values = torch::stable::contiguous(value);
  const Tensor locations = torch::stable::contiguous(sampling_locations);
  const Tensor weights = torch::stable::contiguous(attention_weights);
  const Tensor output =
      torch::stable::new_empty(value, {s.batch, s.queries, s.heads * s.dims});
  with_number(value.scalar_type(), [&](auto number) {
    using T = typename decltype(number)::type;
    using Acc = typename decltype(number)::sum;
    forward<T, Acc>(p, values, locations, weights, output);
  });
  return output;
}

std::tuple<Tensor, Tensor, Tensor> ms_deform_attn_backward_cpu(
    const Tensor& grad_output, const Tensor& value,
    const std::vector<int64_t>& spatial_shapes,
    const Tensor& sampling_locations, const Tensor& attention_weights) {
  const DeformShape s = deform_shape(value, spatial_shapes, sampling_locations,
                                     attention_weights);
  check_grad_output(grad_output, value, s);
  const Problem p{s, spatial_shapes.data()};
  const Tensor grads = torch::stable::contiguous(grad_output);
  const Tensor values = torch::stable::contiguous(value);
  const Tensor locations = torch::stable::contiguous(sampling_locations);
  const Tensor weights = torch::stable::contiguous(attention_weights);
  const Tensor grad_value =
      torch::stable::new_zeros(value, {s.batch, s.tokens, s.heads, s.dims});
  const Tensor grad_locations = torch::stable::new_zeros(
      locations, {s.batch, s.queries, s.heads, s.levels, s.points, 2});
  const Tensor grad_weights = torch::stable::new_zeros(
      weights, {s.batch, s.queries, s.heads, s.levels, s.points});
  with_number(value.scalar_type(), [&](auto number) {
    using T = typename decltype(number)::type;
    using Acc = typename decltype(number)::sum;
    backward<T, Acc>(p, grads, values, locations, weights, grad_value,
                     grad_locations, grad_weights);
  });
  return {grad_value, grad_locations, grad_weights};
}

}  // namespace
}  // namespace mmfaseg

STABLE_TORCH_LIBRARY_IMPL(mmfaseg, CPU, m) {
  m.impl("ms_deform_attn", TORCH_BOX(&mmfaseg::ms_deform_attn_cpu));
  m.impl("ms_deform_attn_backward",
         TORCH_BOX(&mmfaseg::ms_deform_attn_backward_cpu));
}
