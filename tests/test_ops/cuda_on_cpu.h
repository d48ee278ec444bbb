// Runs the CUDA kernels on the CPU, one block after another.
//
// The threads of a block are contexts of one CPU thread. Each runs until its
// next barrier, so that results and duration do not depend on the operating
// system's scheduler. The process is aborted if threads wait forever.
//
// g++ -x c++ -include cuda_on_cpu.h .../hrca_kernel.cu builds a library that
// registers the CUDA kernels as operators for the CPU. This tests their
// arithmetic, but neither their speed nor data races.
#ifndef MMFASEG_LAUNCH_H
#define MMFASEG_LAUNCH_H

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <ucontext.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <functional>
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

inline Index threadIdx, blockIdx, gridDim;

struct Thread {
  ucontext_t context;
  std::vector<char> stack = std::vector<char>(1 << 16);
  bool is_done;
};

// The running block.
struct Block {
  ucontext_t scheduler;
  std::vector<Thread> threads = std::vector<Thread>(kThreads);
  std::function<void()> kernel;
  double lanes[kThreads];
  bool any;
  int64_t progress = 0;  // barriers reached and threads ended

  void run();
  void yield() {
    swapcontext(&threads[threadIdx.x].context, &scheduler);
  }
};

inline Block block;

inline void run_thread() {
  block.kernel();
  block.threads[threadIdx.x].is_done = true;
  ++block.progress;
}

inline void Block::run() {
  for (Thread& thread : threads) {
    thread.is_done = false;
    getcontext(&thread.context);
    thread.context.uc_stack.ss_sp = thread.stack.data();
    thread.context.uc_stack.ss_size = thread.stack.size();
    thread.context.uc_link = &scheduler;
    makecontext(&thread.context, run_thread, 0);
  }
  bool is_done = false;
  while (!is_done) {
    is_done = true;
    const int64_t before = progress;
    for (unsigned i = 0; i < kThreads; ++i) {
      if (threads[i].is_done) continue;
      is_done = false;
      threadIdx.x = i;
      swapcontext(&scheduler, &threads[i].context);
    }
    if (!is_done && progress == before) {
      std::fprintf(stderr, "a barrier is not reached by all threads\n");
      std::abort();
    }
  }
}

// Barrier for `size` threads of the running block.
class Barrier {
 public:
  explicit Barrier(int size) : size_(size) {}

  void wait() {
    ++block.progress;
    const int64_t phase = phase_;
    if (++arrived_ == size_) {
      arrived_ = 0;
      ++phase_;
    }
    while (phase_ == phase) block.yield();
  }

 private:
  int size_;
  int arrived_ = 0;
  int64_t phase_ = 0;
};

inline Barrier all_threads(kThreads);
inline std::vector<Barrier> warps(kThreads / kWarp, Barrier(kWarp));

// Prints the number of launches at the end of the process.
struct Launches {
  int64_t count = 0;
  ~Launches() {
    std::fprintf(stderr, "%lld launches on the CPU\n",
                 static_cast<long long>(count));
  }
};

inline Launches launches;

inline void __syncthreads() { all_threads.wait(); }

inline bool __syncthreads_or(bool mine) {
  __syncthreads();
  block.any = false;
  __syncthreads();
  if (mine) block.any = true;
  __syncthreads();
  return block.any;
}

template <typename T>
T __shfl_down_sync(unsigned, T number, int step) {
  const unsigned thread = threadIdx.x;
  Barrier& warp = warps[thread / kWarp];
  block.lanes[thread] = number;
  warp.wait();
  const bool inside = thread % kWarp + step < kWarp;
  const T other = inside ? static_cast<T>(block.lanes[thread + step]) : number;
  warp.wait();
  return other;
}

template <typename T>
void atomicAdd(T* to, T number) {
  *to += number;
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
  gridDim.x = grid;
  block.kernel = [&] { kernel(arguments...); };
  for (blockIdx.x = 0; blockIdx.x < grid; ++blockIdx.x) block.run();
}

}  // namespace mmfaseg

#endif  // MMFASEG_LAUNCH_H
