// hrca_gather and hrca_scatter on the CPU; see ../hrca.h.
//
// Work is cut into tiles: one window, up to kBlock channels. A tile is held in
// a small buffer of tokens x channels, which stays in the first cache and is
// where a planar map is transposed.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include <algorithm>
#include <optional>
#include <tuple>
#include <vector>

#include "../hrca.h"
#include "simd.h"

namespace mmfaseg {
namespace {

constexpr int64_t kBlock = 64;

// A tile: where it stands in the map, and what of it lies inside the map.
struct Tile {
  int64_t batch, window;      // b, k
  int64_t index;              // of the window in the grid
  int64_t row, column;        // first pixel
  int64_t rows, columns;      // pixels inside the map
  int64_t channel, channels;  // first one, how many
};

int64_t blocks(const Windows& w) { return (w.channels + kBlock - 1) / kBlock; }

// Returns tile `task` in the order batch, window, block of channels.
Tile tile_at(const Windows& w, const int64_t* window_index, int64_t task) {
  Tile t;
  t.channel = task % blocks(w) * kBlock;
  t.channels = std::min(kBlock, w.channels - t.channel);
  task /= blocks(w);
  t.window = task % w.count;
  t.batch = task / w.count;
  t.index = window_index[task];
  t.row = t.index / w.grid_width * w.size;
  t.column = t.index % w.grid_width * w.size;
  t.rows = std::min(w.size, w.height - t.row);
  t.columns = std::min(w.size, w.width - t.column);
  return t;
}

void check_index(const Windows& w, const int64_t* window_index) {
  const int64_t cells = w.grid_height * w.grid_width;
  for (int64_t i = 0; i < w.batch * w.count; ++i) {
    check(window_index[i] >= 0 && window_index[i] < cells, "window_index[",
          i / w.count, ", ", i % w.count, "] is ", window_index[i],
          ", it must lie in [0, ", cells, "), the ", w.grid_height, "x",
          w.grid_width, " windows of the grid");
  }
}

// The four steps below are compiled for each type of numbers and instruction
// set. T is the type in memory, Acc that of the buffer.

// Adds the pixels of a tile to the buffer.
template <typename T, typename Acc>
MMFASEG_HOST_DEVICE void add_pixels_(const T* data, const MapStrides& strides,
                                     const Windows& w, const Tile& t,
                                     Acc* buffer) {
  const T* first = data + t.batch * strides.batch +
                   t.channel * strides.channel + t.row * strides.row +
                   t.column * strides.column;
  int64_t c = 0;
  if constexpr (has_lanes<Acc>) {
    // All rows of eight channels, then the next eight: far faster than row
    // after row, because it stays on few pages of memory.
    if (strides.column == 1 && t.columns % kLane == 0) {
      for (; c + kLane <= t.channels; c += kLane) {
        for (int64_t y = 0; y < t.rows; ++y) {
          for (int64_t x = 0; x < t.columns; x += kLane) {
            add_transposed(first + c * strides.channel + y * strides.row + x,
                           strides.channel,
                           buffer + (y * w.size + x) * kBlock + c, kBlock);
          }
        }
      }
    }
  }
  for (int64_t y = 0; y < t.rows; ++y) {
    for (int64_t x = 0; x < t.columns; ++x) {
      const T* pixel = first + y * strides.row + x * strides.column;
      Acc* token = buffer + (y * w.size + x) * kBlock;
      if (strides.channel == 1) {
        for (int64_t i = c; i < t.channels; ++i) token[i] += Acc(pixel[i]);
      } else {
        for (int64_t i = c; i < t.channels; ++i) {
          token[i] += Acc(pixel[i * strides.channel]);
        }
      }
    }
  }
}

// Writes the buffer to the tokens of a tile.
template <typename T, typename Acc>
MMFASEG_HOST_DEVICE void store_tokens_(T* data, const Windows& w, const Tile& t,
                                       const Acc* buffer) {
  const int64_t area = w.size * w.size;
  T* tokens =
      data + (t.batch * w.tokens() + t.window * area) * w.channels + t.channel;
  for (int64_t i = 0; i < area; ++i) {
    for (int64_t c = 0; c < t.channels; ++c) {
      tokens[i * w.channels + c] = round_to<T>(buffer[i * kBlock + c]);
    }
  }
}

// Adds the tokens of window `window` to the buffer.
template <typename T, typename Acc>
MMFASEG_HOST_DEVICE void add_tokens_(const T* data, const Windows& w,
                                     const Tile& t, int64_t window,
                                     Acc* buffer) {
  const int64_t area = w.size * w.size;
  const T* tokens =
      data + (t.batch * w.tokens() + window * area) * w.channels + t.channel;
  for (int64_t i = 0; i < area; ++i) {
    for (int64_t c = 0; c < t.channels; ++c) {
      buffer[i * kBlock + c] += Acc(tokens[i * w.channels + c]);
    }
  }
}

// Writes the buffer to the pixels of a tile that lie inside the map.
template <typename T, typename Acc>
MMFASEG_HOST_DEVICE void store_pixels_(T* data, const MapStrides& strides,
                                       const Windows& w, const Tile& t,
                                       const Acc* buffer) {
  T* first = data + t.batch * strides.batch + t.channel * strides.channel +
             t.row * strides.row + t.column * strides.column;
  for (int64_t y = 0; y < t.rows; ++y) {
    T* line = first + y * strides.row;
    const Acc* tokens = buffer + y * w.size * kBlock;
    if (strides.channel == 1) {
      for (int64_t x = 0; x < t.columns; ++x) {
        for (int64_t c = 0; c < t.channels; ++c) {
          line[x * strides.column + c] = round_to<T>(tokens[x * kBlock + c]);
        }
      }
    } else {
      for (int64_t c = 0; c < t.channels; ++c) {
        for (int64_t x = 0; x < t.columns; ++x) {
          line[c * strides.channel + x] = round_to<T>(tokens[x * kBlock + c]);
        }
      }
    }
  }
}

template <typename Acc>
using AddPixels = void (*)(const void*, const MapStrides&, const Windows&,
                           const Tile&, Acc*);
template <typename Acc>
using StoreTokens = void (*)(void*, const Windows&, const Tile&, const Acc*);
template <typename Acc>
using AddTokens = void (*)(const void*, const Windows&, const Tile&, int64_t,
                           Acc*);
template <typename Acc>
using StorePixels = void (*)(void*, const MapStrides&, const Windows&,
                             const Tile&, const Acc*);

#define MMFASEG_DEFINE(name, T, Acc)                                          \
  MMFASEG_CLONES void add_pixels_##name(                                      \
      const void* data, const MapStrides& strides, const Windows& w,          \
      const Tile& t, Acc* buffer) {                                           \
    add_pixels_(static_cast<const T*>(data), strides, w, t, buffer);          \
  }                                                                           \
  MMFASEG_CLONES void store_tokens_##name(void* data, const Windows& w,       \
                                          const Tile& t, const Acc* buffer) { \
    store_tokens_(static_cast<T*>(data), w, t, buffer);                       \
  }                                                                           \
  MMFASEG_CLONES void add_tokens_##name(const void* data, const Windows& w,   \
                                        const Tile& t, int64_t window,        \
                                        Acc* buffer) {                        \
    add_tokens_(static_cast<const T*>(data), w, t, window, buffer);           \
  }                                                                           \
  MMFASEG_CLONES void store_pixels_##name(                                    \
      void* data, const MapStrides& strides, const Windows& w, const Tile& t, \
      const Acc* buffer) {                                                    \
    store_pixels_(static_cast<T*>(data), strides, w, t, buffer);              \
  }

