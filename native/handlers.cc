// Where XLA calls us: the FFI handlers, and what native_library.py asks the library before it registers them.
//
// Every array has an axis N of networks in front. Series are [N, T, B, ...], or [N, B, T, ...] if `batch_major`. An
// array that is absent is [0]. The FFI checks ranks and sizes of nothing, so all of that is checked here.
#include <algorithm>
#include <exception>
#include <new>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "memory.h"
#include "plan.h"
#include "sets.h"
#include "xla/ffi/api/ffi.h"

#define LSTMJAX_EXPORT extern "C" __attribute__((visibility("default")))

namespace lstmjax {
namespace {

namespace ffi = xla::ffi;
using Lists = std::vector<std::vector<int32_t>>;

// The arguments of the two handlers, then their results, each with its axes. Python compares this text with its own
// (native_arrays.py), and `Call` the arrays with it. The axes: n networks, s time and batch, or batch and time if
// `batch_major`; r the same, or the 2 slots of a ring and batch; t time, b batch, i inputs, h hidden units, k those of the
// step before, g gates, q numbers of a ticket, m networks, or 1 if all read the same. "?": the array may be absent.
constexpr char kForward[] =
    "x:msi z:nsgh? w_x:nigh w_h:nkgh b:ngh h0:nbh c0:nbh valid:ntb? resets:ntb? h_reset:nbh? c_reset:nbh? "
    "h:nrh c:nsh? gates:nsgh? sums:nsgh? h_end:nbh c_end:nbh ticket:nq?";
constexpr char kBackward[] =
    "x:msi w_x:nigh w_h:nkgh b:ngh h0:nbh c0:nbh valid:ntb? resets:ntb? h_reset:nbh? c_reset:nbh? "
    "h:nsh c:nsh? gates:nsgh? ticket:nq dh:nsh? dc:nsh? d_h:nbh d_c:nbh "
    "dz:nsgh? dx:nsi? dw_x:nigh dw_h:nkgh db:ngh dh0:nbh dc0:nbh dh_reset:nbh? dc_reset:nbh?";

constexpr float kNotSaved = -1;  // as the first gate of a network: c and the gates are not here. Gates are not negative

void require(bool condition, const char* message) {
  if (!condition) throw std::invalid_argument(message);
}

// The arrays of a call, which have the shapes that they must have.
struct Call {
  struct Array {
    std::string_view name;
    std::string axes;  // a letter each; 2: two slots
    bool exists;
    ffi::AnyBuffer buffer;
  };

  bool batch_major, reverse, ring;
  int64_t networks, steps, rows, inputs, hidden;
  bool shares_x;
  std::vector<Array> arrays;
  mutable size_t last = 0;  // place of the array that was asked for last

  Call(std::string_view text, const ffi::RemainingArgs& arguments, const ffi::RemainingRets& results, bool batch_major_,
       bool reverse_, bool ring_)
      : batch_major(batch_major_), reverse(reverse_), ring(ring_) {
    arrays.reserve(arguments.size() + results.size());
    while (!text.empty()) {
      const std::string_view word = text.substr(0, text.find(' '));
      text.remove_prefix(std::min(text.size(), word.size() + 1));
      const size_t n = arrays.size(), colon = word.find(':'), result = n - arguments.size();
      require(n < arguments.size() + results.size(), "there are too few arrays");
      const ffi::AnyBuffer buffer =
          n < arguments.size() ? *arguments.get<ffi::AnyBuffer>(n) : **results.get<ffi::AnyBuffer>(result);
      std::string axes;
      for (const char letter : word.substr(colon + 1)) {
        if (letter == 'r' && ring) {
          axes += "2b";
        } else if (letter == 'r' || letter == 's') {
          axes += batch_major ? "bt" : "tb";
        } else {
          axes += letter;
        }
      }
      const bool may_be_absent = axes.back() == '?', exists = !may_be_absent || buffer.dimensions().size() != 1;
      if (may_be_absent) axes.pop_back();
      arrays.push_back({word.substr(0, colon), axes, exists, buffer});
    }
    const auto x = of("x").buffer.dimensions(), w_h = of("w_h").buffer.dimensions();
    require(x.size() == 4 && w_h.size() == 4, "x or w_h does not have 4 axes");
    networks = w_h[0], hidden = w_h[1], inputs = x[3], shares_x = x[0] == 1;
    steps = x[batch_major ? 2 : 1], rows = x[batch_major ? 1 : 2];
    require(networks > 0 && steps > 0 && rows > 0 && hidden > 0, "an array is empty");
    const bool resets = has("resets");
    for (Array& array : arrays) {
      array.exists = array.exists || (resets && (array.name == "h_reset" || array.name == "c_reset"));
      check(array);
    }
  }

  int64_t size(char axis) const {
    switch (axis) {
      case 'n': return networks;
      case 'm': return shares_x ? 1 : networks;
      case 't': return steps;
      case 'b': return rows;
      case 'i': return inputs;
      case 'g': return 4;
      case 'q': return kTicket;
      case '2': return 2;
      default: return hidden;
    }
  }

