"""Gradients at every step against the oracle moved by complex numbers, and by central differences of what is re-run."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from against import B, H, I, T, draw_params, random_like
from test_cells import TINY, drawn, numbers
from tolerances import DIFFERENCE, assert_close

from lstmjax import Bidirectional, Dense, NetworkParams, Step, Zoneout, init_params, lstm
from lstmjax.inside import gradient_flow, norms, trace
from lstmjax.oracle_cells import STEPS

MASK = np.array([[0, 1, 0, 1, 1], [1, 1, 1, 1, 0], [0, 0, 0, 0, 0]], bool)


def weighted(weights):
    """A loss of outputs that answers to each of them differently."""
    return lambda ys: jnp.sum(jnp.sin(ys) * weights)


def of_oracle(cell, params, xs, state, weights, blocks):
    """∂L/∂h_t, ∂L/∂c_t and ∂L/∂z_t of one sequence, each number moved by itself at one step.

    z is moved by the bias of that step; c by z_g, of which it is c = … + i g(z_g); h after the step.
    """

    def loss(at, name, unit, size):
        s, total = state, 0.0
        for t, x in enumerate(xs):
            p, here = params, t == at
            if here and name[0] == "z":
                b = np.array(params.b, complex)
                b[blocks.index(name[-1]), unit] += 1j * size
                p = params._replace(b=b)
            step, s = STEPS[cell](p, x, s)
            if here and name == "h":
                h = np.array(step.h, complex)
                h[unit] += 1j * size
                step, s = step._replace(h=h), (h, *s[1:])
            total = total + np.sum(np.sin(step.h) * weights[t])
        return total.imag / TINY

    plain, s = [], state
    for x in xs:
        step, s = STEPS[cell](params, x, s)
        plain.append(step)
    found = {}
    for name in ("h", *(f"z_{block}" for block in blocks)):
        width = plain[0].h.size if name == "h" else H
        found[name] = np.array([[loss(t, name, n, TINY) for n in range(width)] for t in range(len(xs))])
    slope = np.stack([step.i * (1 - step.g**2) for step in plain])
    moved = [[loss(t, "z_g", n, TINY / slope[t, n]) for n in range(H)] for t in range(len(xs))]
    return found | {"c": np.array(moved)}


@pytest.mark.parametrize(
    ("cell", "blocks"), [("vanilla", "ifgo"), ("peephole", "ifgo"), ("cifg", "igo"), ("projection", "ifgo")]
)
@pytest.mark.usefixtures("x64")
def test_every_gradient_is_what_the_oracle_answers(cell, blocks):
    params, xs, state = drawn(cell)
    weights = np.random.default_rng(1).normal(size=(B, T, params.output_size))
    flow = gradient_flow(params, xs, weighted(weights), state, cell=cell)
    assert (flow.z_f is None) == ("f" not in blocks)
    assert flow.i is None
    assert flow.m is None
    each = numbers(params), np.asarray(xs[1]), tuple(numbers(s)[1] for s in state), weights[1]
    expected = of_oracle(cell, *each, blocks)
    for name, value in expected.items():
        assert_close(getattr(flow, name)[1], value, gradient=True)


def drawn_stack(seed=0, dtype=None):
    """A pair, a layer with a projection on top, and a head."""
    rng = np.random.default_rng(seed)
    pair = Bidirectional(draw_params(rng, I, 3, dtype=dtype), draw_params(rng, I, 3, dtype=dtype))
    top = draw_params(rng, 6, H, width=2, dtype=dtype)
    head = Dense(*(jnp.asarray(rng.normal(size=shape), dtype) for shape in ((2, 3), (3,))))
    return NetworkParams((pair, top), head), jnp.asarray(rng.normal(size=(B, T, I)), dtype)


@pytest.mark.usefixtures("x64")
def test_the_flow_through_a_network_is_the_slope_of_its_loss():
    """Along a random direction in all values of all layers; trace and a head written out give the loss."""
    params, xs = drawn_stack()
    rng, lengths = np.random.default_rng(1), np.array([5, 3, 1])
    weights = rng.normal(size=(B, 3))
    fields = ("i", "f", "g", "o", "m", "h", "c", "z_i", "z_f", "z_g", "z_o")
    flow = gradient_flow(params, xs, weighted(weights), lengths=lengths, fields=fields)
    direction = random_like(rng, flow)

    @jax.jit
    def loss(size):
        moved = jax.tree.map(lambda d: size * d, direction)
        h = trace(params, xs, lengths=lengths, perturb=moved, fields="h")[-1].h
        logits = h[np.arange(B), lengths - 1] @ params.head.w + params.head.b[None]
        return jnp.sum(jnp.sin(logits) * weights)

    slope = (loss(1e-5) - loss(-1e-5)) / 2e-5
    products = jax.tree.map(lambda a, b: (a * b).sum(), flow, direction)
    total = sum(jax.tree.leaves(products))
    assert abs(total - slope) < 10 * DIFFERENCE * max(1.0, abs(slope))
    invalid = np.arange(T) >= lengths[:, None]
    for a in jax.tree.leaves(flow):
        assert not np.asarray(a)[invalid].any()
        assert np.asarray(a)[0].any()


@pytest.mark.usefixtures("x64")
def test_a_pair_is_two_layers_and_a_stack_is_its_network_without_a_head():
    params, xs = drawn_stack()
    rng = np.random.default_rng(2)
    weights = rng.normal(size=(B, T, 3))
    ahead, back = params.layers[0]

    def of_pair(ys):
        return jnp.sum(jnp.sin(ys[..., :3]) * weights)

    pair = gradient_flow((params.layers[0],), xs, of_pair, mask=MASK)[0]
    assert_close(pair.forward, gradient_flow(ahead, xs, weighted(weights), mask=MASK), gradient=True)
    assert not any(np.asarray(a).any() for a in jax.tree.leaves(pair.reverse))
    of_reverse = gradient_flow((params.layers[0],), xs, lambda ys: of_pair(ys[..., 3:]), mask=MASK)[0].reverse
    alone = gradient_flow(back, xs, weighted(weights), mask=MASK, reverse=True)
    assert_close(of_reverse, alone, gradient=True)
    whole = gradient_flow(params, xs, weighted(weights), return_sequences=True)
    headless = gradient_flow(
        params.layers, xs, lambda ys: weighted(weights)(ys @ params.head.w + params.head.b[None, None])
    )
    assert_close(whole, headless, gradient=True)


@pytest.mark.usefixtures("x64")
def test_the_gradient_of_weights_is_made_of_the_flow():
    """∂L/∂b is the sum of ∂L/∂z over steps and sequences; with a wrapper, resets and time first."""
    rng = np.random.default_rng(3)
    params, xs = draw_params(rng, I, H), jnp.asarray(rng.normal(size=(T, B, I)))
    how = {"wrappers": (Zoneout(0.2, 0.3),), "resets": MASK.T, "time_major": True}
    loss = weighted(rng.normal(size=(T, B, H)))
    flow = gradient_flow(params, xs, loss, **how)
    expected = jax.jit(jax.grad(lambda p: loss(lstm(p, xs, **how)[1])))(params)
    stack = jnp.stack([flow.z_i, flow.z_f, flow.z_g, flow.z_o])
    assert_close(stack.sum((1, 2)), expected.b, gradient=True)


@pytest.mark.thorough
def test_flow_under_jit_and_vmap_and_in_float32():
    params, xs = drawn_stack(dtype=jnp.float32)
    flow = partial(gradient_flow, params, loss=lambda logits: jnp.sin(logits).sum())
    assert_close(jax.jit(jax.vmap(flow))(xs), flow(xs), dtype="float32", gradient=True)


def test_norms_are_over_units():
    flow = Step(*[None] * 11)._replace(h=jnp.array([[3.0, 4.0]]), c=jnp.zeros((1, 3)))
    assert norms(flow).h.tolist() == [5.0]
    assert norms(flow).c.tolist() == [0.0]
    assert norms((flow, Bidirectional(flow, flow)))[1].reverse.h.shape == (1,)


def test_norms_of_what_has_nearly_vanished_are_not_zero():
    small = np.float32([[3e-30, 4e-30], [0, 0], [np.inf, 1], [np.nan, 1]])
    np.testing.assert_allclose(norms(jnp.asarray(small)), np.float32([5e-30, 0, np.inf, np.nan]), rtol=1e-6)
    half = norms(jnp.array([[3e-5, 4e-5]], jnp.float16))  # the squares are below what float16 has
    assert half.dtype == jnp.float32
    np.testing.assert_allclose(half, [5e-5], rtol=1e-2)


PARAMS = init_params(jax.random.key(0), I, H)
XS = jnp.zeros((B, T, I))


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: gradient_flow(PARAMS, XS, lambda ys: ys[:, -1]), ValueError, r"loss gives float32 \(3, 4\), expected"),
        (lambda: gradient_flow(PARAMS, XS, lambda ys: None), ValueError, "loss gives None, expected one floating"),
        (lambda: gradient_flow(PARAMS, XS, jnp.sum, fields="q"), ValueError, "fields is 'q', expected one of"),
        (lambda: gradient_flow((PARAMS,), XS, jnp.sum, reverse=True), ValueError, "reverse is for LSTMParams"),
        (lambda: gradient_flow(PARAMS, XS[0, 0], jnp.sum), ValueError, "One step alone is a sequence of length 1"),
    ],
)
def test_messages(call, error, words):
    with pytest.raises(error, match=words):
        call()
