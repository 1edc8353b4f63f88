// Registration and the op, as onnxruntime would call them.
#include <cstring>
#include <thread>
#include <vector>

#include "check.h"
#include "fake_host.h"
#include "values.h"

namespace {

using jr::ort::CustomOp;
using jr::ort::ElementType;

std::string registered(const char* version, uint32_t newest_api, fake::Options* options) {
  const auto* const base = fake::host(version, newest_api);
  return fake::message_of(RegisterCustomOps(reinterpret_cast<jr::ort::SessionOptions*>(options), base));
}

bool says(const std::string& message, const char* part) {
  return message.find(part) != std::string::npos;
}

void test_versions() {
  for (const char* version : {"1.16.3", "1.4.0", "0.9", "", "newest", "1.17"}) {
    fake::Options options;
    // The last one has the right name and not the API: it is refused just so.
    const std::string message = registered(version, 16, &options);
    CHECK(says(message, "need onnxruntime 1.17 or newer") && says(message, version), "%s: %s", version,
          message.c_str());
    CHECK(options.domains.empty(), "%s", version);
  }
  const struct {
    const char* name;
    uint32_t newest, op;
  } good[] = {{"1.17.0", 17, 17}, {"1.18.1", 18, 18},     {"1.23.0", 23, 18}, {"1.24.0", 24, 18},
              {"1.31.1", 31, 18}, {"1.32.0-dev", 32, 18}, {"2.0.0", 40, 18}};
  for (const auto& version : good) {
    fake::Options options;
    CHECK(registered(version.name, version.newest, &options).empty(), "%s", version.name);
    CHECK(options.domains.size() == 1 && options.domains[0]->name == "jr_onnx", "%s", version.name);
    CHECK(options.domains[0]->ops.size() >= 4, "%s", version.name);
    CHECK(options.domains[0]->ops[0]->version == version.op, "%s", version.name);
  }
}

void test_failed_registration() {
  for (const std::size_t slot : {jr::ort::CreateCustomOpDomain.index, jr::ort::CustomOpDomain_Add.index,
                                 jr::ort::AddCustomOpDomain.index}) {
    fake::Options options;
    fake::fail_at(static_cast<long>(slot));
    CHECK(says(registered("1.21.0", 21, &options), "failed on request"), "slot %zu", slot);
    fake::fail_at(-1);
  }
}

void test_many_registrations() {
  const auto* const base = fake::host("1.31.0", 31);
  std::vector<fake::Options> options(8);
  std::vector<std::thread> threads;
  for (auto& each : options) {
    threads.emplace_back([&each, base] {
      const auto status = RegisterCustomOps(reinterpret_cast<jr::ort::SessionOptions*>(&each), base);
      CHECK(status == nullptr, "registration failed");
    });
  }
  for (auto& thread : threads) thread.join();
  for (const auto& each : options) {
    CHECK(each.domains.size() == 1 && each.domains[0] == options[0].domains[0],
          "one domain for all sessions");
  }
}

const CustomOp* op_of(const fake::Options& options, ElementType type, const char* name = "JumpReLU") {
  for (const CustomOp* op : options.domains[0]->ops) {
    if (op->GetInputType(op, 0) == type && !std::strcmp(op->GetName(op), name) &&
        !std::strcmp(op->GetExecutionProviderType(op), "CPUExecutionProvider")) {
      return op;
    }
  }
  CHECK(false, "no op for type %d", static_cast<int>(type));
}

// One call of the op on X and a jump, both float32; the message of its status.
struct Run {
  std::vector<int64_t> x_dims, jump_dims;
  std::vector<uint32_t> x, jump, y;
  int threads = 1;
  bool constant = false, in_place = false;

  std::string operator()(const fake::Options& options) {
    const CustomOp* const op = op_of(options, ElementType::float32);
    y.resize(x.size());
    fake::Tensor jump_tensor{jump_dims, jump.data()};
    fake::Call call{{{x_dims, in_place ? y.data() : x.data()}, jump_tensor}, {}, y.data(), threads};
    if (in_place) y = x;
    void* kernel = nullptr;
    const auto* const info = reinterpret_cast<const jr::ort::KernelInfo*>(constant ? &jump_tensor : nullptr);
    if (auto* status = op->CreateKernelV2(op, nullptr, info, &kernel)) return fake::message_of(status);
    const std::string message =
        fake::message_of(op->KernelComputeV2(kernel, reinterpret_cast<jr::ort::KernelContext*>(&call)));
    op->KernelDestroy(kernel);
    return message;
  }

