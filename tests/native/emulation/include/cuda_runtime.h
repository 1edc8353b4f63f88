// The part of the CUDA runtime that cuda_kernels.cu uses, on the CPU: one emulated thread after another. For
// kernels without shared memory, barriers and warp operations.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <tuple>
#include <type_traits>
#include <utility>
#define __global__
#define __device__

struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};
extern dim3 threadIdx, blockIdx, gridDim;

#define CUDART_VERSION 13000

enum cudaError_t : int { cudaSuccess = 0, cudaErrorInvalidValue = 1, cudaErrorInvalidConfiguration = 9 };
using cudaStream_t = struct Stream*;
struct cudaFuncAttributes {
  char unused[512];
};
extern "C" {
const char* cudaGetErrorString(cudaError_t error);
cudaError_t cudaGetLastError();
cudaError_t cudaDriverGetVersion(int* version);
cudaError_t cudaGetDevice(int* device);
cudaError_t cudaSetDevice(int device);
cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, const void* kernel);
}

template <class... Arguments>
cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, void (*kernel)(Arguments...)) {
  return cudaFuncGetAttributes(attributes, reinterpret_cast<const void*>(kernel));
}

namespace emulated {
cudaError_t launch(dim3 grid, dim3 block, cudaStream_t stream, std::function<void()> thread);

// The arguments are copied, for a launch that is captured now and replayed later.
template <class... Arguments, std::size_t... place>
std::function<void()> call(void (*kernel)(Arguments...), void** arguments, std::index_sequence<place...>) {
  const std::tuple<std::remove_const_t<Arguments>...> copies(
      *static_cast<std::remove_const_t<Arguments>*>(arguments[place])...);
  return [=] { std::apply(kernel, copies); };
}
}  // namespace emulated

template <class... Arguments>
cudaError_t cudaLaunchKernel(void (*kernel)(Arguments...), dim3 grid, dim3 block, void** arguments,
                             std::size_t, cudaStream_t stream) {
  return emulated::launch(grid, block, stream,
                          emulated::call(kernel, arguments, std::index_sequence_for<Arguments...>()));
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
