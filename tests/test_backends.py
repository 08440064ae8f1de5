"""Every backend of the table against the definition: values, gradients and transforms; what it refuses, in words.

That `scan` is the oracle is tested in test_layer, test_cells and test_stack; `pytest --backend NAME` runs those and all
others with that backend as the first that "auto" tries.
"""

import itertools
import re
from functools import cache, partial
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from against import B, H, I, P, T, random_like, values_and_pull
from tolerances import assert_close
from transforms import (
    BY_NAME,
    PROBLEMS,
    definition_of,
    loss,
    outputs,
    problem,
    shard_map,
    transformed,
    vjp,
    vmap_over_examples,
)

from lstmjax import (
    CELLS,
    Bidirectional,
    RecurrentDropout,
    Zoneout,
    cell_step,
    explain_backend,
    init_params,
    lstm,
    stacked,
    trace,
)
from lstmjax.backends import BACKENDS
from lstmjax.backends.table import AUTO
from lstmjax.inside import Ablate, Fix, Scale

OTHERS = [name for name in BACKENDS if name != "scan"]
MASK = np.array([[0, 1, 0, 1, 1], [1, 1, 0, 1, 0], [0, 0, 0, 0, 0]], bool)
RESETS = np.array([[1, 0, 1, 1, 0], [0, 0, 1, 1, 1], [0, 1, 0, 0, 0]], bool)
LENGTHS = np.array([5, 3, 0])


def gates(step):
    return {"open": step.f * step.m, "z": step.z_o}


def with_product(params, state, x, *, product, emit):
    """A step of one's own that multiplies as it is told."""
    return cell_step(params, state, x, product=product, emit=emit)


def plain(params, state, x):
    """A step of one's own that multiplies itself; its parameters, state and outputs are its own affair."""
    weights, scale = params
    h = jnp.tanh(x @ weights["x"] + scale * state["h"] @ weights["h"])
    return {"h": h, "count": state["count"] + 1}, (h, x)


class Case(NamedTuple):
    """A layer and what is asked of it; of a state and what resets return to, the batch axes."""

    cell: str = "vanilla"
    bias: str | None = "single"
    width: int | None = None
    projection_bias: bool = False
    batch: tuple = (B,)
    steps: int = T
    begin: Any = (B,)
    options: Any = MappingProxyType({})


CASES = {
    "vanilla": Case(),
    "two biases, mask and lengths, hold": Case(
        bias="double", options={"mask": MASK, "lengths": LENGTHS, "padding": "hold"}
    ),
    "no bias, resets, a learned state": Case(bias=None, begin=(), options={"resets": RESETS}),
    "projection, zoneout, dropout": Case(
        "projection",
        width=P,
        options={"wrappers": (Zoneout(0.2, 0.3), RecurrentDropout(0.4)), "key": jax.random.key(1), "mask": MASK},
    ),
    "peephole, reverse, lengths, emit c": Case("peephole", options={"lengths": LENGTHS, "reverse": True, "emit": "c"}),
    "nig, no batch, emit": Case("nig", batch=(), begin=(), options={"emit": gates}),
    "nfg, two batch axes, time first": Case("nfg", batch=(2, B), begin=(2, B), options={"time_major": True}),
    "nog, one step, the last": Case("nog", steps=1, options={"return_sequences": False}),
    "niaf, no step": Case("niaf", steps=0, options={"emit": "step"}),
    "noaf, unroll": Case("noaf", options={"unroll": 2, "reverse": True}),
    "cifg, checkpoint": Case("cifg", options={"checkpoint": 3, "reverse": True, "mask": MASK}),
    "cifg_mirror, sqrt": Case("cifg_mirror", options={"checkpoint": "sqrt", "return_sequences": False}),
    "fgr, the last Step, resets": Case(
        "fgr", options={"emit": "step", "return_sequences": False, "mask": MASK, "resets": RESETS}
    ),
    "no_forget_gate, hold, emit": Case(
        "no_forget_gate", options={"lengths": LENGTHS, "padding": "hold", "emit": gates, "reverse": True}
    ),
    "layer_norm, expected zoneout": Case("layer_norm", options={"wrappers": (Zoneout(0.2, 0.3),), "emit": "step"}),
    "layer_norm_carried, resets": Case("layer_norm_carried", options={"resets": RESETS, "lengths": LENGTHS}),
    "layer_norm_per_gate, projection with a bias": Case(
        "layer_norm_per_gate", "double", width=P, projection_bias=True, options={"mask": MASK, "emit": "step"}
    ),
    "hard_sigmoid_fifth, interventions": Case(
        "hard_sigmoid_fifth",
        options={"wrappers": (Fix("f", 0.9, units=(1,)), Scale("z_i", 2.0), Ablate("c", (3,), steps=(1, 3)))},
    ),
    "hard_sigmoid_sixth, everything last": Case(
        "hard_sigmoid_sixth",
        options={"mask": MASK, "resets": RESETS, "lengths": LENGTHS, "reverse": True, "return_sequences": False},
    ),
    "own step": Case(options={"step": with_product, "mask": MASK, "emit": gates, "wrappers": (Zoneout(0.2, 0.3),)}),
}