  void check(const Array& array) const {
    const auto dims = array.buffer.dimensions();
    auto fits = [this](int64_t n, char axis) { return n == size(axis); };
    const bool right = std::equal(dims.begin(), dims.end(), array.axes.begin(), array.axes.end(), fits);
    if (array.exists && !right) {
      std::string has = std::string(array.name) + " has shape (", expected = "), expected (";
      for (const int64_t n : dims) has += std::to_string(n) + ", ";
      for (const char axis : array.axes) expected += std::to_string(size(axis)) + ", ";
      throw std::invalid_argument(has + expected + ")");
    }
    const bool is_flag = array.axes == "ntb";
    if (array.buffer.element_type() != (is_flag ? ffi::DataType::PRED : ffi::DataType::F32)) {
      throw std::invalid_argument(std::string(array.name) + (is_flag ? " is not bool" : " is not float32"));
    }
  }

  // The array of a name; the names are asked for in about the order of the list.
  const Array& of(std::string_view name) const {
    for (size_t n = 0; n < arrays.size(); n++) {
      if (arrays[last].name == name) return arrays[last];
      last = last + 1 < arrays.size() ? last + 1 : 0;
    }
    throw std::logic_error("there is no array " + std::string(name));
  }
  bool has(std::string_view name) const { return of(name).exists; }

