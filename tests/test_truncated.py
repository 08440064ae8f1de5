"""Truncated BPTT against a loop in Python that unrolls every step, and against the exact gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from against import draw_params, draw_state
from tiers import tiered
from tolerances import assert_close

from lstmjax import Zoneout, cell_step, init_network, lstm, network, stacked, truncated_gradient

T, B, I, H, O = 11, 3, 2, 4, 5


def drawn(seed, features=H, steps=T):
    rng = np.random.default_rng(seed)
    params = draw_params(rng)
    xs, targets = (jnp.asarray(rng.normal(size=(B, steps, n))) for n in (I, features))
    return params, draw_state(rng, params), (xs, targets)


def of_layer(params, state, inputs):
    xs, targets = inputs
    state, ys = lstm(params, xs, state)
    return jnp.square(ys - targets).sum(), state


def by_hand(params, state, inputs, segment, reach):
    """Each segment's loss unrolled from where its gradient ends, the state there being a constant."""
    xs, targets = inputs
    steps = xs.shape[1]
    states = [state]
    for t in range(steps):
        states.append(cell_step(params, states[t], xs[:, t])[0])

    def one(params, first, begin, end):
        state, total = jax.lax.stop_gradient(states[first]), 0.0
        for t in range(first, end):
            state, y = cell_step(params, state, xs[:, t])
            total += jnp.square(y - targets[:, t]).sum() if t >= begin else 0.0
        return total

    total, gradient = 0.0, jax.tree.map(jnp.zeros_like, params)
    for begin in range(0, steps, segment):
        end = min(begin + segment, steps)
        value, slope = jax.value_and_grad(one)(params, max(begin + segment - reach, 0), begin, end)
        total, gradient = total + value, jax.tree.map(jnp.add, gradient, slope)
    return total, gradient, states[-1]


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(("segment", "reach"), tiered([(3, 3), (4, 8), (1, 4)], first=[(4, 8)]))
def test_the_gradient_is_cut_where_it_is_said(segment, reach):
    """None of these divides T = 11 but 1."""
    arguments = drawn(0)
    value, gradient, state = jax.jit(lambda *a: truncated_gradient(of_layer, *a, segment=segment, reach=reach))(
        *arguments
    )
    expected = jax.jit(lambda *a: by_hand(*a, segment, reach))(*arguments)
    assert_close((value, state), expected[::2])
    assert_close(gradient, expected[1], gradient=True)
    whole = jax.jit(jax.grad(lambda p, *a: of_layer(p, *a)[0]))(*arguments)
    assert np.abs(gradient.w_h - whole.w_h).max() > 1e-3 * np.abs(whole.w_h).max()  # it does make a difference


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("options", [{}, {"segment": T}, {"segment": T + 3}, {"segment": 4, "reach": 12}])
def test_what_reaches_to_the_first_step_is_the_exact_gradient(options):
    params, state, inputs = drawn(1)
    (value, end), exact = jax.jit(jax.value_and_grad(of_layer, has_aux=True))(params, state, inputs)
    given = jax.jit(lambda *a: truncated_gradient(of_layer, *a, **options))(params, state, inputs)
    assert_close((given[0], given[2]), (value, end))
    assert_close(given[1], exact, gradient=True)


@pytest.mark.usefixtures("x64")
def test_one_segment_at_a_time_is_all_of_them():
    """With the same parameters throughout; a loop that changes them between the calls is ordinary training."""
    params, state, (xs, targets) = drawn(2)
    both = jax.jit(lambda *a: truncated_gradient(of_layer, *a, segment=4))
    whole = both(params, state, (xs, targets))
    total, gradient = 0.0, jax.tree.map(jnp.zeros_like, params)
    for t in range(0, T, 4):
        part = xs[:, t : t + 4], targets[:, t : t + 4]
        value, slope, state = jax.jit(lambda *a: truncated_gradient(of_layer, *a))(params, state, part)
        total, gradient = total + value, jax.tree.map(jnp.add, gradient, slope)
    assert_close((total, gradient, state), whole, gradient=True)


def of_network(params, state, inputs):
    xs, targets, valid = inputs
    state, ys = network(params, xs, state, mask=valid, return_sequences=True)
    return jnp.where(valid[..., None], jnp.square(ys - targets), 0).sum(), state


def of_stack(layers, state, inputs):
    state, ys = stacked(layers, inputs["x"], state, time_major=True, residual=True)
    return jnp.square(ys - inputs["y"]).sum(), state


