// One instruction set's kernels. CMakeLists.txt compiles this file once a variant, with JR_VARIANT (its name)
// and JR_VECTOR_BYTES (the width of its registers) defined. Nothing here may have external linkage but the
// table at the end, and no inline function of the standard library may be used: the linker keeps one copy of
// such a function, and that copy might hold instructions that the machine does not have.
#include "cpu_kernels.h"

namespace jr::cpu {
namespace {

template <class T>
struct Vector {
  typedef T type __attribute__((vector_size(JR_VECTOR_BYTES)));
  static constexpr int64_t lanes = JR_VECTOR_BYTES / sizeof(T);
};

// float and double: the processor's own comparison, which is false for NaN.
template <class T, class Bits>
struct Native {
  using Element = T;
  using Lanes = typename Vector<T>::type;
  using Mask = typename Vector<Bits>::type;

  // By way of the bits: adding a float to a vector of zeros would lose the sign of -0.
  static Lanes splat(T value) {
    Bits bits;
    __builtin_memcpy(&bits, &value, sizeof bits);
    return reinterpret_cast<Lanes>(Mask{} + bits);
  }

  static Lanes apply(Lanes x, Lanes jump, Lanes) {
    const Mask zeroed = x <= jump;
    return reinterpret_cast<Lanes>(reinterpret_cast<Mask>(x) & ~zeroed);
  }
};

// float16 and bfloat16 by their bits, for processors that cannot compare them. Flipping the lower bits of
// negative values puts the bits of all numbers in the order of their values, with -0 just below +0; NaNs come
// out above +inf and below -inf.
template <int16_t minus_infinity>
struct Half {
  using Element = int16_t;
  using Lanes = typename Vector<int16_t>::type;
  static constexpr int16_t lowest = minus_infinity ^ 0x7FFF;

  static Lanes splat(int16_t value) { return Lanes{} + value; }
  static Lanes ordered(Lanes bits) { return bits ^ ((bits >> 15) & 0x7FFF); }

  static Lanes apply(Lanes x, Lanes jump, Lanes) {
    const Lanes limit = ordered(jump);
    const Lanes place = ordered(x);
    // A NaN in X is above the limit or below the lowest number, and for a NaN as jump everything goes
    // through. So does +0 where the jump is -0: it is a +0 already.
    const Lanes nan_jump = (limit < lowest) | (limit > static_cast<int16_t>(~lowest));
    return x & ((place > limit) | (place < lowest) | nan_jump);
  }
};

// Quantized values: they grow with their integers, which are compared as they are.
template <class T>
struct Quantized {
  using Element = T;
  using Lanes = typename Vector<T>::type;

