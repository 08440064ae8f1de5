"""`lstm` against the oracle in float64, values and gradients, and what must hold between its own calls."""

import itertools
from functools import partial
from typing import NamedTuple

import against
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from against import LAYERS, B, H, I, P, T, check_layer, draw_params, draw_state, random_like, run, take, values_and_pull
from tolerances import assert_close

from lstmjax import Step, cell_step, init_params, lstm, product

pytestmark = pytest.mark.usefixtures("x64")

MASK = np.array([[0, 1, 0, 1, 1], [1, 1, 0, 1, 0], [0, 0, 0, 0, 0]], bool)
RESETS = np.array([[1, 0, 1, 1, 0], [0, 0, 1, 1, 1], [0, 1, 0, 0, 0]], bool)
LENGTHS = np.array([5, 3, 0])

OPTIONS = {
    "plain": {},
    "reverse": {"reverse": True},
    "lengths": {"lengths": LENGTHS},
    "lengths-reverse": {"lengths": LENGTHS, "reverse": True},
    "mask": {"mask": MASK},
    "both-hold": {"mask": MASK, "lengths": LENGTHS, "padding": "hold"},
    "both-hold-reverse": {"mask": MASK, "lengths": LENGTHS, "padding": "hold", "reverse": True},
    "resets": {"resets": RESETS},
    "everything": {"mask": MASK, "lengths": LENGTHS, "resets": RESETS, "reverse": True},
    "everything-last": {"mask": MASK, "lengths": LENGTHS, "resets": RESETS, "return_sequences": False},
    "last-reverse": {"lengths": LENGTHS, "reverse": True, "return_sequences": False},
}


def drawn(seed=0, layer="single", batch=(B,)):
    rng = np.random.default_rng(seed)
    params = draw_params(rng, **LAYERS[layer])
    xs = jnp.asarray(rng.normal(size=(*batch, T, I)))
    return params, xs, draw_state(rng, params, batch), draw_state(rng, params, batch)


# Values and gradients against the oracle: everything a step computes, every option


@pytest.mark.parametrize(("options", "layer"), list(zip(OPTIONS, itertools.cycle(LAYERS))))
def test_every_option_and_every_form_of_parameters_equal_the_oracle(options, layer):
    check_layer(*drawn(1, layer), **OPTIONS[options])


def test_no_state_is_zeros():
    params, xs, *_ = drawn(3)
    check_layer(params, xs, None, None, resets=RESETS)


@pytest.mark.parametrize(
    ("checkpoint", "reverse"),
    [("sqrt", True), (3, False)],  # test_long has more
)
def test_checkpoint_changes_neither_values_nor_gradients(checkpoint, reverse):
    """Segments of 3, and of 2 for "sqrt", do not divide T = 5."""
    check_layer(*drawn(4), checkpoint=checkpoint, reverse=reverse, mask=MASK, emit="h")


@pytest.mark.parametrize("unroll", [2, T + 1])
def test_unroll_changes_neither_values_nor_gradients(unroll):
    check_layer(*drawn(5), unroll=unroll, resets=RESETS, emit="h")


def test_checkpoint_takes_less_memory():
    """What the backward pass keeps for T = 400: a few numbers per step, or per segment."""
    params = draw_params(np.random.default_rng(0), I, 64)
    xs = jnp.ones((8, 400, I))

    def size(checkpoint):
        def loss(params):
            return lstm(params, xs, return_sequences=False, checkpoint=checkpoint)[1].sum()

        return jax.jit(jax.grad(loss)).lower(params).compile().memory_analysis().temp_size_in_bytes

    assert size("sqrt") < size(None) / 4


# Emit


@pytest.mark.parametrize("padding", ["zero", "hold"])
@pytest.mark.parametrize("return_sequences", [True, False])
def test_every_emit_is_a_part_of_the_step(padding, return_sequences):
    """The oracle has checked the `Step`; h, c and a function of it must be its parts, held as it is."""
    params, xs, state, _ = drawn(6, "projection")

    def look(emit):
        return run(params, xs, state, mask=MASK, emit=emit, padding=padding, return_sequences=return_sequences)

    def some(step):
        return {"gates": (step.i, step.f), "both": step.g * step.m}

    end, steps = look("step")
    assert isinstance(steps, Step)
    shown = MASK[..., None] | (padding == "hold") if return_sequences else True
    wanted = {
        "h": steps.h,
        "c": steps.c,
        some: {"gates": (steps.i, steps.f), "both": jnp.where(shown, steps.g * steps.m, 0)},
    }
    for emit, expected in wanted.items():
        again, ys = look(emit)
        assert_close(again, end)
        assert_close(ys, expected)


