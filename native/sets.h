// The instruction sets that native/kernel*.cc is compiled for, and the choice among them.
#pragma once

#include <cstdint>

namespace lstmjax {

// What one instruction set offers. kernel.cc fills one in for each set.
struct Kernels {
  const char* name;
  void (*scale)(const float* x, float factor, float* y, int64_t size);
};

// In kernel.cc, once in the namespace of each set.
#define LSTMJAX_DECLARE(set) \
  namespace set {            \
  Kernels kernels();         \
  }
LSTMJAX_DECLARE(baseline)
LSTMJAX_DECLARE(avx2)
LSTMJAX_DECLARE(avx512)
LSTMJAX_DECLARE(neon)
#undef LSTMJAX_DECLARE

// The widest set that the processor has, or the one that LSTMJAX_INSTRUCTION_SET names, if the processor has it.
// Chosen at the first call.
const Kernels& kernels();

}  // namespace lstmjax
