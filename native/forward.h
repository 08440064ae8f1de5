// One step forwards. Included by kernel.cc alone.
#pragma once

#include "tile.h"

namespace lstmjax {
namespace LSTMJAX_SET {

// What the tile reads and writes of one row.
struct Row {
  const float *x, *z, *h, *c;
  float *h_out, *c_out, *gates;
};

// Collect the valid rows among [row, end); return how many there are.
static int64_t collect(const Layer& layer, int64_t order, int64_t row, int64_t end, Row* rows) {
  const int64_t t = time_of(layer, order), width = layer.hidden;
  int64_t n = 0;
  for (; row < end; row++) {
    const int32_t from = source(layer, order, row);
    if (from == kAbsent) continue;
    const int64_t to = layer.ring ? (from < 0 ? 0 : from ^ 1) : t;
    Row& r = rows[n++];
    r.x = layer.inputs ? at(layer.x, t, row) : nullptr;
    r.z = layer.z.data ? at(layer.z, t, row) : nullptr;
    if (from < 0) {
      r.h = (from == kStart ? layer.h0 : layer.h_reset) + row * width;
      r.c = (from == kStart ? layer.c0 : layer.c_reset) + row * width;
    } else {
      r.h = at(layer.h, from, row);
      r.c = at(layer.c, from, row);
    }
    r.h_out = at(layer.h, to, row);
    r.c_out = at(layer.c, to, row);
    r.gates = layer.gates.data ? at(layer.gates, t, row) : nullptr;
  }
  return n;
}

// Packed weights of a block: a panel with a vector for each gate, of each input, then of each hidden unit; then the
// biases.
static inline int64_t block_floats(const Layer& layer) { return (layer.inputs + layer.hidden + 1) * kPanel; }

static void pack(const Layer& layer, int64_t block) {
  const int64_t width = layer.hidden, first = block * kLanes, n = smaller(kLanes, width - first);
  const int64_t total = layer.inputs + width;
  float* out = layer.packed + block * block_floats(layer);
  for (int64_t k = 0; k < total; k++) {
    const float* in = k < layer.inputs ? layer.w_x + k * 4 * width : layer.w_h + (k - layer.inputs) * 4 * width;
    for (int g = 0; g < 4; g++) store(out + place(g, total) + k * kLine, load(in + g * width + first, n));
  }
  for (int g = 0; g < 4; g++) store(out + total * kPanel + g * kLanes, load(layer.b + g * width + first, n));
}

// The pre-activations of a tile. A function of its own, so that the products have all registers for themselves.
template <int R>
static __attribute__((noinline)) void sum_up(const Layer& layer, const Row* rows, int64_t block,
                                             float (*z)[4][kLanes]) {
  constexpr int V = vectors(R);
  const int64_t inputs = layer.inputs, total = inputs + layer.hidden;
  const float* weights = layer.packed + block * block_floats(layer);
  const float *xs[R], *hs[R];
  for (int r = 0; r < R; r++) xs[r] = rows[r].x, hs[r] = rows[r].h;
  for (int gate = 0; gate < 4; gate += V) {
    Vec acc[R][V];
    LSTMJAX_UNROLL
    for (int v = 0; v < V; v++) {
      const Vec b = load(weights + total * kPanel + (gate + v) * kLanes);
      LSTMJAX_UNROLL
      for (int r = 0; r < R; r++) acc[r][v] = b;
    }
    multiply<R, V>(acc, xs, inputs, weights, total, gate);
    multiply<R, V>(acc, hs, layer.hidden, weights + inputs * kLine, total, gate);
    LSTMJAX_UNROLL
    for (int r = 0; r < R; r++) {
      LSTMJAX_UNROLL
      for (int v = 0; v < V; v++) store(z[r][gate + v], acc[r][v]);
    }
  }
}

// The gates, c and h of one row from its pre-activations, for a block of units.
static __attribute__((noinline)) void update(int64_t width, const Row& row, int64_t first, float (&z)[4][kLanes]) {
  const int64_t n = smaller(kLanes, width - first);
  Vec sums[4];
  for (int gate = 0; gate < 4; gate++) {
    sums[gate] = load(z[gate]);
    if (row.z) sums[gate] += load(row.z + gate * width + first, n);
  }
  const Vec i = sigmoid(sums[0]), f = sigmoid(sums[1]), g = tanh(sums[2]), o = sigmoid(sums[3]);
  const Vec c = f * load(row.c + first, n) + i * g;
  store(row.c_out + first, c, n);
  store(row.h_out + first, o * tanh(c), n);
  if (float* gates = row.gates) {
    store(gates + first, i, n);
    store(gates + width + first, f, n);
    store(gates + 2 * width + first, g, n);
    store(gates + 3 * width + first, o, n);
  }
}

template <int R>
static void forward_tile(const Layer& layer, const Row* rows, int64_t block) {
  alignas(4 * kLanes) float z[R][4][kLanes];
  sum_up<R>(layer, rows, block, z);
  for (int r = 0; r < R; r++) update(layer.hidden, rows[r], block * kLanes, z[r]);
}

static void forward(const Layer& layer, int64_t order, int64_t row, int64_t row_end, int64_t block, int64_t block_end) {
  using Tile = void (*)(const Layer&, const Row*, int64_t);
  static const Tile tiles[] = {nullptr,         forward_tile<1>, forward_tile<2>, forward_tile<3>,
                               forward_tile<4>, forward_tile<5>, forward_tile<6>};
  Row rows[kChunk];
  for (; row < row_end; row += kChunk) {
    const int64_t n = collect(layer, order, row, smaller(row + kChunk, row_end), rows);
    for (int64_t k = block; k < block_end; k++) {
      in_groups(n, [&](int64_t start, int64_t size) { tiles[size](layer, rows + start, k); });
    }
  }
}

}  // namespace LSTMJAX_SET
}  // namespace lstmjax
