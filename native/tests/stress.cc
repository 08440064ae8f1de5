// Runs the kernel on random networks of odd sizes, for the sanitizers: every array has exactly its size, helpers come
// late or never, and the bits must not depend on the number of threads. What it computes is tested in Python; here one
// instruction set is compared with another, also for a processor that is emulated.
//
//     stress [cases] [seed] [file]     the results go into the file, or, if there is one, are compared with it
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <mutex>
#include <random>
#include <thread>
#include <vector>

#include "../memory.h"
#include "../plan.h"
#include "../sets.h"
#include "../stream.h"
#include "xla/ffi/api/ffi.h"

namespace {

namespace ffi = xla::ffi;
using lstmjax::Layer;
using lstmjax::Series;
using lstmjax::Slopes;
using Floats = std::vector<float>;

std::mt19937 random_bits, random_waits;
int64_t draw(int64_t low, int64_t high) { return std::uniform_int_distribution<int64_t>(low, high)(random_bits); }
bool chance(double p) { return std::bernoulli_distribution(p)(random_bits); }
Floats normal(int64_t size) {
  Floats out(static_cast<size_t>(size));
  std::normal_distribution<float> distribution(0, 0.5);
  for (float& value : out) value = distribution(random_bits);
  return out;
}

// A pool that starts a thread for each task, some of them late.
class Pool {
 public:
  explicit Pool(int64_t size) : size_(size) {
    api_.XLA_FFI_ThreadPool_Schedule = [](XLA_FFI_ThreadPool_Schedule_Args* args) -> XLA_FFI_Error* {
      reinterpret_cast<Pool*>(args->ctx)->schedule(args->task, args->data);
      return nullptr;
    };
    api_.XLA_FFI_ThreadPool_NumThreads = [](XLA_FFI_ThreadPool_NumThreads_Args* args) -> XLA_FFI_Error* {
      *args->num_threads = reinterpret_cast<Pool*>(args->ctx)->size_;
      return nullptr;
    };
  }
  ~Pool() {
    for (std::thread& thread : threads_) thread.join();
  }
  ffi::ThreadPool get() {
    auto* context = reinterpret_cast<XLA_FFI_ExecutionContext*>(this);
    return *ffi::CtxDecoding<ffi::ThreadPool>::Decode(&api_, context, diagnostic_);
  }

 private:
  void schedule(XLA_FFI_Task* task, void* data) {
    const auto wait = std::chrono::microseconds(std::max<int64_t>(0, static_cast<int64_t>(random_waits() % 600) - 300));
    threads_.emplace_back([task, data, wait] {
      std::this_thread::sleep_for(wait);
      task(data);
    });
  }