  void check() const {
    for (std::size_t i = 0; i < x.size(); ++i) {
      CHECK(kFloat32.same(y[i], kFloat32.expected(x[i], jump[0])), "element %zu", i);
    }
  }
};
Run one_jump(int64_t count) {
  Run run;
  run.x_dims = {count};
  run.jump = {0x3F000000};
  run.x.resize(static_cast<std::size_t>(count));
  for (std::size_t i = 0; i < run.x.size(); ++i) run.x[i] = static_cast<uint32_t>(i * 2654435761u);
  return run;
}

void test_compute(const char* version, uint32_t newest) {
  fake::Options options;
  CHECK(registered(version, newest, &options).empty(), "%s", version);
  // alone.
  for (const int64_t count : {int64_t{0}, int64_t{1}, int64_t{32768}, int64_t{32769}, int64_t{1'000'003}}) {
    for (const int threads : {1, 2, 8}) {
      for (const bool constant : {false, true}) {
        for (const bool in_place : {false, true}) {
          Run run = one_jump(count);
          run.threads = threads;
          run.constant = constant;
          run.in_place = in_place;
          const std::string message = run(options);
          CHECK(message.empty(), "%s", message.c_str());
          run.check();
        }
      }
    }
  }
  CHECK(fake::open_shapes() == 0, "%ld shapes were not released", fake::open_shapes());
}

// AddJumpReLU, float32: B is all 0.25, so that the sums are known without the kernel.
void test_sums() {
  fake::Options options;
  CHECK(registered("1.24.0", 24, &options).empty(), "registration");
  const CustomOp* const op = op_of(options, ElementType::float32, "AddJumpReLU");
  CHECK(op->GetInputTypeCount(op) == 3, "A, B and the jump");
  for (const std::size_t count : {std::size_t{0}, std::size_t{7}, std::size_t{200'003}}) {
    for (const bool in_place : {false, true}) {
      std::vector<float> a(count), b(count, 0.25f), y(count);
      for (std::size_t i = 0; i < count; ++i) a[i] = static_cast<float>(i % 5) / 4 - 0.5f;
      if (in_place) y = a;
      float jump = 0.5f;
      const std::vector<int64_t> dims{static_cast<int64_t>(count)};
      fake::Call call{
          {{dims, in_place ? y.data() : a.data()}, {dims, b.data()}, {{}, &jump}}, {}, y.data(), 4};
      void* kernel = nullptr;
      CHECK(op->CreateKernelV2(op, nullptr, nullptr, &kernel) == nullptr, "no kernel");
      auto* const context = reinterpret_cast<jr::ort::KernelContext*>(&call);
      CHECK(op->KernelComputeV2(kernel, context) == nullptr, "no sum");
      for (std::size_t i = 0; i < count; ++i) {
        const float sum = a[i] + 0.25f;
        CHECK(y[i] == (sum <= jump ? 0.0f : sum), "element %zu", i);
      }
      call.inputs[1].dims = {1, static_cast<int64_t>(count)};
      const std::string message = fake::message_of(op->KernelComputeV2(kernel, context));
      CHECK(says(message, "jr_onnx::AddJumpReLU: A and B differ in shape"), "%s", message.c_str());
      op->KernelDestroy(kernel);
    }
  }
  CHECK(fake::open_shapes() == 0, "%ld shapes were not released", fake::open_shapes());
}

// QuantizedJumpReLU, uint8: thresholds and zero points, one or one a channel, constant or computed. The host
// has one constant for each node, so either both are that, or none is.
struct QuantizedRun {
  std::vector<int64_t> q_dims, threshold_dims, zero_dims;
  std::vector<uint8_t> q, threshold, zero_point, y;

  std::string operator()(const fake::Options& options, bool constant = false, bool in_place = false) {
    const CustomOp* const op = op_of(options, ElementType::uint8, "QuantizedJumpReLU");
    CHECK(op->GetInputTypeCount(op) == 3, "Q, the threshold and the zero point");
    y = in_place ? q : std::vector<uint8_t>(q.size());
    fake::Tensor threshold_tensor{threshold_dims, threshold.data()};
    fake::Call call{
        {{q_dims, in_place ? y.data() : q.data()}, threshold_tensor, {zero_dims, zero_point.data()}},
        {},
        y.data(),
        4};
    const auto* const info =
        reinterpret_cast<const jr::ort::KernelInfo*>(constant ? &threshold_tensor : nullptr);
    void* kernel = nullptr;
    if (auto* status = op->CreateKernelV2(op, nullptr, info, &kernel)) return fake::message_of(status);
    const std::string message =
        fake::message_of(op->KernelComputeV2(kernel, reinterpret_cast<jr::ort::KernelContext*>(&call)));
    op->KernelDestroy(kernel);
    return message;
  }
};

void test_quantized() {
  fake::Options options;
  CHECK(registered("1.24.0", 24, &options).empty(), "registration");
  for (const std::size_t count : {std::size_t{0}, std::size_t{9}, std::size_t{600'003}}) {
    for (const bool in_place : {false, true}) {
      for (const bool constant : {false, true}) {
        QuantizedRun run{{static_cast<int64_t>(count)}, {}, {1}, std::vector<uint8_t>(count), {100}, {7}, {}};
        for (std::size_t i = 0; i < count; ++i) run.q[i] = static_cast<uint8_t>(i * 37);
        const std::string message = run(options, constant, in_place);
        CHECK(message.empty(), "%s", message.c_str());
        const int zero = constant ? 100 : 7;  // the host's one constant is both
        for (std::size_t i = 0; i < count; ++i) {
          CHECK(run.y[i] == (run.q[i] <= 100 ? zero : run.q[i]), "element %zu", i);
        }
      }
    }
  }
  QuantizedRun each{{2, 3, 2}, {3, 1},    {1, 3, 1}, {5, 6, 5, 6, 5, 6, 5, 6, 5, 6, 5, 6},
                    {4, 5, 6}, {1, 2, 3}, {}};
  CHECK(each(options).empty(), "one zero point for each threshold");
  CHECK((each.y == std::vector<uint8_t>{5, 6, 2, 6, 3, 3, 5, 6, 2, 6, 3, 3}),
        "one zero point for each threshold");
  const struct {
    std::vector<int64_t> threshold, zero;
    const char* part;
  } cases[] = {
      {{4}, {}, "QuantizedJumpReLU: threshold of shape [4] does not broadcast to Q of shape [2,3,2]"},
      {{3, 1}, {4, 1}, "zero_point of shape [4,1] does not broadcast to Q of shape [2,3,2]"},
      {{}, {1, 1, 1, 1}, "zero_point of shape [1,1,1,1] has more axes than Q"},
      {{}, {3, 1}, "give one zero_point for all of Q, or one for each threshold"},
      {{3, 1}, {2, 1, 1}, "give one zero_point for all of Q, or one for each threshold"}};
  for (const auto& refused : cases) {
    QuantizedRun run = each;
    run.threshold_dims = refused.threshold;
    run.zero_dims = refused.zero;
    const std::string message = run(options);
    CHECK(says(message, refused.part), "%s: %s", refused.part, message.c_str());
  }
  CHECK(fake::open_shapes() == 0, "%ld shapes were not released", fake::open_shapes());
}

void test_refusals() {
  fake::Options options;
  CHECK(registered("1.24.0", 24, &options).empty(), "registration");
  const struct {
    std::vector<int64_t> x, jump;
    const char* part;
  } cases[] = {{{2, 3}, {2}, "jr_onnx::JumpReLU: jump of shape [2] does not broadcast to X of shape [2,3]"},
               {{2, 3}, {0}, "does not broadcast"},
               {{2, 3, 4}, {3, 4}, "more than one axis other than 1"},
               {{3}, {1, 3}, "more axes than"},
               {{}, {1}, "more axes than"},
               {{0, 3}, {2, 3}, "does not broadcast"}};
  for (const auto& each : cases) {
    Run run = one_jump(24);
    run.x_dims = each.x;
    run.jump_dims = each.jump;
    run.jump.resize(12);
    const std::string message = run(options);
    CHECK(says(message, each.part), "%s", message.c_str());
  }
  Run deep = one_jump(1);
  deep.x_dims.assign(100, 1);
  CHECK(deep(options).empty(), "a reference to a shape has no limit");
  fake::Options old;
  CHECK(registered("1.17.0", 17, &old).empty(), "registration");
  CHECK(says(deep(old), "more than 64 axes"), "100 axes");
}

// Whatever fails in onnxruntime comes back as it is, and nothing is leaked on the way.
void test_failures(const char* version, uint32_t newest) {
  fake::Options options;
  CHECK(registered(version, newest, &options).empty(), "registration");
  const std::size_t slots[] = {jr::ort::GetTensorMutableData.index,
                               jr::ort::GetTensorTypeAndShape.index,
                               jr::ort::GetDimensionsCount.index,
                               jr::ort::GetDimensions.index,
                               jr::ort::KernelContext_GetInput.index,
                               jr::ort::KernelContext_GetOutput.index,
                               jr::ort::KernelContext_ParallelFor.index,
                               jr::ort::KernelInfoGetConstantInput_tensor.index,
                               jr::ort::GetTensorElementTypeAndShapeDataReference.index};
  int failed = 0;
  for (const std::size_t slot : slots) {
    for (const bool constant : {false, true}) {
      Run run = one_jump(200'000);
      run.constant = constant;
      fake::fail_at(static_cast<long>(slot));
      const std::string message = run(options);
      CHECK(message.empty() || says(message, "failed on request"), "%s", message.c_str());
      failed += !message.empty();
      fake::fail_at(-1);
      if (message.empty()) run.check();
    }
  }
  CHECK(failed >= 10, "only %d of the failures were seen", failed);
  CHECK(fake::open_shapes() == 0, "%ld shapes were not released", fake::open_shapes());
}

void test_shape_inference() {
  fake::Options options;
  CHECK(registered("1.20.0", 20, &options).empty(), "registration");
  const CustomOp* const op = op_of(options, ElementType::float64);
  fake::Call call;
  auto* const context = reinterpret_cast<jr::ort::ShapeInferContext*>(&call);
  const struct {
    std::vector<int64_t> dims;
    std::vector<std::string> names;
    bool known;
  } shapes[] = {{{2, 3, 0}, {"", "", ""}, true},
                {{-1, 3, -1}, {"N", "", "W"}, true},
                {{-1, 3, 224}, {"", "", ""}, false},
                {{-1, 3, -1}, {"N", "", ""}, false},
                {{}, {}, false},
                {std::vector<int64_t>(64, 1), std::vector<std::string>(64), true},
                {std::vector<int64_t>(65, 1), std::vector<std::string>(65), false}};
  for (const auto& shape : shapes) {
    call = {{{shape.dims, nullptr, shape.names}}, {{-7}, nullptr}};
    CHECK(op->InferOutputShapeFn(op, context) == nullptr, "inference failed");
    CHECK(call.output.dims == (shape.known ? shape.dims : std::vector<int64_t>{-7}), "%zu axes",
          shape.dims.size());
  }
  call.inputs = {{{-1, 3}, nullptr, {"N", ""}}};
  for (const auto slot :
       {jr::ort::ShapeInferContext_GetInputTypeShape.index, jr::ort::GetDimensionsCount.index,
        jr::ort::GetDimensions.index, jr::ort::GetSymbolicDimensions.index,
        jr::ort::ShapeInferContext_SetOutputTypeShape.index}) {
    fake::fail_at(static_cast<long>(slot));
    CHECK(says(fake::message_of(op->InferOutputShapeFn(op, context)), "failed on request"), "slot %zu", slot);
    fake::fail_at(-1);
  }
  int *inputs = nullptr, *outputs = nullptr;
  CHECK(op->GetMayInplace(&inputs, &outputs) == 1 && inputs[0] == 0 && outputs[0] == 0, "X may become Y");
  op->ReleaseMayInplace(inputs, outputs);
  CHECK(op->GetInputTypeCount(op) == 2 && op->GetOutputTypeCount(op) == 1, "two inputs, one output");
  CHECK(!std::strcmp(op->GetName(op), "JumpReLU"), "%s", op->GetName(op));
}

}  // namespace

void test_op() {
  test_versions();
  test_failed_registration();
  test_many_registrations();
  test_compute("1.17.0", 17);
  test_compute("1.31.0", 31);
  test_sums();
  test_quantized();
  test_refusals();
  test_failures("1.18.0", 18);
  test_failures("1.26.0", 26);
  test_shape_inference();
  std::puts("op: registered, refused, ran");
}
