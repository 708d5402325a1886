// The little that these programs want of a C++ library: they are built, and run, without one. That takes seconds
// instead of minutes, and no library of another compiler meets the one that TVM's runtime brings.
//
// What is read stays in memory until the program ends, which is soon.
#pragma once

#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

// A mistake is one line on stderr and exit code 2.
[[noreturn]] __attribute__((format(printf, 1, 2))) inline void fail(const char* format, ...) {
  char line[2048];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(line, sizeof(line), format, arguments);
  va_end(arguments);
  for (char* letter = line; *letter; ++letter) {
    if (*letter == '\n') *letter = ' ';
  }
  fflush(stdout);
  fprintf(stderr, "error: %s\n", line);
  exit(2);
}

template <typename T>
T least(T a, T b) {
  return b < a ? b : a;
}

template <typename T>
T most(T a, T b) {
  return a < b ? b : a;
}

// A list that grows. Copies share their elements.
template <typename T>
class List {
  static_assert(__is_trivially_copyable(T), "elements are moved as bytes");

 public:
  List() = default;
  // So many zeros.
  explicit List(size_t size) {
    reserve(size);
    memset(static_cast<void*>(data_), 0, size * sizeof(T));
    size_ = size;
  }

  void reserve(size_t room) {
    if (room <= room_) return;
    data_ = static_cast<T*>(realloc(static_cast<void*>(data_), room * sizeof(T)));
    if (data_ == nullptr) fail("there is no memory for %zu bytes", room * sizeof(T));
    room_ = room;
  }
  void add(T value) { add(&value, 1); }
  void add(const T* values, size_t count) {
    if (size_ + count > room_) reserve(most(size_ + count, 2 * room_));
    if (count) memcpy(static_cast<void*>(data_ + size_), values, count * sizeof(T));
    size_ += count;
  }

  T* begin() { return data_; }
  T* end() { return data_ + size_; }
  const T* begin() const { return data_; }
  const T* end() const { return data_ + size_; }
  size_t size() const { return size_; }
  bool empty() const { return size_ == 0; }
  T& operator[](size_t place) { return data_[place]; }
  const T& operator[](size_t place) const { return data_[place]; }

 private:
  T* data_ = nullptr;
  size_t size_ = 0, room_ = 0;
};

using Bytes = List<uint8_t>;

// Text as printf makes it.
__attribute__((format(printf, 1, 2))) inline const char* text(const char* format, ...) {
  char* made = nullptr;
  va_list arguments;
  va_start(arguments, format);
  const int size = vasprintf(&made, format, arguments);
  va_end(arguments);
  if (size < 0) fail("there is no memory for a line of text");
  return made;
}

inline bool equal(const char* one, const char* other) { return strcmp(one, other) == 0; }

inline bool ends_with(const char* whole, const char* end) {
  const size_t length = strlen(whole), size = strlen(end);
  return length >= size && equal(whole + length - size, end);
}

// --- files, which are read whole, and written whole or not at all ---------------------------------------------

inline Bytes read_file(const char* path) {
  FILE* file = fopen(path, "rb");
  if (file == nullptr) fail("cannot read %s: %s", path, strerror(errno));
  Bytes content;
  uint8_t block[1 << 16];
  for (size_t count; (count = fread(block, 1, sizeof(block), file)) > 0;) content.add(block, count);
  if (ferror(file)) fail("cannot read %s: %s", path, strerror(errno));
  fclose(file);
  return content;
}

inline void write_file(const char* path, const Bytes& content) {
  // in the same folder, so that the last step is one rename
  const char* partial = text("%s.%d.partial", path, static_cast<int>(getpid()));
  FILE* file = fopen(partial, "wb");
  bool written = file != nullptr && fwrite(content.begin(), 1, content.size(), file) == content.size();
  if (file != nullptr) written = fclose(file) == 0 && written;
  if (!written || rename(partial, path) != 0) {
    const int reason = errno;
    remove(partial);
    fail("cannot write %s: %s", path, strerror(reason));
  }
}
