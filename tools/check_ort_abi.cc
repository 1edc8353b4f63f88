// Proves custom_ops/src/ort_abi.h against the official headers, by compiling; see check_ort_abi.py. There is
// nothing to run: a wrong slot, argument, size, field or value stops the compiler.
#include <onnxruntime_c_api.h>

#include <cstddef>
#include <type_traits>

#include "../custom_ops/src/ort_abi.h"

namespace {

namespace ours = jr::ort;

template <class Function>
struct Signature;
template <class Result, class... Arguments>
struct Signature<Result (*)(Arguments...)> {
  static constexpr std::size_t count = sizeof...(Arguments);
  static constexpr std::size_t sizes[sizeof...(Arguments) + 1] = {sizeof(Arguments)..., 0};
  static constexpr bool returns = !std::is_void_v<Result>;
};
template <class Result, class... Arguments>
struct Signature<Result (*)(Arguments...) noexcept> : Signature<Result (*)(Arguments...)> {};

// The same number of arguments, each of the same size, and a result or none alike.
template <class Ours, class Theirs>
constexpr bool alike() {
  using A = Signature<Ours>;
  using B = Signature<Theirs>;
  if (A::count != B::count || A::returns != B::returns) return false;
  for (std::size_t i = 0; i < A::count; ++i) {
    if (A::sizes[i] != B::sizes[i]) return false;
  }
  return true;
}

#define SLOT(name)                                                                             \
  static_assert(offsetof(OrtApi, name) == decltype(ours::name)::index * sizeof(void*), #name); \
  static_assert(alike<std::remove_cv_t<decltype(ours::name)>::Function, decltype(OrtApi::name)>(), #name)

SLOT(CreateStatus);
SLOT(CreateCustomOpDomain);
SLOT(CustomOpDomain_Add);
SLOT(AddCustomOpDomain);
SLOT(GetTensorMutableData);
SLOT(GetDimensionsCount);
SLOT(GetDimensions);
SLOT(GetSymbolicDimensions);
SLOT(GetTensorTypeAndShape);
SLOT(KernelContext_GetInput);
SLOT(KernelContext_GetOutput);
SLOT(ReleaseTensorTypeAndShapeInfo);
SLOT(ReleaseCustomOpDomain);
SLOT(KernelContext_GetGPUComputeStream);
SLOT(KernelInfoGetConstantInput_tensor);
SLOT(ShapeInferContext_GetInputTypeShape);
SLOT(ShapeInferContext_SetOutputTypeShape);
SLOT(KernelContext_ParallelFor);
#if ORT_API_VERSION >= 24
SLOT(GetTensorElementTypeAndShapeDataReference);
#endif

#define FIELD(name)                                                                    \
  static_assert(offsetof(OrtCustomOp, name) == offsetof(ours::CustomOp, name), #name); \
  static_assert(alike<decltype(ours::CustomOp::name), decltype(OrtCustomOp::name)>(), #name)

static_assert(offsetof(OrtCustomOp, version) == offsetof(ours::CustomOp, version));
static_assert(sizeof(OrtCustomOp::version) == sizeof(ours::CustomOp::version));
static_assert(sizeof(OrtCustomOp) == sizeof(ours::CustomOp));
FIELD(CreateKernel);
FIELD(GetName);
FIELD(GetExecutionProviderType);
FIELD(GetInputType);
FIELD(GetInputTypeCount);
FIELD(GetOutputType);
FIELD(GetOutputTypeCount);
FIELD(KernelCompute);
FIELD(KernelDestroy);
FIELD(GetInputCharacteristic);
FIELD(GetOutputCharacteristic);
FIELD(GetInputMemoryType);
FIELD(GetVariadicInputMinArity);
FIELD(GetVariadicInputHomogeneity);
FIELD(GetVariadicOutputMinArity);
FIELD(GetVariadicOutputHomogeneity);
FIELD(CreateKernelV2);
FIELD(KernelComputeV2);
FIELD(InferOutputShapeFn);
FIELD(GetStartVersion);
FIELD(GetEndVersion);
FIELD(GetMayInplace);
FIELD(ReleaseMayInplace);
FIELD(GetAliasMap);
FIELD(ReleaseAliasMap);

static_assert(offsetof(OrtApiBase, GetApi) == offsetof(ours::ApiBase, GetApi));
static_assert(offsetof(OrtApiBase, GetVersionString) == offsetof(ours::ApiBase, GetVersionString));
static_assert(alike<decltype(ours::ApiBase::GetApi), decltype(OrtApiBase::GetApi)>());
static_assert(alike<decltype(ours::ApiBase::GetVersionString), decltype(OrtApiBase::GetVersionString)>());

#define VALUE(mine, theirs) static_assert(static_cast<long>(mine) == static_cast<long>(theirs), #theirs)
VALUE(ours::ErrorCode::fail, ORT_FAIL);
VALUE(ours::ErrorCode::invalid_argument, ORT_INVALID_ARGUMENT);
VALUE(ours::ErrorCode::runtime_exception, ORT_RUNTIME_EXCEPTION);
VALUE(ours::ErrorCode::not_implemented, ORT_NOT_IMPLEMENTED);
VALUE(ours::ElementType::float32, ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT);
VALUE(ours::ElementType::float16, ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16);
VALUE(ours::ElementType::float64, ONNX_TENSOR_ELEMENT_DATA_TYPE_DOUBLE);
VALUE(ours::ElementType::bfloat16, ONNX_TENSOR_ELEMENT_DATA_TYPE_BFLOAT16);
VALUE(ours::ElementType::uint8, ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8);
VALUE(ours::ElementType::int8, ONNX_TENSOR_ELEMENT_DATA_TYPE_INT8);
VALUE(ours::ElementType::uint16, ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT16);
VALUE(ours::ElementType::int16, ONNX_TENSOR_ELEMENT_DATA_TYPE_INT16);
VALUE(ours::Characteristic::required, INPUT_OUTPUT_REQUIRED);
VALUE(ours::MemoryType::provider_default, OrtMemTypeDefault);
static_assert(sizeof(ours::ErrorCode) == sizeof(OrtErrorCode));
static_assert(sizeof(ours::ElementType) == sizeof(ONNXTensorElementDataType));
static_assert(sizeof(ours::Characteristic) == sizeof(OrtCustomOpInputOutputCharacteristic));
static_assert(sizeof(ours::MemoryType) == sizeof(OrtMemType));

}  // namespace
