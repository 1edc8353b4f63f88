// A CUDA runtime without a GPU, on which onnxruntime's own CUDA provider starts, plans, copies and captures.
//
// Device memory is memory of the process that may be touched only inside of a copy or a kernel. A stream runs
// what it is given at once; while it captures, it records. onnxruntime's own kernels do nothing but appear in
// the list of events; those of jr_onnx come through fake_cuda.h and run on the CPU. What is not defined here
// is generated and returns success (fake_provider.py).
#include <cuda_runtime_api.h>
#include <sys/mman.h>

#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <string>
#include <tuple>
#include <vector>

#include "fake_cuda.h"

namespace {

std::recursive_mutex mutex;
using Lock = std::lock_guard<std::recursive_mutex>;
using Work = std::function<void()>;

std::map<std::string, int> settings = {
    {"devices", 2}, {"driver", 13000}, {"launch_error", 0}, {"image_error", 0}};
std::string events, shown;

void event(const std::string& what) {
  Lock lock(mutex);
  events += what + "\n";
}

// --- Device memory ---------------------------------------------------------------------------------------

struct Allocation {
  std::size_t bytes;
  int device;
};
std::map<uintptr_t, Allocation> allocations;
int open_depth = 0;

void protect(int how) {
  for (const auto& [start, allocation] : allocations) {
    mprotect(reinterpret_cast<void*>(start), allocation.bytes, how);
  }
}

// While one lives, device memory can be read and written.
struct Open {
  Lock lock{mutex};
  Open() {
    if (open_depth++ == 0) protect(PROT_READ | PROT_WRITE);
  }
  ~Open() {
    if (--open_depth == 0) protect(PROT_NONE);
  }
};

// --- Streams and graphs ----------------------------------------------------------------------------------

using Graph = std::vector<Work>;
struct Stream {
  int device;
  Graph* recording;
};
Stream legacy{0, nullptr};
int capturing = 0;
thread_local int device = 0;
thread_local cudaError_t last_error = cudaSuccess;

Stream* of(cudaStream_t handle) {
  return reinterpret_cast<uintptr_t>(handle) <= 2 ? &legacy : reinterpret_cast<Stream*>(handle);
}

cudaError_t failed(int error) {
  return last_error = static_cast<cudaError_t>(error);
}

cudaError_t submit(cudaStream_t handle, Work work) {
  Stream* const stream = of(handle);
  if (stream->recording) {
    stream->recording->push_back(std::move(work));
  } else {
    Open open;
    work();
  }
  return cudaSuccess;
}

std::map<const void*, std::string> kernels;
thread_local std::tuple<dim3, dim3, std::size_t, cudaStream_t> configuration;

cudaError_t run_nothing(const void* kernel) {
  Lock lock(mutex);
  event("kernel " + kernels[kernel]);
  return cudaSuccess;
}

}  // namespace

// --- For the tests, and for the kernels of jr_onnx -------------------------------------------------------

extern "C" void fake_cuda_set(const char* name, int value) {
  Lock lock(mutex);
  settings.at(name) = value;
}

// What happened since the last call, an event a line.
extern "C" const char* fake_cuda_events() {
  Lock lock(mutex);
  shown.swap(events);
  events.clear();
  return shown.c_str();
}

void fake_cuda_event(const char* what) {
  event(what);
}

int fake_cuda_launch(void* handle, Work work) {
  const auto stream = static_cast<cudaStream_t>(handle);
  if (const int error = settings["launch_error"]) return failed(error);
  if (of(stream) != &legacy && of(stream)->device != device) return failed(cudaErrorInvalidResourceHandle);
  event("jump_relu device " + std::to_string(device) + (of(stream)->recording ? " captured" : ""));
  return submit(stream, std::move(work));
}

