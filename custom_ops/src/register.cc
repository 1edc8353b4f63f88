// RegisterCustomOps, the one symbol that the library exports.
#include <pthread.h>

#include <cstdio>
#include <cstdlib>
#include <iterator>

#include "jump_relu_op.h"

namespace jr {
namespace {

using ort::Api;
using ort::ElementType;
using ort::Status;

constexpr struct {
  Kind kind;
  ElementType types[4];
} kOps[] = {
    {Kind::jump_relu,
     {ElementType::float32, ElementType::float64, ElementType::float16, ElementType::bfloat16}},
    {Kind::add_jump_relu,
     {ElementType::float32, ElementType::float64, ElementType::float16, ElementType::bfloat16}},
    {Kind::quantized_jump_relu,
     {ElementType::uint8, ElementType::int8, ElementType::uint16, ElementType::int16}},
};
constexpr std::size_t kMaxOps = std::size(kOps) * std::size(kOps[0].types) * 2;  // on the CPU and on CUDA

// A domain and its ops must outlive every session that uses them, and onnxruntime does not say when that is.
// So there is one for each copy of onnxruntime in the process, made when it is first needed, shared by all
// its sessions and never changed or freed.
struct Registration {
  const Api* api;
  ort::CustomOpDomain* domain;
  JumpReluOp ops[kMaxOps];
  Registration* next;
};

pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
Registration* registrations = nullptr;

int fill(const Api* api, uint32_t api_version, JumpReluOp* ops) {
  int count = 0;
  for (const auto& op : kOps) {
    for (const ElementType type : op.types) {
      ops[count] = make_cpu_op(api, api_version, type, op.kind);
      if (ops[count].cpu_kernel) ++count;
#ifdef JR_CUDA
      ops[count++] = make_cuda_op(api, api_version, type, op.kind);
#endif
    }
  }
  return count;
}

Status* make_domain(Registration* made, uint32_t api_version) {
  if (Status* status = ort::CreateCustomOpDomain(made->api, "jr_onnx", &made->domain)) return status;
  const int count = fill(made->api, api_version, made->ops);
  for (int i = 0; i < count; ++i) {
    if (Status* status = ort::CustomOpDomain_Add(made->api, made->domain, &made->ops[i].base)) {
      ort::ReleaseCustomOpDomain(made->api, made->domain);
      return status;
    }
  }
  return nullptr;
}

Status* find_or_make(const Api* api, uint32_t api_version, Registration** found) {
  for (*found = registrations; *found; *found = (*found)->next) {
    if ((*found)->api == api) return nullptr;
  }
  auto* const made = static_cast<Registration*>(std::calloc(1, sizeof(Registration)));
  if (!made) return ort::CreateStatus(api, ort::ErrorCode::fail, "jr_onnx: out of memory");
  made->api = api;
  if (Status* status = make_domain(made, api_version)) {
    std::free(made);
    return status;
  }
  made->next = registrations;
  *found = registrations = made;
  return nullptr;
}

// The C API to ask for: "1.21.1" has versions up to 21. 0 where the version is too old or cannot be read.
uint32_t api_version_of(const char* version) {
  unsigned major = 0, minor = 0;
  if (std::sscanf(version, "%u.%u", &major, &minor) != 2 || major == 0) return 0;
  if (major > 1 || minor > kNewestApi) return kNewestApi;
  return minor < kOldestApi ? 0 : minor;
}

Status* refuse_version(const ort::ApiBase* base, const char* version) {
  const Api* const oldest = base->GetApi(1);
  if (!oldest) return nullptr;  // there is nothing to say it with: onnxruntime then reports the op as unknown
  char message[192];
  std::snprintf(
      message, sizeof message,
      "jr_onnx: these kernels need onnxruntime 1.%u or newer, and this is %s; upgrade onnxruntime, or "
      "run the model without the kernels",
      kOldestApi, version);
  return ort::CreateStatus(oldest, ort::ErrorCode::not_implemented, message);
}

}  // namespace
}  // namespace jr

extern "C" __attribute__((visibility("default"))) jr::ort::Status* RegisterCustomOps(
    jr::ort::SessionOptions* options, const jr::ort::ApiBase* base) {
  const char* const version = base->GetVersionString();
  const uint32_t api_version = jr::api_version_of(version);
  const jr::ort::Api* const api = api_version ? base->GetApi(api_version) : nullptr;
  if (!api) return jr::refuse_version(base, version);

  pthread_mutex_lock(&jr::mutex);
  jr::Registration* registration = nullptr;
  jr::ort::Status* const status = jr::find_or_make(api, api_version, &registration);
  pthread_mutex_unlock(&jr::mutex);
  return status ? status : jr::ort::AddCustomOpDomain(api, options, registration->domain);
}
