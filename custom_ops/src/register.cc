// RegisterCustomOps, and the question whether CUDA kernels can run here: what the library exports.
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <iterator>

#include "jump_relu_op.h"
#ifdef JR_CUDA
#include "cuda_kernels.h"
#endif

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
constexpr std::size_t kMaxOps = std::size(kOps) * std::size(kOps[0].types) * 3;  // CPU, CUDA, its plugin

// A domain and its ops must outlive every session that uses them, and onnxruntime does not say when that is.
// So there is one for each copy of onnxruntime in the process, made when it is first needed, shared by all
// its sessions and never changed or freed.
struct Registration {
  const Api* api;
  ort::CustomOpDomain* domain;
  JumpReluOp ops[kMaxOps];
  Registration* next;
};

std::atomic_flag busy =
    ATOMIC_FLAG_INIT;  // held for microseconds, once a session; a mutex would be the platform's
Registration* registrations = nullptr;

int fill(const Api* api, uint32_t api_version, JumpReluOp* ops) {
  int count = 0;
  for (const auto& op : kOps) {
    for (const ElementType type : op.types) {
      ops[count] = make_cpu_op(api, api_version, type, op.kind);
      if (ops[count].cpu_kernel) ++count;
#ifdef JR_CUDA
      for (const bool plugin : {false, true}) {
        ops[count++] = make_cuda_op(api, api_version, type, op.kind, plugin);
      }
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

// Whether the session is to have no kernels, because the driver cannot run those for CUDA. With the CPU's
// alone, onnxruntime would run JumpReLU there, between two copies; with none, it puts the model's function on
// CUDA. A session without CUDA says so in its options, and gets the CPU's kernels.
Status* leave_out(const Api* api, const ort::SessionOptions* options, bool* left_out) {
  int without_cuda = 1;
#ifdef JR_CUDA
  char why[256];
  if (cuda::driver_is_too_old(why, sizeof why)) {
    const char* const key = "custom_op.JumpReLU.without_cuda";
    if (Status* status = ort::HasSessionConfigEntry(api, options, key, &without_cuda)) return status;
  }
#else
  (void)api, (void)options;
#endif
  *left_out = !without_cuda;
  return nullptr;
}

}  // namespace
}  // namespace jr

#ifdef _WIN32
#define JR_EXPORT extern "C" __declspec(dllexport)
#else
#define JR_EXPORT extern "C" __attribute__((visibility("default")))
#endif

// Why the CUDA kernels cannot run on a device of this machine; empty if they can.
JR_EXPORT void jr_onnx_cuda_problem(int device, char* why, std::size_t size) {
#ifdef JR_CUDA
  jr::cuda::problem_on(device, why, size);
#else
  (void)device;
  std::snprintf(why, size, "the kernels were built without CUDA");
#endif
}

JR_EXPORT jr::ort::Status* RegisterCustomOps(jr::ort::SessionOptions* options, const jr::ort::ApiBase* base) {
  const char* const version = base->GetVersionString();
  const uint32_t api_version = jr::api_version_of(version);
  const jr::ort::Api* const api = api_version ? base->GetApi(api_version) : nullptr;
  if (!api) return jr::refuse_version(base, version);
  bool left_out = false;
  if (jr::ort::Status* status = jr::leave_out(api, options, &left_out)) return status;
  if (left_out) return nullptr;

  while (jr::busy.test_and_set(std::memory_order_acquire)) {
  }
  jr::Registration* registration = nullptr;
  jr::ort::Status* const status = jr::find_or_make(api, api_version, &registration);
  jr::busy.clear(std::memory_order_release);
  return status ? status : jr::ort::AddCustomOpDomain(api, options, registration->domain);
}
