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
using ort::Status;

constexpr std::size_t kMaxRank = 64;
// Below this, handing work to another thread costs more than the work.
constexpr int64_t kBytesPerTask = 128 << 10;

const JumpReluOp& op_of(const void* pointer) {
  return *static_cast<const JumpReluOp*>(pointer);
}

struct Tensor {
  void* data;
  Shape shape;
  int64_t dims[kMaxRank];  // what `shape` refers to where onnxruntime has no reference to give
};

// One for each node. A jump that is an initializer is looked up once, here, and not at every call.
struct Kernel {
  const JumpReluOp* op;
  bool jump_is_constant;
  Tensor jump;
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

struct Task {
  cpu::Kernel kernel;
  cpu::AddKernel add_kernel;
  const void *x, *addend, *jump;
  void* y;
  Layout layout;
  int64_t elements;
};

void run_part(const Task& task, int64_t begin, int64_t end) {
  if (task.addend) {
    task.add_kernel(task.x, task.addend, task.jump, task.y, task.layout, begin, end);
  } else {
    task.kernel(task.x, task.jump, task.y, task.layout, begin, end);
  }
}

void run_task(void* shared, std::size_t index) {
  const Task& task = *static_cast<const Task*>(shared);
  const int64_t begin = static_cast<int64_t>(index) * task.elements;
  const int64_t left = task.layout.count - begin;
  run_part(task, begin, begin + (left < task.elements ? left : task.elements));
}

Status* run_on_cpu(const JumpReluOp& op, const ort::KernelContext* context, Task task) {
  const int64_t element_bytes = op.type == ort::ElementType::float64   ? 8
                                : op.type == ort::ElementType::float32 ? 4
                                                                       : 2;
  task.elements = kBytesPerTask / element_bytes;
  const int64_t tasks = (task.layout.count + task.elements - 1) / task.elements;
  if (tasks > 1) {
    return ort::KernelContext_ParallelFor(op.api, context, run_task, static_cast<std::size_t>(tasks), 0,
                                          &task);
  }
  run_part(task, 0, task.layout.count);
  return nullptr;
}

#ifdef JR_CUDA
Status* run_on_cuda(const JumpReluOp& op, const ort::KernelContext* context, const Task& task) {
  void* stream = nullptr;
  if (Status* status = ort::KernelContext_GetGPUComputeStream(op.api, context, &stream)) return status;
  const int error = cuda::launch(op.type, task.x, task.addend, task.jump, task.y, task.layout, stream);
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

Status* compute(void* kernel_state, ort::KernelContext* context) {
  const Kernel& kernel = *static_cast<const Kernel*>(kernel_state);
  const JumpReluOp& op = *kernel.op;
  Tensor x, addend, jump_input;
  const Tensor* jump = &kernel.jump;
  if (Status* status = read_input(op, context, 0, &x)) return status;
  if (op.adds) {
    if (Status* status = read_input(op, context, 1, &addend)) return status;
    if (!same_shape(x.shape, addend.shape)) {
      return refuse(op, ort::ErrorCode::invalid_argument, "A and B differ in shape; use Add and JumpReLU");
    }
  }
  if (!kernel.jump_is_constant) {
    if (Status* status = read_input(op, context, op.inputs() - 1, &jump_input)) return status;
    jump = &jump_input;
  }
  const void* const second = op.adds ? addend.data : nullptr;
  Task task{op.cpu_kernel, op.cpu_add_kernel, x.data, second, jump->data, nullptr, {}, 0};
  char why_not[320];
  if (!make_layout(x.shape, jump->shape, &task.layout, why_not, sizeof why_not)) {
    return refuse(op, ort::ErrorCode::invalid_argument, why_not);
  }
  ort::Value* output = nullptr;
  if (Status* status = ort::KernelContext_GetOutput(op.api, context, 0, x.shape.dims, x.shape.rank, &output))
    return status;
  if (task.layout.count == 0) return nullptr;
  if (Status* status = ort::GetTensorMutableData(op.api, output, &task.y)) return status;
#ifdef JR_CUDA
  if (op.on_cuda) return run_on_cuda(op, context, task);
#endif
  return run_on_cpu(op, context, task);
}

Status* create_kernel(const ort::CustomOp* base, const Api*, const ort::KernelInfo* info, void** made) {
  const JumpReluOp& op = op_of(base);
#ifdef JR_CUDA
  char why_not[320];
  if (op.on_cuda && !cuda::device_runs_kernels(why_not, sizeof why_not)) {
    return refuse(op, ort::ErrorCode::not_implemented, why_not);
  }
#endif
  const ort::Value* jump = nullptr;
  int is_constant = 0;
  if (Status* status =
          ort::KernelInfoGetConstantInput_tensor(op.api, info, op.inputs() - 1, &is_constant, &jump)) {
    return status;
  }
  auto* const kernel = static_cast<Kernel*>(std::calloc(1, sizeof(Kernel)));
  if (!kernel) return refuse(op, ort::ErrorCode::fail, "out of memory");
  kernel->op = &op;
  kernel->jump_is_constant = is_constant != 0;
  Status* const status = is_constant ? read_tensor(op, jump, &kernel->jump) : nullptr;
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
  op.GetName = [](Op self) { return op_of(self).adds ? "AddJumpReLU" : "JumpReLU"; };
  op.GetInputTypeCount = [](Op self) { return op_of(self).inputs(); };
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

JumpReluOp make_cpu_op(const Api* api, uint32_t api_version, ort::ElementType type, bool adds) {
  const cpu::Variant& best = *cpu::usable_variants().items[0];
  JumpReluOp op{callbacks(api_version), api, api_version, type, adds, false, best.kernel(type),
                best.add_kernel(type)};
  op.base.GetExecutionProviderType = [](const ort::CustomOp*) { return "CPUExecutionProvider"; };
  return op;
}

#ifdef JR_CUDA
JumpReluOp make_cuda_op(const Api* api, uint32_t api_version, ort::ElementType type, bool adds) {
  JumpReluOp op{callbacks(api_version), api, api_version, type, adds, true, nullptr, nullptr};
  op.base.GetExecutionProviderType = [](const ort::CustomOp*) { return "CUDAExecutionProvider"; };
  return op;
}
#endif

}  // namespace jr
