// The part of ONNX Runtime's C ABI that this library uses, declared by hand: no wheel of onnxruntime ships
// the headers. OrtApi is an append-only table of function pointers and OrtCustomOp an append-only struct, so
// a slot number is good for ever; tools/check_ort_abi.py proves every line below against the official
// headers.
#pragma once

#include <cstddef>
#include <cstdint>

namespace jr::ort {

struct Api;
struct CustomOpDomain;
struct KernelContext;
struct KernelInfo;
struct SessionOptions;
struct ShapeInferContext;
struct Status;
struct TensorTypeAndShapeInfo;
struct Value;

// Declared with the size of the C enums that they stand for; the values are those of onnxruntime_c_api.h.
enum class ErrorCode : int { fail = 1, invalid_argument = 2, runtime_exception = 6, not_implemented = 9 };
enum class ElementType : int {
  float32 = 1,
  uint8 = 2,
  int8 = 3,
  uint16 = 4,
  int16 = 5,
  float16 = 10,
  float64 = 11,
  bfloat16 = 16
};
enum class Characteristic : int { required = 0 };
enum class MemoryType : int { provider_default = 0 };

struct ApiBase {
  const Api* (*GetApi)(uint32_t version);
  const char* (*GetVersionString)();
};

// One entry of the OrtApi table: its place, and how to call it.
template <std::size_t place, class Signature>
struct Slot;

template <std::size_t place, class Result, class... Arguments>
struct Slot<place, Result(Arguments...)> {
  using Function = Result (*)(Arguments...);
  static constexpr std::size_t index = place;
  Result operator()(const Api* api, Arguments... arguments) const {
    return reinterpret_cast<const Function*>(api)[place](arguments...);
  }
};

// Version 1.
inline constexpr Slot<0, Status*(ErrorCode, const char*)> CreateStatus;
inline constexpr Slot<26, Status*(const char*, CustomOpDomain**)> CreateCustomOpDomain;
inline constexpr Slot<27, Status*(CustomOpDomain*, const struct CustomOp*)> CustomOpDomain_Add;
inline constexpr Slot<28, Status*(SessionOptions*, CustomOpDomain*)> AddCustomOpDomain;
inline constexpr Slot<51, Status*(Value*, void**)> GetTensorMutableData;
inline constexpr Slot<61, Status*(const TensorTypeAndShapeInfo*, std::size_t*)> GetDimensionsCount;
inline constexpr Slot<62, Status*(const TensorTypeAndShapeInfo*, int64_t*, std::size_t)> GetDimensions;
inline constexpr Slot<63, Status*(const TensorTypeAndShapeInfo*, const char**, std::size_t)>
    GetSymbolicDimensions;
inline constexpr Slot<65, Status*(const Value*, TensorTypeAndShapeInfo**)> GetTensorTypeAndShape;
inline constexpr Slot<90, Status*(const KernelContext*, std::size_t, const Value**)> KernelContext_GetInput;
inline constexpr Slot<91, Status*(KernelContext*, std::size_t, const int64_t*, std::size_t, Value**)>
    KernelContext_GetOutput;
inline constexpr Slot<99, void(TensorTypeAndShapeInfo*)> ReleaseTensorTypeAndShapeInfo;
inline constexpr Slot<101, void(CustomOpDomain*)> ReleaseCustomOpDomain;
// Version 12.
inline constexpr Slot<193, Status*(const KernelContext*, void**)> KernelContext_GetGPUComputeStream;
// Version 15.
inline constexpr Slot<249, Status*(const KernelInfo*, std::size_t, int*, const Value**)>
    KernelInfoGetConstantInput_tensor;
// Version 17.
inline constexpr Slot<268, Status*(const ShapeInferContext*, std::size_t, TensorTypeAndShapeInfo**)>
    ShapeInferContext_GetInputTypeShape;
inline constexpr Slot<270, Status*(const ShapeInferContext*, std::size_t, const TensorTypeAndShapeInfo*)>
    ShapeInferContext_SetOutputTypeShape;
inline constexpr Slot<274, Status*(const KernelContext*, void (*)(void*, std::size_t), std::size_t,
                                   std::size_t, void*)>
    KernelContext_ParallelFor;
// Version 24.
inline constexpr Slot<414, Status*(const Value*, ElementType*, const int64_t**, std::size_t*)>
    GetTensorElementTypeAndShapeDataReference;

struct CustomOp {
  uint32_t version;
  void* (*CreateKernel)(const CustomOp*, const Api*, const KernelInfo*);
  const char* (*GetName)(const CustomOp*);
  const char* (*GetExecutionProviderType)(const CustomOp*);
  ElementType (*GetInputType)(const CustomOp*, std::size_t);
  std::size_t (*GetInputTypeCount)(const CustomOp*);
  ElementType (*GetOutputType)(const CustomOp*, std::size_t);
  std::size_t (*GetOutputTypeCount)(const CustomOp*);
  void (*KernelCompute)(void*, KernelContext*);
  void (*KernelDestroy)(void*);
  Characteristic (*GetInputCharacteristic)(const CustomOp*, std::size_t);
  Characteristic (*GetOutputCharacteristic)(const CustomOp*, std::size_t);
  MemoryType (*GetInputMemoryType)(const CustomOp*, std::size_t);
  int (*GetVariadicInputMinArity)(const CustomOp*);
  int (*GetVariadicInputHomogeneity)(const CustomOp*);
  int (*GetVariadicOutputMinArity)(const CustomOp*);
  int (*GetVariadicOutputHomogeneity)(const CustomOp*);
  Status* (*CreateKernelV2)(const CustomOp*, const Api*, const KernelInfo*, void**);
  Status* (*KernelComputeV2)(void*, KernelContext*);
  // Read by version 17 and later.
  Status* (*InferOutputShapeFn)(const CustomOp*, ShapeInferContext*);
  int (*GetStartVersion)(const CustomOp*);
  int (*GetEndVersion)(const CustomOp*);
  // Read by version 18 and later.
  std::size_t (*GetMayInplace)(int**, int**);
  void (*ReleaseMayInplace)(int*, int*);
  std::size_t (*GetAliasMap)(int**, int**);
  void (*ReleaseAliasMap)(int*, int*);
};

}  // namespace jr::ort
