#include "memory.h"

#include <algorithm>
#include <cstdlib>
#include <map>
#include <mutex>
#include <new>
#include <random>
#include <utility>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace lstmjax {
namespace {

constexpr int64_t kMostSpare = 256 << 20;  // bytes that wait for the next buffers
constexpr int64_t kMostKept = 512 << 20;   // bytes that are kept by tickets
constexpr size_t kLargePage = 1 << 21;
constexpr size_t kWorthPages = 1 << 23;  // bytes from which large pages are worth a call of the system
constexpr uint64_t kPart = 1 << 24;      // a float holds whole numbers up to this one

struct Spares {
  std::mutex mutex;
  std::multimap<int64_t, float*> by_bytes;
  int64_t bytes = 0;
};

struct Tickets {
  std::mutex mutex;
  std::map<uint64_t, Buffer> by_number;  // the oldest first
  int64_t floats = 0;
  uint64_t last = 0;
  const uint64_t process = std::random_device()() % kPart;  // tickets of another one are not valid here
};

template <typename T>
T& only() {
  static auto* instance = new T;  // never destroyed: XLA's threads may outlive this library's statics
  return *instance;
}

}  // namespace

void prefer_large_pages(void* data, size_t bytes) {
#if defined(__linux__) && defined(MADV_HUGEPAGE)
  const auto start = (reinterpret_cast<uintptr_t>(data) + kLargePage - 1) / kLargePage * kLargePage;
  const auto end = (reinterpret_cast<uintptr_t>(data) + bytes) / kLargePage * kLargePage;
  if (bytes >= kWorthPages) madvise(reinterpret_cast<void*>(start), end - start, MADV_HUGEPAGE);
#else
  (void)data, (void)bytes;
#endif
}

Buffer::Buffer(int64_t floats) : floats_(floats) {
  const auto size = static_cast<size_t>(std::max<int64_t>(floats, 1)) * sizeof(float);
  const size_t line = size >= kWorthPages ? kLargePage : 64, rounded = (size + line - 1) / line * line;
  const auto bytes = static_cast<int64_t>(rounded);
  {
    Spares& spares = only<Spares>();
    const std::lock_guard<std::mutex> lock(spares.mutex);
    const auto fit = spares.by_bytes.lower_bound(bytes);
    if (fit != spares.by_bytes.end() && fit->first <= 2 * bytes) {
      data_ = {fit->second, Release{fit->first}};
      spares.bytes -= fit->first;
      spares.by_bytes.erase(fit);
      return;
    }
  }
  data_ = {static_cast<float*>(std::aligned_alloc(line, rounded)), Release{bytes}};
  if (!data_) throw std::bad_alloc();
  prefer_large_pages(data_.get(), rounded);
}

void Buffer::Release::operator()(float* data) const {
#if !defined(__SANITIZE_ADDRESS__)  // so that the end of every buffer is watched
  Spares& spares = only<Spares>();
  const std::lock_guard<std::mutex> lock(spares.mutex);
  if (spares.bytes + bytes <= kMostSpare) {
    spares.bytes += bytes;
    spares.by_bytes.emplace(bytes, data);
    return;
  }
#endif
  std::free(data);
}

void keep(Buffer saved, float* ticket) {
  Tickets& tickets = only<Tickets>();
  const std::lock_guard<std::mutex> lock(tickets.mutex);
  tickets.floats += saved.floats();
  while (!tickets.by_number.empty() && tickets.floats * 4 > kMostKept) {  // nobody has come for the oldest
    tickets.floats -= tickets.by_number.begin()->second.floats();
    tickets.by_number.erase(tickets.by_number.begin());
  }
  tickets.by_number.emplace(++tickets.last, std::move(saved));
  ticket[0] = static_cast<float>(tickets.process);
  ticket[1] = static_cast<float>(tickets.last % kPart);
  ticket[2] = static_cast<float>(tickets.last / kPart % kPart);
}

Buffer take(const float* ticket, int64_t floats) {
  for (int64_t k = 0; k < kTicket; k++) {
    if (!(ticket[k] >= 0 && ticket[k] < static_cast<float>(kPart))) return {};
  }
  Tickets& tickets = only<Tickets>();
  const std::lock_guard<std::mutex> lock(tickets.mutex);
  const uint64_t number = static_cast<uint64_t>(ticket[2]) * kPart + static_cast<uint64_t>(ticket[1]);
  const auto place = tickets.by_number.find(number);
  if (static_cast<uint64_t>(ticket[0]) != tickets.process || place == tickets.by_number.end()) return {};
  if (place->second.floats() != floats) return {};
  Buffer saved = std::move(place->second);
  tickets.by_number.erase(place);
  tickets.floats -= floats;
  return saved;
}

}  // namespace lstmjax
