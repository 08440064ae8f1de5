"""Initial values: the statistics of every preset; those of the frameworks themselves are in test_cards_peers.py."""

import math
from fractions import Fraction
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from distributions import BIAS, INPUT, UNIFORM, F, H, I, P, check_biases, check_moments, check_recurrent, check_uniform

from lstmjax import PRESETS, Bidirectional, init_network, init_params, init_stacked


def drawn(init, **options):
    return init_params(jax.random.key(1), I, H, init=init, **options)


@pytest.mark.parametrize("init", PRESETS)
def test_the_input_weights_have_their_distribution(init):
    INPUT[init](drawn(init).w_x)


@pytest.mark.parametrize("init", ["default", "flax", "flax_optimized_nnx"])
def test_lecun_normal_is_cut_at_two_deviations(init):
    w = np.abs(drawn(init).w_x)
    cut = 2 / math.sqrt(I) / 0.87962566103423978
    assert 0.97 * cut < w.max() <= cut * (1 + 1e-6)


@pytest.mark.parametrize("init", PRESETS)
def test_the_recurrent_weights_have_their_distribution(init):
    check_recurrent(init, drawn(init).w_h)


@pytest.mark.parametrize("init", PRESETS)
def test_the_biases_are_those_of_the_framework(init):
    check_biases(init, drawn(init))


def test_torch_draws_two_biases_and_so_a_triangular_sum():
    params = drawn("torch")
    check_uniform(params.b_h, UNIFORM)
    check_moments(params.b + params.b_h, UNIFORM * math.sqrt(2 / 3))


@pytest.mark.parametrize("init", PRESETS)
@pytest.mark.parametrize("bias", ["single", "double"])
def test_a_forget_bias_is_the_total(init, bias):
    params = drawn(init, bias=bias, forget_bias=2.5)
    np.testing.assert_array_equal(params.b[F], np.full(H, 2.5))
    other = drawn(init, bias=bias)
    keep = [k for k in range(4) if k != F]
    np.testing.assert_array_equal(params.b[np.array(keep)], other.b[np.array(keep)])
    if bias == "double":
        np.testing.assert_array_equal(params.b_h[F], np.zeros(H))


def chrono(dtype):
    """Logarithms of numbers from 1 to 9, one for each unit (Tallec & Ollivier 2018)."""
    return np.log(np.random.default_rng(0).uniform(1, 9, H)).astype(dtype)


@pytest.mark.parametrize("kind", [np.asarray, jnp.asarray, list, partial(np.asarray, dtype=np.float64)])
def test_a_forget_bias_may_be_one_number_a_unit(kind):
    bias = chrono(np.float32)
    for b in (
        drawn("torch", forget_bias=kind(bias)).b,
        jax.jit(lambda v: drawn("default", forget_bias=v).b)(jnp.asarray(bias)),
        jax.jit(lambda: drawn("default", forget_bias=np.asarray(bias)).b)(),
    ):
        np.testing.assert_array_equal(b[F], bias)
    key = jax.random.key(0)
    net = init_network(key, I, H, 3, layers=2, bidirectional=True, forget_bias=kind(bias), input_bias=kind(-bias))
    for pair in (*net.layers, *init_stacked(key, I, H, 2, bidirectional=True, forget_bias=kind(bias))):
        for params in pair:
            np.testing.assert_array_equal(params.b[F], bias)
    for pair in net.layers:
        np.testing.assert_array_equal(pair.reverse.b[0], -bias)


def test_a_fraction_is_a_forget_bias():
    assert drawn("default", forget_bias=Fraction(1, 2)).b[F].tolist() == [0.5] * H
    net = init_network(jax.random.key(0), I, H, 3, input_bias=Fraction(-1, 2), input_bias_step=Fraction(1, 4))
    np.testing.assert_array_equal(net.layers[0].b[0], -0.5 + 0.25 * np.arange(H))


