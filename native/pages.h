// Large pages for large results. XLA allocates a large result anew in each call, and the system then zeroes it page by
// page, at the first touch of each: with pages of 4 KB that took longer than a forward pass that saves what training
// needs. Where the system has large pages for those who ask (Linux, `madvise`), there is one touch for each 2 MB.
#pragma once

#include <cstddef>
#include <cstdint>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace lstmjax {

constexpr uintptr_t kLargePage = 1 << 21;
constexpr size_t kWorthPages = 1 << 23;  // bytes from which it is worth a call of the system

// A wish, of which nothing depends but time.
inline void prefer_large_pages(void* data, size_t bytes) {
#if defined(__linux__) && defined(MADV_HUGEPAGE)
  if (bytes < kWorthPages) return;
  const auto start = (reinterpret_cast<uintptr_t>(data) + kLargePage - 1) / kLargePage * kLargePage;
  const auto end = (reinterpret_cast<uintptr_t>(data) + bytes) / kLargePage * kLargePage;
  if (start < end) madvise(reinterpret_cast<void*>(start), end - start, MADV_HUGEPAGE);
#else
  (void)data, (void)bytes;
#endif
}

}  // namespace lstmjax
