#include "fake_host.h"

#include <atomic>
#include <thread>

namespace fake {
namespace {

using namespace jr::ort;

constexpr std::size_t kSlots = 415;
std::atomic<long> failing{-1};
std::atomic<long> shapes{0};

struct Message {
  std::string text;
};

Status* status_of(const std::string& text) {
  return reinterpret_cast<Status*>(new Message{text});
}

Status* broken(const char* name, std::size_t slot) {
  return failing == static_cast<long>(slot) ? status_of(std::string(name) + " failed on request") : nullptr;
}

Status* create_status(ErrorCode, const char* message) {
  return status_of(message);
}

Status* create_domain(const char* name, CustomOpDomain** out) {
  if (Status* status = broken("CreateCustomOpDomain", CreateCustomOpDomain.index)) return status;
  *out = reinterpret_cast<CustomOpDomain*>(new Domain{name, {}});
  return nullptr;
}
Status* add_op(CustomOpDomain* domain, const CustomOp* op) {
  if (Status* status = broken("CustomOpDomain_Add", CustomOpDomain_Add.index)) return status;
  reinterpret_cast<Domain*>(domain)->ops.push_back(op);
  return nullptr;
}
Status* add_domain(SessionOptions* options, CustomOpDomain* domain) {
  if (Status* status = broken("AddCustomOpDomain", AddCustomOpDomain.index)) return status;
  reinterpret_cast<Options*>(options)->domains.push_back(reinterpret_cast<Domain*>(domain));
  return nullptr;
}
void release_domain(CustomOpDomain* domain) {
  delete reinterpret_cast<Domain*>(domain);
}

const Tensor* tensor(const void* handle) {
  return static_cast<const Tensor*>(handle);
}

Status* data_of(Value* value, void** out) {
  if (Status* status = broken("GetTensorMutableData", GetTensorMutableData.index)) return status;
  *out = tensor(value)->data;
  return nullptr;
}
Status* shape_of(const Value* value, TensorTypeAndShapeInfo** out) {
  if (Status* status = broken("GetTensorTypeAndShape", GetTensorTypeAndShape.index)) return status;
  ++shapes;
  *out = reinterpret_cast<TensorTypeAndShapeInfo*>(new Tensor(*tensor(value)));
  return nullptr;
}
void release_shape(TensorTypeAndShapeInfo* info) {
  --shapes;
  delete reinterpret_cast<Tensor*>(info);
}
Status* rank_of(const TensorTypeAndShapeInfo* info, std::size_t* out) {
  if (Status* status = broken("GetDimensionsCount", GetDimensionsCount.index)) return status;
  *out = tensor(info)->dims.size();
  return nullptr;
}
Status* dims_of(const TensorTypeAndShapeInfo* info, int64_t* out, std::size_t count) {
  if (Status* status = broken("GetDimensions", GetDimensions.index)) return status;
  for (std::size_t i = 0; i < count; ++i) out[i] = tensor(info)->dims[i];
  return nullptr;
}
Status* names_of(const TensorTypeAndShapeInfo* info, const char** out, std::size_t count) {
  if (Status* status = broken("GetSymbolicDimensions", GetSymbolicDimensions.index)) return status;
  for (std::size_t i = 0; i < count; ++i) out[i] = tensor(info)->names[i].c_str();
  return nullptr;
}
Status* shape_reference(const Value* value, ElementType* type, const int64_t** dims, std::size_t* rank) {
  constexpr auto slot = GetTensorElementTypeAndShapeDataReference.index;
  if (Status* status = broken("GetTensorElementTypeAndShapeDataReference", slot)) return status;
  *type = ElementType::float32;
  *dims = tensor(value)->dims.data();
  *rank = tensor(value)->dims.size();
  return nullptr;
}

Status* input(const KernelContext* context, std::size_t index, const Value** out) {
  if (Status* status = broken("KernelContext_GetInput", KernelContext_GetInput.index)) return status;
  *out = reinterpret_cast<const Value*>(&reinterpret_cast<const Call*>(context)->inputs[index]);
  return nullptr;
}
Status* output(KernelContext* context, std::size_t, const int64_t* dims, std::size_t rank, Value** out) {
  if (Status* status = broken("KernelContext_GetOutput", KernelContext_GetOutput.index)) return status;
  Call* const call = reinterpret_cast<Call*>(context);
  call->output = {std::vector<int64_t>(dims, dims + rank), call->spare};
  *out = reinterpret_cast<Value*>(&call->output);
  return nullptr;
}

// Like onnxruntime's pool: threads take the next index until there is none.
Status* parallel_for(const KernelContext* context, void (*function)(void*, std::size_t), std::size_t total,
                     std::size_t, void* data) {
  if (Status* status = broken("KernelContext_ParallelFor", KernelContext_ParallelFor.index)) return status;
  std::atomic<std::size_t> next{0};
  auto work = [&] {
    for (std::size_t i; (i = next++) < total;) function(data, i);
  };
  std::vector<std::thread> threads;
  for (int t = 1; t < reinterpret_cast<const Call*>(context)->threads; ++t) threads.emplace_back(work);
  work();
  for (auto& thread : threads) thread.join();
  return nullptr;
}

// "KernelInfo" is the constant jump, or null where the jump is computed.
Status* constant_input(const KernelInfo* info, std::size_t, int* is_constant, const Value** out) {
  constexpr auto slot = KernelInfoGetConstantInput_tensor.index;
  if (Status* status = broken("KernelInfoGetConstantInput_tensor", slot)) return status;
  *is_constant = info != nullptr;
  *out = reinterpret_cast<const Value*>(info);
  return nullptr;
}

Status* input_shape(const ShapeInferContext* context, std::size_t, TensorTypeAndShapeInfo** out) {
  constexpr auto slot = ShapeInferContext_GetInputTypeShape.index;
  if (Status* status = broken("ShapeInferContext_GetInputTypeShape", slot)) return status;
  *out = reinterpret_cast<TensorTypeAndShapeInfo*>(
      const_cast<Tensor*>(&reinterpret_cast<const Call*>(context)->inputs[0]));
  return nullptr;
}
Status* set_output_shape(const ShapeInferContext* context, std::size_t, const TensorTypeAndShapeInfo* info) {
  constexpr auto slot = ShapeInferContext_SetOutputTypeShape.index;
  if (Status* status = broken("ShapeInferContext_SetOutputTypeShape", slot)) return status;
  reinterpret_cast<Call*>(const_cast<ShapeInferContext*>(context))->output.dims = tensor(info)->dims;
  return nullptr;
}

using Function = void (*)();

struct Table {
  Function slots[kSlots] = {};

