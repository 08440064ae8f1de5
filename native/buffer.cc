#include "buffer.h"

#include <algorithm>
#include <cstdlib>
#include <map>
#include <mutex>
#include <new>

#include "pages.h"

namespace lstmjax {
namespace {

#if defined(__SANITIZE_ADDRESS__)
constexpr int64_t kMost = 0;  // so that the end of every buffer is watched
#else
constexpr int64_t kMost = 256 << 20;  // bytes that wait for the next calls
#endif

struct Spares {
  std::mutex mutex;
  std::multimap<int64_t, void*> by_size;
  int64_t bytes = 0;
};

Spares& spares() {
  static auto* instance = new Spares;  // never destroyed: XLA's threads may outlive this library's statics
  return *instance;
}

}  // namespace

Buffer::Buffer(int64_t floats)
    : floats_(floats), bytes_((std::max<int64_t>(floats, 1) * 4 + 63) / 64 * 64), data_(nullptr) {
  {
    const std::lock_guard<std::mutex> lock(spares().mutex);
    const auto fit = spares().by_size.lower_bound(bytes_);
    if (fit != spares().by_size.end() && fit->first <= 2 * bytes_) {
      bytes_ = fit->first;
      data_ = fit->second;
      spares().bytes -= bytes_;
      spares().by_size.erase(fit);
      return;
    }
  }
  const bool large = bytes_ >= static_cast<int64_t>(kWorthPages);
  const auto line = static_cast<int64_t>(large ? kLargePage : 64);
  bytes_ = (bytes_ + line - 1) / line * line;
  data_ = std::aligned_alloc(static_cast<size_t>(line), static_cast<size_t>(bytes_));
  if (!data_) throw std::bad_alloc();
  if (large) prefer_large_pages(data_, static_cast<size_t>(bytes_));
}

Buffer::~Buffer() {
  const std::lock_guard<std::mutex> lock(spares().mutex);
  if (spares().bytes + bytes_ > kMost) {
    std::free(data_);
    return;
  }
  spares().bytes += bytes_;
  spares().by_size.emplace(bytes_, data_);
}

}  // namespace lstmjax
