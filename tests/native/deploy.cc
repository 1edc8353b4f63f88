// Runs a hardened model with no Python: deploy MODEL LIBRARY, then floats on standard input and on standard
// output. With onnxruntime's headers this is a few lines of its C++ API (docs/native.md); its wheel has none,
// so the handful of functions is declared here.
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "ort_abi.h"

namespace ort = jr::ort;
extern "C" const ort::ApiBase* OrtGetApiBase();

namespace {

#ifdef _WIN32
using PathChar = wchar_t;
#else
using PathChar = char;
#endif

struct Env;
struct MemoryInfo;
struct RunOptions;
struct Session;

constexpr ort::Slot<2, const char*(const ort::Status*)> GetErrorMessage;
constexpr ort::Slot<3, ort::Status*(int, const char*, Env**)> CreateEnv;
constexpr ort::Slot<7, ort::Status*(const Env*, const PathChar*, const ort::SessionOptions*, Session**)>
    CreateSession;
constexpr ort::Slot<9, ort::Status*(Session*, const RunOptions*, const char* const*, const ort::Value* const*,
                                    std::size_t, const char* const*, std::size_t, ort::Value**)>
    Run;
constexpr ort::Slot<10, ort::Status*(ort::SessionOptions**)> CreateSessionOptions;
constexpr ort::Slot<29, ort::Status*(ort::SessionOptions*, const char*, void**)> RegisterCustomOpsLibrary;
constexpr ort::Slot<49, ort::Status*(const MemoryInfo*, void*, std::size_t, const int64_t*, std::size_t,
                                     ort::ElementType, ort::Value**)>
    CreateTensorWithDataAsOrtValue;
constexpr ort::Slot<69, ort::Status*(int, ort::MemoryType, MemoryInfo**)> CreateCpuMemoryInfo;

const ort::Api* api;

void must(ort::Status* status) {
  if (!status) return;
  std::fprintf(stderr, "%s\n", GetErrorMessage(api, status));
  std::exit(1);
}

}  // namespace

int main(int, char** arguments) {
  std::vector<float> x;
  for (float value; std::scanf("%f", &value) == 1;) x.push_back(value);

  api = OrtGetApiBase()->GetApi(17);
  Env* env;
  ort::SessionOptions* options;
  Session* session;
  void* library;
  must(CreateEnv(api, 3, "deploy", &env));
  must(CreateSessionOptions(api, &options));
  must(RegisterCustomOpsLibrary(api, options, arguments[2], &library));
  const std::string model = arguments[1];
  must(CreateSession(api, env, std::basic_string<PathChar>(model.begin(), model.end()).c_str(), options,
                     &session));

  MemoryInfo* memory;
  ort::Value *input, *output = nullptr;
  const int64_t dims[] = {static_cast<int64_t>(x.size())};
  const char *const input_names[] = {"x"}, *const output_names[] = {"y"};
  must(CreateCpuMemoryInfo(api, 0, ort::MemoryType::provider_default, &memory));
  must(CreateTensorWithDataAsOrtValue(api, memory, x.data(), x.size() * sizeof(float), dims, 1,
                                      ort::ElementType::float32, &input));
  must(Run(api, session, nullptr, input_names, &input, 1, output_names, 1, &output));

  void* y;
  must(ort::GetTensorMutableData(api, output, &y));
  for (std::size_t i = 0; i < x.size(); ++i) std::printf("%.9g\n", static_cast<float*>(y)[i]);
}