  int64_t size_;
  XLA_FFI_Api api_{};
  ffi::DiagnosticEngine diagnostic_;
  std::vector<std::thread> threads_;
};

struct Case {
  int64_t networks, steps, rows, inputs, hidden;
  bool batch_major, reverse, ring, has_z, has_c, has_dx, has_valid, has_resets;
};

// Of every four cases one has large layers, and one so many networks that each is run by a thread to its end. Case 2 goes
// beyond the borders of parts and chunks (kSum, kDeep, kRound).
Case draw_case(int n) {
  const bool large = n % 4 == 3, many = n % 4 == 1;
  Case c{};
  c.networks = many ? draw(10, 14) : large ? draw(1, 2) : draw(1, 3);
  c.steps = many ? draw(7, 9) : large ? draw(9, 15) : draw(1, 7);
  c.rows = many ? draw(7, 11) : large ? draw(1, 11) : draw(1, 13);
  c.inputs = draw(0, 5);
  c.hidden = many ? draw(36, 45) : large ? draw(90, 131) : draw(1, 40);
  c.batch_major = chance(0.5), c.reverse = chance(0.5), c.ring = chance(0.25);
  c.has_z = c.inputs == 0 || chance(0.25);
  c.has_c = !c.ring && chance(0.7);
  c.has_dx = chance(0.6);
  c.has_valid = chance(0.4), c.has_resets = chance(0.4);
  if (n == 2) {  // 528 rows of the gradients of weights; 4 x 33 and 70 + 33 numbers of a product
    c = Case{};
    c.networks = 1, c.steps = 48, c.rows = 11, c.inputs = 70, c.hidden = 33;
    c.has_c = c.has_dx = true;
  }
  return c;
}

// The arrays that go in.
struct Inputs {
  Floats x, z, w_x, w_h, b, h0, c0, h_reset, c_reset, dh, dc, d_h, d_c;
  std::unique_ptr<bool[]> valid, resets;
};

Inputs draw_inputs(const Case& c) {
  const int64_t n = c.networks, tb = c.steps * c.rows, width = c.hidden, state = n * c.rows * width;
  Inputs in;
  in.x = normal(n * tb * c.inputs);
  if (c.has_z) in.z = normal(n * tb * 4 * width);
  in.w_x = normal(n * c.inputs * 4 * width), in.w_h = normal(n * width * 4 * width);
  const float scale = 1 / std::sqrt(static_cast<float>(width));  // larger ones would let rounding errors grow
  for (float& value : in.w_h) value *= scale;
  in.b = normal(n * 4 * width), in.h0 = normal(state), in.c0 = normal(state);
  in.h_reset = normal(state), in.c_reset = normal(state);
  if (chance(0.8)) in.dh = normal(n * tb * width);
  if (chance(0.3)) in.dc = normal(n * tb * width);
  in.d_h = normal(state), in.d_c = normal(state);
  auto flags = [&](double p) {
    auto out = std::make_unique<bool[]>(static_cast<size_t>(n * tb));
    for (int64_t k = 0; k < n * tb; k++) out[static_cast<size_t>(k)] = chance(p);
    return out;
  };
  if (c.has_valid) in.valid = flags(chance(0.2) ? 0 : 0.8);  // or no step at all
  if (c.has_resets) in.resets = flags(0.2);
  return in;
}

float* start(Floats& array, int64_t offset) { return array.empty() ? nullptr : array.data() + offset; }

Series series(const Case& c, Floats& array, int64_t network, int64_t n) {
  if (array.empty()) return {nullptr, 0, 0};
  float* data = array.data() + network * c.steps * c.rows * n;
  return c.batch_major ? Series{data, n, c.steps * n} : Series{data, c.rows * n, n};
}

// All arrays that come out, one after the other; NaN where nothing was written.
std::vector<Floats> run(const Case& c, Inputs& in, int threads) {
  const int64_t n = c.networks, tb = c.steps * c.rows, width = c.hidden, state = c.rows * width;
  auto fresh = [](int64_t size) { return Floats(static_cast<size_t>(size), std::nanf("")); };
  const bool saves = c.has_c && !c.ring;
  Floats h = fresh(c.ring ? n * 2 * state : n * tb * width), cs = saves ? fresh(n * tb * width) : Floats();
  Floats gates = saves ? fresh(n * tb * 4 * width) : Floats(), sums = gates, h_end = fresh(n * state), c_end = fresh(n * state);
  std::vector<Layer> layers;
  std::vector<std::vector<int32_t>> tables;
  for (int64_t k = 0; k < n; k++) {
    Layer layer{};
    layer.steps = c.steps, layer.rows = c.rows, layer.inputs = c.inputs, layer.hidden = width;
    layer.reverse = c.reverse, layer.ring = c.ring;
    layer.x = series(c, in.x, k, c.inputs);
    layer.z = series(c, in.z, k, 4 * width);
    layer.w_x = start(in.w_x, k * c.inputs * 4 * width), layer.w_h = start(in.w_h, k * width * 4 * width);
    layer.b = start(in.b, k * 4 * width);
    layer.h0 = start(in.h0, k * state), layer.c0 = start(in.c0, k * state);
    layer.h_reset = start(in.h_reset, k * state), layer.c_reset = start(in.c_reset, k * state);
    layer.h = c.ring ? Series{h.data() + k * 2 * state, state, width} : series(c, h, k, width);
    layer.c = saves ? series(c, cs, k, width) : Series{c_end.data() + k * state, 0, width};
    layer.gates = series(c, gates, k, 4 * width);
    layer.sums = series(c, sums, k, 4 * width);
    if (c.has_valid || c.has_resets) {
      tables.push_back(lstmjax::sources(layer, c.has_valid ? in.valid.get() + k * tb : nullptr,
                                        c.has_resets ? in.resets.get() + k * tb : nullptr));
      layer.from = tables.back().data();
    }
    layers.push_back(layer);
  }
  {
    Pool pool(threads);
    ffi::ThreadPool handle = pool.get();
    lstmjax::run_forward(handle, threads, layers, h_end.data(), c_end.data());
  }
  std::vector<Floats> out{h, cs, gates, sums, h_end, c_end};
  if (!saves) return out;

  Floats dz = fresh(n * tb * 4 * width), dx = fresh(c.has_dx ? n * tb * c.inputs : 0), dw_x = fresh(n * c.inputs * 4 * width), dw_h = fresh(n * width * 4 * width);
  Floats db = fresh(n * 4 * width), dh0 = fresh(n * state), dc0 = fresh(n * state);
  Floats dh_reset(static_cast<size_t>(c.has_resets ? n * state : 0)), dc_reset = dh_reset;
  std::vector<Slopes> slopes;
  for (int64_t k = 0; k < n; k++) {
    Slopes s{};
    if (layers[static_cast<size_t>(k)].from) {
      tables.push_back(lstmjax::readers(layers[static_cast<size_t>(k)]));
      s.next = tables.back().data();
    }
    s.dh = series(c, in.dh, k, width), s.dc = series(c, in.dc, k, width);
    s.d_h = start(in.d_h, k * state), s.d_c = start(in.d_c, k * state);
    s.dz = series(c, dz, k, 4 * width), s.dx = series(c, dx, k, c.inputs);
    s.dh0 = start(dh0, k * state), s.dc0 = start(dc0, k * state);
    s.dh_reset = start(dh_reset, k * state), s.dc_reset = start(dc_reset, k * state);
    s.dw_x = start(dw_x, k * c.inputs * 4 * width), s.dw_h = start(dw_h, k * width * 4 * width);
    s.db = start(db, k * 4 * width);
    slopes.push_back(s);
  }
  {
    Pool pool(threads);
    ffi::ThreadPool handle = pool.get();
    lstmjax::run_backward(handle, threads, layers, slopes);
  }
  for (Floats& array : std::vector<Floats>{dz, dx, dw_x, dw_h, db, dh0, dc0, dh_reset, dc_reset}) out.push_back(array);
  return out;
}

bool same(const std::vector<Floats>& a, const std::vector<Floats>& b) {
  for (size_t k = 0; k < a.size(); k++) {
    if (!a[k].empty() && std::memcmp(a[k].data(), b[k].data(), a[k].size() * sizeof(float)) != 0) return false;
  }
  return true;
}

bool complete(const std::vector<Floats>& arrays, bool ring) {
  for (size_t k = ring ? 1 : 0; k < arrays.size(); k++) {  // a ring of one step has a slot that nobody writes
    for (const float value : arrays[k]) {
      if (std::isnan(value)) return false;
    }
  }
  return true;
}

// Two layers of a case, one step at a time or a few, by a stream; and the same by the kernel, layer by layer. A head of
// the identity and b = 0 stands above every second one: its sums have a single term.
bool streams(const Case& c, Inputs& in) {
  const int64_t width = c.hidden, state = c.rows * width, inputs = std::max<int64_t>(1, c.inputs), steps = c.steps;
  const bool residual = chance(0.5), headed = chance(0.5);
  Floats xs = normal(c.rows * steps * inputs), w_x = normal(inputs * 4 * width), w_x2 = normal(width * 4 * width);
  Floats eye(static_cast<size_t>(width * width)), zeros(static_cast<size_t>(width));
  for (int64_t k = 0; k < width; k++) eye[static_cast<size_t>(k * width + k)] = 1;
  const float *w_h = in.w_h.data(), *b = in.b.data();
  const float* arrays[] = {w_x.data(), w_h, b, w_x2.data(), w_h, b, eye.data(), zeros.data()};
  const int64_t square = 4 * width * width, hidden[] = {width, width};
  const int64_t floats[] = {inputs * 4 * width, square, 4 * width, square, square, 4 * width, width * width, width};
  void *network = nullptr, *stream = nullptr;
  if (lstmjax_network_new(inputs, 2, hidden, headed ? width : 0, residual, arrays, floats, &network)) return false;
  bool good = !lstmjax_stream_new(network, c.rows, &stream);
  lstmjax_network_free(network);  // the stream keeps what it needs
  Floats begin = normal(4 * state), end(static_cast<size_t>(4 * state)), found(static_cast<size_t>(steps * state));
  good = good && !lstmjax_stream_state(stream, 1, begin.data(), 4 * state);
  for (int64_t done = 0, n; done < steps; done += n) {
    n = std::min(steps - done, draw(1, 3));
    Floats part(static_cast<size_t>(c.rows * n * inputs)), out(static_cast<size_t>(n * state));
    for (int64_t row = 0; row < c.rows; row++) {
      std::copy_n(xs.data() + (row * steps + done) * inputs, n * inputs, part.data() + row * n * inputs);
    }
    good = good && !lstmjax_stream_run(stream, n, part.data(), c.rows * n * inputs, out.data(), n * state);
    for (int64_t row = 0; row < c.rows; row++) {
      std::copy_n(out.data() + row * n * width, n * width, found.data() + (row * steps + done) * width);
    }
  }
  good = good && !lstmjax_stream_state(stream, 0, end.data(), 4 * state);
  good = good && lstmjax_stream_run(stream, 1, xs.data(), -1, found.data(), -1) != nullptr;
  lstmjax_stream_free(stream);

  Floats below = xs, expected_end(static_cast<size_t>(4 * state));
  for (int64_t k = 0; k < 2; k++) {
    Floats h(static_cast<size_t>(steps * state));
    std::vector<Layer> layers(1);
    Layer& layer = layers[0];
    layer.steps = steps, layer.rows = c.rows, layer.inputs = k ? width : inputs, layer.hidden = width;
    layer.x = Series{below.data(), layer.inputs, steps * layer.inputs};
    layer.w_x = k ? w_x2.data() : w_x.data(), layer.w_h = w_h, layer.b = b;
    layer.h0 = begin.data() + 2 * k * state, layer.c0 = layer.h0 + state;
    layer.h = Series{h.data(), width, steps * width};
    float* ends = expected_end.data() + 2 * k * state;
    layer.c = Series{ends + state, 0, width};
    Pool pool(1);
    ffi::ThreadPool handle = pool.get();
    lstmjax::run_forward(handle, 1, layers, ends, ends + state);
    for (size_t n = 0; k && residual && n < h.size(); n++) h[n] += below[n];
    below = h;
  }
  return good && same({end, found}, {expected_end, below});
}

// Several threads keep and take what networks save; a ticket is good once, and for its size.
bool tickets() {
  auto taken = [](const float* ticket, int64_t size) { return lstmjax::take(ticket, size).get() != nullptr; };
  std::vector<std::thread> threads;
  std::atomic<int> wrong{0};
  for (int t = 0; t < 4; t++) {
    threads.emplace_back([t, taken, &wrong] {
      for (int n = 0; n < 20; n++) {
        const float mark = static_cast<float>(100 * t + n);
        const int64_t size = 10 + n;
        float ticket[lstmjax::kTicket], none[] = {0, 0, 0}, broken[] = {std::nanf(""), -1, 1e9f};
        lstmjax::Buffer saved(size);
        *saved.get() = mark;
        lstmjax::keep(std::move(saved), ticket);
        wrong += taken(none, size) || taken(broken, size) || taken(ticket, size + 1);
        saved = lstmjax::take(ticket, size);
        wrong += !saved.get() || *saved.get() != mark || taken(ticket, size);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  return wrong == 0;
}

// Results in a file: written by the first instruction set, compared by the others.
class File {
 public:
  explicit File(const char* name) {
    if (!name) return;
    stored_ = std::fopen(name, "rb");
    compares_ = stored_;
    if (!stored_) stored_ = std::fopen(name, "wb");
  }
  ~File() {
    if (stored_) std::fclose(stored_);
  }
  bool agrees(const Floats& array) {
    if (!stored_) return true;
    if (!compares_) return std::fwrite(array.data(), sizeof(float), array.size(), stored_) == array.size();
    Floats other(array.size());
    if (std::fread(other.data(), sizeof(float), other.size(), stored_) != other.size()) return false;
    for (size_t k = 0; k < array.size(); k++) {
      if (!(std::abs(array[k] - other[k]) <= 2e-5f * (1 + std::abs(other[k])))) return false;
    }
    return true;
  }

 private:
  std::FILE* stored_ = nullptr;
  bool compares_ = false;
};

}  // namespace

int main(int count, char** arguments) {
  const int cases = count > 1 ? std::atoi(arguments[1]) : 40;
  random_bits.seed(static_cast<unsigned>(count > 2 ? std::atoi(arguments[2]) : 1));
  File file(count > 3 ? arguments[3] : nullptr);
  int failed = 0;
  for (int n = 0; n < cases; n++) {
    const Case c = draw_case(n);
    Inputs in = draw_inputs(c);
    const std::vector<Floats> alone = run(c, in, 1);
    bool good = complete(alone, c.ring);
    for (size_t k = c.ring ? 1 : 0; k < alone.size(); k++) good = file.agrees(alone[k]) && good;
    for (const int threads : {2, 3, 5}) good = good && same(alone, run(c, in, threads));
    good = good && streams(c, in);
    failed += !good;
    if (!good) {
      std::printf("case %d differs: N %ld T %ld B %ld I %ld H %ld, batch_major %d reverse %d ring %d z %d c %d valid %d "
                  "resets %d\n",
                  n, static_cast<long>(c.networks), static_cast<long>(c.steps), static_cast<long>(c.rows),
                  static_cast<long>(c.inputs), static_cast<long>(c.hidden), c.batch_major, c.reverse, c.ring, c.has_z,
                  c.has_c, c.has_valid, c.has_resets);
    }
  }
  for (int64_t n = 0; n < 40; n++) {
    Floats x = normal(n), y(static_cast<size_t>(n));
    lstmjax::kernels().activate(n % 2, x.data(), y.data(), n);
  }
  if (!tickets()) failed++;
  std::printf("%s: %d passed, %d failed\n", lstmjax::kernels().name, cases - failed, failed);
  return failed ? 1 : 0;
}