  // What an array has for a network; null if it is absent.
  template <typename T = float>
  T* data(std::string_view name, int64_t network) const {
    const Array& array = of(name);
    if (!array.exists) return nullptr;
    const int64_t first = array.buffer.dimensions()[0] == 1 ? 0 : network;
    const auto floats = static_cast<int64_t>(array.buffer.element_count());
    return static_cast<T*>(array.buffer.untyped_data()) + first * (floats / array.buffer.dimensions()[0]);
  }
  Series series(std::string_view name, int64_t network) const {
    const Array& array = of(name);
    if (!array.exists) return {nullptr, 0, 0};
    int64_t n = 1;
    for (size_t k = 3; k < array.axes.size(); k++) n *= size(array.axes[k]);
    const int64_t outer = array.buffer.dimensions()[2] * n;
    return array.axes[1] == 'b' ? Series{data(name, network), n, outer} : Series{data(name, network), outer, n};
  }
  void prefer_large(std::string_view name) const {
    prefer_large_pages(of(name).buffer.untyped_data(), of(name).buffer.size_bytes());
  }
};

// What both passes read of a network. `lists` keeps its list of slots alive, if it has flags.
Layer layer_of(const Call& call, int64_t n, Lists& lists) {
  Layer layer{};
  layer.steps = call.steps, layer.rows = call.rows, layer.inputs = call.inputs, layer.hidden = call.hidden;
  layer.reverse = call.reverse, layer.ring = call.ring;
  layer.x = call.series("x", n);
  layer.w_x = call.data("w_x", n), layer.w_h = call.data("w_h", n), layer.b = call.data("b", n);
  layer.h0 = call.data("h0", n), layer.c0 = call.data("c0", n);
  layer.h_reset = call.data("h_reset", n), layer.c_reset = call.data("c_reset", n);
  layer.h = call.series("h", n), layer.c = call.series("c", n), layer.gates = call.series("gates", n);
  if (call.has("valid") || call.has("resets")) {
    lists.push_back(sources(layer, call.data<bool>("valid", n), call.data<bool>("resets", n)));
    layer.from = lists.back().data();
  }
  return layer;
}

// What a network saves for the backward pass, where it has a ticket: c and the gates, in the order in which the passes
// write and read them, so that this is a single stream of memory.
int64_t saved_floats(const Layer& layer) { return layer.steps * layer.rows * 5 * layer.hidden; }
void save_in(const Buffer& saved, Layer& layer) {
  const int64_t vector = 5 * layer.hidden;
  layer.c = Series{saved.get(), layer.rows * vector, vector};
  layer.gates = Series{saved.get() + layer.hidden, layer.rows * vector, vector};
}

void forward(ffi::ThreadPool& pool, const Call& call) {
  const bool saves = call.has("c") || call.has("gates"), keeps = call.has("ticket");
  require(!keeps || !(saves || call.ring), "there are tickets, but c is saved");
  require(!call.ring || !(saves || call.has("sums")), "c, gates and sums are series, but h is a ring");
  for (const char* name : {"h", "c", "gates", "sums"}) call.prefer_large(name);
  std::vector<Layer> layers;
  std::vector<Buffer> saved;
  Lists lists;
  for (int64_t n = 0; n < call.networks; n++) {
    Layer layer = layer_of(call, n, lists);
    layer.z = call.series("z", n), layer.sums = call.series("sums", n);
    if (!layer.c.data) layer.c = Series{call.data("c_end", n), 0, call.hidden};
    if (keeps) save_in(saved.emplace_back(saved_floats(layer)), layer);
    layers.push_back(layer);
  }
  run_forward(pool, threads_of(pool), layers, call.data("h_end", 0), call.data("c_end", 0));
  for (size_t n = 0; n < saved.size(); n++) keep(std::move(saved[n]), call.data("ticket", static_cast<int64_t>(n)));
}

void backward(ffi::ThreadPool& pool, const Call& call) {
  const bool has_saved = call.has("gates");
  require(!call.ring, "h is a ring, but the gradient reads h of all steps");
  require(has_saved == call.has("c") && has_saved == call.has("dz"), "some of c, gates and dz are absent");
  require(call.has("dh_reset") == call.has("dc_reset"), "one of dh_reset and dc_reset is absent");
  require(!call.has("dh_reset") || call.has("resets"), "dh_reset is wanted, but there are no resets");
  call.prefer_large("dz");
  std::vector<Layer> layers, again;  // again: networks that have to run forwards again
  std::vector<Slopes> slopes;
  std::vector<Buffer> saved;  // of networks with a ticket
  Lists lists;
  const int64_t state = call.rows * call.hidden;
  for (int64_t n = 0; n < call.networks; n++) {
    Layer layer = layer_of(call, n, lists);
    Slopes slope{};
    if (layer.from) {
      lists.push_back(readers(layer));
      slope.next = lists.back().data();
    }
    slope.dh = call.series("dh", n), slope.dc = call.series("dc", n);
    slope.d_h = call.data("d_h", n), slope.d_c = call.data("d_c", n);
    slope.dz = call.series("dz", n), slope.dx = call.series("dx", n);
    slope.dw_x = call.data("dw_x", n), slope.dw_h = call.data("dw_h", n), slope.db = call.data("db", n);
    slope.dh0 = call.data("dh0", n), slope.dc0 = call.data("dc0", n);
    slope.dh_reset = call.data("dh_reset", n), slope.dc_reset = call.data("dc_reset", n);
    for (float* sum : {slope.dh_reset, slope.dc_reset}) std::fill_n(sum, sum ? state : 0, 0.0f);
    if (!has_saved || *layer.gates.data == kNotSaved) {
      saved.push_back(take(call.data("ticket", n), saved_floats(layer)));
      const bool is_gone = !saved.back().get();
      if (is_gone) saved.back() = Buffer(saved_floats(layer));
      save_in(saved.back(), layer);
      slope.dz = layer.gates;
      if (is_gone) again.push_back(layer);
    }
    layers.push_back(layer);
    slopes.push_back(slope);
  }
  if (!again.empty()) {
    const auto count = static_cast<int64_t>(again.size());
    const Buffer h_again(count * (call.steps + 2) * state);  // of all steps, then the final states
    float* h = h_again.get();
    for (Layer& layer : again) layer.h.data = h, h += call.steps * state;
    run_forward(pool, threads_of(pool), again, h, h + count * state);
  }
  run_backward(pool, threads_of(pool), layers, slopes);
}

// A handler: what it takes, as `text` lists it, and what it runs.
template <const char* text, void (*run)(ffi::ThreadPool&, const Call&)>
ffi::Error handle(ffi::ThreadPool pool, bool batch_major, bool reverse, bool ring, ffi::RemainingArgs arguments,
                  ffi::RemainingRets results) try {
  run(pool, Call(text, arguments, results, batch_major, reverse, ring));
  return ffi::Error::Success();
} catch (const std::bad_alloc&) {
  return ffi::Error(ffi::ErrorCode::kResourceExhausted, "lstmjax: no memory for the packed weights");
} catch (const std::exception& error) {
  return ffi::Error::InvalidArgument(std::string("lstmjax: ") + error.what());
}

}  // namespace

// The version of the FFI headers: jaxlib refuses a handler that is newer than itself.
LSTMJAX_EXPORT int lstmjax_ffi_major() { return XLA_FFI_API_MAJOR; }
LSTMJAX_EXPORT int lstmjax_ffi_minor() { return XLA_FFI_API_MINOR; }
// What Python expects of this library, or it is not used: what the handlers take, and a number (see CMakeLists.txt) for what
// such a list does not show.
LSTMJAX_EXPORT const char* lstmjax_interface() {
  static const std::string text = std::string(LSTMJAX_REVISION " batch_major reverse ring forward ") + kForward +
                                  " backward " + kBackward;
  return text.c_str();
}
LSTMJAX_EXPORT const char* lstmjax_instruction_set() { return kernels().name; }
LSTMJAX_EXPORT void lstmjax_activate(int is_tanh, const float* x, float* y, int64_t n) {
  kernels().activate(is_tanh, x, y, n);
}

// XLA's macro says nothing of visibility; the declaration before it exports the handler.
#define LSTMJAX_HANDLER(name, text, run)                                                \
  LSTMJAX_EXPORT XLA_FFI_Error* name(XLA_FFI_CallFrame* call);                          \
  XLA_FFI_DEFINE_HANDLER_SYMBOL(name, (handle<text, run>),                              \
                                ffi::Ffi::Bind().Ctx<ffi::ThreadPool>()                 \
                                    .Attr<bool>("batch_major").Attr<bool>("reverse")    \
                                    .Attr<bool>("ring").RemainingArgs().RemainingRets())
LSTMJAX_HANDLER(lstmjax_forward, kForward, forward);
LSTMJAX_HANDLER(lstmjax_backward, kBackward, backward);

}  // namespace lstmjax
