// cuda_kernels.cu compiled for the CPU: a launch is a loop over its threads. A C interface for the test.
#include <cuda_runtime.h>

#include <algorithm>
#include <climits>
#include <cstdlib>
#include <numeric>
#include <random>
#include <vector>

dim3 threadIdx, blockIdx, gridDim;
long long emulated_int_max = 0x7fffffff;

#include "cuda_kernels.cu"

namespace {
enum Order : int { forward, backward, shuffled };
int order = forward;
unsigned most_blocks = ~0u;
}  // namespace

cudaError_t emulated::launch(dim3 grid, dim3 block, const std::function<void()>& thread) {
  if (grid.x == 0 || grid.x > 0x7fffffffu || block.x == 0 || block.x > 1024) {
    return cudaErrorInvalidConfiguration;
  }
  gridDim = dim3(std::min(grid.x, most_blocks));
  std::vector<uint32_t> threads(std::size_t{gridDim.x} * block.x);
  std::iota(threads.begin(), threads.end(), 0u);
  if (order == backward) std::reverse(threads.begin(), threads.end());
  if (order == shuffled) std::shuffle(threads.begin(), threads.end(), std::minstd_rand(1));
  for (const uint32_t i : threads) {
    blockIdx = dim3(i / block.x, 0, 0);
    threadIdx = dim3(i % block.x, 0, 0);
    thread();
  }
  return cudaSuccess;
}

const char* cudaGetErrorString(cudaError_t error) {
  return error == cudaSuccess ? "no error" : "invalid";
}

extern "C" {
int jump_relu(int type, const jr::Inputs* inputs, void* y, long long count, long long channels,
              long long inner, bool zero_each) {
  return jr::cuda::launch(static_cast<jr::ort::ElementType>(type), *inputs, y,
                          {count, channels, inner, zero_each}, nullptr);
}

// The order of the threads, the most blocks a grid gets, and INT_MAX, beyond which counts take 64-bit
// indices.
void configure(int new_order, unsigned new_most_blocks, long long int_max) {
  order = new_order, most_blocks = new_most_blocks, emulated_int_max = int_max;
}

// The allocator that the sanitizer watches.
void* allocate(std::size_t bytes) {
  return std::malloc(bytes);
}
void release(void* memory) {
  std::free(memory);
}
}
