// CRC-32 as PNG and gzip use it: reflected polynomial 0xEDB88320.
#pragma once

#include <stddef.h>
#include <stdint.h>

inline uint32_t crc32(const uint8_t* data, size_t size) {
  static uint32_t table[256];
  if (table[1] == 0) {
    for (uint32_t byte = 0; byte < 256; ++byte) {
      uint32_t rest = byte;
      for (int bit = 0; bit < 8; ++bit) rest = (rest >> 1) ^ (rest & 1 ? 0xEDB88320u : 0);
      table[byte] = rest;
    }
  }
  uint32_t rest = ~0u;
  for (size_t i = 0; i < size; ++i) rest = table[(rest ^ data[i]) & 0xFF] ^ (rest >> 8);
  return ~rest;
}
