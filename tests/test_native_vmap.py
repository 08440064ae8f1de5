"""Nested `jax.vmap` of the native kernel: values are one call, gradients another; both are those of Python loops."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from kernel_checks import layer
from tiers import tiered
from tolerances import assert_close

from lstmjax import lstm
from lstmjax.backends import native_call, native_library

LIBRARY = native_library.load()
pytestmark = pytest.mark.skipif(LIBRARY.reason is not None, reason=str(LIBRARY.reason))

T, B, I, H = 5, 4, 3, 6
NAMES = "params", "xs", "state", "mask", "again"
DIFFERENTIATED = tuple(n for n, name in enumerate(NAMES) if name != "mask")


def loss(backend, params, xs, state, mask, again, **options):
    """A number of one network and one batch; `again` is the state that resets return to."""
    flags = {"mask": mask, "resets": jnp.roll(mask, 1, -1), "reset_state": again}
    (h, c), ys = lstm(params, xs, state, backend=backend, **flags, **options)
    weights = jnp.cos(jnp.arange(1.0, H + 1.0))[None, None]
    return (jnp.sin(ys) * weights).sum() + (h * c).sum()


def arguments(rng):
    return (
        jax.tree.map(jnp.float32, layer(rng, I, H)),
        *jax.tree.map(jnp.float32, (rng.normal(size=(B, T, I)), tuple(rng.normal(size=(2, B, H))))),
        jnp.asarray(rng.random((B, T)) < 0.6),
        tuple(jnp.float32(rng.normal(size=(2, B, H)))),
    )


def in_axes(axes):
    return tuple(axes.get(name) for name in NAMES)


def several(rng, argument, axis, size):
    """An argument with a further axis, along which its numbers differ."""

    def stacked(a):
        others = [jnp.asarray(rng.random(a.shape) < 0.5 if a.dtype == bool else a * n) for n in rng.normal(size=size)]
        return jnp.stack(others, axis)

    return jax.tree.map(stacked, argument)


def looped(f, in_axes, out_axes=0, **options):
    """`jax.vmap` as a Python loop; its other options change no number."""

    def run(*arguments):
        mapped = [(a, axis) for a, axis in zip(arguments, in_axes, strict=True) if axis is not None]
        size = jax.tree.leaves(mapped[0][0])[0].shape[mapped[0][1]]
        results = [
            f(
                *(
                    a if axis is None else jax.tree.map(lambda a, k=k, axis=axis: jnp.take(a, k, axis), a)
                    for a, axis in zip(arguments, in_axes, strict=True)
                )
            )
            for k in range(size)
        ]
        return jax.tree.map(lambda *a: jnp.stack(a, out_axes), *results)

    return run


def nested(vmap, f, levels, at, out_axes=0, **options):
    """Value and gradients of f, within the vmaps of `levels` (the innermost first), around the first `at` of them."""
    for n, axes in enumerate(levels):
        if n == at:
            f = of_sum(f)
        f = vmap(f, in_axes(axes), out_axes if n >= at else 0, **options)
    return of_sum(f) if at == len(levels) else f


def of_sum(f):
    return jax.value_and_grad(lambda *a: jnp.sum(f(*a)), DIFFERENTIATED)


CALL = 'custom_call_target="lstmjax_{}'


def calls(program):
    """How often a program calls the kernel forwards and backwards, and how many loops it has."""
    text = program.as_text()
    return tuple(map(text.count, (CALL.format("forward"), CALL.format("backward"), " while(")))


NETWORKS, BATCHES = {"params": 0}, {"xs": 0, "state": 0, "mask": 0}
CASES = {
    "networks of networks": ([NETWORKS, NETWORKS], 0),
    "networks, each with a batch, of networks": ([NETWORKS | BATCHES, NETWORKS], 0),
    "networks of networks with a batch": ([NETWORKS, NETWORKS | BATCHES], 0),
    "batches of networks": ([NETWORKS, BATCHES], 0),
    "networks of batches, a gradient for each batch": ([BATCHES, NETWORKS], 0),
    "networks of gradients of batches": ([BATCHES, NETWORKS], 1),
    "the gradient of networks of networks": ([NETWORKS, NETWORKS], 2),
    "the gradient of batches of networks": ([NETWORKS, BATCHES], 2),
    "the gradient of networks of batches": ([BATCHES, NETWORKS], 2),
    "batches of gradients of networks": ([NETWORKS, BATCHES], 1),
    "a gradient for each batch": ([BATCHES], 0),
    "a gradient for each mask": ([{"mask": 0}], 0),
    "a gradient for each state": ([{"state": 0, "again": 0}, {"again": 1}], 0),
    "flags of networks": ([NETWORKS, {"mask": 1}], 1),
    "three levels": ([{"xs": 0}, NETWORKS, {"params": 0, "mask": 0}], 1),
    "other axes": ([{"params": 1, "xs": 2, "mask": -1}, {"params": -1, "state": 1, "xs": -2}], 0, {"out_axes": -1}),
    "an axis of a mesh": ([NETWORKS, NETWORKS], 1, {"spmd_axis_name": "seeds"}),
}


def problem(levels, seed=0):
    """Arguments for all levels; their sizes are 2, 3, 4."""
    rng = np.random.default_rng(seed)
    several_of = list(arguments(rng))
    for size, axes in enumerate(levels, start=2):
        for n, name in enumerate(NAMES):
            if name in axes:
                several_of[n] = several(rng, several_of[n], axes[name], size)
    return several_of


FIRST = ["networks of networks", "batches of networks", "networks of gradients of batches", "a gradient for each batch"]


@pytest.mark.parametrize("name", tiered(CASES, first=[*FIRST, "other axes"]))
def test_nested_vmaps_are_two_calls(name):
    levels, at, options = (*CASES[name], {})[:3]
    several_of = problem(levels)
    program = jax.jit(nested(jax.vmap, partial(loss, "native"), levels, at, **options)).lower(*several_of).compile()
    assert calls(program) == (1, 1, 0)
    expected = nested(looped, jax.jit(partial(loss, "native")), levels, at, **options)(*several_of)
    assert_close(program(*several_of), expected, gradient=True)


EMPTY = {  # of which level there is none
    "no networks": ([NETWORKS], 0, 0),
    "no batches": ([BATCHES], 0, 1),
    "no batches of networks, a gradient for each": ([NETWORKS, BATCHES], 1, 0),
    "no networks of batches": ([BATCHES, NETWORKS], 1, 1),
    "no networks of networks": ([NETWORKS, NETWORKS], 0, 2),
}


@pytest.mark.parametrize("name", tiered(EMPTY, first=["no batches of networks, a gradient for each"]))
def test_a_vmap_over_nothing(name):
    """As that of the scan: results without numbers, and zero where a gradient is a sum over none."""
    levels, empty, at = EMPTY[name]
    several_of = problem(levels)
    outside = levels[empty + 1 :]
    for n, argument in enumerate(NAMES):
        if argument in levels[empty]:
            place = sum(argument in axes for axes in outside)
            several_of[n] = jax.tree.map(lambda a, k=place: jnp.take(a, jnp.arange(0), k), several_of[n])
    found, expected = (
        jax.jit(nested(jax.vmap, partial(loss, backend), levels, at))(*several_of) for backend in ("native", "scan")
    )
    assert jax.tree.map(jnp.shape, found) == jax.tree.map(jnp.shape, expected)
    assert_close(found, expected, gradient=True)


def test_training_of_networks_of_networks_in_a_scan():
    """Seeds times learning rates, in one program."""
    rng = np.random.default_rng(1)
    params, xs, *others = arguments(rng)
    networks = several(rng, params, 0, 2)
    rates = jnp.array([0.1, 0.03, 0.0])

    def train(map_of, params, xs):
        gradient = jax.value_and_grad(lambda params, xs: loss("native", params, xs, *others))

        def step(params, rate, xs):
            value, slopes = gradient(params, xs)
            return jax.tree.map(lambda a, d: a - rate * d, params, slopes), value

        of_rates = map_of(step, (0, 0, None))
        of_all = map_of(of_rates, (0, None, None))

        def epoch(params, xs):
            return of_all(params, rates, xs)

        return epoch(params, xs) if map_of is looped else jax.lax.scan(epoch, params, xs)

    start = jax.tree.map(lambda a: jnp.stack([a] * 3, 1), networks)
    series = jnp.stack([xs, -xs])
    program = jax.jit(partial(train, jax.vmap)).lower(start, series).compile()
    assert calls(program) == (1, 1, 1)  # the loop is that of the epochs
    after, values = start, []
    for xs in series:
        after, value = train(looped, after, xs)
        values.append(value)
    assert_close(program(start, series), (after, jnp.stack(values)), gradient=True)


HIGHER = {
    "jvp": lambda f: lambda a: jax.jvp(f, (a,), (jnp.cos(a),))[1],
    "hessian": jax.hessian,
    "gradients of several outputs": lambda f: jax.jacrev(lambda a: jnp.stack([f(a), f(2 * a)])),
}


@pytest.mark.parametrize("name", tiered(HIGHER, first=["hessian"]))
def test_other_derivatives_under_two_vmaps_are_those_of_the_scan(name):
    levels = [NETWORKS, {"xs": 0, "mask": 0}]
    params, *others = problem(levels)

    def of_bias(backend, bias, params, *others):
        return HIGHER[name](lambda b: loss(backend, params._replace(b=b), *others))(bias)

    actual, expected = (
        jax.jit(jax.vmap(jax.vmap(partial(of_bias, backend), (0, *in_axes(levels[0]))), (None, *in_axes(levels[1]))))(
            params.b, params, *others
        )
        for backend in ("native", "scan")
    )
    assert_close(actual, expected, gradient=True)


MANY = native_call.MANY
KEPT = {  # sizes of the two levels, and which of them have networks
    "networks of many networks": ([NETWORKS, NETWORKS], (MANY, 2), 0),
    "many networks of networks": ([NETWORKS, NETWORKS], (2, MANY // 2), 0),
    "batches of many networks": ([NETWORKS, BATCHES], (MANY, 2), 2),
    "many networks of batches": ([BATCHES, NETWORKS], (2, MANY), 2),
    "a gradient for each batch of many networks": ([NETWORKS, BATCHES], (MANY, 3), 0),
    "many networks of batches, a gradient for each": ([BATCHES, NETWORKS], (3, MANY), 0),
}


@pytest.mark.parametrize("name", tiered(KEPT, first=["networks of many networks"]))
def test_what_many_networks_save_stays_in_the_library(monkeypatch, name):
    """Or, where their examples have gradients of their own, is computed again."""
    levels, sizes, at = KEPT[name]
    rng = np.random.default_rng(3)
    several_of = list(arguments(rng))
    for size, axes in zip(sizes, levels, strict=True):
        several_of = [
            several(rng, a, axes[which], size) if which in axes else a
            for which, a in zip(NAMES, several_of, strict=True)
        ]
    results = []
    for large in (0, 2**60):
        monkeypatch.setattr(native_call, "LARGE", large)
        traced_anew = partial(loss, "native", unroll=2 if large else 1)  # JAX has the other one's in its caches
        program = jax.jit(nested(jax.vmap, traced_anew, levels, at)).lower(*several_of).compile()
        assert calls(program) == (1, 1, 0)
        assert (f",{T},4,{H}]" in program.as_text()) == (large > 0)  # the gates of all steps
        results.append(program(*several_of))
    assert_close(*results, gradient=True)
