// Tensors in memory and in files: .npy, and .raw (the bytes alone).
#pragma once

#include "support.h"

// As the manifest, NumPy and DLPack spell it; code and bits are DLPack's.
struct Dtype {
  const char *name, *descr;
  uint8_t code, bits;
};

constexpr Dtype kDtypes[] = {
    {"float32", "<f4", 2, 32}, {"float64", "<f8", 2, 64}, {"float16", "<f2", 2, 16}, {"int8", "|i1", 0, 8},
    {"int16", "<i2", 0, 16},   {"int32", "<i4", 0, 32},   {"int64", "<i8", 0, 64},   {"uint8", "|u1", 1, 8},
    {"uint16", "<u2", 1, 16},  {"uint32", "<u4", 1, 32},  {"uint64", "<u8", 1, 64},  {"bool", "|b1", 6, 8},
};

using Shape = List<int64_t>;

// "1, 3, 16"
inline const char* text_of(const Shape& shape) {
  const char* made = "";
  for (size_t i = 0; i < shape.size(); ++i) {
    made = text("%s%s%lld", made, i == 0 ? "" : ", ", static_cast<long long>(shape[i]));
  }
  return made;
}

// The memory begins where TVM wants it to.
struct Tensor {
  static constexpr size_t kAlignment = 64;

  Dtype dtype;
  Shape shape;
  uint8_t* data;

  static Tensor make(Dtype dtype, Shape shape) {
    Tensor tensor{dtype, shape, nullptr};
    const size_t whole = (tensor.bytes() / kAlignment + 1) * kAlignment;
    tensor.data = static_cast<uint8_t*>(aligned_alloc(kAlignment, whole));
    if (tensor.data == nullptr) fail("there is no memory for a tensor of %zu bytes", tensor.bytes());
    return tensor;
  }

  int64_t count() const {
    int64_t product = 1;
    for (int64_t size : shape) product *= size;
    return product;
  }
  size_t bytes() const { return static_cast<size_t>(count()) * dtype.bits / 8; }
  const char* title() const { return text("%s [%s]", dtype.name, text_of(shape)); }
  template <typename T>
  T* as() const {
    return reinterpret_cast<T*>(data);
  }
};

namespace tensor_detail {

constexpr char kMagic[] = "\x93NUMPY\1";  // and its version
constexpr size_t kBefore = 10;            // bytes in front of the header's text
constexpr size_t kBlock = 64;             // data begins at a multiple of it

// The text of the header that np.save writes, without what fills it up.
inline const char* npy_header(const Tensor& tensor) {
  const char* comma = tensor.shape.size() == 1 ? "," : "";
  const char* shape = text_of(tensor.shape);
  return text("{'descr': '%s', 'fortran_order': False, 'shape': (%s%s), }", tensor.dtype.descr, shape, comma);
}

// `letters` without white space.
inline const char* packed(const char* letters, size_t size) {
  List<char> made;
  for (size_t i = 0; i < size; ++i) {
    if (!isspace(static_cast<unsigned char>(letters[i]))) made.add(letters[i]);
  }
  made.add('\0');
  return made.begin();
}

// Where the data of an .npy file begins, whose header has to tell of such a tensor.
inline size_t npy_data(const char* path, const char* name, const Bytes& file, const Tensor& tensor) {
  if (file.size() < kBefore || memcmp(file.begin(), kMagic, sizeof(kMagic) - 1) != 0) {
    fail("%s is no .npy file of version 1, as np.save writes it", path);
  }
  const size_t data = kBefore + file[8] + file[9] * size_t{256};
  if (data > file.size()) fail("%s is cut short", path);
  // what writers do differently is white space
  const char* wanted = npy_header(tensor);
  const char* found = packed(reinterpret_cast<const char*>(file.begin()) + kBefore, data - kBefore);
  wanted = packed(wanted, strlen(wanted));
  if (!equal(found, wanted)) fail("input '%s' is to be %s, and %s has %s", name, wanted, path, found);
  return data;
}

}  // namespace tensor_detail

inline bool is_tensor(const char* path) { return ends_with(path, ".npy") || ends_with(path, ".raw"); }

// Fill a tensor from a file; `name` is that of the network's input.
inline void read_tensor(const char* path, const char* name, const Tensor& tensor) {
  const Bytes file = read_file(path);
  const size_t at = ends_with(path, ".npy") ? tensor_detail::npy_data(path, name, file, tensor) : 0;
  if (file.size() - at != tensor.bytes()) {
    fail("input '%s' is %s, %zu bytes, and %s has %zu", name, tensor.title(), tensor.bytes(), path, file.size() - at);
  }
  memcpy(tensor.data, file.begin() + at, tensor.bytes());
}

// As the ending of the path says, .npy or .raw.
inline void write_tensor(const char* path, const Tensor& tensor) {
  using namespace tensor_detail;
  Bytes content;
  if (ends_with(path, ".npy")) {
    const char* header = npy_header(tensor);
    const size_t size = strlen(header), whole = (kBefore + size) / kBlock * kBlock + kBlock - kBefore;
    content.add(reinterpret_cast<const uint8_t*>(kMagic), sizeof(kMagic));
    content.add(static_cast<uint8_t>(whole));
    content.add(static_cast<uint8_t>(whole >> 8));
    content.add(reinterpret_cast<const uint8_t*>(header), size);
    for (size_t i = size; i < whole - 1; ++i) content.add(' ');
    content.add('\n');
  }
  content.add(tensor.data, tensor.bytes());
  write_file(path, content);
}
