"""The oracle is checked by itself: its gradients by finite differences, its values by hand."""

import ast
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from tolerances import DIFFERENCE

from lstmjax import oracle
from lstmjax.oracle import Steps

T, I, H, P = 6, 2, 3, 5


class Params(NamedTuple):
    w_x: np.ndarray
    w_h: np.ndarray
    b: np.ndarray | None = None
    b_h: np.ndarray | None = None
    w_p: np.ndarray | None = None
    b_p: np.ndarray | None = None


class Pair(NamedTuple):
    forward: object
    reverse: object


def draw(rng, inputs, hidden, width=None, biases=1, projection_bias=False):
    fields = [rng.normal(size=s) * 0.7 for s in ((inputs, 4, hidden), (width or hidden, 4, hidden))]
    fields += [rng.normal(size=(4, hidden)) if n < biases else None for n in range(2)]
    w_p = None if width is None else rng.normal(size=(hidden, width))
    return Params(*fields, w_p, rng.normal(size=width) if projection_bias else None)


def leaves(tree):
    if tree is None:
        return []
    return [tree] if isinstance(tree, np.ndarray) else [leaf for part in tree for leaf in leaves(part)]


def check_differences(run, arguments, rng):
    """Compares `pull` with central differences along every single coordinate of every argument."""
    (state, ys), pull = run(*arguments)
    d_state, d_ys = ([rng.normal(size=np.shape(a)) for a in leaves(part)] for part in (state, ys))
    number = iter(d_state)
    shaped = _like(state, number)

    def loss():
        (state, ys), _ = run(*arguments)
        return sum(np.sum(d * a) for d, a in zip(d_state + d_ys, leaves(state) + leaves(ys), strict=True))

    grads = pull(shaped, Steps(*d_ys))
    delta = 1e-5
    for value, grad in zip(leaves(arguments), leaves(grads), strict=True):
        assert np.shape(value) == np.shape(grad)
        numeric = np.zeros_like(value)
        for at in np.ndindex(value.shape):
            kept = value[at]
            value[at] = kept + delta
            above = loss()
            value[at] = kept - delta
            numeric[at] = (above - loss()) / (2 * delta)
            value[at] = kept
        assert np.abs(numeric - grad).max() <= DIFFERENCE * max(1.0, np.abs(numeric).max())


def _like(tree, values):
    return next(values) if isinstance(tree, np.ndarray) else _rebuild(tree, [_like(part, values) for part in tree])


def _rebuild(tree, parts):
    return type(tree)(*parts) if hasattr(tree, "_fields") else tuple(parts)


HOLES = np.array([0, 1, 1, 0, 1, 1], bool)
FLAGS = np.array([0, 0, 1, 1, 0, 1], bool)

LAYERS = {
    "plain": {},
    "projection": {"width": P},
    "no-bias": {"biases": 0},
    "two-biases-projection": {"biases": 2, "width": P},
    "projection-bias": {"width": P, "projection_bias": True},
}
OPTIONS = {
    "plain": {},
    "reverse": {"reverse": True},
    "mask": {"mask": HOLES, "lengths": 5},
    "mask-hold": {"mask": HOLES, "padding": "hold"},
    "mask-hold-reverse": {"mask": HOLES, "padding": "hold", "reverse": True},
    "resets": {"resets": FLAGS},
    "resets-mask-reverse": {"resets": FLAGS, "mask": HOLES, "reverse": True},
    "last": {"return_sequences": False, "lengths": 4},
    "nothing": {"return_sequences": False, "lengths": 0},
    "zoneout": {"zoneout": (0.2, 0.4), "resets": FLAGS},
    "dropout": {"dropout": np.array([2.0, 0.0, 2.0])},
}


@pytest.mark.parametrize(
    ("layer", "options"), [("plain", o) for o in OPTIONS] + [(name, "resets-mask-reverse") for name in LAYERS]
)
def test_gradients_of_a_layer_are_finite_differences(layer, options):
    rng = np.random.default_rng(0)
    params = draw(rng, I, H, **LAYERS[layer])
    width = params.w_h.shape[0]
    states = [(rng.normal(size=width), rng.normal(size=H)) for _ in range(2)]

    def run(params, xs, state, reset_state):
        return oracle.lstm(params, xs, state, reset_state=reset_state, **OPTIONS[options])

    check_differences(run, (params, rng.normal(size=(T, I)), *states), rng)


def test_gradients_with_drawn_zoneout_are_finite_differences():
    rng = np.random.default_rng(1)
    kept = rng.random((T, P)) < 0.5, rng.random((T, H)) < 0.5
    states = [(rng.normal(size=P), rng.normal(size=H)) for _ in range(2)]

    def run(params, xs, state, reset_state):
        return oracle.lstm(params, xs, state, reset_state=reset_state, zoneout=tuple(k * 1.0 for k in kept))

    check_differences(run, (draw(rng, I, H, P), rng.normal(size=(T, I)), *states), rng)


@pytest.mark.parametrize(("merge", "residual", "padding"), [("sum", True, "hold")])
def test_gradients_of_a_stack_are_finite_differences(merge, residual, padding):
    rng = np.random.default_rng(2)
    wide = 2 * H if merge == "concat" else H
    layers = (Pair(draw(rng, I, H), draw(rng, I, H)), draw(rng, wide, H, biases=2))
    layers += (Pair(draw(rng, H, 2, H), draw(rng, H, 2, H)),)

    def state(layer):
        if isinstance(layer, Pair):
            return Pair(state(layer.forward), state(layer.reverse))
        return tuple(rng.normal(size=n) for n in (layer.w_h.shape[0], layer.w_h.shape[-1]))

    def run(layers, xs, begin, again):
        return oracle.stacked(
            layers, xs, begin, reset_state=again, mask=HOLES, resets=FLAGS,
            merge=merge, residual=residual, padding=padding,
        )  # fmt: skip

    check_differences(run, (layers, rng.normal(size=(T, I)), *(tuple(map(state, layers)) for _ in range(2))), rng)


def test_one_unit_by_hand():
    """z = 0.5·x: σ(0.5) = 0.6224593, tanh(0.5) = 0.4621172; c = 0.2876491, h = 0.1742697."""
    params = Params(np.full((1, 4, 1), 0.5), np.zeros((1, 4, 1)))
    (_, ys), _ = oracle.lstm(params, np.ones((1, 1)))
    np.testing.assert_allclose([ys.i[0, 0], ys.g[0, 0]], [0.6224593, 0.4621172], atol=1e-7)
    np.testing.assert_allclose([ys.c[0, 0], ys.h[0, 0]], [0.2876491, 0.1742697], atol=1e-7)


def test_large_arguments_do_not_overflow():
    np.testing.assert_array_equal(oracle.sigmoid(np.array([-1e4, 0.0, 1e4])), [0.0, 0.5, 1.0])


def test_the_oracle_knows_nothing_of_jax_or_of_the_library():
    names = set()
    for node in ast.walk(ast.parse(Path(oracle.__file__).read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module)
    assert names == {"__future__", "collections.abc", "typing", "numpy"}
