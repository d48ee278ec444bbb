// ms_deform_attn and its gradient on CUDA; see ../ms_deform_attn.h.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include <cstdint>
#include <tuple>
#include <type_traits>
#include <vector>

#include "../corners.h"
#include "../ms_deform_attn.h"
#include "launch.h"

namespace mmfaseg {
namespace {

struct Problem {
  DeformShape shape;
  int64_t height[kMaxLevels], width[kMaxLevels], start[kMaxLevels];
};

// kSize numbers that are loaded and stored together.
template <typename T, int kSize>
struct alignas(sizeof(T) * kSize) Pack {
  T at[kSize];
};

// One thread processes kSize channels of one query and head.
template <typename T, typename Acc, int kSize>
__global__ void __launch_bounds__(kThreads)
    forward_kernel(Problem p, const T* value, const Acc* locations,
                   const Acc* weights, T* output) {
  const DeformShape& s = p.shape;
  const int64_t packs = s.dims / kSize;
  const int64_t pixel_stride = s.heads * s.dims;
  const int64_t samples = s.levels * s.points;
  const int64_t total = s.batch * s.queries * s.heads * packs;
  for (int64_t task = blockIdx.x * int64_t(kThreads) + threadIdx.x;
       task < total; task += gridDim.x * int64_t(kThreads)) {
    const int64_t row = task / packs;  // of (B, N, h)
    const int64_t channel = task % packs * kSize;
    const int64_t head = row % s.heads;
    const int64_t batch = row / s.heads / s.queries;
    const T* first =
        value + batch * s.tokens * pixel_stride + head * s.dims + channel;
    const Acc* location = locations + row * samples * 2;
    const Acc* weight = weights + row * samples;
    Acc sum[kSize] = {};
    Acc poison = 0;  // becomes NaN if a skipped sample is not finite
    for (int64_t l = 0; l < s.levels; ++l) {
      const int64_t height = p.height[l], width = p.width[l];
      const T* level = first + p.start[l] * pixel_stride;
      for (int64_t i = 0; i < s.points; ++i, location += 2, ++weight) {
        const Acc x = location[0] * Acc(width) - Acc(0.5);
        const Acc y = location[1] * Acc(height) - Acc(0.5);
        Corners<Acc> corners;
        if (!find_corners(x, y, height, width, &corners)) {
          poison += 0 * *weight + 0 * x + 0 * y;
          continue;
        }
#pragma unroll
        for (int k = 0; k < 4; ++k) {
          if (corners.offset[k] < 0) continue;
          const Pack<T, kSize> pixel = *reinterpret_cast<const Pack<T, kSize>*>(
              level + corners.offset[k] * pixel_stride);
          const Acc share = *weight * corners.weight(k);
#pragma unroll
          for (int c = 0; c < kSize; ++c) {
            sum[c] += share * static_cast<Acc>(pixel.at[c]);
          }
        }
      }
    }
    Pack<T, kSize> result;
#pragma unroll
    for (int c = 0; c < kSize; ++c) {
      result.at[c] = static_cast<T>(sum[c] + poison);
    }
    *reinterpret_cast<Pack<T, kSize>*>(output + row * s.dims + channel) =
        result;
  }
}

template <typename Acc>
__device__ inline Acc sum_over_warp(Acc number) {
#pragma unroll
  for (int step = kWarp / 2; step > 0; step /= 2) {
    number += __shfl_down_sync(0xffffffffu, number, step);
  }
  return number;
}

// One warp processes all channels of one query and head. Gradients of locations
// and weights are summed over the warp, those of value with atomic additions,
// which are not deterministic.
template <typename T, typename Acc>
__global__ void __launch_bounds__(kThreads)
    backward_kernel(Problem p, const T* grad_output, const T* value,
                    const Acc* locations, const Acc* weights, Acc* grad_value,
                    Acc* grad_locations, Acc* grad_weights) {
  const DeformShape& s = p.shape;
  const int64_t pixel_stride = s.heads * s.dims;
  const int64_t samples = s.levels * s.points;
  const int64_t total = s.batch * s.queries * s.heads;
  const int lane = threadIdx.x % kWarp;
  constexpr int64_t kWarps = kThreads / kWarp;
  for (int64_t row = blockIdx.x * kWarps + threadIdx.x / kWarp; row < total;
       row += gridDim.x * kWarps) {
    const int64_t head = row % s.heads;
    const int64_t batch = row / s.heads / s.queries;
    const int64_t first = batch * s.tokens * pixel_stride + head * s.dims;
    const T* grad = grad_output + row * s.dims;
    for (int64_t sample = 0; sample < samples; ++sample) {
      const int64_t l = sample / s.points;
      const int64_t height = p.height[l], width = p.width[l];
      const int64_t at = row * samples + sample;
      const Acc weight = weights[at];
      const Acc x = locations[at * 2] * Acc(width) - Acc(0.5);
      const Acc y = locations[at * 2 + 1] * Acc(height) - Acc(0.5);
      Corners<Acc> corners;
      // equal in all lanes, so that all of them reach the shuffles below
      if (!find_corners(x, y, height, width, &corners)) continue;
      Acc dots[4] = {};
      for (int64_t c = lane; c < s.dims; c += kWarp) {
        const Acc g = static_cast<Acc>(grad[c]);
#pragma unroll
        for (int k = 0; k < 4; ++k) {
          if (corners.offset[k] < 0) continue;
          const int64_t from =
              first + (p.start[l] + corners.offset[k]) * pixel_stride + c;
          dots[k] += g * static_cast<Acc>(value[from]);
          atomicAdd(grad_value + from, weight * corners.weight(k) * g);
        }
      }
      const SampleGradient<Acc> part =
          sample_gradient(corners, dots, weight, height, width);
      const Acc grad_weight = sum_over_warp(part.weight);
      const Acc grad_x = sum_over_warp(part.x);
      const Acc grad_y = sum_over_warp(part.y);
      if (lane == 0) {
        grad_weights[at] = grad_weight;
        grad_locations[at * 2] = grad_x;
        grad_locations[at * 2 + 1] = grad_y;
      }
    }
  }
}

Problem make_problem(const DeformShape& s,
                     const std::vector<int64_t>& spatial_shapes) {
  Problem p{s, {}, {}, {}};
  int64_t start = 0;
  for (int64_t l = 0; l < s.levels; ++l) {
    p.height[l] = spatial_shapes[2 * l];
    p.width[l] = spatial_shapes[2 * l + 1];
    p.start[l] = start;
    start += p.height[l] * p.width[l];
  }
  return p;
}

bool is_aligned(const Tensor& tensor, int64_t bytes) {
  return reinterpret_cast<uintptr_t>(tensor.const_data_ptr()) % bytes == 0;
}

template <typename T, typename Acc, int kSize>
void launch_forward(const Problem& p, const Tensor& value,
                    const Tensor& locations, const Tensor& weights,
                    const Tensor& output) {
  const DeformShape& s = p.shape;
  const int64_t total = s.batch * s.queries * s.heads * (s.dims / kSize);
  launch(&forward_kernel<T, Acc, kSize>, (total + kThreads - 1) / kThreads,
         value, p, static_cast<const T*>(value.const_data_ptr()),
         static_cast<const Acc*>(locations.const_data_ptr()),
         static_cast<const Acc*>(weights.const_data_ptr()),
         static_cast<T*>(output.mutable_data_ptr()));
}

template <typename T, typename Acc>
void forward(const Problem& p, const Tensor& value, const Tensor& locations,
             const Tensor& weights, const Tensor& output) {
  constexpr int kSize = 16 / sizeof(T);
  if (p.shape.dims % kSize == 0 && is_aligned(value, 16)) {
    launch_forward<T, Acc, kSize>(p, value, locations, weights, output);
  } else {
    launch_forward<T, Acc, 1>(p, value, locations, weights, output);
  }
}

template <typename T, typename Acc>
void backward(const Problem& p, const Tensor& grad_output, const Tensor& value,
              const Tensor& locations, const Tensor& weights,
              const Tensor& grad_value, const Tensor& grad_locations,
              const Tensor& grad_weights) {
  const DeformShape& s = p.shape;
  const int64_t total = s.batch * s.queries * s.heads;
  constexpr int64_t kWarps = kThreads / kWarp;
  launch(&backward_kernel<T, Acc>, (total + kWarps - 1) / kWarps, value, p,
         static_cast<const T*>(grad_output.const_data_ptr()),
         static_cast<const T*>(value.const_data_ptr()),
         static_cast<const Acc*>(locations.const_data_ptr()),
         static_cast<const Acc*>(weights.const_data_ptr()),
         static_cast<Acc*>(grad_value.mutable_data_ptr()),
         static_cast<Acc*>(grad_locations.mutable_data_ptr()),
         static_cast<Acc*>(grad_weights.mutable_data_ptr()));
}

Tensor ms_deform_attn_cuda(const Tensor& value,
                           const std::vector<int64_t>& spatial_shapes,
                           const Tensor& sampling_locations,
                           const Tensor& attention_weights) {
  const DeformShape s = deform_shape(value, spatial_shapes, sampling_locations,
                                     attention_weights);
  const DeviceGuard guard(value.get_device_index());
  const Problem p = make_problem(s, spatial_shapes);
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

std::tuple<Tensor, Tensor, Tensor> ms_deform_attn_backward_cuda(
    const Tensor& grad_output, const Tensor& value,
    const std::vector<int64_t>& spatial_shapes,
    const Tensor& sampling_locations, const Tensor& attention_weights) {
  const DeformShape s = deform_shape(value, spatial_shapes, sampling_locations,
                                     attention_weights);
  check_grad_output(grad_output, value, s);
  const DeviceGuard guard(value.get_device_index());
  const Problem p = make_problem(s, spatial_shapes);
  const Tensor grads = torch::stable::contiguous(grad_output);
  const Tensor values = torch::stable::contiguous(value);
  const Tensor locations = torch::stable::contiguous(sampling_locations);
  const Tensor weights = torch::stable::contiguous(attention_weights);
  // sums in the type of the locations, rounded to the type of value at the end
  const Tensor grad_value =
      torch::stable::new_zeros(locations, {s.batch, s.tokens, s.heads, s.dims});
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
  return {torch::stable::to(grad_value, value.scalar_type()), grad_locations,
          grad_weights};
}

}  // namespace
}  // namespace mmfaseg

STABLE_TORCH_LIBRARY_IMPL(mmfaseg, CUDA, m) {
  m.impl("ms_deform_attn", TORCH_BOX(&mmfaseg::ms_deform_attn_cuda));
  m.impl("ms_deform_attn_backward",
         TORCH_BOX(&mmfaseg::ms_deform_attn_backward_cuda));
}
