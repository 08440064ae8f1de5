# %% [markdown]
# # The dimensions: 5 features, 256 units, 10 classes
#
# **The question.** A layer is described by three sizes: "100 time steps of 5 features, 256 units". Which array has
# which of these sizes, how many numbers are learned, and why does none of them depend on the 100 steps?
#
# Everything is counted twice: by hand, and from the arrays.

# %%
import jax
import jax.numpy as jnp

from lstmjax import cell_step, from_concatenated, init_network, init_params, lstm, network, plot, shapes

# %% [markdown]
# ## What goes in
#
# The input has three axes: B sequences in a batch, T time steps, and I numbers (features) at every step.

# %%
B, T, I = 32, 100, 5
xs = jax.random.normal(jax.random.key(0), (B, T, I))
print("the batch            ", xs.shape)
print("one sequence         ", xs[0].shape)
print("one step of the batch", xs[:, 0].shape)
print("a step of a sequence ", xs[0, 0].shape)

# %% [markdown]
# ## What is learned: 640 numbers for 5 features and 10 units
#
# There are four gates (i, f, g, o). Each computes 10 numbers, one for each unit, from
#
# - 5 · 10 weights for the features of the step (I·H),
# - 10 · 10 weights for the outputs of all 10 units at the previous step (H·H),
# - 10 biases (H).
#
# That is 50 + 100 + 10 = 160 for each gate, and 4 · 160 = 640.

# %%
small = init_params(jax.random.key(1), input_size=5, hidden_size=10)
for name, array in small._asdict().items():
    if array is not None:
        print(f"{name:4} {array.shape!s:12} {array.size:4}")
print("by hand", 4 * (5 * 10 + 10 * 10 + 10), " from the arrays", sum(a.size for a in jax.tree.leaves(small)))

# %% [markdown]
# The axis of size 4 holds the gates. The arrays of a single gate:

# %%
forget = small.gate("f")
print("w_x", forget.w_x.shape, " w_h", forget.w_h.shape, " b", forget.b.shape)

# %% [markdown]
# ## Where are the time steps?
#
# Nowhere: every step uses the same 640 numbers. Sequences of 13 and of 100 steps run through the same parameters, and
# so do one sequence and 32. T is how often the step runs, B how many sequences run side by side.

# %%
for batch, time in [(32, 100), (32, 13), (1, 13)]:
    (h, c), ys = lstm(small, xs[:batch, :time])
    print(f"xs {(batch, time, 5)!s:12} h {h.shape!s:9} c {c.shape!s:9} ys {ys.shape}")

# %% [markdown]
# The number of units has nothing to do with the number of time steps. A common mistake is to read "32 units on
# sequences of 10 steps of 64 features" as 10 neurons, one for each step. There are 32 units, and they run 10 times:

# %%
print("units 32, features 64:", shapes(input=64, hidden=32, time=10).parameters, "parameters, for T = 10 or any other")
print("two outputs from 32  :", 32 * 2 + 2)

# %% [markdown]
# PyTorch counts 680 where we count 640, since it has two biases for each gate, whose sum it uses: 4 · 10 numbers more.

# %%
print(shapes(input=5, hidden=10).parameters, shapes(input=5, hidden=10, bias="double").parameters)

# %% [markdown]
# ## From 5 to 256 to 10
#
# The network has 5 features, 256 units and 10 classes. Only the Dense head maps 256 numbers to 10.

# %%
params = init_network(jax.random.key(2), 5, 256, 10)
print("LSTM", 4 * (5 * 256 + 256 * 256 + 256), " head", 256 * 10 + 10, " together", 268_288 + 2_570)
print(shapes(params, batch=B, time=T))

# %%
_, logits = network(params, xs)
print("xs", xs.shape, "-> logits", logits.shape)

# %% [markdown]
# One step, with the shape of every array on its arrow:

# %%
plot.cell_diagram(input=5, hidden=256, batch=32, output=10)

# %% [markdown]
# ## Is a unit a small LSTM of its own?
#
# No. A unit is one position in the vectors i, f, g, o, c and h, so 256 units output 256 numbers at each step. But every
# gate of every unit reads all 256 numbers of the previous h: w_h is a full matrix, and a change of one unit reaches all
# others at the next step. The Jacobian shows how each unit's h depends on every unit's previous h:

# %%
(layer,) = params.layers
start = jax.random.normal(jax.random.key(3), (2, 256)) / 2


def after(h):
    (h, _), _ = cell_step(layer, (h, start[1]), xs[0, 0])
    return h


