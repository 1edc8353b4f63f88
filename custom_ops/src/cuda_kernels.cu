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
#include <cstdio>
#include <cstring>

#include "cuda_kernels.h"

namespace jr::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kVectorBytes = 16;

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
#pragma unroll
  for (int i = 0; i < Pack<T>::lanes; i += 2) {
    Pair value, limit;
    unsigned bits;
    memcpy(&value, x.lane + i, sizeof value);
    memcpy(&limit, jump.lane + i, sizeof limit);
    memcpy(&bits, x.lane + i, sizeof bits);
    bits &= ~__hle2_mask(value, limit);
    memcpy(x.lane + i, &bits, sizeof bits);
  }
}
__device__ void zero(Pack<__half>& x, const Pack<__half>& jump) {
  zero_pairs<__half2>(x, jump);
}
__device__ void zero(Pack<__nv_bfloat16>& x, const Pack<__nv_bfloat16>& jump) {
  zero_pairs<__nv_bfloat162>(x, jump);
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

// n / by for n < 2^31 by one multiplication (Granlund and Montgomery, PLDI 1994): a division takes some
// twenty instructions.
struct Divider {
  uint32_t by, factor, shift;
  explicit Divider(int64_t divisor) : by(static_cast<uint32_t>(divisor)), factor(0), shift(0) {
    while ((uint64_t{1} << shift) < by) ++shift;
    factor = static_cast<uint32_t>((((uint64_t{1} << shift) - by) << 32) / by + 1);
  }
  __device__ uint32_t quotient(uint32_t n) const { return (__umulhi(n, factor) + n) >> shift; }
  __device__ uint32_t remainder(uint32_t n) const { return n - quotient(n) * by; }
};

// Each kind of jumps gives the jump of one element, and the jumps of a vector that starts at an element.

template <class T>
__device__ Pack<T> all_lanes(T jump) {
  Pack<T> same;
#pragma unroll
  for (int i = 0; i < Pack<T>::lanes; ++i) same.lane[i] = jump;
  return same;
}

// One jump for all of X.
template <class T>
struct OneJump {
  const T* jumps;
  __device__ T one(int64_t) const { return jumps[0]; }
  __device__ Pack<T> pack(int64_t) const { return all_lanes(jumps[0]); }
};

// One jump for each whole vector: `inner` is a multiple of a vector (NCHW).
template <class T>
struct RowJump {
  const T* jumps;
  Divider vectors, channels;  // vectors a row
  __device__ T one(int64_t element) const {
    return jumps[channels.remainder(vectors.quotient(static_cast<uint32_t>(element / Pack<T>::lanes)))];
  }
  __device__ Pack<T> pack(int64_t first) const { return all_lanes(one(first)); }
};

// A vector of jumps for each vector: `inner` is 1 (NHWC), `channels` and the jumps' address are multiples of
// a vector.
template <class T>
struct LastAxisJump {
  const T* jumps;
  Divider vectors;  // vectors of jumps
  __device__ T one(int64_t element) const {
    constexpr int lanes = Pack<T>::lanes;
    return jumps[vectors.remainder(static_cast<uint32_t>(element / lanes)) * lanes + element % lanes];
  }
  __device__ Pack<T> pack(int64_t first) const {
    return reinterpret_cast<const Pack<T>*>(
        jumps)[vectors.remainder(static_cast<uint32_t>(first / Pack<T>::lanes))];
  }
};

// A row and where in it, for any layout. A count below 2^31 needs no division.
struct SmallPlaces {
  Divider inner, channels;
  __device__ void of(int64_t element, uint32_t* place, uint32_t* channel) const {
    const uint32_t i = static_cast<uint32_t>(element), row = inner.quotient(i);
    *place = i - row * inner.by;
    *channel = channels.remainder(row);
  }
};
struct LargePlaces {
  struct {
    int64_t by;
  } inner, channels;
  __device__ void of(int64_t element, int64_t* place, int64_t* channel) const {
    const int64_t row = element / inner.by;
    *place = element - row * inner.by;
    *channel = row % channels.by;
  }
};

// One jump a channel, however a vector lies over the rows.
template <class T, class Places, class Index>
struct ChannelJump {
  const T* jumps;
  Places places;
  __device__ T one(int64_t element) const {
    Index place, channel;
    places.of(element, &place, &channel);
    return jumps[channel];
  }
  __device__ Pack<T> pack(int64_t first) const {
    Index place, channel;
    places.of(first, &place, &channel);
    Pack<T> each;
#pragma unroll
    for (int i = 0; i < Pack<T>::lanes; ++i) {
      each.lane[i] = jumps[channel];
      if (++place == places.inner.by) {
        place = 0;
        if (++channel == places.channels.by) channel = 0;
      }
    }
    return each;
  }
};

// How a tensor splits into single elements (head), whole vectors, and single elements again.
struct Split {
  int64_t count, head, vectors;
};

template <class T, class Input, class Jumps>
__global__ void jump_relu(const Input x, const Jumps jumps, T* y, Split split) {
  Pack<T>* const to = reinterpret_cast<Pack<T>*>(y + split.head);
  const int64_t thread = blockIdx.x * int64_t{kThreads} + threadIdx.x;
  const int64_t threads = gridDim.x * int64_t{kThreads};
#pragma unroll 1  // unrolled, it would start with a division
  for (int64_t v = thread; v < split.vectors; v += threads) {
    const int64_t first = split.head + v * Pack<T>::lanes;
    const typename Input::Loaded loaded = x.load(first);
    const Pack<T> limits = jumps.pack(first);
    Pack<T> values = loaded.value();
    zero(values, limits);
    to[v] = values;
  }
  const int64_t in_vectors = split.vectors * Pack<T>::lanes;
#pragma unroll 1
  for (int64_t s = thread; s < split.count - in_vectors; s += threads) {
    const int64_t element = s < split.head ? s : s + in_vectors;
    y[element] = zeroed(x.one(element), jumps.one(element));
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

template <class T, class Input, class Jumps>
cudaError_t launch_with(Input x, Jumps jumps, Target<T> target) {
  void* arguments[] = {&x, &jumps, &target.y, &target.split};
  return cudaLaunchKernel(jump_relu<T, Input, Jumps>, grid_of(target.split, Pack<T>::lanes), dim3(kThreads),
                          arguments, 0, target.stream);
}

template <class T, class Input>
cudaError_t launch_jumps(Input x, const T* jumps, const Layout& layout, Target<T> target) {
  constexpr int64_t lanes = Pack<T>::lanes;
  const Split& split = target.split;
  if (layout.channels == 1) return launch_with(x, OneJump<T>{jumps}, target);
  const bool whole = split.head == 0 && split.vectors > 0 && split.vectors <= INT_MAX;
  if (whole && layout.inner % lanes == 0) {
    return launch_with(x, RowJump<T>{jumps, Divider(layout.inner / lanes), Divider(layout.channels)}, target);
  }
  if (whole && layout.inner == 1 && layout.channels % lanes == 0 &&
      reinterpret_cast<uintptr_t>(jumps) % kVectorBytes == 0) {
    return launch_with(x, LastAxisJump<T>{jumps, Divider(layout.channels / lanes)}, target);
  }
  if (layout.count <= INT_MAX) {
    const SmallPlaces places{Divider(layout.inner), Divider(layout.channels)};
    return launch_with(x, ChannelJump<T, SmallPlaces, uint32_t>{jumps, places}, target);
  }
  const LargePlaces places{{layout.inner}, {layout.channels}};
  return launch_with(x, ChannelJump<T, LargePlaces, int64_t>{jumps, places}, target);
}

template <class T>
cudaError_t launch_typed(const void* x, const void* addend, const void* jump, void* y, const Layout& layout,
                         cudaStream_t stream) {
  const Target<T> target{static_cast<T*>(y), split_of<T>(x, addend, y, layout.count), stream};
  const T* const a = static_cast<const T*>(x);
  const T* const jumps = static_cast<const T*>(jump);
  if (!addend) return launch_jumps(OneInput<T>{a}, jumps, layout, target);
  return launch_jumps(Sum<T>{a, static_cast<const T*>(addend)}, jumps, layout, target);
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

// Within one major version of CUDA, an older driver runs what a newer toolkit compiled.
bool driver_is_too_old(char* why, std::size_t size) {
  int driver = 0;
  if (cudaDriverGetVersion(&driver) != cudaSuccess || driver == 0) return false;
  if (driver / 1000 >= CUDART_VERSION / 1000) return false;
  std::snprintf(
      why, size,
      "the NVIDIA driver runs CUDA up to %d.%d, and the CUDA kernels were built with %d.%d; update the "
      "driver, or install jr-onnx built with an older CUDA",
      driver / 1000, driver % 1000 / 10, CUDART_VERSION / 1000, CUDART_VERSION % 1000 / 10);
  return true;
}

bool device_runs_kernels(char* why, std::size_t size) {
  cudaFuncAttributes attributes;
  const cudaError_t error =
      cudaFuncGetAttributes(&attributes, jump_relu<float, OneInput<float>, OneJump<float>>);
  if (error == cudaSuccess) return true;
  cudaGetLastError();  // so that nobody else finds it
  std::snprintf(
      why, size,
      "this GPU cannot run the CUDA kernels (CUDA error %d: %s); build jr-onnx for it, with CUDAARCHS, or "
      "run the model without the kernels",
      static_cast<int>(error), cudaGetErrorString(error));
  return false;
}

void problem_on(int device, char* why, std::size_t size) {
  *why = '\0';
  int before = 0;
  if (driver_is_too_old(why, size) || cudaGetDevice(&before) != cudaSuccess) return;
  if (cudaSetDevice(device) == cudaSuccess) device_runs_kernels(why, size);
  cudaSetDevice(before);
  cudaGetLastError();
}

}  // namespace jr::cuda
