// Series of the next step, asked for while a step runs. Included by kernel.cc alone.
//
// What training saves of a step is far away when the backward pass comes back to it: in memory, if many networks or many
// steps came between. The processor's own foresight fails, since a row's gates, c, h and dh are in as many places.
#pragma once

#include "tile.h"

namespace lstmjax {
namespace LSTMJAX_SET {

// Ask for the cache line at p, into the second level: a step of some networks has more than the first one holds.
static inline void ask_for(const float* p) { __builtin_prefetch(p, 0, 2); }

// Floats from where a row of a series is now to where it is in the next step; 0 where there is none.
struct Nearby {
  int64_t gates, c, h, dh;
};
static inline Nearby nearby(const Layer& layer, int64_t dh_step, bool is_last, bool backwards) {
  const int64_t way = is_last ? 0 : layer.reverse == backwards ? 1 : -1;
  return {way * layer.gates.step, way * layer.c.step, way * layer.h.step, way * dh_step};
}

static inline void ask_for_gates(const float* gates, int64_t width) {
  for (int gate = 0; gate < 4; gate++) ask_for(gates + gate * width);
}

}  // namespace LSTMJAX_SET
}  // namespace lstmjax
