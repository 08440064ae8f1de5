// The instruction sets that native/kernel*.cc is compiled for, and the choice among them.
#pragma once

#include "job.h"

namespace lstmjax {

// What one instruction set offers. kernel.cc fills one in for each set. Units of work are blocks of `lanes` hidden
// units (forwards and backwards), and panels of 4 · lanes numbers (packing backwards, gradients of weights).
struct Kernels {
  const char* name;
  int64_t lanes;
  // Pack the weights of some blocks.
  void (*pack)(const Layer& layer, int64_t block, int64_t block_end);
  // Run the step of an order for some rows and blocks.
  void (*forward)(const Layer& layer, int64_t order, int64_t row, int64_t row_end, int64_t block, int64_t block_end);
  // Pack a panel of W_h or W_x, [width, total], transposed.
  void (*pack_back)(const float* weights, int64_t width, int64_t total, int64_t panel, float* packed);
  // Run the step of an order backwards; order -1 computes the gradient of the initial state.
  void (*backward)(const Layer& layer, const Slopes& slopes, int64_t order, int64_t row, int64_t row_end, int64_t block,
                   int64_t block_end);
  // Compute the slopes of x for some vectors of the series, counted as they follow one another in memory.
  void (*inputs)(const Layer& layer, const Slopes& slopes, int64_t first, int64_t end);
  // Add up the gradient of the state that resets return to, for some blocks.
  void (*resets)(const Layer& layer, const Slopes& slopes, int64_t block, int64_t block_end);
  // Compute the gradients of the weights and biases for some panels of their columns. It needs `weights_floats(layer)`
  // of scratch.
  void (*weights)(const Layer& layer, const Slopes& slopes, int64_t panel, int64_t panel_end, float* scratch);
  int64_t (*weights_floats)(const Layer& layer);
  // A dense layer on rows of numbers, by weights that `pack_dense` has packed into `dense_floats` numbers.
  int64_t (*dense_floats)(const Dense& dense);
  void (*pack_dense)(const Dense& dense, float* packed);
  void (*dense)(const Dense& dense, const float* packed, const float* x, int64_t x_row, float* y, int64_t y_row,
                int64_t rows);
  // Compute sigmoid (or tanh) of n numbers, for tests.
  void (*activate)(bool is_tanh, const float* x, float* y, int64_t n);
};

// In kernel.cc, once in the namespace of each set.
namespace baseline { Kernels kernels(); }
namespace avx2 { Kernels kernels(); }
namespace avx512 { Kernels kernels(); }
namespace neon { Kernels kernels(); }

// The widest set that the processor has, or the one that LSTMJAX_INSTRUCTION_SET names, if the processor has it.
// Chosen at the first call.
const Kernels& kernels();

}  // namespace lstmjax
