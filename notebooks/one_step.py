# %% [markdown]
# # One cell, one step
#
# **The question.** Between (h, c) and x on the left and the new (h, c) on the right stand four gates, some circles with
# × and + in them, and two tanh. What happens there to actual numbers?
#
# Two features and three units are enough to see everything, so the sizes are I = 2 and H = 3.

# %%
import jax
import jax.numpy as jnp
import numpy as np

from lstmjax import cell_step, from_concatenated, init_params, lstm, to_concatenated
from lstmjax.inside import Sample

np.set_printoptions(precision=4, suppress=True)
params = init_params(jax.random.key(4), input_size=2, hidden_size=3)
x = jnp.array([0.5, -1.0])
h = jnp.array([0.1, -0.2, 0.3])
c = jnp.array([1.0, -0.5, 0.25])

# %% [markdown]
# ## Every number of the step
#
# `emit="step"` gives everything the step computed: z before the gate's activation, then the gate.

# %%
(h_new, c_new), step = cell_step(params, (h, c), x, emit="step")
for name in ("z_i", "z_f", "z_g", "z_o", "i", "f", "g", "o", "c", "h"):
    print(f"{name:4}", np.asarray(getattr(step, name)))

# %% [markdown]
# i, f and o are between 0 and 1 (σ), g is between −1 and 1 (tanh). The bias of f starts at 1, so f starts above one
# half: an untrained cell rather remembers.
#
# The same by hand, for the forget gate:

# %%
gate = params.gate("f")
w_x, w_h, b = gate.w_x, gate.w_h, gate.b
print("x · w_x        ", np.asarray(x @ w_x))
print("h · w_h        ", np.asarray(h @ w_h))
print("b              ", np.asarray(b))
print("z_f, their sum ", np.asarray(x @ w_x + h @ w_h + b))
print("f = σ(z_f)     ", np.asarray(jax.nn.sigmoid(x @ w_x + h @ w_h + b)))

# %% [markdown]
# ## One matrix or two, it is the same
#
# Textbooks write W·[x, h] + b: x and h one below the other, and one matrix for both. Others write W·x + U·h + b. The
# same products are added up, at most in another order. `to_concatenated` shows the parameters in the first form, and
# `from_concatenated` takes them back.

# %%
W, bias = to_concatenated(params)
z = W @ jnp.concatenate([x, h]) + bias
print("W", W.shape, " [x, h]", (2 + 3,), " z", z.shape, ": 4 gates of 3 units")
print(np.asarray(z).reshape(4, 3))
print("largest difference:", float(jnp.abs(z.reshape(4, 3) - jnp.stack(step[4:8])).max()))
back = from_concatenated(W, bias)
print("and back, exactly:", all(bool((a == b).all()) for a, b in zip(jax.tree.leaves(params), jax.tree.leaves(back))))

# %% [markdown]
# Here, and only here, two vectors are written side by side.
#
# ## × is number by number
#
# The circle with a × (often ⊙, the Hadamard product) takes two vectors of H numbers and gives H numbers: first times
# first, second times second. No unit meets another one here; they met in W.

# %%
print("f     ", np.asarray(step.f))
print("c     ", np.asarray(c))
print("f ⊙ c ", np.asarray(step.f * c), " kept of the old")
print("i ⊙ g ", np.asarray(step.i * step.g), " written anew")

# %% [markdown]
# ## + is a sum, not a concatenation
#
# The new c is the sum of the two last lines. Side by side they would be 6 numbers, and more with every step; c has 3
# for ever.

# %%
print("f ⊙ c + i ⊙ g ", np.asarray(step.f * c + step.i * step.g))
print("c of the step ", np.asarray(c_new))

# %% [markdown]
# And the sum is the point of it all: what was in c goes on to the next step times f and nothing else, no matrix and no
# tanh. [The notebook on gradients](gradients.ipynb) is about what that does.
#
# ## What the cell shows to the world
#
# c itself may be any number. Its tanh is between −1 and 1, and o says how much of that is shown. This is h, the output
# of the step and what all gates read at the next one.

# %%
print("tanh(c)     ", np.asarray(jnp.tanh(c_new)))
print("o           ", np.asarray(step.o))
print("o ⊙ tanh(c) ", np.asarray(step.o * jnp.tanh(c_new)))
print("h           ", np.asarray(h_new))

# %% [markdown]
# ## Gates multiply, they toss no coins
#
# "A forget gate of 0.85 forgets with a probability of 15%" is read now and then. It does not: it keeps 85% of the
# number, always, and two runs give the same. What would happen with coins? `Sample` puts them in: with a key it makes
# each number of a gate 1 with the gate's value as its probability, else 0. Here are four draws of this one step:

# %%
draws = 20_000
many = (jnp.broadcast_to(h, (draws, 3)), jnp.broadcast_to(c, (draws, 3)))
xs = jnp.broadcast_to(x, (draws, 1, 2))  # one step for each
(h_coin, c_coin), _ = lstm(params, xs, many, wrappers=(Sample("f"),), key=jax.random.key(5))
print("c with coins  ", *(np.asarray(one) for one in c_coin[:4]), sep="\n  ")
print("c + i ⊙ g  or  i ⊙ g:", np.asarray(c + step.i * step.g), np.asarray(step.i * step.g))

# %% [markdown]
# Over many draws the coins give the gate's c, since f only multiplies. With h that is over already: the tanh of a mean
# is not the mean of the tanh. And a coin has no slope, so that nothing could be learned through it.

# %%
print("c: mean of the draws", np.asarray(c_coin.mean(0)), " the cell", np.asarray(c_new))
print("h: mean of the draws", np.asarray(h_coin.mean(0)), " the cell", np.asarray(h_new))

# %% [markdown]
# ## What we learnt
#
# - Four gates, each σ or tanh of x·w_x + h·w_h + b, each a vector of H numbers.
# - c' = f ⊙ c + i ⊙ g and h' = o ⊙ tanh(c'): number by number; the + is a sum.
# - One matrix for [x, h] or one each for x and h: the same numbers.
# - A gate is a factor between 0 and 1, and no probability.
#
# Go on with [gates](gates.ipynb), where a trained network opens and closes them, or with
# [gradients](gradients.ipynb).
