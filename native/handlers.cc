// Where XLA calls us: the FFI handlers, and what native_library.py asks the library before it registers them.
#include "sets.h"
#include "xla/ffi/api/ffi.h"

#define LSTMJAX_EXPORT extern "C" __attribute__((visibility("default")))

namespace ffi = xla::ffi;

// The version of the FFI headers: jaxlib refuses a handler that is newer than itself.
LSTMJAX_EXPORT int lstmjax_ffi_major() { return XLA_FFI_API_MAJOR; }
LSTMJAX_EXPORT int lstmjax_ffi_minor() { return XLA_FFI_API_MINOR; }
LSTMJAX_EXPORT const char* lstmjax_instruction_set() { return lstmjax::kernels().name; }

static ffi::Error scale(float factor, ffi::Buffer<ffi::F32> x, ffi::ResultBuffer<ffi::F32> y) {
  if (x.element_count() != y->element_count()) return ffi::Error::InvalidArgument("x and y differ in size");
  lstmjax::kernels().scale(x.typed_data(), factor, y->typed_data(), static_cast<int64_t>(x.element_count()));
  return ffi::Error::Success();
}

// XLA's macro says nothing of visibility; the declaration before it exports the handler.
#define LSTMJAX_HANDLER(name, ...)                             \
  LSTMJAX_EXPORT XLA_FFI_Error* name(XLA_FFI_CallFrame* call); \
  XLA_FFI_DEFINE_HANDLER_SYMBOL(name, __VA_ARGS__)

LSTMJAX_HANDLER(lstmjax_scale, scale,
                ffi::Ffi::Bind().Attr<float>("factor").Arg<ffi::Buffer<ffi::F32>>().Ret<ffi::Buffer<ffi::F32>>());
