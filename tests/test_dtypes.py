"""The types of what comes back, and how far half precision is from float64."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from against import B, H, I, P, T, draw_params
from flax import nnx as flax_nnx
from tolerances import assert_close

from lstmjax import init_network, init_params, linen, lstm, network, nnx, oracle, stacked
from lstmjax.inside import gate_statistics, trace

LOW = ["bfloat16", "float16"]
DTYPES = ["float32", *LOW]


def drawn(dtype, steps=T, seed=0):
    """Values that `dtype` can hold, so that only the computation differs from the oracle's."""
    rng = np.random.default_rng(seed)
    params = draw_params(rng, width=P, biases=2, dtype=dtype)
    return params, jnp.asarray(rng.normal(size=(B, steps, I)), dtype)


def dtypes(tree):
    return {str(leaf.dtype) for leaf in jax.tree.leaves(tree)}


@pytest.mark.parametrize("dtype", DTYPES)
def test_h_has_the_dtype_of_the_parameters_and_c_at_least_float32(dtype):
    params, xs = drawn(dtype)
    (h, c), steps = jax.eval_shape(lambda p, x: lstm(p, x, emit="step"), params, xs)
    assert dtypes((h, steps.h)) == {dtype}
    assert dtypes((c, steps._replace(h=None))) == {"float32"}