extern "C" {

// --- Devices ---------------------------------------------------------------------------------------------

cudaError_t cudaGetDeviceCount(int* count) {
  *count = settings["devices"];
  return cudaSuccess;
}
cudaError_t cudaGetDevice(int* current) {
  *current = device;
  return cudaSuccess;
}
cudaError_t cudaSetDevice(int wanted) {
  if (wanted < 0 || wanted >= settings["devices"]) return failed(cudaErrorInvalidDevice);
  device = wanted;
  return cudaSuccess;
}
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int) {
  std::memset(properties, 0, sizeof *properties);
  std::strcpy(properties->name, "fake");
  properties->totalGlobalMem = std::size_t{8} << 30;
  properties->major = 9;
  properties->multiProcessorCount = 132;
  properties->warpSize = 32;
  properties->maxThreadsPerBlock = 1024;
  properties->maxThreadsPerMultiProcessor = 2048;
  properties->sharedMemPerBlock = 48 << 10;
  properties->sharedMemPerBlockOptin = 227 << 10;
  properties->maxGridSize[0] = 0x7fffffff;
  return cudaSuccess;
}
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
  *value = attribute == cudaDevAttrComputeCapabilityMajor    ? 9
           : attribute == cudaDevAttrMultiProcessorCount     ? 132
           : attribute == cudaDevAttrMaxThreadsPerBlock      ? 1024
           : attribute == cudaDevAttrMaxSharedMemoryPerBlock ? 48 << 10
                                                             : 0;
  return cudaSuccess;
}
cudaError_t cudaDriverGetVersion(int* version) {
  *version = settings["driver"];
  return cudaSuccess;
}
cudaError_t cudaRuntimeGetVersion(int* version) {
  *version = CUDART_VERSION;
  return cudaSuccess;
}
cudaError_t cudaMemGetInfo(std::size_t* free, std::size_t* total) {
  *free = *total = std::size_t{8} << 30;
  return cudaSuccess;
}

// --- Memory ----------------------------------------------------------------------------------------------

cudaError_t cudaMalloc(void** memory, std::size_t bytes) {
  Lock lock(mutex);
  if (capturing) return failed(cudaErrorStreamCaptureUnsupported);
  bytes = (bytes / 4096 + 1) * 4096;
  const int how = open_depth ? PROT_READ | PROT_WRITE : PROT_NONE;
  *memory = mmap(nullptr, bytes, how, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (*memory == MAP_FAILED) return failed(cudaErrorMemoryAllocation);
  allocations[reinterpret_cast<uintptr_t>(*memory)] = {bytes, device};
  return cudaSuccess;
}
cudaError_t cudaFree(void* memory) {
  Lock lock(mutex);
  const auto found = allocations.find(reinterpret_cast<uintptr_t>(memory));
  if (found == allocations.end()) return memory ? failed(cudaErrorInvalidValue) : cudaSuccess;
  munmap(memory, found->second.bytes);
  allocations.erase(found);
  return cudaSuccess;
}
cudaError_t cudaHostAlloc(void** memory, std::size_t bytes, unsigned) {
  *memory = std::malloc(bytes);
  return cudaSuccess;
}
cudaError_t cudaMallocHost(void** memory, std::size_t bytes) {
  return cudaHostAlloc(memory, bytes, 0);
}
cudaError_t cudaFreeHost(void* memory) {
  std::free(memory);
  return cudaSuccess;
}
cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* attributes, const void* pointer) {
  Lock lock(mutex);
  *attributes = {};
  auto after = allocations.upper_bound(reinterpret_cast<uintptr_t>(pointer));
  if (after == allocations.begin()) return cudaSuccess;
  const auto& [start, allocation] = *--after;
  if (reinterpret_cast<uintptr_t>(pointer) >= start + allocation.bytes) return cudaSuccess;
  attributes->type = cudaMemoryTypeDevice;
  attributes->device = allocation.device;
  attributes->devicePointer = const_cast<void*>(pointer);
  return cudaSuccess;
}
cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t bytes, cudaMemcpyKind,
                            cudaStream_t stream) {
  event("copy");
  return submit(stream, [=] { std::memmove(to, from, bytes); });
}
cudaError_t cudaMemcpy(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind) {
  return cudaMemcpyAsync(to, from, bytes, kind, nullptr);
}
cudaError_t cudaMemsetAsync(void* to, int value, std::size_t bytes, cudaStream_t stream) {
  return submit(stream, [=] { std::memset(to, value, bytes); });
}
cudaError_t cudaMemset(void* to, int value, std::size_t bytes) {
  return cudaMemsetAsync(to, value, bytes, nullptr);
}

