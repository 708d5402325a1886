// From an image to the network's input, in every bit as Pillow resizes it and NumPy scales it.
#pragma once

#include <math.h>

#include "image.h"

namespace preprocess_detail {

constexpr int kFraction = 22;  // bits of a weight behind the point

// Weights by which one output pixel adds up input pixels, from `first` on.
struct Taps {
  int first;
  List<int> weights;
};

// Triangles as wide as two output pixels (two input pixels where the image grows), which add up to 1.
inline List<Taps> triangles(int in, int out) {
  const double scale = static_cast<double>(in) / out, support = most(scale, 1.0);
  List<Taps> taps;
  for (int i = 0; i < out; ++i) {
    const double centre = (i + 0.5) * scale;
    Taps now{most(0, static_cast<int>(centre - support + 0.5)), {}};
    const int end = least(in, static_cast<int>(centre + support + 0.5));
    List<double> heights;
    double sum = 0;
    for (int x = now.first; x < end; ++x) {
      const double far = fabs((x - centre + 0.5) * (1.0 / support));
      heights.add(far < 1.0 ? 1.0 - far : 0.0);
      sum += heights[heights.size() - 1];
    }
    for (double height : heights) {
      now.weights.add(static_cast<int>(0.5 + (sum != 0.0 ? height / sum : height) * (1 << kFraction)));
    }
    taps.add(now);
  }
  return taps;
}

// One axis: `lines` lines of `in` pixels each; they are the rows, or the columns.
inline Bytes along(const Bytes& from, int lines, int in, int out, bool rows) {
  const List<Taps> taps = triangles(in, out);
  Bytes to(static_cast<size_t>(lines) * static_cast<size_t>(out) * 3);
  const auto place = [&](int line, int pixel, int length) {
    return static_cast<size_t>(rows ? int64_t{line} * length + pixel : int64_t{pixel} * lines + line) * 3;
  };
  for (int line = 0; line < lines; ++line) {
    for (int i = 0; i < out; ++i) {
      const Taps& now = taps[static_cast<size_t>(i)];
      for (size_t channel = 0; channel < 3; ++channel) {
        int sum = 1 << (kFraction - 1), x = now.first;
        for (int weight : now.weights) sum += from[place(line, x++, in) + channel] * weight;
        to[place(line, i, out) + channel] = static_cast<uint8_t>(most(0, least(255, sum >> kFraction)));
      }
    }
  }
  return to;
}

}  // namespace preprocess_detail

// Bilinear, over as many pixels as an image that shrinks needs; both axes in turn, with 8 bits between.
inline Picture resize(Picture picture, int width, int height) {
  using preprocess_detail::along;
  if (width != picture.width) picture.rgb = along(picture.rgb, picture.height, picture.width, width, true);
  picture.width = width;
  if (height != picture.height) picture.rgb = along(picture.rgb, picture.width, picture.height, height, false);
  picture.height = height;
  return picture;
}

// One channel or three: RGB, or its luma by ITU-R 601.
inline Bytes channels_of(const Picture& picture, int channels) {
  if (channels == 3) return picture.rgb;
  Bytes grey;
  for (size_t i = 0; i < picture.rgb.size(); i += 3) {
    const uint8_t* pixel = &picture.rgb[i];
    grey.add(static_cast<uint8_t>((pixel[0] * 19595 + pixel[1] * 38470 + pixel[2] * 7471 + 0x8000) >> 16));
  }
  return grey;
}

// [height][width][channels] as it is, or as [channels][height][width]; each value by way of f(value, channel).
template <typename T, typename F>
void arrange(const Bytes& pixels, int channels, bool channels_last, F f, T* out) {
  const auto step = static_cast<size_t>(channels);
  for (size_t i = 0; i < pixels.size(); ++i) {
    const size_t pixel = i / step, channel = i % step;
    out[channels_last ? i : channel * (pixels.size() / step) + pixel] = f(pixels[i], channel);
  }
}
