"""Comparison of the native kernel with the definition in float64, and with the error that XLA makes in float32."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from against import random_like

from lstmjax import init_params

CHANCE = 8e-7
"""Seven units in the last place of float32: the largest error of XLA in one array may be small by chance."""
NUMBERS = 256
"""So many numbers of each array are compared at least, in several draws, as far as `DRAWS` of them are enough."""
DRAWS = 64
NEIGHBOURS, NEAR = 8, 1e-5
"""So many inputs beside each draw, that far away as a part of each number, say how much a draw enlarges errors."""


def layer(rng, inputs, hidden, bias="single"):
    """Random parameters, small enough that gates are open in part, however many numbers a product adds up."""
    like = jax.eval_shape(lambda: init_params(jax.random.key(0), inputs, hidden, bias=bias))
    return jax.tree.map(lambda a: jnp.asarray(rng.normal(size=a.shape) * 0.6 / np.sqrt(a.shape[0] / 4 + 1)), like)


def errors(actual, expected):
    """The largest error of each leaf, relative to its largest number."""
    pairs = zip(*(map(np.float64, jax.tree.leaves(tree)) for tree in (actual, expected)), strict=True)
    return np.array([np.abs(a - e).max(initial=0) / largest_number(e) for a, e in pairs])


def of_backend(f, backend, dtype):
    """A function of a draw: values alone, and values with gradients; of the kernel by two programs, else by one.

    A draw is the arguments of `f(backend, *arguments)` and weights of what it returns. They are rounded to float32
    first, so that what is compared is the error of the computation alone.
    """

    def values_and_gradients(arguments, weights):
        values, pull = jax.vjp(partial(f, backend), *arguments)
        return values, pull(weights)

    saving, alone = jax.jit(values_and_gradients), jax.jit(partial(f, backend))

    def compute(draw):
        arguments, weights = jax.tree.map(lambda a: a.astype("float32").astype(dtype), draw)
        with jax.disable_jit(False):
            values, gradients = saving(arguments, weights)
            return alone(*arguments) if backend == "native" else values, (values, gradients)

    return compute


def in_draws(rng, f, arguments):
    """Arguments, random weights of what `f` returns, and both again with random signs: as many as small arrays need."""
    weights = random_like(rng, jax.eval_shape(partial(f, "scan"), *arguments))
    smallest = min(a.size for a in jax.tree.leaves((arguments, weights)) if a.size)
    count = min(DRAWS, 1 + NUMBERS // smallest)

    def signed(a):
        return a * rng.choice(np.array([-1, 1], a.dtype), a.shape)

    return [(arguments, weights)] + [jax.tree.map(signed, (arguments, weights)) for _ in range(count - 1)]


def beside(rng, draw):
    return jax.tree.map(lambda a: np.asarray(a) * (1 + NEAR * rng.normal(size=a.shape)), draw)


def within_twice_the_error_of_xla(f, rng, *arguments):
    """Compare values and gradients of `f(backend, *arguments)`, for random weights of what it returns.

    The root mean square of the errors of each array is at most twice that of XLA. XLA may be exact by chance, as in an
    array of one number; but a float32 cannot say more than the exact result rounded to it, so that the root mean square
    of that rounding stands in the place of a smaller error. The same numbers with other signs are further draws: with
    less than a hundred numbers two equally good sums would often be a factor of 2 apart.

    Draws have to count alike, or a few of them decide: after 50 steps one gradient of the state may be a thousand times
    another, and a sum that cancels has a large error for its size. So the errors of each draw are relative to what
    changes of the inputs make of the array. A single draw, as of larger arrays, needs none of that.

    A root mean square may hide one wrong number among many. So the largest error of each array over all draws is
    bounded, too, and the sum of these over all arrays: relative to the largest number of its draw, or where that
    cancels, to the same measure. They are errors of single numbers, and depend more on chance.
    """
    draws = in_draws(rng, f, arguments)
    definition = of_backend(f, "scan", "float64")
    exact = [definition(draw) for draw in draws]
    plain, kernel = (list(map(of_backend(f, backend, "float32"), draws)) for backend in ("scan", "native"))
    assert jax.tree.structure(kernel) == jax.tree.structure(plain)
    alone = len(draws) == 1
    sizes = None if alone else [sensitivity(rng, definition, *pair) for pair in zip(draws, exact, strict=True)]
    exact, plain, kernel = map(by_array, (exact, plain, kernel))
    sizes = list(map(largest_number, exact)) if alone else np.transpose(sizes)
    rounded = [np.float32(e) for e in exact]
    (mean_xla, largest_xla), (mean_kernel, largest_kernel), (mean_rounded, _) = (
        _errors_of(arrays, exact, sizes) for arrays in (plain, kernel, rounded)
    )
    assert (mean_kernel <= 2 * np.maximum(mean_xla, mean_rounded)).all()
    assert largest_kernel.sum() <= 2 * largest_xla.sum() + 1e-7
    assert (largest_kernel <= 2 * largest_xla + CHANCE).all()


def by_array(draws):
    """One array for each leaf, its first axis the draws."""
    return [np.stack([np.float64(a) for a in leaves]) for leaves in zip(*map(jax.tree.leaves, draws), strict=True)]


def sensitivity(rng, definition, draw, exact):
    """How large each array of a draw and its slopes by the logarithms of the inputs are, in root mean square."""
    exact = [np.asarray(e) for e in jax.tree.leaves(exact)]
    squares = np.array([(e**2).mean() if e.size else 1 for e in exact])
    for _ in range(NEIGHBOURS):
        near = jax.tree.leaves(definition(beside(rng, draw)))
        slopes = [(n - e) / NEAR if e.size else np.zeros(1) for n, e in zip(near, exact, strict=True)]
        squares += np.array([(slope**2).mean() for slope in slopes]) / NEIGHBOURS
    return np.maximum(np.sqrt(squares), 1e-30)


def largest_number(array):
    return max(np.abs(array).max(initial=0), 1e-30)


def _errors_of(actual, expected, sizes):
    """The root mean square of the errors of each array, relative to `sizes`, and the largest error."""
    means, largest = [], []
    for a, e, size in zip(actual, expected, sizes, strict=True):
        error, size = np.abs(a - e), np.reshape(size, (-1, *[1] * (e.ndim - 1)))
        means.append(np.sqrt(((error / size) ** 2).mean()) if a.size else 0)
        of_draw = np.abs(e).max(tuple(range(1, e.ndim)), initial=0, keepdims=True)
        largest.append((error / np.clip(of_draw, size, largest_number(e))).max(initial=0))
    return np.array(means), np.array(largest)
