// Compiled once for each instruction set. It includes no header whose inline functions other files use, too: the linker
// keeps one copy of such a function, and that may be the one with instructions that the processor does not have.
#include "sets.h"

namespace lstmjax {
namespace LSTMJAX_SET {

#define LSTMJAX_TEXT(x) LSTMJAX_TEXT_(x)
#define LSTMJAX_TEXT_(x) #x

static void scale(const float* x, float factor, float* y, int64_t size) {
  for (int64_t i = 0; i < size; i++) y[i] = factor * x[i];
}

Kernels kernels() { return {LSTMJAX_TEXT(LSTMJAX_SET), scale}; }

}  // namespace LSTMJAX_SET
}  // namespace lstmjax
