// One pass over X in 16-byte vectors. Where X and Y are not aligned alike, and at ragged ends, one element at
// a time.
//
// No pointer to X or Y is __restrict__: onnxruntime may run the op in place, and __restrict__ would let the
// compiler read X through the non-coherent cache, which is undefined for memory that the same kernel writes.
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <climits>
#include <cstdint>

#include "cuda_kernels.h"

namespace jr::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kVectorBytes = 16;
// From this many bytes on, each thread takes four vectors: more loads in flight. Below, more threads matter
// more.
constexpr int64_t kUnrollFrom = int64_t{16} << 20;

template <class T>
struct alignas(kVectorBytes) Pack {
  static constexpr int lanes = kVectorBytes / sizeof(T);
  T lane[lanes];
};

__device__ float zeroed(float x, float jump) {
  return x <= jump ? 0.0f : x;
}
__device__ double zeroed(double x, double jump) {
  return x <= jump ? 0.0 : x;
}
__device__ __half zeroed(__half x, __half jump) {
  return __hle(x, jump) ? __ushort_as_half(0) : x;
}
__device__ __nv_bfloat16 zeroed(__nv_bfloat16 x, __nv_bfloat16 jump) {
  return __hle(x, jump) ? __ushort_as_bfloat16(0) : x;
}

template <class T>
__device__ void zero(Pack<T>& x, const Pack<T>& jump) {
#pragma unroll
  for (int i = 0; i < Pack<T>::lanes; ++i) x.lane[i] = zeroed(x.lane[i], jump.lane[i]);
}

// Two 16-bit elements with one comparison and one AND.
template <class Pair, class T>
__device__ void zero_pairs(Pack<T>& x, const Pack<T>& jump) {
  unsigned* const bits = reinterpret_cast<unsigned*>(x.lane);
  const Pair* const values = reinterpret_cast<const Pair*>(x.lane);
  const Pair* const limits = reinterpret_cast<const Pair*>(jump.lane);
#pragma unroll
  for (int i = 0; i < Pack<T>::lanes / 2; ++i) bits[i] &= ~__hle2_mask(values[i], limits[i]);
}
__device__ void zero(Pack<__half>& x, const Pack<__half>& jump) {
  zero_pairs<__half2>(x, jump);
}
__device__ void zero(Pack<__nv_bfloat16>& x, const Pack<__nv_bfloat16>& jump) {
  zero_pairs<__nv_bfloat162>(x, jump);
}

// What is compared with the jumps: X, or A + B, each element rounded once as Add does it.
template <class T>
struct OneInput {
  const T* x;
  __device__ T one(int64_t i) const { return x[i]; }
  __device__ Pack<T> pack(int64_t i) const { return *reinterpret_cast<const Pack<T>*>(x + i); }
};

__device__ float sum(float a, float b) {
  return a + b;
}
__device__ double sum(double a, double b) {
  return a + b;
}
__device__ __half sum(__half a, __half b) {
  return __hadd(a, b);
}
__device__ __nv_bfloat16 sum(__nv_bfloat16 a, __nv_bfloat16 b) {
  return __hadd(a, b);
}

template <class T>
struct Sum {
  const T *a, *b;
  __device__ T one(int64_t i) const { return sum(a[i], b[i]); }
  __device__ Pack<T> pack(int64_t i) const {
    Pack<T> total = *reinterpret_cast<const Pack<T>*>(a + i);
    const Pack<T> more = *reinterpret_cast<const Pack<T>*>(b + i);
#pragma unroll
    for (int k = 0; k < Pack<T>::lanes; ++k) total.lane[k] = sum(total.lane[k], more.lane[k]);
    return total;
  }
};

template <class T>
__device__ OneInput<T> input(const T* x, const T*, OneInput<T>*) {
  return {x};
}
template <class T>
__device__ Sum<T> input(const T* a, const T* b, Sum<T>*) {
  return {a, b};
}

// One jump for all of X.
template <class T>
struct OneJump {
  T jump;
  __device__ explicit OneJump(const T* jumps) : jump(jumps[0]) {}
  __device__ T one(int64_t) const { return jump; }
  __device__ Pack<T> pack(int64_t) const {
    Pack<T> same;
#pragma unroll
    for (int i = 0; i < Pack<T>::lanes; ++i) same.lane[i] = jump;
    return same;
  }
};

// One jump a channel. Index is 32 bits wide where that is enough, because dividing 64 bits is slow.
template <class T, class Index>
struct ChannelJump {
  const T* jumps;
  Index channels, inner;
  __device__ T one(int64_t element) const { return jumps[static_cast<Index>(element) / inner % channels]; }
  __device__ Pack<T> pack(int64_t first) const {
    const Index row = static_cast<Index>(first) / inner;
    Index place = static_cast<Index>(first) - row * inner;
    Index channel = row % channels;
    Pack<T> each;
#pragma unroll
    for (int i = 0; i < Pack<T>::lanes; ++i) {
      each.lane[i] = jumps[channel];
      if (++place == inner) {
        place = 0;
        if (++channel == channels) channel = 0;
      }
    }
    return each;
  }
};

// How a tensor splits into single elements (head), whole vectors, and single elements again.
struct Split {
  int64_t count, head, vectors;
};

