// Inflate a zlib stream (RFC 1950 and 1951) whose inflated size is known, as that of a PNG is.
#pragma once

#include "support.h"

namespace inflate_detail {

constexpr int kLongest = 15;  // bits of a code

// Codes of one length follow each other; the first code of a length follows the last one of the length before.
struct Codes {
  int of_length[kLongest + 1] = {};
  List<uint16_t> symbols;  // in the order of their codes

  Codes(const uint8_t* lengths, int count) {
    for (int symbol = 0; symbol < count; ++symbol) ++of_length[lengths[symbol]];
    of_length[0] = 0;  // symbols that do not occur
    for (int length = 1; length <= kLongest; ++length) {
      for (int symbol = 0; symbol < count; ++symbol) {
        if (lengths[symbol] == length) symbols.add(static_cast<uint16_t>(symbol));
      }
    }
  }
};

struct Range {
  uint16_t base;
  uint8_t extra;  // bits behind the code that are added to the base
};

constexpr Range kLengths[] = {{3, 0},  {4, 0},  {5, 0},  {6, 0},   {7, 0},   {8, 0},   {9, 0},   {10, 0},
                              {11, 1}, {13, 1}, {15, 1}, {17, 1},  {19, 2},  {23, 2},  {27, 2},  {31, 2},
                              {35, 3}, {43, 3}, {51, 3}, {59, 3},  {67, 4},  {83, 4},  {99, 4},  {115, 4},
                              {131, 5}, {163, 5}, {195, 5}, {227, 5}, {258, 0}};
constexpr Range kDistances[] = {{1, 0},     {2, 0},     {3, 0},     {4, 0},      {5, 1},      {7, 1},
                                {9, 2},     {13, 2},    {17, 3},    {25, 3},     {33, 4},     {49, 4},
                                {65, 5},    {97, 5},    {129, 6},   {193, 6},    {257, 7},    {385, 7},
                                {513, 8},   {769, 8},   {1025, 9},  {1537, 9},   {2049, 10},  {3073, 10},
                                {4097, 11}, {6145, 11}, {8193, 12}, {12289, 12}, {16385, 13}, {24577, 13}};
// the lengths of codes are coded themselves; theirs come in this order
constexpr uint8_t kOrder[] = {16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15};

class Stream {
 public:
  Stream(const Bytes& in, size_t size) : in_(in), size_(size) { out_.reserve(size); }

  // False where the stream is damaged, or does not inflate to just that size.
  bool run() {
    const unsigned method = bits(8), flags = bits(8);
    if ((method & 15) != 8 || (method * 256 + flags) % 31 != 0 || (flags & 32) != 0) return false;
    for (bool last = false; fine_ && !last;) {
      last = bits(1);
      const unsigned kind = bits(2);
      if (kind == 0) {
        stored();
      } else if (kind == 1) {
        fixed();
      } else if (kind == 2) {
        dynamic();
      } else {
        fine_ = false;
      }
    }
    return fine_ && out_.size() == size_;
  }

  const Bytes& out() const { return out_; }

 private:
  unsigned bits(int count) {
    while (held_ < count) {
      if (at_ == in_.size()) {
        fine_ = false;
        return 0;
      }
      hold_ |= static_cast<uint32_t>(in_[at_++]) << held_;
      held_ += 8;
    }
    const unsigned value = hold_ & ((1u << count) - 1);
    hold_ >>= count;
    held_ -= count;
    return value;
  }

  int symbol(const Codes& codes) {
    int code = 0, first = 0, before = 0;
    for (int length = 1; fine_ && length <= kLongest; ++length) {
      code = code * 2 + static_cast<int>(bits(1));
      const int count = codes.of_length[length];
      if (code < first + count) return codes.symbols[before + code - first];
      before += count;
      first = (first + count) * 2;
    }
    fine_ = false;
    return 0;
  }

  void put(uint8_t byte) {
    if (out_.size() == size_) {
      fine_ = false;
    } else {
      out_.add(byte);
    }
  }

  void stored() {
    hold_ = 0;
    held_ = 0;
    const unsigned count = bits(16);
    if (bits(16) != (count ^ 0xFFFF)) fine_ = false;
    for (unsigned i = 0; fine_ && i < count; ++i) put(static_cast<uint8_t>(bits(8)));
  }

  void fixed() {
    uint8_t lengths[288], distances[30];
    memset(lengths, 8, 144);
    memset(lengths + 144, 9, 112);
    memset(lengths + 256, 7, 24);
    memset(lengths + 280, 8, 8);
    memset(distances, 5, sizeof(distances));
    coded(Codes(lengths, 288), Codes(distances, 30));
  }

  void dynamic() {
    const int literals = static_cast<int>(bits(5)) + 257, distances = static_cast<int>(bits(5)) + 1;
    const int count = static_cast<int>(bits(4)) + 4;
    uint8_t lengths[320] = {};
    for (int i = 0; i < count; ++i) lengths[kOrder[i]] = static_cast<uint8_t>(bits(3));
    const Codes of_lengths(lengths, 19);
    memset(lengths, 0, sizeof(lengths));
    for (int i = 0; fine_ && i < literals + distances;) {
      const int found = symbol(of_lengths);
      if (found < 16) {
        lengths[i++] = static_cast<uint8_t>(found);
        continue;
      }
      const uint8_t again = found == 16 && i > 0 ? lengths[i - 1] : 0;
      int times = found == 16 ? 3 + bits(2) : found == 17 ? 3 + bits(3) : 11 + bits(7);
      if ((found == 16 && i == 0) || i + times > literals + distances) fine_ = false;
      for (; fine_ && times > 0; --times) lengths[i++] = again;
    }
    if (fine_) coded(Codes(lengths, literals), Codes(lengths + literals, distances));
  }

  void coded(const Codes& literals, const Codes& distances) {
    while (fine_) {
      const int found = symbol(literals);
      if (found == 256) return;
      if (found < 256) {
        put(static_cast<uint8_t>(found));
        continue;
      }
      if (found - 257 >= 29) break;
      const Range& length = kLengths[found - 257];
      const unsigned count = length.base + bits(length.extra);
      const int far = symbol(distances);
      if (far >= 30) break;
      const size_t distance = kDistances[far].base + bits(kDistances[far].extra);
      if (distance > out_.size()) break;
      for (unsigned i = 0; fine_ && i < count; ++i) put(out_[out_.size() - distance]);
      if (!fine_) return;
    }
    fine_ = false;
  }

  const Bytes& in_;
  const size_t size_;
  Bytes out_;
  size_t at_ = 0;
  uint32_t hold_ = 0;
  int held_ = 0;
  bool fine_ = true;
};

}  // namespace inflate_detail

// False where `in` is damaged or does not inflate to `size` bytes.
inline bool inflate(const Bytes& in, size_t size, Bytes* out) {
  inflate_detail::Stream stream(in, size);
  const bool fine = stream.run();
  *out = stream.out();
  return fine;
}
