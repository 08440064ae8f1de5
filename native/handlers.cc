// Where XLA calls us: the FFI handlers, and what native_library.py asks the library before it registers them.
//
// Every array has an axis N of networks in front. Series are [N, T, B, ...], or [N, B, T, ...] if `batch_major`. An
// array that is absent is [0]. The FFI checks ranks and sizes of nothing, so all of that is checked here.
#include <algorithm>
#include <cstring>
#include <initializer_list>
#include <new>
#include <string>
#include <vector>

#include "pages.h"
#include "plan.h"
#include "sets.h"
#include "xla/ffi/api/ffi.h"

#define LSTMJAX_EXPORT extern "C" __attribute__((visibility("default")))

namespace ffi = xla::ffi;
using lstmjax::Layer;
using lstmjax::Series;
using lstmjax::Slopes;
using Floats = ffi::Buffer<ffi::F32>;
using Flags = ffi::Buffer<ffi::PRED>;
using FloatsOut = ffi::ResultBuffer<ffi::F32>;

// The version of the FFI headers: jaxlib refuses a handler that is newer than itself.
LSTMJAX_EXPORT int lstmjax_ffi_major() { return XLA_FFI_API_MAJOR; }
LSTMJAX_EXPORT int lstmjax_ffi_minor() { return XLA_FFI_API_MINOR; }
LSTMJAX_EXPORT const char* lstmjax_instruction_set() { return lstmjax::kernels().name; }
LSTMJAX_EXPORT void lstmjax_activate(int is_tanh, const float* x, float* y, int64_t n) {
  lstmjax::kernels().activate(is_tanh, x, y, n);
}

namespace {

using Shape = std::initializer_list<int64_t>;

// Collects the first complaint about a shape.
class Shapes {
 public:
  template <typename Array>
  void expect(const char* name, const Array& array, Shape shape) {
    const auto dims = array.dimensions();
    if (message_.empty() && (dims.size() != shape.size() || !std::equal(dims.begin(), dims.end(), shape.begin()))) {
      message_ = std::string(name) + " has shape " + text(dims) + ", expected " + text(shape);
    }
  }
  template <typename Array>
  void expect_or_none(const char* name, const Array& array, Shape shape) {
    if (exists(array)) expect(name, array, shape);
  }
  template <typename Array>
  static bool exists(const Array& array) {
    return array.dimensions().size() != 1;
  }
  void rank(const char* name, const Floats& array, size_t rank) {
    if (message_.empty() && array.dimensions().size() != rank) {
      message_ = std::string(name) + " has shape " + text(array.dimensions()) + ", expected " + std::to_string(rank) +
                 " axes";
    }
  }
  void require(bool condition, const char* message) {
    if (message_.empty() && !condition) message_ = message;
  }
  bool wrong() const { return !message_.empty(); }
  ffi::Error error() const { return ffi::Error::InvalidArgument("lstmjax: " + message_); }

 private:
  template <typename Dims>
  static std::string text(const Dims& dims) {
    std::string out = "(";
    for (const int64_t n : dims) out += std::to_string(n) + ", ";
    return out + ")";
  }
  std::string message_;
};

struct Sizes {
  int64_t networks, steps, rows, inputs, hidden;
  bool batch_major;

  int64_t outer() const { return batch_major ? rows : steps; }
  int64_t inner() const { return batch_major ? steps : rows; }
  // The series of a network, of vectors of n floats.
  Series series(float* data, int64_t network, int64_t n) const {
    if (!data) return {nullptr, 0, 0};
    data += network * steps * rows * n;
    return batch_major ? Series{data, n, steps * n} : Series{data, rows * n, n};
  }
};

template <typename Array>
float* data_of(const Array& array) {
  return Shapes::exists(array) ? const_cast<float*>(array.typed_data()) : nullptr;
}
template <typename T>
T* shifted(T* data, int64_t n) {
  return data ? data + n : nullptr;
}

// The sizes that x, w_h and h0 have, or a complaint about their axes.
Sizes sizes_of(Shapes& shapes, const Floats& x, const Floats& w_h, bool batch_major) {
  shapes.rank("x", x, 4);
  shapes.rank("w_h", w_h, 4);
  if (shapes.wrong()) return {};
  const auto dims = x.dimensions();
  Sizes sizes{dims[0], dims[1], dims[2], dims[3], w_h.dimensions()[1], batch_major};
  if (batch_major) std::swap(sizes.steps, sizes.rows);
  shapes.require(sizes.networks > 0 && sizes.steps > 0 && sizes.rows > 0 && sizes.hidden > 0, "an array is empty");
  return sizes;
}

// What both passes take of a layer.
struct Inputs {
  Floats x, w_x, w_h, h0, c0;
  Flags valid, resets;
  Floats h_reset, c_reset;