# The others are parts of the last Step, as of every one: see the test before.
PARTS = [pytest.param(emit, marks=pytest.mark.slow) for emit in ("h", "c", lambda s: s.i * s.h[..., :H])]


@pytest.mark.parametrize("emit", ["step", *PARTS])
@pytest.mark.parametrize("reverse", [False, True])
def test_the_last_output_is_that_of_the_last_valid_step(emit, reverse):
    params, xs, state, _ = drawn(7, "projection")
    mask = MASK | (np.arange(B)[:, None] == 2)
    options = {"mask": mask, "emit": emit, "reverse": reverse, "resets": RESETS}
    _, ys = run(params, xs, state, **options)
    _, last = run(params, xs, state, return_sequences=False, **options)
    at = mask.argmax(1) if reverse else T - 1 - mask[:, ::-1].argmax(1)
    assert_close(last, jax.tree.map(lambda a: a[np.arange(B), at], ys))


def test_all_c_on_request_end_in_the_final_state():
    params, xs, state, _ = drawn(8)
    (_, c), cs = run(params, xs, state, emit="c")
    np.testing.assert_array_equal(cs[:, -1], c)


# Axes


def test_no_one_and_many_batch_axes():
    params, xs, state, _ = drawn(9, batch=(2, 3))
    lengths = np.array([[5, 0, 3], [1, 2, 4]])
    end, ys = run(params, xs, state, lengths=lengths)
    for n in np.ndindex(2, 3):
        assert_close(run(params, *take((xs, state), n), lengths=lengths[n]), take((end, ys), n))
    flat = jax.tree.map(lambda a: np.asarray(a).reshape(6, *a.shape[2:]), (xs, state))
    assert_close(
        run(params, flat[0], flat[1], lengths=lengths.ravel()),
        jax.tree.map(lambda a: np.asarray(a).reshape(6, *a.shape[2:]), (end, ys)),
    )


def test_time_major_is_the_same_with_time_first():
    params, xs, state, again = drawn(10, batch=(2, B))
    mask, resets = (np.broadcast_to(a, (2, B, T)) for a in (MASK, RESETS))
    lengths = np.broadcast_to(LENGTHS, (2, B))
    end, ys = run(params, xs, state, lengths=lengths, mask=mask, resets=resets, reset_state=again, emit="step")
    end_t, ys_t = run(
        params, jnp.moveaxis(xs, 2, 0), state, lengths=lengths, mask=np.moveaxis(mask, 2, 0),
        resets=np.moveaxis(resets, 2, 0), reset_state=again, emit="step", time_major=True,
    )  # fmt: skip
    assert_close(end_t, end)
    assert_close(ys_t, jax.tree.map(lambda a: jnp.moveaxis(a, 2, 0), ys))


@pytest.mark.parametrize("emit", [pytest.param("h", marks=pytest.mark.slow), "step"])
def test_vmap_of_an_unbatched_call_is_the_batched_call(emit):
    params, xs, state, again = drawn(11, "projection")

    def batched(params, xs, state, again):
        return lstm(
            params, xs, state, reset_state=again, lengths=LENGTHS, mask=MASK, resets=RESETS, emit=emit, padding="hold"
        )

    def mapped(params, xs, state, again):
        def one(xs, state, again, lengths, mask, resets):
            return lstm(
                params, xs, state, reset_state=again, lengths=lengths, mask=mask, resets=resets, emit=emit,
                padding="hold",
            )  # fmt: skip

        return jax.vmap(one)(xs, state, again, jnp.asarray(LENGTHS), jnp.asarray(MASK), jnp.asarray(RESETS))

    arguments = params, xs, state, again
    cotangents = random_like(np.random.default_rng(0), jax.eval_shape(batched, *arguments))
    whole, grads = values_and_pull(batched, arguments, cotangents)
    parts, grads_of_parts = values_and_pull(mapped, arguments, cotangents)
    assert_close(parts, whole)
    assert_close(grads_of_parts, grads, gradient=True)


def test_vmap_over_weights_is_a_loop_over_weights():
    rng = np.random.default_rng(12)
    many = [draw_params(rng) for _ in range(3)]
    xs = jnp.asarray(rng.normal(size=(B, T, I)))
    together = jax.tree.map(lambda *a: jnp.stack(a), *many)
    ends, ys = jax.jit(jax.vmap(lambda p: lstm(p, xs)))(together)
    for n, params in enumerate(many):
        assert_close(take((ends, ys), n), run(params, xs))


