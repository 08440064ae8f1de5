// One step forwards. Included by kernel.cc alone.
#pragma once

#include "nearby.h"
#include "tile.h"

namespace lstmjax {
namespace LSTMJAX_SET {

// What the tile reads and writes of one row.
struct Row {
  const float *x, *z, *h, *c;
  float *h_out, *c_out, *gates, *sums;
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
    r.sums = layer.sums.data ? at(layer.sums, t, row) : nullptr;
  }
  return n;
}

// Packed weights of a block: a panel with a vector for each gate, of each input, then of each hidden unit; then the
// biases.
static inline int64_t block_floats(const Layer& layer) { return (layer.inputs + layer.hidden + 1) * kPanel; }

static void pack(const Layer& layer, int64_t block, int64_t block_end) {
  const int64_t width = layer.hidden, total = layer.inputs + width, floats = block_floats(layer);
  for (int64_t k = 0; k <= total; k++) {  // rows outside, so that the weights are read in order
    const float* in = k < layer.inputs ? layer.w_x + k * 4 * width
                      : k < total      ? layer.w_h + (k - layer.inputs) * 4 * width
                                       : layer.b;
    for (int64_t n = block; n < block_end; n++) {
      const int64_t first = n * kLanes, size = smaller(kLanes, width - first);
      for (int g = 0; g < 4; g++) {
        float* out = layer.packed + n * floats + (k < total ? place(g, total) + k * kLine : total * kPanel + g * kLanes);
        store(out, load(in + g * width + first, size));
      }
    }
  }
}

// The pre-activations of a tile. A function of its own, so that the products have all registers for themselves.
template <int R>
static __attribute__((noinline)) void sum_up(const Layer& layer, const Row* rows, int64_t block,
                                             Ahead& ahead, float (*z)[4][kLanes]) {
  constexpr int V = vectors(R);
  const int64_t inputs = layer.inputs, total = inputs + layer.hidden;
  const float* weights = layer.packed + block * block_floats(layer);
  const float *xs[R], *hs[R];
  for (int r = 0; r < R; r++) xs[r] = rows[r].x, hs[r] = rows[r].h;
  for (int gate = 0; gate < 4; gate += V) {
    Sums<R, V> sums{z[0][gate], 4 * kLanes, weights + total * kPanel + gate * kLanes};
    multiply<R, V>(sums, xs, inputs, weights, total, gate, &ahead);
    multiply<R, V>(sums, hs, layer.hidden, weights + inputs * kLine, total, gate, &ahead);
    sums.put();
  }
}

// The gates, c and h of some rows from their pre-activations, for a block of units. First all gates, then all states: the
// processor computes several rows at a time, since none waits for another. `kFull`: all lanes of the block are units.
template <bool kFull>
static __attribute__((noinline)) void update(int64_t width, const Row* rows, int64_t count, int64_t first,
                                             float (*z)[4][kLanes], const Nearby& next) {
  const int64_t n = kFull ? kLanes : width - first;
  for (int64_t r = 0; r < count; r++) {
    Vec sums[4];
    for (int gate = 0; gate < 4; gate++) {
      sums[gate] = load(z[r][gate]);
      if (rows[r].z) sums[gate] += load(rows[r].z + gate * width + first, n);
      if (rows[r].sums) store(rows[r].sums + gate * width + first, sums[gate], n);
    }
    store(z[r][0], sigmoid(sums[0]));
    store(z[r][1], sigmoid(sums[1]));
    store(z[r][2], tanh(sums[2]));
    store(z[r][3], sigmoid(sums[3]));
  }
  for (int64_t r = 0; r < count; r++) {
    const Vec i = load(z[r][0]), f = load(z[r][1]), g = load(z[r][2]), o = load(z[r][3]);
    const Vec c = f * load(rows[r].c + first, n) + i * g;
    store(rows[r].c_out + first, c, n);
    store(rows[r].h_out + first, o * tanh(c), n);
    if (float* gates = rows[r].gates) {
      ask_for_gates(gates + next.gates + first, width);
      ask_for(rows[r].c_out + next.c + first);
      ask_for(rows[r].h_out + next.h + first);
      store(gates + first, i, n);
      store(gates + width + first, f, n);
      store(gates + 2 * width + first, g, n);
      store(gates + 3 * width + first, o, n);
    }
  }
}

template <int R>
static void forward_tile(const Layer& layer, const Row* rows, int64_t block, Ahead& ahead, const Nearby& next) {
  alignas(4 * kLanes) float z[R][4][kLanes];
  sum_up<R>(layer, rows, block, ahead, z);
  const int64_t first = block * kLanes;
  (first + kLanes <= layer.hidden ? update<true> : update<false>)(layer.hidden, rows, R, first, z, next);
}

static void forward(const Layer& layer, int64_t order, int64_t row, int64_t row_end, int64_t block, int64_t block_end) {
  using Tile = void (*)(const Layer&, const Row*, int64_t, Ahead&, const Nearby&);
  static const Tile tiles[] = {nullptr,         forward_tile<1>, forward_tile<2>, forward_tile<3>,
                               forward_tile<4>, forward_tile<5>, forward_tile<6>};
  Row rows[kChunk];
  const Nearby next = nearby(layer, 0, order + 1 == layer.steps, false);
  for (; row < row_end; row += kChunk) {
    const int64_t n = collect(layer, order, row, smaller(row + kChunk, row_end), rows);
    const int64_t floats = block_floats(layer);
    Ahead ahead = ahead_of(layer, n, layer.inputs + layer.hidden, floats);
    for (int64_t k = block; k < block_end; k++) {
      ahead.next = layer.packed + (k + 1 < block_end ? k + 1 : block) * floats;
      in_groups(n, [&](int64_t start, int64_t size) { tiles[size](layer, rows + start, k, ahead, next); });
    }
  }
}

}  // namespace LSTMJAX_SET
}  // namespace lstmjax
