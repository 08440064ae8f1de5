// A dense layer, such as the head of a network. Included by kernel.cc alone.
#pragma once

#include "tile.h"

namespace lstmjax {
namespace LSTMJAX_SET {

// Packed weights of a panel: 4 vectors of outputs for each input; then their biases. What lies beyond the outputs is 0.
static inline int64_t dense_panel(const Dense& dense) { return (dense.inputs + 1) * kPanel; }
static int64_t dense_floats(const Dense& dense) { return (dense.outputs + kPanel - 1) / kPanel * dense_panel(dense); }

static void pack_dense(const Dense& dense, float* packed) {
  for (int64_t first = 0; first < dense.outputs; first += kPanel, packed += dense_panel(dense)) {
    for (int64_t v = 0; v < 4; v++) {
      const int64_t column = first + v * kLanes, n = larger(0, smaller(kLanes, dense.outputs - column));
      for (int64_t k = 0; k <= dense.inputs; k++) {
        const float* in = k < dense.inputs ? dense.w + k * dense.outputs : dense.b;
        float* out = packed + (k < dense.inputs ? place(v, dense.inputs) + k * kLine
                                                : dense.inputs * kPanel + v * kLanes);
        store(out, n ? load(in + column, n) : Vec{});
      }
    }
  }
}

template <int R>
static __attribute__((noinline)) void dense_tile(const Dense& dense, const float* packed, const float* x, int64_t x_row,
                                                 float* y, int64_t y_row) {
  constexpr int V = vectors(R);
  const float* xs[R];
  for (int r = 0; r < R; r++) xs[r] = x + r * x_row;
  for (int64_t first = 0; first < dense.outputs; first += kPanel, packed += dense_panel(dense)) {
    for (int64_t vector = 0; vector < 4 && first + vector * kLanes < dense.outputs; vector += V) {
      alignas(4 * kLanes) float all[R][V][kLanes];
      Sums<R, V> sums{all[0][0], V * kLanes, packed + dense.inputs * kPanel + vector * kLanes};
      multiply<R, V>(sums, xs, dense.inputs, packed, dense.inputs, vector);
      sums.put();
      for (int v = 0; v < V; v++) {
        const int64_t column = first + (vector + v) * kLanes;
        if (column >= dense.outputs) break;
        for (int r = 0; r < R; r++) store(y + r * y_row + column, load(all[r][v]), smaller(kLanes, dense.outputs - column));
      }
    }
  }
}

static void dense(const Dense& dense, const float* packed, const float* x, int64_t x_row, float* y, int64_t y_row,
                  int64_t rows) {
  using Tile = void (*)(const Dense&, const float*, const float*, int64_t, float*, int64_t);
  static const Tile tiles[] = {nullptr,       dense_tile<1>, dense_tile<2>, dense_tile<3>,
                               dense_tile<4>, dense_tile<5>, dense_tile<6>};
  in_groups(rows, [&](int64_t start, int64_t size) {
    tiles[size](dense, packed, x + start * x_row, x_row, y + start * y_row, y_row);
  });
}

}  // namespace LSTMJAX_SET
}  // namespace lstmjax
