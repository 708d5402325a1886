// Images: PNG, PPM and PGM in, PNG out.
#pragma once

#include "checksum.h"
#include "inflate.h"
#include "support.h"

// Pixels in RGB order, row by row: [height][width][3].
struct Picture {
  int width, height;
  Bytes rgb;
};

namespace image_detail {

constexpr int64_t kMaxPixels = 178956970;  // what Pillow refuses beyond, too
constexpr uint8_t kSignature[] = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1A, '\n'};
enum Colour { kGrey = 0, kRgb = 2, kIndexed = 3, kGreyAlpha = 4, kRgba = 6 };

inline uint32_t big_endian(const uint8_t* data) {
  return uint32_t{data[0]} << 24 | uint32_t{data[1]} << 16 | uint32_t{data[2]} << 8 | data[3];
}

inline void add_number(Bytes* out, uint32_t value) {
  for (int shift = 24; shift >= 0; shift -= 8) out->add(static_cast<uint8_t>(value >> shift));
}

inline void check_size(const char* path, int64_t width, int64_t height) {
  if (width < 1 || height < 1 || width > kMaxPixels / height) {
    fail("the image %s is %lld x %lld pixels; from 1 to %lld pixels are accepted", path, static_cast<long long>(width),
         static_cast<long long>(height), static_cast<long long>(kMaxPixels));
  }
}

[[noreturn]] inline void damaged(const char* path, const char* what) {
  fail("the image %s is damaged: %s; copy it again", path, what);
}

// --- PNG in ---------------------------------------------------------------------------------------------------

struct Png {
  int64_t width = 0, height = 0;
  int depth = 0, colour = -1;
  bool interlaced = false;
  Bytes palette, data;

  int channels() const { return colour == kRgb ? 3 : colour == kRgba ? 4 : colour == kGreyAlpha ? 2 : 1; }
  size_t row_bytes() const { return static_cast<size_t>((width * channels() * depth + 7) / 8); }
};

inline Png chunks(const char* path, const Bytes& file) {
  Png png;
  size_t at = sizeof(kSignature);
  for (bool last = false; !last;) {
    if (file.size() - at < 12) damaged(path, "it is cut short");
    const uint32_t size = big_endian(&file[at]);
    if (size > file.size() - at - 12) damaged(path, "it is cut short");
    const uint8_t *name = &file[at] + 4, *content = name + 4;
    const auto is = [&](const char* which) { return memcmp(name, which, 4) == 0; };
    if (crc32(name, size + 4) != big_endian(content + size)) damaged(path, "a checksum does not match");
    if (is("IHDR") && size == 13) {
      png.width = big_endian(content);
      png.height = big_endian(content + 4);
      png.depth = content[8];
      png.colour = content[9];
      png.interlaced = content[12];
    } else if (is("PLTE")) {
      png.palette.add(content, size);
    } else if (is("IDAT")) {
      png.data.add(content, size);
    } else if (is("eXIf")) {
      fail("the image %s has EXIF data, which may turn it; save it upright, without EXIF data", path);
    }
    last = is("IEND");
    at += size + 12;
  }
  return png;
}

inline int paeth(int left, int up, int corner) {
  const int to_left = abs(up - corner), to_up = abs(left - corner), to_corner = abs(left + up - 2 * corner);
  return to_left <= to_up && to_left <= to_corner ? left : to_up <= to_corner ? up : corner;
}

// Undo the filters; each row begins with the number of its filter.
inline bool unfilter(const Png& png, Bytes* rows) {
  const size_t row = png.row_bytes(), step = static_cast<size_t>(most(1, png.channels() * png.depth / 8));
  const Bytes above_first(row);
  for (int64_t y = 0; y < png.height; ++y) {
    uint8_t* now = rows->begin() + static_cast<size_t>(y) * (row + 1) + 1;
    const uint8_t* above = y == 0 ? above_first.begin() : now - (row + 1);
    if (now[-1] > 4) return false;
    for (size_t x = 0; x < row; ++x) {
      const int left = x < step ? 0 : now[x - step], up = above[x], corner = x < step ? 0 : above[x - step];
      const int guesses[] = {0, left, up, (left + up) / 2, paeth(left, up, corner)};
      now[x] = static_cast<uint8_t>(now[x] + guesses[now[-1]]);
    }
  }
  return true;
}

inline Picture read_png(const char* path, const Bytes& file) {
  const Png png = chunks(path, file);
  check_size(path, png.width, png.height);
  if (memchr("\0\2\3\4\6", png.colour, 5) == nullptr) damaged(path, "its pixels are of no known kind");
  const bool packs = png.colour == kGrey || png.colour == kIndexed;
  const bool shallow = packs && (png.depth == 1 || png.depth == 2 || png.depth == 4);
  if (!shallow && png.depth != 8) fail("the image %s has %d bits a channel; save it with 8", path, png.depth);
  if (png.interlaced) fail("the image %s is interlaced; save it without that", path);
  Bytes rows;
  if (!inflate(png.data, (png.row_bytes() + 1) * static_cast<size_t>(png.height), &rows) || !unfilter(png, &rows)) {
    damaged(path, "its pixels do not decode");
  }
  Picture picture{static_cast<int>(png.width), static_cast<int>(png.height), {}};
  picture.rgb.reserve(static_cast<size_t>(png.width * png.height * 3));
  const int highest = (1 << png.depth) - 1, per_byte = 8 / png.depth, channels = png.channels();
  for (int64_t y = 0; y < png.height; ++y) {
    const uint8_t* row = rows.begin() + static_cast<size_t>(y) * (png.row_bytes() + 1) + 1;
    for (int64_t x = 0; x < png.width; ++x) {
      const int shift = 8 - png.depth * (1 + static_cast<int>(x % per_byte));
      const uint8_t* pixel = row + (shallow ? x / per_byte : x * channels);
      const int value = shallow ? (*pixel >> shift) & highest : *pixel;
      const auto grey = static_cast<uint8_t>(value * 255 / highest);
      const uint8_t greys[] = {grey, grey, grey};
      const bool indexed = png.colour == kIndexed;
      if (indexed && static_cast<size_t>(value) * 3 + 3 > png.palette.size()) damaged(path, "a pixel has no colour");
      picture.rgb.add(indexed ? &png.palette[static_cast<size_t>(value) * 3] : channels >= 3 ? pixel : greys, 3);
    }
  }
  return picture;
}

