"""Jacobians against the oracle moved along complex directions and against jacrev of the layer; known exponents."""

from functools import partial, reduce

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from against import B, H, I, T, draw_params
from jax.flatten_util import ravel_pytree
from test_cells import TINY, drawn, numbers
from tolerances import VALUE, assert_close

from lstmjax import NetworkParams, Zoneout, init_network, init_params, lstm, network
from lstmjax.inside import hessian_vector_product, lyapunov_spectrum, singular_values, state_jacobian, step_jacobians
from lstmjax.oracle_cells import STEPS

LENGTHS = np.array([5, 3, 0])


def of_oracle(cell, params, xs, state):
    """The Jacobian of each step of one sequence, a column for each number of the state."""
    sizes, found = [a.size for a in state], []
    for x in xs:
        s = np.concatenate(state)
        columns = [
            np.concatenate(STEPS[cell](params, x, np.split(s + 1j * TINY * e, np.cumsum(sizes)[:-1]))[1]).imag / TINY
            for e in np.eye(len(s))
        ]
        found.append(np.stack(columns, axis=1))
        state = STEPS[cell](params, x, state)[1]
    return np.stack(found)


@pytest.mark.parametrize("cell", ["vanilla", "projection", "cifg", "fgr", "layer_norm_carried"])
@pytest.mark.usefixtures("x64")
def test_step_jacobians_are_the_oracles(cell):
    params, xs, state = drawn(cell)
    actual = step_jacobians(params, xs, state, cell=cell)
    expected = [
        of_oracle(cell, numbers(params), np.asarray(xs[n]), tuple(numbers(s)[n] for s in state)) for n in (0, 2)
    ]
    assert_close(actual[np.array([0, 2])], np.stack(expected), gradient=True)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.usefixtures("x64")
def test_a_span_is_what_jacrev_of_the_layer_gives(reverse):
    """With lengths, which hold the state and have the identity; with a wrapper around the step."""
    params, xs, (h, c) = drawn("vanilla")
    how = {"lengths": LENGTHS, "reverse": reverse, "wrappers": (Zoneout(0.2, 0.3),)}

    def end(s, x, lengths):
        state = s[:H], s[H:]
        return jnp.concatenate(lstm(params, x, state, **how | {"lengths": lengths})[0])

    expected = jax.jit(jax.vmap(jax.jacrev(end)))(jnp.concatenate([h, c], -1), xs, LENGTHS)
    assert_close(state_jacobian(params, xs, 0, T, (h, c), **how), expected, gradient=True)
    each = step_jacobians(params, xs, (h, c), **how)
    product = jnp.eye(2 * H)[None]
    for t in range(T)[:: -1 if reverse else 1]:
        product = each[:, t] @ product
    assert_close(product, expected, gradient=True)
    assert_close(each[1, 3:], jnp.broadcast_to(jnp.eye(2 * H), (2, 2 * H, 2 * H)))


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.usefixtures("x64")
def test_spans_are_the_products_of_their_steps(reverse):
    params, xs, state = drawn("vanilla")
    each = step_jacobians(params, xs, state, reverse=reverse)
    each = each[:, ::-1] if reverse else each
    assert_close(state_jacobian(params, xs, 1, 3, state, reverse=reverse), each[:, 2] @ each[:, 1], gradient=True)
    nothing = state_jacobian(params, xs, 2, 2, state, reverse=reverse)
    assert_close(nothing, jnp.broadcast_to(jnp.eye(2 * H), (B, 2 * H, 2 * H)))


def test_a_wrapper_may_bring_what_it_would_draw():
    params, xs, state = drawn("vanilla")
    kept = np.random.default_rng(1).random((T, B, H)) < 0.5
    found = step_jacobians(params, xs, state, wrappers=((Zoneout(0.0, 0.5), (None, (None, jnp.asarray(kept)))),))
    rows = np.asarray(found)[:, :, H:].transpose(1, 0, 2, 3)[kept]  # of the c that stay as they were
    identity = np.broadcast_to(np.eye(2 * H)[H:], (T, B, H, 2 * H))[kept]
    np.testing.assert_array_equal(rows, identity)


def test_jacobians_under_jit_vmap_and_without_batch_axes():
    rng = np.random.default_rng(3)
    params = draw_params(rng, I, H, dtype=jnp.float32)
    xs = jnp.asarray(rng.normal(size=(B, T, I)), jnp.float32)
    whole = step_jacobians(params, xs)
    assert whole.shape == (B, T, 2 * H, 2 * H)
    assert_close(jax.jit(jax.vmap(partial(step_jacobians, params)))(xs), whole, dtype="float32")


