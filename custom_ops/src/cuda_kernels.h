// The CUDA kernels behind plain C++ types, so that only cuda_kernels.cu needs nvcc.
#pragma once

#include <cstddef>

#include "layout.h"
#include "ort_abi.h"

namespace jr::cuda {

// Puts JumpReLU of X on `stream` (a cudaStream_t), of X + `addend` where that is not null, and
// QuantizedJumpReLU for an integer type: no allocation, no synchronisation, so a CUDA graph can capture it.
// The pointers are device pointers; `y` is `x` or overlaps nothing. Returns a cudaError_t; 0 is success.
int launch(ort::ElementType type, const Inputs& inputs, void* y, const Layout& layout, void* stream);

const char* error_text(int error);

// Whether this machine's driver is too old for the kernels, and then, in `why`, a sentence about it. False
// where there is no driver: nothing runs on CUDA then. It does not initialise CUDA, as a process that forks
// needs.
bool driver_is_too_old(char* why, std::size_t size);

// Whether the current device can run the kernels; if not, `why` is a sentence about it.
bool device_runs_kernels(char* why, std::size_t size);

// Why the kernels cannot run on a device, empty if they can, or if there is no such device.
void problem_on(int device, char* why, std::size_t size);

}  // namespace jr::cuda
