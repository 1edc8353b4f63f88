#include "cpu_kernels.h"

namespace jr::cpu {

extern const Variant baseline;  // 16-byte vectors: SSE2 on x86-64, NEON on aarch64, plain code elsewhere
#ifdef JR_X86_VARIANTS
extern const Variant avx2;
extern const Variant avx512;
#endif

Kernel Variant::kernel(ort::ElementType type) const {
  switch (type) {
    case ort::ElementType::float32:
      return float32;
    case ort::ElementType::float64:
      return float64;
    case ort::ElementType::float16:
      return float16;
    case ort::ElementType::bfloat16:
      return bfloat16;
    case ort::ElementType::uint8:
      return uint8;
    case ort::ElementType::int8:
      return int8;
    case ort::ElementType::uint16:
      return uint16;
    case ort::ElementType::int16:
      return int16;
  }
  return nullptr;
}

Kernel Variant::add_kernel(ort::ElementType type) const {
  if (type == ort::ElementType::float32) return add_float32;
  return type == ort::ElementType::float64 ? add_float64 : nullptr;
}

Variants usable_variants() {
  Variants variants{};
#ifdef JR_X86_VARIANTS
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq")) {
    variants.items[variants.count++] = &avx512;
  }
  if (__builtin_cpu_supports("avx2")) variants.items[variants.count++] = &avx2;
#endif
  variants.items[variants.count++] = &baseline;
  return variants;
}

}  // namespace jr::cpu
