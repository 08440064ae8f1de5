// Vectors of one instruction set, and the two activations on them. Included by kernel.cc alone.
//
// The width is all that differs from set to set: the operators are those of GCC's vector extension, which Clang has too.
#pragma once

#include <cstdint>

namespace lstmjax {
namespace LSTMJAX_SET {

// The lanes of a register, and how many of them a tile of six rows holds for each row: 24 of 32 registers, 12 of 16.
#if defined(LSTMJAX_SET_avx512)
constexpr int kLanes = 16, kTileVectors = 4;
#elif defined(LSTMJAX_SET_avx2)
constexpr int kLanes = 8, kTileVectors = 2;
#elif defined(LSTMJAX_SET_neon)
constexpr int kLanes = 4, kTileVectors = 4;
#else
constexpr int kLanes = 4, kTileVectors = 2;
#endif
constexpr int kPanel = 4 * kLanes;  // floats: a vector for each gate, or four vectors of units

typedef float Vec __attribute__((vector_size(4 * kLanes)));
typedef int32_t Bits __attribute__((vector_size(4 * kLanes)));
typedef float Unaligned __attribute__((vector_size(4 * kLanes), aligned(4), may_alias));

#if defined(__clang__)
#define LSTMJAX_UNROLL _Pragma("clang loop unroll(full)")
#else
#define LSTMJAX_UNROLL _Pragma("GCC unroll 16")
#endif

static inline Vec load(const float* p) { return *reinterpret_cast<const Unaligned*>(p); }
static inline void store(float* p, Vec v) { *reinterpret_cast<Unaligned*>(p) = v; }
static inline Vec broadcast(float x) { return x - Vec{}; }

// The first n lanes: what lies beyond them belongs to others. Always inlined: where n is the constant kLanes there is no
// call, so that vectors and constants stay in registers.
static inline __attribute__((always_inline)) Vec load(const float* p, int64_t n) {
  if (n >= kLanes) return load(p);
  Vec v{};
  for (int64_t k = 0; k < n; k++) v[k] = p[k];
  return v;
}
static inline __attribute__((always_inline)) void store(float* p, Vec v, int64_t n) {
  if (n >= kLanes) return store(p, v);
  for (int64_t k = 0; k < n; k++) p[k] = v[k];
}

// Transpose a square: swap its two quarters off the diagonal, then those of each quarter, and so on.
static inline void transpose(Vec (&rows)[kLanes]) {
#if defined(__clang__)  // it shuffles by constants alone
  for (int r = 0; r < kLanes; r++) {
    for (int k = 0; k < r; k++) {
      const float above = rows[k][r];
      rows[k][r] = rows[r][k];
      rows[r][k] = above;
    }
  }
#else
  LSTMJAX_UNROLL
  for (int half = kLanes / 2; half > 0; half /= 2) {
    LSTMJAX_UNROLL
    for (int r = 0; r < kLanes; r++) {
      if (r & half) continue;
      const Vec a = rows[r], b = rows[r + half];
      Bits upper, lower;  // lanes of a, then of b
      LSTMJAX_UNROLL
      for (int k = 0; k < kLanes; k++) {
        upper[k] = k & half ? kLanes + k - half : k;
        lower[k] = k & half ? kLanes + k : k + half;
      }
      rows[r] = __builtin_shuffle(a, b, upper);
      rows[r + half] = __builtin_shuffle(a, b, lower);
    }
  }
#endif
}

// Comparisons with NaN are false, so that NaN passes both.
static inline Vec at_most(Vec x, float limit) { return x > broadcast(limit) ? broadcast(limit) : x; }
static inline Vec at_least(Vec x, float limit) { return x < broadcast(limit) ? broadcast(limit) : x; }

// exp(y) = power · (1 + rest): y = n · log 2 + r, power = 2^n, and a polynomial for rest = exp(r) - 1 (Cephes, expf).
struct Exponential {
  Vec power, rest;
};
static inline Exponential exponential(Vec y) {
  const Vec magic = broadcast(12582912.0f);  // 1.5 · 2^23: the sum has n in its lowest bits
  const Vec shifted = y * 1.44269504f + magic;
  const Vec n = shifted - magic;
  const Vec r = (y - n * 0.693359375f) - n * -2.12194440e-4f;
  Vec p = r * 1.9875691500e-4f + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  const Bits power = (reinterpret_cast<Bits>(shifted) << 23) + 0x3f800000;
  return {reinterpret_cast<Vec>(power), p * (r * r) + r};
}

// 1 / (1 + exp(-x)), within 3 ulp. At 89 the power 2^128 is infinite and the result 0, as it is for XLA, which flushes
// subnormal numbers.
static inline Vec sigmoid(Vec x) {
  const Exponential e = exponential(at_least(at_most(-x, 89.0f), -87.3f));
  return 1.0f / (e.power * (e.rest + 1.0f) + 1.0f);
}

// m / (m + 2) with m = exp(2|x|) - 1, within 3 ulp; beyond the limit it is 1 in float32.
static inline Vec tanh(Vec x) {
  const Bits sign = reinterpret_cast<Bits>(x) & INT32_MIN;
  const Vec size = reinterpret_cast<Vec>(reinterpret_cast<Bits>(x) ^ sign);
  const Exponential e = exponential(at_most(size + size, 18.1f));
  const Vec m = e.power * e.rest + (e.power - 1.0f);
  return reinterpret_cast<Vec>(reinterpret_cast<Bits>(m / (m + 2.0f)) | sign);
}

}  // namespace LSTMJAX_SET
}  // namespace lstmjax
