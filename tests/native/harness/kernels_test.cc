// Every variant that this machine can run, called directly.
#include <cstring>
#include <limits>
#include <thread>
#include <vector>

#include "check.h"
#include "cpu_kernels.h"
#include "values.h"

namespace {

using jr::Layout;

// A small generator of bits: the same on every machine.
struct Random {
  uint64_t state = 88172645463325252u;
  uint64_t operator()() {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
  }
};

// Random bits, with every fourth value an edge: zeros, infinities, NaNs and the neighbours of a jump.
template <class Bits>
std::vector<Bits> mixed(const Format<Bits>& format, int64_t count, Bits jump) {
  const Bits sign = static_cast<Bits>(Bits{1} << (format.exponent_bits + format.fraction_bits));
  const Bits infinity = static_cast<Bits>(((Bits{1} << format.exponent_bits) - 1) << format.fraction_bits);
  const Bits edges[] = {0,
                        sign,
                        1,
                        static_cast<Bits>(sign | 1),
                        infinity,
                        static_cast<Bits>(sign | infinity),
                        static_cast<Bits>(infinity | 1),
                        static_cast<Bits>(sign | infinity | 1),
                        jump,
                        static_cast<Bits>(jump + 1),
                        static_cast<Bits>(jump - 1)};
  Random random;
  std::vector<Bits> values(static_cast<std::size_t>(count));
  for (auto& value : values) {
    const uint64_t bits = random();
    value = bits % 4 ? static_cast<Bits>(bits >> 3) : edges[(bits >> 3) % (sizeof edges / sizeof *edges)];
  }
  return values;
}

// The kernel over [begin, end), in place or not, against the definition; elements outside must stay
// untouched.
template <class Bits>
void compare(const Format<Bits>& format, const jr::cpu::Variant& variant, const std::vector<Bits>& x,
             const std::vector<Bits>& jump, const Layout& layout, int64_t begin, int64_t end, bool in_place) {
  std::vector<Bits> y = in_place ? x : std::vector<Bits>(x.size(), 0x5A);
  const std::vector<Bits> before = y;
  const jr::Inputs inputs{in_place ? y.data() : x.data(), nullptr, jump.data(), nullptr};
  variant.kernel(format.type)(inputs, y.data(), layout, begin, end);
  for (int64_t i = 0; i < layout.count; ++i) {
    const Bits limit = jump[static_cast<std::size_t>(i / layout.inner % layout.channels)];
    const bool inside = begin <= i && i < end;
    const Bits wanted = inside ? format.expected(x[i], limit) : before[i];
    CHECK(inside ? format.same(y[i], wanted) : y[i] == wanted,
          "%s, type %d, element %lld of %lld, range %lld to %lld, inner %lld, channels %lld, in place %d: x "
          "%llx, "
          "jump %llx, y %llx",
          variant.name, static_cast<int>(format.type), static_cast<long long>(i),
          static_cast<long long>(layout.count), static_cast<long long>(begin), static_cast<long long>(end),
          static_cast<long long>(layout.inner), static_cast<long long>(layout.channels), in_place,
          static_cast<unsigned long long>(x[i]), static_cast<unsigned long long>(limit),
          static_cast<unsigned long long>(y[i]));
  }
}

void test_every_pattern(const Format<uint16_t>& format, const jr::cpu::Variant& variant) {
  std::vector<uint16_t> x(65536);
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = static_cast<uint16_t>(i);
  for (uint32_t jump = 0; jump < 65536; jump += 997) {
    compare(format, variant, x, {static_cast<uint16_t>(jump)}, {65536, 1, 1}, 0, 65536, false);
  }
  for (uint16_t jump : {0x0000, 0x8000, 0x0001, 0x8001, 0x3800, 0x7C00, 0xFC00, 0x7C01, 0xFC01, 0x7F80,
                        0xFF80, 0x7F81, 0xFF81, 0x7FFF, 0xFFFF}) {
    compare(format, variant, x, {jump}, {65536, 1, 1}, 0, 65536, true);
  }
}

template <class Bits>
void test_sizes(const Format<Bits>& format, const jr::cpu::Variant& variant, Bits jump) {
  for (int64_t count : {0, 1, 2, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 129, 1000}) {
    const std::vector<Bits> x = mixed(format, count, jump);
    for (const bool in_place : {false, true}) {
      compare(format, variant, x, {jump}, {count, 1, 1}, 0, count, in_place);
      compare(format, variant, x, {jump}, {count, 1, 1}, count / 3, count - count / 4, in_place);
    }
  }
}

const Layout kLayouts[] = {{60, 5, 1},
                           {60, 5, 4},
                           {1 * 3 * 1, 3, 1},
                           {2 * 3 * 49, 3, 49},
                           {2 * 64 * 7, 64, 7},
                           {4 * 100, 100, 1},
                           {3 * 33 * 65, 33, 65},
                           {1200, 2, 600},
                           {4 * 5 * 200, 5, 200},
                           {5 * 700, 700, 1},
                           {2 * 9 * 31, 9, 31},
                           {40 * 96, 96, 1},
                           {70 * 24, 24, 1},
                           {3 * 5 * 1100, 5, 1100}};

template <class Bits>
void test_channels(const Format<Bits>& format, const jr::cpu::Variant& variant, Bits jump) {
  for (const Layout& layout : kLayouts) {
    const std::vector<Bits> x = mixed(format, layout.count, jump);
    const std::vector<Bits> jumps = mixed(format, layout.channels, jump);
    for (const bool in_place : {false, true}) {
      compare(format, variant, x, jumps, layout, 0, layout.count, in_place);
      for (int64_t begin = 1; begin < layout.count; begin += 1 + layout.count / 7) {
        compare(format, variant, x, jumps, layout, begin, layout.count - begin / 5, in_place);
      }
    }
  }
}

// The sum that a machine makes of two values, given as bits.
template <class Value, class Bits>
Bits sum_of(Bits a, Bits b) {
  static_assert(sizeof(Value) == sizeof(Bits));
  Value left, right;
  std::memcpy(&left, &a, sizeof left);
  std::memcpy(&right, &b, sizeof right);
  const Value sum = left + right;
  Bits bits;
  std::memcpy(&bits, &sum, sizeof bits);
  return bits;
}

// The kernel of the fused op over [begin, end), in place or not, against Add and then the definition.
template <class Value, class Bits>
void test_sums(const Format<Bits>& format, const jr::cpu::Variant& variant, Bits jump) {
  const Layout layouts[] = {{0, 1, 1}, {1, 1, 1}, {17, 1, 1}, {1000, 1, 1}, {60, 5, 4}, {2 * 3 * 49, 3, 49}};
  for (const Layout& layout : layouts) {
    const std::vector<Bits> jumps = mixed(format, layout.channels, jump);
    const std::vector<Bits> a = mixed(format, layout.count, jump);
    std::vector<Bits> b = mixed(format, layout.count + 3, jump);
    b.erase(b.begin(), b.begin() + 3);  // other values beside each other than in a, and no alignment
    for (const bool in_place : {false, true}) {
      const int64_t begin = layout.count / 3, end = layout.count - layout.count / 4;
      std::vector<Bits> y = in_place ? a : std::vector<Bits>(a.size(), 0x5A);
      const std::vector<Bits> before = y;
      const jr::Inputs inputs{in_place ? y.data() : a.data(), b.data(), jumps.data(), nullptr};
      variant.add_kernel(format.type)(inputs, y.data(), layout, begin, end);
      for (int64_t i = 0; i < layout.count; ++i) {
        const Bits limit = jumps[static_cast<std::size_t>(i / layout.inner % layout.channels)];
        const bool inside = begin <= i && i < end;
        const Bits wanted = inside ? format.expected(sum_of<Value>(a[i], b[i]), limit) : before[i];
        CHECK(inside ? format.same(y[i], wanted) : y[i] == wanted, "%s, sum, element %lld of %lld",
              variant.name, static_cast<long long>(i), static_cast<long long>(layout.count));
      }
    }
  }
}

template <class T>
struct Integers {
  jr::ort::ElementType type;
  const jr::cpu::Variant& variant;

