# %% [markdown]
# # Gradients: why they vanish, and what an LSTM does about it
#
# **The question.** To learn that step 0 matters at step 100, a gradient must travel back over 100 steps. In a plain
# recurrent network it vanishes on the way. What is different in an LSTM, what does the forget bias do, and how can you
# see where the gradient vanishes in your own network?

# %%
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

from lstmjax import LSTMParams, init_params, lstm, plot
from lstmjax.inside import (
    derivatives,
    fixed_points,
    gradient_flow,
    gradient_paths,
    gradient_spans,
    gradient_survival,
    hessian_vector_product,
    lyapunov_spectrum,
    norms,
    singular_values,
    step_jacobians,
)

np.set_printoptions(precision=3, suppress=True, linewidth=110)

# %% [markdown]
# ## The derivatives of σ and tanh
#
# A gradient that passes an activation is multiplied by its derivative. That of σ is at most 1/4, at 0: a gradient that
# passes through a gate loses at least three quarters. That of tanh is 1, but only at 0; it is 0.9 at 0.33 and 0.42
# at 1.

# %%
at = derivatives(jnp.array([0.0, 0.33, 1.0, 2.0, 4.0]))
print("z       ", at.z)
print("σ′      ", at.d_sigma)
print("tanh′   ", at.d_tanh)

# %%
plot.activations()

# %% [markdown]
# So the factor can be near 1 with tanh, by luck, and never with σ. Over many steps even 0.9 is too small:
# 0.9¹⁰⁰ = 0.00003.
#
# ## The constant error carousel
#
# c' = f ⊙ c + i ⊙ g has no activation around c. Along this path the gradient is multiplied by f alone, and where f is 1
# it arrives unchanged: this is the constant error carousel of 1997. The fraction that remains after 1, 10 and 100
# steps, next to that of a plain network, h' = tanh(w·h + x):

# %%
gates = (0.5, 0.9, 0.99, 1.0)
kept = gradient_survival(gates, steps=100, weight=(1.0, 1.5))
print("steps  " + "".join(f"f = {f:<10}" for f in gates) + "plain, w = 1  plain, w = 1.5")
for steps in (1, 10, 100):
    print(f"{steps:5}  " + "".join(f"{part:<14.1e}" for part in (*kept.cell[steps], *kept.plain[steps])))

# %% [markdown]
# Over 100 steps, f = 0.99 keeps a third of the gradient and f = 0.9 practically nothing. In the plain network a larger
# weight does not help: it drives tanh to where it is flat.

# %%
plot.gradient_survival(kept, f=gates, weight=(1.0, 1.5), least=1e-12)

# %% [markdown]
# ## The forget bias
#
# An untrained forget gate is about σ of its bias: 0.5 at bias 0, 0.73 at 1, 0.95 at 3, 0.993 at 5. For these four
# initial values, the gradient of a loss at step 100 with respect to c at earlier steps:

# %%
I, H, T = 5, 32, 100
xs = jax.random.normal(jax.random.key(0), (8, T, I))


def at_the_end(ys):
    return (ys[..., -1, :] ** 2).mean()


starts = {bias: init_params(jax.random.key(1), I, H, forget_bias=bias) for bias in (0.0, 1.0, 3.0, 5.0)}
flow = jax.jit(lambda params: gradient_flow(params, xs, at_the_end))
for bias, params in starts.items():
    size = norms(flow(params)).c.mean(0)  # [T]: the norm over the units, the mean over the sequences
    print(f"forget bias {bias}, f about {jax.nn.sigmoid(bias):.3f}: |dL/dc| is", end=" ")
    print(", ".join(f"{size[t]:.0e} at step {t}" for t in (99, 50, 0)))

# %%
plot.gradient_flow(flow(starts[1.0]), fields=("h", "c"))

# %% [markdown]
# A straight line on a logarithmic axis means the same factor at every step. If an untrained network cannot reach the
# beginning of its sequences, raise `forget_bias` until it does: Gers et al. (2000) start above 0, and Jozefowicz et al.
# (2015) measured that this helps.
#
# ## Which path does it take?
#
# There are two paths from c to the previous c: along c itself, times f, and through h, by the output gate, the weights
# and all gates of the next step. `gradient_spans` takes dL/dc at the last step and computes how much of it reaches each
# earlier step, along the cell alone and by all paths together.

# %%
for bias in (1.0, 3.0):
    spans = norms(gradient_spans(starts[bias], xs, at_the_end))
    for t in (98, 90, 70, 50):
        cell, whole = spans.cell[:, t].mean(), spans.whole[:, t].mean()
        print(f"forget bias {bias}, to step {t}: {cell:.1e} along the cell alone, {whole:.1e} by all paths")

# %% [markdown]
# Over one step nearly all of it comes along the cell. Over many steps the paths through h contribute, and with random
# weights they contribute much; but they depend on all weights and derivatives, and the path along the cell depends on f
# alone. `gradient_paths` splits the gradient at every single step in the same way:

# %%
plot.gradient_paths(gradient_paths(starts[1.0], xs, at_the_end))

# %% [markdown]
# ## The same forwards: jvp
#
# `jax.jvp` pushes a small change forwards: if the input of step 0 changes a little, how much do the outputs change at
# each later step? The factors are the same in the opposite order, so the change fades as the gradient does.

# %%
nudge = jnp.zeros_like(xs[0]).at[0].set(1.0)
push = jax.jit(lambda params: jax.jvp(lambda xs: lstm(params, xs)[1], (xs[0],), (nudge,)))
for bias, params in starts.items():
    _, moved = push(params)
    size = jnp.abs(moved).max(-1)
    print(f"forget bias {bias}  the outputs move by", *(f"{size[t]:.0e} at step {t}" for t in (0, 10, 50, 99)))

