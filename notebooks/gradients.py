# %% [markdown]
# # Gradients: why they vanish, and what an LSTM does about it
#
# **The question.** To learn that step 0 matters at step 100, a gradient must come back over 100 steps. In a plain
# recurrent network it does not. What is different in an LSTM, what has the forget bias to do with it, and how do I see
# where the gradient dies in a network of my own?

# %%
import jax
import jax.numpy as jnp
import numpy as np

from lstmjax import LSTMParams, init_params, lstm, plot
from lstmjax.inside import (
    derivatives,
    fixed_points,
    gradient_flow,
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
# ## The slopes of σ and tanh
#
# Whatever goes back through an activation is multiplied by its slope. σ is steepest at 0, and its slope there is 1/4:
# a gradient that passes a gate loses three quarters at the least. tanh has the slope 1 at 0, but only there; at 0.33
# it is 0.9, at 1 it is 0.42.

# %%
at = derivatives(jnp.array([0.0, 0.33, 1.0, 2.0, 4.0]))
print("z       ", at.z)
print("σ slope ", at.d_sigma)
print("tanh    ", at.d_tanh)

# %%
plot.activations()

# %% [markdown]
# So a slope near 1 is a matter of luck with tanh, and impossible with σ. Over many steps even 0.9 is nothing:
# 0.9¹⁰⁰ = 0.00003.
#
# ## The way around: the carousel
#
# c' = f ⊙ c + i ⊙ g has no activation around c. On this way back a gradient is multiplied by f and by nothing else, and
# where f is 1 it arrives whole: the constant error carousel of 1997. Below is what is left of it after 1, 10 and 100
# steps, and the same for a plain network, h' = tanh(w·h + x).

# %%
gates = (0.5, 0.9, 0.99, 1.0)
kept = gradient_survival(gates, steps=100, weight=(1.0, 1.5))
for steps in (1, 10, 100):
    cell = "  ".join(f"f = {f}: {part:.1e}" for f, part in zip(gates, kept.cell[steps]))
    print(
        f"{steps:3} steps  {cell}   plain RNN, w = 1: {kept.plain[steps, 0]:.1e}, w = 1.5: {kept.plain[steps, 1]:.1e}"
    )

# %% [markdown]
# f = 0.99 keeps a third over 100 steps, f = 0.9 nothing. In the plain network a larger weight does not help: it drives
# tanh to where it is flat.
#
# ## The forget bias
#
# An untrained gate is about σ of its bias: 0.5 at bias 0, 0.73 at 1, 0.95 at 3, 0.993 at 5. Here is the gradient of a
# loss at step 100 with respect to c at every step before, for these four starts.

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
# A straight line on a log axis is a factor at each step. So where an untrained network cannot reach the beginning of
# its sequences, raise `forget_bias` until it can: Gers et al. (2000) start it above 0, and Jozefowicz et al. (2015)
# measured that it pays.
#
# ## Which way did it come?
#
# There are two ways back from c to the c before: along c itself, times f, and through h, by the output gate, the
# weights and all gates of the next step. `gradient_spans` starts with dL/dc of the last step and says what of it comes
# to each step before, along the cell alone and by all ways together.

# %%
for bias in (1.0, 3.0):
    spans = norms(gradient_spans(starts[bias], xs, at_the_end))
    for t in (98, 90, 70, 50):
        cell, whole = spans.cell[:, t].mean(), spans.whole[:, t].mean()
        print(f"forget bias {bias}, to step {t}: {cell:.1e} along the cell alone, {whole:.1e} by all ways")

# %% [markdown]
# Over one step the cell is nearly all of it. Over many, the ways through h add to it, and with random weights they add
# much; but they go through the weights and all slopes, and depend on every one of them. What the cell brings depends
# on f alone. (`gradient_paths` splits the gradient of each single step in the same way.)
#
# ## The same forwards: jvp
#
# `jax.jvp` pushes a small change forwards: if the input of step 0 moves a little, how much do the outputs move at each
# later step? It meets the same factors in the opposite order, so it fades as the gradient did.

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
# All that is multiplied on the way is ∂(h, c) / ∂(h, c) of one step, a matrix of 64 × 64 here. Its product over 100
# steps says what the last state knows of the first: the singular values, one for each direction. The Lyapunov exponents
# are the growth in each direction per step; 0 keeps it, −0.1 forgets it in about 10 steps.

# %%
spectra = []
for bias, params in starts.items():
    jacobians = step_jacobians(params, xs[0])
    largest = singular_values(jacobians, log=True)[0] / np.log(10)
    exponents = lyapunov_spectrum(params, xs[0], warmup=30)
    spectra.append(exponents)
    kept = int((exponents > -0.05).sum())
    print(f"forget bias {bias}  the best direction keeps 10^{largest:5.1f}, exponent {exponents[0]:6.3f};", end="")
    print(f" {kept:2} of {len(exponents)} directions last for 20 steps and more")

# %%
plot.spectrum(np.stack(spectra), kind="exponents", title="Forget bias 0, 1, 3 and 5, from the lowest curve up")

# %% [markdown]
# ## Second derivatives: how two inputs act together
#
# `jax.hessian` goes through the scan as it stands. Below, how much the inputs of step s and step t act on the last h
# together, and not each for itself: the size of ∂²/∂x_s∂x_t, a row for each s.

# %%
small = init_params(jax.random.key(2), 2, 4, forget_bias=2.0)
x = jax.random.normal(jax.random.key(3), (8, 2))


def last(x):
    (h, _), _ = lstm(small, x)
    return h.sum()


hessian = jax.jit(jax.hessian(last))(x)  # [8, 2, 8, 2]
print(np.asarray(jnp.sqrt((hessian**2).sum((1, 3)))))

# %% [markdown]
# For the parameters of a real network the matrix would be too large, but its product with a direction is not:

# %%
direction = jax.random.normal(jax.random.key(4), x.shape)
product = hessian_vector_product(last, x, direction)
print("largest difference from hessian · direction:", float(jnp.abs(product - jnp.tensordot(hessian, direction)).max()))

# %% [markdown]
# ## Another way to remember: fixed points
#
# f = 1 is one way to keep a number. The other is a latch: a unit that sends its own h back to itself, so that the
# state has two places where it stays. Here is one unit with f = σ(2) = 0.88, which alone would forget in 8 steps, and a
# weight w from its h to its own candidate g. `fixed_points` looks for states that the step does not move.


# %%
def latch(w):
    """One unit, one input; the gates i and o are open."""
    w_x, w_h = jnp.zeros((2, 1, 4, 1)).at[:, 0, 2, 0].set(jnp.array([3.0, w]))
    return LSTMParams(w_x, w_h, jnp.array([[4.0], [2.0], [0.0], [4.0]]))


c = jnp.linspace(-6.0, 6.0, 13)[:, None]
for w in (0.0, 0.5, 1.0):
    found = fixed_points(latch(w), jnp.zeros(1), (jnp.tanh(c), c))
    places = [(f"c = {float(at):5.2f}", f"{float(radius):.2f}") for at, radius in zip(found.c[:, 0], found.radius)]
    print(f"w = {w}  ", *(f"{at} (times {by} a step)  " for (at, by), new in zip(places, found.distinct) if new))

# %% [markdown]
# The number in brackets is the largest eigenvalue of the step there: below 1 a small difference dies out, above 1 it
# grows. Without w all states end at 0. With it, 0 drives away, and the unit stays at one of two places for ever, which
# is a memory of one bit. An input of +1 or −1 sets it, and it holds over a thousand steps without input:

# %%
for sign in (1.0, -1.0):
    pulse = jnp.zeros((1000, 1)).at[:3].set(sign)
    (_, kept), _ = lstm(latch(1.0), pulse)
    (_, lost), _ = lstm(latch(0.0), pulse)
    print(f"set by {sign:+.0f}: c after 1000 steps {float(kept[0]):6.2f}, without w {float(lost[0]):5.2f}")

# %% [markdown]
# But look at 0.88: at such a place differences die out, and so does the gradient. A latch remembers and cannot be
# taught across the time that it remembers; an open forget gate can. That is why LSTMs are started with f near 1.
#
# ## What we learnt
#
# - The slope of σ is at most 1/4 and of tanh at most 1, so a gradient that must pass them at every step dies.
# - c' = f ⊙ c + … passes it on times f, and nothing else. The bias of f decides how far it reaches at the start.
# - `gradient_flow` shows where it dies, `gradient_spans` which way it came, `lyapunov_spectrum` how fast in each
#   direction; `grad`, `jvp` and `hessian` go through the scan as they stand.
# - A latch remembers too, but no gradient comes through it.
#
# Go on with [the gates of a trained network](gates.ipynb), or do this with your own parameters:
# `lstmjax.convert.load_weights("model.pt")` brings them here.