def test_nothing_to_do_gives_the_initial_state():
    params, xs, state, _ = drawn(13)
    for options in ({}, {"reverse": True}, {"checkpoint": "sqrt"}, {"lengths": np.zeros(B, int)}):
        end, ys = run(params, xs[:, :0], state, **options)
        assert_close(end, state)
        assert ys.shape == (B, 0, H)
    end, last = run(params, xs[:, :0], state, return_sequences=False)
    np.testing.assert_array_equal(last, state[0])
    end, steps = run(params, xs[:, :0], state, return_sequences=False, emit="step")
    np.testing.assert_array_equal(steps.c, state[1])
    np.testing.assert_array_equal(steps.i, np.zeros((B, H)))
    grads = jax.jit(jax.grad(lambda s: lstm(params, xs[:, :0], s)[0][0].sum()))(state)
    np.testing.assert_array_equal(grads[0], np.ones((B, H)))


def test_no_sequences_at_all():
    params, *_ = drawn(14, "projection")
    xs = jnp.zeros((0, T, I))
    (h, c), ys = run(params, xs, lengths=np.zeros(0, int))
    assert (h.shape, c.shape, ys.shape) == ((0, P), (0, H), (0, T, P))
    grads = jax.jit(jax.grad(lambda p: lstm(p, xs)[1].sum()))(params)
    assert_close(grads, jax.tree.map(jnp.zeros_like, params), gradient=True)
    _, ys = lstm(params, xs, checkpoint=2)
    assert ys.shape == (0, T, P)


def test_no_steps_written_out_step_by_step():
    params, xs, state, _ = drawn(14)
    with jax.disable_jit():
        end, ys = lstm(params, xs[:, :0], state)
    assert_close(end, state)
    assert ys.shape == (B, 0, H)


# Padding, lengths, mask


def test_nan_in_the_padding_is_gone_before_anything_is_computed():
    params, xs, *_ = drawn(15)
    holes = jnp.where(MASK[..., None], xs, jnp.nan)
    with jax.debug_nans(True):
        found = lstm(params, holes, mask=MASK)
    assert_close(found, lstm(params, xs, mask=MASK))


def test_lengths_and_mask_are_anded():
    params, xs, state, _ = drawn(15)
    both = MASK & (np.arange(T) < LENGTHS[:, None])
    assert not np.array_equal(both, MASK)
    assert_close(run(params, xs, state, lengths=LENGTHS, mask=MASK), run(params, xs, state, mask=both))


def test_reverse_stays_aligned_and_runs_within_the_length():
    params, xs, state, _ = drawn(16)
    end, ys = run(params, xs, state, lengths=LENGTHS, reverse=True)
    for n, length in enumerate(LENGTHS):
        end_n, ys_n = run(params, take(xs, n)[:length][::-1], take(state, n))
        assert_close(take(end, n), end_n)
        np.testing.assert_allclose(ys[n, :length], ys_n[::-1], rtol=1e-13)
        np.testing.assert_array_equal(ys[n, length:], np.zeros((T - length, H)))


@pytest.mark.parametrize("padding", ["zero", "hold"])
def test_padding_never_leaks(padding):
    """Values and gradients are those of any other padding, bit by bit, and none reaches the padding."""
    params, xs, state, again = drawn(17, "double-projection")
    valid = MASK & (np.arange(T) < LENGTHS[:, None])

    def f(params, xs, state, again):
        return lstm(
            params,
            xs,
            state,
            reset_state=again,
            lengths=LENGTHS,
            mask=MASK,
            resets=RESETS,
            padding=padding,
            emit="step",
        )

    @jax.jit
    def both(xs, cotangents):
        values, pull = jax.vjp(f, params, xs, state, again)
        return values, pull(cotangents)

    cotangents = random_like(np.random.default_rng(0), jax.eval_shape(f, params, xs, state, again))
    clean = both(xs, cotangents)
    for poison in (np.nan, np.inf, -np.inf, 1e300):
        actual = both(jnp.where(valid[..., None], xs, poison), cotangents)
        for a, e in zip(jax.tree.leaves(actual), jax.tree.leaves(clean), strict=True):
            np.testing.assert_array_equal(a, e)
        np.testing.assert_array_equal(actual[1][1][~valid], np.zeros((np.sum(~valid), I)))


