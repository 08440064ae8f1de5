// The product of a few rows with a panel of packed weights, in registers. Included by kernel.cc alone.
#pragma once

#include "vector.h"

namespace lstmjax {
namespace LSTMJAX_SET {

constexpr int kRows = 6;  // of a tile, at most
constexpr int kChunk = 96;  // rows whose pointers are prepared together
constexpr int64_t kSum = 64;  // so many numbers of a product are added up one after the other; then their sums are

// How many vectors of a panel a tile of R rows takes at once; with few rows there are registers for all.
constexpr int vectors(int rows) { return rows <= 2 ? 4 : kTileVectors; }

// A panel holds 4 vectors for each of n rows of a matrix, in parts of as many vectors as a full tile takes at once, so
// that a tile reads memory in order. The place of a vector, for its first row:
constexpr int kLine = kTileVectors * kLanes;  // floats from row to row
static inline int64_t place(int64_t vector, int64_t n) {
  return vector / kTileVectors * (n * kLine) + vector % kTileVectors * kLanes;
}

static inline int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }

// The weights that come next, where they do not fit in the cache: the tiles of a block ask for them while they multiply,
// some lines for each stretch of their rows. A gain of 6 to 10% with 8 lanes (B128 T50 I64 H1024), none with 16: there
// fewer instructions stand for as much memory, and the processor itself looks far enough ahead.
struct Ahead {
  const float* next;
  int64_t lines;

  void ask() {
    for (int64_t line = 0; line < lines; line++, next += 16) __builtin_prefetch(next, 0, 2);
  }
};
constexpr bool kAsks = kLanes == 8;
constexpr int64_t kStretch = kAsks ? 32 : kSum;  // a part of kSum

// How much each stretch asks for: `rows` of them are multiplied, each of n numbers, while `floats` floats are to come.
static inline Ahead ahead_of(const Layer& layer, int64_t rows, int64_t n, int64_t floats) {
  const bool large = (layer.inputs + layer.hidden) * layer.hidden >= 1 << 19;  // 8 MB of weights
  if (!kAsks || !large || rows <= kRows) return {nullptr, 0};
  return {nullptr, 1 + floats / 16 / ((rows + kRows - 1) / kRows * (n / kStretch + 1) * (4 / kTileVectors))};
}

// The sums of a tile of R rows and V vectors: some of what is added up is in registers, the sums before it in memory.
// Added up one after the other, n numbers have an error that grows with the square root of n. In parts, whose sums are
// then added up, it hardly does.
template <int R, int V>
struct Sums {
  float* out;          // [R][V] vectors
  int64_t stride;      // of the rows of `out`, in floats
  const float* start;  // V vectors that every row begins with, such as biases, or null. They are added to the first part
                       // as a whole: in the registers they would make each of its roundings larger
  bool begun = false;  // there are sums in `out`
  int64_t left = kSum;  // so many numbers until this part ends
  Vec acc[R][V] = {};

  // Add what is in the registers to the sums in memory.
  inline __attribute__((always_inline)) void put() {
    LSTMJAX_UNROLL
    for (int r = 0; r < R; r++) {
      LSTMJAX_UNROLL
      for (int v = 0; v < V; v++) {
        float* p = out + r * stride + v * kLanes;
        const float* before = begun ? p : start ? start + v * kLanes : nullptr;
        store(p, before ? load(before) + acc[r][v] : acc[r][v]);
        acc[r][v] = Vec{};
      }
    }
    begun = true;
    left = kSum;
  }
};

// Add rows · weights over n numbers of each row to the sums, for V vectors of a panel of `total` rows that start at
// `vector`. The sum of one number runs over k upwards, in parts that do not depend on R and V, so that a result does not
// depend on how rows and panels are divided among threads. A part that was begun with other rows is gone on with.
template <int R, int V>
static inline __attribute__((always_inline)) void multiply(Sums<R, V>& sums, const float* const (&rows)[R], int64_t n,
                                                           const float* panel, int64_t total, int64_t vector,
                                                           Ahead* ahead = nullptr) {
  const float* w[V];
  for (int v = 0; v < V; v++) w[v] = panel + place(vector + v, total);
  for (int64_t k = 0; k < n;) {
    if (sums.left == 0) sums.put();
    if (kAsks && ahead) ahead->ask();
    const int64_t end = smaller(n, k + smaller(kStretch, sums.left));
    for (sums.left -= end - k; k < end; k++) {
      Vec column[V];
      LSTMJAX_UNROLL
      for (int v = 0; v < V; v++) {
        const bool joined = V <= kTileVectors;  // then one pointer serves all
        column[v] = load((joined ? w[0] + v * kLanes : w[v]) + k * kLine);
      }
      LSTMJAX_UNROLL
      for (int r = 0; r < R; r++) {
        const Vec a = broadcast(rows[r][k]);
        LSTMJAX_UNROLL
        for (int v = 0; v < V; v++) sums.acc[r][v] += a * column[v];
      }
    }
  }
}

// Call run(first, size) for groups of at most kRows out of n, as even as possible.
template <typename F>
static inline void in_groups(int64_t n, F run) {
  const int64_t groups = (n + kRows - 1) / kRows;
  for (int64_t g = 0; g < groups; g++) run(n * g / groups, n * (g + 1) / groups - n * g / groups);
}

}  // namespace LSTMJAX_SET
}  // namespace lstmjax
