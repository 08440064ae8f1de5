"""Comparison of the native kernel with the definition in float64, and with the error that XLA makes in float32."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from against import random_like

from lstmjax import init_params

CHANCE = 8e-7
"""Seven units in the last place of float32: of one array of few numbers the error of XLA may be small by chance."""


def layer(rng, inputs, hidden, bias="single"):
    """Random parameters, small enough that gates are open in part, however many numbers a product adds up."""
    like = jax.eval_shape(lambda: init_params(jax.random.key(0), inputs, hidden, bias=bias))
    return jax.tree.map(lambda a: jnp.asarray(rng.normal(size=a.shape) * 0.6 / np.sqrt(a.shape[0] / 4 + 1)), like)


def errors(actual, expected):
    """The largest error of each leaf, relative to its largest number."""
    pairs = zip(*(map(np.float64, jax.tree.leaves(tree)) for tree in (actual, expected)), strict=True)
    return np.array([np.abs(a - e).max(initial=0) / max(np.abs(e).max(initial=0), 1e-30) for a, e in pairs])


def of_three(f, arguments, weights):
    """Values and gradients: of the definition in float64 and in float32, and of the kernel."""

    def both(backend, dtype):
        low, heavy = jax.tree.map(lambda a: a.astype(dtype), (arguments, weights))
        values, pull = jax.jit(lambda *a: jax.vjp(partial(f, backend), *a))(*low)
        return jax.jit(partial(f, backend))(*low), values, jax.jit(pull)(heavy)

    with jax.disable_jit(False):
        return both("scan", "float64"), both("scan", "float32"), both("native", "float32")


def within_twice_the_error_of_xla(f, rng, *arguments):
    """Compare values and gradients of `f(backend, *arguments)`, for random weights of what it returns."""
    weights = random_like(rng, jax.eval_shape(partial(f, "scan"), *arguments))
    exact, plain, kernel = of_three(f, arguments, weights)
    assert jax.tree.structure(kernel) == jax.tree.structure(plain)
    of_xla, of_kernel = errors(plain, exact), errors(kernel, exact)
    assert of_kernel.sum() <= 2 * of_xla.sum() + 1e-7  # of all arrays together, chance has no place
    assert (of_kernel <= 2 * of_xla + CHANCE).all()
