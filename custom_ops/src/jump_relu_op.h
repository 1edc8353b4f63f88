// jr_onnx::JumpReLU, AddJumpReLU and QuantizedJumpReLU as onnxruntime sees them: one OrtCustomOp for each
// element type and provider.
#pragma once

#include "cpu_kernels.h"
#include "ort_abi.h"

namespace jr {

enum class Kind {
  jump_relu,            // JumpReLU(X, jump)
  add_jump_relu,        // AddJumpReLU(A, B, jump)
  quantized_jump_relu,  // QuantizedJumpReLU(Q, threshold, zero_point)
};

// onnxruntime hands back the pointer to `base` that it was given, so what a callback needs to know stands
// behind it. An op never changes once it is registered, and keeps nothing from one call to the next.
struct JumpReluOp {
  ort::CustomOp base;
  const ort::Api* api;
  uint32_t api_version;
  ort::ElementType type;
  Kind kind;
  cpu::Kernel cpu_kernel;  // null: on CUDA
};

// Versions of onnxruntime's C API. Below the first there is no ParallelFor and no shape inference; nothing
// that came after the last is used here. OrtCustomOp has not grown since kNewestOp.
inline constexpr uint32_t kOldestApi = 17;
inline constexpr uint32_t kNewestOp = 18;
inline constexpr uint32_t kNewestApi = 24;

// With no `cpu_kernel` where there is none for this type.
JumpReluOp make_cpu_op(const ort::Api* api, uint32_t api_version, ort::ElementType type, Kind kind);
#ifdef JR_CUDA
JumpReluOp make_cuda_op(const ort::Api* api, uint32_t api_version, ort::ElementType type, Kind kind);
#endif

}  // namespace jr