template <int unroll, class T, class Input, class Jumps>
__device__ void jump_relu(const Input x, const Jumps jumps, T* y, Split split) {
  using Vector = Pack<T>;
  Vector* const to = reinterpret_cast<Vector*>(y + split.head);
  const int64_t tile = int64_t{kThreads} * unroll;
  for (int64_t start = blockIdx.x * tile; start < split.vectors; start += gridDim.x * tile) {
    Vector values[unroll];
#pragma unroll
    for (int i = 0; i < unroll; ++i) {
      const int64_t v = start + i * kThreads + threadIdx.x;
      if (v < split.vectors) values[i] = x.pack(split.head + v * Vector::lanes);
    }
#pragma unroll
    for (int i = 0; i < unroll; ++i) {
      const int64_t v = start + i * kThreads + threadIdx.x;
      if (v >= split.vectors) continue;
      zero(values[i], jumps.pack(split.head + v * Vector::lanes));
      to[v] = values[i];
    }
  }
  const int64_t in_vectors = split.vectors * Vector::lanes;
  const int64_t threads = int64_t{gridDim.x} * kThreads;
#pragma unroll 1  // unrolled, it would start with a division, which small tensors would wait for
  for (int64_t s = blockIdx.x * int64_t{kThreads} + threadIdx.x; s < split.count - in_vectors; s += threads) {
    const int64_t element = s < split.head ? s : s + in_vectors;
    y[element] = zeroed(x.one(element), jumps.one(element));
  }
}

template <class Input, class T, int unroll>
__global__ void one_jump(const T* x, const T* addend, const T* jump, T* y, Split split) {
  jump_relu<unroll, T>(input(x, addend, static_cast<Input*>(nullptr)), OneJump<T>(jump), y, split);
}

template <class Input, class T, class Index>
__global__ void channel_jump(const T* x, const T* addend, const T* jump, T* y, Split split, int64_t channels,
                             int64_t inner) {
  const ChannelJump<T, Index> jumps{jump, static_cast<Index>(channels), static_cast<Index>(inner)};
  jump_relu<1, T>(input(x, addend, static_cast<Input*>(nullptr)), jumps, y, split);
}

template <class T>
Split split_of(const void* x, const void* addend, const void* y, int64_t count) {
  const auto from = reinterpret_cast<uintptr_t>(x), to = reinterpret_cast<uintptr_t>(y);
  const auto also = addend ? reinterpret_cast<uintptr_t>(addend) : from;
  if (from % sizeof(T) || ((from ^ to) | (from ^ also)) % kVectorBytes) return {count, count, 0};
  int64_t head = (kVectorBytes - from % kVectorBytes) % kVectorBytes / sizeof(T);
  if (head > count) head = count;
  return {count, head, (count - head) / Pack<T>::lanes};
}

// Enough blocks for one pass, or as many as a grid may have: the kernels loop.
dim3 grid_of(const Split& split, int unroll, int lanes) {
  const int64_t per_block = int64_t{kThreads} * unroll;
  const int64_t singles = split.count - split.vectors * lanes;
  int64_t blocks = (split.vectors + per_block - 1) / per_block;
  const int64_t for_singles = (singles + kThreads - 1) / kThreads;
  if (blocks < for_singles) blocks = for_singles;
  return dim3(static_cast<unsigned>(blocks < INT_MAX ? blocks : INT_MAX));
}

template <class T, class Input>
const void* kernel_of(const Layout& layout, bool many) {
  if (layout.channels == 1) {
    return many ? reinterpret_cast<const void*>(one_jump<Input, T, 4>)
                : reinterpret_cast<const void*>(one_jump<Input, T, 1>);
  }
  return layout.count <= INT_MAX ? reinterpret_cast<const void*>(channel_jump<Input, T, uint32_t>)
                                 : reinterpret_cast<const void*>(channel_jump<Input, T, uint64_t>);
}

template <class T>
cudaError_t launch_typed(const void* x_data, const void* addend_data, const void* jump_data, void* y_data,
                         Layout layout, cudaStream_t stream) {
  const T* x = static_cast<const T*>(x_data);
  const T* addend = static_cast<const T*>(addend_data);
  const T* jump = static_cast<const T*>(jump_data);
  T* y = static_cast<T*>(y_data);
  Split split = split_of<T>(x, addend, y, layout.count);
  void* arguments[] = {&x, &addend, &jump, &y, &split, &layout.channels, &layout.inner};

  const bool many = layout.channels == 1 && layout.count * int64_t{sizeof(T)} >= kUnrollFrom;
  const void* const kernel =
      addend ? kernel_of<T, Sum<T>>(layout, many) : kernel_of<T, OneInput<T>>(layout, many);
  const dim3 grid = grid_of(split, many ? 4 : 1, Pack<T>::lanes);
  return cudaLaunchKernel(kernel, grid, dim3(kThreads), arguments, 0, stream);
}

}  // namespace

int launch(ort::ElementType type, const void* x, const void* addend, const void* jump, void* y,
           const Layout& layout, void* stream_handle) {
  const auto stream = static_cast<cudaStream_t>(stream_handle);
  if (layout.count == 0) return cudaSuccess;
  switch (type) {
    case ort::ElementType::float32:
      return launch_typed<float>(x, addend, jump, y, layout, stream);
    case ort::ElementType::float64:
      return launch_typed<double>(x, addend, jump, y, layout, stream);
    case ort::ElementType::float16:
      return launch_typed<__half>(x, addend, jump, y, layout, stream);
    case ort::ElementType::bfloat16:
      return launch_typed<__nv_bfloat16>(x, addend, jump, y, layout, stream);
  }
  return cudaErrorInvalidValue;
}

const char* error_text(int error) {
  return cudaGetErrorString(static_cast<cudaError_t>(error));
}

}  // namespace jr::cuda