jacobian = jax.jit(jax.jacobian(after))(start[0])
print(jacobian.shape, "entries that are not 0:", int((jacobian != 0).sum()))

# %% [markdown]
# ## Which output to use
#
# `ys` is h at every step, `h` is h at the last one. To label a sequence, use the last; to label each step, use all.

# %%
(h, c), ys = lstm(layer, xs)
(_, _), last = lstm(layer, xs, return_sequences=False)
print("ys", ys.shape, " h", h.shape, " the last step:", last.shape, bool((last == h).all() and (ys[:, -1] == h).all()))

# %% [markdown]
# ## By hand, and the mistakes in a popular answer
#
# A popular answer explains the forget gate f = σ(W·[x, h] + b) with small numbers: x = [1, 2, 3] and h = [4, 5, 6], so
# I = 3 features and H = 3 units.

# %%
W = jnp.array([[1, 2, 3, 4, 5, 6], [5, 6, 7, 8, 9, 10], [3, 4, 5, 6, 7, 8]], float)
x, h, b = jnp.array([1.0, 2, 3]), jnp.array([4.0, 5, 6]), jnp.array([1.0, 2, 3])
product = W @ jnp.concatenate([x, h])
print("W·[x, h]    ", product)
print("W·[x, h] + b", product + b)
print("f           ", jax.nn.sigmoid(product + b))

# %% [markdown]
# The first row by hand: 1·1 + 2·2 + 3·3 + 4·4 + 5·5 + 6·6 = 91. The product [91, 175, 133] and the sum [92, 177, 136]
# of that answer are right. The library, which stores W as two matrices, computes the same:

# %%
four = jnp.zeros((4, 3, 6)).at[1].set(W)  # gates i, f, g, o; only f has weights here
here = from_concatenated(four.reshape(12, 6), jnp.zeros((4, 3)).at[1].set(b).reshape(12))
_, step = cell_step(here, (h, jnp.zeros(3)), x, emit="step")
print("w_x", here.gate("f").w_x.shape, " w_h", here.gate("f").w_h.shape, " z_f", step.z_f, " f", step.f)

# %% [markdown]
# The mistakes are in its text.
#
# 1. *"W is k × (m + n); with m = 3, n = 3 and k = 3 it is 3 × 3."* It is 3 × 6: a row for each unit, and a column for
#    each of the 3 features and 3 previous outputs. A 3 × 3 matrix cannot multiply six numbers:

# %%
try:
    from_concatenated(jnp.ones((12, 3)))
except ValueError as error:
    print(error)

# %% [markdown]
# 2. *"h has n numbers, and there are k cell states."* There is only one size, the number of units: f multiplies c
#    number by number, so f, c and h have the same length, k = n = H. (Only a projection makes h shorter.)
# 3. *[x, h] in one line, [h, x] in the next.* Either order works if the columns of W follow it. With the same W, the
#    other order computes other numbers:

# %%
print("[x, h]", W @ jnp.concatenate([x, h]))
print("[h, x]", W @ jnp.concatenate([h, x]), " the same W, wrong")
print("[h, x]", jnp.concatenate([W[:, 3:], W[:, :3]], axis=1) @ jnp.concatenate([h, x]), " with its columns swapped")

# %% [markdown]
# 4. *f = [1, 1, 1], "so each cell state may pass".* That is true of these numbers, but no network could learn with
#    them: at z = 92, σ is flat, and in float32 its derivative is 0, so no gradient could ever close this gate. And
#    h = [4, 5, 6] cannot be the output of an LSTM, whose h lies between −1 and 1.

# %%
for z in (0.0, 2.0, 92.0):
    print(f"z = {z:4}  σ(z) = {jax.nn.sigmoid(z):.4f}  slope {jax.grad(jax.nn.sigmoid)(z):.4f}")

# %% [markdown]
# ## Summary
#
# - xs is (B, T, I), ys is (B, T, H), h and c are (B, H), logits are (B, O).
# - The layer has 4·(I·H + H·H + H) parameters, the head H·O + O. Neither T nor B appears.
# - 5 → 10: 640. 5 → 256: 268,288. 256 → 10: 2,570.
# - The number of units is the length of h, the number of steps is how often the cell runs. They are independent.
#
# Next: [one cell, one step](one_step.ipynb), with the numbers of every gate. On the command line,
# `lstmjax shapes --input 5 --hidden 256 --output 10` prints the table for your sizes.
