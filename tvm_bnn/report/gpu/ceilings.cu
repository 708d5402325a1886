// Kernels that do nothing but what a ceiling is about, for tvm_bnn.report.gpu.ceilings to time.
//
// Those of arithmetic take the same operands in every step, and add to sums that are independent of each other, so
// that the latency of an instruction is covered. A sum is an operand of its own next value, so nothing can be moved out
// of the loop. Each thread writes the total of its sums: where all bits are ones (of halves: all numbers 1), the totals
// of a launch add up to its multiply-accumulates.

#include <cstdint>

#define KERNEL(threads) extern "C" void __global__ __launch_bounds__(threads)

constexpr int STEPS_UNROLLED = 4;

// --- products of tiles by one warp ---

struct Tile {
  static constexpr int LEFTS = 2, RIGHTS = 4;
};

// operands and sums of one product, in registers of a thread
#if __CUDA_ARCH__ >= 800
#define LEFT_WORDS 4
#define RIGHT_WORDS 2
#define SUMS 4
#define PRODUCT(instruction, how)                                                                                   \
  asm volatile("mma.sync.aligned." instruction " {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"   \
               : how(sums[0]), how(sums[1]), how(sums[2]), how(sums[3])                                             \
               : "r"(left[0]), "r"(left[1]), "r"(left[2]), "r"(left[3]), "r"(right[0]), "r"(right[1]))
#define BITS(operation) PRODUCT("m16n8k256.row.col.s32.b1.b1.s32." operation ".popc", "+r")
#define HALVES PRODUCT("m16n8k16.row.col.f32.f16.f16.f32", "+f")
#else
#define LEFT_WORDS 1
#define RIGHT_WORDS 1
#define SUMS 2
#define BITS(operation)                                                                                             \
  asm volatile("mma.sync.aligned.m8n8k128.row.col.s32.b1.b1.s32." operation ".popc {%0, %1}, {%2}, {%3}, {%0, %1};" \
               : "+r"(sums[0]), "+r"(sums[1])                                                                       \
               : "r"(left[0]), "r"(right[0]))
#endif

#define PRODUCTS(name, type, lefts, rights, held, product)                                                          \
  KERNEL(256)                                                                                                       \
  name(const uint32_t *a, const uint32_t *b, uint32_t *out, int steps) {                                            \
    const int lane = threadIdx.x % 32;                                                                              \
    uint32_t all_left[Tile::LEFTS][lefts], all_right[Tile::RIGHTS][rights];                                         \
    type all_sums[Tile::LEFTS][Tile::RIGHTS][held] = {};                                                            \
    for (int i = 0; i < Tile::LEFTS; ++i)                                                                           \
      for (int k = 0; k < lefts; ++k) all_left[i][k] = a[(i * lefts + k) * 32 + lane];                              \
    for (int j = 0; j < Tile::RIGHTS; ++j)                                                                          \
      for (int k = 0; k < rights; ++k) all_right[j][k] = b[(j * rights + k) * 32 + lane];                           \
    _Pragma("unroll 1") for (int step = 0; step < steps; ++step) {                                                  \
      _Pragma("unroll") for (int again = 0; again < STEPS_UNROLLED; ++again)                                        \
        _Pragma("unroll") for (int i = 0; i < Tile::LEFTS; ++i)                                                     \
          _Pragma("unroll") for (int j = 0; j < Tile::RIGHTS; ++j) {                                                \
        const uint32_t *left = all_left[i], *right = all_right[j];                                                  \
        type *sums = all_sums[i][j];                                                                                \
        product;                                                                                                    \
      }                                                                                                             \
    }                                                                                                               \
    type total = 0;                                                                                                 \
    for (int i = 0; i < Tile::LEFTS; ++i)                                                                           \
      for (int j = 0; j < Tile::RIGHTS; ++j)                                                                        \
        for (int k = 0; k < held; ++k) total += all_sums[i][j][k];                                                  \
    out[blockIdx.x * blockDim.x + threadIdx.x] = static_cast<uint32_t>(total);                                      \
  }

PRODUCTS(mma_xor, int32_t, LEFT_WORDS, RIGHT_WORDS, SUMS, BITS("xor"))

#if __CUDA_ARCH__ >= 800
PRODUCTS(mma_and, int32_t, LEFT_WORDS, RIGHT_WORDS, SUMS, BITS("and"))
PRODUCTS(mma_half, float, LEFT_WORDS, RIGHT_WORDS, SUMS, HALVES)
#else
PRODUCTS(mma_half, float, 2, 1, 4,
         asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5}, {%6}, "
                      "{%0, %1, %2, %3};"
                      : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
                      : "r"(left[0]), "r"(left[1]), "r"(right[0])))
#endif

// --- bits counted in ordinary registers ---

