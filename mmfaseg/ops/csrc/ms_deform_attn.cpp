#include "ms_deform_attn.h"

#include <torch/csrc/stable/library.h>

STABLE_TORCH_LIBRARY_FRAGMENT(mmfaseg, m) {
  m.def(
      "ms_deform_attn(Tensor value, SymInt[] spatial_shapes, "
      "Tensor sampling_locations, Tensor attention_weights) -> Tensor");
  m.def(
      "ms_deform_attn_backward(Tensor grad_output, Tensor value, "
      "SymInt[] spatial_shapes, Tensor sampling_locations, "
      "Tensor attention_weights) -> (Tensor "
      "grad_value, Tensor grad_locations, Tensor grad_weights)");
}