def drawn(case, dtype=jnp.float64, seed=0):
    """The layer's params, xs, state and reset_state: random numbers."""
    rng = np.random.default_rng(seed)
    make = partial(init_params, input_size=I, hidden_size=H, cell=case.cell, projection_size=case.width, dtype=dtype)
    make = partial(make, bias=case.bias, projection_bias=case.projection_bias)
    params = random_like(rng, jax.eval_shape(lambda: make(jax.random.key(0))))
    first, last = ((case.steps, *case.batch) if case.options.get("time_major") else (*case.batch, case.steps)), I
    sizes = (case.width or H, H, *(H for _ in CELLS[case.cell].feeds))
    state, again = (tuple(jnp.asarray(rng.normal(size=(*case.begin, n)) * 0.5, dtype) for n in sizes) for _ in range(2))
    params = jax.tree.map(lambda a: 0.6 * a, params)
    return params, jnp.asarray(rng.normal(size=(*first, last)), dtype), state, again


def run(case, backend):
    """The layer as a function of its arrays."""
    row = {} if "step" in case.options else {"cell": case.cell}

    def f(params, xs, state, again):
        return lstm(params, xs, state, reset_state=again, backend=backend, **row, **case.options)

    return f


def both(case, backend):
    """Values, and the gradients of everything that goes in, of a random sum of everything that comes out."""
    arguments, f = drawn(case), run(case, backend)
    weights = random_like(np.random.default_rng(2), jax.eval_shape(run(case, "scan"), *arguments))
    return values_and_pull(f, arguments, weights)


@cache
def defined(name):
    return both(CASES[name], "scan")


PAIRS = [
    # `inplace` runs a step as scan does and has its derivative, so a few cases stand for what it does itself.
    pytest.param(backend, name, marks=pytest.mark.thorough if backend == "inplace" and n % 3 else ())
    for backend in OTHERS
    for n, name in enumerate(CASES)
]


def differentiates_by_itself(backend, name):
    """Whether gradients are compared: those of `inplace` are scan's in every case, so two cases stand for all."""
    return backend != "inplace" or name.startswith(("two biases", "layer_norm_per_gate"))


