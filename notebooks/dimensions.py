# %% [markdown]
# # The dimensions: 5 features, 256 units, 10 classes
#
# **The question.** A layer is called with three sizes: "100 time steps of 5 features, 256 units". Which array has which
# of them on its sides, how many numbers are learned, and why do the 100 steps appear nowhere among them?
#
# Everything here is counted twice: by hand, and by asking the arrays.

# %%
import jax
import jax.numpy as jnp

from lstmjax import cell_step, from_concatenated, init_network, init_params, lstm, network, plot, shapes

# %% [markdown]
# ## What goes in
#
# Three sizes, in this order: B sequences at once, T time steps each, I numbers (features) at every step.

# %%
B, T, I = 32, 100, 5
xs = jax.random.normal(jax.random.key(0), (B, T, I))
print("all of it            ", xs.shape)
print("one sequence         ", xs[0].shape)
print("one step of all      ", xs[:, 0].shape)
print("one step of one of it", xs[0, 0].shape)

# %% [markdown]
# ## What is learned: 640 numbers for 5 features and 10 units
#
# There are four gates (i, f, g, o). Each makes 10 numbers, one for a unit, and for that it has
#
# - 5 · 10 weights for the features of the step (I·H),
# - 10 · 10 weights for what all 10 units gave at the step before (H·H),
# - 10 biases (H).
#
# That is 50 + 100 + 10 = 160 for a gate, and 4 · 160 = 640.

# %%
small = init_params(jax.random.key(1), input_size=5, hidden_size=10)
for name, array in small._asdict().items():
    if array is not None:
        print(f"{name:4} {array.shape!s:12} {array.size:4}")
print("by hand", 4 * (5 * 10 + 10 * 10 + 10), " by the arrays", sum(a.size for a in jax.tree.leaves(small)))

# %% [markdown]
# The middle size, 4, is the gates. One gate alone:

# %%
forget = small.gate("f")
print("w_x", forget.w_x.shape, " w_h", forget.w_h.shape, " b", forget.b.shape)

# %% [markdown]
# ## Where are the time steps?
#
# Nowhere: the same 640 numbers serve every step. A sequence of 13 steps and one of 100 go through the same parameters,
# and so do one sequence and 32. T says how often the step is run, B how many run side by side.

# %%
for batch, time in [(32, 100), (32, 13), (1, 13)]:
    (h, c), ys = lstm(small, xs[:batch, :time])
    print(f"xs {(batch, time, 5)!s:12} h {h.shape!s:9} c {c.shape!s:9} ys {ys.shape}")

# %% [markdown]
# So a number of units that is equal to the number of time steps is a coincidence. A common mistake is to read
# "32 units on sequences of 10 steps of 64 features" as 10 neurons, one for each step. It is 32 units that are run
# 10 times:

# %%
print("units 32, features 64:", shapes(input=64, hidden=32, time=10).parameters, "numbers, of T = 10 or any other")
print("two outputs from 32  :", 32 * 2 + 2)

# %% [markdown]
# PyTorch counts 680 where we count 640. It keeps two biases for each gate and adds them up, 4 · 10 numbers more:

# %%
print(shapes(input=5, hidden=10).parameters, shapes(input=5, hidden=10, bias="double").parameters)

# %% [markdown]
# ## From 5 to 256 to 10
#
# The whole network: 5 features, 256 units, 10 classes. The 256 become 10 in the Dense head, and in no gate.

# %%
params = init_network(jax.random.key(2), 5, 256, 10)
print("LSTM", 4 * (5 * 256 + 256 * 256 + 256), " head", 256 * 10 + 10, " together", 268_288 + 2_570)
print(shapes(params, batch=B, time=T))

# %%
_, logits = network(params, xs)
print("xs", xs.shape, "-> logits", logits.shape)

# %% [markdown]
# One step of it, with the shapes on the arrows:

# %%
plot.cell_diagram(input=5, hidden=256, batch=32, output=10)

# %% [markdown]
# ## Is a unit a small LSTM of its own?
#
# No. A unit is one place in the vectors i, f, g, o, c and h, so 256 units give 256 numbers a step. But every gate of
# every unit reads all 256 numbers of the h before it: no number in w_h is missing, and a change of one unit reaches
# all others at the next step. Here is how much each unit's h depends on each unit's h of the step before.

# %%
(layer,) = params.layers
start = jax.random.normal(jax.random.key(3), (2, 256)) / 2


def after(h):
    (h, _), _ = cell_step(layer, (h, start[1]), xs[0, 0])
    return h


