// Where XLA calls us: the FFI handlers, and what native_library.py asks the library before it registers them.
//
// Every array has an axis N of networks in front. Series are [N, T, B, ...], or [N, B, T, ...] if `batch_major`. An
// array that is absent is [0]. The FFI checks ranks and sizes of nothing, so all of that is checked here.
#include <algorithm>
#include <cstring>
#include <new>
#include <string>
#include <vector>

#include "memory.h"
#include "plan.h"
#include "sets.h"
#include "xla/ffi/api/ffi.h"

#define LSTMJAX_EXPORT extern "C" __attribute__((visibility("default")))

// What the handlers take and return: their parameters, their bindings, the checks of shapes and the text that Python
// compares with its own (lstmjax/backends/native_arrays.py) are all made of these two lists. The axes: n networks, s time
// and batch, or batch and time if `batch_major`; r the same, or the 2 slots of a ring and batch; t time, b batch,
// i inputs, h hidden units, k those of the step before, g gates, q numbers of a ticket, m networks, or 1 if all read the same.
// "?": the array may be absent.
#define LSTMJAX_FORWARD(OPTION, FLOATS, FLAGS, RESULT)                                           \
  OPTION(batch_major) OPTION(reverse) OPTION(ring)                                               \
  FLOATS(x, "msi") FLOATS(z, "nsgh?") FLOATS(w_x, "nigh") FLOATS(w_h, "nkgh") FLOATS(b, "ngh")   \
  FLOATS(h0, "nbh") FLOATS(c0, "nbh") FLAGS(valid, "ntb?") FLAGS(resets, "ntb?")                 \
  FLOATS(h_reset, "nbh?") FLOATS(c_reset, "nbh?")                                                \
  RESULT(h, "nrh") RESULT(c, "nsh?") RESULT(gates, "nsgh?") RESULT(sums, "nsgh?")                \
  RESULT(h_end, "nbh") RESULT(c_end, "nbh") RESULT(ticket, "nq?")
#define LSTMJAX_BACKWARD(OPTION, FLOATS, FLAGS, RESULT)                                          \
  OPTION(batch_major) OPTION(reverse)                                                            \
  FLOATS(x, "msi") FLOATS(w_x, "nigh") FLOATS(w_h, "nkgh") FLOATS(b, "ngh")                      \
  FLOATS(h0, "nbh") FLOATS(c0, "nbh") FLAGS(valid, "ntb?") FLAGS(resets, "ntb?")                 \
  FLOATS(h_reset, "nbh?") FLOATS(c_reset, "nbh?")                                                \
  FLOATS(h, "nsh") FLOATS(c, "nsh?") FLOATS(gates, "nsgh?") FLOATS(ticket, "nq")                 \
  FLOATS(dh, "nsh?") FLOATS(dc, "nsh?") FLOATS(d_h, "nbh") FLOATS(d_c, "nbh")                    \
  RESULT(dz, "nsgh?") RESULT(dx, "nsi?") RESULT(dw_x, "nigh") RESULT(dw_h, "nkgh")                \
  RESULT(db, "ngh") RESULT(dh0, "nbh") RESULT(dc0, "nbh") RESULT(dh_reset, "nbh?") RESULT(dc_reset, "nbh?")

