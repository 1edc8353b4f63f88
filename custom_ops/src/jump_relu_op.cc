#include "jump_relu_op.h"

#include <climits>
#include <cstdio>
#include <cstdlib>

#include "layout.h"
#ifdef JR_CUDA
#include "cuda_kernels.h"
#endif

namespace jr {
namespace {

using ort::Api;
using ort::ElementType;
using ort::Status;

constexpr std::size_t kMaxRank = 64;
// Below this, handing work to another thread costs more than the work.
constexpr int64_t kBytesPerTask = 128 << 10;

const JumpReluOp& op_of(const void* pointer) {
  return *static_cast<const JumpReluOp*>(pointer);
}

// What the op of each kind is called, and its inputs.
constexpr struct {
  const char* name;
  std::size_t inputs, jump;  // how many, and which is the jump
  Names names;
} kDefinitions[] = {{"JumpReLU", 2, 1, {"X", "jump"}},
                    {"AddJumpReLU", 3, 2, {"X", "jump"}},
                    {"QuantizedJumpReLU", 3, 1, {"Q", "threshold"}}};

const auto& definition_of(const JumpReluOp& op) {
  return kDefinitions[static_cast<int>(op.kind)];
}

int64_t bytes_of(ElementType type) {
  switch (type) {
    case ElementType::float64:
      return 8;
    case ElementType::float32:
      return 4;
    case ElementType::uint8:
    case ElementType::int8:
      return 1;
    default:
      return 2;
  }
}

struct Tensor {
  void* data;
  Shape shape;
  int64_t dims[kMaxRank];  // what `shape` refers to where onnxruntime has no reference to give
};

// An input that may be an initializer, which is looked up once, and not at every call.
struct Parameter {
  bool is_constant;
  Tensor constant;
};

// One for each node.
struct Kernel {
  const JumpReluOp* op;
  Parameter jump, zero_point;
};

Status* refuse(const JumpReluOp& op, ort::ErrorCode code, const char* why) {
  char message[384];
  std::snprintf(message, sizeof message, "jr_onnx::%s: %s", op.base.GetName(&op.base), why);
  return ort::CreateStatus(op.api, code, message);
}

Status* copy_shape(const JumpReluOp& op, const ort::TensorTypeAndShapeInfo* info, Tensor* tensor) {
  tensor->shape.dims = tensor->dims;
  if (Status* status = ort::GetDimensionsCount(op.api, info, &tensor->shape.rank)) return status;
  if (tensor->shape.rank > kMaxRank) {
    return refuse(op, ort::ErrorCode::not_implemented, "a tensor of more than 64 axes");
  }
  return ort::GetDimensions(op.api, info, tensor->dims, tensor->shape.rank);
}

Status* read_shape(const JumpReluOp& op, const ort::Value* value, Tensor* tensor) {
  if (op.api_version >= 24) {
    ort::ElementType type;
    return ort::GetTensorElementTypeAndShapeDataReference(op.api, value, &type, &tensor->shape.dims,
                                                          &tensor->shape.rank);
  }
  // Three allocations: on a tensor of 1 KB they would be a third of the whole call.
  ort::TensorTypeAndShapeInfo* info = nullptr;
  if (Status* status = ort::GetTensorTypeAndShape(op.api, value, &info)) return status;
  Status* const status = copy_shape(op, info, tensor);
  ort::ReleaseTensorTypeAndShapeInfo(op.api, info);
  return status;
}

Status* read_tensor(const JumpReluOp& op, const ort::Value* value, Tensor* tensor) {
  if (Status* status = read_shape(op, value, tensor)) return status;
  // The data of an input is only read; the C API has no other way to it.
  return ort::GetTensorMutableData(op.api, const_cast<ort::Value*>(value), &tensor->data);
}

Status* read_input(const JumpReluOp& op, const ort::KernelContext* context, std::size_t index,
                   Tensor* tensor) {
  const ort::Value* value = nullptr;
  if (Status* status = ort::KernelContext_GetInput(op.api, context, index, &value)) return status;
  return read_tensor(op, value, tensor);
}

// The constant, or what is read into `tensor`.
Status* read_parameter(const JumpReluOp& op, const ort::KernelContext* context, std::size_t index,
                       const Parameter& parameter, Tensor* tensor, const Tensor** found) {
  *found = parameter.is_constant ? &parameter.constant : tensor;
  return parameter.is_constant ? nullptr : read_input(op, context, index, tensor);
}

struct Task {
  cpu::Kernel kernel;
  Inputs inputs;
  void* y;
  Layout layout;
  int64_t elements;
};

void run_task(void* shared, std::size_t index) {
  const Task& task = *static_cast<const Task*>(shared);
  const int64_t begin = static_cast<int64_t>(index) * task.elements;
  const int64_t left = task.layout.count - begin;
  const int64_t end = begin + (left < task.elements ? left : task.elements);
  task.kernel(task.inputs, task.y, task.layout, begin, end);
}

Status* run_on_cpu(const JumpReluOp& op, const ort::KernelContext* context, Task task) {
  task.elements = kBytesPerTask / bytes_of(op.type);
  const int64_t tasks = (task.layout.count + task.elements - 1) / task.elements;
  if (tasks > 1) {
    return ort::KernelContext_ParallelFor(op.api, context, run_task, static_cast<std::size_t>(tasks), 0,
                                          &task);
  }
  task.kernel(task.inputs, task.y, task.layout, 0, task.layout.count);
  return nullptr;
}

#ifdef JR_CUDA
Status* run_on_cuda(const JumpReluOp& op, const ort::KernelContext* context, const Task& task) {
  void* stream = nullptr;
  if (Status* status = ort::KernelContext_GetGPUComputeStream(op.api, context, &stream)) return status;
  const int error = cuda::launch(op.type, task.inputs, task.y, task.layout, stream);
  if (error == 0) return nullptr;
  char message[256];
  std::snprintf(message, sizeof message, "CUDA error %d: %s", error, cuda::error_text(error));
  return refuse(op, ort::ErrorCode::runtime_exception, message);
}
#endif

bool same_shape(const Shape& a, const Shape& b) {
  if (a.rank != b.rank) return false;
  for (std::size_t axis = 0; axis < a.rank; ++axis) {
    if (a.dims[axis] != b.dims[axis]) return false;
  }
  return true;
}

Status* lay_out(const JumpReluOp& op, const Shape& x, const Shape& jump, const Names& names, Layout* layout) {
  char why_not[320];
  if (make_layout(x, jump, names, layout, why_not, sizeof why_not)) return nullptr;
  return refuse(op, ort::ErrorCode::invalid_argument, why_not);
}

Status* read_addend(const JumpReluOp& op, const ort::KernelContext* context, const Shape& x, Task* task) {
  Tensor addend;
  if (Status* status = read_input(op, context, 1, &addend)) return status;
  task->inputs.addend = addend.data;
  if (same_shape(x, addend.shape)) return nullptr;
  return refuse(op, ort::ErrorCode::invalid_argument, "A and B differ in shape; use Add and JumpReLU");
}

// The zero point: one for all of Q, or one for each threshold.
Status* read_zero_point(const Kernel& kernel, const ort::KernelContext* context, const Shape& q, Task* task) {
  const JumpReluOp& op = *kernel.op;
  Tensor input;
  const Tensor* zero_point;
  if (Status* status = read_parameter(op, context, 2, kernel.zero_point, &input, &zero_point)) return status;
  task->inputs.zero_point = zero_point->data;
  Layout zeros;
  if (Status* status = lay_out(op, q, zero_point->shape, {"Q", "zero_point"}, &zeros)) return status;
  Layout& thresholds = task->layout;
  thresholds.zero_each = zeros.channels != 1;
  if (!thresholds.zero_each) return nullptr;
  if (zeros.channels == thresholds.channels && zeros.inner == thresholds.inner) return nullptr;
  return refuse(op, ort::ErrorCode::invalid_argument,
                "give one zero_point for all of Q, or one for each threshold");
}

Status* compute(void* kernel_state, ort::KernelContext* context) {
  const Kernel& kernel = *static_cast<const Kernel*>(kernel_state);
  const JumpReluOp& op = *kernel.op;
  const auto& definition = definition_of(op);
  Tensor x, input;
  const Tensor* jump;
  Task task{op.cpu_kernel, {}, nullptr, {}, 0};
  if (Status* status = read_input(op, context, 0, &x)) return status;
  if (op.kind == Kind::add_jump_relu) {
    if (Status* status = read_addend(op, context, x.shape, &task)) return status;
  }
  if (Status* status = read_parameter(op, context, definition.jump, kernel.jump, &input, &jump))
    return status;
  if (Status* status = lay_out(op, x.shape, jump->shape, definition.names, &task.layout)) return status;
  if (op.kind == Kind::quantized_jump_relu) {
    if (Status* status = read_zero_point(kernel, context, x.shape, &task)) return status;
  }
  task.inputs.x = x.data;
  task.inputs.jump = jump->data;
  ort::Value* output = nullptr;
  if (Status* status = ort::KernelContext_GetOutput(op.api, context, 0, x.shape.dims, x.shape.rank, &output))
    return status;
  if (task.layout.count == 0) return nullptr;
  if (Status* status = ort::GetTensorMutableData(op.api, output, &task.y)) return status;
#ifdef JR_CUDA
  if (!op.cpu_kernel) return run_on_cuda(op, context, task);
#endif
  return run_on_cpu(op, context, task);
}

Status* find_constant(const JumpReluOp& op, const ort::KernelInfo* info, std::size_t index,
                      Parameter* parameter) {
  const ort::Value* value = nullptr;
  int is_constant = 0;
  if (Status* status = ort::KernelInfoGetConstantInput_tensor(op.api, info, index, &is_constant, &value)) {
    return status;
  }
  parameter->is_constant = is_constant != 0;
  return is_constant ? read_tensor(op, value, &parameter->constant) : nullptr;
}

Status* create_kernel(const ort::CustomOp* base, const Api*, const ort::KernelInfo* info, void** made) {
  const JumpReluOp& op = op_of(base);
  auto* const kernel = static_cast<Kernel*>(std::calloc(1, sizeof(Kernel)));
  if (!kernel) return refuse(op, ort::ErrorCode::fail, "out of memory");
  kernel->op = &op;
  Status* status = find_constant(op, info, definition_of(op).jump, &kernel->jump);
  if (!status && op.kind == Kind::quantized_jump_relu) {
    status = find_constant(op, info, 2, &kernel->zero_point);
  }
  if (status) {
    std::free(kernel);
  } else {
    *made = kernel;
  }
  return status;
}

// Y has the shape of X, or of A, if each of its axes has a size or a name. An axis that has neither reads as
// -1 here, and an unknown rank as that of a scalar; neither can be handed on (onnxruntime would take the -1
// for a size), so no shape is set for them, nor for a scalar.
Status* infer_shape(const ort::CustomOp* base, ort::ShapeInferContext* context) {
  const Api* const api = op_of(base).api;
  ort::TensorTypeAndShapeInfo* info = nullptr;
  if (Status* status = ort::ShapeInferContext_GetInputTypeShape(api, context, 0, &info)) return status;
  std::size_t rank = 0;
  if (Status* status = ort::GetDimensionsCount(api, info, &rank)) return status;
  if (rank == 0 || rank > kMaxRank) return nullptr;
  int64_t sizes[kMaxRank];
  const char* names[kMaxRank];
  if (Status* status = ort::GetDimensions(api, info, sizes, rank)) return status;
  if (Status* status = ort::GetSymbolicDimensions(api, info, names, rank)) return status;
  for (std::size_t axis = 0; axis < rank; ++axis) {
    if (sizes[axis] < 0 && names[axis][0] == '\0') return nullptr;
  }
  return ort::ShapeInferContext_SetOutputTypeShape(api, context, 0, info);
}

// onnxruntime frees these with release_in_place, which has nothing to do.
std::size_t may_run_in_place(int** inputs, int** outputs) {
  static int first = 0;
  *inputs = *outputs = &first;
  return 1;
}
void release_in_place(int*, int*) {}

ort::CustomOp callbacks(uint32_t api_version) {
  using Op = const ort::CustomOp*;
  ort::CustomOp op{};
  op.version = api_version < kNewestOp ? api_version : kNewestOp;
  op.CreateKernelV2 = create_kernel;
  op.KernelComputeV2 = compute;
  op.KernelDestroy = std::free;
  op.GetName = [](Op self) { return definition_of(op_of(self)).name; };
  op.GetInputTypeCount = [](Op self) { return definition_of(op_of(self)).inputs; };
  op.GetInputType = [](Op self, std::size_t) { return op_of(self).type; };
  op.GetOutputTypeCount = [](Op) -> std::size_t { return 1; };
  op.GetOutputType = [](Op self, std::size_t) { return op_of(self).type; };
  op.GetInputCharacteristic = [](Op, std::size_t) { return ort::Characteristic::required; };
  op.GetOutputCharacteristic = [](Op, std::size_t) { return ort::Characteristic::required; };
  op.GetInputMemoryType = [](Op, std::size_t) { return ort::MemoryType::provider_default; };
  op.GetVariadicInputMinArity = op.GetVariadicOutputMinArity = [](Op) { return 0; };
  op.GetVariadicInputHomogeneity = op.GetVariadicOutputHomogeneity = [](Op) { return 0; };
  op.InferOutputShapeFn = infer_shape;
  op.GetStartVersion = [](Op) { return 1; };
  op.GetEndVersion = [](Op) { return INT_MAX; };
  op.GetMayInplace = may_run_in_place;
  op.ReleaseMayInplace = release_in_place;
  return op;
}

}  // namespace

JumpReluOp make_cpu_op(const Api* api, uint32_t api_version, ElementType type, Kind kind) {
  const cpu::Variant& best = *cpu::usable_variants().items[0];
  const cpu::Kernel kernel = kind == Kind::add_jump_relu ? best.add_kernel(type) : best.kernel(type);
  JumpReluOp op{callbacks(api_version), api, api_version, type, kind, kernel};
  op.base.GetExecutionProviderType = [](const ort::CustomOp*) { return "CPUExecutionProvider"; };
  return op;
}

#ifdef JR_CUDA
JumpReluOp make_cuda_op(const Api* api, uint32_t api_version, ElementType type, Kind kind) {
  JumpReluOp op{callbacks(api_version), api, api_version, type, kind, nullptr};
  op.base.GetExecutionProviderType = [](const ort::CustomOp*) { return "CUDAExecutionProvider"; };
  return op;
}
#endif

}  // namespace jr