// --- Streams, events and graphs --------------------------------------------------------------------------

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  *stream = reinterpret_cast<cudaStream_t>(new Stream{device, nullptr});
  return cudaSuccess;
}
cudaError_t cudaStreamCreate(cudaStream_t* stream) {
  return cudaStreamCreateWithFlags(stream, 0);
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  delete of(stream);
  return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  return of(stream)->recording ? failed(cudaErrorStreamCaptureUnsupported) : cudaSuccess;
}
cudaError_t cudaDeviceSynchronize() {
  return capturing ? failed(cudaErrorStreamCaptureUnsupported) : cudaSuccess;
}
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* made, unsigned) {
  *made = reinterpret_cast<cudaEvent_t>(std::malloc(1));
  return cudaSuccess;
}
cudaError_t cudaEventDestroy(cudaEvent_t made) {
  std::free(made);
  return cudaSuccess;
}
cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
  of(stream)->recording = new Graph;
  ++capturing;
  return cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  *graph = reinterpret_cast<cudaGraph_t>(of(stream)->recording);
  of(stream)->recording = nullptr;
  --capturing;
  return cudaSuccess;
}
cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus* status) {
  *status = of(stream)->recording ? cudaStreamCaptureStatusActive : cudaStreamCaptureStatusNone;
  return cudaSuccess;
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* made, cudaGraph_t graph, unsigned long long) {
  *made = reinterpret_cast<cudaGraphExec_t>(new Graph(*reinterpret_cast<Graph*>(graph)));
  return cudaSuccess;
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t graph, cudaStream_t) {
  Open open;
  event("graph");
  for (const Work& work : *reinterpret_cast<Graph*>(graph)) work();
  return cudaSuccess;
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete reinterpret_cast<Graph*>(graph);
  return cudaSuccess;
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t graph) {
  delete reinterpret_cast<Graph*>(graph);
  return cudaSuccess;
}

// --- Errors ----------------------------------------------------------------------------------------------

const char* cudaGetErrorString(cudaError_t error) {
  return error == cudaSuccess ? "no error"
         : error == cudaErrorNoKernelImageForDevice
             ? "no kernel image is available for execution on the device"
             : "an error that the test asked for";
}
const char* cudaGetErrorName(cudaError_t error) {
  return cudaGetErrorString(error);
}
cudaError_t cudaGetLastError() {
  const cudaError_t error = last_error;
  last_error = cudaSuccess;
  return error;
}
cudaError_t cudaPeekAtLastError() {
  return last_error;
}

// --- Kernels ---------------------------------------------------------------------------------------------

// Of jr_onnx's kernels, whether they can run here; onnxruntime asks it of its own.
cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, const void* kernel) {
  if (!kernels.count(kernel) && settings["image_error"]) return failed(settings["image_error"]);
  std::memset(attributes, 0, sizeof *attributes);
  attributes->maxThreadsPerBlock = 1024;
  return cudaSuccess;
}
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int* blocks, const void*, int, std::size_t,
                                                                   unsigned) {
  *blocks = 2;
  return cudaSuccess;
}
cudaError_t cudaLaunchKernel(const void* kernel, dim3, dim3, void**, std::size_t, cudaStream_t) {
  return run_nothing(kernel);
}
cudaError_t __cudaLaunchKernel(cudaKernel_t kernel, dim3, dim3, void**, std::size_t, cudaStream_t) {
  return run_nothing(reinterpret_cast<const void*>(kernel));
}
cudaError_t __cudaGetKernel(cudaKernel_t* kernel, const void* function) {
  *kernel = reinterpret_cast<cudaKernel_t>(const_cast<void*>(function));
  return cudaSuccess;
}
void** __cudaRegisterFatBinary(void*) {
  static void* handle;
  return &handle;
}
void __cudaRegisterFunction(void**, const char* host, char*, const char* name, int, uint3*, uint3*, dim3*,
                            dim3*, int*) {
  kernels[host] = name;
}
// kernel<<<grid, block, bytes, stream>>>() puts these away for the host's part of the kernel.
unsigned __cudaPushCallConfiguration(dim3 grid, dim3 block, std::size_t bytes, cudaStream_t stream) {
  configuration = {grid, block, bytes, stream};
  return 0;
}
cudaError_t __cudaPopCallConfiguration(dim3* grid, dim3* block, std::size_t* bytes, void* stream) {
  std::tie(*grid, *block, *bytes, *static_cast<cudaStream_t*>(stream)) = configuration;
  return cudaSuccess;
}

}  // extern "C"
