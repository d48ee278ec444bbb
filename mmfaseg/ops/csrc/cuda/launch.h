// What every launcher on CUDA needs.
#pragma once

#include <cuda_runtime.h>
#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/macros.h>
#include <torch/csrc/stable/tensor.h>

#include <algorithm>
#include <cstdint>

namespace mmfaseg {

inline cudaStream_t current_stream(const torch::stable::Tensor& tensor) {
  void* stream = nullptr;
  TORCH_ERROR_CODE_CHECK(aoti_torch_get_current_cuda_stream(
      tensor.get_device_index(), &stream));
  return static_cast<cudaStream_t>(stream);
}

// Kernels loop over their tasks, so that any number of tasks fits any grid.
inline unsigned grid_size(int64_t tasks) {
  return static_cast<unsigned>(std::min<int64_t>(tasks, 1 << 20));
}

}  // namespace mmfaseg
