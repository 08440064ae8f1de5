// What the forward pass of many networks saves for the backward pass, in memory of this library.
//
// XLA allocates a large result anew in each call, and the system zeroes it, page by page: for 64 networks of 32 units that
// was a fifth of the time of a gradient. Here memory serves again. The forward pass returns a ticket for each network, by
// which the backward pass takes what was saved. Tickets may be copied, used twice or never: nothing depends on them but
// time, since what is not here any more is computed again, to the same bits.
#pragma once

#include <memory>

#include "buffer.h"

namespace lstmjax {

constexpr int64_t kTicket = 3;  // floats of a ticket; all of them 0: nothing is saved

// Keep what a network has saved, and write its ticket.
void keep(std::unique_ptr<Buffer> saved, float* ticket);

// Take it back; null if it is not here, or of another size.
std::unique_ptr<Buffer> take(const float* ticket, int64_t floats);

}  // namespace lstmjax