  // The kernel over [begin, end), in place or not, against the definition.
  void compare(const std::vector<T>& q, const std::vector<T>& threshold, const std::vector<T>& zero_point,
               const Layout& layout, int64_t begin, int64_t end, bool in_place) const {
    std::vector<T> y = in_place ? q : std::vector<T>(q.size(), 0x5A);
    const std::vector<T> before = y;
    const jr::Inputs inputs{in_place ? y.data() : q.data(), nullptr, threshold.data(), zero_point.data()};
    variant.kernel(type)(inputs, y.data(), layout, begin, end);
    for (int64_t i = 0; i < layout.count; ++i) {
      const auto channel = static_cast<std::size_t>(i / layout.inner % layout.channels);
      const int zero = zero_point[layout.zero_each ? channel : 0];
      const int expected = int{q[i]} <= int{threshold[channel]} ? zero : int{q[i]};
      CHECK(y[i] == (begin <= i && i < end ? expected : int{before[i]}),
            "%s, type %d, element %lld of %lld, range %lld to %lld, inner %lld, channels %lld, in place %d: "
            "q %d, "
            "threshold %d, zero point %d, y %d",
            variant.name, static_cast<int>(type), static_cast<long long>(i),
            static_cast<long long>(layout.count), static_cast<long long>(begin), static_cast<long long>(end),
            static_cast<long long>(layout.inner), static_cast<long long>(layout.channels), in_place,
            int{q[i]}, int{threshold[channel]}, zero, int{y[i]});
    }
  }

