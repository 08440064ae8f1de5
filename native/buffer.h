// Memory for packed weights, and for what is saved of many networks.
#pragma once

#include <cstdint>

namespace lstmjax {

// Floats that begin at a cache line, not initialised. Throws std::bad_alloc.
//
// Its memory serves the next calls: fresh pages from the system cost more than to pack weights into them.
class Buffer {
 public:
  explicit Buffer(int64_t floats);
  ~Buffer();
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  float* get() const { return static_cast<float*>(data_); }
  int64_t floats() const { return floats_; }

 private:
  int64_t floats_;
  int64_t bytes_;
  void* data_;
};

}  // namespace lstmjax