#define LSTMJAX_NO_OPTION(name)
#define LSTMJAX_TAKE_OPTION(name) , bool name
#define LSTMJAX_TAKE_FLOATS(name, axes) , Floats name
#define LSTMJAX_TAKE_FLAGS(name, axes) , Flags name
#define LSTMJAX_TAKE_RESULT(name, axes) , FloatsOut name
#define LSTMJAX_BIND_OPTION(name) .Attr<bool>(#name)
#define LSTMJAX_BIND_FLOATS(name, axes) .Arg<Floats>()
#define LSTMJAX_BIND_FLAGS(name, axes) .Arg<Flags>()
#define LSTMJAX_BIND_RESULT(name, axes) .Ret<Floats>()
#define LSTMJAX_CHECK(name, axes) shapes.expect(#name, name, axes, s);
#define LSTMJAX_CHECK_RESULT(name, axes) shapes.expect(#name, *name, axes, s);
#define LSTMJAX_NAME_OPTION(name) " " #name
#define LSTMJAX_NAME(name, axes) " " #name ":" axes
#define LSTMJAX_NAMES(list) list(LSTMJAX_NAME_OPTION, LSTMJAX_NAME, LSTMJAX_NAME, LSTMJAX_NAME)

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
// What Python expects of this library, or it is not used: what the handlers take, and a number (see CMakeLists.txt) for what
// such a list does not show.
LSTMJAX_EXPORT const char* lstmjax_interface() {
  return LSTMJAX_REVISION " forward" LSTMJAX_NAMES(LSTMJAX_FORWARD) " backward" LSTMJAX_NAMES(LSTMJAX_BACKWARD);
}
LSTMJAX_EXPORT const char* lstmjax_instruction_set() { return lstmjax::kernels().name; }
LSTMJAX_EXPORT void lstmjax_activate(int is_tanh, const float* x, float* y, int64_t n) {
  lstmjax::kernels().activate(is_tanh, x, y, n);
}

namespace {

constexpr float kNotSaved = -1;  // as the first gate of a network: c and the gates are not here. Gates are not negative

struct Sizes {
  int64_t networks, steps, rows, inputs, hidden;
  bool batch_major, ring;
  bool shares_x;  // all networks read the same x

  // The series of a network, of vectors of n floats.
  Series series(float* data, int64_t network, int64_t n) const {
    if (!data) return {nullptr, 0, 0};
    data += network * steps * rows * n;
    return batch_major ? Series{data, n, steps * n} : Series{data, rows * n, n};
  }

  // What a network saves for the backward pass, where it has a ticket: c and the gates, in the order in which the passes
  // write and read them, so that this is a single stream of memory.
  int64_t saved_floats() const { return steps * rows * 5 * hidden; }
  void save_in(const lstmjax::Buffer& saved, Layer& layer) const {
    layer.c = Series{saved.get(), rows * 5 * hidden, 5 * hidden};
    layer.gates = Series{saved.get() + hidden, rows * 5 * hidden, 5 * hidden};
  }

