"""`stacked` against the oracle, and dropout between its layers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from against import B, H, I, T, check_stack, draw_params, draw_state
from tiers import tiered
from tolerances import assert_close

from lstmjax import Bidirectional, Dense, NetworkParams, init_stacked, lstm, network, stacked, verify
from lstmjax.inside import gate_statistics, gradient_flow, trace

pytestmark = pytest.mark.usefixtures("x64")

MASK = np.array([[0, 1, 0, 1, 1], [1, 1, 1, 1, 0], [0, 0, 0, 0, 0]], bool)
RESETS = np.array([[1, 0, 1, 1, 0], [0, 1, 0, 1, 1], [0, 1, 0, 0, 0]], bool)


def drawn(kind, seed=0):
    rng = np.random.default_rng(seed)

    def pair(inputs, hidden, **how):
        return Bidirectional(draw_params(rng, inputs, hidden, **how), draw_params(rng, inputs, hidden, **how))

    layers = {
        "sizes": lambda: (
            draw_params(rng, I, 4), draw_params(rng, 4, 3, width=6), draw_params(rng, 6, 5, biases=2),
        ),
        "pairs": lambda: (pair(I, 4), draw_params(rng, 8, 3), pair(3, 2, width=5)),
        "summed": lambda: (pair(I, H), draw_params(rng, H, H), pair(H, H, biases=2)),
    }[kind]()  # fmt: skip
    xs = jnp.asarray(rng.normal(size=(B, T, I)))
    return layers, xs, draw_state(rng, layers), draw_state(rng, layers)


def run(layers, xs, state=None, **options):
    return jax.jit(lambda *arrays: stacked(*arrays, **options))(layers, xs, state)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("sizes", {"mask": MASK, "resets": RESETS}),
        ("sizes", {"lengths": np.array([5, 3, 0]), "padding": "hold", "emit": "step"}),
        ("pairs", {"mask": MASK, "resets": RESETS, "lengths": np.array([4, 5, 2])}),
        pytest.param("pairs", {"mask": MASK, "padding": "hold", "emit": "step"}, marks=pytest.mark.thorough),
        pytest.param("summed", {"merge": "sum"}, marks=pytest.mark.thorough),
        ("summed", {"merge": "sum", "residual": True, "mask": MASK, "resets": RESETS}),
    ],
)
def test_a_stack_equals_the_oracle(kind, options):
    check_stack(*drawn(kind), **options)


def test_one_layer_is_lstm():
    (layer, *_), xs, (state, *_), _ = drawn("sizes")
    end, ys = jax.jit(lambda *a: lstm(*a, mask=MASK))(layer, xs, state)
    assert_close(run((layer,), xs, (state,), mask=MASK), ((end,), ys))


@pytest.mark.parametrize("kind", tiered(["one", "pair", "fed back"], first=["pair"]))
def test_a_single_layer_takes_its_state_alone(kind):
    """What has one layer takes (h, c) as it takes ((h, c),), wherever a state goes in."""
    cell = "fgr" if kind == "fed back" else "vanilla"
    layers = init_stacked(jax.random.key(3), I, H, bidirectional=kind == "pair", cell=cell, dtype=jnp.float64)
    xs = jnp.asarray(np.random.default_rng(1).normal(size=(B, T, I)))
    once = jax.tree.map(lambda a: a + 0.5, stacked(layers, xs, cell=cell)[0])
    head = NetworkParams(layers, Dense(jnp.ones((H * (1 + (kind == "pair")), 2)), jnp.zeros(2)))
    runs = {
        "stacked": lambda state: stacked(layers, xs, state, cell=cell, resets=RESETS, reset_state=state),
        "network": lambda state: network(head, xs, state, cell=cell),
        "trace": lambda state: trace(layers, xs, state, cell=cell, fields="c"),
        "gate_statistics": lambda state: gate_statistics(head, xs, state, cell=cell),
        "gradient_flow": lambda state: gradient_flow(head, xs, jnp.sum, state, cell=cell, fields="h"),
    }
    for name, call in runs.items():
        alone, within = (jax.jit(call)(state) for state in (once[0], once))
        assert jax.tree.structure(alone) == jax.tree.structure(within), name
        jax.tree.map(np.testing.assert_array_equal, alone, within)


def test_verify_takes_the_state_of_a_single_layer_alone():
    (layer,), xs = (
        init_stacked(jax.random.key(3), I, H, dtype=jnp.float64),
        np.random.default_rng(1).normal(size=(B, T, I)),
    )
    state = (np.full((B, H), 0.3), np.full((B, H), -0.7))
    for params in (layer, (layer,)):
        assert verify(lstm(layer, xs, state)[1], xs, params=params, state=state)
    assert not verify(lstm(layer, xs, state)[1], xs, params=layer, state=state[::-1])


def test_lists_are_taken_for_tuples():
    layers, xs, state, _ = drawn("sizes")
    assert_close(run(list(layers), xs, state), run(layers, xs, state))


@pytest.mark.parametrize("kind", ["sizes", "pairs"])
def test_the_last_of_a_stack_is_the_last_each_direction_processed(kind):
    layers, xs, state, _ = drawn(kind)
    mask = MASK | (np.arange(B)[:, None] == 2)
    _, ys = run(layers, xs, state, mask=mask)
    _, last = run(layers, xs, state, mask=mask, return_sequences=False)
    late, early = T - 1 - mask[:, ::-1].argmax(1), mask.argmax(1)
    width = ys.shape[-1] // 2
    ahead, back = ys[np.arange(B), late], ys[np.arange(B), early]
    expected = ahead if kind == "sizes" else jnp.concatenate([ahead[:, :width], back[:, width:]], -1)
    assert_close(last, expected)


@pytest.mark.parametrize("mask", [None, MASK])
def test_the_last_of_a_residual_stack_is_the_last_valid_sum(mask):
    rng = np.random.default_rng(0)
    layers, xs = (draw_params(rng), draw_params(rng, H)), jnp.asarray(rng.normal(size=(B, T, I)))
    _, ys = run(layers, xs, residual=True, mask=mask)
    _, last = run(layers, xs, residual=True, mask=mask, return_sequences=False)
    at = np.array([4, 3, 0]) if mask is not None else np.full(B, T - 1)
    assert_close(last, ys[np.arange(B), at])


def test_chunks_of_a_stack_give_what_one_pass_gives():
    layers, xs, state, again = drawn("sizes")
    end, ys = run(layers, xs, state, resets=RESETS, reset_state=again)
    parts = []
    for part in (slice(0, 2), slice(2, T)):
        state, y = run(layers, xs[:, part], state, resets=RESETS[:, part], reset_state=again)
        parts.append(y)
    assert_close((state, jnp.concatenate(parts, axis=1)), (end, ys))


def test_time_major_is_the_same_with_time_first():
    layers, xs, state, _ = drawn("pairs")
    end, ys = run(layers, xs, state, mask=MASK, resets=RESETS)
    swapped = run(layers, jnp.swapaxes(xs, 0, 1), state, mask=MASK.T, resets=RESETS.T, time_major=True)
    assert_close(swapped, (end, jnp.swapaxes(ys, 0, 1)))


def test_nan_in_padding_reaches_no_layer():
    layers, xs, *_ = drawn("summed")

    @jax.jit
    def both(xs):
        def loss(layers, xs):
            return (stacked(layers, xs, mask=MASK, merge="sum", residual=True)[1] ** 2).sum()

        return jax.value_and_grad(loss, (0, 1))(layers, xs)

    for poison in (np.nan, np.inf):
        poisoned = both(jnp.where(MASK[..., None], xs, poison))
        for a, e in zip(jax.tree.leaves(poisoned), jax.tree.leaves(both(xs)), strict=True):
            np.testing.assert_array_equal(a, e)


@pytest.mark.parametrize("return_sequences", [True, False])
def test_nothing_to_do_gives_the_initial_states(return_sequences):
    layers, xs, state, again = drawn("pairs")
    options = {"mask": MASK[:, :0], "resets": RESETS[:, :0], "reset_state": again}
    end, ys = run(layers, xs[:, :0], state, return_sequences=return_sequences, **options)
    assert_close(end, state)
    if return_sequences:
        assert ys.shape == (B, 0, 10)
    else:
        np.testing.assert_array_equal(ys, np.concatenate([state[2].forward[0], state[2].reverse[0]], -1))


# Dropout between layers


def identity_layers(width):
    """Two layers; the upper one's outputs tell what came in: o = σ(x) with the recurrent part at zero."""
    rng = np.random.default_rng(0)
    below = draw_params(rng, I, width)
    above = jax.tree.map(jnp.zeros_like, draw_params(rng, width, width))
    return below, above._replace(w_x=above.w_x.at[:, 3].set(jnp.eye(width)))