def refused(backend, call, params, xs, state=None, **options):
    """Whether a backend refuses this; if so, it does it in words, which the call raises too."""
    choice = explain_backend(params, xs, state, backend=backend, mode="training", **options)
    if choice.name == backend:
        return False
    assert choice.name is None
    assert choice.verdicts[0][:2] == (backend, "refuses")
    reason = choice.verdicts[0].reason
    assert reason[-1] == "."
    with pytest.raises(ValueError, match=re.escape(f"backend={backend!r} cannot run this: {reason}")):
        jax.eval_shape(call)
    return True


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(("backend", "name"), PAIRS)
def test_values_and_gradients_are_those_of_the_definition(backend, name):
    case = CASES[name]
    params, xs, state, again = drawn(case)
    row = {} if "step" in case.options else {"cell": case.cell}
    call = partial(run(case, backend), params, xs, state, again)
    if not refused(backend, call, params, xs, state, reset_state=again, **row, **case.options):
        expected, slopes = defined(name)
        if differentiates_by_itself(backend, name):
            values, grads = both(case, backend)
            assert_close(grads, slopes, gradient=True)
        else:
            values = jax.jit(run(case, backend))(params, xs, state, again)
        assert_close(values, expected)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("backend", OTHERS)
def test_in_single_and_half_precision_it_is_near_float64(backend, dtype):
    """Without x64, numbers that `dtype` can hold; the definition in float64 is the reference."""
    case = Case("peephole", "double", options={"mask": MASK, "resets": RESETS, "padding": "hold"})
    low = drawn(case, dtype)
    low = (*low[:2], *((s[0], s[1].astype(jnp.float32)) for s in low[2:]))
    params, xs, state, again = low
    if refused(
        backend, partial(run(case, backend), *low), params, xs, state, reset_state=again, cell=case.cell, **case.options
    ):
        return
    weights = random_like(np.random.default_rng(1), jax.eval_shape(run(case, "scan"), *low))
    values, grads = values_and_pull(run(case, backend), low, weights)
    with jax.enable_x64(True):
        high, heavy = jax.tree.map(lambda a: jnp.asarray(a, jnp.float64), (low, weights))
        expected, slopes = values_and_pull(run(case, "scan"), high, heavy)
    assert jax.tree.map(lambda a: a.dtype, (values, grads)) == jax.tree.map(lambda a: a.dtype, (weights, low))
    assert_close(values, expected, dtype=dtype)
    assert_close(grads, slopes, gradient=True, dtype=dtype)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("backend", OTHERS)
def test_a_step_whose_parameters_state_and_outputs_are_its_own(backend):
    rng = np.random.default_rng(0)
    params = {"x": jnp.asarray(rng.normal(size=(I, H))), "h": jnp.asarray(rng.normal(size=(H, H)))}, jnp.float64(0.3)
    xs, h = (jnp.asarray(rng.normal(size=shape)) for shape in ((B, T, I), (B, H)))
    state = {"h": h, "count": jnp.zeros(B, int)}

    def f(backend, params, xs, h):
        return lstm(params, xs, state | {"h": h}, step=plain, mask=MASK, backend=backend)

    def slopes(backend, *arguments):
        def loss(*arguments):
            end, ys = f(backend, *arguments)
            return (end["h"] ** 2).sum() + sum((y**3).sum() for y in ys), (end["h"], ys, end["count"])

        return jax.value_and_grad(loss, (0, 1, 2), has_aux=True)(*arguments)

    arguments = params, xs, h
    if not refused(backend, partial(f, backend, *arguments), params, xs, state, step=plain, mask=MASK):
        found, expected = (jax.jit(partial(slopes, name))(*arguments) for name in (backend, "scan"))
        assert_close((found[0][1][:2], found[1]), (expected[0][1][:2], expected[1]), gradient=True)
        np.testing.assert_array_equal(found[0][1][2], MASK.sum(1))


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("backend", OTHERS)
def test_layers_chunks_and_traces(backend):
    """Two directions and a layer above, in chunks, against one pass of the definition; what is added to each value."""
    (ahead, xs, *_), (back, *_) = (drawn(CASES["vanilla"], seed=n) for n in (3, 4))
    above = init_params(jax.random.key(0), 2 * H, P, dtype=jnp.float64)
    layers = Bidirectional(ahead, back), above

    def deep(backend, layers, xs):
        return stacked(layers, xs, lengths=LENGTHS, resets=RESETS, residual=False, backend=backend)

    def chunked(backend, params, xs):
        state, early = lstm(params, xs[:, :2], backend=backend)
        state, late = lstm(params, xs[:, 2:], state, backend=backend)
        return state, jnp.concatenate([early, late], axis=1)

    def one(params, xs):
        return lstm(params, xs, backend="scan")

    def seen(backend, added, params, xs):
        return trace(params, xs, perturb=added, mask=MASK, backend=backend)

    if refused(backend, partial(seen, backend, None, ahead, xs), ahead, xs, emit="step", mask=MASK):
        return
    added = jax.tree.map(jnp.zeros_like, jax.eval_shape(partial(seen, "scan", None), ahead, xs))
    pairs = (
        (partial(deep, backend), partial(deep, "scan"), (layers, xs)),
        (partial(chunked, backend), one, (ahead, xs)),
        (partial(seen, backend), partial(seen, "scan"), (added, ahead, xs)),
    )
    for f, definition, arguments in pairs:
        weights = random_like(np.random.default_rng(5), jax.eval_shape(definition, *arguments))
        (values, grads), (expected, slopes) = (values_and_pull(g, arguments, weights) for g in (f, definition))
        assert_close(values, expected)
        assert_close(grads, slopes, gradient=True)