  // All values, with all thresholds and zero points in steps of `step`.
  void every_value(int step) const {
    constexpr int lowest = std::numeric_limits<T>::min(), highest = std::numeric_limits<T>::max();
    std::vector<T> q;
    for (int value = lowest; value <= highest; ++value) q.push_back(static_cast<T>(value));
    const int64_t count = highest - lowest + 1;
    for (int threshold = lowest; threshold <= highest; threshold += step) {
      for (int zero = lowest; zero <= highest; zero += step) {
        const bool in_place = (threshold ^ zero) & 1;
        compare(q, {static_cast<T>(threshold)}, {static_cast<T>(zero)}, {count, 1, 1}, 0, count, in_place);
      }
    }
  }

  void sizes_and_channels() const {
    Random random;
    const auto values = [&](int64_t count) {
      std::vector<T> made(static_cast<std::size_t>(count));
      for (auto& value : made) value = static_cast<T>(random());
      return made;
    };
    for (const bool in_place : {false, true}) {
      for (int64_t count = 0; count < 600; count += 1 + count / 130) {
        compare(values(count), values(1), values(1), {count, 1, 1}, count / 3, count - count / 4, in_place);
      }
      for (Layout layout : kLayouts) {
        for (const bool zero_each : {false, true}) {
          layout.zero_each = zero_each;
          for (int64_t begin = 0; begin < layout.count; begin += 1 + layout.count / 7) {
            compare(values(layout.count), values(layout.channels), values(layout.channels), layout, begin,
                    layout.count - begin / 5, in_place);
          }
        }
      }
    }
  }
};

template <class T>
void test_integers(jr::ort::ElementType type, const jr::cpu::Variant& variant, int step) {
  const Integers<T> integers{type, variant};
  integers.every_value(step);
  integers.sizes_and_channels();
}

// Whether the upper halves of the AVX registers are zero, as SSE code wants them. Called right behind a
// kernel.
bool upper_halves_are_zero() {
  alignas(16) unsigned char halves[16][16] = {};
#ifdef __x86_64__
  if (!__builtin_cpu_supports("avx")) return true;
#define JR_STORE(n) "vextractf128 $1, %%ymm" #n ", 16*" #n "(%0)\n"
  asm volatile(JR_STORE(0) JR_STORE(1) JR_STORE(2) JR_STORE(3) JR_STORE(4) JR_STORE(5) JR_STORE(6) JR_STORE(7)
                   JR_STORE(8) JR_STORE(9) JR_STORE(10) JR_STORE(11) JR_STORE(12) JR_STORE(13) JR_STORE(14)
                       JR_STORE(15)
               :
               : "r"(halves)
               : "memory");
#endif
  for (const auto& half : halves) {
    for (const unsigned char byte : half) {
      if (byte) return false;
    }
  }
  return true;
}

void test_registers(const jr::cpu::Variant& variant) {
  const Layout layouts[] = {{4096, 1, 1}, {4096, 4, 1024}, {4096, 1024, 1}, {4096, 64, 7}, {3, 1, 1}};
  std::vector<uint64_t> x(4096, 0x4141414141414141), parameters(1024, 0x4040404040404040);
  const jr::Inputs inputs{x.data(), x.data(), parameters.data(), parameters.data()};
  const jr::cpu::Kernel kernels[] = {
      variant.float32, variant.float64, variant.float16, variant.bfloat16,    variant.uint8,
      variant.int8,    variant.uint16,  variant.int16,   variant.add_float32, variant.add_float64};
  for (const Layout& layout : layouts) {
    for (const jr::cpu::Kernel& kernel : kernels) {
      kernel(inputs, x.data(), layout, 0, layout.count);
      const bool clear = upper_halves_are_zero();
      CHECK(clear, "%s, kernel %td, inner %lld, channels %lld", variant.name, &kernel - kernels,
            static_cast<long long>(layout.inner), static_cast<long long>(layout.channels));
    }
  }
}

// Threads side by side on one buffer, each with its own range: no element is written by two.
void test_threads(const jr::cpu::Variant& variant) {
  const int64_t count = 100'003;
  const std::vector<uint32_t> x = mixed(kFloat32, count, 0x3F000000u);
  std::vector<uint32_t> y = x;
  const uint32_t jump = 0x3F000000u;
  const Layout layout{count, 1, 1};
  const jr::Inputs inputs{y.data(), nullptr, &jump, nullptr};
  std::vector<std::thread> threads;
  for (int64_t t = 0; t < 8; ++t) {
    threads.emplace_back(
        [&, t] { variant.float32(inputs, y.data(), layout, count * t / 8, count * (t + 1) / 8); });
  }
  for (auto& thread : threads) thread.join();
  for (int64_t i = 0; i < count; ++i) {
    CHECK(kFloat32.same(y[i], kFloat32.expected(x[i], jump)), "element %lld", static_cast<long long>(i));
  }
}

}  // namespace

