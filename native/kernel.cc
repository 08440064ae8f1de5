// Compiled once for each instruction set. It includes no header whose inline functions other files use, too: the linker
// keeps one copy of such a function, and that may be the one with instructions that the processor does not have.
#include "sets.h"

#include <initializer_list>

#include "backward.h"
#include "dense.h"
#include "forward.h"

namespace lstmjax {
namespace LSTMJAX_SET {

#define LSTMJAX_TEXT(x) LSTMJAX_TEXT_(x)
#define LSTMJAX_TEXT_(x) #x

static void activate(bool is_tanh, const float* x, float* y, int64_t n) {
  for (int64_t k = 0; k < n; k += kLanes) {
    const Vec in = load(x + k, n - k);
    store(y + k, is_tanh ? tanh(in) : sigmoid(in), n - k);
  }
}

Kernels kernels() {
  return {LSTMJAX_TEXT(LSTMJAX_SET), kLanes, pack, forward, pack_back, backward, inputs, resets, weights, weights_floats,
          dense_floats, pack_dense, dense, activate};
}

}  // namespace LSTMJAX_SET
}  // namespace lstmjax
