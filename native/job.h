// What the kernel works on: plain data, which the FFI border fills in and every instruction set reads.
//
// Sizes: T steps, B rows (sequences), I inputs, H hidden units; gates in the order i, f, g, o.
// "Order" counts the steps as they are processed; for a reversed layer, order 0 is the last step in time.
#pragma once

#include <cstdint>

namespace lstmjax {

// A vector of floats for each step and row, with time or the batch on the first axis.
struct Series {
  float* data;   // null: there is none
  int64_t step;  // floats from one step to the next
  int64_t row;   // floats from one row to the next
};

// Where the state before a step stands: a slot of the series h and c, or one of these.
constexpr int32_t kStart = -1;   // in the initial state
constexpr int32_t kReset = -2;   // in the state that resets return to
constexpr int32_t kAbsent = -3;  // nowhere: this step is not valid

// One layer of one network. Weights are contiguous: w_x [I, 4H], w_h [H, 4H], b [4H]; states are [B, H].
struct Layer {
  int64_t steps, rows, inputs, hidden;
  bool reverse;
  bool ring;            // h has two slots, which take turns, rather than one for each step
  const int32_t* from;  // [T + 1, B] by order: slot of the state before; the last entry is the final state. Null: plain
  Series x;             // [I]
  Series z;             // [4H], takes the place of x·W_x + b, or null
  const float *w_x, *w_h, *b;
  const float *h0, *c0, *h_reset, *c_reset;
  Series h;      // [H]
  Series c;      // [H]; with a step of 0 it is one state, which is overwritten
  Series gates;  // [4H] after their activations, for the backward pass, or null
  Series sums;   // [4H] before them, or null
  float* packed;  // weights and biases as the forward tile reads them
};

// The backward pass: cotangents that come in, and gradients that go out. Shapes as in `Layer`.
struct Slopes {
  Series dh, dc;           // of the series h and c, or null
  const float *d_h, *d_c;  // of the final state
  const float* zeros;      // [4H]
  const int32_t* next;     // [T + 1, B]: step (in time) that reads the state after order s - 1, or kStart: the final
                           // state is read; kReset: nothing reads it. Null: plain
  Series dz;               // [4H] of the pre-activations
  Series dx;               // [I], or null: not wanted
  float *dh0, *dc0, *dh_reset, *dc_reset;  // dc0 is also where dc is carried; the last two are null if not wanted
  float *dw_x, *dw_h, *db;
  float* packed;    // W_h transposed, in panels
  float* packed_x;  // W_x transposed, likewise, for dx
};

// A dense layer, y = x·w + b: w [inputs, outputs], b [outputs].
struct Dense {
  int64_t inputs, outputs;
  const float *w, *b;
};

// These are static since kernel.cc is compiled for several instruction sets: each has a copy.
static inline float* at(const Series& s, int64_t step, int64_t row) { return s.data + step * s.step + row * s.row; }
static inline int64_t time_of(const Layer& layer, int64_t order) {
  return layer.reverse ? layer.steps - 1 - order : order;
}

// The slot of the state before an order, or, of as many as there are steps, of the final state; see `Layer::from`.
static inline int32_t source(const Layer& layer, int64_t order, int64_t row) {
  if (layer.from) return layer.from[order * layer.rows + row];
  if (order == 0) return kStart;
  return static_cast<int32_t>(layer.ring ? (order - 1) & 1 : time_of(layer, order - 1));
}

}  // namespace lstmjax
