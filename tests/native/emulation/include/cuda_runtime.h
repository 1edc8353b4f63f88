// The part of the CUDA runtime that cuda_kernels.cu uses, on the CPU: one emulated thread after another. For
// kernels without shared memory, barriers and warp operations.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <type_traits>
#include <utility>
#define __global__
#define __device__

struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};
extern dim3 threadIdx, blockIdx, gridDim;

enum cudaError_t : int { cudaSuccess = 0, cudaErrorInvalidValue = 1, cudaErrorInvalidConfiguration = 9 };
using cudaStream_t = struct Stream*;
const char* cudaGetErrorString(cudaError_t error);

namespace emulated {
cudaError_t launch(dim3 grid, dim3 block, const std::function<void()>& thread);

template <class... Arguments, std::size_t... place>
void call(void (*kernel)(Arguments...), void** arguments, std::index_sequence<place...>) {
  kernel(*static_cast<std::remove_const_t<Arguments>*>(arguments[place])...);
}
}  // namespace emulated

template <class... Arguments>
cudaError_t cudaLaunchKernel(void (*kernel)(Arguments...), dim3 grid, dim3 block, void** arguments,
                             std::size_t, cudaStream_t) {
  return emulated::launch(
      grid, block, [=] { emulated::call(kernel, arguments, std::index_sequence_for<Arguments...>()); });
}

namespace emulated {
// All bits of each element of 32 bits where a <= b.
template <class T>
unsigned compare(unsigned a, unsigned b) {
  T left[4 / sizeof(T)], right[4 / sizeof(T)];
  std::memcpy(left, &a, 4);
  std::memcpy(right, &b, 4);
  for (std::size_t i = 0; i < 4 / sizeof(T); ++i) left[i] = left[i] <= right[i] ? T(-1) : T(0);
  std::memcpy(&a, left, 4);
  return a;
}
}  // namespace emulated

inline unsigned __vcmpleu4(unsigned a, unsigned b) {
  return emulated::compare<uint8_t>(a, b);
}
inline unsigned __vcmples4(unsigned a, unsigned b) {
  return emulated::compare<int8_t>(a, b);
}
inline unsigned __vcmpleu2(unsigned a, unsigned b) {
  return emulated::compare<uint16_t>(a, b);
}
inline unsigned __vcmples2(unsigned a, unsigned b) {
  return emulated::compare<int16_t>(a, b);
}

inline unsigned __umulhi(unsigned a, unsigned b) {
  return static_cast<unsigned>((uint64_t{a} * b) >> 32);
}