@pytest.mark.parametrize("whole", ["int32", "uint8", "bool"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_whole_numbers_are_cast_to_a_dtype_that_is_given(dtype, whole):
    params, _ = drawn("float32")
    xs = jnp.asarray(np.random.default_rng(1).integers(0, 2, size=(B, T, I)), whole)
    for run in (lambda xs: lstm(params, xs, dtype=dtype), lambda xs: stacked((params,), xs, dtype=dtype)):
        actual, expected = run(xs), run(xs.astype(dtype))
        assert dtypes(actual[1]) == {dtype}
        jax.tree.map(np.testing.assert_array_equal, actual, expected)


@pytest.mark.usefixtures("x64")
def test_float64_is_float64_throughout():
    params, xs = drawn("float64")
    assert dtypes(jax.eval_shape(lambda p, x: lstm(p, x, emit="step"), params, xs)) == {"float64"}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("cast", [False, True])
def test_values_and_gradients_are_near_float64(dtype, cast):
    """Parameters of that dtype, or float32 parameters that `dtype=` casts; against the oracle."""
    params, xs = drawn(dtype)
    if cast:
        params, xs = jax.tree.map(lambda a: a.astype(jnp.float32), (params, xs))
    weights = np.random.default_rng(1).normal(size=(B, T, P))

    def loss(params, xs):
        (_, c), ys = lstm(params, xs, dtype=dtype if cast else None)
        return (ys.astype(jnp.float32) * weights.astype(np.float32)).sum(), (c, ys)

    (_, (c, ys)), grads = jax.jit(jax.value_and_grad(loss, (0, 1), has_aux=True))(params, xs)
    assert dtypes(ys) == {dtype}
    assert dtypes(c) == {"float32"}
    assert dtypes(grads) == dtypes(params)  # where they are stored, not where it is computed
    runs = [oracle.lstm(params, np.asarray(x, np.float64)) for x in xs]
    pulls = [pull(None, oracle.Steps(h=w)) for (_, pull), w in zip(runs, weights, strict=True)]
    assert_close((c, ys), (np.stack([r[0][0][1] for r in runs]), np.stack([r[0][1].h for r in runs])), dtype=dtype)
    summed = jax.tree.map(lambda *a: sum(a), *(p.params for p in pulls))
    assert_close(grads, (summed, np.stack([p.xs for p in pulls])), gradient=True, dtype=dtype)


@pytest.mark.parametrize("dtype", LOW)
def test_c_does_not_lose_small_steps(dtype):
    """A cell that counts: f = 1 and i·g = 2⁻¹² a step. In half precision c would stop at 1 + 2⁻¹² or sooner."""
    steps = 512
    params = jax.tree.map(jnp.zeros_like, draw_params(np.random.default_rng(0), 1, 1, dtype=dtype))
    g = np.arctanh(2.0**-12)
    params = params._replace(b=jnp.asarray([[30.0], [30.0], [g], [30.0]], dtype))
    g = np.tanh(np.float64(params.b[2, 0]))
    start = jnp.zeros(1, dtype), jnp.ones(1)
    (_, c), _ = lstm(params, jnp.zeros((steps, 1), dtype), start)
    np.testing.assert_allclose(c, 1 + steps * g, rtol=1e-5)


def test_dtype_casts_a_given_state_too():
    params, xs = drawn("float32")
    rng = np.random.default_rng(2)
    state = tuple(jnp.asarray(rng.normal(size=(B, n)), jnp.float32) for n in (P, H))
    (h, c), ys = jax.eval_shape(lambda: lstm(params, xs, state, reset_state=state, dtype="bfloat16"))
    assert (dtypes((h, ys)), dtypes(c)) == ({"bfloat16"}, {"float32"})
    again, _ = jax.eval_shape(lambda: lstm(params, xs, lstm(params, xs, state, dtype="float16")[0], dtype="float16"))
    assert [str(a.dtype) for a in again] == ["float16", "float32"]


def test_a_stack_computes_in_dtype_throughout():
    layers = tuple(init_params(jax.random.key(n), size, H) for n, size in enumerate((I, H)))
    states, ys = jax.eval_shape(lambda x: stacked(layers, x, dtype="bfloat16"), jnp.ones((B, T, I)))
    assert dtypes(ys) == {"bfloat16"}
    assert [dtypes(h) for h, _ in states] == [{"bfloat16"}] * 2
    assert [dtypes(c) for _, c in states] == [{"float32"}] * 2


@pytest.mark.filterwarnings("ignore:Explicitly requested dtype")  # JAX's own, also of init_params
@pytest.mark.parametrize("dtype", ["float64", np.float64, float])
def test_float64_is_what_jax_makes_of_it_without_64_bit_mode(dtype):
    params, xs = drawn("float32")
    net = init_network(jax.random.key(0), I, H, 3, dtype=dtype)
    state = jnp.ones((B, H))
    linen_layer = linen.LSTM(H, dtype=dtype, param_dtype=dtype)
    for run in (
        lambda xs, dtype: lstm(params, xs, dtype=dtype)[1],
        lambda xs, dtype: stacked((params,), xs, dtype=dtype)[1],
        lambda xs, dtype: network(net, xs, dtype=dtype),
        lambda xs, dtype: trace(params, xs, dtype=dtype).c,
        lambda xs, dtype: nnx.LSTM(I, H, dtype=dtype, rngs=flax_nnx.Rngs(0))(xs),
        lambda xs, dtype: nnx.LSTMCell(I, H, dtype=dtype, rngs=flax_nnx.Rngs(0))((state, state), xs[:, 0])[1],
        lambda xs, dtype: linen.LSTM(H, dtype=dtype).init_with_output(jax.random.key(0), xs)[0],
        lambda xs, dtype: gate_statistics(params, xs, dtype=dtype).mean.f,
    ):
        actual, expected = run(xs, dtype), run(xs, "float32")
        assert dtypes(actual) == {"float32"}
        np.testing.assert_array_equal(jax.tree.leaves(actual)[0], jax.tree.leaves(expected)[0])
    assert dtypes(linen_layer.init(jax.random.key(0), xs)) == {"float32"}


def test_jax_warns_of_float64_without_64_bit_mode():
    params, xs = drawn("float32")
    with pytest.warns(UserWarning, match="float64"):
        jax.eval_shape(lambda: lstm(params, xs, dtype="float64"))


@pytest.mark.parametrize("dtype", LOW)
def test_padding_stays_away_in_half_precision(dtype):
    params, xs = drawn(dtype)
    mask = np.array([[0, 1, 0, 1, 1], [1, 1, 1, 1, 0], [0, 0, 0, 0, 0]], bool)
    both = jax.jit(jax.value_and_grad(lambda p, x: lstm(p, x, mask=mask)[1].astype(jnp.float32).sum(), (0, 1)))
    clean, poisoned = both(params, xs), both(params, jnp.where(mask[..., None], xs, jnp.nan))
    for a, e in zip(jax.tree.leaves(poisoned), jax.tree.leaves(clean), strict=True):
        np.testing.assert_array_equal(np.asarray(a, np.float32), np.asarray(e, np.float32))


def test_fused_rounds_a_weight_gradient_once_in_half_precision(x64):
    params = init_params(jax.random.key(0), 3, 8)
    xs, weights = (jax.random.normal(jax.random.key(k), (2, 150, n), jnp.float32) for k, n in ((1, 3), (2, 8)))

    @partial(jax.jit, static_argnames=("backend", "dtype"))
    def gradient(backend, dtype):
        rounded = jax.tree.map(lambda a: a.astype(jnp.bfloat16).astype(dtype), (params, xs))

        def loss(params):
            return (lstm(params, rounded[1], backend=backend)[1].astype(jnp.float32) * (weights + 1)).sum()

        return jax.grad(loss)(rounded[0]).w_h.astype(jnp.float64)

    exact = gradient("scan", jnp.float64)
    errors = {
        name: jnp.abs(gradient(name, jnp.bfloat16) - exact).max() / jnp.abs(exact).max() for name in ("scan", "fused")
    }
    assert errors["fused"] < float(jnp.finfo(jnp.bfloat16).eps) < errors["scan"]
    assert errors["fused"] < errors["scan"] / 2