# Singular values of products


def orthogonal(rng, size):
    return np.linalg.qr(rng.normal(size=(size, size)))[0]


@pytest.mark.usefixtures("x64")
def test_singular_values_of_a_short_product_are_those_of_the_product():
    params, xs, state = drawn("vanilla")
    each = step_jacobians(params, xs, state)
    whole = state_jacobian(params, xs, 0, T, state)
    expected = np.linalg.svd(whole, compute_uv=False)
    found = np.asarray(singular_values(each))
    assert np.abs(found - expected).max() < 1e-14
    assert (np.diff(found) <= 0).all()


@pytest.mark.parametrize("size", [5, 6])
@pytest.mark.usefixtures("x64")
def test_a_long_product_keeps_all_its_singular_values(size):
    """J_t = A_t D_t A_{t−1}ᵀ: the product has those of D_T ··· D_1, which itself has lost them."""
    rng, steps = np.random.default_rng(4), 300
    bases = [orthogonal(rng, size) for _ in range(steps + 1)]
    d = np.exp(-np.linspace(0.1, 3.0, size) - 0.02 * rng.normal(size=(steps, size)))
    jacobians = np.stack([bases[t + 1] * d[t] @ bases[t].T for t in range(steps)])
    expected = -np.sort(-np.log(d).sum(0))
    assert expected[-1] < -850
    np.testing.assert_allclose(singular_values(jacobians, log=True), expected, rtol=1e-12)
    multiplied = np.linalg.svd(reduce(np.matmul, jacobians[::-1]), compute_uv=False)[-1]
    assert np.log(multiplied) > expected[-1] + 500  # rounding, and nothing else


@pytest.mark.usefixtures("x64")
def test_close_singular_values_that_overtake_each_other_are_told_apart():
    rng = np.random.default_rng(5)
    d = np.exp(rng.normal(size=(2, 40, 4)) * 0.3)
    bases = [orthogonal(rng, 4) for _ in range(41)]
    jacobians = np.stack([[bases[t + 1] * row[t] @ bases[t].T for t in range(40)] for row in d])
    np.testing.assert_allclose(
        singular_values(jacobians, log=True), -np.sort(-np.log(d).sum(1), axis=-1), rtol=0, atol=1e-11
    )


def test_singular_values_of_what_is_wiped_out_and_of_no_steps():
    wiped = jnp.stack([jnp.diag(jnp.array([0.5, 0.0, 2.0])), jnp.eye(3)])
    np.testing.assert_allclose(singular_values(wiped), [2, 0.5, 0], atol=1e-12)
    np.testing.assert_array_equal(singular_values(jnp.zeros((4, 3, 3))), 0)
    np.testing.assert_array_equal(singular_values(jnp.zeros((2, 0, 3, 3))), jnp.ones((2, 3)))


# Exponents