void test_kernels() {
  const jr::cpu::Variants variants = jr::cpu::usable_variants();
  CHECK(variants.count >= 1, "no variant for this machine");
  for (std::size_t i = 0; i < variants.count; ++i) {
    const jr::cpu::Variant& variant = *variants.items[i];
    test_every_pattern(kFloat16, variant);
    test_every_pattern(kBFloat16, variant);
    for (const uint32_t jump : {0x3F000000u, 0u, 0x80000000u, 0xBF000000u, 0x7F800000u, 0x7FC00000u, 1u}) {
      test_sizes(kFloat32, variant, jump);
      test_channels(kFloat32, variant, jump);
    }
    test_sizes(kFloat64, variant, uint64_t{0x3FE0000000000000});
    test_channels(kFloat64, variant, uint64_t{0x3FE0000000000000});
    test_sizes(kFloat16, variant, uint16_t{0x3800});
    test_channels(kFloat16, variant, uint16_t{0x3800});
    test_sizes(kBFloat16, variant, uint16_t{0x3F00});
    test_channels(kBFloat16, variant, uint16_t{0x3F00});
    for (const uint32_t jump : {0x3F000000u, 0u, 0xBF000000u}) test_sums<float>(kFloat32, variant, jump);
    test_sums<double>(kFloat64, variant, uint64_t{0x3FE0000000000000});
    test_integers<uint8_t>(jr::ort::ElementType::uint8, variant, 1);
    test_integers<int8_t>(jr::ort::ElementType::int8, variant, 1);
    test_integers<uint16_t>(jr::ort::ElementType::uint16, variant, 4369);
    test_integers<int16_t>(jr::ort::ElementType::int16, variant, 4369);
    test_registers(variant);
    test_threads(variant);
    std::printf("kernels: %s\n", variant.name);
  }
}
