// One step at a time: a network whose weights are packed once, and streams that run through it, each with a state.
//
// Python calls these functions by ctypes, without XLA and its threads. Each returns what is wrong, or null. A network
// is not changed once it is there, so that streams in several threads may share it; a stream is for one thread at a time.
#pragma once

#include <cstdint>

#define LSTMJAX_STREAM extern "C" __attribute__((visibility("default"))) const char*

// Pack the weights of layers on top of each other, and of a dense layer above them.
//   hidden: H of each layer; I of a layer is H of the one below.
//   outputs: O of the dense layer; 0: there is none.
//   residual: what enters a layer is added to its outputs, from the second layer on.
//   arrays: of each layer w_x [I, 4, H], w_h [H, 4, H] and b [4, H]; then w [H, O] and b [O].
//   floats: the size of each array.
LSTMJAX_STREAM lstmjax_network_new(int64_t inputs, int64_t layers, const int64_t* hidden, int64_t outputs, int residual,
                                   const float* const* arrays, const int64_t* floats, void** network);
LSTMJAX_STREAM lstmjax_network_free(void* network);

// Begin a stream of some rows (sequences) in a state of zeros. It keeps the network alive.
LSTMJAX_STREAM lstmjax_stream_new(const void* network, int64_t rows, void** stream);
LSTMJAX_STREAM lstmjax_stream_free(void* stream);

// Run some steps: xs [B, steps, I], ys [B, steps, O] (or H of the last layer), of which the sizes are passed, too.
LSTMJAX_STREAM lstmjax_stream_run(void* stream, int64_t steps, const float* xs, int64_t xs_floats, float* ys,
                                  int64_t ys_floats);

// Copy the state into an array, or, `write`, from it: of each layer h [B, H], then c [B, H].
LSTMJAX_STREAM lstmjax_stream_state(void* stream, int write, float* state, int64_t floats);