@pytest.mark.parametrize("reach", tiered([2, 4], first=[4]))
def test_layers_and_networks_begin_with_zeros(reach):
    rng = np.random.default_rng(3)
    xs, targets = (jnp.asarray(rng.normal(size=(B, T, n)), jnp.float32) for n in (I, O))
    valid = jnp.arange(T)[None] < jnp.array([[T], [4], [0]])
    params = init_network(jax.random.key(0), I, H, O, 2)
    value, gradient, state = jax.jit(lambda *a: truncated_gradient(of_network, *a, segment=2, reach=reach))(
        params, None, (xs, targets, valid)
    )
    expected, end = jax.jit(of_network)(params, None, (xs, targets, valid))
    assert_close((value, state), (expected, end))
    first = jax.jit(jax.grad(lambda p: of_network(p, None, (xs[:, :2], targets[:, :2], valid[:, :2]))[0]))(params)
    alone = jax.jit(lambda *a: truncated_gradient(of_network, *a, reach=reach, segment=reach))(
        params, None, (xs[:, :2], targets[:, :2], valid[:, :2])
    )
    assert_close(alone[1], first, gradient=True)
    assert jax.tree.structure(gradient) == jax.tree.structure(params)


def test_a_stack_with_time_first_and_a_state_without_batch():
    rng = np.random.default_rng(4)
    layers = (draw_params(rng, dtype=jnp.float32), draw_params(rng, H, dtype=jnp.float32))
    inputs = {"x": jnp.asarray(rng.normal(size=(T, B, I)), jnp.float32), "y": jnp.ones((T, B, H))}
    state = jax.tree.map(lambda a: a.astype(jnp.float32), draw_state(rng, layers, ()))
    value, _, end = jax.jit(lambda *a: truncated_gradient(of_stack, *a, segment=3, axis=0))(layers, state, inputs)
    assert_close((value, end), jax.jit(of_stack)(layers, state, inputs))


@pytest.mark.thorough
def test_a_random_key_goes_along_in_the_state():
    params, state, inputs = drawn(8)

    def noisy(params, state, inputs):
        key, now = jax.random.split(state[1])
        state, ys = lstm(params, inputs[0], state[0], key=now, wrappers=(Zoneout(0.2, 0.1),))
        return jnp.square(ys - inputs[1]).sum(), (state, key)

    key = jax.random.key(0)
    value, _, (_, end) = jax.jit(lambda *a: truncated_gradient(noisy, *a, segment=6))(params, (state, key), inputs)
    parts = [jax.tree.map(lambda a, t=t: a[:, t : t + 6], inputs) for t in (0, 6)]
    first, state = jax.jit(noisy)(params, (state, key), parts[0])
    second, state = jax.jit(noisy)(params, state, parts[1])
    assert_close(value, first + second)
    assert jnp.array_equal(jax.random.key_data(end), jax.random.key_data(state[1]))


def test_no_steps_are_no_loss():
    params, state, inputs = drawn(5, steps=0)
    value, gradient, end = truncated_gradient(of_layer, params, state, inputs, segment=3, reach=6)
    assert value == 0
    assert_close((gradient, end), (jax.tree.map(jnp.zeros_like, params), state))


def test_memory_does_not_grow_with_time():
    params = draw_params(np.random.default_rng(6), I, 64, dtype=jnp.float32)

    def size(steps):
        inputs = jax.ShapeDtypeStruct((8, steps, I), jnp.float32), jax.ShapeDtypeStruct((8, steps, 64), jnp.float32)
        run = jax.jit(lambda *a: truncated_gradient(of_layer, a[0], None, a[1], segment=20))
        return run.lower(params, inputs).compile().memory_analysis().temp_size_in_bytes

    assert size(10_000) < 1.01 * size(1_000)


PARAMS, STATE, INPUTS = drawn(7)
MESSAGES = {
    "reach": (
        {"segment": 4, "reach": 10},
        ValueError,
        "reach is 10, expected a multiple of segment = 4: the gradient is cut where segments begin. Pass reach=8, or "
        "a segment that divides 10.",
    ),
    "segment": ({"segment": 0}, ValueError, "segment is 0, expected a whole number of at least 1."),
    "axis": (
        {"axis": 2},
        ValueError,
        "inputs has arrays of shapes (3, 11, 2), (3, 11, 4), expected the same number of steps on axis 2 of each. Pass "
        "axis= as time stands, 0 for time first; what has no time goes through params or the loss itself.",
    ),
    "pair": (
        {"loss": lambda p, s, x: of_layer(p, s, x)[0]},
        TypeError,
        "loss gives a ShapeDtypeStruct, expected a pair (value, state): return value, state.",
    ),
    "value": (
        {"loss": lambda p, s, x: (lstm(p, x[0], s)[1], s)},
        ValueError,
        "loss gives an array (3, 11, 4) of float32 as its value, expected one floating-point number: sum over its "
        "steps.",
    ),
    "state": (
        {"loss": lambda p, s, x: (of_layer(p, s, x)[0], s[0])},
        ValueError,
        "state is PyTreeDef((*, *)), but loss gives back PyTreeDef(*); what it takes and what it gives must be alike. "
        "Return (value, state) with the state that the layers gave.",
    ),
}


@pytest.mark.parametrize("name", MESSAGES)
def test_the_message_says(name):
    options, kind, text = MESSAGES[name]
    loss = options.get("loss", of_layer)
    with pytest.raises(kind) as caught:
        truncated_gradient(loss, PARAMS, STATE, INPUTS, **{k: v for k, v in options.items() if k != "loss"})
    assert str(caught.value) == text
