// TVM's runtime by way of its C interface, in libraries that are opened when the program runs.
//
// The C interface, because a C++ exception must not pass from libraries that were built with one C++ library into a
// program that was built with another; opened, because what is missing can then be told in one line.
#pragma once

#include <dlfcn.h>
#include <tvm/ffi/c_api.h>

#include "support.h"
#include "tensor.h"

namespace tvm_detail {

struct Api {
  decltype(&TVMFFIFunctionGetGlobal) get_global;
  decltype(&TVMFFIFunctionCall) call;
  decltype(&TVMFFIErrorMoveFromRaised) move_raised;
  decltype(&TVMFFIObjectDecRef) release;
  decltype(&TVMFFITensorFromDLPack) from_dlpack;
};

inline Api api;

inline void* open(const char* path) {
  void* library = dlopen(path, RTLD_NOW | RTLD_GLOBAL);
  if (library != nullptr) return library;
  const char* reason = dlerror();
  const char* advice = strstr(reason, "libstdc++") ? "; try: sudo apt-get install libstdc++6" : "";
  fail("cannot load TVM's runtime: %s%s", reason, advice);
}

template <typename F>
void find(void* library, const char* name, F* function) {
  *function = reinterpret_cast<F>(dlsym(library, name));
  if (*function == nullptr) fail("this is another version of TVM's runtime: it has no %s", name);
}

}  // namespace tvm_detail

// Open the libraries in a folder; nothing else here works before that.
inline void open_tvm(const char* folder) {
  using namespace tvm_detail;
  void* ffi = open(text("%s/libtvm_ffi.so", folder));
  open(text("%s/libtvm_runtime.so", folder));
  const char* extra = text("%s/libtvm_runtime_extra.so", folder);
  if (access(extra, F_OK) == 0) open(extra);
  find(ffi, "TVMFFIFunctionGetGlobal", &api.get_global);
  find(ffi, "TVMFFIFunctionCall", &api.call);
  find(ffi, "TVMFFIErrorMoveFromRaised", &api.move_raised);
  find(ffi, "TVMFFIObjectDecRef", &api.release);
  find(ffi, "TVMFFITensorFromDLPack", &api.from_dlpack);
}

// --- calling --------------------------------------------------------------------------------------------------

// A value of TVM's: a number, text, or an object. One that a call gave back holds a reference to its object, which is
// kept until `release`.
using Value = TVMFFIAny;

inline Value value_of(int64_t number) {
  Value value{};
  value.type_index = kTVMFFIInt;
  value.v_int64 = number;
  return value;
}

inline Value value_of(const char* letters) {
  Value value{};
  value.type_index = kTVMFFIRawStr;
  value.v_c_str = letters;
  return value;
}

inline Value value_of(TVMFFIObjectHandle object, int32_t type) {
  Value value{};
  value.type_index = type;
  value.v_ptr = object;
  return value;
}

inline void release(const Value& value) {
  if (value.type_index >= kTVMFFIStaticObjectBegin) tvm_detail::api.release(value.v_obj);
}

// The first line of what TVM complains about.
inline const char* raised() {
  TVMFFIObjectHandle error = nullptr;
  tvm_detail::api.move_raised(&error);
  if (error == nullptr) return "TVM gives no reason";
  const TVMFFIByteArray& message = TVMFFIErrorGetCellPtr(error)->message;
  const void* end = memchr(message.data, '\n', message.size);
  const size_t size = end == nullptr ? message.size : static_cast<size_t>(static_cast<const char*>(end) - message.data);
  return text("%.*s", static_cast<int>(size), message.data);
}

// `doing` is what the line begins with where it fails.
inline Value call(const char* doing, const Value& function, List<Value> arguments) {
  Value result{};
  const auto count = static_cast<int32_t>(arguments.size());
  if (tvm_detail::api.call(function.v_ptr, arguments.begin(), count, &result) != 0) fail("%s: %s", doing, raised());
  return result;
}

template <size_t count>
Value call(const char* doing, const Value& function, const Value (&arguments)[count]) {
  List<Value> list;
  list.add(arguments, count);
  return call(doing, function, list);
}

// One of the functions that the runtime's libraries register.
inline Value global(const char* name) {
  const TVMFFIByteArray key{name, strlen(name)};
  TVMFFIObjectHandle found = nullptr;
  if (tvm_detail::api.get_global(&key, &found) != 0 || found == nullptr) {
    fail("this is another version of TVM's runtime: it has no %s", name);
  }
  return value_of(found, kTVMFFIFunction);
}

