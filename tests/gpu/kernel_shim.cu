// The CUDA kernels with a C function in front, so that a test can call them with no onnxruntime.
#include KERNELS

extern "C" int jump_relu(int type, const jr::Inputs* inputs, void* y, long long count, long long channels,
                         long long inner, bool zero_each, void* stream) {
  return jr::cuda::launch(static_cast<jr::ort::ElementType>(type), *inputs, y,
                          {count, channels, inner, zero_each}, stream);
}

extern "C" const char* error_text(int error) {
  return jr::cuda::error_text(error);
}
