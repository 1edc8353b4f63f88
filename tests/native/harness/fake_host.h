// Just enough of onnxruntime's C API to register the op and to call it: tensors, statuses, threads. Any
// function of it can be made to fail, which no real onnxruntime does on demand.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "ort_abi.h"

namespace fake {

struct Tensor {
  std::vector<int64_t> dims;
  void* data;
  std::vector<std::string> names = {};  // of the dimensions, for shape inference alone; "" for none
};

// What stands behind OrtKernelContext. An output of no data is given `spare`.
struct Call {
  std::vector<Tensor> inputs;
  Tensor output;
  void* spare = nullptr;
  int threads = 1;
};

struct Domain {
  std::string name;
  std::vector<const jr::ort::CustomOp*> ops;
};

struct Options {
  std::vector<Domain*> domains;
};

// An OrtApiBase that calls itself `version`, and has the API up to `newest_api`.
const jr::ort::ApiBase* host(const char* version, uint32_t newest_api);

// Makes the function at this place of the table fail from now on; -1: none.
void fail_at(long slot);

// How many OrtTensorTypeAndShapeInfo have not been released.
long open_shapes();

// The message of a status, which is released; "" for success.
std::string message_of(jr::ort::Status* status);

}  // namespace fake

extern "C" jr::ort::Status* RegisterCustomOps(jr::ort::SessionOptions*, const jr::ort::ApiBase*);