  // The shape that an array of some axes has.
  std::vector<int64_t> shape(const char* axes) const {
    std::vector<int64_t> out;
    for (; *axes && *axes != '?'; axes++) {
      switch (*axes) {
        case 'n': out.push_back(networks); break;
        case 'm': out.push_back(shares_x ? 1 : networks); break;
        case 't': out.push_back(steps); break;
        case 'b': out.push_back(rows); break;
        case 'i': out.push_back(inputs); break;
        case 'g': out.push_back(4); break;
        case 'q': out.push_back(lstmjax::kTicket); break;
        case 'r':
        case 's':
          out.push_back(*axes == 'r' && ring ? 2 : batch_major ? rows : steps);
          out.push_back(batch_major && !(*axes == 'r' && ring) ? steps : rows);
          break;
        default: out.push_back(hidden);
      }
    }
    return out;
  }
};

// Collects the first complaint about a shape.
class Shapes {
 public:
  template <typename Array>
  void expect(const char* name, const Array& array, const char* axes, const Sizes& sizes) {
    const auto dims = array.dimensions();
    const std::vector<int64_t> shape = sizes.shape(axes);
    if (!message_.empty() || (std::strchr(axes, '?') && !exists(array))) return;
    if (!std::equal(dims.begin(), dims.end(), shape.begin(), shape.end())) {
      message_ = std::string(name) + " has shape " + text(dims) + ", expected " + text(shape);
    }
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

template <typename Array>
float* data_of(const Array& array) {
  return Shapes::exists(array) ? const_cast<float*>(array.typed_data()) : nullptr;
}
template <typename T>
T* shifted(T* data, int64_t n) {
  return data ? data + n : nullptr;
}

// The sizes that x, w_h and h0 have, or a complaint about their axes.
Sizes sizes_of(Shapes& shapes, const Floats& x, const Floats& w_h, bool batch_major, bool ring) {
  shapes.rank("x", x, 4);
  shapes.rank("w_h", w_h, 4);
  if (shapes.wrong()) return {};
  const auto dims = x.dimensions(), dims_h = w_h.dimensions();
  Sizes sizes{dims_h[0], dims[1], dims[2], dims[3], dims_h[1], batch_major, ring, dims[0] == 1};
  if (batch_major) std::swap(sizes.steps, sizes.rows);
  shapes.require(sizes.networks > 0 && sizes.steps > 0 && sizes.rows > 0 && sizes.hidden > 0, "an array is empty");
  return sizes;
}

// What both passes take of a layer.
struct Inputs {
  Floats x, w_x, w_h, b, h0, c0;
  Flags valid, resets;
  Floats h_reset, c_reset;

  Layer layer(const Sizes& s, int64_t n, bool reverse) const {
    const int64_t state = n * s.rows * s.hidden;
    Layer layer{};
    layer.steps = s.steps, layer.rows = s.rows, layer.inputs = s.inputs, layer.hidden = s.hidden;
    layer.reverse = reverse, layer.ring = s.ring;
    layer.x = s.series(const_cast<float*>(x.typed_data()), s.shares_x ? 0 : n, s.inputs);
    layer.w_x = w_x.typed_data() + n * s.inputs * 4 * s.hidden;
    layer.w_h = w_h.typed_data() + n * s.hidden * 4 * s.hidden;
    layer.b = b.typed_data() + n * 4 * s.hidden;
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

ffi::Error forward(ffi::ThreadPool pool LSTMJAX_FORWARD(LSTMJAX_TAKE_OPTION, LSTMJAX_TAKE_FLOATS, LSTMJAX_TAKE_FLAGS,
                                                        LSTMJAX_TAKE_RESULT)) try {
  Shapes shapes;
  const Sizes s = sizes_of(shapes, x, w_h, batch_major, ring);
  LSTMJAX_FORWARD(LSTMJAX_NO_OPTION, LSTMJAX_CHECK, LSTMJAX_CHECK, LSTMJAX_CHECK_RESULT)
  if (Shapes::exists(resets)) {  // then the state that they return to is there
    shapes.expect("h_reset", h_reset, "nbh", s);
    shapes.expect("c_reset", c_reset, "nbh", s);
  }
  const bool keeps = Shapes::exists(*ticket);
  shapes.require(!keeps || !(Shapes::exists(*c) || Shapes::exists(*gates) || ring), "there are tickets, but c is saved");
  shapes.require(!ring || !(Shapes::exists(*c) || Shapes::exists(*gates) || Shapes::exists(*sums)),
                 "c, gates and sums are series, but h is a ring");
  if (shapes.wrong()) return shapes.error();
  const Inputs inputs{x, w_x, w_h, b, h0, c0, valid, resets, h_reset, c_reset};
  const int64_t n = s.networks, width = s.hidden;
  for (FloatsOut* array : {&h, &c, &gates, &sums}) {
    lstmjax::prefer_large_pages((*array)->untyped_data(), (*array)->size_bytes());
  }

  std::vector<Layer> layers;
  std::vector<std::vector<int32_t>> tables;
  std::vector<lstmjax::Buffer> saved;
  for (int64_t k = 0; k < n; k++) {
    Layer layer = inputs.layer(s, k, reverse);
    inputs.find_sources(layer, s, k, tables);
    layer.z = s.series(data_of(z), k, 4 * width);
    layer.h = ring ? Series{h->typed_data() + k * 2 * s.rows * width, s.rows * width, width}
                   : s.series(h->typed_data(), k, width);
    layer.c = Shapes::exists(*c) ? s.series(c->typed_data(), k, width)
                                 : Series{c_end->typed_data() + k * s.rows * width, 0, width};
    layer.gates = s.series(data_of(*gates), k, 4 * width);
    layer.sums = s.series(data_of(*sums), k, 4 * width);
    if (keeps) {
      saved.emplace_back(s.saved_floats());
      s.save_in(saved.back(), layer);
    }
    layers.push_back(layer);
  }
  lstmjax::run_forward(pool, lstmjax::threads_of(pool), layers, h_end->typed_data(), c_end->typed_data());
  for (size_t k = 0; k < saved.size(); k++) {
    lstmjax::keep(std::move(saved[k]), ticket->typed_data() + static_cast<int64_t>(k) * lstmjax::kTicket);
  }
  return ffi::Error::Success();
} catch (const std::bad_alloc&) {
  return ffi::Error(ffi::ErrorCode::kResourceExhausted, "lstmjax: no memory for the packed weights");
}

ffi::Error backward(ffi::ThreadPool pool LSTMJAX_BACKWARD(LSTMJAX_TAKE_OPTION, LSTMJAX_TAKE_FLOATS, LSTMJAX_TAKE_FLAGS,
                                                          LSTMJAX_TAKE_RESULT)) try {
  Shapes shapes;
  const Sizes s = sizes_of(shapes, x, w_h, batch_major, false);
  LSTMJAX_BACKWARD(LSTMJAX_NO_OPTION, LSTMJAX_CHECK, LSTMJAX_CHECK, LSTMJAX_CHECK_RESULT)
  if (Shapes::exists(resets)) {  // then the state that they return to is there
    shapes.expect("h_reset", h_reset, "nbh", s);
    shapes.expect("c_reset", c_reset, "nbh", s);
  }
  const bool has_saved = Shapes::exists(gates);
  shapes.require(has_saved == Shapes::exists(c) && has_saved == Shapes::exists(*dz), "some of c, gates and dz are absent");
  shapes.require(Shapes::exists(*dh_reset) == Shapes::exists(*dc_reset), "one of dh_reset and dc_reset is absent");
  shapes.require(!Shapes::exists(*dh_reset) || Shapes::exists(resets), "dh_reset is wanted, but there are no resets");
  if (shapes.wrong()) return shapes.error();
  const Inputs inputs{x, w_x, w_h, b, h0, c0, valid, resets, h_reset, c_reset};
  const int64_t n = s.networks, width = s.hidden;
  lstmjax::prefer_large_pages(dz->untyped_data(), dz->size_bytes());

  std::vector<Layer> layers;
  std::vector<Slopes> slopes;
  std::vector<std::vector<int32_t>> tables;
  std::vector<lstmjax::Buffer> saved;  // of networks with a ticket
  std::vector<Layer> again;                             // networks that have to run forwards again
  for (int64_t k = 0; k < n; k++) {
    const int64_t state = k * s.rows * width;
    Layer layer = inputs.layer(s, k, reverse);
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
    if (!has_saved || *layer.gates.data == kNotSaved) {
      saved.push_back(lstmjax::take(ticket.typed_data() + k * lstmjax::kTicket, s.saved_floats()));
      const bool is_gone = !saved.back().get();
      if (is_gone) saved.back() = lstmjax::Buffer(s.saved_floats());
      s.save_in(saved.back(), layer);
      slope.dz = layer.gates;
      if (is_gone) again.push_back(layer);
    }
    layers.push_back(layer);
    slopes.push_back(slope);
  }
  if (!again.empty()) {
    const int64_t floats = s.steps * s.rows * width, count = static_cast<int64_t>(again.size());
    const lstmjax::Buffer h_again(count * (floats + 2 * s.rows * width));  // of all steps, then the final states
    for (int64_t k = 0; k < count; k++) again[static_cast<size_t>(k)].h = s.series(h_again.get(), k, width);
    float* ends = h_again.get() + count * floats;
    lstmjax::run_forward(pool, lstmjax::threads_of(pool), again, ends, ends + count * s.rows * width);
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

#define LSTMJAX_BINDING(list) \
  list(LSTMJAX_BIND_OPTION, LSTMJAX_BIND_FLOATS, LSTMJAX_BIND_FLAGS, LSTMJAX_BIND_RESULT)
LSTMJAX_HANDLER(lstmjax_forward, forward, ffi::Ffi::Bind().Ctx<ffi::ThreadPool>() LSTMJAX_BINDING(LSTMJAX_FORWARD));
LSTMJAX_HANDLER(lstmjax_backward, backward, ffi::Ffi::Bind().Ctx<ffi::ThreadPool>() LSTMJAX_BINDING(LSTMJAX_BACKWARD));
