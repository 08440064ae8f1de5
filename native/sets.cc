#include "sets.h"

#include <cstdlib>
#include <cstring>

namespace lstmjax {
namespace {

Kernels choose() {
  const char* wanted = std::getenv("LSTMJAX_INSTRUCTION_SET");  // for tests and benchmarks
  auto allowed = [wanted](const char* name) { return !wanted || !*wanted || !std::strcmp(wanted, name); };
#ifdef LSTMJAX_HAS_avx512
  if (allowed("avx512") && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
      __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2")) {
    return avx512::kernels();
  }
#endif
#ifdef LSTMJAX_HAS_avx2
  if (allowed("avx2") && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
      __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2")) {
    return avx2::kernels();
  }
#endif
#ifdef LSTMJAX_HAS_neon
  if (allowed("neon")) return neon::kernels();
#endif
  return baseline::kernels();
}

}  // namespace

const Kernels& kernels() {
  static const Kernels chosen = choose();
  return chosen;
}

}  // namespace lstmjax