def test_nan_in_padding_leaves_forward_mode_alone():
    params, xs, state, _ = drawn(18)
    poisoned = jnp.where(MASK[..., None], xs, jnp.nan)
    tangent = random_like(np.random.default_rng(0), params)

    @jax.jit
    def jvp(xs):
        return jax.jvp(lambda p: lstm(p, xs, state, mask=MASK), (params,), (tangent,))

    for a, e in zip(jax.tree.leaves(jvp(poisoned)), jax.tree.leaves(jvp(xs)), strict=True):
        np.testing.assert_array_equal(a, e)


def test_nan_at_a_valid_step_is_seen():
    params, xs, *_ = drawn(19)
    _, ys = run(params, xs.at[0, 2].set(jnp.nan), lengths=np.full(B, 4))
    bad = np.isnan(ys).any(-1)
    np.testing.assert_array_equal(bad[0], [False, False, True, True, False])
    assert not bad[1:].any()


def test_length_zero_gives_back_the_initial_state():
    params, xs, state, _ = drawn(20)
    (h, c), ys = run(params, xs, state, lengths=LENGTHS, padding="hold")
    np.testing.assert_array_equal(h[2], state[0][2])
    np.testing.assert_array_equal(c[2], state[1][2])
    np.testing.assert_array_equal(ys[2], np.broadcast_to(state[0][2], (T, H)))


def test_lengths_under_jit_are_not_compiled_in():
    params, xs, state, _ = drawn(21)
    traces = []

    @jax.jit
    def traced(lengths):
        traces.append(1)
        return lstm(params, xs, state, lengths=lengths)

    for lengths in (LENGTHS, LENGTHS[::-1].copy()):
        assert_close(traced(jnp.asarray(lengths)), run(params, xs, state, lengths=lengths))
    assert len(traces) == 1


# State in, state out


def test_chunks_give_what_one_pass_gives():
    """Empty chunks as well."""
    cuts = 0, 1, 3, 3
    params, xs, state, again = drawn(22)

    def whole(params, xs, state, again):
        return lstm(params, xs, state, reset_state=again, mask=MASK, resets=RESETS)

    def chunked(params, xs, state, again):
        ys = []
        for a, z in zip((0, *cuts), (*cuts, T), strict=True):
            part = slice(a, z)
            state, y = lstm(params, xs[:, part], state, reset_state=again, mask=MASK[:, part], resets=RESETS[:, part])
            ys.append(y)
        return state, jnp.concatenate(ys, axis=1)

    arguments = params, xs, state, again
    cotangents = random_like(np.random.default_rng(0), jax.eval_shape(whole, *arguments))
    one, grads = values_and_pull(whole, arguments, cotangents)
    many, grads_of_chunks = values_and_pull(chunked, arguments, cotangents)
    assert_close(many, one)
    assert_close(grads_of_chunks, grads, gradient=True)


def test_a_learned_initial_state_is_broadcast_and_its_gradient_summed():
    params, xs, *_ = drawn(23)
    rng = np.random.default_rng(0)
    one, other = (draw_state(rng, params, ()) for _ in range(2))

    def f(params, xs, state, again):
        return lstm(params, xs, state, reset_state=again, resets=RESETS)

    arguments = params, xs, one, other
    cotangents = random_like(rng, jax.eval_shape(f, *arguments))
    value, grads = values_and_pull(f, arguments, cotangents)
    spread = [jax.tree.map(lambda a: jnp.broadcast_to(a, (B, *a.shape)), s) for s in (one, other)]
    expected, grads_of_spread = values_and_pull(f, (params, xs, *spread), cotangents)
    assert_close(value, expected)
    assert_close(grads[2:], jax.tree.map(lambda a: a.sum(0), grads_of_spread[2:]), gradient=True)


def test_a_step_of_ones_own_takes_one_state_for_all_sequences():
    params, xs, *_ = drawn(23)
    one = draw_state(np.random.default_rng(0), params, ())
    assert_close(lstm(params, xs, one, step=own_step), lstm(params, xs, one))
    double = jax.tree.map(lambda a: a.astype(jnp.float32), one)
    found = lstm(params, xs, double, step=own_step, dtype=jnp.float64)
    assert_close(found, lstm(params, xs, double, dtype=jnp.float64))


class Pair(NamedTuple):
    h: jax.Array
    c: jax.Array


