// The CUDA kernels behind plain C++ types, so that only cuda_kernels.cu needs nvcc.
#pragma once

#include "layout.h"
#include "ort_abi.h"

namespace jr::cuda {

// Puts JumpReLU of X on `stream` (a cudaStream_t), of X + `addend` where that is not null, and
// QuantizedJumpReLU for an integer type: no allocation, no synchronisation, so a CUDA graph can capture it.
// The pointers are device pointers; `y` is `x` or overlaps nothing. Returns a cudaError_t; 0 is success.
int launch(ort::ElementType type, const Inputs& inputs, void* y, const Layout& layout, void* stream);

const char* error_text(int error);

}  // namespace jr::cuda