  template <std::size_t index, class Signature>
  void set(Slot<index, Signature>, Signature* function) {
    slots[index] = reinterpret_cast<Function>(function);
  }

  // A slot that this version does not have is null: calling it crashes, as it may in an old onnxruntime.
  explicit Table(uint32_t version) {
    set(CreateStatus, create_status);
    if (version < 17) return;
    set(CreateCustomOpDomain, create_domain);
    set(CustomOpDomain_Add, add_op);
    set(AddCustomOpDomain, add_domain);
    set(GetTensorMutableData, data_of);
    set(GetDimensionsCount, rank_of);
    set(GetDimensions, dims_of);
    set(GetSymbolicDimensions, names_of);
    set(GetTensorTypeAndShape, shape_of);
    set(KernelContext_GetInput, input);
    set(KernelContext_GetOutput, output);
    set(ReleaseTensorTypeAndShapeInfo, release_shape);
    set(ReleaseCustomOpDomain, release_domain);
    set(KernelInfoGetConstantInput_tensor, constant_input);
    set(ShapeInferContext_GetInputTypeShape, input_shape);
    set(ShapeInferContext_SetOutputTypeShape, set_output_shape);
    set(KernelContext_ParallelFor, parallel_for);
    if (version >= 24) set(GetTensorElementTypeAndShapeDataReference, shape_reference);
  }
};

// Each host has its own table, as each onnxruntime has; its functions answer for the newest. A host is never
// freed, because registrations refer to it.
struct Host {
  ApiBase base;
  Table table;
  const char* version;
  uint32_t newest_api;
  Host* before;
};
Host* newest = nullptr;

const Api* get_api(uint32_t version) {
  return version <= newest->newest_api ? reinterpret_cast<const Api*>(newest->table.slots) : nullptr;
}
const char* get_version() {
  return newest->version;
}

}  // namespace

const ApiBase* host(const char* version, uint32_t newest_api) {
  newest = new Host{{get_api, get_version}, Table(newest_api), version, newest_api, newest};
  return &newest->base;
}

void fail_at(long slot) {
  failing = slot;
}
long open_shapes() {
  return shapes;
}

std::string message_of(Status* status) {
  if (!status) return "";
  auto* const message = reinterpret_cast<Message*>(status);
  std::string text = message->text;
  delete message;
  return text;
}

}  // namespace fake
