// Vectors of elements, and the ways in which a CUDA kernel reads the jumps that lie over X (layout.h).
#pragma once

#include <cstdint>

namespace jr::cuda {

constexpr int kVectorBytes = 16;

template <class T>
struct alignas(kVectorBytes) Pack {
  static constexpr int lanes = kVectorBytes / sizeof(T);
  T lane[lanes];
  __device__ void set(int i, T value) { lane[i] = value; }
};

// Bytes in words: nvcc takes an array of bytes apart and puts it together again, at every step. Each lane of
// a pack of zeros is set once.
template <class T>
struct alignas(kVectorBytes) BytePack {
  static constexpr int lanes = kVectorBytes;
  unsigned word[lanes / 4];
  __device__ void set(int i, T value) { word[i / 4] |= unsigned{static_cast<uint8_t>(value)} << i % 4 * 8; }
};
template <>
struct Pack<uint8_t> : BytePack<uint8_t> {};
template <>
struct Pack<int8_t> : BytePack<int8_t> {};

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

// Each kind of jumps gives the jump of one element, and the jumps of a vector that starts at an element. Zero
// points are read in the same ways.

template <class T>
__device__ Pack<T> all_lanes(T jump) {
  Pack<T> same{};
#pragma unroll
  for (int i = 0; i < Pack<T>::lanes; ++i) same.set(i, jump);
  return same;
}

template <class T>
struct PlainZero {
  __device__ T one(int64_t) const { return T{}; }
  __device__ Pack<T> pack(int64_t) const { return all_lanes(T{}); }
};

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
    Pack<T> each{};
#pragma unroll
    for (int i = 0; i < Pack<T>::lanes; ++i) {
      each.set(i, jumps[channel]);
      if (++place == places.inner.by) {
        place = 0;
        if (++channel == places.channels.by) channel = 0;
      }
    }
    return each;
  }
};

}  // namespace jr::cuda
