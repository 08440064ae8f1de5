// Memory for packed weights.
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

 private:
  int64_t bytes_;
  void* data_;
};

}  // namespace lstmjax
