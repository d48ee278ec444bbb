// hrca_gather and hrca_scatter on the CPU; see ../hrca.h.
//
// The unit of work is one row of pixels of one window. Its tokens, s x C
// numbers, are summed in a buffer. Both operators take about a thousandth of a
// forward pass, hence the plain loops.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include <algorithm>
#include <optional>
#include <tuple>
#include <type_traits>
#include <vector>

#include "../hrca.h"

namespace mmfaseg {
namespace {

// The type of sums over numbers of two types.
template <typename A, typename B>
using Sum =
    std::conditional_t<std::is_same_v<A, double> || std::is_same_v<B, double>,
                       double, float>;

constexpr int64_t kPrefetch = 16;  // channels ahead

struct Row {
  int64_t batch, window, row;  // b, k, row of the window
  int64_t index;               // of the window in the grid
  int64_t y, x;                // first pixel in the map
  int64_t columns;             // number of pixels inside the map
};

// Returns row `task` in the order batch, window, row.
Row row_at(const Windows& w, const int64_t* window_index, int64_t task) {
  Row r;
  r.row = task % w.size;
  task /= w.size;
  r.window = task % w.count;
  r.batch = task / w.count;
  r.index = window_index[task];
  r.y = r.index / w.grid_width * w.size + r.row;
  r.x = r.index % w.grid_width * w.size;
  r.columns = r.y < w.height ? std::min(w.size, w.width - r.x) : 0;
  return r;
}

// Offset of the tokens of a row in window `window`.
int64_t token_offset(const Windows& w, const Row& r, int64_t window) {
  const int64_t token =
      r.batch * w.tokens() + (window * w.size + r.row) * w.size;
  return token * w.channels;
}

int64_t pixel_offset(const MapStrides& m, const Row& r) {
  return r.batch * m.batch + r.y * m.row + r.x * m.column;
}

void check_index(const Windows& w, const int64_t* window_index) {
  const int64_t cells = w.grid_height * w.grid_width;
  for (int64_t i = 0; i < w.batch * w.count; ++i) {
    check(window_index[i] >= 0 && window_index[i] < cells, "window_index[",
          i / w.count, ", ", i % w.count, "] is ", window_index[i],
          ", but must be in [0, ", cells, "), the ", w.grid_height, "x",
          w.grid_width, " windows of the grid");
  }
}

// Adds the pixels of a row, C numbers each, to the buffer.
template <typename T, typename Acc>
void add_pixels(const T* map, const MapStrides& m, const Windows& w,
                const Row& r, Acc* buffer) {
  const T* pixels = map + pixel_offset(m, r);
  if (m.channel == 1) {
    for (int64_t x = 0; x < r.columns; ++x) {
      const T* pixel = pixels + x * m.column;
      Acc* token = buffer + x * w.channels;
      for (int64_t c = 0; c < w.channels; ++c) {
        token[c] += static_cast<Acc>(pixel[c]);
      }
    }
    return;
  }
  for (int64_t c = 0; c < w.channels; ++c) {
#if defined(__GNUC__)
    // in a planar map each channel is on another page, and without prefetching
    // the processor waits for each
    const int64_t ahead = std::min(c + kPrefetch, w.channels - 1);
    __builtin_prefetch(pixels + ahead * m.channel);
#endif
    for (int64_t x = 0; x < r.columns; ++x) {
      buffer[x * w.channels + c] +=
          static_cast<Acc>(pixels[c * m.channel + x * m.column]);
    }
  }
}

// Writes the pixels of a row.
template <typename T, typename Acc>
void store_pixels(const Acc* buffer, const MapStrides& m, const Windows& w,
                  const Row& r, T* map) {
  T* pixels = map + pixel_offset(m, r);
  if (m.channel == 1) {
    for (int64_t x = 0; x < r.columns; ++x) {
      std::copy_n(buffer + x * w.channels, w.channels, pixels + x * m.column);
    }
    return;
  }
  for (int64_t c = 0; c < w.channels; ++c) {
    for (int64_t x = 0; x < r.columns; ++x) {
      pixels[c * m.channel + x * m.column] =
          static_cast<T>(buffer[x * w.channels + c]);
    }
  }
}

template <typename F, typename P>
void gather(const Windows& w, const Tensor& feature, const Tensor& position,
            const int64_t* window_index,
            const std::optional<Tensor>& level_embed, const Tensor& value,
            const Tensor& key) {
  using Acc = Sum<F, P>;
  using T = std::conditional_t<std::is_same_v<F, P>, F, Acc>;
  const F* features = feature.const_data_ptr<F>();
  const P* positions = position.const_data_ptr<P>();
  const std::vector<Acc> zeros(level_embed ? 0 : w.channels);
  const Acc* embed =
      level_embed ? level_embed->const_data_ptr<Acc>() : zeros.data();
  T* values = value.mutable_data_ptr<T>();
  T* keys = key.mutable_data_ptr<T>();
  const MapStrides feature_strides = map_strides(feature);
  const MapStrides position_strides = map_strides(position);
  const int64_t length = w.size * w.channels;
  torch::stable::parallel_for(
      0, w.batch * w.count * w.size, 1, [&](int64_t begin, int64_t end) {
        std::vector<Acc> buffer(length);
        for (int64_t task = begin; task < end; ++task) {
          const Row r = row_at(w, window_index, task);
          const int64_t first = token_offset(w, r, r.window);
          for (int64_t x = 0; x < w.size; ++x) {
            std::copy_n(embed, w.channels, buffer.data() + x * w.channels);
          }
          add_pixels(features, feature_strides, w, r, buffer.data());
          for (int64_t i = 0; i < length; ++i) {
            values[first + i] = static_cast<T>(buffer[i]);
          }
          add_pixels(positions, position_strides, w, r, buffer.data());
          for (int64_t i = 0; i < length; ++i) {
            keys[first + i] = static_cast<T>(buffer[i]);
          }
        }
      });
}

template <typename T, typename G>
void scatter(const Windows& w, const Tensor& grad,
             const std::optional<Tensor>& other, const int64_t* window_index,
             const MapStrides& strides, const Tensor& map) {
  using Acc = Sum<T, G>;
  const G* grads = grad.const_data_ptr<G>();
  const G* others = other ? other->const_data_ptr<G>() : nullptr;
  T* pixels = map.mutable_data_ptr<T>();
  const int64_t length = w.size * w.channels;
  torch::stable::parallel_for(
      0, w.batch * w.count * w.size, 1, [&](int64_t begin, int64_t end) {
        std::vector<Acc> buffer(length);
        for (int64_t task = begin; task < end; ++task) {
          const Row r = row_at(w, window_index, task);
          const int64_t* list = window_index + r.batch * w.count;
          // the first of equal windows writes the sum over all of them
          if (std::find(list, list + r.window, r.index) != list + r.window) {
            continue;
          }
          std::fill(buffer.begin(), buffer.end(), Acc(0));
          for (int64_t k = r.window; k < w.count; ++k) {
            if (list[k] != r.index) continue;
            const int64_t first = token_offset(w, r, k);
            for (int64_t i = 0; i < length; ++i) {
              buffer[i] += static_cast<Acc>(grads[first + i]);
              if (others) buffer[i] += static_cast<Acc>(others[first + i]);
            }
          }
          store_pixels(buffer.data(), strides, w, r, pixels);
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
  const std::optional<Tensor> embed =
      gather_embed(level_embed, w, feature, accumulate_type(type));
  const Tensor value = torch::stable::new_empty(
      feature, {w.batch, w.tokens(), w.channels}, type);
  const Tensor key = torch::stable::new_empty(
      feature, {w.batch, w.tokens(), w.channels}, type);
  with_number(feature.scalar_type(), [&](auto f) {
    with_number(position.scalar_type(), [&](auto p) {
      gather<typename decltype(f)::type, typename decltype(p)::type>(
          w, feature, position, index_data, embed, value, key);
    });
  });
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
  with_number(dtype, [&](auto to) {
    with_number(grad.scalar_type(), [&](auto from) {
      scatter<typename decltype(to)::type, typename decltype(from)::type>(
          w, tokens, more, index_data, dense_strides(w, channels_last), map);
    });
  });
  return map;
}

}  // namespace
}  // namespace mmfaseg

STABLE_TORCH_LIBRARY_IMPL(mmfaseg, CPU, m) {
  m.impl("hrca_gather", TORCH_BOX(&mmfaseg::hrca_gather_cpu));
  m.impl("hrca_scatter", TORCH_BOX(&mmfaseg::hrca_scatter_cpu));
}
