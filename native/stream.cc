#include "stream.h"

#include <algorithm>
#include <cstring>
#include <exception>
#include <memory>
#include <utility>
#include <vector>

#include "flushed.h"
#include "job.h"
#include "sets.h"

namespace lstmjax {
namespace {

constexpr int64_t kScratch = 1 << 16;  // floats of h between two layers, at most, but for a single step
constexpr int64_t kLargest = 1 << 20;  // of a size: the product of three of them is far from an overflow

struct alignas(64) Line {
  float floats[16];
};
// Floats aligned to cache lines.
class Floats {
 public:
  explicit Floats(int64_t n) : lines_(static_cast<size_t>((n + 15) / 16)) {}
  float* data() const { return const_cast<float*>(lines_.data()->floats); }

 private:
  std::vector<Line> lines_;
};

struct Network {
  int64_t inputs;
  bool residual;
  std::vector<int64_t> hidden;
  std::vector<Floats> packed;  // of each layer
  Dense head;                  // outputs of 0: there is none; of its weights only the packed ones are kept
  Floats packed_head;

  int64_t inputs_of(size_t n) const { return n ? hidden[n - 1] : inputs; }
  int64_t outputs() const { return head.outputs ? head.outputs : hidden.back(); }
};
using Shared = std::shared_ptr<const Network>;

struct Stream {
  Shared network;
  int64_t rows, chunk;      // how many steps run through a layer before the next one begins
  std::vector<Floats> h, c;  // of each layer
  Floats between[2];        // h of a layer, [chunk, B, H], in turns

  Stream(const Shared& net, int64_t rows_, int64_t chunk_, int64_t widest)
      : network(net), rows(rows_), chunk(chunk_), between{Floats(chunk_ * rows_ * widest), Floats(chunk_ * rows_ * widest)} {
    for (const int64_t width : net->hidden) {
      h.emplace_back(rows * width);
      c.emplace_back(rows * width);
    }
  }
};

int64_t blocks_of(int64_t width) { return (width + kernels().lanes - 1) / kernels().lanes; }

Floats pack_layer(int64_t inputs, int64_t width, const float* const* arrays) {
  Layer layer{};
  layer.inputs = inputs, layer.hidden = width;
  layer.w_x = arrays[0], layer.w_h = arrays[1], layer.b = arrays[2];
  Floats packed(blocks_of(width) * (inputs + width + 1) * 4 * kernels().lanes);
  layer.packed = packed.data();
  kernels().pack(layer, 0, blocks_of(width));
  return packed;
}

// Run some steps of a layer; h of all of them goes to `out`.
void run_layer(Stream& stream, size_t n, int64_t steps, const Series& x, const Series& out) {
  const Network& network = *stream.network;
  const int64_t width = network.hidden[n];
  Layer layer{};
  layer.steps = steps, layer.rows = stream.rows, layer.inputs = network.inputs_of(n), layer.hidden = width;
  layer.x = x, layer.h = out;
  layer.h0 = stream.h[n].data(), layer.c0 = stream.c[n].data();
  layer.c = Series{stream.c[n].data(), 0, width};
  layer.packed = network.packed[n].data();
  for (int64_t order = 0; order < steps; order++) {
    kernels().forward(layer, order, 0, layer.rows, 0, blocks_of(width));
  }
  for (int64_t row = 0; row < stream.rows; row++) {
    std::memcpy(stream.h[n].data() + row * width, out.data + (steps - 1) * out.step + row * out.row,
                static_cast<size_t>(width) * sizeof(float));
  }
  if (!network.residual || n == 0) return;
  for (int64_t t = 0; t < steps; t++) {
    for (int64_t row = 0; row < stream.rows; row++) {
      float* sum = out.data + t * out.step + row * out.row;
      const float* below = x.data + t * x.step + row * x.row;
      for (int64_t k = 0; k < width; k++) sum[k] += below[k];
    }
  }
}

void run_head(const Stream& stream, int64_t steps, const Series& x, const Series& y) {
  const Network& network = *stream.network;
  auto run = [&](int64_t t, int64_t x_row, int64_t y_row, int64_t rows) {
    kernels().dense(network.head, network.packed_head.data(), x.data + t * x.step, x_row, y.data + t * y.step, y_row,
                    rows);
  };
  if (stream.rows == 1) return run(0, x.step, y.step, steps);
  for (int64_t t = 0; t < steps; t++) run(t, x.row, y.row, stream.rows);
}

void run_steps(Stream& stream, int64_t steps, const Series& xs, const Series& ys) {
  const Network& network = *stream.network;
  Series x = xs;
  for (size_t n = 0; n < network.hidden.size(); n++) {
    const int64_t width = network.hidden[n];
    const bool last = n + 1 == network.hidden.size() && !network.head.outputs;
    const Series out = last ? ys : Series{stream.between[n % 2].data(), stream.rows * width, width};
    run_layer(stream, n, steps, x, out);
    x = out;
  }
  if (network.head.outputs) run_head(stream, steps, x, ys);
}

}  // namespace
}  // namespace lstmjax

