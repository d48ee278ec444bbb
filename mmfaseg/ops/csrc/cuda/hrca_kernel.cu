// hrca_gather and hrca_scatter on CUDA; see ../hrca.h.
//
// A thread block processes a tile: up to kTokens tokens of one window and
// kChannels channels. Maps and tokens are accessed in their order in memory,
// and the tile is transposed in shared memory.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include <cstdio>
#include <optional>
#include <tuple>
#include <type_traits>

#include "../hrca.h"
#include "launch.h"

namespace mmfaseg {
namespace {

constexpr int kChannels = 64;

// Fewer tokens for double: two tiles have to fit in 48 KiB.
template <typename Acc>
constexpr int kTokens = sizeof(Acc) == sizeof(double) ? 32 : 64;

template <typename Acc>
using TileRow = Acc[kChannels + 1];  // padded to avoid bank conflicts

struct Tile {
  int64_t batch, window, channel;
  int64_t first_token, tokens;  // within the window
  int channels;
  int64_t index, row, column;
};

__host__ __device__ inline int64_t ceil_div(int64_t a, int64_t b) {
  return (a + b - 1) / b;
}

template <typename Acc>
__host__ __device__ int64_t count_tiles(const Windows& w) {
  return w.batch * w.count * ceil_div(w.channels, kChannels) *
         ceil_div(w.size * w.size, kTokens<Acc>);
}

template <typename Acc>
__device__ Tile tile_at(const Windows& w, const int64_t* window_index,
                        int64_t task) {
  Tile t;
  const int64_t area = w.size * w.size;
  const int64_t chunks = ceil_div(area, kTokens<Acc>);
  const int64_t blocks = ceil_div(w.channels, kChannels);
  t.first_token = task % chunks * kTokens<Acc>;
  t.tokens = min(area - t.first_token, int64_t(kTokens<Acc>));
  task /= chunks;
  t.channel = task % blocks * kChannels;
  t.channels =
      static_cast<int>(min(w.channels - t.channel, int64_t(kChannels)));
  task /= blocks;
  t.window = task % w.count;
  t.batch = task / w.count;
  t.index = window_index[task];
  const int64_t cells = w.grid_height * w.grid_width;
  if (t.index < 0 || t.index >= cells) {
    if (threadIdx.x == 0) {
      printf("window_index[%lld, %lld] is %lld, but must be in [0, %lld)\n",
             static_cast<long long>(t.batch), static_cast<long long>(t.window),
             static_cast<long long>(t.index), static_cast<long long>(cells));
    }
    __trap();
  }
  t.row = t.index / w.grid_width * w.size;
  t.column = t.index % w.grid_width * w.size;
  return t;
}

// Offset in the map of pixel `token` of the window, -1 if outside the map.
__device__ inline int64_t pixel_offset(const Windows& w, const MapStrides& m,
                                       const Tile& t, int64_t token) {
  const int64_t y = t.row + token / w.size, x = t.column + token % w.size;
  if (y >= w.height || x >= w.width) return -1;
  return t.batch * m.batch + y * m.row + x * m.column;
}

// Splits an element of a tile into token and channel, so that neighboring
// threads access neighboring elements: channels of a channels-last map, else
// pixels.
template <typename Acc>
__device__ inline void split(int element, bool channels_first, int* token,
                             int* channel) {
  if (channels_first) {
    *token = element / kChannels;
    *channel = element % kChannels;
  } else {
    *token = element % kTokens<Acc>;
    *channel = element / kTokens<Acc>;
  }
}

// Reads a map whose type is known at compile time.
template <typename T, typename Acc>
struct Reader {
  const T* data;
  __device__ Acc operator()(int64_t offset) const {
    return static_cast<Acc>(data[offset]);
  }
};

// Reads a map whose type is known at run time: for maps of different types.
template <typename Acc>
struct AnyReader {
  const void* data;
  ScalarType type;
  __device__ Acc operator()(int64_t offset) const {
    switch (type) {
      case ScalarType::Double:
        return static_cast<Acc>(static_cast<const double*>(data)[offset]);
      case ScalarType::Half:
        return static_cast<Acc>(
            static_cast<float>(static_cast<const c10::Half*>(data)[offset]));
      case ScalarType::BFloat16:
        return static_cast<Acc>(static_cast<float>(
            static_cast<const c10::BFloat16*>(data)[offset]));
      default:
        return static_cast<Acc>(static_cast<const float*>(data)[offset]);
    }
  }
};

template <typename Acc, typename Read>
__device__ void read_tile(const Windows& w, const MapStrides& m, const Tile& t,
                          const Read& read, TileRow<Acc>* tile) {
  const bool channels_first = m.channel == 1;
#pragma unroll 8
  for (int i = threadIdx.x; i < kTokens<Acc> * kChannels; i += kThreads) {
    int token, channel;
    split<Acc>(i, channels_first, &token, &channel);
    if (token >= t.tokens || channel >= t.channels) continue;
    const int64_t offset = pixel_offset(w, m, t, t.first_token + token);
    tile[token][channel] =
        offset < 0 ? Acc(0) : read(offset + (t.channel + channel) * m.channel);
  }
}

template <typename T, typename Acc, typename ReadFeature, typename ReadPosition>
__global__ void __launch_bounds__(kThreads)
    gather_kernel(Windows w, MapStrides feature_strides,
                  MapStrides position_strides, ReadFeature feature,
                  ReadPosition position, const int64_t* window_index,
                  const Acc* level_embed, T* value, T* key) {
  __shared__ TileRow<Acc> features[kTokens<Acc>];
  __shared__ TileRow<Acc> positions[kTokens<Acc>];
  for (int64_t task = blockIdx.x; task < count_tiles<Acc>(w);
       task += gridDim.x) {
    const Tile t = tile_at<Acc>(w, window_index, task);
    read_tile<Acc>(w, feature_strides, t, feature, features);
    read_tile<Acc>(w, position_strides, t, position, positions);
    __syncthreads();
    const int64_t first =
        t.batch * w.tokens() + t.window * w.size * w.size + t.first_token;
    for (int i = threadIdx.x; i < kTokens<Acc> * kChannels; i += kThreads) {
      const int token = i / kChannels, channel = i % kChannels;
      if (token >= t.tokens || channel >= t.channels) continue;
      Acc sum = features[token][channel];
      if (level_embed) sum += level_embed[t.channel + channel];
      const int64_t to = (first + token) * w.channels + t.channel + channel;
      value[to] = static_cast<T>(sum);
      key[to] = static_cast<T>(sum + positions[token][channel]);
    }
    __syncthreads();
  }
}

template <typename T, typename G, typename Acc>
__global__ void __launch_bounds__(kThreads)
    scatter_kernel(Windows w, MapStrides strides, const G* grad, const G* other,
                   const int64_t* window_index, T* map) {
  __shared__ TileRow<Acc> tile[kTokens<Acc>];
  for (int64_t task = blockIdx.x; task < count_tiles<Acc>(w);
       task += gridDim.x) {
    const Tile t = tile_at<Acc>(w, window_index, task);
    const int64_t* list = window_index + t.batch * w.count;
    bool earlier = false, later = false;
    for (int64_t k = threadIdx.x; k < w.count; k += kThreads) {
      earlier |= k < t.window && list[k] == t.index;
      later |= k > t.window && list[k] == t.index;
    }
    // the first of equal windows writes the sum over all of them
    if (__syncthreads_or(earlier)) continue;
    const int64_t end = __syncthreads_or(later) ? w.count : t.window + 1;
    for (int i = threadIdx.x; i < kTokens<Acc> * kChannels; i += kThreads) {
      const int token = i / kChannels, channel = i % kChannels;
      if (token >= t.tokens || channel >= t.channels) continue;
      Acc sum = 0;
      for (int64_t k = t.window; k < end; ++k) {
        if (list[k] != t.index) continue;
        const int64_t from = (t.batch * w.tokens() + k * w.size * w.size +
                              t.first_token + token) *
                                 w.channels +
                             t.channel + channel;
        sum += static_cast<Acc>(grad[from]);
        if (other) sum += static_cast<Acc>(other[from]);
      }
      tile[token][channel] = sum;
    }
    __syncthreads();
    const bool channels_first = strides.channel == 1;
    for (int i = threadIdx.x; i < kTokens<Acc> * kChannels; i += kThreads) {
      int token, channel;
      split<Acc>(i, channels_first, &token, &channel);
      if (token >= t.tokens || channel >= t.channels) continue;
      const int64_t offset = pixel_offset(w, strides, t, t.first_token + token);
      if (offset < 0) continue;
      map[offset + (t.channel + channel) * strides.channel] =
          static_cast<T>(tile[token][channel]);
    }
    __syncthreads();
  }
}

template <typename T, typename Acc, typename ReadFeature, typename ReadPosition>
void launch_gather(const Windows& w, const Tensor& feature,
                   const Tensor& position, const ReadFeature& read_feature,
                   const ReadPosition& read_position, const Tensor& index,
                   const std::optional<Tensor>& embed, const Tensor& value,
                   const Tensor& key) {
  launch(&gather_kernel<T, Acc, ReadFeature, ReadPosition>, count_tiles<Acc>(w),
         feature, w, map_strides(feature), map_strides(position), read_feature,
         read_position, index.const_data_ptr<int64_t>(),
         embed ? static_cast<const Acc*>(embed->const_data_ptr()) : nullptr,
         static_cast<T*>(value.mutable_data_ptr()),
         static_cast<T*>(key.mutable_data_ptr()));
}

std::tuple<Tensor, Tensor> hrca_gather_cuda(
    const Tensor& feature, const Tensor& position, const Tensor& window_index,
    int64_t window_size, int64_t grid_height, int64_t grid_width,
    const std::optional<Tensor>& level_embed) {
  const Windows w = gather_windows(feature, position, window_index, window_size,
                                   grid_height, grid_width);
  const DeviceGuard guard(feature.get_device_index());
  const Tensor index = torch::stable::contiguous(window_index);
  const ScalarType type =
      promote(feature.scalar_type(), position.scalar_type());
  const std::optional<Tensor> embed =
      gather_embed(level_embed, w, feature, accumulate_type(type));
  const Tensor value = torch::stable::new_empty(
      feature, {w.batch, w.tokens(), w.channels}, type);
  const Tensor key = torch::stable::new_empty(
      feature, {w.batch, w.tokens(), w.channels}, type);
  with_number(type, [&](auto number) {
    using T = typename decltype(number)::type;
    using Acc = typename decltype(number)::sum;
    if (feature.scalar_type() == position.scalar_type()) {
      launch_gather<T, Acc>(
          w, feature, position,
          Reader<T, Acc>{static_cast<const T*>(feature.const_data_ptr())},
          Reader<T, Acc>{static_cast<const T*>(position.const_data_ptr())},
          index, embed, value, key);
    } else if constexpr (std::is_same_v<T, Acc>) {
      // different types promote to the type of the sums
      launch_gather<T, T>(
          w, feature, position,
          AnyReader<T>{feature.const_data_ptr(), feature.scalar_type()},
          AnyReader<T>{position.const_data_ptr(), position.scalar_type()},
          index, embed, value, key);
    }
  });
  return {value, key};
}

template <typename T, typename G>
void launch_scatter(const Windows& w, const Tensor& grad,
                    const std::optional<Tensor>& other, const Tensor& index,
                    bool channels_last, const Tensor& map) {
  constexpr bool in_double =
      sizeof(T) == sizeof(double) || sizeof(G) == sizeof(double);
  using Acc = std::conditional_t<in_double, double, float>;
  launch(&scatter_kernel<T, G, Acc>, count_tiles<Acc>(w), grad, w,
         dense_strides(w, channels_last),
         static_cast<const G*>(grad.const_data_ptr()),
         other ? static_cast<const G*>(other->const_data_ptr()) : nullptr,
         index.const_data_ptr<int64_t>(),
         static_cast<T*>(map.mutable_data_ptr()));
}

Tensor hrca_scatter_cuda(const Tensor& grad, const std::optional<Tensor>& other,
                         const Tensor& window_index, int64_t window_size,
                         int64_t grid_height, int64_t grid_width,
                         int64_t height, int64_t width, ScalarType dtype,
                         bool channels_last) {
  const Windows w =
      scatter_windows(grad, other, window_index, window_size, grid_height,
                      grid_width, height, width, dtype);
  const DeviceGuard guard(grad.get_device_index());
  const Tensor index = torch::stable::contiguous(window_index);
  const Tensor tokens = torch::stable::contiguous(grad);
  std::optional<Tensor> more;
  if (other) more = torch::stable::contiguous(*other);
  const Tensor map = scatter_map(grad, w, dtype, channels_last);
  with_number(dtype, [&](auto to) {
    with_number(grad.scalar_type(), [&](auto from) {
      launch_scatter<typename decltype(to)::type,
                     typename decltype(from)::type>(w, tokens, more, index,
                                                    channels_last, map);
    });
  });
  return map;
}

}  // namespace
}  // namespace mmfaseg

STABLE_TORCH_LIBRARY_IMPL(mmfaseg, CUDA, m) {
  m.impl("hrca_gather", TORCH_BOX(&mmfaseg::hrca_gather_cuda));
  m.impl("hrca_scatter", TORCH_BOX(&mmfaseg::hrca_scatter_cuda));
}