def test_the_state_of_a_step_of_ones_own_is_left_as_it_is():
    """Even where it looks like an (h, c) without batch axes, has a type of its own, or no numbers."""
    params, xs, *_ = drawn(23)
    xs = jnp.concatenate([xs, xs[:1]])  # as many sequences as units
    zeros, counts = jnp.zeros((H, H)), jnp.linspace(0.0, 30.0, H)

    def count(params, state, x):
        return (state[0], state[1] + 1), state[0]

    (_, end), _ = lstm(params, xs, (zeros, counts), step=count)
    np.testing.assert_array_equal(end, counts + T)

    def paired(params, state, x):
        (h, c), _ = cell_step(params, (state.h, state.c), x)
        return Pair(h, c), h

    pair, _ = lstm(params, xs, Pair(zeros, zeros), step=paired)
    assert_close(pair, Pair(*lstm(params, xs)[0]))

    def flips(params, state, x):
        return [(state[0], ~state[1]), x]

    (_, odd), _ = lstm(params, xs, (zeros, zeros > 0), step=flips)
    assert odd.all()


def test_what_a_partial_was_given_stays():
    params, xs, *_ = drawn(23)

    def doubled(site, *terms, bias=()):
        return 2 * product(site, *terms, bias=bias)

    twice = jax.tree.map(lambda a: 2 * a, params)
    assert_close(lstm(params, xs, step=partial(cell_step, product=doubled)), lstm(twice, xs))


def test_parameters_of_several_dtypes_are_cast_before_they_are_compared():
    params, xs, *_ = drawn(23)
    mixed = params._replace(b=params.b.astype(jnp.float32))
    assert_close(lstm(mixed, xs, dtype=jnp.float64), lstm(params._replace(b=mixed.b.astype(jnp.float64)), xs))


def own_step(params, state, x, *, emit):
    return cell_step(params, state, x, emit=emit)


def test_parameters_of_numpy_are_taken_in_jaxs_precision():
    params, xs, *_ = drawn(23)
    with jax.enable_x64(False):
        numbers = jax.tree.map(lambda a: np.asarray(a, np.float64), params)
        _, ys = lstm(numbers, np.asarray(xs, np.float32))
        assert ys.dtype == jnp.float32


# Resets


def test_packed_episodes_equal_the_episodes_alone():
    params, xs, *_ = drawn(24)
    _, ys = run(params, xs, resets=RESETS)
    for n in range(B):
        cuts = [0, *(t for t in range(1, T) if RESETS[n, t]), T]
        alone = [run(params, take(xs, n)[a:z])[1] for a, z in itertools.pairwise(cuts)]
        np.testing.assert_allclose(take(ys, n), np.concatenate(alone), rtol=1e-13)


def test_no_gradient_crosses_a_reset():
    params, xs, state, again = drawn(25)
    flags = np.zeros((B, T), bool)
    flags[:, 3] = True

    def late(xs, state, again):
        return lstm(params, xs, state, resets=flags, reset_state=again)[1][:, 3:].sum()

    d_xs, d_state, d_again = jax.jit(jax.grad(late, (0, 1, 2)))(xs, state, again)
    np.testing.assert_array_equal(d_xs[:, :3], np.zeros((B, 3, I)))
    assert_close(d_state, jax.tree.map(jnp.zeros_like, state), gradient=True)
    assert all(np.all(np.asarray(d) != 0) for d in (d_xs[:, 3:], *d_again))


def test_nan_before_a_reset_stays_before_it():
    """The forward pass of a new episode does not see how the one before it ended."""
    params, xs, *_ = drawn(26)
    _, ys = run(params, xs.at[0, 1].set(jnp.nan), resets=RESETS)
    np.testing.assert_array_equal(np.isnan(ys[0]).any(-1), [False, True, False, False, False])


# Dtypes of what comes back, inputs that are not JAX arrays


def test_numpy_and_lists_are_taken_as_they_are():
    params, xs, state, _ = drawn(27)
    plain = jax.tree.map(np.asarray, (params, xs, state))
    assert_close(
        run(*plain, lengths=LENGTHS.tolist(), mask=MASK.tolist()), run(params, xs, state, lengths=LENGTHS, mask=MASK)
    )


def test_sizes_are_what_they_are_said_to_be():
    assert len({against.T, against.B, against.I, against.H, against.P}) == 5


def test_lengths_at_hand_are_checked_while_a_function_around_is_traced():
    params, xs, lengths = (
        init_params(jax.random.key(0), I, H, dtype=jnp.float64),
        jnp.ones((B, T, I)),
        jnp.array([5, 2, 0]),
    )
    assert_close(jax.jit(lambda xs: lstm(params, xs, lengths=lengths))(xs), lstm(params, xs, lengths=lengths))
    beyond = lengths + 1
    with pytest.raises(ValueError, match="lengths holds 6"):
        jax.jit(lambda xs: lstm(params, xs, lengths=beyond))(xs)
