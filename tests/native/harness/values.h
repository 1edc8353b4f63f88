// The definition of JumpReLU once more, for one element at a time and by way of double, which holds every
// value of every type: nothing is shared with the kernels.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>

#include "ort_abi.h"

template <class Bits>
struct Format {
  jr::ort::ElementType type;
  int exponent_bits, fraction_bits;

  double value(Bits bits) const {
    const int bias = (1 << (exponent_bits - 1)) - 1;
    const int exponent = static_cast<int>(bits >> fraction_bits) & ((1 << exponent_bits) - 1);
    const Bits mask = static_cast<Bits>((Bits{1} << fraction_bits) - 1);
    const double fraction = std::ldexp(static_cast<double>(bits & mask), -fraction_bits);
    const double sign = bits >> (exponent_bits + fraction_bits) ? -1.0 : 1.0;
    if (exponent == (1 << exponent_bits) - 1) {
      return fraction != 0 ? std::numeric_limits<double>::quiet_NaN()
                           : sign * std::numeric_limits<double>::infinity();
    }
    return sign * std::ldexp(exponent ? 1 + fraction : fraction, (exponent ? exponent : 1) - bias);
  }

  Bits expected(Bits x, Bits jump) const { return value(x) <= value(jump) ? Bits{0} : x; }
  // NaN in, NaN out; which NaN does not matter.
  bool same(Bits got, Bits wanted) const {
    return got == wanted || (std::isnan(value(got)) && std::isnan(value(wanted)));
  }
};

inline constexpr Format<uint32_t> kFloat32{jr::ort::ElementType::float32, 8, 23};
inline constexpr Format<uint64_t> kFloat64{jr::ort::ElementType::float64, 11, 52};
inline constexpr Format<uint16_t> kFloat16{jr::ort::ElementType::float16, 5, 10};
inline constexpr Format<uint16_t> kBFloat16{jr::ort::ElementType::bfloat16, 8, 7};
