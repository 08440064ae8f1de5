#include "stream.h"

#include <algorithm>
#include <cstring>
#include <exception>
#include <memory>
#include <utility>
#include <vector>

#include "flushed.h"
#include "job.h"
#include "memory.h"
#include "sets.h"

namespace lstmjax {
namespace {

constexpr int64_t kScratch = 1 << 16;  // floats of h between two layers, at most, but for a single step
constexpr int64_t kLargest = 1 << 20;  // of a size: the product of three of them is far from an overflow

struct Network {
  bool residual;
  Dense head;                  // outputs of 0: there is none
  std::vector<Layer> layers;   // of these and of the head there are the sizes and the packed weights alone
  std::vector<Buffer> packed;  // of the layers, then of the head

  int64_t inputs() const { return layers[0].inputs; }
  int64_t outputs() const { return head.outputs ? head.outputs : layers.back().hidden; }
};
using Shared = std::shared_ptr<const Network>;

struct Stream {
  Shared network;
  std::vector<Layer> layers;  // those of the network, with the state
  int64_t rows, chunk;        // how many steps run through a layer before the next one begins
  Buffer state;               // of each layer h [B, H], then c
  Buffer between[2];          // h of a layer, [chunk, B, H], in turns
};

int64_t blocks_of(const Layer& layer) { return (layer.hidden + kernels().lanes - 1) / kernels().lanes; }

// Run some steps of a layer from its state to that behind them; h of all steps goes to `layer.h`.
void run_layer(const Layer& layer, float* state, bool residual) {
  const int64_t width = layer.hidden;
  for (int64_t order = 0; order < layer.steps; order++) {
    kernels().forward(layer, order, 0, layer.rows, 0, blocks_of(layer));
  }
  for (int64_t row = 0; row < layer.rows; row++) {
    std::copy_n(at(layer.h, layer.steps - 1, row), width, state + row * width);
    for (int64_t t = 0; residual && t < layer.steps; t++) {
      float* sum = at(layer.h, t, row);
      const float* below = at(layer.x, t, row);
      for (int64_t k = 0; k < width; k++) sum[k] += below[k];
    }
  }
}

void run_steps(Stream& stream, int64_t steps, const Series& xs, const Series& ys) {
  const Network& network = *stream.network;
  const Dense& head = network.head;
  Series x = xs;
  float* state = stream.state.get();
  for (size_t n = 0; n < stream.layers.size(); n++) {
    Layer& layer = stream.layers[n];
    const bool last = n + 1 == stream.layers.size() && !head.outputs;
    layer.steps = steps, layer.x = x;
    layer.h = last ? ys : Series{stream.between[n % 2].get(), stream.rows * layer.hidden, layer.hidden};
    run_layer(layer, state, network.residual && n > 0);
    state += 2 * stream.rows * layer.hidden;
    x = layer.h;
  }
  const bool single = stream.rows == 1;  // then the steps are the rows of one product
  for (int64_t t = 0; head.outputs && t < (single ? 1 : steps); t++) {
    kernels().dense(head, network.packed.back().get(), at(x, t, 0), single ? x.step : x.row, at(ys, t, 0),
                    single ? ys.step : ys.row, single ? steps : stream.rows);
  }
}

}  // namespace

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

  Network result{residual != 0, {hidden[layers - 1], outputs, nullptr, nullptr}, {}, {}};
  for (int64_t n = 0; n < layers; n++) {
    Layer layer{};
    layer.inputs = n ? hidden[n - 1] : inputs, layer.hidden = hidden[n];
    layer.w_x = arrays[3 * n], layer.w_h = arrays[3 * n + 1], layer.b = arrays[3 * n + 2];
    const int64_t blocks = blocks_of(layer), total = layer.inputs + layer.hidden;
    layer.packed = result.packed.emplace_back(blocks * (total + 1) * 4 * kernels().lanes).get();
    kernels().pack(layer, 0, blocks);
    layer.w_x = layer.w_h = layer.b = nullptr;
    result.layers.push_back(layer);
  }
  if (outputs) {
    result.head.w = arrays[above], result.head.b = arrays[above + 1];
    kernels().pack_dense(result.head, result.packed.emplace_back(kernels().dense_floats(result.head)).get());
    result.head.w = result.head.b = nullptr;
  }
  *network = new Shared(std::make_shared<const Network>(std::move(result)));
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
  int64_t widest = 0, floats = 0;
  for (const Layer& layer : shared->layers) {
    widest = std::max(widest, layer.hidden);
    floats += 2 * rows * layer.hidden;
  }
  const int64_t chunk = std::clamp<int64_t>(kScratch / (rows * widest), 1, 64), between = chunk * rows * widest;
  auto* result =
      new Stream{shared, shared->layers, rows, chunk, Buffer(floats), {Buffer(between), Buffer(between)}};
  std::fill_n(result->state.get(), floats, 0.0f);
  float* state = result->state.get();
  for (Layer& layer : result->layers) {
    const int64_t size = rows * layer.hidden;
    layer.rows = rows, layer.h0 = state, layer.c0 = state + size, layer.c = Series{state + size, 0, layer.hidden};
    state += 2 * size;
  }
  *stream = result;
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
  const int64_t inputs = s.network->inputs(), outputs = s.network->outputs();
  if (steps < 0 || steps > kLargest) return "the number of steps is out of range";
  if (xs_floats != s.rows * steps * inputs) return "the size of xs does not fit";
  if (ys_floats != s.rows * steps * outputs) return "the size of ys does not fit";
  const Flushed flushed;
  for (int64_t done = 0; done < steps; done += s.chunk) {
    const Series x{const_cast<float*>(xs) + done * inputs, inputs, steps * inputs};
    const Series y{ys + done * outputs, outputs, steps * outputs};
    run_steps(s, std::min(s.chunk, steps - done), x, y);
  }
  return nullptr;
}

LSTMJAX_STREAM lstmjax_stream_state(void* stream, int write, float* state, int64_t floats) {
  Stream& s = *static_cast<Stream*>(stream);
  if (floats != s.state.floats()) return "the size of the state does not fit";
  std::memcpy(write ? s.state.get() : state, write ? state : s.state.get(), static_cast<size_t>(floats) * sizeof(float));
  return nullptr;
}

}  // namespace lstmjax
