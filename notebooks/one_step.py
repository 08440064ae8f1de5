# %% [markdown]
# # One cell, one step
#
# **The question.** Diagrams of an LSTM show (h, c) and x on the left, the new (h, c) on the right, and between them
# four gates, two tanh, and circles with × and +. What does that do to actual numbers?
#
# Two features and three units are enough to see everything: I = 2 and H = 3.

# %%
import jax
import jax.numpy as jnp
import numpy as np

from lstmjax import cell_step, from_concatenated, init_params, lstm, plot, to_concatenated
from lstmjax.inside import Sample

np.set_printoptions(precision=4, suppress=True)
params = init_params(jax.random.key(4), input_size=2, hidden_size=3)
x = jnp.array([0.5, -1.0])
h = jnp.array([0.1, -0.2, 0.3])
c = jnp.array([1.0, -0.5, 0.25])

# %% [markdown]
# ## Every number of the step
#
# Here is the whole step, with its numbers on the arrows. Everything below explains one part of this picture.

# %%
plot.step_diagram(params, (h, c), x)

# %% [markdown]
# The same as arrays: with `emit="step"`, the step returns everything that it computes, each pre-activation z and the
# gate that follows from it.

# %%
(h_new, c_new), step = cell_step(params, (h, c), x, emit="step")
for name in ("z_i", "z_f", "z_g", "z_o", "i", "f", "g", "o", "c", "h"):
    print(f"{name:4}", np.asarray(getattr(step, name)))

# %% [markdown]
# i, f and o lie between 0 and 1 (σ), g between −1 and 1 (tanh). The bias of f starts at 1, so f starts above one half:
# an untrained cell tends to remember.
#
# The forget gate by hand:

# %%
gate = params.gate("f")
w_x, w_h, b = gate.w_x, gate.w_h, gate.b
print("x · w_x        ", np.asarray(x @ w_x))
print("h · w_h        ", np.asarray(h @ w_h))
print("b              ", np.asarray(b))
print("z_f, their sum ", np.asarray(x @ w_x + h @ w_h + b))
print("f = σ(z_f)     ", np.asarray(jax.nn.sigmoid(x @ w_x + h @ w_h + b)))

# %% [markdown]
# ## One matrix or two: the same numbers
#
# Some textbooks write W·[x, h] + b, with x and h stacked into one vector and a single matrix. Others write
# W·x + U·h + b. Both add up the same products, perhaps in another order. `to_concatenated` returns the parameters in
# the first form, and `from_concatenated` reads them from it.

# %%
W, bias = to_concatenated(params)
z = W @ jnp.concatenate([x, h]) + bias
print("W", W.shape, " [x, h]", (2 + 3,), " z", z.shape, ": 4 gates of 3 units")
print(np.asarray(z).reshape(4, 3))
print("largest difference:", float(jnp.abs(z.reshape(4, 3) - jnp.stack(step[4:8])).max()))
back = from_concatenated(W, bias)
same = [bool((a == b).all()) for a, b in zip(jax.tree.leaves(params), jax.tree.leaves(back))]
print("read from it, bit by bit:", all(same))

# %% [markdown]
# This is the only place where two vectors are concatenated.
#
# ## × multiplies number by number
#
# The circle with a × (often written ⊙, the Hadamard product) takes two vectors of H numbers and returns H numbers: the
# first times the first, the second times the second. Units do not mix here; they mix in W.

# %%
print("f     ", np.asarray(step.f))
print("c     ", np.asarray(c))
print("f ⊙ c ", np.asarray(step.f * c), " what remains of the old c")
print("i ⊙ g ", np.asarray(step.i * step.g), " what is added")

# %% [markdown]
# ## + is a sum, not a concatenation
#
# The new c is the sum of these two vectors. Concatenated they would be 6 numbers, and more at every step; c always
# has 3.

# %%
print("f ⊙ c + i ⊙ g ", np.asarray(step.f * c + step.i * step.g))
print("c of the step ", np.asarray(c_new))

# %% [markdown]
# This sum is the point of the LSTM: what is in c reaches the next step multiplied by f alone, with no matrix and no
# tanh in between. [The notebook on gradients](gradients.ipynb) shows what follows from that.
#
# ## What the cell outputs
#
# c can be any number. Its tanh lies between −1 and 1, and o decides how much of it is output as h. All gates read this
# h at the next step.

# %%
print("tanh(c)     ", np.asarray(jnp.tanh(c_new)))
print("o           ", np.asarray(step.o))
print("o ⊙ tanh(c) ", np.asarray(step.o * jnp.tanh(c_new)))
print("h           ", np.asarray(h_new))

# %% [markdown]
# ## A gate is a factor, not a probability
#
# Some explanations say that "a forget gate of 0.85 forgets with a probability of 15%". It does not: it always keeps 85%
# of the number, and two runs agree. What would a random gate do? `Sample` makes one: it replaces each number of a gate
# by 1 with the gate's value as the probability, else by 0. Four draws of this step:

# %%
draws = 20_000
many = (jnp.broadcast_to(h, (draws, 3)), jnp.broadcast_to(c, (draws, 3)))
xs = jnp.broadcast_to(x, (draws, 1, 2))  # one step for each
(h_coin, c_coin), _ = lstm(params, xs, many, wrappers=(Sample("f"),), key=jax.random.key(5))
print("c, random f  ", *(np.asarray(one) for one in c_coin[:4]), sep="\n  ")
print("c + i ⊙ g  or  i ⊙ g:", np.asarray(c + step.i * step.g), np.asarray(step.i * step.g))

# %% [markdown]
# On average over many draws, c is that of the real gate, since c is linear in f. For h this no longer holds: the tanh
# of a mean is not the mean of the tanh. And a random choice has no derivative, so no gradient would pass through it.

# %%
print("c: mean of the draws", np.asarray(c_coin.mean(0)), " the cell", np.asarray(c_new))
print("h: mean of the draws", np.asarray(h_coin.mean(0)), " the cell", np.asarray(h_new))

# %% [markdown]
# ## Summary
#
# - There are four gates, each σ or tanh of x·w_x + h·w_h + b, and each a vector of H numbers.
# - c' = f ⊙ c + i ⊙ g and h' = o ⊙ tanh(c'), number by number; the + is a sum.
# - One matrix for [x, h], or one for x and one for h: the numbers are the same.
# - A gate is a factor between 0 and 1, not a probability.
#
# Next: [gates](gates.ipynb), where a trained network opens and closes them, or [gradients](gradients.ipynb).
