"""Gate statistics and memory, against NumPy in float64, step by step and sequence by sequence."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from against import B, H, I, T, draw_params, take
from tolerances import assert_close

from lstmjax import GATES, Bidirectional, Step, lstm
from lstmjax.inside import (
    Fix,
    GateStatistics,
    gate_statistics,
    half_life,
    retained,
    retention,
    saturation,
    time_scale,
    trace,
)

pytestmark = pytest.mark.usefixtures("x64")

LENGTHS = np.array([5, 0, 2])
MASK = np.array([[1, 0, 1, 1, 0], [1, 1, 1, 1, 1], [0, 1, 1, 1, 1]], bool)
VALID = MASK & (np.arange(T) < LENGTHS[:, None])


def draw_steps(seed=0):
    """Steps whose gates go from 0 to 1, and g from -1 to 1, near the ends often enough."""
    rng = np.random.default_rng(seed)
    i, f, o = (jnp.asarray(rng.beta(0.4, 0.4, (B, T, H))) for _ in range(3))
    g = jnp.asarray(2 * rng.beta(0.4, 0.4, (B, T, H)) - 1)
    return Step(i, f, g, o, None, None, None, None, g, g, g)


def by_hand(step, valid, low, high):
    """Mean, spread and the two fractions of each gate, of the list of the steps that are valid."""
    result = []
    for name in "ifgo":
        gate = np.asarray(getattr(step, name))[np.asarray(valid)]
        part = (gate + 1) / 2 if name == "g" else gate
        result.append((gate.mean(0), gate.std(0), (part < low).mean(0), (part > high).mean(0)))
    return [list(parts) for parts in zip(*result, strict=True)]


def same(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize("masked", [False, True])
def test_statistics_of_steps_that_one_has(masked):
    steps, (low, high) = draw_steps(), (0.15, 0.8)
    how = {"lengths": LENGTHS, "mask": MASK} if masked else {}
    found = jax.jit(lambda s: saturation(s, low=low, high=high, **how))(steps)
    valid = VALID if masked else np.ones((B, T), bool)
    assert int(found.count) == valid.sum()
    assert_close([list(part) for part in found[:4]], by_hand(steps, valid, low, high))


def test_what_is_not_valid_does_not_count_whatever_it_holds():
    steps = draw_steps(1)
    there = VALID[..., None]
    poisoned = jax.tree.map(lambda a: jnp.where(there, a, jnp.nan), steps)
    same(saturation(poisoned, mask=VALID), saturation(steps, mask=VALID))
    same(time_scale(poisoned.f, mask=VALID), time_scale(steps.f, mask=VALID))
    same(retention(poisoned.f, (0, 1, 2), mask=VALID), retention(steps.f, (0, 1, 2), mask=VALID))


def test_where_nothing_counts_there_is_no_number():
    steps = draw_steps(2)
    found = saturation(steps, lengths=np.zeros(B, int))
    assert int(found.count) == 0
    assert all(np.isnan(leaf).all() for leaf in jax.tree.leaves(found[:4]))
    assert np.isnan(time_scale(steps.f, lengths=np.zeros(B, int))).all()
    assert np.isnan(retention(steps.f, (1,), lengths=np.zeros(B, int))).all()
    assert np.isnan(retention(steps.f, (3,), mask=np.arange(T) % 2 == np.zeros((B, 1)))).all()


def test_statistics_take_the_form_of_the_layers():
    a, b = draw_steps(3), draw_steps(4)
    found = saturation((Bidirectional(a, b), b), lengths=LENGTHS)
    one, two = (saturation(s, lengths=LENGTHS) for s in (a, b))
    same(found, (Bidirectional(one, two), two))
    only = saturation(Step(*[None] * 11)._replace(f=a.f))
    assert_close(only.mean.f, np.asarray(a.f).mean((0, 1)))
    assert only.mean.i is None


def test_vmap_over_sequences_is_the_statistics_of_each():
    steps = draw_steps(5)
    each = jax.vmap(lambda step, valid: saturation(step, mask=valid))(steps, jnp.asarray(MASK))
    for n in range(B):
        one = saturation(take(steps, n), mask=MASK[n])
        assert int(each.count[n]) == int(one.count) == MASK[n].sum()
        assert_close(take(each[:4], n), tuple(one[:4]))


@pytest.mark.parametrize("how", [{}, {"lengths": LENGTHS, "mask": MASK}], ids=["all", "masked"])
def test_streamed_statistics_are_those_of_the_trace(how):
    rng = np.random.default_rng(6)
    layers = (Bidirectional(draw_params(rng), draw_params(rng)), draw_params(rng, 2 * H, 3))
    xs = jnp.asarray(rng.normal(size=(B, T, I))) * 3
    found = jax.jit(lambda layers, xs: gate_statistics(layers, xs, low=0.2, high=0.7, **how))(layers, xs)
    expected = saturation(trace(layers, xs, fields=GATES, **how), low=0.2, high=0.7, **how)
    counted = jax.tree.leaves(jax.tree.map(lambda one: int(one.count), found, is_leaf=is_statistics))
    assert counted == [VALID.sum() if how else B * T] * 3
    drop_count = partial(jax.tree.map, lambda one: one[:4], is_leaf=is_statistics)
    assert_close(drop_count(found), drop_count(expected))
    assert np.unique(np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(drop_count(found))])).size > 30


def is_statistics(one):
    return isinstance(one, GateStatistics)


def test_streamed_statistics_of_one_layer_in_float32():
    rng = np.random.default_rng(7)
    params = draw_params(rng, dtype=jnp.float32)
    xs = jnp.asarray(rng.normal(size=(70, B, I)), jnp.float32)
    state = jnp.zeros(H, jnp.float32), jnp.ones(H, jnp.float32)
    found = gate_statistics(params, xs, state, time_major=True, reverse=True, wrappers=(Fix("f", 0.95, units=(1,)),))
    assert np.abs(np.asarray(found.mean.f[1]) - 0.95) < 1e-6
    assert found.std.f[1] < 3e-4
    assert [float(part.f[1]) for part in (found.left, found.right)] == [0.0, 1.0]


def test_limits_that_are_none_and_steps_without_gates_are_refused():
    steps = draw_steps()
    for low, high in ((0.9, 0.1), (-0.1, 0.9), (0.1, 1.5), (0.5, 0.5)):
        with pytest.raises(ValueError, match=rf"low is {low} and high is {high}, expected 0 <= low < high <= 1"):
            saturation(steps, low=low, high=high)
    with pytest.raises(ValueError, match="steps holds none of the gates i, f, g and o; trace those that you want"):
        saturation(steps._replace(i=None, f=None, g=None, o=None))
    with pytest.raises(TypeError, match="steps holds an array, expected a Step for each layer, as trace gives it"):
        saturation(steps.f)


# Memory


def test_the_time_scale_is_that_of_a_leaky_integrator():
    f = jnp.full((7, H), 0.9)
    tau = np.asarray(time_scale(f))
    np.testing.assert_allclose(np.exp(-1 / tau), 0.9, rtol=1e-12)
    np.testing.assert_allclose(0.9 ** np.asarray(half_life(f)), 0.5, rtol=1e-12)


def test_time_scales_are_means_of_logarithms_over_valid_steps():
    f = draw_steps(7).f
    for how, valid in (({}, np.ones((B, T), bool)), ({"lengths": LENGTHS, "mask": MASK}, VALID)):
        np.testing.assert_allclose(time_scale(f, **how), -1 / np.log(np.asarray(f)[valid]).mean(0), rtol=1e-12)


def test_gates_at_their_ends_have_time_scales_too():
    f = jnp.array([[1.0, 1.0, 0.0, 0.5], [1.0, 0.0, 0.0, 1.0]])
    for dtype in (jnp.float32, jnp.float64):
        np.testing.assert_allclose(time_scale(f.astype(dtype)), [np.inf, 0.0, 0.0, 2 / np.log(2)], rtol=1e-6)
        np.testing.assert_allclose(half_life(f.astype(dtype)), [np.inf, 0.0, 0.0, 2.0], rtol=1e-6)


@pytest.mark.parametrize("masked", [False, True])
def test_retention_is_the_mean_of_products_over_spans(masked):
    spans = tuple(range(T + 1))
    f = draw_steps(8).f.at[0, 1, 2].set(0.0)
    valid = MASK if masked else np.ones((B, T), bool)
    found = retention(f, spans, mask=MASK if masked else None)
    for n in spans:
        products = [
            np.asarray(f)[b, t : t + n].prod(0) for b in range(B) for t in range(T - n + 1) if valid[b, t : t + n].all()
        ]
        np.testing.assert_allclose(found[n], np.mean(products, 0) if products else np.nan, rtol=1e-12)


@pytest.mark.thorough
def test_retention_of_long_spans_loses_no_digits():
    rng = np.random.default_rng(9)
    f = rng.uniform(0.95, 1.0, (1500, 2)).astype(np.float32)
    f[:700] = 1e-6  # running sums of logarithms would be near 10,000 from here on
    exact = np.array([np.asarray(f[t : t + 777], np.float64).prod(0) for t in range(1500 - 777 + 1)]).mean(0)
    np.testing.assert_allclose(retention(jnp.asarray(f), (777,))[0], exact, rtol=1e-4)


def test_what_is_retained_between_two_steps_is_the_part_of_c_that_is_left():
    """Against the recurrence itself: with i = 0 all of c comes from the c before."""
    rng = np.random.default_rng(10)
    params = draw_params(rng)
    params = params._replace(b=params.b.at[0].set(-jnp.inf))
    xs = jnp.asarray(rng.normal(size=(B, T, I)))
    begin = jnp.zeros((B, H)), jnp.ones((B, H))
    for reverse, first, last in ((False, 1, 3), (True, 3, 1)):
        _, steps = lstm(params, xs, begin, reverse=reverse, emit="step")
        assert_close(retained(steps.f, first, last, reverse=reverse), steps.c[:, last] / steps.c[:, first])
        outside = T if reverse else -1
        assert_close(retained(steps.f, outside, last, reverse=reverse), steps.c[:, last])


def test_what_is_retained_can_be_asked_for_each_sequence():
    f = draw_steps(11).f
    start, stop = jnp.array([-1, 2, 3]), jnp.array([4, 2, 4])
    expected = [np.asarray(f)[n, a + 1 : b + 1].prod(0) for n, (a, b) in enumerate(zip(start, stop, strict=True))]
    assert_close(jax.jit(retained)(f, start, stop), np.stack(expected))
    assert_close(jax.vmap(retained)(f, start, stop), np.stack(expected))


def test_spans_and_steps_that_are_none_are_refused():
    f = draw_steps().f
    for span in (T + 1, -1, 2.5, True):
        with pytest.raises(ValueError, match=rf"spans holds {span}, expected whole numbers from 0 to T = {T}"):
            retention(f, (1, span))
    with pytest.raises(
        ValueError, match=r"stop has shape \(2,\) and dtype int64, expected whole numbers: one, or \(3,\)"
    ):
        retained(f, 0, jnp.array([1, 2]))
    with pytest.raises(ValueError, match=r"start has shape \(\) and dtype float64, expected whole numbers"):
        retained(f, 0.5, 2)


def test_gates_in_half_precision_are_multiplied_in_float32():
    f = jnp.asarray(np.random.default_rng(12).uniform(0.97, 1.0, (3, 300, 2)), jnp.bfloat16)
    exact = np.asarray(f).astype(np.float64)
    np.testing.assert_allclose(time_scale(f), -1 / np.log(exact).mean((0, 1)), rtol=1e-4)
    np.testing.assert_allclose(retained(f, 0, 299), exact[:, 1:].prod(1), rtol=1e-4)
    np.testing.assert_allclose(retention(f, (300,))[0], exact.prod(1).mean(0), rtol=1e-4)


def test_what_is_no_gate_no_span_and_no_order_of_steps_is_refused():
    steps = draw_steps()
    expected = (
        r"expected an array \[..., T, H\]: the f of one layer in one direction, such as trace\(params, xs, fields"
    )
    for call in (half_life, partial(retention, spans=(1,)), partial(retained, start=0, stop=1)):
        with pytest.raises(TypeError, match=r"f is a Step, " + expected):
            call(steps)
        with pytest.raises(TypeError, match=r"f is None, " + expected):
            call(None)
        with pytest.raises(ValueError, match=r"f has shape \(4,\), expected \[..., T, H\]. For one unit f\[:, None\]"):
            call(steps.f[0, 0])
    for spans in (3, ()):
        with pytest.raises(
            TypeError, match=r"spans is .*, expected numbers of steps, one or several: spans=\(1, 10, 40\)"
        ):
            retention(steps.f, spans)
    with pytest.raises(
        ValueError, match=r"start is 3 and stop is 1, expected -1 <= start <= stop <= T - 1 = 4. For the"
    ):
        retained(steps.f, 3, 1)
    with pytest.raises(ValueError, match=r"start is 0 and stop is \[2, 5, 1\], expected -1 <= start"):
        retained(steps.f, 0, jnp.array([2, 5, 1]))
    with pytest.raises(ValueError, match=r"start is 1 and stop is 3, expected 0 <= stop <= start <= T = 5\.$"):
        retained(steps.f, 1, 3, reverse=True)