def test_dropout_between_layers_drops_at_its_rate_and_scales_what_stays():
    width, rate = 40, 0.3
    layers, xs = identity_layers(width), jnp.asarray(np.random.default_rng(1).normal(size=(B, 50, I)))
    (_, hs), (_, steps) = run(layers[:1], xs), run(layers, xs, emit="step", dropout=rate, key=jax.random.key(2))
    ratio = np.asarray(steps.z_o / hs)
    dropped = ratio == 0
    np.testing.assert_allclose(ratio[~dropped], 1 / (1 - rate), rtol=1e-10)
    bound = 4 * np.sqrt(rate * (1 - rate) / dropped.size)  # four standard deviations
    assert abs(dropped.mean() - rate) < bound
    for axis in range(3):  # drawn anew for every sequence, step and unit
        assert np.any(np.diff(dropped, axis=axis))


def test_dropout_is_for_training_only_and_not_after_the_last_layer():
    layers, xs, state, _ = drawn("pairs")
    plain = run(layers, xs, state)
    assert_close(run(layers, xs, state, dropout=0.5), plain)
    assert_close(run(layers, xs, state, dropout=0.0, key=jax.random.key(0)), plain)
    assert_close(run(layers[:1], xs, state[:1], dropout=0.9, key=jax.random.key(0)), run(layers[:1], xs, state[:1]))


def test_the_same_key_draws_the_same_and_another_key_another():
    layers, xs, *_ = drawn("pairs")
    draw = jax.jit(lambda key: stacked(layers, xs, dropout=0.5, key=key)[1])
    one, same, other = (draw(jax.random.key(k)) for k in (0, 0, 1))
    np.testing.assert_array_equal(one, same)
    assert np.abs(one - other).max() > 1e-3


def test_layers_of_several_dtypes_are_cast_before_they_are_compared():
    layers = draw_params(np.random.default_rng(0)), draw_params(np.random.default_rng(1), H)
    xs = jnp.asarray(np.random.default_rng(2).normal(size=(B, T, I)), jnp.float32)
    mixed = layers[0]._replace(b=layers[0].b.astype(jnp.bfloat16)), layers[1]
    exact = layers[0]._replace(b=mixed[0].b.astype(jnp.float32)), layers[1]
    _, ys = stacked(mixed, xs, dtype=jnp.float32)
    np.testing.assert_array_equal(ys, stacked(exact, xs, dtype=jnp.float32)[1])
