// cuDNN that computes nothing: every plan that onnxruntime builds is found good, and its execution is an
// event.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>

void fake_cuda_event(const char* what);

extern "C" {

std::size_t cudnnGetVersion() {
  return 91900;
}
const char* cudnnGetErrorString(int) {
  return "an error of cuDNN";
}
void cudnnGetLastErrorString(char* message, std::size_t) {
  *message = '\0';
}
int cudnnCreate(void** handle) {
  *handle = std::malloc(1);
  return 0;
}
int cudnnDestroy(void* handle) {
  std::free(handle);
  return 0;
}
int cudnnBackendCreateDescriptor(int, void** descriptor) {
  *descriptor = std::malloc(1);
  return 0;
}
int cudnnBackendDestroyDescriptor(void* descriptor) {
  std::free(descriptor);
  return 0;
}
// One engine, one configuration of it, no notes on it, and 0 for numbers, such as the size of its workspace.
int cudnnBackendGetAttribute(void*, int, int type, int64_t wanted, int64_t* count, void* values) {
  constexpr int kInt64 = 3, kDescriptor = 15;
  if (count) *count = type == kInt64 || type == kDescriptor;
  if (values && wanted == 1 && type != kDescriptor) std::memset(values, 0, type == kInt64 ? 8 : 4);
  return 0;
}
int cudnnBackendExecute(void*, void*, void*) {
  fake_cuda_event("cudnn");
  return 0;
}

}  // extern "C"
