"""Recurrent dropout and zoneout: against the oracle given what was drawn, and the statistics of the draws."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from against import B, H, I, P, T, check_layer, draw_params, draw_state, run, take
from tolerances import assert_close

from lstmjax import RecurrentDropout, Zoneout, cell_step, lstm

pytestmark = pytest.mark.usefixtures("x64")

MASK = np.array([[0, 1, 0, 1, 1], [1, 1, 1, 1, 0], [0, 0, 0, 0, 0]], bool)
RESETS = np.array([[1, 0, 1, 1, 0], [0, 1, 0, 1, 1], [0, 1, 0, 0, 0]], bool)


def drawn(seed=0, batch=(B,), steps=T, **how):
    rng = np.random.default_rng(seed)
    params = draw_params(rng, width=P, **how)
    xs = jnp.asarray(rng.normal(size=(*batch, steps, I)))
    return params, xs, draw_state(rng, params, batch), draw_state(rng, params, batch)


def own_draw(wrapper, state, steps=T):
    """What `lstm` lets the only wrapper draw from key 7, and the key."""
    key = jax.random.key(7)
    return jax.jit(lambda key: wrapper.draw(jax.random.split(key, 1)[0], steps, state, None))(key), key


# Against the oracle


@pytest.mark.parametrize("order", [1, -1])
def test_expected_zoneout_and_no_dropout_at_evaluation(order):
    wrappers = (RecurrentDropout(0.5), Zoneout(0.3, 0.2))[::order]
    check_layer(*drawn(1), kept=lambda n: {"zoneout": (0.3, 0.2)}, wrappers=wrappers, mask=MASK, resets=RESETS)


def test_recurrent_dropout_in_training():
    params, xs, state, again = drawn(2)
    (scale, _), key = own_draw(RecurrentDropout(0.4), state)
    assert len(np.unique(scale)) == 2
    check_layer(
        params, xs, state, again, wrappers=(RecurrentDropout(0.4),), key=key, resets=RESETS,
        kept=lambda n: {"dropout": np.asarray(scale[n])},
    )  # fmt: skip


def test_zoneout_in_training():
    params, xs, state, again = drawn(3)
    (_, masks), key = own_draw(Zoneout(0.5, 0.3), state)
    check_layer(
        params, xs, state, again, wrappers=(Zoneout(0.5, 0.3),), key=key, mask=MASK, resets=RESETS,
        kept=lambda n: {"zoneout": tuple(np.asarray(m[:, n]) * 1.0 for m in masks)},
    )  # fmt: skip


# What is drawn


def test_recurrent_dropout_draws_one_mask_for_the_whole_sequence():
    params, _, state, _ = drawn(5, steps=1)

    def give_back(params, state, x):
        return state, state[0]

    ones = jax.tree.map(jnp.ones_like, state)
    _, ys = jax.jit(
        lambda: lstm(
            params, jnp.zeros((B, T, I)), ones, step=give_back, wrappers=(RecurrentDropout(0.5),), key=jax.random.key(0)
        )
    )()
    # The step gives back what it was given, so that step t shows the mask to the power t + 1
    ys = np.asarray(ys)
    for t in range(T):
        np.testing.assert_allclose(ys[:, t], ys[:, 0] ** (t + 1), rtol=1e-12)
    assert set(np.unique(ys[:, 0])) == {0.0, 2.0}
    assert np.any(ys[0, 0] != ys[1, 0])


def test_recurrent_dropout_drops_at_its_rate():
    rate = 0.3
    scale, nothing = RecurrentDropout(rate).draw(
        jax.random.key(0), T, (jnp.zeros((200, 50)), jnp.zeros((200, 50))), None
    )
    assert nothing is None
    kept = np.asarray(scale) > 0
    np.testing.assert_allclose(np.asarray(scale)[kept], 1 / (1 - rate))
    assert abs(kept.mean() - (1 - rate)) < 4 * np.sqrt(rate * (1 - rate) / kept.size)  # four standard deviations


def test_zoneout_keeps_exactly_the_old_or_takes_exactly_the_new():
    params, xs, state, _ = drawn(6, steps=1)
    (new_h, new_c), _ = run(params, xs, state)
    (h, c), _ = run(params, xs, state, wrappers=(Zoneout(0.5, 0.5),), key=jax.random.key(3))
    for now, old, new in ((h, state[0], new_h), (c, state[1], new_c)):
        kept, taken = np.asarray(now == old), np.asarray(now == new)
        assert np.all(kept ^ taken)
        assert kept.any()
        assert taken.any()


def test_zoneout_draws_at_its_rates_and_anew_at_every_step():
    old = jnp.zeros((20, 30)), jnp.zeros((20, 40))
    _, masks = jax.jit(lambda key: Zoneout(0.2, 0.6).draw(key, 50, old, None))(jax.random.key(0))
    for mask, rate, like in zip(masks, (0.2, 0.6), old, strict=True):
        assert mask.shape == (50, *like.shape)
        assert abs(np.asarray(mask).mean() - rate) < 4 * np.sqrt(rate * (1 - rate) / mask.size)
        assert np.any(np.diff(np.asarray(mask), axis=0))


def test_rates_of_zero_are_the_plain_layer():
    params, xs, state, _ = drawn(7)
    plain = run(params, xs, state)
    for key in (None, jax.random.key(0)):
        assert_close(run(params, xs, state, wrappers=(Zoneout(), RecurrentDropout(0.0)), key=key), plain)


def test_what_is_emitted_follows_what_a_wrapper_changed():
    params, xs, state, _ = drawn(8)
    (h, c), steps = run(params, xs, state, wrappers=(Zoneout(0.5, 0.5),), key=jax.random.key(1), emit="step")
    np.testing.assert_array_equal(steps.h[:, -1], h)
    np.testing.assert_array_equal(steps.c[:, -1], c)
    _, plain = run(params, xs, state, wrappers=(Zoneout(0.5, 0.5),), key=jax.random.key(1))
    assert_close(plain, steps.h)


def test_a_held_step_is_held_whatever_the_wrapper_draws():
    """Nothing changes at steps that are not valid, and NaN there stays out of values and gradients."""
    params, xs, state, _ = drawn(9)
    wrappers = RecurrentDropout(0.5), Zoneout(0.4, 0.4)

    @jax.jit
    def both(xs):
        def loss(params, xs):
            end, ys = lstm(params, xs, state, mask=MASK, wrappers=wrappers, key=jax.random.key(0))
            return (ys**2).sum(), end

        return jax.value_and_grad(loss, (0, 1), has_aux=True)(params, xs)

    clean, poisoned = both(xs), both(jnp.where(MASK[..., None], xs, jnp.nan))
    for a, e in zip(jax.tree.leaves(poisoned), jax.tree.leaves(clean), strict=True):
        np.testing.assert_array_equal(a, e)
    (_, (h, c)), _ = clean
    np.testing.assert_array_equal(h[2], state[0][2])
    np.testing.assert_array_equal(c[2], state[1][2])


def test_each_wrapper_draws_from_a_key_of_its_own():
    """Two equal dropouts, one over the other, must not drop the same units."""
    params, xs, *_ = drawn(10, batch=(40,))
    ones = tuple(jnp.ones((40, n)) for n in (P, H))

    def give_back(params, state, x):
        return state, state[0]

    twice = (RecurrentDropout(0.5), RecurrentDropout(0.5))
    _, ys = jax.jit(lambda: lstm(params, xs[:, :1], ones, step=give_back, wrappers=twice, key=jax.random.key(0)))()
    share = np.mean(np.asarray(ys) == 4.0)
    assert abs(share - 0.25) < 4 * np.sqrt(0.25 * 0.75 / ys.size)


def test_wrappers_stand_under_vmap_and_grad():
    params, xs, state, _ = drawn(11)
    wrappers = RecurrentDropout(0.5), Zoneout(0.4, 0.4)
    keys = jax.random.split(jax.random.key(0), B)

    def one(params, xs, state, key):
        return (lstm(params, xs, state, wrappers=wrappers, key=key)[1] ** 2).sum()

    together = jax.jit(jax.vmap(jax.grad(one), in_axes=(None, 0, 0, 0)))(params, xs, state, keys)
    alone = jax.jit(jax.grad(one))
    for n in range(B):
        part = alone(params, *take((xs, state), n), keys[n])
        assert_close(take(together, n), part, gradient=True)


# Taps


@dataclass(frozen=True)
class Become:
    """What is named becomes a · what it is + b, with a and b for each unit, handed over."""

    name: str

    def draw(self, key, steps, state, x):
        raise AssertionError("what it needs is handed over")

    def __call__(self, inner, params, state, x, own):
        a, b = own[0][0], own[1]
        return inner(params, state, x, tap=lambda name, value: a * value + b if name == self.name else value)


def test_taps_of_several_wrappers_follow_each_other_from_the_inside_out():
    params, xs, state, _ = drawn()
    rng = np.random.default_rng(1)
    one, two = ((jnp.asarray(rng.normal(size=())), None) for _ in range(2))
    add, more = (jnp.asarray(rng.normal(size=(T, B, H))) for _ in range(2))
    wrappers = (Become("f"), (one, add)), (Become("f"), (two, more))
    _, ys = lstm(params, xs, state, wrappers=wrappers)

    carry, expected = state, []
    for t in range(T):

        def tap(name, value, t=t):
            return two[0] * (one[0] * value + add[t]) + more[t] if name == "f" else value

        carry, y = cell_step(params, carry, xs[:, t], tap=tap)
        expected.append(y)
    assert_close(ys, jnp.stack(expected, axis=1))


def test_every_value_of_a_step_is_tapped_once_before_it_is_used():
    params, xs, state, _ = drawn()
    seen = []

    def tap(name, value):
        seen.append(name)
        return {"i": 0.0, "f": 1.0}.get(name, 1.0) * value if name in "if" else jnp.ones_like(value) * 2.0

    (h, c), step = cell_step(params, (state[0], state[1]), xs[:, 0], tap=tap, emit="step")
    assert sorted(seen) == sorted(step._fields)
    assert all((getattr(step, name) == 2.0).all() for name in ("z_i", "g", "o", "c", "m", "h"))
    assert (h == 2.0).all()
    assert (c == 2.0).all()
    assert_close(step.f, jax.nn.sigmoid(step.z_f))