using lstmjax::Dense;
using lstmjax::Floats;
using lstmjax::kLargest;
using lstmjax::Network;
using lstmjax::Series;
using lstmjax::Shared;
using lstmjax::Stream;

LSTMJAX_STREAM lstmjax_network_new(int64_t inputs, int64_t layers, const int64_t* hidden, int64_t outputs, int residual,
                                   const float* const* arrays, const int64_t* floats, void** network) try {
  if (layers < 1 || layers > kLargest) return "there are no layers, or too many";
  if (inputs < 1 || inputs > kLargest || outputs < 0 || outputs > kLargest) return "inputs or outputs are out of range";
  for (int64_t n = 0; n < layers; n++) {
    const int64_t width = hidden[n], below = n ? hidden[n - 1] : inputs;
    if (width < 1 || width > kLargest) return "the units of a layer are out of range";
    if (floats[3 * n] != below * 4 * width) return "the size of a w_x does not fit";
    if (floats[3 * n + 1] != width * 4 * width) return "the size of a w_h does not fit";
    if (floats[3 * n + 2] != 4 * width) return "the size of a b does not fit";
    if (residual && n && width != below) return "a layer with a residual connection is not as wide as the one below";
  }
  const int64_t above = 3 * layers;
  if (outputs && floats[above] != hidden[layers - 1] * outputs) return "the size of w of the head does not fit";
  if (outputs && floats[above + 1] != outputs) return "the size of b of the head does not fit";

  Dense head{hidden[layers - 1], outputs, nullptr, nullptr};
  if (outputs) head.w = arrays[above], head.b = arrays[above + 1];
  Floats packed_head(outputs ? lstmjax::kernels().dense_floats(head) : 0);
  if (outputs) lstmjax::kernels().pack_dense(head, packed_head.data());
  head.w = head.b = nullptr;
  std::vector<Floats> packed;
  for (int64_t n = 0; n < layers; n++) {
    packed.push_back(lstmjax::pack_layer(n ? hidden[n - 1] : inputs, hidden[n], arrays + 3 * n));
  }
  *network = new Shared(std::make_shared<const Network>(Network{
      inputs, residual != 0, {hidden, hidden + layers}, std::move(packed), head, std::move(packed_head)}));
  return nullptr;
} catch (const std::exception&) {
  return "there is no memory for the packed weights";
}

LSTMJAX_STREAM lstmjax_network_free(void* network) {
  delete static_cast<Shared*>(network);
  return nullptr;
}

LSTMJAX_STREAM lstmjax_stream_new(const void* network, int64_t rows, void** stream) try {
  if (rows < 1 || rows > kLargest) return "the batch is out of range";
  const Shared& shared = *static_cast<const Shared*>(network);
  const int64_t widest = *std::max_element(shared->hidden.begin(), shared->hidden.end());
  const int64_t chunk = std::clamp<int64_t>(lstmjax::kScratch / (rows * widest), 1, 64);
  *stream = new Stream(shared, rows, chunk, widest);
  return nullptr;
} catch (const std::exception&) {
  return "there is no memory for the state";
}

LSTMJAX_STREAM lstmjax_stream_free(void* stream) {
  delete static_cast<Stream*>(stream);
  return nullptr;
}

LSTMJAX_STREAM lstmjax_stream_run(void* stream, int64_t steps, const float* xs, int64_t xs_floats, float* ys,
                                  int64_t ys_floats) {
  Stream& s = *static_cast<Stream*>(stream);
  const int64_t inputs = s.network->inputs, outputs = s.network->outputs();
  if (steps < 0 || steps > kLargest) return "the number of steps is out of range";
  if (xs_floats != s.rows * steps * inputs) return "the size of xs does not fit";
  if (ys_floats != s.rows * steps * outputs) return "the size of ys does not fit";
  const lstmjax::Flushed flushed;
  for (int64_t done = 0; done < steps; done += s.chunk) {
    const Series x{const_cast<float*>(xs) + done * inputs, inputs, steps * inputs};
    const Series y{ys + done * outputs, outputs, steps * outputs};
    lstmjax::run_steps(s, std::min(s.chunk, steps - done), x, y);
  }
  return nullptr;
}

LSTMJAX_STREAM lstmjax_stream_state(void* stream, int write, float* state, int64_t floats) {
  Stream& s = *static_cast<Stream*>(stream);
  int64_t expected = 0;
  for (const int64_t width : s.network->hidden) expected += 2 * s.rows * width;
  if (floats != expected) return "the size of the state does not fit";
  for (size_t n = 0; n < s.h.size(); n++) {
    const int64_t size = s.rows * s.network->hidden[n];
    for (const Floats* part : {&s.h[n], &s.c[n]}) {
      std::memcpy(write ? part->data() : state, write ? state : part->data(), static_cast<size_t>(size) * sizeof(float));
      state += size;
    }
  }
  return nullptr;
}
