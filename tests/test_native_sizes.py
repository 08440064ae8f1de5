"""The native kernel on random sizes and options: values and gradients within twice the error of XLA in float32.

`pytest tests/test_native_sizes.py --examples 300` draws that many new cases; without it, a few that are the same in
each session, as new ones are compiled anew.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from against import draw_state
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from kernel_checks import layer, within_twice_the_error_of_xla

from lstmjax import Bidirectional, lstm, stacked
from lstmjax.backends import native_library

LIBRARY = native_library.load()
pytestmark = pytest.mark.skipif(LIBRARY.reason is not None, reason=str(LIBRARY.reason))


def sizes(rows, steps, inputs, hidden):
    return st.tuples(*(st.integers(1, largest) for largest in (rows, steps, inputs, hidden)))


SIZES = sizes(9, 7, 40, 70) | sizes(90, 3, 9, 40) | sizes(3, 60, 5, 12) | sizes(5, 3, 300, 20) | sizes(4, 4, 20, 300)
"""B, T, I and H: small ones, and one that is large at a time."""


def any_size_and_options(shape, seed, data):
    rows, steps, inputs, hidden = shape
    rng = np.random.default_rng(seed)

    def pick(*values):
        return data.draw(st.sampled_from(values))

    kind, time_major = pick("layer", "layer", "pair", "stack"), pick(False, True)
    options = {
        "return_sequences": pick(True, False), "emit": pick("h", "c"), "padding": pick("zero", "hold"),
        "time_major": time_major, "checkpoint": pick(None, None, 3),
    }  # fmt: skip
    flags = (steps, rows) if time_major else (rows, steps)
    if pick(False, True):
        options["lengths"] = jnp.asarray(rng.integers(0, steps + 1, rows))
    if pick(False, True):
        options["mask"] = jnp.asarray(rng.random(flags) < 0.6)
    resets = pick(False, True)
    if resets:
        options["resets"] = jnp.asarray(rng.random(flags) < 0.3)
    bias = pick("single", "double", None)
    if kind == "layer":
        run, params = lstm, layer(rng, inputs, hidden, bias)
        options["reverse"] = pick(False, True)
    else:
        run, pair = stacked, Bidirectional(*(layer(rng, inputs, hidden, bias) for _ in range(2)))
        params = (pair, layer(rng, 2 * hidden, 7, bias)) if kind == "stack" else (pair,)
    state, again = (draw_state(rng, params, (rows,)) for _ in range(2))

    def f(backend, params, xs, state, again):
        return run(params, xs, state, reset_state=again if resets else None, backend=backend, **options)

    xs = jnp.asarray(rng.normal(size=(*flags, inputs)))
    within_twice_the_error_of_xla(f, rng, params, xs, state, again)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("count", [3, pytest.param(12, marks=pytest.mark.slow)])
def test_any_size_and_options(count, examples):
    if examples is None:
        how = settings(max_examples=count, deadline=None, derandomize=True, database=None)
    else:
        how = settings(
            max_examples=examples, deadline=None, database=None, suppress_health_check=list(HealthCheck),
            phases=[Phase.generate],  # smaller cases would be compiled one by one
        )  # fmt: skip
    how(given(SIZES, st.integers(0, 2**20), st.data())(any_size_and_options))()


@pytest.mark.parametrize("shape", [(3, 1, 5, 1), (3, 1, 159, 1), (2, 3, 4, 40)], ids=str)
def test_no_valid_step_leaves_zeros_for_the_weights(shape):
    """The gradients are written, whatever was in that memory before."""
    rows, steps, inputs, hidden = shape
    rng = np.random.default_rng(0)
    params, xs = jax.tree.map(np.float32, (layer(rng, inputs, hidden), rng.normal(size=(rows, steps, inputs))))

    @jax.jit
    def gradient(params, xs):
        def total(params):
            (h, c), ys = lstm(params, xs, lengths=jnp.zeros(rows, int), backend="native")
            return (h**2).sum() + c.sum() + ys.sum()

        return jax.grad(total)(params)

    for _ in range(20):
        used = [jnp.full(a.shape, 7.0) + k for k in range(8) for a in params if a is not None]
        jax.block_until_ready(used)
        del used
        for slope in jax.tree.leaves(gradient(params, xs)):
            np.testing.assert_array_equal(slope, np.zeros(slope.shape))


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    "shape",
    [(1, 4, 3, 5), (3, 1, 2, 4), (4, 5, 1, 3), (2, 3, 5, 1), (1, 1, 1, 1), (48, 50, 12, 96), (16, 2, 40, 300)],
    ids=str,
)
def test_an_axis_of_one_and_long_sums(shape):
    """Long ones: over 300 units, and of the gradient of a bias over 2,400 steps."""
    rows, steps, inputs, hidden = shape
    rng = np.random.default_rng(0)
    state = draw_state(rng, layer(rng, inputs, hidden), (rows,))
    xs = jnp.asarray(rng.normal(size=(rows, steps, inputs)))
    within_twice_the_error_of_xla(
        lambda backend, params, xs, state: lstm(params, xs, state, backend=backend),
        rng, layer(rng, inputs, hidden), xs, state,
    )  # fmt: skip
