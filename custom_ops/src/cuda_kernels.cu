// One pass over X in 16-byte vectors, one a thread: on an H200 four a thread were slower at every size above
// its cache (docs/gpu.md). Where X and Y are not aligned alike, and at ragged ends, one element at a time.
//
// No pointer to X or Y is __restrict__: onnxruntime may run the op in place, and __restrict__ would let the
// compiler read X through the non-coherent cache, which is undefined for memory that the same kernel writes.
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <climits>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "cuda_jumps.h"
#include "cuda_kernels.h"

namespace jr::cuda {
namespace {

constexpr int kThreads = 256;

// `zero` is what an element up to the jump becomes: the zero point of quantized values, else 0.
template <class T>
__device__ T zeroed(T x, T jump, T zero) {
  return x <= jump ? zero : x;
}
__device__ __half zeroed(__half x, __half jump, __half zero) {
  return __hle(x, jump) ? zero : x;
}
__device__ __nv_bfloat16 zeroed(__nv_bfloat16 x, __nv_bfloat16 jump, __nv_bfloat16 zero) {
  return __hle(x, jump) ? zero : x;
}

template <class To>
__device__ To from_bits(unsigned bits) {
  To value;
  memcpy(&value, &bits, sizeof value);
  return value;
}

// 32 bits of elements at once: all bits of an element are set where x <= jump.
template <class T>
__device__ unsigned mask(unsigned x, unsigned jump);
template <>
__device__ unsigned mask<__half>(unsigned x, unsigned jump) {
  return __hle2_mask(from_bits<__half2>(x), from_bits<__half2>(jump));
}
template <>
__device__ unsigned mask<__nv_bfloat16>(unsigned x, unsigned jump) {
  return __hle2_mask(from_bits<__nv_bfloat162>(x), from_bits<__nv_bfloat162>(jump));
}
template <>
__device__ unsigned mask<uint8_t>(unsigned x, unsigned jump) {
  return __vcmpleu4(x, jump);
}
template <>
__device__ unsigned mask<int8_t>(unsigned x, unsigned jump) {
  return __vcmples4(x, jump);
}
template <>
__device__ unsigned mask<uint16_t>(unsigned x, unsigned jump) {
  return __vcmpleu2(x, jump);
}
template <>
__device__ unsigned mask<int16_t>(unsigned x, unsigned jump) {
  return __vcmples2(x, jump);
}

template <class T>
__device__ void zero_all(Pack<T>& x, const Pack<T>& jump, const Pack<T>& zero) {
  if constexpr (sizeof(T) >= 4) {
#pragma unroll
    for (int i = 0; i < Pack<T>::lanes; ++i) x.lane[i] = zeroed(x.lane[i], jump.lane[i], zero.lane[i]);
  } else {
    unsigned values[4], jumps[4], zeros[4];
    memcpy(values, &x, sizeof x);
    memcpy(jumps, &jump, sizeof jump);
    memcpy(zeros, &zero, sizeof zero);
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const unsigned low = mask<T>(values[i], jumps[i]);
      values[i] = (values[i] & ~low) | (zeros[i] & low);
    }
    memcpy(&x, values, sizeof x);
  }
}

// What is compared with the jumps: X, or A + B, each element rounded once as Add does it. Loading and adding
// are two steps, so that the jump is on its way before the first of them is waited for.
template <class T>
struct OneInput {
  struct Loaded {
    Pack<T> x;
    __device__ Pack<T> value() const { return x; }
  };
  const T* x;
  __device__ T one(int64_t i) const { return x[i]; }
  __device__ Loaded load(int64_t i) const { return {*reinterpret_cast<const Pack<T>*>(x + i)}; }
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
  struct Loaded {
    Pack<T> a, b;
    __device__ Pack<T> value() const {
      Pack<T> total;
#pragma unroll
      for (int i = 0; i < Pack<T>::lanes; ++i) total.lane[i] = sum(a.lane[i], b.lane[i]);
      return total;
    }
  };
  const T *a, *b;
  __device__ T one(int64_t i) const { return sum(a[i], b[i]); }
  __device__ Loaded load(int64_t i) const {
    return {*reinterpret_cast<const Pack<T>*>(a + i), *reinterpret_cast<const Pack<T>*>(b + i)};
  }
};

// How a tensor splits into single elements (head), whole vectors, and single elements again.
struct Split {
  int64_t count, head, vectors;
};

template <class T, class Input, class Jumps, class Zeros>
__global__ void jump_relu(const Input x, const Jumps jumps, const Zeros zeros, T* y, Split split) {
  Pack<T>* const to = reinterpret_cast<Pack<T>*>(y + split.head);
  const int64_t thread = blockIdx.x * int64_t{kThreads} + threadIdx.x;
  const int64_t threads = gridDim.x * int64_t{kThreads};
#pragma unroll 1  // unrolled, it would start with a division
  for (int64_t v = thread; v < split.vectors; v += threads) {
    const int64_t first = split.head + v * Pack<T>::lanes;
    const typename Input::Loaded loaded = x.load(first);
    const Pack<T> limits = jumps.pack(first), replacements = zeros.pack(first);
    Pack<T> values = loaded.value();
    zero_all(values, limits, replacements);
    to[v] = values;
  }
  const int64_t in_vectors = split.vectors * Pack<T>::lanes;
#pragma unroll 1
  for (int64_t s = thread; s < split.count - in_vectors; s += threads) {
    const int64_t element = s < split.head ? s : s + in_vectors;
    y[element] = zeroed(x.one(element), jumps.one(element), zeros.one(element));
  }
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
dim3 grid_of(const Split& split, int lanes) {
  const int64_t singles = split.count - split.vectors * lanes;
  const int64_t threads = split.vectors > singles ? split.vectors : singles;
  const int64_t blocks = (threads + kThreads - 1) / kThreads;
  return dim3(static_cast<unsigned>(blocks < INT_MAX ? blocks : INT_MAX));
}

// What a launch needs beside its input and its jumps.
template <class T>
struct Target {
  T* y;
  Split split;
  cudaStream_t stream;
};

template <class T, class Input, class Jumps, class Zeros>
cudaError_t launch_with(Input x, Jumps jumps, Zeros zeros, Target<T> target) {
  void* arguments[] = {&x, &jumps, &zeros, &target.y, &target.split};
  return cudaLaunchKernel(jump_relu<T, Input, Jumps, Zeros>, grid_of(target.split, Pack<T>::lanes),
                          dim3(kThreads), arguments, 0, target.stream);
}

template <class T>
using LargeChannelJump = ChannelJump<T, LargePlaces, int64_t>;

template <class T, class Input, class Zeros>
cudaError_t launch_jumps(Input x, const T* jumps, Zeros zeros, const Layout& layout, Target<T> target) {
  constexpr int64_t lanes = Pack<T>::lanes;
  const Split& split = target.split;
  if (layout.channels == 1) return launch_with(x, OneJump<T>{jumps}, zeros, target);
  const bool whole = split.head == 0 && split.vectors > 0 && split.vectors <= INT_MAX;
  if (whole && layout.inner % lanes == 0) {
    const RowJump<T> rows{jumps, Divider(layout.inner / lanes), Divider(layout.channels)};
    return launch_with(x, rows, zeros, target);
  }
  if (whole && layout.inner == 1 && layout.channels % lanes == 0 &&
      reinterpret_cast<uintptr_t>(jumps) % kVectorBytes == 0) {
    return launch_with(x, LastAxisJump<T>{jumps, Divider(layout.channels / lanes)}, zeros, target);
  }
  if (layout.count <= INT_MAX) {
    const SmallPlaces places{Divider(layout.inner), Divider(layout.channels)};
    return launch_with(x, ChannelJump<T, SmallPlaces, uint32_t>{jumps, places}, zeros, target);
  }
  const LargePlaces places{{layout.inner}, {layout.channels}};
  return launch_with(x, LargeChannelJump<T>{jumps, places}, zeros, target);
}

template <class T>
const T* elements(const void* data) {
  return static_cast<const T*>(data);
}

template <class T>
cudaError_t launch_floats(const Inputs& inputs, const Layout& layout, Target<T> target) {
  const T *const x = elements<T>(inputs.x), *const jumps = elements<T>(inputs.jump);
  if (!inputs.addend) return launch_jumps(OneInput<T>{x}, jumps, PlainZero<T>{}, layout, target);
  return launch_jumps(Sum<T>{x, elements<T>(inputs.addend)}, jumps, PlainZero<T>{}, layout, target);
}

template <class T>
cudaError_t launch_integers(const Inputs& inputs, const Layout& layout, Target<T> target) {
  const OneInput<T> q{elements<T>(inputs.x)};
  const T *const thresholds = elements<T>(inputs.jump), *const zeros = elements<T>(inputs.zero_point);
  if (!layout.zero_each) return launch_jumps(q, thresholds, OneJump<T>{zeros}, layout, target);
  const LargePlaces places{{layout.inner}, {layout.channels}};  // rare, so that one kernel does
  return launch_with(q, LargeChannelJump<T>{thresholds, places}, LargeChannelJump<T>{zeros, places}, target);
}

template <class T>
cudaError_t launch_typed(const Inputs& inputs, void* y, const Layout& layout, cudaStream_t stream) {
  const Target<T> target{static_cast<T*>(y), split_of<T>(inputs.x, inputs.addend, y, layout.count), stream};
  if constexpr (std::is_integral_v<T>) {
    return launch_integers(inputs, layout, target);
  } else {
    return launch_floats(inputs, layout, target);
  }
}

}  // namespace

int launch(ort::ElementType type, const Inputs& inputs, void* y, const Layout& layout, void* stream_handle) {
  const auto stream = static_cast<cudaStream_t>(stream_handle);
  if (layout.count == 0) return cudaSuccess;
  switch (type) {
    case ort::ElementType::float32:
      return launch_typed<float>(inputs, y, layout, stream);
    case ort::ElementType::float64:
      return launch_typed<double>(inputs, y, layout, stream);
    case ort::ElementType::float16:
      return launch_typed<__half>(inputs, y, layout, stream);
    case ort::ElementType::bfloat16:
      return launch_typed<__nv_bfloat16>(inputs, y, layout, stream);
    case ort::ElementType::uint8:
      return launch_typed<uint8_t>(inputs, y, layout, stream);
    case ort::ElementType::int8:
      return launch_typed<int8_t>(inputs, y, layout, stream);
    case ort::ElementType::uint16:
      return launch_typed<uint16_t>(inputs, y, layout, stream);
    case ort::ElementType::int16:
      return launch_typed<int16_t>(inputs, y, layout, stream);
  }
  return cudaErrorInvalidValue;
}

const char* error_text(int error) {
  return cudaGetErrorString(static_cast<cudaError_t>(error));
}

}  // namespace jr::cuda
