#include "plan.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>

#include "sets.h"

namespace lstmjax {
namespace {

constexpr double kWorth = 1e6;        // multiplications and additions for which a thread is worth waking
constexpr double kWorthStep = 100e3;  // bytes of weights, or operations / 4, for which threads meet at every step
constexpr int64_t kRowsEach = 4;      // rows for each thread from which the batch is divided rather than the units

int64_t over(int64_t a, int64_t b) { return (a + b - 1) / b; }
int64_t time_of(const Layer& layer, int64_t order) { return layer.reverse ? layer.steps - 1 - order : order; }

// Floats aligned to cache lines, not initialised.
using Buffer = std::unique_ptr<float, decltype(&std::free)>;
Buffer allocate(int64_t floats) {
  const int64_t bytes = over(std::max<int64_t>(floats, 1) * 4, 64) * 64;
  void* data = std::aligned_alloc(64, static_cast<size_t>(bytes));
  if (!data) throw std::bad_alloc();
  return Buffer(static_cast<float*>(data), &std::free);
}

// How the steps of some networks of one size are divided.
struct Split {
  int threads;
  bool by_rows;    // each strand of rows runs through all steps by itself; otherwise all threads meet at every step
  int64_t strands;  // of each network
  int64_t blocks;   // of hidden units
};

Split divide(const Layer& layer, int64_t networks, int threads, double passes) {
  const auto step = static_cast<double>(8 * layer.rows * (layer.inputs + layer.hidden) * layer.hidden);
  const double all = step * static_cast<double>(layer.steps * networks) * passes;
  Split split{static_cast<int>(std::min<double>(threads, 1 + all / kWorth)), true, 1,
              over(layer.hidden, kernels().lanes)};
  if (split.threads == 1 || networks >= 2 * split.threads) return split;
  if (networks * layer.rows >= kRowsEach * split.threads) {
    split.strands = std::min<int64_t>(split.threads, layer.rows);
    return split;
  }
  const auto bytes = static_cast<double>(networks * (layer.inputs + layer.hidden) * 16 * layer.hidden);
  split.by_rows = std::max(bytes, step * static_cast<double>(networks) / 4) < kWorthStep || split.blocks < 2;
  split.threads = split.by_rows ? static_cast<int>(std::min<int64_t>(split.threads, networks)) : split.threads;
  return split;
}

// Whether each network is run by a thread from beginning to end, all phases of it: what the gradients of the weights
// read is then still in the cache, and nobody waits.
bool whole_networks(const Split& split, int64_t networks) {
  return split.by_rows && split.strands == 1 && networks >= 2 * split.threads;
}

// Zero the series of a row at its invalid steps: outputs are zero there, and nothing else is left to chance.
void clear(const Layer& layer, int64_t row) {
  for (int64_t order = 0; order < layer.steps; order++) {
    if (layer.from[order * layer.rows + row] != kAbsent) continue;
    const int64_t t = time_of(layer, order);
    const auto bytes = static_cast<size_t>(layer.hidden) * sizeof(float);
    std::memset(layer.h.data + t * layer.h.step + row * layer.h.row, 0, bytes);
    if (layer.c.step) std::memset(layer.c.data + t * layer.c.step + row * layer.c.row, 0, bytes);
    if (layer.gates.data) std::memset(layer.gates.data + t * layer.gates.step + row * layer.gates.row, 0, 4 * bytes);
  }
}

}  // namespace

std::vector<int32_t> sources(const Layer& layer, const bool* valid, const bool* resets) {
  const int64_t rows = layer.rows;
  std::vector<int32_t> from(static_cast<size_t>((layer.steps + 1) * rows));
  std::vector<int32_t> last(static_cast<size_t>(rows), kStart);
  for (int64_t order = 0; order < layer.steps; order++) {
    const int64_t t = time_of(layer, order);
    for (int64_t row = 0; row < rows; row++) {
      int32_t& before = last[static_cast<size_t>(row)];
      int32_t& slot = from[static_cast<size_t>(order * rows + row)];
      if (valid && !valid[t * rows + row]) {
        slot = kAbsent;
        continue;
      }
      slot = resets && resets[t * rows + row] ? kReset : before;
      before = static_cast<int32_t>(layer.ring ? (slot < 0 ? 0 : slot ^ 1) : t);
    }
  }
  std::copy(last.begin(), last.end(), from.end() - rows);
  return from;
}

std::vector<int32_t> readers(const Layer& layer) {
  const int64_t rows = layer.rows;
  std::vector<int32_t> next(static_cast<size_t>((layer.steps + 1) * rows), kStart);
  for (int64_t order = layer.steps - 1; order >= 0; order--) {
    for (int64_t row = 0; row < rows; row++) {
      const int32_t from = layer.from[order * rows + row];
      const int32_t after = next[static_cast<size_t>((order + 1) * rows + row)];
      const auto t = static_cast<int32_t>(time_of(layer, order));
      next[static_cast<size_t>(order * rows + row)] = from == kAbsent ? after : from == kReset ? kReset : t;
    }
  }
  return next;
}

void run_forward(xla::ffi::ThreadPool& pool, int threads, std::vector<Layer>& layers, float* h_end, float* c_end) {
  const auto networks = static_cast<int64_t>(layers.size());
  const Layer& any = layers[0];
  const Split split = divide(any, networks, threads, 1);
  const int64_t floats = split.blocks * (any.inputs + any.hidden + 1) * 4 * kernels().lanes;
  const Buffer packed = allocate(networks * floats);
  for (int64_t n = 0; n < networks; n++) layers[static_cast<size_t>(n)].packed = packed.get() + n * floats;
  const int64_t cleared = any.from && !any.ring ? any.rows : 0;

  Work work;
  work.phases = split.by_rows ? 2 : 1 + any.steps;
  work.items = [&](int64_t phase) {
    return networks * (phase == 0 ? split.blocks + cleared : split.by_rows ? split.strands : split.blocks);
  };
  work.run = [&](int64_t phase, int64_t item) {
    const Layer& layer = layers[static_cast<size_t>(item % networks)];
    const int64_t part = item / networks;
    if (phase == 0) {
      if (part < split.blocks) return kernels().pack(layer, part);
      return clear(layer, part - split.blocks);
    }
    if (!split.by_rows) return kernels().forward(layer, phase - 1, 0, layer.rows, part, part + 1);
    const int64_t row = layer.rows * part / split.strands, end = layer.rows * (part + 1) / split.strands;
    for (int64_t order = 0; order < layer.steps; order++) {
      kernels().forward(layer, order, row, end, 0, split.blocks);
    }
  };
  run(pool, split.threads, work);

  const int64_t width = any.hidden;
  const auto bytes = static_cast<size_t>(width) * sizeof(float);
  for (int64_t n = 0; n < networks; n++) {
    const Layer& layer = layers[static_cast<size_t>(n)];
    for (int64_t row = 0; row < layer.rows; row++) {
      const auto last = static_cast<int32_t>(layer.ring ? (layer.steps - 1) & 1 : time_of(layer, layer.steps - 1));
      const int32_t from = layer.from ? layer.from[layer.steps * layer.rows + row] : last;
      const bool never = from == kStart;
      const int64_t place = (n * layer.rows + row) * width;
      std::memcpy(h_end + place, never ? layer.h0 + row * width : layer.h.data + from * layer.h.step + row * layer.h.row,
                  bytes);
      const float* c = never ? layer.c0 + row * width : layer.c.data + from * layer.c.step + row * layer.c.row;
      if (c != c_end + place) std::memcpy(c_end + place, c, bytes);
    }
  }
}

void run_backward(xla::ffi::ThreadPool& pool, int threads, std::vector<Layer>& layers, std::vector<Slopes>& slopes) {
  const auto networks = static_cast<int64_t>(layers.size());
  const Layer& any = layers[0];
  const Split split = divide(any, networks, threads, 2);
  const int64_t width = any.hidden, panel = 4 * kernels().lanes;
  const int64_t panels = over(width, panel), floats = panels * panel * 4 * width;
  const Buffer packed = allocate(networks * floats);
  const std::vector<float> zeros(static_cast<size_t>(4 * width));
  for (size_t n = 0; n < layers.size(); n++) {
    slopes[n].packed = packed.get() + static_cast<int64_t>(n) * floats;
    slopes[n].zeros = zeros.data();
  }
  const bool wants_resets = slopes[0].dh_reset;
  const int64_t columns = over(4 * width, panel);  // panels of the gradients of weights
  const int64_t parts = std::clamp<int64_t>(over(2 * threads, networks), 1, columns);
  const int64_t floats_a_part = over(kernels().weights_floats(any), 16) * 16;
  const Buffer scratch = allocate(networks * parts * floats_a_part);

  const int64_t steps = split.by_rows ? 1 : any.steps + 1;  // phases of them
  Work work;
  work.phases = steps + 2 + wants_resets;
  work.items = [&](int64_t phase) {
    if (phase == 0) return networks * panels;
    if (phase <= steps) return networks * (split.by_rows ? split.strands : over(split.blocks, 2));
    return networks * (phase == work.phases - 1 ? parts : split.blocks);
  };
  work.run = [&](int64_t phase, int64_t item) {
    const auto n = static_cast<size_t>(item % networks);
    const int64_t part = item / networks;
    const Layer& layer = layers[n];
    if (phase == 0) return kernels().pack_back(layer, slopes[n], part);
    if (phase > steps) {
      if (phase == work.phases - 1) {
        return kernels().weights(layer, slopes[n], columns * part / parts, columns * (part + 1) / parts,
                                 scratch.get() + item * floats_a_part);
      }
      return kernels().resets(layer, slopes[n], part, part + 1);
    }
    if (!split.by_rows) {
      const int64_t end = std::min(2 * part + 2, split.blocks);
      return kernels().backward(layer, slopes[n], layer.steps - phase, 0, layer.rows, 2 * part, end);
    }
    const int64_t row = layer.rows * part / split.strands, end = layer.rows * (part + 1) / split.strands;
    for (int64_t order = layer.steps - 1; order >= -1; order--) {
      kernels().backward(layer, slopes[n], order, row, end, 0, split.blocks);
    }
  };
  const int helpers = std::max(split.threads, any.steps * any.rows * networks * width > 16384 ? threads : 1);
  if (!whole_networks(split, networks)) return run(pool, helpers, work);
  Work whole;
  whole.phases = 1;
  whole.items = [&](int64_t) { return networks; };
  whole.run = [&](int64_t, int64_t n) {
    for (int64_t phase = 0; phase < work.phases; phase++) {
      for (int64_t item = n; item < work.items(phase); item += networks) work.run(phase, item);
    }
  };
  run(pool, helpers, whole);
}

}  // namespace lstmjax
