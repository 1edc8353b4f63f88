// 16-bit floats from their definitions: a value is a double, and a double is rounded once, to nearest even.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>

namespace emulated {

// `exponent_bits` and `mantissa_bits` of IEEE 754 with subnormals, infinities and NaN.
template <int exponent_bits, int mantissa_bits>
struct Float16 {
  static constexpr int bias = (1 << (exponent_bits - 1)) - 1, top = (1 << exponent_bits) - 1;

  static double value(unsigned short bits) {
    const double sign = bits >> 15 ? -1.0 : 1.0;
    const int exponent = (bits >> mantissa_bits) & top, mantissa = bits & ((1 << mantissa_bits) - 1);
    if (exponent == top) return mantissa ? std::nan("") : sign * INFINITY;
    if (exponent == 0) return sign * std::ldexp(double(mantissa), 1 - bias - mantissa_bits);
    return sign * std::ldexp(double(mantissa + (1 << mantissa_bits)), exponent - bias - mantissa_bits);
  }

  static unsigned short rounded(double value) {
    const unsigned short sign = std::signbit(value) ? 0x8000 : 0;
    const unsigned infinity = unsigned(top) << mantissa_bits;
    if (std::isnan(value)) return 0x7fff;
    value = std::fabs(value);
    if (std::isinf(value)) return sign | infinity;
    if (value == 0) return sign;
    int exponent;
    std::frexp(value, &exponent);  // value = f * 2^exponent, 0.5 <= f < 1
    if (exponent - 1 < 1 - bias) exponent = 2 - bias;
    const double scaled = std::nearbyint(std::ldexp(value, mantissa_bits + 1 - exponent));
    // What is rounded up to the next power of two carries into the exponent, and at the top into infinity.
    const double pattern = scaled + double((exponent - 2 + bias)) * (1 << mantissa_bits);
    return sign | (pattern >= infinity ? infinity : unsigned(pattern));
  }
};

}  // namespace emulated

#define JR_EMULATE_16(TYPE, PAIR, FORMAT, FROM_BITS)                                \
  struct alignas(2) TYPE {                                                          \
    unsigned short bits;                                                            \
  };                                                                                \
  struct alignas(4) PAIR {                                                          \
    TYPE x, y;                                                                      \
  };                                                                                \
  inline TYPE FROM_BITS(unsigned short bits) {                                      \
    return {bits};                                                                  \
  }                                                                                 \
  inline bool __hle(TYPE a, TYPE b) {                                               \
    return FORMAT::value(a.bits) <= FORMAT::value(b.bits);                          \
  }                                                                                 \
  inline unsigned __hle2_mask(PAIR a, PAIR b) {                                     \
    return (__hle(a.x, b.x) ? 0xffffu : 0u) | (__hle(a.y, b.y) ? 0xffff0000u : 0u); \
  }                                                                                 \
  inline TYPE __hadd(TYPE a, TYPE b) {                                              \
    return {FORMAT::rounded(FORMAT::value(a.bits) + FORMAT::value(b.bits))};        \
  }
