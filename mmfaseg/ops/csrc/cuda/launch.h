// Kernel launches on the current device and stream, with an error check.
//
// tests/test_ops/cuda_on_cpu.h replaces this header to run the kernels without
// a GPU, by setting the include guard.
#ifndef MMFASEG_LAUNCH_H
#define MMFASEG_LAUNCH_H

#include <cuda_runtime.h>
#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/macros.h>
#include <torch/csrc/stable/tensor.h>

#include <algorithm>
#include <cstdint>

namespace mmfaseg {

constexpr int kThreads = 256;  // per block
constexpr int kWarp = 32;

using torch::stable::accelerator::DeviceGuard;

// Launches `blocks` blocks of kThreads threads on the device and stream of a
// tensor. Kernels loop over their tasks, so that a smaller grid is sufficient.
template <typename... Parameters, typename... Arguments>
void launch(void (*kernel)(Parameters...), int64_t blocks,
            const torch::stable::Tensor& tensor,
            const Arguments&... arguments) {
  if (blocks == 0) return;
  void* stream = nullptr;
  TORCH_ERROR_CODE_CHECK(
      aoti_torch_get_current_cuda_stream(tensor.get_device_index(), &stream));
  const auto grid = static_cast<unsigned>(std::min<int64_t>(blocks, 1 << 20));
  kernel<<<grid, kThreads, 0, static_cast<cudaStream_t>(stream)>>>(
      arguments...);
  STD_CUDA_KERNEL_LAUNCH_CHECK();
}

}  // namespace mmfaseg

#endif  // MMFASEG_LAUNCH_H
