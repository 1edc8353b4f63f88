// The CUDA kernels with a C function in front, so that a test can call them with no onnxruntime.
#include KERNELS

extern "C" int jump_relu(int type, const void* x, const void* jump, void* y, long long count,
                         long long channels, long long inner, void* stream) {
  return jr::cuda::launch(static_cast<jr::ort::ElementType>(type), x, nullptr, jump, y,
                          {count, channels, inner}, stream);
}

extern "C" int add_jump_relu(int type, const void* a, const void* b, const void* jump, void* y,
                             long long count, long long channels, long long inner, void* stream) {
  return jr::cuda::launch(static_cast<jr::ort::ElementType>(type), a, b, jump, y, {count, channels, inner},
                          stream);
}

extern "C" const char* error_text(int error) {
  return jr::cuda::error_text(error);
}
