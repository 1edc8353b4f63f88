// cuda_kernels.cu compiled for the CPU, launched on the fake CUDA runtime.
#include <cuda_runtime.h>

#include "fake_cuda.h"

dim3 threadIdx, blockIdx, gridDim;
long long emulated_int_max = 0x7fffffff;

#include "cuda_kernels.cu"

cudaError_t emulated::launch(dim3 grid, dim3 block, cudaStream_t stream, std::function<void()> thread) {
  const auto run = [=] {
    gridDim = grid;
    for (unsigned i = 0; i < grid.x * block.x; ++i) {
      blockIdx = dim3(i / block.x, 0, 0);
      threadIdx = dim3(i % block.x, 0, 0);
      thread();
    }
  };
  return static_cast<cudaError_t>(fake_cuda_launch(stream, run));
}