jacobian = jax.jit(jax.jacobian(after))(start[0])
print(jacobian.shape, "of which", int((jacobian != 0).sum()), "are not 0")

# %% [markdown]
# ## What comes out, and which of it to use
#
# `ys` is h of every step, `h` is h of the last one. To label a sequence, use the last; to label each step, all.

# %%
(h, c), ys = lstm(layer, xs)
(_, _), last = lstm(layer, xs, return_sequences=False)
print("ys", ys.shape, " h", h.shape, " the last step:", last.shape, bool((last == h).all() and (ys[:, -1] == h).all()))

# %% [markdown]
# ## By hand, and a slip in a popular answer
#
# An answer that is copied a lot explains the forget gate f = σ(W·[x, h] + b) on small numbers: x = [1, 2, 3],
# h = [4, 5, 6], so I = 3 features and H = 3 units.

# %%
W = jnp.array([[1, 2, 3, 4, 5, 6], [5, 6, 7, 8, 9, 10], [3, 4, 5, 6, 7, 8]], float)
x, h, b = jnp.array([1.0, 2, 3]), jnp.array([4.0, 5, 6]), jnp.array([1.0, 2, 3])
product = W @ jnp.concatenate([x, h])
print("W·[x, h]    ", product)
print("W·[x, h] + b", product + b)
print("f           ", jax.nn.sigmoid(product + b))

# %% [markdown]
# First row by hand: 1·1 + 2·2 + 3·3 + 4·4 + 5·5 + 6·6 = 91. The numbers [91, 175, 133] are right, and so is the sum
# [92, 177, 136]. The same in the library, where W stands in two parts:

# %%
four = jnp.zeros((4, 3, 6)).at[1].set(W)  # gates i, f, g, o; only f has weights here
here = from_concatenated(four.reshape(12, 6), jnp.zeros((4, 3)).at[1].set(b).reshape(12))
_, step = cell_step(here, (h, jnp.zeros(3)), x, emit="step")
print("w_x", here.gate("f").w_x.shape, " w_h", here.gate("f").w_h.shape, " z_f", step.z_f, " f", step.f)

# %% [markdown]
# The slips are in the words around it.
#
# 1. *"W is k × (m + n); with m = 3, n = 3 and k = 3 it is 3 × 3."* It is 3 × 6: a row for each unit, a column for each
#    of the 3 features and each of the 3 old outputs. A 3 × 3 matrix cannot multiply six numbers:

# %%
try:
    from_concatenated(jnp.ones((12, 3)))
except ValueError as error:
    print(error)

# %% [markdown]
# 2. *"h has n numbers, and there are k cell states."* There is one size, not two: the units. f multiplies c number by
#    number, so f, c and h are equally long, k = n = H. (Only a projection, which is said as such, makes h narrower.)
# 3. *[x, h] in one line, [h, x] in the next.* Either order will do, but the columns of W must follow it. The same W
#    with the other order gives other numbers:

# %%
print("[x, h]", W @ jnp.concatenate([x, h]))
print("[h, x]", W @ jnp.concatenate([h, x]), " the same W, wrong")
print("[h, x]", jnp.concatenate([W[:, 3:], W[:, :3]], axis=1) @ jnp.concatenate([h, x]), " columns swapped too")

# %% [markdown]
# 4. *f = [1, 1, 1], "so each cell state may pass".* True of these numbers, and of no network that learns: 92 is far
#    out where σ is flat, and in float32 its slope there is 0. No gradient could ever close this gate again. And
#    h = [4, 5, 6] cannot come from an LSTM, whose h lies between −1 and 1.

# %%
for z in (0.0, 2.0, 92.0):
    print(f"z = {z:4}  σ(z) = {jax.nn.sigmoid(z):.4f}  slope {jax.grad(jax.nn.sigmoid)(z):.4f}")

# %% [markdown]
# ## What we learnt
#
# - xs is (B, T, I), ys is (B, T, H), h and c are (B, H), logits are (B, O).
# - Parameters: 4·(I·H + H·H + H) for the layer, H·O + O for the head. Neither T nor B is in it.
# - 5 → 10: 640. 5 → 256: 268,288. 256 → 10: 2,570.
# - Units are how long h is, steps are how often the cell is run. They have nothing to do with each other.
#
# Go on with [one cell, one step](one_step.ipynb), where every gate shows its numbers. On the command line,
# `lstmjax shapes --input 5 --hidden 256 --output 10` prints the table for sizes of your own.
