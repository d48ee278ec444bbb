// Runs the CUDA kernels with CPU threads, one block after another.
//
// g++ -x c++ -include cuda_on_cpu.h .../hrca_kernel.cu builds a library that
// registers the CUDA kernels as operators for the CPU. This tests their
// arithmetic, but neither their speed nor the memory order of a GPU.
#ifndef MMFASEG_LAUNCH_H
#define MMFASEG_LAUNCH_H

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <algorithm>
#include <atomic>
#include <barrier>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <thread>
#include <vector>

#define __global__
#define __device__
#define __host__
#define __shared__ static
#define __launch_bounds__(threads)
#define CUDA CPU  // dispatch key of the operators

namespace mmfaseg {

constexpr int kThreads = 256;
constexpr int kWarp = 32;

struct DeviceGuard {
  explicit DeviceGuard(int) {}
};

struct Index {
  unsigned x;
};

inline thread_local Index threadIdx, blockIdx, gridDim;

struct Block {
  std::barrier<> all{kThreads};
  std::vector<std::unique_ptr<std::barrier<>>> warps;
  double lanes[kThreads];
  std::atomic<bool> any{false};

  Block() {
    for (int i = 0; i < kThreads / kWarp; ++i) {
      warps.push_back(std::make_unique<std::barrier<>>(kWarp));
    }
  }
};

inline Block* block;

// Prints the number of launches at the end of the process.
struct Launches {
  int64_t count = 0;
  ~Launches() {
    std::fprintf(stderr, "%lld launches on the CPU\n",
                 static_cast<long long>(count));
  }
};

inline Launches launches;

inline void __syncthreads() { block->all.arrive_and_wait(); }

inline bool __syncthreads_or(bool mine) {
  __syncthreads();
  block->any = false;
  __syncthreads();
  if (mine) block->any = true;
  __syncthreads();
  return block->any;
}

template <typename T>
T __shfl_down_sync(unsigned, T number, int step) {
  const unsigned thread = threadIdx.x;
  std::barrier<>& warp = *block->warps[thread / kWarp];
  block->lanes[thread] = number;
  warp.arrive_and_wait();
  const bool inside = thread % kWarp + step < kWarp;
  const T other = inside ? static_cast<T>(block->lanes[thread + step]) : number;
  warp.arrive_and_wait();
  return other;
}

template <typename T>
void atomicAdd(T* to, T number) {
  std::atomic_ref<T>(*to).fetch_add(number);
}

[[noreturn]] inline void __trap() { std::abort(); }

using std::min;

template <typename... Parameters, typename... Arguments>
void launch(void (*kernel)(Parameters...), int64_t blocks,
            const torch::stable::Tensor&, const Arguments&... arguments) {
  if (blocks == 0) return;
  // fewer blocks than tasks, so that the kernels loop
  const unsigned grid = static_cast<unsigned>(std::min<int64_t>(blocks, 3));
  ++launches.count;
  Block shared;
  block = &shared;
  std::vector<std::thread> threads;
  for (unsigned thread = 0; thread < kThreads; ++thread) {
    threads.emplace_back([&, thread] {
      threadIdx.x = thread;
      gridDim.x = grid;
      for (blockIdx.x = 0; blockIdx.x < grid; ++blockIdx.x) {
        kernel(arguments...);
        shared.all.arrive_and_wait();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

}  // namespace mmfaseg

#endif  // MMFASEG_LAUNCH_H
