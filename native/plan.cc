#include "plan.h"

#include <algorithm>

#include "memory.h"
#include "sets.h"

namespace lstmjax {
namespace {

constexpr double kWorth = 1e6;        // multiplications and additions for which a thread is worth waking
constexpr double kWorthStep = 100e3;  // bytes of weights, or operations / 4, for which threads meet at every step
constexpr double kBrief = 4e7;        // multiplications and additions of a call that a waking thread may miss half of
constexpr int64_t kTile = 6;          // rows of a tile
constexpr int64_t kVectorsEach = 96;  // of slopes of x, in one item
constexpr int64_t kRowsEach = 4;      // rows for each thread from which the batch is divided rather than the units

int64_t over(int64_t a, int64_t b) { return (a + b - 1) / b; }

// How the steps of some networks of one size are divided.
struct Split {
  int threads;
  bool by_rows;    // each strand of rows runs through all steps by itself; otherwise all threads meet at every step
  int64_t strands;  // of each network
  int64_t blocks;   // of hidden units
  int64_t shares;   // of the blocks: what a thread takes of a step, or packs, at once
};

Split divide(const Layer& layer, int64_t networks, int threads, double passes) {
  const auto step = static_cast<double>(8 * layer.rows * (layer.inputs + layer.hidden) * layer.hidden);
  const double all = step * static_cast<double>(layer.steps * networks) * passes;
  Split split{static_cast<int>(std::min<double>(threads, 1 + all / kWorth)), true, 1,
              over(layer.hidden, kernels().lanes), 0};
  split.shares = std::min<int64_t>(split.threads, split.blocks);
  if (split.threads == 1 || networks >= 2 * split.threads) return split;
  if (networks * layer.rows >= kRowsEach * split.threads) {
    // In a brief call a thread that comes late would hold up the others by its strand: then strands are short.
    const bool brief = all < kBrief && layer.rows >= 2 * kTile * split.threads;
    const int64_t each = networks == 1 ? split.threads : over(2 * split.threads, networks);
    split.strands = brief ? over(layer.rows, kTile) : std::min(each, layer.rows);
    return split;
  }
  const auto bytes = static_cast<double>(networks * (layer.inputs + layer.hidden) * 16 * layer.hidden);
  split.by_rows = std::max(bytes, step * static_cast<double>(networks) / 4) < kWorthStep || split.blocks < 2;
  split.threads = split.by_rows ? static_cast<int>(std::min<int64_t>(split.threads, networks)) : split.threads;
  return split;
}

// How many networks are each run by a thread from beginning to end, all phases of it: what it packs and saves is then
// still in the cache, its scratch serves again, and nobody waits. The others come after them, divided among all threads, where
// most threads would have no network of them.
int64_t whole_networks(const Split& split, int64_t networks) {
  if (!split.by_rows || split.strands != 1 || networks < 2 * split.threads) return 0;
  const int64_t others = networks % split.threads;
  return 2 * others <= split.threads ? networks - others : networks;
}

// Run the first `count` of the networks of some work, each by one worker, in whose place `pack_at(network, place)` packs.
template <typename F>
void run_whole(xla::ffi::ThreadPool& pool, int threads, const Work& work, int64_t count, int64_t networks, F pack_at) {
  Work whole;
  whole.phases = 1;
  whole.items = [&](int64_t) { return count; };
  whole.run = [&](int64_t, int64_t n, int worker) {
    pack_at(n, worker);
    for (int64_t phase = 0; phase < work.phases; phase++) {
      for (int64_t item = n; item < work.items(phase); item += networks) work.run(phase, item, worker);
    }
  };
  run(pool, threads, whole);
}

// Zero the series of a row at its invalid steps: outputs are zero there, and nothing else is left to chance.
void clear(const Layer& layer, int64_t row) {
  for (int64_t order = 0; order < layer.steps; order++) {
    if (layer.from[order * layer.rows + row] != kAbsent) continue;
    const int64_t t = time_of(layer, order), width = layer.hidden;
    std::fill_n(at(layer.h, t, row), width, 0.0f);
    if (layer.c.step) std::fill_n(at(layer.c, t, row), width, 0.0f);
    for (const Series& series : {layer.gates, layer.sums}) {
      if (series.data) std::fill_n(at(series, t, row), 4 * width, 0.0f);
    }
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
  const int64_t whole = whole_networks(split, networks);
  const int64_t floats = split.blocks * (any.inputs + any.hidden + 1) * 4 * kernels().lanes;
  const Buffer packed((whole ? split.threads : networks) * floats);
  const int64_t cleared = any.from && !any.ring ? any.rows : 0;
  auto pack_at = [&](int64_t n, int64_t place) { layers[static_cast<size_t>(n)].packed = packed.get() + place * floats; };
  for (int64_t n = 0; !whole && n < networks; n++) pack_at(n, n);

  Work work;
  work.phases = split.by_rows ? 2 : 1 + any.steps;
  work.items = [&](int64_t phase) {
    return networks * (phase == 0 ? split.shares + cleared : split.by_rows ? split.strands : split.shares);
  };
  work.run = [&](int64_t phase, int64_t item, int) {
    const Layer& layer = layers[static_cast<size_t>(item % networks)];
    const int64_t part = item / networks;
    if (phase == 0 && part >= split.shares) return clear(layer, part - split.shares);
    if (phase == 0 || !split.by_rows) {
      const int64_t block = split.blocks * part / split.shares, end = split.blocks * (part + 1) / split.shares;
      if (phase == 0) return kernels().pack(layer, block, end);
      return kernels().forward(layer, phase - 1, 0, layer.rows, block, end);
    }
    const int64_t row = layer.rows * part / split.strands, end = layer.rows * (part + 1) / split.strands;
    for (int64_t order = 0; order < layer.steps; order++) {
      kernels().forward(layer, order, row, end, 0, split.blocks);
    }
  };
  if (whole) {
    run_whole(pool, split.threads, work, whole, networks, pack_at);
  } else {
    run(pool, split.threads, work);
  }

  const int64_t width = any.hidden, state = any.rows * width;
  for (int64_t n = 0; n < (whole ? whole : networks); n++) {
    const Layer& layer = layers[static_cast<size_t>(n)];
    for (int64_t row = 0; row < layer.rows; row++) {
      const int32_t from = source(layer, layer.steps, row);
      const int64_t place = n * state + row * width;
      std::copy_n(from == kStart ? layer.h0 + row * width : at(layer.h, from, row), width, h_end + place);
      const float* c = from == kStart ? layer.c0 + row * width : at(layer.c, from, row);
      if (c != c_end + place) std::copy_n(c, width, c_end + place);
    }
  }
  if (whole == 0 || whole == networks) return;
  std::vector<Layer> others(layers.begin() + whole, layers.end());
  run_forward(pool, threads, others, h_end + whole * state, c_end + whole * state);
}

void run_backward(xla::ffi::ThreadPool& pool, int threads, std::vector<Layer>& layers, std::vector<Slopes>& slopes) {
  const auto networks = static_cast<int64_t>(layers.size());
  const Layer& any = layers[0];
  const Split split = divide(any, networks, threads, 2);
  const int helpers = std::max(split.threads, any.steps * any.rows * networks * any.hidden > 16384 ? threads : 1);
  const int64_t whole = whole_networks(split, networks);
  const int64_t panel = 4 * kernels().lanes, total = 4 * any.hidden;
  const int64_t panels = over(any.hidden, panel), panels_x = slopes[0].dx.data ? over(any.inputs, panel) : 0;
  const int64_t floats = (panels + panels_x) * panel * total;
  const Buffer packed((whole ? split.threads : networks) * floats);
  const std::vector<float> zeros(static_cast<size_t>(total));
  for (Slopes& slope : slopes) slope.zeros = zeros.data();
  auto pack_at = [&](int64_t n, int64_t place) {
    Slopes& slope = slopes[static_cast<size_t>(n)];
    slope.packed = packed.get() + place * floats;
    slope.packed_x = slope.packed + panels * panel * total;
  };
  for (int64_t n = 0; !whole && n < networks; n++) pack_at(n, n);

  // What the last phase does, after all steps: parts of the gradients of the weights, of those of x, and of resets.
  const int64_t columns = over(total, panel), vectors = any.steps * any.rows;
  const int64_t parts = whole || helpers == 1 ? 1 : std::clamp<int64_t>(over(2 * threads, networks), 1, columns);
  const int64_t parts_x = panels_x ? over(vectors, kVectorsEach) : 0, resets = slopes[0].dh_reset ? split.blocks : 0;
  const int64_t floats_a_part = over(kernels().weights_floats(any), 16) * 16;
  const Buffer scratch(helpers * floats_a_part);
  auto sum_up = [&](size_t n, int64_t part, int worker) {
    const Layer& layer = layers[n];
    if (part < parts) {
      float* space = scratch.get() + worker * floats_a_part;
      return kernels().weights(layer, slopes[n], columns * part / parts, columns * (part + 1) / parts, space);
    }
    part -= parts;
    if (part >= parts_x) return kernels().resets(layer, slopes[n], part - parts_x, part - parts_x + 1);
    kernels().inputs(layer, slopes[n], part * kVectorsEach, std::min((part + 1) * kVectorsEach, vectors));
  };

  Work work;
  work.phases = 2 + (split.by_rows ? 1 : any.steps + 1);
  work.items = [&](int64_t phase) {
    if (phase == 0) return networks * (panels + panels_x);
    if (phase == work.phases - 1) return networks * (parts + parts_x + resets);
    return networks * (split.by_rows ? split.strands : split.shares);
  };
  work.run = [&](int64_t phase, int64_t item, int worker) {
    const auto n = static_cast<size_t>(item % networks);
    const int64_t part = item / networks;
    const Layer& layer = layers[n];
    if (phase == 0 && part < panels) return kernels().pack_back(layer.w_h, layer.hidden, total, part, slopes[n].packed);
    if (phase == 0) return kernels().pack_back(layer.w_x, layer.inputs, total, part - panels, slopes[n].packed_x);
    if (phase == work.phases - 1) return sum_up(n, part, worker);
    if (!split.by_rows) {
      const int64_t block = split.blocks * part / split.shares, end = split.blocks * (part + 1) / split.shares;
      return kernels().backward(layer, slopes[n], layer.steps - phase, 0, layer.rows, block, end);
    }
    const int64_t row = layer.rows * part / split.strands, end = layer.rows * (part + 1) / split.strands;
    for (int64_t order = layer.steps - 1; order >= -1; order--) {
      kernels().backward(layer, slopes[n], order, row, end, 0, split.blocks);
    }
  };
  if (!whole) return run(pool, helpers, work);
  run_whole(pool, split.threads, work, whole, networks, pack_at);
  if (whole == networks) return;
  std::vector<Layer> other_layers(layers.begin() + whole, layers.end());
  std::vector<Slopes> other_slopes(slopes.begin() + whole, slopes.end());
  run_backward(pool, threads, other_layers, other_slopes);
}

}  // namespace lstmjax