// --- tensors --------------------------------------------------------------------------------------------------

// A tensor of TVM's in the memory of this one.
inline Value shared(const Tensor& tensor) {
  auto* managed = static_cast<DLManagedTensor*>(calloc(1, sizeof(DLManagedTensor)));
  DLTensor& view = managed->dl_tensor;
  view.data = tensor.data;
  view.device = {kDLCPU, 0};
  view.ndim = static_cast<int32_t>(tensor.shape.size());
  view.dtype = {tensor.dtype.code, tensor.dtype.bits, 1};
  view.shape = const_cast<int64_t*>(tensor.shape.begin());
  managed->deleter = [](DLManagedTensor* self) { free(self); };
  TVMFFIObjectHandle made = nullptr;
  if (tvm_detail::api.from_dlpack(managed, Tensor::kAlignment, 1, &made) != 0) fail("making an input: %s", raised());
  return value_of(made, kTVMFFITensor);
}

// Copies of the tensors of a result, which may be a tuple, or a tuple of tuples.
inline void copy_tensors(const Value& result, List<Tensor>* tensors) {
  if (result.type_index == kTVMFFIArray) {
    const auto* array = reinterpret_cast<const TVMFFISeqCell*>(result.v_obj + 1);  // behind the object's header
    for (int64_t i = 0; i < array->size; ++i) copy_tensors(static_cast<const Value*>(array->data)[i], tensors);
    return;
  }
  if (result.type_index != kTVMFFITensor) fail("the network's result is neither a tensor nor a tuple of tensors");
  const DLTensor& found = *TVMFFITensorGetDLTensorPtr(result.v_ptr);
  for (const Dtype& dtype : kDtypes) {
    if (dtype.code != found.dtype.code || dtype.bits != found.dtype.bits || found.dtype.lanes != 1) continue;
    Shape shape;
    shape.add(found.shape, static_cast<size_t>(found.ndim));
    const Tensor copy = Tensor::make(dtype, shape);
    memcpy(copy.data, static_cast<const char*>(found.data) + found.byte_offset, copy.bytes());
    tensors->add(copy);
    return;
  }
  fail("the network's result has a dtype that is not known here");
}

// --- JSON, which TVM reads ------------------------------------------------------------------------------------

class Json {
 public:
  static Json read(const char* path) {
    Bytes file = read_file(path);
    file.add(0);
    const char* damage = text("%s is damaged", path);
    return Json(damage, call(damage, global("ffi.json.Parse"), {value_of(reinterpret_cast<char*>(file.begin()))}));
  }

  Json operator[](const char* key) const { return get("ffi.MapGetItem", value_of(key)); }
  Json operator[](size_t index) const { return get("ffi.ArrayGetItem", value_of(static_cast<int64_t>(index))); }
  size_t size() const { return static_cast<size_t>(call(damage_, global("ffi.ArraySize"), {value_}).v_int64); }
  bool exists() const { return value_.type_index != kTVMFFINone; }

  int64_t whole() const {
    if (value_.type_index != kTVMFFIInt && value_.type_index != kTVMFFIBool) fail("%s", damage_);
    return value_.v_int64;
  }
  double number() const {
    return value_.type_index == kTVMFFIFloat ? value_.v_float64 : static_cast<double>(whole());
  }
  const char* letters() const {
    TVMFFIByteArray bytes{};
    if (value_.type_index == kTVMFFISmallStr) {
      bytes = TVMFFISmallBytesGetContentByteArray(&value_);
    } else if (value_.type_index == kTVMFFIStr) {
      bytes = *TVMFFIBytesGetByteArrayPtr(value_.v_ptr);
    } else {
      fail("%s", damage_);
    }
    return text("%.*s", static_cast<int>(bytes.size), bytes.data);
  }
  Shape shape() const {
    Shape sizes;
    for (size_t i = 0; i < size(); ++i) sizes.add((*this)[i].whole());
    return sizes;
  }

 private:
  Json(const char* damage, Value value) : damage_(damage), value_(value) {}
  Json get(const char* function, const Value& place) const {
    return Json(damage_, call(damage_, global(function), {value_, place}));
  }

  const char* damage_;
  Value value_;
};