  void check(Shapes& shapes, const Sizes& s) const {
    shapes.expect("w_x", w_x, {s.networks, s.inputs, 4, s.hidden});
    shapes.expect("h0", h0, {s.networks, s.rows, s.hidden});
    shapes.expect("c0", c0, {s.networks, s.rows, s.hidden});
    shapes.expect_or_none("valid", valid, {s.networks, s.steps, s.rows});
    shapes.expect_or_none("resets", resets, {s.networks, s.steps, s.rows});
    if (Shapes::exists(resets)) {
      shapes.expect("h_reset", h_reset, {s.networks, s.rows, s.hidden});
      shapes.expect("c_reset", c_reset, {s.networks, s.rows, s.hidden});
    }
  }

  Layer layer(const Sizes& s, int64_t n, bool reverse, bool ring) const {
    const int64_t state = n * s.rows * s.hidden;
    Layer layer{};
    layer.steps = s.steps, layer.rows = s.rows, layer.inputs = s.inputs, layer.hidden = s.hidden;
    layer.reverse = reverse, layer.ring = ring;
    layer.x = s.series(const_cast<float*>(x.typed_data()), n, s.inputs);
    layer.w_x = w_x.typed_data() + n * s.inputs * 4 * s.hidden;
    layer.w_h = w_h.typed_data() + n * s.hidden * 4 * s.hidden;
    layer.h0 = h0.typed_data() + state, layer.c0 = c0.typed_data() + state;
    layer.h_reset = shifted(data_of(h_reset), state), layer.c_reset = shifted(data_of(c_reset), state);
    return layer;
  }