// --- PPM and PGM in -------------------------------------------------------------------------------------------

// The next number of the header, or -1; comments begin with # and end with the line.
inline int64_t number(const Bytes& file, size_t* at) {
  while (*at < file.size() && (isspace(file[*at]) || file[*at] == '#')) {
    if (file[*at] == '#') {
      while (*at < file.size() && file[*at] != '\n') ++*at;
    } else {
      ++*at;
    }
  }
  int64_t value = -1;
  for (; *at < file.size() && isdigit(file[*at]) && value < kMaxPixels; ++*at) {
    value = most<int64_t>(value, 0) * 10 + (file[*at] - '0');
  }
  return value;
}

inline Picture read_pnm(const char* path, const Bytes& file) {
  const size_t channels = file[1] == '6' ? 3 : 1;
  size_t at = 2;
  const int64_t width = number(file, &at), height = number(file, &at), highest = number(file, &at);
  check_size(path, width, height);
  if (highest != 255) {
    fail("the image %s has values up to %lld; save it with 255", path, static_cast<long long>(highest));
  }
  ++at;  // the one white space behind the header
  const auto pixels = static_cast<size_t>(width * height);
  if (at > file.size() || file.size() - at < pixels * channels) damaged(path, "it is cut short");
  Picture picture{static_cast<int>(width), static_cast<int>(height), Bytes(pixels * 3)};
  for (size_t i = 0; i < pixels * 3; ++i) picture.rgb[i] = file[at + (channels == 3 ? i : i / 3)];
  return picture;
}

// --- PNG out --------------------------------------------------------------------------------------------------

inline void add_chunk(Bytes* out, const char* name, const Bytes& content) {
  add_number(out, static_cast<uint32_t>(content.size()));
  const size_t begin = out->size();
  out->add(reinterpret_cast<const uint8_t*>(name), 4);
  out->add(content.begin(), content.size());
  add_number(out, crc32(out->begin() + begin, out->size() - begin));
}

// A zlib stream of blocks that are stored as they are.
inline Bytes stored(const Bytes& content) {
  constexpr size_t kBlock = 65535;
  Bytes out;
  out.add(0x78);
  out.add(0x01);
  uint32_t low = 1, high = 0;  // of Adler-32
  for (size_t at = 0; at < content.size(); at += kBlock) {
    const size_t size = least(kBlock, content.size() - at);
    out.add(at + size == content.size());
    const size_t halves[] = {size, size ^ 0xFFFF};
    for (size_t half : halves) {
      out.add(static_cast<uint8_t>(half));
      out.add(static_cast<uint8_t>(half >> 8));
    }
    out.add(&content[at], size);
    for (size_t i = at; i < at + size; ++i) {
      low = (low + content[i]) % 65521;
      high = (high + low) % 65521;
    }
  }
  add_number(&out, high << 16 | low);
  return out;
}

}  // namespace image_detail

inline Picture read_image(const char* path) {
  using namespace image_detail;
  const Bytes file = read_file(path);
  if (file.size() > sizeof(kSignature) && memcmp(file.begin(), kSignature, sizeof(kSignature)) == 0) {
    return read_png(path, file);
  }
  if (file.size() > 2 && file[0] == 'P' && (file[1] == '5' || file[1] == '6')) return read_pnm(path, file);
  fail("%s is no image that can be read here; accepted are PNG and binary PPM or PGM (of a JPEG: djpeg photo.jpg > "
       "photo.ppm)", path);
}

// Classes as a PNG: the value of a pixel is its class. With up to 256 classes it has a palette, and is seen in the
// classes' colours (RGB, one after the other); with more it is grey with 16 bits.
inline Bytes png_of_classes(const List<int64_t>& classes, int64_t width, const Bytes& colours) {
  using namespace image_detail;
  const size_t columns = static_cast<size_t>(width), rows = classes.size() / columns;
  int64_t last = 0;
  for (int64_t value : classes) last = most(last, value);
  const bool wide = last > 255;
  Bytes pixels;
  for (size_t i = 0; i < classes.size(); ++i) {
    if (i % columns == 0) pixels.add(0);  // a row without a filter
    if (wide) pixels.add(static_cast<uint8_t>(classes[i] >> 8));
    pixels.add(static_cast<uint8_t>(classes[i]));
  }
  Bytes header;
  add_number(&header, static_cast<uint32_t>(columns));
  add_number(&header, static_cast<uint32_t>(rows));
  const uint8_t kind[] = {static_cast<uint8_t>(wide ? 16 : 8), static_cast<uint8_t>(wide ? kGrey : kIndexed), 0, 0, 0};
  header.add(kind, sizeof(kind));
  Bytes out;
  out.add(kSignature, sizeof(kSignature));
  add_chunk(&out, "IHDR", header);
  if (!wide) add_chunk(&out, "PLTE", colours);
  add_chunk(&out, "IDAT", stored(pixels));
  add_chunk(&out, "IEND", {});
  return out;
}
