// NVIDIA's driver as far as the reports call it, on this machine's memory and by a clock that only launches move. Its
// functions are declared by NVIDIA's own header, so a call with other types finds other memory than it means to.
//
// A launch of an arithmetic kernel takes as many microseconds as it has steps, whatever its blocks, and its threads
// write what they count where all operands are ones. A copy copies, at one byte a nanosecond.

#include <cuda.h>
#undef cuEventElapsedTime

#include <cstdlib>
#include <cstring>
#include <string>

namespace {

struct Event {
  double at;
};

double now = 0, in_graph = 0;
bool capturing = false;
int capability_major = std::getenv("FAKE_MAJOR") ? std::atoi(std::getenv("FAKE_MAJOR")) : 8;

void pass(double milliseconds) { (capturing ? in_graph : now) += milliseconds; }

// Products of one thread in one step, from the shapes that PTX has.
long per_thread(const std::string &kernel) {
  if (kernel == "popc") return 32l * 32;
  if (kernel == "mma_half") return 32l * 16 * 8 * (capability_major < 8 ? 8 : 16) / 32;
  if (kernel == "mma_and" || kernel == "mma_xor") return 32l * (capability_major < 8 ? 8 * 8 * 128 : 16 * 8 * 256) / 32;
  if (kernel == "wgmma_and") return 16l * 64 * 256 * 256 / 128;
  if (kernel == "wgmma_half") return 16l * 64 * 256 * 16 / 128;
  std::abort();
}

}  // namespace

extern "C" {

CUresult cuInit(unsigned int) { return CUDA_SUCCESS; }
CUresult cuDeviceGet(CUdevice *device, int) { return *device = 7, CUDA_SUCCESS; }
CUresult cuDevicePrimaryCtxRetain(CUcontext *context, CUdevice device) {
  return *context = reinterpret_cast<CUcontext>(11), device == 7 ? CUDA_SUCCESS : CUDA_ERROR_INVALID_DEVICE;
}
CUresult cuCtxSetCurrent(CUcontext context) {
  return context == reinterpret_cast<CUcontext>(11) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_CONTEXT;
}
CUresult cuCtxSynchronize() { return CUDA_SUCCESS; }
CUresult cuDriverGetVersion(int *version) { return *version = 13010, CUDA_SUCCESS; }
CUresult cuDeviceGetName(char *name, int size, CUdevice) {
  return std::strncpy(name, "Fake GPU", size), CUDA_SUCCESS;
}
CUresult cuDeviceGetAttribute(int *value, CUdevice_attribute attribute, CUdevice) {
  switch (attribute) {
    case CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT: return *value = 3, CUDA_SUCCESS;
    case CU_DEVICE_ATTRIBUTE_CLOCK_RATE: return *value = 1500000, CUDA_SUCCESS;
    case CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE: return *value = 50 << 20, CUDA_SUCCESS;
    case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR: return *value = capability_major, CUDA_SUCCESS;
    case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR: return *value = capability_major == 7 ? 5 : 0, CUDA_SUCCESS;
    default: return CUDA_ERROR_INVALID_VALUE;
  }
}
CUresult cuGetErrorString(CUresult error, const char **text) {
  return *text = error == CUDA_ERROR_NO_BINARY_FOR_GPU ? "no kernel image" : "some error", CUDA_SUCCESS;
}

CUresult cuMemAlloc(CUdeviceptr *address, size_t size) {
  return *address = reinterpret_cast<CUdeviceptr>(std::malloc(size)), CUDA_SUCCESS;
}
CUresult cuMemFree(CUdeviceptr address) { return std::free(reinterpret_cast<void *>(address)), CUDA_SUCCESS; }
CUresult cuMemcpyHtoD(CUdeviceptr to, const void *from, size_t size) {
  return std::memcpy(reinterpret_cast<void *>(to), from, size), CUDA_SUCCESS;
}
CUresult cuMemcpyDtoH(void *to, CUdeviceptr from, size_t size) {
  return std::memcpy(to, reinterpret_cast<void *>(from), size), CUDA_SUCCESS;
}

CUresult cuModuleLoadData(CUmodule *module, const void *code) {
  *module = reinterpret_cast<CUmodule>(13);
  return std::memcmp(code, "code", 4) ? CUDA_ERROR_NO_BINARY_FOR_GPU : CUDA_SUCCESS;
}
CUresult cuModuleGetFunction(CUfunction *function, CUmodule module, const char *name) {
  *function = reinterpret_cast<CUfunction>(new std::string(name));
  return module == reinterpret_cast<CUmodule>(13) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
}
CUresult cuLaunchKernel(CUfunction function, unsigned x, unsigned y, unsigned z, unsigned threads, unsigned in_y,
                        unsigned in_z, unsigned shared, CUstream stream, void **parameters, void **extra) {
  if (y != 1 || z != 1 || in_y != 1 || in_z != 1 || shared || extra || (stream != nullptr) != capturing)
    return CUDA_ERROR_INVALID_VALUE;
  const auto &name = *reinterpret_cast<std::string *>(function);
  auto pointer = [&](int i) { return *static_cast<unsigned **>(parameters[i]); };
  auto number = [&](int i) { return *static_cast<int *>(parameters[i]); };
  if (name == "copy") {
    if (!capturing) std::memcpy(pointer(1), pointer(0), 16l * number(2));
    pass(16e-6 * number(2));
    return CUDA_SUCCESS;
  }
  const char *wrong = std::getenv("FAKE_WRONG");
  for (unsigned i = 0; i < x * threads; ++i)
    pointer(2)[i] = per_thread(name) * number(3) + (wrong && name == wrong);
  pass(1e-3 * number(3));
  return CUDA_SUCCESS;
}

CUresult cuEventCreate(CUevent *event, unsigned) {
  return *event = reinterpret_cast<CUevent>(new Event{-1}), CUDA_SUCCESS;
}
CUresult cuEventRecord(CUevent event, CUstream) { return reinterpret_cast<Event *>(event)->at = now, CUDA_SUCCESS; }
CUresult cuEventSynchronize(CUevent) { return CUDA_SUCCESS; }
CUresult cuEventElapsedTime(float *milliseconds, CUevent from, CUevent to) {
  *milliseconds = reinterpret_cast<Event *>(to)->at - reinterpret_cast<Event *>(from)->at;
  return CUDA_SUCCESS;
}

CUresult cuStreamCreate(CUstream *stream, unsigned flags) {
  *stream = reinterpret_cast<CUstream>(17);
  return flags == CU_STREAM_NON_BLOCKING ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}
CUresult cuStreamBeginCapture(CUstream stream, CUstreamCaptureMode mode) {
  capturing = true, in_graph = 0;
  return stream && mode == CU_STREAM_CAPTURE_MODE_RELAXED ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}
CUresult cuStreamEndCapture(CUstream, CUgraph *graph) {
  capturing = false;
  *graph = in_graph ? reinterpret_cast<CUgraph>(new double(in_graph)) : nullptr;
  return CUDA_SUCCESS;
}
CUresult cuGraphInstantiateWithFlags(CUgraphExec *made, CUgraph graph, unsigned long long flags) {
  *made = reinterpret_cast<CUgraphExec>(graph);
  return flags ? CUDA_ERROR_INVALID_VALUE : CUDA_SUCCESS;
}
CUresult cuGraphLaunch(CUgraphExec made, CUstream) { return pass(*reinterpret_cast<double *>(made)), CUDA_SUCCESS; }
}