# %% [markdown]
# ## The factors themselves: Jacobians of the steps
#
# Each factor is the Jacobian of one step, ∂(h, c) / ∂(h, c), here a matrix of 64 × 64. The singular values of the
# product over 100 steps say how much of each direction of the first state remains in the last one. The Lyapunov
# exponents are the growth per step in each direction: a direction with exponent 0 persists, one with −0.1 is forgotten
# in about 10 steps.

# %%
spectra = []
for bias, params in starts.items():
    jacobians = step_jacobians(params, xs[0])
    largest = singular_values(jacobians, log=True)[0] / np.log(10)
    exponents = lyapunov_spectrum(params, xs[0], warmup=30)
    spectra.append(exponents)
    kept = int((exponents > -0.05).sum())
    print(f"forget bias {bias}: 10^{largest:.1f} of the slowest direction remains (exponent {exponents[0]:.3f});")
    print(f"    {kept} of {len(exponents)} directions last for 20 steps or more")

# %%
plot.spectrum(np.stack(spectra), kind="exponents", title="forget bias 0, 1, 3 and 5: row 0 to row 3")

# %% [markdown]
# ## Second derivatives: how two inputs interact
#
# `jax.hessian` goes through the scan without further ado. The size of ∂²h/∂x_s∂x_t says how strongly the inputs of
# steps s and t interact in the last h; it is 0 if each acts independently of the other.

# %%
small = init_params(jax.random.key(2), 2, 4, forget_bias=2.0)
x = jax.random.normal(jax.random.key(3), (8, 2))


def last(x):
    (h, _), _ = lstm(small, x)
    return h.sum()


hessian = jax.jit(jax.hessian(last))(x)  # [8, 2, 8, 2]
sizes = np.sqrt((np.asarray(hessian) ** 2).sum((1, 3)))  # [8, 8], over the features

figure, axes = plt.subplots(figsize=(5.4, 4.2), layout="constrained")
image = axes.imshow(sizes, cmap="cividis")
axes.set(xlabel="step t", ylabel="step s", title="how strongly the inputs of two steps interact in the last h")
figure.colorbar(image, label="size of ∂²h/∂x_s∂x_t")
plt.show()
pairs = sizes - np.diag(np.diag(sizes))
s, t = np.unravel_index(pairs.argmax(), pairs.shape)
print(
    f"a step with itself: {np.diag(sizes).mean():.2f} on average; two steps: at most {pairs.max():.2f}, of {s} and {t}"
)

# %% [markdown]
# The diagonal says how far each input is from acting linearly; two different steps interact less. For the parameters of
# a real network this matrix would be too large, but its product with a direction is cheap:

# %%
direction = jax.random.normal(jax.random.key(4), x.shape)
product = hessian_vector_product(last, x, direction)
print("largest difference from hessian · direction:", float(jnp.abs(product - jnp.tensordot(hessian, direction)).max()))

# %% [markdown]
# ## Another way to remember: fixed points
#
# f = 1 is one way to keep a number. Another is a latch: a unit that feeds its h to itself, so that its state has two
# stable values. Below is one unit with f = σ(2) = 0.88, which by itself would forget in 8 steps, and a weight w from
# its h to its candidate g. `fixed_points` searches for states that the step maps to themselves.


# %%
def latch(w):
    """Return one unit with one input, whose gates i and o are open."""
    w_x, w_h = jnp.zeros((2, 1, 4, 1)).at[:, 0, 2, 0].set(jnp.array([3.0, w]))
    return LSTMParams(w_x, w_h, jnp.array([[4.0], [2.0], [0.0], [4.0]]))


c = jnp.linspace(-6.0, 6.0, 13)[:, None]
for w in (0.0, 0.5, 1.0):
    found = fixed_points(latch(w), jnp.zeros(1), (jnp.tanh(c), c))
    places = [(f"c = {float(at):5.2f}", f"{float(radius):.2f}") for at, radius in zip(found.c[:, 0], found.radius)]
    print(f"w = {w}  ", *(f"{at} (factor {by})  " for (at, by), new in zip(places, found.distinct) if new))

# %% [markdown]
# The factor in brackets is the largest eigenvalue of the step at that point: below 1 a small difference dies out, above
# 1 it grows. Without w every state ends at 0. With w = 1 the point at 0 repels, and the state stays at one of the two
# other points for ever: a memory of one bit. An input of +1 or −1 sets it, and it persists for a thousand steps without
# input:

# %%
for sign in (1.0, -1.0):
    pulse = jnp.zeros((1000, 1)).at[:3].set(sign)
    (_, kept), _ = lstm(latch(1.0), pulse)
    (_, lost), _ = lstm(latch(0.0), pulse)
    print(f"set by {sign:+.0f}: c after 1000 steps {float(kept[0]):6.2f}, without w {float(lost[0]):5.2f}")

# %% [markdown]
# But at a stable point small differences die out, and so does the gradient. A latch remembers, but nothing can be
# learned across the time that it bridges; an open forget gate allows both. That is why LSTMs start with f near 1.
#
# ## Summary
#
# - The derivative of σ is at most 1/4 and that of tanh at most 1, so a gradient that passes them at every step
#   vanishes.
# - c' = f ⊙ c + … passes it on times f alone. The bias of f decides how far it reaches before training.
# - `gradient_flow` shows where it vanishes, `gradient_spans` which path it takes, `lyapunov_spectrum` how fast each
#   direction is forgotten; `grad`, `jvp` and `hessian` go through the scan.
# - A latch remembers, too, but no gradient passes through it.
#
# Next: [the gates of a trained network](gates.ipynb). To do this with your own parameters, read them with
# `lstmjax.convert.load_weights("model.pt")`, or `lstmjax.training.load_run("runs/one").params`.