ESSENTIAL = {
    "jvp", "jvp_of_some", "vjp", "inside_loops", "shard_map", "vmap_over_examples", "vmap_over_parameters",
    "vmap_of_higher", "hessian",
}  # fmt: skip
"""The transforms of the first tier: one of each kind."""


def pace(backend, name, which):
    """All is slow around more than the plain step, and most of it where "auto" does not look."""
    served = which == "plain" and (backend in AUTO or BY_NAME[name] in (vjp, vmap_over_examples, shard_map))
    return pytest.param(backend, name, which, marks=[] if served and name in ESSENTIAL else pytest.mark.slow)


def runs(backend, which):
    """Whether a backend serves a problem in float64; if not, it says why (`refused`)."""
    with jax.enable_x64(True):
        how, (params, xs, state) = PROBLEMS[which], problem(which)[0]
        return explain_backend(params, xs, state, backend=backend, mode="training", **how).name == backend


SERVED = {which: [name for name in OTHERS if runs(name, which)] for which in PROBLEMS}
TRANSFORMED = [
    pace(backend, name, which) for which in PROBLEMS for backend, name in itertools.product(SERVED[which], BY_NAME)
]


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("backend", OTHERS)
@pytest.mark.parametrize("which", PROBLEMS)
def test_what_a_backend_does_not_serve_it_refuses_in_words(backend, which):
    how, (params, xs, state) = PROBLEMS[which], problem(which)[0]
    call = partial(outputs, how | {"backend": backend}, params, xs, state)
    assert refused(backend, call, params, xs, state, **how) == (backend not in SERVED[which])
    assert "fused" in SERVED[which]  # so that something is compared below


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(("backend", "name", "which"), TRANSFORMED)
def test_transforms_give_what_they_give_of_the_definition(backend, name, which):
    assert_close(transformed(name, which, backend), definition_of(name, which), gradient=True)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("backend", SERVED["everything"])
def test_exported_it_gives_the_same(backend):
    arguments = problem("everything")[0]
    values, exported = (
        jax.jit(partial(outputs, PROBLEMS["everything"] | {"backend": name})) for name in ("scan", backend)
    )
    assert_close(jax.export.export(exported)(*arguments).call(*arguments), values(*arguments))


@pytest.mark.thorough
@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("backend", SERVED["everything"])
def test_written_out_step_by_step_it_gives_the_same(backend):
    arguments = problem("everything")[0]
    f, definition = (
        jax.value_and_grad(partial(loss, PROBLEMS["everything"] | {"backend": name}), (0, 1, 2))
        for name in (backend, "scan")
    )
    expected = jax.jit(definition)(*arguments)
    with jax.disable_jit():
        assert_close(f(*arguments), expected, gradient=True)
