"""Fixed points against points known by formula and by a root finder, their Jacobians by finite differences."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from against import H, I, draw_params
from test_cells import drawn
from tolerances import DIFFERENCE

from lstmjax import CELLS, LSTMParams, Zoneout, init_params
from lstmjax.inside import distinct_points, fixed_points
from lstmjax.oracle_cells import STEPS

N = 6


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def one_unit(w, b):
    """One unit without an input worth mentioning: w is what h_{t−1} adds to z_i, z_f, z_g and z_o."""
    return LSTMParams(jnp.zeros((1, 4, 1)), jnp.asarray(w)[None, :, None], jnp.asarray(b)[:, None])


def bistable():
    """g answers to h and the gates stand half or wide open: 0 is a fixed point and drives off to either side."""
    return one_unit([0.0, 0.0, 4.0, 0.0], [0.0, 0.0, 0.0, 2.0])


def roots(f, points):
    """Every root of a function of one number between neighbouring points of different signs, by bisection."""
    values, found = f(points), []
    for k in np.flatnonzero(np.sign(values[:-1]) != np.sign(values[1:])):
        low, high = points[k], points[k + 1]
        for _ in range(200):
            middle = (low + high) / 2
            low, high = (middle, high) if np.sign(f(middle)) == np.sign(f(low)) else (low, middle)
        found.append((low + high) / 2)
    return np.array(found)


def finite_differences(f, s, delta=1e-5):
    moved = delta * np.eye(len(s))
    return np.stack([(f(s + d) - f(s - d)) / (2 * delta) for d in moved], axis=1)


@pytest.mark.usefixtures("x64")
def test_without_recurrent_weights_the_point_is_i_g_over_1_minus_f():
    rng = np.random.default_rng(0)
    params = draw_params(rng, I, H)._replace(w_h=jnp.zeros((H, 4, H)))
    x = rng.normal(size=I)
    starts = tuple(jnp.asarray(rng.normal(size=(N, H))) for _ in range(2))
    points = fixed_points(params, x, starts)
    z = np.einsum("i,igh->gh", x, params.w_x) + params.b
    i, f, g, o = sigmoid(z[0]), sigmoid(z[1]), np.tanh(z[2]), sigmoid(z[3])
    c = i * g / (1 - f)
    np.testing.assert_allclose(points.c, np.broadcast_to(c, (N, H)), rtol=1e-12)
    np.testing.assert_allclose(points.h, np.broadcast_to(o * np.tanh(c), (N, H)), rtol=1e-12)
    assert points.speeds.max() < 1e-28
    assert points.distinct.tolist().count(True) == 1
    expected = np.concatenate([-np.sort(-f), np.zeros(H)])  # h leads nowhere: c is multiplied by f
    np.testing.assert_allclose(points.eigenvalues, np.broadcast_to(expected, (N, 2 * H)), atol=1e-12)
    np.testing.assert_allclose(points.radius, f.max(), rtol=1e-12)
    assert points.stable.all()


@pytest.mark.usefixtures("x64")
def test_a_bistable_unit_has_three_points_and_the_middle_one_drives_off():
    i, f, o = 0.5, 0.5, sigmoid(2.0)

    def moved(c):
        return f * c + i * np.tanh(4 * o * np.tanh(c)) - c

    known = roots(moved, np.linspace(-3, 3.01, 400))
    assert len(known) == 3
    c = np.linspace(-2, 2, 9)[:, None]
    points = fixed_points(bistable(), np.zeros(1), (0.5 * np.tanh(c), c))
    assert points.speeds.max() < 1e-28
    found = np.sort(points.c[points.distinct, 0])
    np.testing.assert_allclose(found, known, atol=1e-10)
    np.testing.assert_array_equal(points.stable, np.abs(points.c[:, 0]) > 0.5)
    at = np.argmin(np.abs(points.c[:, 0]))  # there c' = (1/2 + 1/2 · 4 o) c
    np.testing.assert_allclose(points.radius[at], 0.5 + 2 * o, rtol=1e-10)


@pytest.mark.thorough
@pytest.mark.usefixtures("x64")
def test_a_slow_point_is_where_two_fixed_points_have_vanished():
    """With a bias of g the two points below 0 meet and are gone; the state still passes there slowly."""
    bias, o = 1.35, sigmoid(2.0)

    def moved(c):
        return 0.5 * c + 0.5 * np.tanh(4 * o * np.tanh(c) + bias) - c

    (known,) = roots(moved, np.linspace(-3, 3.01, 400))
    params = bistable()._replace(b=jnp.array([[0.0], [0.0], [bias], [2.0]]))
    c = np.array([[-0.6], [2.0]])
    points = fixed_points(params, np.zeros(1), (o * np.tanh(c), c))
    np.testing.assert_allclose(points.c[1], known, rtol=1e-10)
    assert points.speeds[1] < 1e-28
    assert 1e-6 < points.speeds[0] < 0.1
    assert points.c[0] < 0
    np.testing.assert_allclose(points.eigenvalues[0, 0], 1.0, atol=1e-6)


@pytest.mark.parametrize("cell", ["vanilla", "projection", "fgr", "layer_norm_carried"])
@pytest.mark.usefixtures("x64")
def test_eigenvalues_are_those_of_the_oracles_step(cell):
    params, xs, _ = drawn(cell)
    x, rng = np.asarray(xs[0, 0]), np.random.default_rng(1)
    sizes = [params.output_size, H, *(H for _ in CELLS[cell].feeds)]
    points = fixed_points(params, x, tuple(jnp.asarray(rng.normal(size=(N, n))) for n in sizes), cell=cell)
    n = int(jnp.argmin(points.speeds))
    assert points.speeds[n] < 1e-25
    p = jax.tree.map(np.asarray, params)

    def step(s):
        return np.concatenate(STEPS[cell](p, x, np.split(s, np.cumsum(sizes)[:-1]))[1])

    s = np.concatenate([a[n] for a in points.state])
    np.testing.assert_allclose(step(s), s, atol=1e-12)
    expected = np.linalg.eigvals(finite_differences(step, s))
    found = np.asarray(points.eigenvalues[n])
    assert (np.diff(np.abs(found)) <= 1e-12).all()
    for value in expected:
        assert np.abs(found - value).min() < 100 * DIFFERENCE  # of eigenvalues, not of what they are made of
    np.testing.assert_allclose(points.radius[n], np.abs(expected).max(), rtol=1e-6)


def test_points_under_jit_and_over_inputs():
    rng = np.random.default_rng(2)
    params = draw_params(rng, I, H)
    starts = tuple(jnp.asarray(rng.normal(size=(N, H)), jnp.float32) for _ in range(2))
    inputs = jnp.asarray(rng.normal(size=(3, I)), jnp.float32)
    many = jax.jit(jax.vmap(partial(fixed_points, params, starts=starts)))(inputs)
    assert many.eigenvalues.shape == (3, N, 2 * H)
    one = fixed_points(params, inputs[1], starts)
    np.testing.assert_allclose(many.c[1], one.c, atol=1e-5)
    assert one.speeds.max() < 1e-12


def test_a_wrapper_moves_the_points_own_speed_but_not_the_points():
    """Zoneout at evaluation keeps a share of the old state: the same fixed points, approached more slowly."""
    starts = jnp.full((1, 1), 0.3), jnp.full((1, 1), 0.6)
    plain = fixed_points(bistable(), jnp.zeros(1), starts)
    slowed = fixed_points(bistable(), jnp.zeros(1), starts, wrappers=(Zoneout(0.8, 0.8),))
    np.testing.assert_allclose(slowed.c, plain.c, rtol=1e-5)
    np.testing.assert_allclose(slowed.radius, 0.8 + 0.2 * plain.radius, rtol=1e-4)


def test_a_start_without_a_way_down_says_so_by_its_speed():
    """Without a forget gate and with g held at 1, c grows for ever."""
    params = one_unit([0.0, 0.0, 0.0, 0.0], [0.0, 40.0, 40.0, 0.0])
    points = fixed_points(params, jnp.zeros(1), (jnp.zeros((1, 1)), jnp.zeros((1, 1))))
    np.testing.assert_allclose(points.speeds, 0.125, rtol=1e-2)  # c' = c + 1/2


def test_half_precision_is_searched_in_float32():
    params = init_params(jax.random.key(0), I, H, dtype=jnp.bfloat16)
    points = fixed_points(params, jnp.ones(I, jnp.bfloat16), (jnp.zeros((2, H)), jnp.zeros((2, H))))
    assert points.c.dtype == points.h.dtype == jnp.float32
    assert points.speeds.max() < 1e-12


def test_distinct_points_are_the_slowest_of_their_kind():
    h = jnp.array([[0.0, 1.0], [0.0, 1.00005], [0.0, 2.0], [0.0, 1.0001], [3.0, 2.0]])
    speeds = jnp.array([1e-9, 1e-12, 0.1, 1e-10, jnp.nan])
    assert distinct_points((h, h), speeds, 1e-3).tolist() == [False, True, True, False, True]
    assert distinct_points((h, h), speeds, 1e-6).tolist() == [True] * 5


@pytest.mark.parametrize(
    ("x", "starts", "error", "words"),
    [
        (jnp.zeros((2, I)), (jnp.zeros((N, H)),) * 2, ValueError, r"x has shape \(2, 2\), expected \[I\].*jax.vmap"),
        (jnp.zeros(I + 1), (jnp.zeros((N, H)),) * 2, ValueError, "x has 3 features .* expect I = 2"),
        (jnp.zeros(I), jnp.zeros((2, N, H)), TypeError, r"starts is an array, expected a tuple \(h, c\)"),
        (jnp.zeros(I), (jnp.zeros(H),) * 2, ValueError, r"starts has the shapes \(4,\), \(4,\).*h\[None\]"),
        (jnp.zeros(I), (jnp.zeros((N, H)), jnp.zeros((2, H))), ValueError, r"\(6, 4\), \(2, 4\), expected .* one N"),
        (jnp.zeros(I), (jnp.zeros((0, H)),) * 2, ValueError, r"shapes \(0, 4\), \(0, 4\), .* one N of at least 1"),
        (jnp.zeros(I), (jnp.zeros((N, H)), jnp.zeros((N, 3))), ValueError, r"starts c has shape \(6, 3\), expected"),
    ],
)
def test_messages(x, starts, error, words):
    params = init_params(jax.random.key(0), I, H)
    with pytest.raises(error, match=words):
        fixed_points(params, x, starts)


def test_a_stack_is_told_how_to_be_asked():
    params = init_params(jax.random.key(0), I, H)
    with pytest.raises(
        TypeError, match=r"params is a tuple of 1, expected LSTMParams.*stacked\(layers\[:n\], xs\)\[1\]"
    ):
        fixed_points((params,), jnp.zeros(I), (jnp.zeros((1, H)),) * 2)
