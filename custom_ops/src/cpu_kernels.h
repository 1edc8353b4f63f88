// The CPU kernels: one source (cpu_kernels.cc), compiled once for each instruction set, chosen when the
// library runs.
#pragma once

#include <cstddef>
#include <cstdint>

#include "layout.h"
#include "ort_abi.h"

namespace jr::cpu {

// Writes elements begin to end of Y; `y` is `x` or does not overlap it.
using Kernel = void (*)(const void* x, const void* jump, void* y, const Layout& layout, int64_t begin,
                        int64_t end);

// The same of A + B; `y` is `a` or overlaps neither.
using AddKernel = void (*)(const void* a, const void* b, const void* jump, void* y, const Layout& layout,
                           int64_t begin, int64_t end);

struct Variant {
  const char* name;
  Kernel float32, float64, float16, bfloat16;
  AddKernel add_float32, add_float64;

  Kernel kernel(ort::ElementType type) const;
  // Null for the 16-bit types: their sums would need conversions, and onnxruntime has no such Add on the CPU.
  AddKernel add_kernel(ort::ElementType type) const;
};

// The variants that this machine can run, the fastest first; at least one.
struct Variants {
  const Variant* items[3];
  std::size_t count;
};
Variants usable_variants();

}  // namespace jr::cpu
