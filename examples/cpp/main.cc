// Runs a hardened model with onnxruntime's C++ API:
//
//     main MODEL LIBRARY SHAPE < numbers        for example: main digits.jumprelu.onnx jr_onnx_ops.so 1,1,8,8
//
// It prints the first output, a number a line. LIBRARY is where `jr-onnx info` says, or what
// `jr-onnx deploy` wrote; with "-" the function that the model carries defines JumpReLU.
#include <onnxruntime_cxx_api.h>

#include <cstdint>
#include <cstdio>
#include <cstring>
#include <exception>
#include <filesystem>
#include <sstream>
#include <string>
#include <vector>

int main(int count, char** arguments) try {
  if (count != 4) {
    std::fprintf(stderr, "usage: %s MODEL LIBRARY|- SHAPE < numbers\n", arguments[0]);
    return 2;
  }
  std::vector<int64_t> shape;
  std::stringstream sizes(arguments[3]);
  for (std::string size; std::getline(sizes, size, ',');) shape.push_back(std::stoll(size));
  std::vector<float> values;
  for (float value; std::scanf("%f", &value) == 1;) values.push_back(value);

  Ort::Env env(ORT_LOGGING_LEVEL_ERROR, "example");
  Ort::SessionOptions options;
  // A bare name would be looked for where the system keeps its libraries.
  if (std::strcmp(arguments[2], "-") != 0)
    options.RegisterCustomOpsLibrary(std::filesystem::absolute(arguments[2]).c_str());
  Ort::Session session(env, arguments[1], options);

  Ort::AllocatorWithDefaultOptions allocator;
  const auto input_name = session.GetInputNameAllocated(0, allocator);
  const auto output_name = session.GetOutputNameAllocated(0, allocator);
  const char* const inputs[] = {input_name.get()};
  const char* const outputs[] = {output_name.get()};
  const auto memory = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
  const auto input =
      Ort::Value::CreateTensor<float>(memory, values.data(), values.size(), shape.data(), shape.size());
  const auto results = session.Run(Ort::RunOptions{}, inputs, &input, 1, outputs, 1);

  const float* const y = results[0].GetTensorData<float>();
  const std::size_t size = results[0].GetTensorTypeAndShapeInfo().GetElementCount();
  for (std::size_t i = 0; i < size; ++i) std::printf("%.9g\n", y[i]);
} catch (const std::exception& error) {  // Ort::Exception is one, and so is what a SHAPE gives that is none
  std::fprintf(stderr, "%s\n", error.what());
  return 1;
}