  static Lanes splat(T value) { return Lanes{} + value; }
  static Lanes apply(Lanes q, Lanes threshold, Lanes zero) { return q <= threshold ? zero : q; }
};

using Float32 = Native<float, int32_t>;
using Float64 = Native<double, int64_t>;
using Float16 = Half<static_cast<int16_t>(0xFC00)>;
using BFloat16 = Half<static_cast<int16_t>(0xFF80)>;

template <class Lanes, class Element>
Lanes load(const Element* from) {
  Lanes lanes;
  __builtin_memcpy(&lanes, from, sizeof lanes);
  return lanes;
}

template <class Lanes, class Element>
void store(Element* to, Lanes lanes) {
  __builtin_memcpy(to, &lanes, sizeof lanes);
}

// What is compared with the jumps: X, or A + B. `many(i)` gives the elements from i on.
template <class Type>
struct OneInput {
  const typename Type::Element* x;
  // A second JumpReLU changes nothing, so an element may be written twice, in place as well.
  static constexpr bool repeatable = true;
  typename Type::Element one(int64_t i) const { return x[i]; }
  typename Type::Lanes many(int64_t i) const { return load<typename Type::Lanes>(x + i); }
  OneInput from(int64_t begin) const { return {x + begin}; }
};

template <class Type>
struct Sum {
  const typename Type::Element *a, *b;
  static constexpr bool repeatable = false;
  typename Type::Element one(int64_t i) const { return a[i] + b[i]; }
  typename Type::Lanes many(int64_t i) const {
    return load<typename Type::Lanes>(a + i) + load<typename Type::Lanes>(b + i);
  }
  Sum from(int64_t begin) const { return {a + begin, b + begin}; }
};

// `jumps.many(i)` gives the jumps of the elements from i on; `zero` is what quantized values up to the
// threshold become. Four vectors are loaded before the first is stored: where Y might be X, the compiler
// would else load each one twice, which costs a tenth of the bandwidth. Where that is right the last vector
// overlaps the one before it.
template <class Type, class Input, class Jumps>
void run(Input x, typename Type::Element* y, int64_t count, Jumps jumps, typename Type::Lanes zero) {
  using Lanes = typename Type::Lanes;
  constexpr int64_t lanes = Vector<typename Type::Element>::lanes;
  int64_t i = 0;
  for (; i <= count - 4 * lanes; i += 4 * lanes) {
    Lanes four[4];
    for (int k = 0; k < 4; ++k) four[k] = x.many(i + k * lanes);
    for (int k = 0; k < 4; ++k) {
      store(y + i + k * lanes, Type::apply(four[k], jumps.many(i + k * lanes), zero));
    }
  }
  for (; i <= count - lanes; i += lanes) store(y + i, Type::apply(x.many(i), jumps.many(i), zero));
  if (Input::repeatable && i < count && count >= lanes) {
    i = count - lanes;
    store(y + i, Type::apply(x.many(i), jumps.many(i), zero));
    return;
  }
  for (; i < count; ++i) y[i] = Type::apply(Type::splat(x.one(i)), Type::splat(jumps.one(i)), zero)[0];
}

template <class Type>
struct SameJump {
  typename Type::Element jump;
  typename Type::Lanes jumps;
  explicit SameJump(typename Type::Element value) : jump(value), jumps(Type::splat(value)) {}
  typename Type::Element one(int64_t) const { return jump; }
  typename Type::Lanes many(int64_t) const { return jumps; }
};

template <class Type>
struct JumpEach {
  const typename Type::Element* jump;
  typename Type::Element one(int64_t i) const { return jump[i]; }
  typename Type::Lanes many(int64_t i) const { return load<typename Type::Lanes>(jump + i); }
};

int64_t smaller(int64_t a, int64_t b) {
  return a < b ? a : b;
}

// Where in a row, and in which channel, an element lies; kept up to date without a division.
struct Walk {
  const Layout& layout;
  int64_t place, channel;
  Walk(const Layout& over, int64_t element)
      : layout(over), place(element % over.inner), channel(element / over.inner % over.channels) {}
  int64_t left() const { return layout.inner - place; }
  // By no more than what is left of the row.
  void advance(int64_t elements) {
    place += elements;
    if (place < layout.inner) return;
    place = 0;
    if (++channel == layout.channels) channel = 0;
  }
};

constexpr int64_t kRoom = 512;  // of the jumps that are laid out

// Short rows: lays the jumps out, one an element, a block at a time; once, where they come again within a
// block. Each row is written in whole vectors; what goes beyond its end is written again by the next row.
template <class Type, class Input>
void run_short_rows(Input x, const typename Type::Element* jump, typename Type::Element* y, Walk walk,
                    int64_t begin, int64_t end, typename Type::Lanes zero) {
  constexpr int64_t lanes = Vector<typename Type::Element>::lanes;
  const int64_t period = walk.layout.inner * walk.layout.channels;
  const int64_t block = period <= kRoom ? kRoom - kRoom % period : kRoom;
  typename Type::Element jumps[kRoom + lanes];
  for (int64_t i = begin, next; i < end; i = next) {
    next = smaller(end, i + block);
    const int64_t fill = i == begin || period > kRoom ? next - i : 0;
    for (int64_t filled = 0, row; filled < fill; filled += row) {
      row = smaller(fill - filled, walk.left());
      const auto same = Type::splat(jump[walk.channel]);
      for (int64_t k = 0; k < row; k += lanes) store(jumps + filled + k, same);
      walk.advance(row);
    }
    run<Type>(x.from(i), y + i, next - i, JumpEach<Type>{jumps}, zero);
  }
}

template <class Type, class Input>
void walk_rows(Input x, const Inputs& inputs, void* y_data, const Layout& layout, int64_t begin,
               int64_t end) {
  using Element = typename Type::Element;
  const Element* const jump = static_cast<const Element*>(inputs.jump);
  const Element* const zeros = static_cast<const Element*>(inputs.zero_point);
  Element* const y = static_cast<Element*>(y_data);
  const auto zero = zeros ? Type::splat(zeros[0]) : typename Type::Lanes{};

  if (layout.channels == 1) {
    return run<Type>(x.from(begin), y + begin, end - begin, SameJump<Type>(jump[0]), zero);
  }
  Walk walk{layout, begin};
  if (layout.inner == 1 && layout.channels > kRoom / 2 && !layout.zero_each) {
    for (int64_t i = begin, next; i < end; i = next, walk.channel = 0) {
      next = smaller(end, i + layout.channels - walk.channel);
      run<Type>(x.from(i), y + i, next - i, JumpEach<Type>{jump + walk.channel}, zero);
    }
    return;
  }
  if (layout.inner >= 8 * Vector<Element>::lanes || layout.zero_each) {
    for (int64_t i = begin, next; i < end; i = next) {
      next = smaller(end, i + walk.left());
      const auto own_zero = layout.zero_each ? Type::splat(zeros[walk.channel]) : zero;
      run<Type>(x.from(i), y + i, next - i, SameJump<Type>(jump[walk.channel]), own_zero);
      walk.advance(next - i);
    }
    return;
  }
  run_short_rows<Type>(x, jump, y, walk, begin, end, zero);
}

// What runs next may be SSE code, which is six times as slow (measured on Zen 5) while the upper halves of
// the registers are in use. GCC clears them before it returns, but not where it ends with the call of a
// function that takes a vector.
void clear_upper_halves() {
#ifdef __AVX__
  __builtin_ia32_vzeroupper();
#endif
}

template <class Type>
void kernel(const Inputs& inputs, void* y, const Layout& layout, int64_t begin, int64_t end) {
  const OneInput<Type> x{static_cast<const typename Type::Element*>(inputs.x)};
  walk_rows<Type>(x, inputs, y, layout, begin, end);
  clear_upper_halves();
}

template <class Type>
void add_kernel(const Inputs& inputs, void* y, const Layout& layout, int64_t begin, int64_t end) {
  using Element = typename Type::Element;
  const Sum<Type> sum{static_cast<const Element*>(inputs.x), static_cast<const Element*>(inputs.addend)};
  walk_rows<Type>(sum, inputs, y, layout, begin, end);
  clear_upper_halves();
}

}  // namespace

#define JR_TEXT_OF(name) #name
#define JR_TEXT(name) JR_TEXT_OF(name)
extern const Variant JR_VARIANT;
const Variant JR_VARIANT = {JR_TEXT(JR_VARIANT),
                            kernel<Float32>,
                            kernel<Float64>,
                            kernel<Float16>,
                            kernel<BFloat16>,
                            kernel<Quantized<uint8_t>>,
                            kernel<Quantized<int8_t>>,
                            kernel<Quantized<uint16_t>>,
                            kernel<Quantized<int16_t>>,
                            add_kernel<Float32>,
                            add_kernel<Float64>};

}  // namespace jr::cpu
