// A few threads work through phases of items, on XLA's own pool.
#pragma once

#include <cstdint>
#include <functional>

namespace xla::ffi {
class ThreadPool;
}

namespace lstmjax {

// How many threads a call may use: those of the pool, as far as this process has processors for them.
int threads_of(const xla::ffi::ThreadPool& pool);

// Work that is done in phases: every item of a phase is done before the next phase begins.
struct Work {
  int64_t phases;
  std::function<int64_t(int64_t phase)> items;
  std::function<void(int64_t phase, int64_t item, int worker)> run;  // workers are numbered from 0, below `threads`
};

// Run it all on the calling thread and at most `threads - 1` others, and return when it is done. Subnormal numbers are
// flushed on each thread, as XLA does on its own.
void run(xla::ffi::ThreadPool& pool, int threads, const Work& work);

}  // namespace lstmjax
