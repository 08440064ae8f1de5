// One step backwards, and the gradients of the weights after it. Included by kernel.cc alone.
#pragma once

#include "nearby.h"
#include "tile.h"

namespace lstmjax {
namespace LSTMJAX_SET {

// What the tile reads and writes of one row.
struct RowBack {
  const float* dz_next;           // of the step that reads the state after this one, or null
  const float *dh, *dh_end;       // added to the slope of h
  const float *dc, *dc_next;      // added up to the slope of c
  const float *gates, *h, *c;     // c before the step
  float *dz, *dc_out, *dc_reset;  // dc_reset: where a reset adds the slope of c, or null
};

static inline int32_t reader(const Layer& layer, const Slopes& slopes, int64_t order, int64_t row) {
  if (slopes.next) return slopes.next[(order + 1) * layer.rows + row];
  return order + 1 == layer.steps ? kStart : static_cast<int32_t>(time_of(layer, order + 1));
}

// Collect the valid rows among [row, end); at order -1, all rows, for the initial state. Return how many there are.
// dz of the others is zeroed by the caller that has the first block, since several threads may share the blocks.
static int64_t collect_back(const Layer& layer, const Slopes& slopes, int64_t order, int64_t row, int64_t end,
                            bool first, RowBack* rows) {
  const int64_t t = order < 0 ? 0 : time_of(layer, order), width = layer.hidden;
  int64_t n = 0;
  for (; row < end; row++) {
    const int32_t from = order < 0 ? kStart : source(layer, order, row);
    if (from == kAbsent) {  // its inputs have no slope, and the gradients of weights pass it over
      float* dz = at(slopes.dz, t, row);
      for (int64_t k = 0; first && k < 4 * width; k++) dz[k] = 0;
      continue;
    }
    const int32_t next = reader(layer, slopes, order, row);
    RowBack& r = rows[n++];
    r.dz_next = next < 0 ? nullptr : at(slopes.dz, next, row);
    r.dh_end = next == kStart ? slopes.d_h + row * width : slopes.zeros;
    r.dc_next = next == kStart ? slopes.d_c + row * width : next == kReset ? slopes.zeros : slopes.dc0 + row * width;
    r.dc_out = slopes.dc0 + row * width;
    if (order < 0) {
      r.dz = slopes.dh0 + row * width;
      continue;
    }
    r.dh = slopes.dh.data ? at(slopes.dh, t, row) : slopes.zeros;
    r.dc = slopes.dc.data ? at(slopes.dc, t, row) : slopes.zeros;
    r.gates = at(layer.gates, t, row);
    r.h = at(layer.h, t, row);
    r.c = from == kStart ? layer.c0 + row * width : from == kReset ? layer.c_reset + row * width : at(layer.c, from, row);
    r.dz = at(slopes.dz, t, row);
    r.dc_reset = from == kReset && slopes.dc_reset ? slopes.dc_reset + row * width : nullptr;
  }
  return n;
}

// Pack a panel of a matrix of weights [width, 4H] transposed: 4 vectors along its width for each of 4H pre-activations.
static void pack_back(const float* weights, int64_t width, int64_t total, int64_t panel, float* packed) {
  float* out = packed + panel * total * kPanel;
  for (int64_t k = 0; k < total; k += kLanes) {
    const int64_t size = smaller(kLanes, total - k);
    for (int v = 0; v < 4; v++) {
      const int64_t first = panel * kPanel + v * kLanes;
      Vec square[kLanes] = {};
      for (int64_t row = first; row < smaller(first + kLanes, width); row++) {
        square[row - first] = load(weights + row * total + k, size);
      }
      transpose(square);
      for (int64_t n = 0; n < size; n++) store(out + place(v, total) + (k + n) * kLine, square[n]);
    }
  }
}

// Slopes of h or x: the product of dz, [4H] of each of R rows, with packed weights, for V vectors that start at a block.
template <int R, int V>
static __attribute__((noinline)) void through(const float* packed, int64_t total, const float* const (&dz)[R],
                                              int64_t block, float (&out)[R][V][kLanes],
                                              Ahead* ahead = nullptr) {
  Sums<R, V> sums{out[0][0], V * kLanes, nullptr};
  multiply<R, V>(sums, dz, total, packed + block / 4 * total * kPanel, total, block % 4, ahead);
  sums.put();
}

// The element-wise part: dz and the slope of c before the step, for one vector of units.
template <bool kFull>
static __attribute__((noinline)) void gates_back(int64_t width, const RowBack& row, Vec dh, int64_t first,
                                                 const Nearby& next) {
  const int64_t n = kFull ? kLanes : width - first;
  ask_for_gates(row.gates + next.gates + first, width);
  ask_for(row.c + next.c + first);
  ask_for(row.h + next.h + first);
  ask_for(row.dh + next.dh + first);
  const Vec i = load(row.gates + first, n), f = load(row.gates + width + first, n);
  const Vec g = load(row.gates + 2 * width + first, n), o = load(row.gates + 3 * width + first, n);
  const Vec h = load(row.h + first, n), c = load(row.c + first, n);
  dh += load(row.dh + first, n) + load(row.dh_end + first, n);
  const Vec squashed = h / at_least(o, 1.17549435e-38f);  // tanh of the new c, since h = o · tanh(c)
  const Vec dc = load(row.dc_next + first, n) + load(row.dc + first, n) + dh * (o - h * squashed);
  store(row.dz + first, dc * g * (i * (1.0f - i)), n);
  store(row.dz + width + first, dc * c * (f * (1.0f - f)), n);
  store(row.dz + 2 * width + first, dc * i * (1.0f - g * g), n);
  store(row.dz + 3 * width + first, dh * h * (1.0f - o), n);
  const Vec before = dc * f;
  if (row.dc_reset) {
    store(row.dc_reset + first, load(row.dc_reset + first, n) + before, n);
  } else {
    store(row.dc_out + first, before, n);
  }
}

template <int R, int V>
static void backward_tile(const Layer& layer, const Slopes& slopes, const RowBack* rows, int64_t block, bool initial,
                          Ahead& ahead, const Nearby& next) {
  const int64_t width = layer.hidden;
  alignas(4 * kLanes) float dh[R][V][kLanes] = {};
  const float* dz[R];
  bool any = false;
  for (int r = 0; r < R; r++) {
    dz[r] = rows[r].dz_next ? rows[r].dz_next : slopes.zeros;
    any = any || rows[r].dz_next;
  }
  if (any) through<R, V>(slopes.packed, 4 * width, dz, block, dh, &ahead);
  for (int r = 0; r < R; r++) {
    for (int v = 0; v < V; v++) {
      const int64_t first = (block + v) * kLanes, n = smaller(kLanes, width - first);
      if (initial) {  // dz stands for dh0 here
        store(rows[r].dz + first, load(dh[r][v]) + load(rows[r].dh_end + first, n), n);
        if (!rows[r].dz_next) store(rows[r].dc_out + first, load(rows[r].dc_next + first, n), n);
      } else {
        (n == kLanes ? gates_back<true> : gates_back<false>)(width, rows[r], load(dh[r][v]), first, next);
      }
    }
  }
}

// A function for each number of rows and of vectors of a tile.
#define LSTMJAX_ROWS(tile, R) {tile<R, 1>, tile<R, 2>, nullptr, tile<R, vectors(R)>}
#define LSTMJAX_TILES(tile)                                                                                            \
  {{}, LSTMJAX_ROWS(tile, 1), LSTMJAX_ROWS(tile, 2), LSTMJAX_ROWS(tile, 3), LSTMJAX_ROWS(tile, 4), LSTMJAX_ROWS(tile, 5), \
   LSTMJAX_ROWS(tile, 6)}

// Call run(block, V) for tiles of V vectors that cover some blocks; a tile stays inside a panel.
template <typename F>
static inline void in_tiles(int64_t block, int64_t end, int64_t rows, F run) {
  const int64_t most = vectors(static_cast<int>(rows));
  while (block < end) {
    const int64_t left = smaller(4 - block % 4, end - block);
    const int64_t size = left >= 4 && most >= 4 ? 4 : left >= 2 && block % 2 == 0 ? 2 : 1;
    run(block, size);
    block += size;
  }
}

static void backward(const Layer& layer, const Slopes& slopes, int64_t order, int64_t row, int64_t row_end, int64_t block,
                     int64_t block_end) {
  using Tile = void (*)(const Layer&, const Slopes&, const RowBack*, int64_t, bool, Ahead&, const Nearby&);
  static const Tile tiles[][4] = LSTMJAX_TILES(backward_tile);
  RowBack rows[kChunk];
  const Nearby next = nearby(layer, slopes.dh.step, order < 2, true);  // at order 1, c before the next step is in c0
  for (; row < row_end; row += kChunk) {
    const int64_t n = collect_back(layer, slopes, order, row, smaller(row + kChunk, row_end), block == 0, rows);
    const int64_t total = 4 * layer.hidden;
    Ahead ahead = ahead_of(layer, n, total, total * kPanel);
    for (int64_t panel = block, end; panel < block_end; panel = end) {
      end = smaller(block_end, panel / 4 * 4 + 4);
      ahead.next = slopes.packed + (end < block_end ? end : block) / 4 * total * kPanel;
      in_groups(n, [&](int64_t start, int64_t size) {
        in_tiles(panel, end, size, [&](int64_t k, int64_t v) {
          tiles[size][v - 1](layer, slopes, rows + start, k, order < 0, ahead, next);
        });
      });
    }
  }
}

static void resets(const Layer& layer, const Slopes& slopes, int64_t block, int64_t block_end) {
  const int64_t width = layer.hidden;
  for (int64_t order = 0; order < layer.steps; order++) {
    for (int64_t row = 0; row < layer.rows; row++) {
      if (source(layer, order, row) != kReset) continue;
      const float* dz[1] = {at(slopes.dz, time_of(layer, order), row)};
      float* out = slopes.dh_reset + row * width;
      for (int64_t k = block; k < block_end; k++) {
        const int64_t first = k * kLanes, n = smaller(kLanes, width - first);
        alignas(4 * kLanes) float dh[1][1][kLanes];
        through<1, 1>(slopes.packed, 4 * width, dz, k, dh);
        store(out + first, load(out + first, n) + load(dh[0][0]), n);
      }
    }
  }
}

template <int R, int V>
static void inputs_tile(const Slopes& slopes, int64_t inputs, int64_t total, const int64_t (*places)[2], int64_t block) {
  const float* dz[R];
  for (int r = 0; r < R; r++) dz[r] = at(slopes.dz, places[r][0], places[r][1]);
  alignas(4 * kLanes) float dx[R][V][kLanes];
  through<R, V>(slopes.packed_x, total, dz, block, dx);
  for (int r = 0; r < R; r++) {
    float* out = at(slopes.dx, places[r][0], places[r][1]);
    for (int v = 0; v < V; v++) {
      const int64_t first = (block + v) * kLanes;
      store(out + first, load(dx[r][v]), inputs - first);
    }
  }
}

// The slopes of x at the vectors [first, end) of the series, counted as they follow one another in memory.
static void inputs(const Layer& layer, const Slopes& slopes, int64_t first, int64_t end) {
  using Tile = void (*)(const Slopes&, int64_t, int64_t, const int64_t (*)[2], int64_t);
  static const Tile tiles[][4] = LSTMJAX_TILES(inputs_tile);
  const bool by_row = slopes.dz.row > slopes.dz.step;
  const int64_t blocks = (layer.inputs + kLanes - 1) / kLanes;
  for (int64_t panel = 0; panel < blocks; panel += 4) {
    in_groups(end - first, [&](int64_t start, int64_t size) {
      int64_t places[kRows][2];  // time, row
      for (int64_t n = 0; n < size; n++) {
        const int64_t k = first + start + n;
        places[n][0] = by_row ? k % layer.steps : k / layer.rows;
        places[n][1] = by_row ? k / layer.steps : k % layer.rows;
      }
      in_tiles(panel, smaller(blocks, panel + 4), size, [&](int64_t block, int64_t v) {
        tiles[size][v - 1](slopes, layer.inputs, 4 * layer.hidden, places, block);
      });
    });
  }
}

// Gradients of the weights: dW = operandsᵀ · dz, over all valid rows of all steps. They are added up in chunks of a
// fixed number of rows, so that the sums do not depend on the number of threads.
constexpr int64_t kDeep = 256;         // rows of a chunk
constexpr int64_t kRound = 2 * kDeep;  // rows that are packed at once: a tile of dW is then in the cache for two chunks

// Call run(first, size) for the chunks of n rows; of no rows there is one chunk, which writes the sums of nothing.
template <typename F>
static inline void in_chunks(int64_t n, F run) {
  int64_t first = 0;
  do {
    run(first, smaller(kDeep, n - first));
    first += kDeep;
  } while (first < n);
}

// R rows of dW, those of the operands from `row` on, by a panel of its columns: over n rows of packed operands, which are
// `width` wide, and of packed dz.
template <int R>
static __attribute__((noinline)) void outer_tile(const float* operands, int64_t width, int64_t row, const float* dz,
                                                 int64_t n, float* out, int64_t stride, int64_t columns, bool add) {
  constexpr int V = kTileVectors;
  in_chunks(n, [&](int64_t first, int64_t size) {
    for (int vector = 0; vector < 4 && vector * kLanes < columns; vector += V) {
      Vec acc[R][V] = {};
      const float* w = dz + first * kPanel + place(vector, kDeep);
      const float* a = operands + first * width + row * size;
      for (int64_t k = 0; k < size; k++, w += kLine, a += R) {
        Vec column[V];
        LSTMJAX_UNROLL
        for (int v = 0; v < V; v++) column[v] = load(w + v * kLanes);
        LSTMJAX_UNROLL
        for (int r = 0; r < R; r++) {
          const Vec value = broadcast(a[r]);
          LSTMJAX_UNROLL
          for (int v = 0; v < V; v++) acc[r][v] += value * column[v];
        }
      }
      LSTMJAX_UNROLL
      for (int r = 0; r < R; r++) {
        LSTMJAX_UNROLL
        for (int v = 0; v < V; v++) {
          const int64_t begin = (vector + v) * kLanes, left = columns - begin;
          float* p = out + r * stride + begin;
          if (left > 0) store(p, add || first ? load(p, left) + acc[r][v] : acc[r][v], left);
        }
      }
    }
  });
}

// Pack the columns of n rows in groups of at most kRows, one after the other. A few rows at a time, so that their cache
// lines are read once although a group takes a part of a line.
static void pack_operand(const float* const* rows, int64_t n, int64_t width, float* out) {
  constexpr int64_t kFew = 8;
  for (int64_t first = 0; first < n; first += kFew) {
    const int64_t end = smaller(first + kFew, n);
    in_groups(width, [&](int64_t start, int64_t size) {
      float* to = out + start * n + first * size;
      for (int64_t k = first; k < end; k++, to += size) {
        if (size == kRows) {
          __builtin_memcpy(to, rows[k] + start, kRows * sizeof(float));  // of a fixed size, and so without a call
        } else {
          for (int64_t r = 0; r < size; r++) to[r] = rows[k][start + r];
        }
      }
    });
  }
}

// Pack a panel of dz, n rows from a column on, and add up the rows to db. `kFull`: the panel has all its columns.
template <bool kFull>
static __attribute__((noinline)) void pack_slopes(const float* const* rows, int64_t n, int64_t first, int64_t columns,
                                                  float* db, bool add, float* out) {
  const auto left = [&](int64_t v) { return kFull ? kLanes : columns - v * kLanes; };
  constexpr int64_t kPart = 16;
  Vec sums[4] = {};
  for (int64_t k = 0; k < n;) {
    Vec part[4] = {};  // in parts, as in `Sums`
    for (const int64_t end = smaller(n, k + kPart); k < end; k++) {
      LSTMJAX_UNROLL
      for (int v = 0; v < 4; v++) {
        const Vec value = load(rows[k] + first + v * kLanes, left(v));
        part[v] += value;
        store(out + k / kDeep * kDeep * kPanel + k % kDeep * kLine + place(v, kDeep), value);
      }
    }
    LSTMJAX_UNROLL
    for (int v = 0; v < 4; v++) sums[v] += part[v];
  }
  LSTMJAX_UNROLL
  for (int v = 0; v < 4; v++) {
    float* p = db + first + v * kLanes;
    store(p, add ? load(p, left(v)) + sums[v] : sums[v], left(v));
  }
}

static int64_t weights_floats(const Layer& layer) { return kRound * (layer.inputs + layer.hidden + kPanel); }

static void weights(const Layer& layer, const Slopes& slopes, int64_t panel, int64_t panel_end, float* scratch) {
  using Tile = void (*)(const float*, int64_t, int64_t, const float*, int64_t, float*, int64_t, int64_t, bool);
  static const Tile tiles[] = {nullptr,       outer_tile<1>, outer_tile<2>, outer_tile<3>,
                               outer_tile<4>, outer_tile<5>, outer_tile<6>};
  const int64_t inputs = layer.inputs, width = layer.hidden, both = inputs + width, total = 4 * width;
  float *dz = scratch, *packed = scratch + kRound * kPanel;
  const float *xs[kRound], *hs[kRound], *slope[kRound];
  bool add = false;
  int64_t n = 0;
  auto flush = [&] {
    in_chunks(n, [&](int64_t first, int64_t size) {
      pack_operand(xs + first, size, inputs, packed + first * both);
      pack_operand(hs + first, size, width, packed + first * both + size * inputs);
    });
    for (int64_t p = panel; p < panel_end; p++) {
      const int64_t first = p * kPanel, columns = smaller(kPanel, total - first);
      (columns == kPanel ? pack_slopes<true> : pack_slopes<false>)(slope, n, first, columns, slopes.db, add, dz);
      in_groups(inputs, [&](int64_t row, int64_t size) {
        tiles[size](packed, both, row, dz, n, slopes.dw_x + row * total + first, total, columns, add);
      });
      in_groups(width, [&](int64_t row, int64_t size) {
        tiles[size](packed, both, inputs + row, dz, n, slopes.dw_h + row * total + first, total, columns, add);
      });
    }
    add = true;
    n = 0;
  };
  const bool by_row = slopes.dz.row > slopes.dz.step;  // follow the memory
  const int64_t outside = by_row ? layer.rows : layer.steps, inside = by_row ? layer.steps : layer.rows;
  for (int64_t a = 0; a < outside; a++) {
    for (int64_t b = 0; b < inside; b++) {
      const int64_t order = by_row ? b : a, row = by_row ? a : b, t = time_of(layer, order);
      const int32_t from = source(layer, order, row);
      if (from == kAbsent) continue;
      slope[n] = at(slopes.dz, t, row);
      xs[n] = inputs ? at(layer.x, t, row) : nullptr;
      hs[n] = from == kStart   ? layer.h0 + row * width
              : from == kReset ? layer.h_reset + row * width
                               : at(layer.h, from, row);
      if (++n == kRound) flush();
    }
  }
  if (n || !add) flush();
}

}  // namespace LSTMJAX_SET
}  // namespace lstmjax
