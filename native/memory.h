// Memory for packed weights, for scratch, and for what many networks save between the two passes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

namespace lstmjax {

// Ask Linux for large pages where data is large; nothing but time depends on it. XLA allocates a large result anew in
// each call, and the system zeroes it at the first touch of each page: with pages of 4 KB that took longer than a forward
// pass that saves what training needs.
void prefer_large_pages(void* data, size_t bytes);

// Floats that begin at a cache line, not initialised. Throws std::bad_alloc. Its memory serves the next buffers: fresh
// pages from the system cost more than to pack weights into them.
class Buffer {
 public:
  Buffer() = default;
  explicit Buffer(int64_t floats);
  float* get() const { return data_.get(); }
  int64_t floats() const { return floats_; }

 private:
  struct Release {
    int64_t bytes;
    void operator()(float* data) const;
  };
  std::unique_ptr<float, Release> data_;
  int64_t floats_ = 0;
};

// What the forward pass of many networks saves for the backward pass stays here, for the reason above: for 64 networks of
// 32 units fresh memory was a fifth of the time of a gradient. The forward pass returns a ticket for each network, by
// which the backward pass takes what was saved. Tickets may be copied, used twice or never: nothing depends on them but
// time, since what is not here any more is computed again, to the same bits.
constexpr int64_t kTicket = 3;  // floats of a ticket; all of them 0: nothing is saved

// Keep what a network has saved, and write its ticket.
void keep(Buffer saved, float* ticket);

// Take it back; a buffer without memory if it is not here, or of another size.
Buffer take(const float* ticket, int64_t floats);

}  // namespace lstmjax