  // The slots of the states of a network, kept alive in `tables`, if it has flags.
  void find_sources(Layer& layer, const Sizes& s, int64_t n, std::vector<std::vector<int32_t>>& tables) const {
    const bool has_valid = Shapes::exists(valid), has_resets = Shapes::exists(resets);
    if (!has_valid && !has_resets) return;
    const int64_t first = n * s.steps * s.rows;
    tables.push_back(lstmjax::sources(layer, has_valid ? valid.typed_data() + first : nullptr,
                                      has_resets ? resets.typed_data() + first : nullptr));
    layer.from = tables.back().data();
  }
};

ffi::Error forward(ffi::ThreadPool pool, bool batch_major, bool reverse, bool ring, Floats x, Floats z, Floats w_x,
                   Floats w_h, Floats b, Floats h0, Floats c0, Flags valid, Flags resets, Floats h_reset,
                   Floats c_reset, FloatsOut h, FloatsOut c, FloatsOut gates, FloatsOut sums, FloatsOut h_end, FloatsOut c_end) try {
  Shapes shapes;
  const Sizes s = sizes_of(shapes, x, w_h, batch_major);
  const Inputs inputs{x, w_x, w_h, h0, c0, valid, resets, h_reset, c_reset};
  const int64_t n = s.networks, width = s.hidden;
  inputs.check(shapes, s);
  shapes.expect("w_h", w_h, {n, width, 4, width});
  shapes.expect("b", b, {n, 4, width});
  shapes.expect_or_none("z", z, {n, s.outer(), s.inner(), 4, width});
  if (ring) {
    shapes.expect("h", *h, {n, 2, s.rows, width});
    shapes.require(!Shapes::exists(*c) && !Shapes::exists(*gates) && !Shapes::exists(*sums),
                   "c, gates and sums are series, but h is a ring");
  } else {
    shapes.expect("h", *h, {n, s.outer(), s.inner(), width});
  }
  shapes.expect_or_none("c", *c, {n, s.outer(), s.inner(), width});
  for (const auto& [name, array] : {std::pair{"gates", &gates}, {"sums", &sums}}) {
    shapes.expect_or_none(name, **array, {n, s.outer(), s.inner(), 4, width});
  }
  shapes.expect("h_end", *h_end, {n, s.rows, width});
  shapes.expect("c_end", *c_end, {n, s.rows, width});
  if (shapes.wrong()) return shapes.error();
  for (FloatsOut* array : {&h, &c, &gates, &sums}) {
    lstmjax::prefer_large_pages((*array)->untyped_data(), (*array)->size_bytes());
  }

  std::vector<Layer> layers;
  std::vector<std::vector<int32_t>> tables;
  for (int64_t k = 0; k < n; k++) {
    Layer layer = inputs.layer(s, k, reverse, ring);
    inputs.find_sources(layer, s, k, tables);
    layer.z = s.series(data_of(z), k, 4 * width);
    layer.b = b.typed_data() + k * 4 * width;
    layer.h = ring ? Series{h->typed_data() + k * 2 * s.rows * width, s.rows * width, width}
                   : s.series(h->typed_data(), k, width);
    layer.c = Shapes::exists(*c) ? s.series(c->typed_data(), k, width)
                                 : Series{c_end->typed_data() + k * s.rows * width, 0, width};
    layer.gates = s.series(data_of(*gates), k, 4 * width);
    layer.sums = s.series(data_of(*sums), k, 4 * width);
    layers.push_back(layer);
  }
  lstmjax::run_forward(pool, lstmjax::threads_of(pool), layers, h_end->typed_data(), c_end->typed_data());
  return ffi::Error::Success();
} catch (const std::bad_alloc&) {
  return ffi::Error(ffi::ErrorCode::kResourceExhausted, "lstmjax: no memory for the packed weights");
}

ffi::Error backward(ffi::ThreadPool pool, bool batch_major, bool reverse, Floats x, Floats w_x, Floats w_h,
                    Floats h0, Floats c0, Flags valid, Flags resets, Floats h_reset, Floats c_reset,
                    Floats h, Floats c, Floats gates, Floats dh, Floats dc, Floats d_h, Floats d_c, FloatsOut dz,
                    FloatsOut dx, FloatsOut dw_x, FloatsOut dw_h, FloatsOut db, FloatsOut dh0, FloatsOut dc0, FloatsOut dh_reset,
                    FloatsOut dc_reset) try {
  Shapes shapes;
  const Sizes s = sizes_of(shapes, x, w_h, batch_major);
  const Inputs inputs{x, w_x, w_h, h0, c0, valid, resets, h_reset, c_reset};
  const int64_t n = s.networks, width = s.hidden;
  inputs.check(shapes, s);
  shapes.expect("w_h", w_h, {n, width, 4, width});
  for (const auto& [name, array] : {std::pair{"h", &h}, {"c", &c}}) {
    shapes.expect(name, *array, {n, s.outer(), s.inner(), width});
  }
  for (const auto& [name, array] : {std::pair{"dh", &dh}, {"dc", &dc}}) {
    shapes.expect_or_none(name, *array, {n, s.outer(), s.inner(), width});
  }
  shapes.expect("gates", gates, {n, s.outer(), s.inner(), 4, width});
  shapes.expect("dz", *dz, {n, s.outer(), s.inner(), 4, width});
  shapes.expect_or_none("dx", *dx, {n, s.outer(), s.inner(), s.inputs});
  shapes.expect("d_h", d_h, {n, s.rows, width});
  shapes.expect("d_c", d_c, {n, s.rows, width});
  shapes.expect("dw_x", *dw_x, {n, s.inputs, 4, width});
  shapes.expect("dw_h", *dw_h, {n, width, 4, width});
  shapes.expect("db", *db, {n, 4, width});
  for (const auto& [name, array] : {std::pair{"dh0", &dh0}, {"dc0", &dc0}}) {
    shapes.expect(name, **array, {n, s.rows, width});
  }
  for (const auto& [name, array] : {std::pair{"dh_reset", &dh_reset}, {"dc_reset", &dc_reset}}) {
    shapes.expect_or_none(name, **array, {n, s.rows, width});
  }
  shapes.require(Shapes::exists(*dh_reset) == Shapes::exists(*dc_reset), "one of dh_reset and dc_reset is absent");
  shapes.require(!Shapes::exists(*dh_reset) || Shapes::exists(resets), "dh_reset is wanted, but there are no resets");
  if (shapes.wrong()) return shapes.error();
  lstmjax::prefer_large_pages(dz->untyped_data(), dz->size_bytes());

  std::vector<Layer> layers;
  std::vector<Slopes> slopes;
  std::vector<std::vector<int32_t>> tables;
  for (int64_t k = 0; k < n; k++) {
    const int64_t state = k * s.rows * width;
    Layer layer = inputs.layer(s, k, reverse, false);
    inputs.find_sources(layer, s, k, tables);
    layer.h = s.series(data_of(h), k, width), layer.c = s.series(data_of(c), k, width);
    layer.gates = s.series(data_of(gates), k, 4 * width);
    Slopes slope{};
    if (layer.from) {
      tables.push_back(lstmjax::readers(layer));
      slope.next = tables.back().data();
    }
    slope.dh = s.series(data_of(dh), k, width), slope.dc = s.series(data_of(dc), k, width);
    slope.d_h = d_h.typed_data() + state, slope.d_c = d_c.typed_data() + state;
    slope.dz = s.series(dz->typed_data(), k, 4 * width);
    slope.dx = s.series(data_of(*dx), k, s.inputs);
    slope.dh0 = dh0->typed_data() + state, slope.dc0 = dc0->typed_data() + state;
    slope.dh_reset = shifted(data_of(*dh_reset), state), slope.dc_reset = shifted(data_of(*dc_reset), state);
    if (slope.dh_reset) {
      const auto bytes = static_cast<size_t>(s.rows * width) * sizeof(float);
      std::memset(slope.dh_reset, 0, bytes);
      std::memset(slope.dc_reset, 0, bytes);
    }
    slope.dw_x = dw_x->typed_data() + k * s.inputs * 4 * width;
    slope.dw_h = dw_h->typed_data() + k * width * 4 * width;
    slope.db = db->typed_data() + k * 4 * width;
    layers.push_back(layer);
    slopes.push_back(slope);
  }
  lstmjax::run_backward(pool, lstmjax::threads_of(pool), layers, slopes);
  return ffi::Error::Success();
} catch (const std::bad_alloc&) {
  return ffi::Error(ffi::ErrorCode::kResourceExhausted, "lstmjax: no memory for the packed weights");
}

}  // namespace

