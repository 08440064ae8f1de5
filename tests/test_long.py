"""Segments that are computed again: the same numbers, and memory that does not grow with the sequence."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from against import B, H, I, draw_params, draw_state, random_like, values_and_pull
from tiers import tiered
from tolerances import assert_close

from lstmjax import CELLS, RecurrentDropout, Zoneout, init_params, lstm
from lstmjax.backends import BACKENDS, Request
from lstmjax.backends.segments import segment_length
from lstmjax.cell import CellStep
from lstmjax.cells import VANILLA

MB = 1e6
ASKED = Request(
    step=CellStep(VANILLA), wrappers=(), emit="h", return_sequences=True, valid=None, padding="zero", resets=False,
    reverse=False, checkpoint="sqrt", unroll=1, axis=1, params=(),
    xs=jax.ShapeDtypeStruct((7, B, I), "float64"), state=(),
)  # fmt: skip
KEEPING = [name for name, row in BACKENDS.items() if row.refuses(ASKED) is None]
rng = np.random.default_rng(0)
LENGTHS, RESETS = np.array([7, 4, 0]), rng.random((B, 7)) < 0.3
NOISY = {"key": jax.random.key(0), "wrappers": (RecurrentDropout(0.5), Zoneout(0.2, 0.1))}
CASES = {  # T, checkpoint, options
    "prime": (7, "sqrt", {}),
    "one-step": (1, "sqrt", {}),
    "longer-than-all": (7, 9, {"reverse": True, "emit": "c"}),
    "reverse": (7, 3, {"reverse": True, "lengths": LENGTHS, "resets": RESETS, "emit": "step", "padding": "hold"}),
    "wrappers": (7, 2, {**NOISY, "mask": np.roll(RESETS, 1, 0), "emit": "step"}),
    "last": (12, "sqrt", {"return_sequences": False, "reverse": True}),
    "last-emitted": (7, 4, {"return_sequences": False, "lengths": LENGTHS, "emit": "step"}),
    "time-first": (12, 5, {"time_major": True}),
    "unrolled": (12, 4, {"unroll": 3}),
}


def stage(backend, case):
    """The marks of a case: the first tier has the richest ones, with the backend that "auto" takes."""
    if backend == "fused" and case in ("reverse", "wrappers", "last"):
        return ()
    return pytest.mark.slow if backend == "scan" else pytest.mark.thorough


def check_segments(backend, params, steps, checkpoint, batch=(B,), **options):
    """Compares values and all gradients with those of one pass, which the oracle has checked."""
    rng = np.random.default_rng(1)
    shape = (steps, *batch, I) if options.get("time_major") else (*batch, steps, I)
    arguments = params, jnp.asarray(rng.normal(size=shape)), draw_state(rng, params, batch)

    def run(params, xs, state, **more):
        return lstm(params, xs, state, backend=backend, **options, **more)

    cotangents = random_like(rng, jax.eval_shape(run, *arguments))
    values, gradients = values_and_pull(partial(run, checkpoint=checkpoint), arguments, cotangents)
    expected, pulled = values_and_pull(run, arguments, cotangents)
    assert_close(values, expected)
    assert_close(gradients, pulled, gradient=True)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    ("backend", "case"),
    [pytest.param(backend, case, marks=stage(backend, case)) for backend in KEEPING for case in CASES],
)
def test_segments_change_neither_values_nor_gradients(backend, case):
    steps, checkpoint, options = CASES[case]
    check_segments(backend, draw_params(np.random.default_rng(2)), steps, checkpoint, **options)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("batch", [(), (2, B)])
@pytest.mark.parametrize("backend", tiered(KEEPING, first=["fused"]))
def test_segments_of_no_batch_and_of_two_batch_axes(backend, batch):
    check_segments(backend, draw_params(np.random.default_rng(3)), 7, 3, batch=batch, emit="step")


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("backend", KEEPING)
def test_segments_of_every_cell(backend, cell):
    rng, params = np.random.default_rng(4), init_params(jax.random.key(0), I, H, cell=cell, dtype=jnp.float64)
    xs = jnp.asarray(rng.normal(size=(B, 7, I)))

    def run(params, xs, **more):
        return lstm(params, xs, cell=cell, backend=backend, emit="step", **more)

    cotangents = random_like(rng, jax.eval_shape(run, params, xs))
    values, gradients = values_and_pull(partial(run, checkpoint=3), (params, xs), cotangents)
    expected, pulled = values_and_pull(run, (params, xs), cotangents)
    assert_close(values, expected)
    assert_close(gradients, pulled, gradient=True)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("backend", tiered(KEEPING, first=["fused"]))
def test_segments_stand_inside_vmap_and_forward_over_reverse(backend):
    rng = np.random.default_rng(5)
    params, xs = draw_params(rng), jnp.asarray(rng.normal(size=(B, 7, I)))

    def slopes(checkpoint):
        def loss(params, x):
            return (lstm(params, x, checkpoint=checkpoint, backend=backend)[1] ** 2).sum()

        def along(x):
            return jax.jvp(lambda p: jax.grad(loss)(p, x), (params,), (params,))

        return jax.jit(jax.vmap(along))(xs)

    assert_close(slopes(2), slopes(None), gradient=True)


@pytest.mark.parametrize(
    ("steps", "length"),
    [(1, 1), (2, 1), (3, 1), (7, 2), (12, 3), (10_000, 100), (100_000, 250), (99_991, 316), (2 * 99_991, 447)],
)
def test_the_length_of_segments_divides_the_steps_if_anything_near_does(steps, length):
    assert segment_length("sqrt", steps) == length


@pytest.mark.parametrize("time_major", [False, True])
@pytest.mark.parametrize(("keep", "most"), [(False, 100 * MB), (True, 2000 * MB)])
@pytest.mark.parametrize("backend", KEEPING)
def test_a_hundred_thousand_steps_fit_in_memory(backend, keep, most, time_major):
    """T = 100,000, B = 8, I = H = 256: temporaries of the compiled gradient of parameters and inputs, which is not run.

    A loss on all outputs cannot do without two arrays of them, 1.64 GB: h itself and its gradient.
    """
    params = jax.eval_shape(lambda: init_params(jax.random.key(0), 256, 256))
    xs = jax.ShapeDtypeStruct((100_000, 8, 256) if time_major else (8, 100_000, 256), jnp.float32)

    def loss(params, xs):
        options = {"return_sequences": keep, "time_major": time_major, "backend": backend}
        return jnp.square(lstm(params, xs, checkpoint="sqrt", **options)[1]).sum()

    found = jax.jit(jax.grad(loss, (0, 1))).lower(params, xs).compile().memory_analysis()
    assert found.temp_size_in_bytes < most