@pytest.mark.parametrize(
    ("bias", "dtype", "message"),
    [
        (1e39, "float32", r" is 1e\+39, expected a number that is finite in float32"),
        (np.float64(-1e39), "bfloat16", r" is -1e\+39, expected a number that is finite in bfloat16"),
        (70_000, "float16", r" is 70000.0, expected a number that is finite in float16"),
        (10**400, "float32", r" is 10+…, expected a finite number"),
        (np.full(H, 1e39), "float32", r"\[0\] is 1e\+39, expected a number that is finite in float32"),
        (jnp.ones(H).at[2].set(jnp.nan), "float32", r"\[2\] is nan, expected a number that is finite in float32"),
        (np.ones(H + 1), "float32", rf" has shape \({H + 1},\), expected a number, or one for .*, \[H\] = \({H},\)"),
        (np.ones((1, H)), "float32", rf" has shape \(1, {H}\), expected a number, or one for each unit"),
        (np.ones(H, bool), "float32", " is bool, expected real numbers"),
        (np.ones(H, complex), "float32", " is complex64, expected real numbers"),
        ([1.0, None], "float32", " is a list that holds None, expected an array of numbers"),
    ],
)  # fmt: skip
def test_biases_that_are_not_finite_or_do_not_fit_are_refused(bias, dtype, message):
    key = jax.random.key(0)
    for name, call in (
        ("forget_bias", lambda: init_params(key, I, H, forget_bias=bias, dtype=dtype)),
        ("forget_bias", lambda: init_network(key, I, H, 3, forget_bias=bias, dtype=dtype)),
        ("input_bias", lambda: init_network(key, I, H, 3, input_bias=bias, dtype=dtype)),
    ):
        with pytest.raises((TypeError, ValueError), match=f"^{name}{message}"):
            call()


def test_a_step_of_input_biases_that_ends_at_infinity_is_refused():
    with pytest.raises(ValueError, match=rf"^input_bias with input_bias_step\[{H - 1}\] is inf, expected a number"):
        init_network(jax.random.key(0), I, H, 3, input_bias=1.0, input_bias_step=3.4e38 / (H - 1.5))


@pytest.mark.parametrize("init", PRESETS)
def test_a_preset_with_two_biases_keeps_its_total_forget_bias(init):
    params = drawn(init, bias="double")
    if BIAS.get(init) != "uniform":
        np.testing.assert_array_equal(params.b[F] + params.b_h[F], np.full(H, BIAS.get(init, 1.0)))


@pytest.mark.parametrize("init", PRESETS)
def test_sizes_and_what_exists(init):
    params = drawn(init, projection_size=P, bias=None)
    assert [None if a is None else a.shape for a in params[:5]] == [(I, 4, H), (P, 4, H), None, None, (H, P)]
    if init == "torch":
        check_uniform(params.w_p, UNIFORM)
    else:
        check_moments(params.w_p, 1 / math.sqrt(H))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
@pytest.mark.parametrize("init", PRESETS)
def test_the_dtype_is_that_of_all_fields(init, dtype):
    fields = jax.tree.leaves(drawn(init, dtype=dtype, projection_size=P))
    assert {str(a.dtype) for a in fields} == {dtype}
    assert all(np.isfinite(np.asarray(a, np.float32)).all() for a in fields)


def test_keys_draw_and_fields_are_independent():
    one, same, other = (init_params(jax.random.key(k), I, I, init="torch") for k in (0, 0, 1))
    for a, b, c in zip(*map(jax.tree.leaves, (one, same, other)), strict=True):
        np.testing.assert_array_equal(a, b)
        assert np.abs(a - c).max() > 0.01
    assert np.abs(one.w_x - one.w_h).max() > 0.01
    assert np.abs(one.b - one.b_h).max() > 0.01


def test_stacks_are_fed_by_the_layer_below():
    layers = init_stacked(jax.random.key(0), 5, 10, 3, bidirectional=True, projection_size=4)
    assert [type(layer) for layer in layers] == [Bidirectional] * 3
    assert [layer.forward.w_x.shape[0] for layer in layers] == [5, 8, 8]
    assert np.abs(layers[1].forward.w_x - layers[1].reverse.w_x).max() > 0.01
    summed = init_stacked(jax.random.key(0), 5, 10, 2, bidirectional=True, merge="sum")
    assert [layer.reverse.w_x.shape[0] for layer in summed] == [5, 10]
    plain = init_stacked(jax.random.key(0), 5, 10, 2)
    assert [layer.w_x.shape[0] for layer in plain] == [5, 10]
