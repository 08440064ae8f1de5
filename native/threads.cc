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
constexpr int kSpin = 1000;    // pauses before a waiting worker lets others have the processor
constexpr auto kLinger = std::chrono::microseconds(30);

void pause() {
#if defined(__x86_64__)
  _mm_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

class Crew {
 public:
  Crew(const Work& work, int threads)
      : work_(work), threads_(threads), ends_(static_cast<size_t>(work.phases)), cursors_(static_cast<size_t>(threads)) {
    int64_t end = 0;
    for (int64_t p = 0; p < work.phases; p++) ends_[static_cast<size_t>(p)] = end += work.items(p);
  }

  // The calling thread: works to the end, then waits for the helpers that came to leave.
  void lead() {
    labour(0);
    door_ |= kClosed;
    wait([this] { return door_ == kClosed; });
  }

  // A helper: `work_` is alive only for those who come before the door is closed.
  void help() {
    if (!(door_++ & kClosed)) {
      const int worker = joined_++;
      if (worker < threads_) labour(worker);
    }
    door_--;
  }

 private:
  static constexpr int kClosed = 1 << 30;

  // How far a range is claimed: the phase in the upper half, the number of items that are claimed of it in the lower.
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

  int64_t end_of(int64_t phase) const { return phase < 0 ? 0 : ends_[static_cast<size_t>(phase)]; }
  bool is_done(int64_t phase) const { return finished_ >= end_of(phase); }

  // Claim the next item of a worker's range; -1: there is none left in this phase, or the others are further.
  int64_t claim(int64_t phase, int worker) {
    const int64_t items = end_of(phase) - end_of(phase - 1);
    const int64_t first = items * worker / threads_, end = items * (worker + 1) / threads_;
    const uint64_t start = static_cast<uint64_t>(phase) << 32;
    std::atomic<uint64_t>& cursor = cursors_[static_cast<size_t>(worker)].value;
    uint64_t seen = cursor;
    while (true) {
      const uint64_t next = std::max(seen, start);
      const int64_t item = first + static_cast<int64_t>(next - start);
      if (item >= end) return -1;
      if (cursor.compare_exchange_weak(seen, next + 1)) return item;
    }
  }

  // Do what is left of a worker's range, as that worker or for it.
  void drain(int64_t phase, int range, int worker) {
    int64_t count = 0;
    for (int64_t item = claim(phase, range); item >= 0; item = claim(phase, range), count++) {
      work_.run(phase, item, worker);
    }
    if (count) finished_ += count;
  }

  void labour(int worker) {
    const Flushed flushed;
    for (int64_t phase = 0; phase < work_.phases; phase++) {
      if (is_done(phase)) continue;
      drain(phase, worker, worker);
      for (int other = 1; other < threads_; other++) {
        const int victim = (worker + other) % threads_;
        const bool came = victim < joined_;
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
  std::vector<Cursor> cursors_;
  alignas(64) std::atomic<int64_t> finished_{0};
  alignas(64) std::atomic<int> door_{0};  // helpers inside, and whether it is closed
  std::atomic<int> joined_{1};
};

// A helper that has done its work lingers for some microseconds, in a seat: the next call often comes at once, and to wake
// a thread takes as long as a small call. A call first takes the helpers that linger, by handing them its crew.
using Task = std::shared_ptr<Crew>;
struct Seats {
  Task waiting;                          // its address is in the seat of a helper that waits, null in a free one
  std::atomic<Task*> seats[kMost] = {};  // or the task that it is called to
};

Seats& lounge() {
  static auto* instance = new Seats;  // never destroyed: XLA's threads may outlive this library's statics
  return *instance;
}

// Wait for the crew of the next call; null if none comes in time.
Task linger() {
  for (std::atomic<Task*>& seat : lounge().seats) {
    Task *task = nullptr, *const waiting = &lounge().waiting;
    if (!seat.compare_exchange_strong(task, waiting)) continue;
    const auto end = std::chrono::steady_clock::now() + kLinger;
    while (seat == waiting && std::chrono::steady_clock::now() < end) pause();
    task = seat.exchange(nullptr);
    if (task == waiting) return nullptr;
    return *std::unique_ptr<Task>(task);
  }
  return nullptr;
}

// Hand the crew to a helper that lingers; false if there is none.
bool call(const Task& crew) {
  for (std::atomic<Task*>& seat : lounge().seats) {
    Task* waiting = &lounge().waiting;
    if (seat != waiting) continue;
    auto task = std::make_unique<Task>(crew);
    if (!seat.compare_exchange_strong(waiting, task.get())) continue;
    task.release();
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
  if (threads == 1) {
    const Flushed flushed;
    for (int64_t phase = 0; phase < work.phases; phase++) {
      for (int64_t item = 0, n = work.items(phase); item < n; item++) work.run(phase, item, 0);
    }
    return;
  }
  auto crew = std::make_shared<Crew>(work, threads);
  for (int n = 1; n < threads; n++) {
    if (call(crew)) continue;
    pool.Schedule([crew] {
      for (Task next = crew; next; next = linger()) next->help();
    });
  }
  crew->lead();
}

}  // namespace lstmjax