// XLA's macro says nothing of visibility; the declaration before it exports the handler.
#define LSTMJAX_HANDLER(name, ...)                             \
  LSTMJAX_EXPORT XLA_FFI_Error* name(XLA_FFI_CallFrame* call); \
  XLA_FFI_DEFINE_HANDLER_SYMBOL(name, __VA_ARGS__)

LSTMJAX_HANDLER(lstmjax_forward, forward,
                ffi::Ffi::Bind()
                    .Ctx<ffi::ThreadPool>()
                    .Attr<bool>("batch_major")
                    .Attr<bool>("reverse")
                    .Attr<bool>("ring")
                    .Arg<Floats>()   // x
                    .Arg<Floats>()   // z
                    .Arg<Floats>()   // w_x
                    .Arg<Floats>()   // w_h
                    .Arg<Floats>()   // b
                    .Arg<Floats>()   // h0
                    .Arg<Floats>()   // c0
                    .Arg<Flags>()    // valid
                    .Arg<Flags>()    // resets
                    .Arg<Floats>()   // h_reset
                    .Arg<Floats>()   // c_reset
                    .Ret<Floats>()   // h
                    .Ret<Floats>()   // c
                    .Ret<Floats>()   // gates
                    .Ret<Floats>()   // sums
                    .Ret<Floats>()   // h_end
                    .Ret<Floats>()); // c_end

LSTMJAX_HANDLER(lstmjax_backward, backward,
                ffi::Ffi::Bind()
                    .Ctx<ffi::ThreadPool>()
                    .Attr<bool>("batch_major")
                    .Attr<bool>("reverse")
                    .Arg<Floats>()   // x
                    .Arg<Floats>()   // w_x
                    .Arg<Floats>()   // w_h
                    .Arg<Floats>()   // h0
                    .Arg<Floats>()   // c0
                    .Arg<Flags>()    // valid
                    .Arg<Flags>()    // resets
                    .Arg<Floats>()   // h_reset
                    .Arg<Floats>()   // c_reset
                    .Arg<Floats>()   // h
                    .Arg<Floats>()   // c
                    .Arg<Floats>()   // gates
                    .Arg<Floats>()   // dh
                    .Arg<Floats>()   // dc
                    .Arg<Floats>()   // d_h
                    .Arg<Floats>()   // d_c
                    .Ret<Floats>()   // dz
                    .Ret<Floats>()   // dx
                    .Ret<Floats>()   // dw_x
                    .Ret<Floats>()   // dw_h
                    .Ret<Floats>()   // db
                    .Ret<Floats>()   // dh0
                    .Ret<Floats>()   // dc0
                    .Ret<Floats>()   // dh_reset
                    .Ret<Floats>()); // dc_reset