KERNEL(256) popc(const uint32_t *a, const uint32_t *b, uint32_t *out, int steps) {
  constexpr int CHAINS = 8;
  const uint32_t left = a[threadIdx.x % 32];
  uint32_t right[CHAINS], sums[CHAINS] = {};
  for (int i = 0; i < CHAINS; ++i) right[i] = b[i * 32 + threadIdx.x % 32];
#pragma unroll 1
  for (int step = 0; step < steps; ++step) {
#pragma unroll
    for (int again = 0; again < STEPS_UNROLLED; ++again) {
#pragma unroll
      for (int i = 0; i < CHAINS; ++i) {
        sums[i] += __popc(left ^ right[i]);
        // another word each time, which takes a unit that counting leaves idle
        right[i] = __funnelshift_l(right[i], right[i], 1);
      }
    }
  }
  uint32_t total = 0;
  for (int i = 0; i < CHAINS; ++i) total += sums[i];
  out[blockIdx.x * blockDim.x + threadIdx.x] = total;
}

// --- products of tiles in shared memory by four warps, of sm_90a alone ---

#ifdef __CUDA_ARCH_FEAT_SM90_ALL
constexpr int GROUP = 16;  // products that are waited for together

#define REGISTERS                                                                                                   \
  "{"                                                                                                               \
    "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "                                        \
    "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "                              \
    "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "                              \
    "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63, "                              \
    "%64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, "                              \
    "%80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95, "                              \
    "%96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, %111, "                  \
    "%112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124, %125, %126, %127}"
#define EIGHT(how, i)                                                                                               \
  how(sums[i]), how(sums[i + 1]), how(sums[i + 2]), how(sums[i + 3]), how(sums[i + 4]), how(sums[i + 5]),           \
      how(sums[i + 6]), how(sums[i + 7])
#define ALL(how)                                                                                                    \
  EIGHT(how, 0), EIGHT(how, 8), EIGHT(how, 16), EIGHT(how, 24), EIGHT(how, 32), EIGHT(how, 40), EIGHT(how, 48),     \
      EIGHT(how, 56), EIGHT(how, 64), EIGHT(how, 72), EIGHT(how, 80), EIGHT(how, 88), EIGHT(how, 96),               \
      EIGHT(how, 104), EIGHT(how, 112), EIGHT(how, 120)
#define GROUP_PRODUCT(instruction, more, how)                                                                       \
  asm volatile("{.reg .pred add; setp.ne.b32 add, 1, 0;\n"                                                          \
               "wgmma.mma_async.sync.aligned." instruction " " REGISTERS ", %128, %129, add" more ";}"              \
               : ALL(how)                                                                                           \
               : "l"(left), "l"(right))

// Of rows of 32 bytes without swizzling: 8 rows of 16 bytes lie together, then their other halves, then the next rows.
__device__ uint64_t descriptor(const uint32_t *tile) {
  const uint64_t address = __cvta_generic_to_shared(tile), beside = 128, below = 256;
  return (address & 0x3ffff) >> 4 | beside >> 4 << 16 | below >> 4 << 32;
}

#define GROUP_PRODUCTS(name, type, product)                                                                         \
  KERNEL(128)                                                                                                       \
  name(const uint32_t *a, const uint32_t *b, uint32_t *out, int steps) {                                            \
    __shared__ alignas(128) uint32_t lefts[64 * 8], rights[256 * 8];                                                \
    for (int i = threadIdx.x; i < 64 * 8; i += 128) lefts[i] = a[i];                                                \
    for (int i = threadIdx.x; i < 256 * 8; i += 128) rights[i] = b[i];                                              \
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");                                                    \
    __syncthreads();                                                                                                \
    const uint64_t left = descriptor(lefts), right = descriptor(rights);                                            \
    type sums[128] = {};                                                                                            \
    _Pragma("unroll 1") for (int step = 0; step < steps; ++step) {                                                  \
      asm volatile("wgmma.fence.sync.aligned;" ::: "memory");                                                       \
      _Pragma("unroll") for (int again = 0; again < GROUP; ++again) { product; }                                    \
      asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");                                                \
      asm volatile("wgmma.wait_group.sync.aligned 0;" ::: "memory");                                                \
    }                                                                                                               \
    type total = 0;                                                                                                 \
    for (int i = 0; i < 128; ++i) total += sums[i];                                                                 \
    out[blockIdx.x * blockDim.x + threadIdx.x] = static_cast<uint32_t>(total);                                      \
  }

GROUP_PRODUCTS(wgmma_and, int32_t, GROUP_PRODUCT("m64n256k256.s32.b1.b1.and.popc", "", "+r"))
GROUP_PRODUCTS(wgmma_half, float, GROUP_PRODUCT("m64n256k16.f32.f16.f16", ", 1, 1, 0, 0", "+f"))
#endif

// --- bandwidth ---

KERNEL(256) copy(const uint4 *source, uint4 *result, int count) {
  constexpr int TOGETHER = 4;  // loads under way before the first store
  const int stride = gridDim.x * blockDim.x;
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  for (; i + (TOGETHER - 1) * stride < count; i += TOGETHER * stride) {
    uint4 values[TOGETHER];
#pragma unroll
    for (int k = 0; k < TOGETHER; ++k) values[k] = source[i + k * stride];
#pragma unroll
    for (int k = 0; k < TOGETHER; ++k) result[i + k * stride] = values[k];
  }
  for (; i < count; i += stride) result[i] = source[i];
}
