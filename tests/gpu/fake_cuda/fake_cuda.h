// How the kernels of jr_onnx, compiled for the CPU, get onto the fake CUDA runtime.
#pragma once
#include <functional>

// Runs `work` on a stream, with device memory open; a cudaError_t.
__attribute__((visibility("default"))) int fake_cuda_launch(void* stream, std::function<void()> work);
