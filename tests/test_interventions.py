"""Interventions against layers whose parameters say the same, and what each unit is worth."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from against import B, H, I, P, T, draw_params, draw_state, run
from tolerances import assert_close

from lstmjax import Bidirectional, Dense, NetworkParams, Zoneout, lstm, network, stacked
from lstmjax.inside import Ablate, Fix, Sample, Scale, ablation, trace
from lstmjax.types import Step

pytestmark = pytest.mark.usefixtures("x64")


def drawn(seed=0, **how):
    rng = np.random.default_rng(seed)
    params = draw_params(rng, **how)
    return params, jnp.asarray(rng.normal(size=(B, T, I))), draw_state(rng, params)


def draw_network(seed=0):
    """Two layers, the lower one in both directions, and a head."""
    rng = np.random.default_rng(seed)
    layers = (Bidirectional(draw_params(rng), draw_params(rng)), draw_params(rng, 2 * H, 3))
    head = Dense(jnp.asarray(rng.normal(size=(3, 2))), jnp.asarray(rng.normal(size=2)))
    return NetworkParams(layers, head), jnp.asarray(rng.normal(size=(B, T, I)))


# Each of them


def test_an_open_forget_gate_and_a_shut_input_gate_keep_c():
    params, xs, state = drawn()
    (_, c), steps = run(params, xs, state, wrappers=(Fix("f", 1.0), Fix("i", 0.0)), emit="step")
    np.testing.assert_array_equal(c, state[1])
    np.testing.assert_array_equal(steps.f, np.ones((B, T, H)))
    np.testing.assert_array_equal(steps.i, np.zeros((B, T, H)))


def test_a_fixed_pre_activation_is_a_bias_without_weights():
    params, xs, state = drawn(1)
    bias = (0.5, -2.0)
    same = params
    for unit, value in zip((0, 3), bias, strict=True):
        gate = (slice(None), 1, unit)
        same = same._replace(
            w_x=same.w_x.at[gate].set(0), w_h=same.w_h.at[gate].set(0), b=same.b.at[1, unit].set(value)
        )
    assert_close(run(params, xs, state, wrappers=(Fix("z_f", bias, units=(0, 3)),)), run(same, xs, state))


def test_a_scaled_pre_activation_is_one_of_scaled_weights():
    params, xs, state = drawn(2)
    same = jax.tree.map(lambda a: a.at[..., 3, 1].multiply(2.5), params._replace(w_p=None))
    assert_close(run(params, xs, state, wrappers=(Scale("z_o", 2.5, units=(1,)),)), run(same, xs, state))
    factors = tuple(float(n) for n in range(H))
    same = jax.tree.map(
        lambda a: a.at[..., 2, :].multiply(jnp.broadcast_to(jnp.array(factors), a[..., 2, :].shape)), params
    )
    assert_close(run(params, xs, state, wrappers=(Scale("z_g", factors),)), run(same, xs, state))


def test_an_ablated_unit_of_h_is_one_that_no_weight_reads():
    params, xs = draw_network()
    without = NetworkParams(
        (
            Bidirectional(
                params.layers[0].forward._replace(w_h=params.layers[0].forward.w_h.at[2].set(0)),
                params.layers[0].reverse._replace(w_h=params.layers[0].reverse.w_h.at[2].set(0)),
            ),
            params.layers[1]._replace(
                w_x=params.layers[1].w_x.at[jnp.array([2, H + 2])].set(0), w_h=params.layers[1].w_h.at[2].set(0)
            ),
        ),
        params.head._replace(w=params.head.w.at[2].set(0)),
    )
    both = jax.jit(lambda p, wrapper: network(p, xs, wrappers=wrapper)[1], static_argnums=1)
    assert_close(both(params, (Ablate("h", (2,)),)), both(without, ()))


def test_an_ablated_unit_may_be_what_it_is_on_average():
    params, xs, _ = drawn(3)
    _, steps = run(params, xs, emit="step", wrappers=(Ablate("c", (1, 2), (0.3, -0.4)),))
    np.testing.assert_allclose(steps.c[..., 1:3], np.broadcast_to([0.3, -0.4], (B, T, 2)))
    np.testing.assert_allclose(steps.m, steps.o * np.tanh(steps.c), rtol=1e-12)


def test_sampled_gates_are_zero_or_one_and_on_average_the_gate():
    params, xs, state = drawn(4)
    keys = jax.random.split(jax.random.key(0), 4000)

    @jax.jit
    def many(keys):
        return jax.vmap(lambda key: lstm(params, xs[:, :1], state, wrappers=(Sample("f"),), key=key, emit="step")[1])(
            keys
        )

    _, plain = run(params, xs[:, :1], state, emit="step")
    steps = many(keys)
    assert set(np.unique(steps.f)) == {0.0, 1.0}
    spread = np.sqrt(np.asarray(plain.f * (1 - plain.f)) / keys.size)
    assert np.all(np.abs(steps.f.mean(0) - plain.f) < 5 * spread)  # five standard deviations
    assert np.all(np.abs(steps.c.mean(0) - plain.c) < 5 * spread * np.abs(state[1][:, None]) + 1e-12)


def test_sampled_gates_without_a_key_are_as_they_were():
    params, xs, state = drawn(5)
    assert_close(run(params, xs, state, wrappers=(Sample("o", units=(1,)),)), run(params, xs, state))
    _, steps = run(params, xs, state, wrappers=(Sample("o", units=(1,)),), key=jax.random.key(1), emit="step")
    assert set(np.unique(steps.o[..., 1])) == {0.0, 1.0}
    assert 0 < steps.o[..., 0].min() < steps.o[..., 0].max() < 1


# Where they stand


@pytest.mark.parametrize("reverse", [False, True])
def test_an_intervention_is_for_its_steps_only(reverse):
    params, xs, state = drawn(6)
    for span in ((1, 3), (2, None)):
        _, steps = run(params, xs, state, wrappers=(Fix("f", 0.25, steps=span),), emit="step", reverse=reverse)
        there = (np.asarray(steps.f) == 0.25).all((0, 2))
        np.testing.assert_array_equal(there, [t in range(T)[slice(*span)] for t in range(T)])


def test_an_intervention_is_for_its_layer_and_direction_only():
    params, xs = draw_network(1)
    own = {"layer": 0, "direction": "reverse"}
    found = trace(params, xs, fields="o", wrappers=(Fix("o", 0.5, units=(3,), **own), Zoneout(0.1, 0.1)))
    fixed = [np.asarray(step.o == 0.5).all((0, 1)).tolist() for step in (*found[0], found[1])]
    assert fixed == [[False] * 4, [False, False, False, True], [False] * 3]
    plain = trace(params, xs, fields="o", wrappers=(Zoneout(0.1, 0.1),))
    np.testing.assert_array_equal(found[0].forward.o, plain[0].forward.o)
    top = trace(params, xs, fields="o", wrappers=(Fix("o", 0.5, layer=1), Zoneout(0.1, 0.1)))
    np.testing.assert_array_equal(top[0].reverse.o, plain[0].reverse.o)
    np.testing.assert_array_equal(top[1].o, np.full((B, T, 3), 0.5))


@pytest.mark.parametrize("reverse", [False, True])
def test_steps_are_those_of_the_whole_sequence_where_it_is_streamed(reverse):
    """A streamed sequence is run in segments of 64 steps."""
    rng = np.random.default_rng(14)
    params, xs = draw_params(rng), jnp.asarray(rng.normal(size=(B, 150, I)))
    arrays = Zoneout(0.5, 0.5), (None, tuple(jnp.asarray(rng.random((150, B, H)) < 0.5) for _ in range(2)))
    how = {"wrappers": (Fix("f", 0.25, steps=(60, 70)), Scale("c", 0.5, steps=(140, None)), arrays), "reverse": reverse}
    streamed = trace(params, xs, reduce=lambda step: (step.f, step.c), **how)
    steps = trace(params, xs, fields=("f", "c"), **how)
    assert_close(streamed, (steps.f.mean(1), steps.c.mean(1)))


def test_several_stand_together_the_first_one_closest_to_the_cell():
    params, xs, state = drawn(7)
    _, steps = run(params, xs, state, wrappers=(Fix("i", 0.5), Scale("i", 0.5)), emit="step")
    np.testing.assert_array_equal(steps.i, np.full((B, T, H), 0.25))


def test_a_coupled_gate_is_changed_after_it_was_coupled():
    params, xs, state = drawn(8)
    cifg = jax.tree.map(lambda a: a[..., 1:, :], params)._replace(w_c=jnp.zeros((2, H)))
    _, steps = run(cifg, xs, state, cell="cifg", wrappers=(Fix("i", 0.9),), emit="step")
    assert not np.allclose(steps.f, 0.1)
    with pytest.raises(
        ValueError, match="gate is 'z_f', but the cell has no such block, so there is nothing to change"
    ):
        lstm(cifg, xs, state, cell="cifg", wrappers=(Fix("z_f", 0.9),))
    with pytest.raises(
        ValueError, match="gate is 'z_f', but the cell has no such block, so there is nothing to change"
    ):
        ablation(lambda wrappers: lstm(cifg, xs, cell="cifg", wrappers=wrappers)[1].sum(), cifg, gate="z_f")


def test_gradients_go_round_what_is_fixed():
    params, xs, state = drawn(9)

    def loss(xs, wrappers):
        return (lstm(params, xs, state, wrappers=wrappers)[0][0] ** 2).sum()

    gradient = jax.jit(jax.grad(loss), static_argnums=1)
    closed = gradient(xs, (Fix("h", 0.0, steps=(T - 1, None)),))
    assert not np.any(closed)
    carousel = gradient(xs, (Fix("f", 1.0), Fix("i", 1.0), Fix("o", 1.0)))
    assert np.all(np.any(carousel, axis=-1))


def test_one_compilation_serves_equal_interventions():
    params, xs, state = drawn(10)
    traced = []

    @dataclasses.dataclass(frozen=True)
    class Counted(Fix):
        def changed(self, value, drawn):
            traced.append(1)
            return super().changed(value, drawn)

    for _ in range(2):
        lstm(params, xs, state, wrappers=(Counted("f", 0.5, units=(1,)),))
    once = len(traced)
    lstm(params, xs, state, wrappers=(Counted("f", 0.5, units=(2,)),))
    assert len(traced) == 2 * once
    assert hash(Fix("f", 1.0)) == hash(Fix("f", 1.0))


def test_half_precision_keeps_its_dtypes():
    params, xs, _ = drawn(11, dtype=jnp.bfloat16)
    wrappers = (Fix("h", 0.5, units=(0,)), Scale("c", 2.0), Ablate("m", (1,)), Sample("i"))
    step = jax.eval_shape(
        lambda xs: lstm(params, xs, wrappers=wrappers, key=jax.random.key(0), emit="step")[1], xs.astype(jnp.bfloat16)
    )
    assert (step.h.dtype, step.c.dtype, step.i.dtype) == (jnp.bfloat16, jnp.float32, jnp.float32)


# What each unit is worth


def test_the_worth_of_units_is_what_is_lost_without_each():
    params, xs = draw_network(2)
    labels = jnp.array([0, 1, 1])
    lengths = jnp.array([T, 2, 4])

    def loss(wrappers):
        _, logits = network(params, xs, lengths=lengths, wrappers=wrappers)
        return -jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], axis=1).mean()

    found = ablation(loss, params, value=(0.0, jnp.zeros(3)))
    whole = jax.jit(partial(loss, ()))()
    for n, direction, part in ((0, "reverse", found[0].reverse), (1, None, found[1])):
        alone = jax.jit(partial(loss, (Ablate("c", (2,), layer=n, direction=direction),)))()
        assert_close(part.whole, whole)
        assert_close(part.without[2], alone)
        assert_close(part.cost, part.without - part.whole)
        costs = np.abs(np.asarray(part.cost))[np.asarray(part.ranking)]
        assert np.all(np.diff(costs) <= 0)
        assert costs[0] > 0
    assert found[0].forward.without.shape == (H,)


def test_a_unit_that_nothing_reads_is_worth_nothing():
    params, xs, _ = drawn(12)
    params = params._replace(w_h=params.w_h.at[1].set(0))
    keep = jnp.array([1.0, 0.0, 1.0, 1.0])

    def last(wrappers):
        return (lstm(params, xs, wrappers=wrappers)[0][0] * jnp.broadcast_to(keep, (B, H))).sum(-1)

    found = jax.jit(lambda value: ablation(last, params, gate="h", value=value, at_once=2))(
        jnp.array([0.1, 5.0, 0.2, 0.3])
    )
    assert found.without.shape == (H, B)
    np.testing.assert_array_equal(found.cost[1], np.zeros(B))
    _, ys = run(params, xs, wrappers=(Fix("h", 0.2, units=(2,)),))
    assert_close(found.without[2], (ys[:, -1] * jnp.broadcast_to(keep, (B, H))).sum(-1))
    with pytest.raises(ValueError, match=r"a measure of shape \(3,\) ranks no units; give one number"):
        _ = found.ranking


# Messages


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Fix("forget", 1.0), ValueError, "gate is 'forget', expected one of 'i', 'f', 'g', 'o', 'z_i'"),
        (lambda: Fix("f", 1.0, units=3), ValueError, r"units is 3, expected a tuple of units of f, .* units=\(3,\)"),
        (lambda: Fix("f", 1.0, units=(np.int64(1),)), ValueError, r"Of an array: tuple\(map\(int, units\)\)\."),
        (lambda: Fix("f", 1.0, units=(-1,)), ValueError, r"units is \(-1,\), expected a tuple of units"),
        (lambda: Fix("f", [1.0]), TypeError, r"value is a list, expected a number or a tuple .*\(float, value"),
        (lambda: Fix("f", True), TypeError, "value is a bool, expected a number"),
        (lambda: Scale("f", "2"), TypeError, "factor is a str, expected a number"),
        (lambda: Ablate("c", (1,), ()), TypeError, "value is a tuple of 0, expected a number"),
        (lambda: Sample("g"), ValueError, "gate is 'g', expected 'i', 'f' or 'o': the gates that are probabilities"),
        (lambda: Fix("f", 1.0, layer=-1), ValueError, "layer is -1, expected the number of a layer, counted from 0"),
        (lambda: Fix("f", 1.0, direction="back"), ValueError, "direction is 'back', expected one of None, 'forward'"),
        (lambda: Fix("f", 1.0, steps=(5, 5)), ValueError, r"steps is \(5, 5\), expected \(start, stop\), counted"),
        (lambda: Fix("f", 1.0, steps=(5,)), ValueError, r"steps is \(5,\), expected \(start, stop\)"),
    ],
)  # fmt: skip
def test_interventions_that_make_no_sense_are_refused(make, error, message):
    with pytest.raises(error, match=message):
        make()


@pytest.mark.parametrize(
    ("wrapper", "message"),
    [
        (Fix("h", 1.0, units=(1, P)), f"units holds {P}, but h has {P} units, 0 to {P - 1}: Fix\\(gate='h'"),
        (Ablate("c", (H,)), f"units holds {H}, but c has {H} units, 0 to {H - 1}: Ablate\\(gate='c'"),
        (Scale("f", (1.0, 2.0)), f"factor has 2 numbers, but there are {H} units of f: Scale"),
        (Ablate("f", (1,), (1.0, 2.0)), "value has 2 numbers, but there is 1 unit of f: Ablate"),
        (Fix("f", 1.0, steps=(T, None)), rf"steps is \({T}, None\), but xs has T = {T} steps, 0 to {T - 1}: Fix"),
        (Fix("f", 1.0, layer=0), "layer and direction are for stacked and network, .* so leave them out: Fix"),
    ],
)  # fmt: skip
def test_interventions_that_do_not_fit_the_layer_are_refused(wrapper, message):
    params, xs, state = drawn(width=P)
    with pytest.raises(ValueError, match=message):
        lstm(params, xs, state, wrappers=(wrapper,))


def test_interventions_that_do_not_fit_the_stack_are_refused():
    params, xs = draw_network()
    with pytest.raises(ValueError, match="value has 3 entries, but there are 2 layers; expected one for each"):
        ablation(lambda wrappers: jnp.ones(()), params, value=(0.0, 0.1, 0.2))
    with pytest.raises(ValueError, match="layer is 2, but the layers are 0 to 1: Fix"):
        stacked(params.layers, xs, wrappers=(Fix("f", 1.0, layer=2),))
    for layers, layer in ((params.layers, 1), ((params.layers[0].forward,), None)):
        with pytest.raises(
            ValueError, match="direction is 'reverse', but the layers that it is for have one direction"
        ):
            stacked(layers, xs, wrappers=(Fix("f", 1.0, layer=layer, direction="reverse"),))


def test_every_value_of_a_step_can_be_changed():
    params, xs, state = drawn(13)
    wrappers = tuple(Fix(name, 0.25 + n) for n, name in enumerate(Step._fields))
    _, steps = run(params, xs, state, wrappers=wrappers, emit="step")
    for n, value in enumerate(steps):
        np.testing.assert_array_equal(value, np.full((B, T, H), 0.25 + n))
