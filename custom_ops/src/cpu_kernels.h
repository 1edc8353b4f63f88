// The CPU kernels: one source (cpu_kernels.cc), compiled once for each instruction set, chosen when the
// library runs.
#pragma once

#include <cstddef>
#include <cstdint>

#include "layout.h"
#include "ort_abi.h"

namespace jr::cpu {

// Writes elements begin to end of Y; `y` is `inputs.x` or overlaps no input.
using Kernel = void (*)(const Inputs& inputs, void* y, const Layout& layout, int64_t begin, int64_t end);

struct Variant {
  const char* name;
  Kernel float32, float64, float16, bfloat16;
  Kernel uint8, int8, uint16, int16;
  Kernel add_float32, add_float64;

  // JumpReLU of a float type, QuantizedJumpReLU of an integer type.
  Kernel kernel(ort::ElementType type) const;
  // AddJumpReLU. Null for all but float32 and float64: the sums of 16-bit floats would need conversions, and
  // onnxruntime has no such Add on the CPU.
  Kernel add_kernel(ort::ElementType type) const;
};

// The variants that this machine can run, the fastest first; at least one.
struct Variants {
  const Variant* items[3];
  std::size_t count;
};
Variants usable_variants();

}  // namespace jr::cpu
