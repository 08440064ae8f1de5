// How the threads share the work, and why it does not collapse when the processors are busy:
//
// Nobody is waited for who has not come. Helpers are tasks in XLA's pool; whoever comes joins at the phase that is
// running, and when all is done the door is closed for the others. Each worker has a range of the items of a phase, the
// same in every phase, so that its weights stay in its cache. It claims them one by one. When its range is done it
// waits briefly and then steals from the ranges of others; so a worker that the system has put to sleep holds up the
// others by the one item that it is working on, not by its range.
#include "threads.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

#if defined(__linux__)
#include <sched.h>
#endif
#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

#include "flushed.h"
#include "xla/ffi/api/ffi.h"

namespace lstmjax {
namespace {

constexpr int kMost = 64;      // threads
constexpr int kPatience = 40;  // pauses before a worker steals, less than a microsecond
constexpr auto kLinger = std::chrono::microseconds(30);
constexpr int kSpin = 1000;    // pauses before a waiting worker lets others have the processor

void pause() {
#if defined(__x86_64__)
  _mm_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

class Crew {
 public:
  Crew(const Work& work, int threads) : work_(work), threads_(threads), ends_(static_cast<size_t>(work.phases)) {
    int64_t end = 0;
    for (int64_t p = 0; p < work.phases; p++) ends_[static_cast<size_t>(p)] = end += work.items(p);
  }

  // The calling thread: works to the end, then waits for the helpers that came to leave.
  void lead() {
    labour(0);
    door_.fetch_or(kClosed, std::memory_order_acq_rel);
    wait([this] { return door_.load(std::memory_order_acquire) == kClosed; });
  }

  // A helper: `work_` is alive only for those who pass the door.
  void help() {
    int inside = door_.load(std::memory_order_acquire);
    do {
      if (inside & kClosed) return;
    } while (!door_.compare_exchange_weak(inside, inside + 1, std::memory_order_acq_rel));
    const int worker = joined_.fetch_add(1, std::memory_order_acq_rel);
    if (worker < threads_) labour(worker);
    door_.fetch_sub(1, std::memory_order_acq_rel);
  }

 private:
  static constexpr int kClosed = 1 << 30;
  static constexpr int kShift = 32;  // a cursor holds a phase, and the number of items claimed of it

  struct alignas(64) Cursor {
    std::atomic<uint64_t> value{0};
  };

  template <typename F>
  static void wait(F done) {
    for (int n = 0; !done(); n++) {
      pause();
      if (n >= kSpin) std::this_thread::yield();
    }
  }

  int64_t items(int64_t phase) const {
    const auto p = static_cast<size_t>(phase);
    return p ? ends_[p] - ends_[p - 1] : ends_[p];
  }
  bool is_done(int64_t phase) const {
    return finished_.load(std::memory_order_acquire) >= ends_[static_cast<size_t>(phase)];
  }

  // Claim the next item of a worker's range; -1: there is none left in this phase.
  int64_t claim(int64_t phase, int worker) {
    const int64_t total = items(phase), first = total * worker / threads_, end = total * (worker + 1) / threads_;
    std::atomic<uint64_t>& cursor = cursors_[worker].value;
    uint64_t seen = cursor.load(std::memory_order_acquire);
    while (true) {
      const auto at_phase = static_cast<int64_t>(seen >> kShift);
      if (at_phase > phase) return -1;  // the others are further
      const int64_t taken = at_phase == phase ? static_cast<int64_t>(seen & 0xffffffff) : 0;
      if (first + taken >= end) return -1;
      const uint64_t next = (static_cast<uint64_t>(phase) << kShift) + static_cast<uint64_t>(taken + 1);
      if (cursor.compare_exchange_weak(seen, next, std::memory_order_acq_rel)) return first + taken;
    }
  }

  // Do what is left of a worker's range, as that worker or for it.
  void drain(int64_t phase, int range, int worker) {
    int64_t count = 0;
    for (int64_t item = claim(phase, range); item >= 0; item = claim(phase, range), count++) {
      work_.run(phase, item, worker);
    }
    if (count) finished_.fetch_add(count, std::memory_order_acq_rel);
  }

  void labour(int worker) {
    const Flushed flushed;
    for (int64_t phase = 0; phase < work_.phases; phase++) {
      if (is_done(phase)) continue;
      drain(phase, worker, worker);
      for (int other = 1; other < threads_; other++) {
        const int victim = (worker + other) % threads_;
        const bool came = victim < joined_.load(std::memory_order_acquire);
        for (int n = 0; came && n < kPatience && !is_done(phase); n++) pause();
        if (is_done(phase)) break;
        drain(phase, victim, worker);
      }
      wait([this, phase] { return is_done(phase); });
    }
  }

  const Work& work_;
  const int threads_;
  std::vector<int64_t> ends_;  // items of the phases up to each
  Cursor cursors_[kMost];
  alignas(64) std::atomic<int64_t> finished_{0};
  alignas(64) std::atomic<int> door_{0};  // helpers inside, and whether it is closed
  std::atomic<int> joined_{1};
};

// A helper that has done its work lingers for some microseconds: the next call often comes at once, and to wake a thread
// takes as long as a small call. A call first takes the helpers that linger, by handing them its crew.
struct Seat {
  enum { kEmpty, kWaiting, kCalling, kCalled };
  std::atomic<int> state{kEmpty};
  std::shared_ptr<Crew> crew;
};

Seat* seats() {
  static auto* instance = new Seat[kMost];  // never destroyed: XLA's threads may outlive this library's statics
  return instance;
}

// The crew of the next call, or null if none comes in time.
std::shared_ptr<Crew> linger() {
  for (int n = 0; n < kMost; n++) {
    Seat& seat = seats()[n];
    int state = Seat::kEmpty;
    if (!seat.state.compare_exchange_strong(state, Seat::kWaiting, std::memory_order_acq_rel)) continue;
    const auto end = std::chrono::steady_clock::now() + kLinger;
    while (seat.state.load(std::memory_order_acquire) == Seat::kWaiting && std::chrono::steady_clock::now() < end) pause();
    state = Seat::kWaiting;
    if (seat.state.compare_exchange_strong(state, Seat::kEmpty, std::memory_order_acq_rel)) return nullptr;
    while (seat.state.load(std::memory_order_acquire) != Seat::kCalled) pause();
    const std::shared_ptr<Crew> crew = std::move(seat.crew);
    seat.state.store(Seat::kEmpty, std::memory_order_release);
    return crew;
  }
  return nullptr;
}

void serve(std::shared_ptr<Crew> crew) {
  for (; crew; crew = linger()) crew->help();
}

// Hand the crew to a helper that lingers; false if there is none.
bool call(const std::shared_ptr<Crew>& crew) {
  for (int n = 0; n < kMost; n++) {
    Seat& seat = seats()[n];
    int state = Seat::kWaiting;
    if (!seat.state.compare_exchange_strong(state, Seat::kCalling, std::memory_order_acq_rel)) continue;
    seat.crew = crew;
    seat.state.store(Seat::kCalled, std::memory_order_release);
    return true;
  }
  return false;
}

}  // namespace

int threads_of(const xla::ffi::ThreadPool& pool) {
  int64_t processors = std::thread::hardware_concurrency();
#if defined(__linux__)
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0) processors = CPU_COUNT(&set);
#endif
  return static_cast<int>(std::clamp<int64_t>(std::min(pool.num_threads(), processors), 1, kMost));
}

void run(xla::ffi::ThreadPool& pool, int threads, const Work& work) {
  if (threads <= 1) {
    const Flushed flushed;
    for (int64_t phase = 0; phase < work.phases; phase++) {
      for (int64_t item = 0, n = work.items(phase); item < n; item++) work.run(phase, item, 0);
    }
    return;
  }
  auto crew = std::make_shared<Crew>(work, threads);
  for (int n = 1; n < threads; n++) {
    if (!call(crew)) pool.Schedule([crew] { serve(crew); });
  }
  crew->lead();
}

}  // namespace lstmjax
