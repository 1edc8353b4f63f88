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

struct Variant {
  const char* name;
  Kernel float32, float64, float16, bfloat16;

  Kernel kernel(ort::ElementType type) const;
};

// The variants that this machine can run, the fastest first; at least one.
struct Variants {
  const Variant* items[3];
  std::size_t count;
};
Variants usable_variants();

}  // namespace jr::cpu
