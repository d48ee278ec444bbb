#include "hrca.h"

#include <torch/csrc/stable/library.h>

STABLE_TORCH_LIBRARY_FRAGMENT(mmfaseg, m) {
  m.def(
      "hrca_gather(Tensor feature, Tensor position, Tensor window_index, "
      "int window_size, SymInt grid_height, SymInt grid_width, "
      "Tensor? level_embed) -> (Tensor value, Tensor key)");
  m.def(
      "hrca_scatter(Tensor grad, Tensor? other, Tensor window_index, "
      "int window_size, SymInt grid_height, SymInt grid_width, SymInt height, "
      "SymInt width, ScalarType dtype, bool channels_last) -> Tensor");
}