@pytest.mark.usefixtures("x64")
def test_exponents_without_recurrent_weights_are_the_mean_log_f():
    """What h says does not come back then, so that c_t = f_t c_{t−1} + … and nothing else."""
    rng, steps, warmup = np.random.default_rng(6), 300, 200
    params = draw_params(rng, I, 3)._replace(w_h=jnp.zeros((3, 4, 3)))
    params = params._replace(b=params.b.at[1].set(jnp.array([3.0, 0.0, -3.0])))
    xs = jnp.asarray(np.tile(rng.normal(size=(10, I)), (steps // 10, 1)))
    z = np.asarray(xs[warmup:]) @ np.asarray(params.w_x[:, 1]) + np.asarray(params.b[1])
    expected = -np.sort(np.log1p(np.exp(-z)).mean(0))
    found = lyapunov_spectrum(params, xs, count=3, warmup=warmup)
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    assert (np.asarray(lyapunov_spectrum(params, xs, warmup=warmup))[3:] < -30).all()


@pytest.mark.usefixtures("x64")
def test_exponents_are_the_growth_of_singular_values():
    """Of a long run; backwards and over lengths; the sum is the mean log |det J|."""
    rng, steps = np.random.default_rng(7), 400
    params = draw_params(rng, I, 2)
    xs = jnp.asarray(rng.normal(size=(2, steps, I)))
    lengths = np.array([steps, 250])
    for reverse in (False, True):
        found = lyapunov_spectrum(params, xs, lengths=lengths, reverse=reverse)
        each = step_jacobians(params, xs, lengths=lengths, reverse=reverse)
        _, volume = np.linalg.slogdet(each)
        np.testing.assert_allclose(found.sum(-1), volume.sum(-1) / lengths, rtol=1e-10)
        logs = singular_values(each[:, ::-1] if reverse else each, log=True)
        np.testing.assert_allclose(found, np.asarray(logs) / lengths[:, None], atol=0.03)
        assert (np.diff(found, axis=-1) <= 0).all()


def test_fewer_exponents_are_the_first_of_all():
    rng = np.random.default_rng(8)
    params = draw_params(rng, I, H, dtype=jnp.float32)
    xs = jnp.asarray(rng.normal(size=(B, 200, I)), jnp.float32)
    some = jax.jit(partial(lyapunov_spectrum, count=2, warmup=50))(params, xs)
    np.testing.assert_allclose(some, lyapunov_spectrum(params, xs, warmup=50)[:, :2], atol=1e-4)


# Hessians


@pytest.mark.usefixtures("x64")
def test_hessian_vector_product_of_a_network_is_the_hessian_times_the_vector():
    rng = np.random.default_rng(9)
    params = init_network(jax.random.key(1), I, 2, 2, dtype=jnp.float64)
    xs = jnp.asarray(rng.normal(size=(B, T, I)))

    def loss(params):
        return jnp.square(network(params, xs)[1]).mean()

    direction = jax.tree.map(lambda a: jnp.asarray(rng.normal(size=a.shape)), params)
    product = jax.jit(partial(hessian_vector_product, loss))(params, direction)
    assert isinstance(product, NetworkParams)
    point, unflat = ravel_pytree(params)
    whole = jax.jit(jax.hessian(lambda vector: loss(unflat(vector))))(point)
    assert_close(ravel_pytree(product)[0], whole @ ravel_pytree(direction)[0], gradient=True)


def test_hessian_vector_product_of_any_tree():
    point = {"a": jnp.array([1.0, 2.0]), "b": None}
    found = hessian_vector_product(lambda p: (p["a"] ** 3).sum(), point, {"a": jnp.array([1.0, 10.0]), "b": None})
    np.testing.assert_allclose(found["a"], [6.0, 120.0], rtol=VALUE["float32"])


# Messages

PARAMS = init_params(jax.random.key(0), I, H)
XS = jnp.zeros((B, T, I))


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: step_jacobians((PARAMS,), XS), TypeError, r"params is a tuple of 1, expected LSTMParams.*layers\[n\]"),
        (lambda: step_jacobians(PARAMS, XS[..., :1]), ValueError, "xs has 1 feature .* expect I = 2"),
        (lambda: step_jacobians(PARAMS, XS, (XS, XS)), ValueError, r"state h has shape \(3, 5, 2\), expected \(3, 4\)"),
        (lambda: state_jacobian(PARAMS, XS, 3, 2), ValueError, r"start is 3 and stop is 2, expected 0 <= start"),
        (lambda: state_jacobian(PARAMS, XS, 0, T + 1), ValueError, "stop is 6, expected .* <= T = 5"),
        (lambda: lyapunov_spectrum(PARAMS, XS, count=9), ValueError, "count is 9, but the state has S = 8 numbers"),
        (lambda: lyapunov_spectrum(PARAMS, XS, count=0), ValueError, "count is 0, expected a whole number of at least"),
        (lambda: lyapunov_spectrum(PARAMS, XS, warmup=T), ValueError, "warmup is 5, expected .* below T = 5"),
        (lambda: singular_values(jnp.ones((3, 3))), ValueError, r"shape \(3, 3\), expected \[..., T, S, S\].*\[None\]"),
        (lambda: singular_values(jnp.ones((2, 3, 3), int)), ValueError, "jacobians is int32, expected floating-point"),
        (
            lambda: hessian_vector_product(lambda p: p, jnp.ones(3), jnp.ones(3)),
            ValueError,
            r"loss gives float32 \(3,\), expected one floating-point number, shape \(\). Take .mean",
        ),
        (
            lambda: hessian_vector_product(jnp.sum, jnp.ones(3), jnp.ones(2)),
            ValueError,
            r"direction is float32 \(2,\), expected float32 \(3,\), as in params",
        ),
        (
            lambda: hessian_vector_product(jnp.sum, jnp.ones(3), (jnp.ones(3),)),
            ValueError,
            "direction has the structure",
        ),
    ],
)  # fmt: skip
def test_messages(call, error, words):
    with pytest.raises(error, match=words):
        call()
