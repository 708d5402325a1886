/* Runs one kernel, linked with it, without TVM's runtime: for processors that have none.
 *
 * From standard input it reads the number of arguments, and of each its dtype (code, bits, lanes as in DLPack), rank,
 * shape and elements; behind the call it writes the last one's elements to standard output.
 */
#include <dlpack/dlpack.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <tvm/ffi/c_api.h>
#include <tvm/runtime/c_backend_api.h>

#define MOST 64

/* What the kernel calls by, if it calls anything; a runtime sets them when it loads a library. */
__attribute__((weak)) int (*__TVMBackendParallelLaunch)(FTVMParallelLambda, void*, int);
__attribute__((weak)) void* (*__TVMBackendAllocWorkspace)(int, int, uint64_t, int, int);
__attribute__((weak)) int (*__TVMBackendFreeWorkspace)(int, int, void*);
int __tvm_ffi_main(void*, const TVMFFIAny*, int32_t, TVMFFIAny*);

static int launch(FTVMParallelLambda function, void* data, int tasks) {
  TVMParallelGroupEnv group = {.sync_handle = NULL, .num_task = 1};
  (void)tasks;
  return function(0, &group, data);
}

static void* allocate(int device, int id, uint64_t size, int code, int bits) {
  void* made = NULL;
  (void)device, (void)id, (void)code, (void)bits;
  return posix_memalign(&made, 64, (size_t)size) ? NULL : made;
}

static int release(int device, int id, void* made) {
  (void)device, (void)id;
  free(made);
  return 0;
}

void TVMFFIErrorSetRaisedFromCStrParts(const char* kind, const char** parts, int32_t count) {
  fprintf(stderr, "%s: ", kind);
  for (int32_t i = 0; i < count; ++i) fputs(parts[i] ? parts[i] : "", stderr);
  fputc('\n', stderr);
}

/* Tables for unwinding name it; nothing is unwound here. */
void __aeabi_unwind_cpp_pr0(void) {}

static void take(void* data, size_t size) {
  if (size && fread(data, size, 1, stdin) != 1) {
    fputs("the arguments end too early\n", stderr);
    exit(1);
  }
}

int main(void) {
  static DLTensor tensors[MOST];
  static TVMFFIAny arguments[MOST];
  TVMFFIAny result = {.type_index = kTVMFFINone};
  int32_t count = 0;
  size_t size = 0;
  __TVMBackendParallelLaunch = launch;
  __TVMBackendAllocWorkspace = allocate;
  __TVMBackendFreeWorkspace = release;
  take(&count, sizeof(count));
  if (count < 1 || count > MOST) return 1;
  for (int32_t i = 0; i < count; ++i) {
    int32_t head[4]; /* code, bits, lanes, rank */
    take(head, sizeof(head));
    int64_t* shape = malloc(sizeof(int64_t) * (size_t)(2 * head[3]));
    int64_t* strides = shape + head[3];
    take(shape, sizeof(int64_t) * (size_t)head[3]);
    size = (size_t)(head[1] * head[2] + 7) / 8;
    for (int32_t axis = 0; axis < head[3]; ++axis) size *= (size_t)shape[axis];
    for (int32_t axis = head[3] - 1; axis >= 0; --axis) {
      strides[axis] = axis == head[3] - 1 ? 1 : strides[axis + 1] * shape[axis + 1];
    }
    tensors[i] = (DLTensor){.data = allocate(0, 0, size, 0, 0), .device = {kDLCPU, 0}, .ndim = head[3]};
    tensors[i].dtype = (DLDataType){(uint8_t)head[0], (uint8_t)head[1], (uint16_t)head[2]};
    tensors[i].shape = shape;
    tensors[i].strides = strides;
    take(tensors[i].data, size);
    arguments[i] = (TVMFFIAny){.type_index = kTVMFFIDLTensorPtr, .v_ptr = &tensors[i]};
  }
  if (__tvm_ffi_main(NULL, arguments, count, &result)) return 1;
  return fwrite(tensors[count - 1].data, size, 1, stdout) != 1;
}