MMFASEG_DEFINE(half, c10::Half, float)
MMFASEG_DEFINE(bfloat16, c10::BFloat16, float)
MMFASEG_DEFINE(float, float, float)
MMFASEG_DEFINE(half_in_double, c10::Half, double)
MMFASEG_DEFINE(bfloat16_in_double, c10::BFloat16, double)
MMFASEG_DEFINE(float_in_double, float, double)
MMFASEG_DEFINE(double, double, double)
#undef MMFASEG_DEFINE

// The steps for one type in memory.
template <typename Acc>
struct Steps {
  AddPixels<Acc> add_pixels;
  StoreTokens<Acc> store_tokens;
  AddTokens<Acc> add_tokens;
  StorePixels<Acc> store_pixels;
};

#define MMFASEG_STEPS(name)                                      \
  {&add_pixels_##name, &store_tokens_##name, &add_tokens_##name, \
   &store_pixels_##name}

template <typename Acc>
Steps<Acc> steps(ScalarType type);

template <>
Steps<float> steps<float>(ScalarType type) {
  if (type == ScalarType::Half) return MMFASEG_STEPS(half);
  if (type == ScalarType::BFloat16) return MMFASEG_STEPS(bfloat16);
  return MMFASEG_STEPS(float);
}

template <>
Steps<double> steps<double>(ScalarType type) {
  if (type == ScalarType::Half) return MMFASEG_STEPS(half_in_double);
  if (type == ScalarType::BFloat16) return MMFASEG_STEPS(bfloat16_in_double);
  if (type == ScalarType::Float) return MMFASEG_STEPS(float_in_double);
  return MMFASEG_STEPS(double);
}
#undef MMFASEG_STEPS

template <typename Acc>
void gather(const Windows& w, const Tensor& feature, const Tensor& position,
            const int64_t* window_index, const Acc* level_embed,
            const Tensor& value, const Tensor& key) {
  const auto add_feature = steps<Acc>(feature.scalar_type()).add_pixels;
  const auto add_position = steps<Acc>(position.scalar_type()).add_pixels;
  const auto store = steps<Acc>(value.scalar_type()).store_tokens;
  const MapStrides feature_strides = map_strides(feature);
  const MapStrides position_strides = map_strides(position);
  const void* feature_data = feature.const_data_ptr();
  const void* position_data = position.const_data_ptr();
  void* value_data = value.mutable_data_ptr();
  void* key_data = key.mutable_data_ptr();
  const int64_t area = w.size * w.size;
  torch::stable::parallel_for(
      0, w.batch * w.count * blocks(w), 1, [&](int64_t begin, int64_t end) {
        std::vector<Acc> buffer(area * kBlock);
        for (int64_t task = begin; task < end; ++task) {
          const Tile t = tile_at(w, window_index, task);
          for (int64_t i = 0; i < area; ++i) {
            Acc* token = buffer.data() + i * kBlock;
            if (level_embed) {
              std::copy_n(level_embed + t.channel, t.channels, token);
            } else {
              std::fill_n(token, t.channels, Acc(0));
            }
          }
          add_feature(feature_data, feature_strides, w, t, buffer.data());
          store(value_data, w, t, buffer.data());
          add_position(position_data, position_strides, w, t, buffer.data());
          store(key_data, w, t, buffer.data());
        }
      });
}

// Returns whether the window of a tile also stands earlier in its list.
bool stands_earlier(const Windows& w, const int64_t* window_index,
                    const Tile& t) {
  const int64_t* list = window_index + t.batch * w.count;
  return std::find(list, list + t.window, t.index) != list + t.window;
}

template <typename Acc>
void scatter(const Windows& w, const Tensor& grad, const Tensor* other,
             const int64_t* window_index, const MapStrides& strides,
             const Tensor& map) {
  const auto add = steps<Acc>(grad.scalar_type()).add_tokens;
  const auto store = steps<Acc>(map.scalar_type()).store_pixels;
  const void* grad_data = grad.const_data_ptr();
  const void* other_data = other ? other->const_data_ptr() : nullptr;
  void* map_data = map.mutable_data_ptr();
  torch::stable::parallel_for(
      0, w.batch * w.count * blocks(w), 1, [&](int64_t begin, int64_t end) {
        std::vector<Acc> buffer(w.size * w.size * kBlock);
        for (int64_t task = begin; task < end; ++task) {
          const Tile t = tile_at(w, window_index, task);
          if (stands_earlier(w, window_index, t)) continue;
          std::fill(buffer.begin(), buffer.end(), Acc(0));
          for (int64_t k = t.window; k < w.count; ++k) {
            if (window_index[t.batch * w.count + k] != t.index) continue;
            add(grad_data, w, t, k, buffer.data());
            if (other_data) add(other_data, w, t, k, buffer.data());
          }
          store(map_data, strides, w, t, buffer.data());
        }
      });
}

std::tuple<Tensor, Tensor> hrca_gather_cpu(
    const Tensor& feature, const Tensor& position, const Tensor& window_index,
    int64_t window_size, int64_t grid_height, int64_t grid_width,
    const std::optional<Tensor>& level_embed) {
  const Windows w = gather_windows(feature, position, window_index, window_size,
                                   grid_height, grid_width);
  const Tensor index = torch::stable::contiguous(window_index);
  const int64_t* index_data = index.const_data_ptr<int64_t>();
  check_index(w, index_data);
  const ScalarType type =
      promote(feature.scalar_type(), position.scalar_type());
  const ScalarType sums = accumulate_type(type);
  const std::optional<Tensor> embed =
      gather_embed(level_embed, w, feature, sums);
  const Tensor value = torch::stable::new_empty(
      feature, {w.batch, w.tokens(), w.channels}, type);
  const Tensor key = torch::stable::new_empty(
      feature, {w.batch, w.tokens(), w.channels}, type);
  if (sums == ScalarType::Double) {
    gather<double>(w, feature, position, index_data,
                   embed ? embed->const_data_ptr<double>() : nullptr, value,
                   key);
  } else {
    gather<float>(w, feature, position, index_data,
                  embed ? embed->const_data_ptr<float>() : nullptr, value, key);
  }
  return {value, key};
}

Tensor hrca_scatter_cpu(const Tensor& grad, const std::optional<Tensor>& other,
                        const Tensor& window_index, int64_t window_size,
                        int64_t grid_height, int64_t grid_width, int64_t height,
                        int64_t width, ScalarType dtype, bool channels_last) {
  const Windows w =
      scatter_windows(grad, other, window_index, window_size, grid_height,
                      grid_width, height, width, dtype);
  const Tensor index = torch::stable::contiguous(window_index);
  const int64_t* index_data = index.const_data_ptr<int64_t>();
  check_index(w, index_data);
  const Tensor tokens = torch::stable::contiguous(grad);
  std::optional<Tensor> more;
  if (other) more = torch::stable::contiguous(*other);
  const Tensor map = scatter_map(grad, w, dtype, channels_last);
  const MapStrides strides = dense_strides(w, channels_last);
  const bool sum_in_double =
      grad.scalar_type() == ScalarType::Double || dtype == ScalarType::Double;
  if (sum_in_double) {
    scatter<double>(w, tokens, more ? &*more : nullptr, index_data, strides,
                    map);
  } else {
    scatter<float>(w, tokens, more ? &*more : nullptr, index_data, strides,
                   map);
  }
  return map;
}

}  // namespace
}  // namespace mmfaseg

STABLE_TORCH_LIBRARY_IMPL(mmfaseg, CPU, m) {
  m.impl("hrca_gather", TORCH_BOX(&mmfaseg::hrca_gather_cpu));
  m.impl("hrca_scatter", TORCH_BOX(&mmfaseg::hrca_scatter_cpu));
}
