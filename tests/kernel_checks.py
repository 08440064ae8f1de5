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


def layer(rng, inputs, hidden, bias="single"):
    """Random parameters, small enough that gates are open in part, however many numbers a product adds up."""
    like = jax.eval_shape(lambda: init_params(jax.random.key(0), inputs, hidden, bias=bias))
    return jax.tree.map(lambda a: jnp.asarray(rng.normal(size=a.shape) * 0.6 / np.sqrt(a.shape[0] / 4 + 1)), like)


def errors(actual, expected):
    """The largest error of each leaf, relative to its largest number."""
    pairs = zip(*(map(np.float64, jax.tree.leaves(tree)) for tree in (actual, expected)), strict=True)
    return np.array([np.abs(a - e).max(initial=0) / max(np.abs(e).max(initial=0), 1e-30) for a, e in pairs])


def of_three(f, draws):
    """Values and gradients of each draw: of the definition in float64 and in float32, and of the kernel.

    A draw is the arguments of `f(backend, *arguments)` and weights of what it returns. They are rounded to float32
    first, so that what is compared is the error of the computation alone.
    """

    def both(backend, dtype):
        def values_and_gradients(arguments, weights):
            values, pull = jax.vjp(partial(f, backend), *arguments)
            return values, pull(weights)

        values, saving = jax.jit(partial(f, backend)), jax.jit(values_and_gradients)
        rounded = jax.tree.map(lambda a: a.astype("float32").astype(dtype), draws)
        return [(values(*arguments), saving(arguments, weights)) for arguments, weights in rounded]

    with jax.disable_jit(False):
        return both("scan", "float64"), both("scan", "float32"), both("native", "float32")


def in_draws(rng, f, arguments):
    """Arguments, random weights of what `f` returns, and both again with random signs: as many as small arrays need."""
    weights = random_like(rng, jax.eval_shape(partial(f, "scan"), *arguments))
    smallest = min(a.size for a in jax.tree.leaves((arguments, weights)) if a.size)
    count = min(DRAWS, 1 + NUMBERS // smallest)

    def signed(a):
        return a * rng.choice(np.array([-1, 1], a.dtype), a.shape)

    return [(arguments, weights)] + [jax.tree.map(signed, (arguments, weights)) for _ in range(count - 1)]


def within_twice_the_error_of_xla(f, rng, *arguments):
    """Compare values and gradients of `f(backend, *arguments)`, for random weights of what it returns.

    The root mean square of the errors of each array is at most twice that of XLA. XLA may be exact by chance, as in an
    array of one number; but a float32 cannot say more than the exact result rounded to it, so that the root mean square
    of that rounding stands in the place of a smaller error. The same numbers with other signs are further draws: with
    less than a hundred numbers two equally good sums would often be a factor of 2 apart.

    A root mean square may hide one wrong number among many. So the largest error of each array over all draws is
    bounded, too, and the sum of these over all arrays. They are errors of single numbers, and depend more on chance.
    """
    exact, plain, kernel = of_three(f, in_draws(rng, f, arguments))
    assert jax.tree.structure(kernel) == jax.tree.structure(plain)
    rounded = jax.tree.map(np.float32, exact)
    together = [
        [np.stack([np.float64(a) for a in arrays]) for arrays in zip(*map(jax.tree.leaves, draws), strict=True)]
        for draws in (exact, plain, kernel, rounded)
    ]
    (mean_xla, largest_xla), (mean_kernel, largest_kernel), (mean_rounded, _) = (
        _errors_of(arrays, together[0]) for arrays in together[1:]
    )
    assert (mean_kernel <= 2 * np.maximum(mean_xla, mean_rounded)).all()
    assert largest_kernel.sum() <= 2 * largest_xla.sum() + 1e-7
    assert (largest_kernel <= 2 * largest_xla + CHANCE).all()


def _errors_of(actual, expected):
    """The root mean square and the largest error of each array, relative to the largest number of all its draws."""
    means, largest = [], []
    for a, e in zip(actual, expected, strict=True):
        relative = np.abs(a - e) / max(np.abs(e).max(initial=0), 1e-30)
        means.append(np.sqrt((relative**2).mean()) if a.size else 0)
        largest.append(relative.max(initial=0))
    return np.array(means), np.array(largest)
