// How a call is cut into phases and items for the threads.
#pragma once

#include <cstdint>
#include <vector>

#include "job.h"
#include "threads.h"

namespace lstmjax {

// The series of slots of a layer with invalid steps or resets; see `Layer::from` and `Slopes::next`. Flags are [T, B].
std::vector<int32_t> sources(const Layer& layer, const bool* valid, const bool* resets);
std::vector<int32_t> readers(const Layer& layer);

// Run the networks forwards: pack the weights, run all steps, copy the final states to h_end and c_end, [B, H] of each
// network. `threads` is how many there are.
void run_forward(xla::ffi::ThreadPool& pool, int threads, std::vector<Layer>& layers, float* h_end, float* c_end);

// Run them backwards. `threads` and `layers` as before.
void run_backward(xla::ffi::ThreadPool& pool, int threads, std::vector<Layer>& layers, std::vector<Slopes>& slopes);

}  // namespace lstmjax
