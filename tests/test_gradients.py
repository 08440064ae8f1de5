"""Gradients of any order and mode, checked against finite differences and against each other, in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from against import draw_params, draw_state, random_like, take
from jax.flatten_util import ravel_pytree
from tolerances import DIFFERENCE, assert_close

from lstmjax import Zoneout, lstm

pytestmark = pytest.mark.usefixtures("x64")

T, B, I, H, P = 3, 4, 1, 2, 3  # small: a Hessian has the square of their number
MASK = np.array([[1, 0, 1], [1, 1, 0], [0, 1, 1], [0, 0, 0]], bool)
RESETS = np.array([[0, 0, 1], [0, 1, 0], [0, 0, 1], [0, 1, 0]], bool)


@pytest.fixture(params=["plain", "everything"])
def problem(request, x64):
    """A function from a flat vector of params, xs and the state to a number, and a point."""
    rng = np.random.default_rng(0)
    everything = request.param == "everything"
    options = {"mask": MASK, "resets": RESETS, "wrappers": (Zoneout(0.2, 0.3),)} if everything else {}
    params = draw_params(rng, I, H, width=P if everything else None, biases=1)
    point, unflat = ravel_pytree((params, jnp.asarray(rng.normal(size=(B, T, I))), draw_state(rng, params, (B,))))
    weights = random_like(rng, jax.eval_shape(lambda a: lstm(*unflat(a), **options), point))

    def outputs(vector):
        return ravel_pytree(lstm(*unflat(vector), **options))[0]

    def loss(vector):
        return jnp.tanh(outputs(vector)) @ ravel_pytree(weights)[0]

    return loss, outputs, point, jnp.asarray(rng.normal(size=(2, point.size)))


# The plain layer's step is the inner part of everything's: its higher derivatives are in the slow tests.
everything = pytest.mark.parametrize(
    "problem", [pytest.param("plain", marks=pytest.mark.slow), "everything"], indirect=True
)


def difference(f, point, direction, delta=1e-5):
    return (f(point + delta * direction) - f(point - delta * direction)) / (2 * delta)


def near(actual, expected):
    assert np.abs(actual - expected).max() <= DIFFERENCE * max(1.0, np.abs(expected).max())


def test_first_order(problem):
    """grad, jvp, value by value against central differences along every coordinate."""
    loss, _, point, (direction, _) = problem
    grad, many = jax.jit(jax.grad(loss))(point), jax.jit(jax.vmap(loss))
    steps = 1e-5 * jnp.eye(point.size)
    near(grad, (many(point[None] + steps) - many(point[None] - steps)) / 2e-5)
    _, slope = jax.jit(lambda p, d: jax.jvp(loss, (p,), (d,)))(point, direction)
    near(slope, grad @ direction)


@everything
def test_jacobians_of_all_outputs_agree(problem):
    _, outputs, point, (direction, _) = problem
    forward, backward = jax.jit(jax.jacfwd(outputs))(point), jax.jit(jax.jacrev(outputs))(point)
    assert_close(forward, backward, gradient=True)
    near(forward @ direction, difference(jax.jit(outputs), point, direction))


@everything
def test_second_order(problem):
    """Forward over reverse (`hessian`), reverse over forward and reverse over reverse; differences of the gradient."""
    loss, _, point, (direction, other) = problem
    hessian = jax.jit(jax.hessian(loss))(point)
    assert_close(hessian, hessian.T, gradient=True)
    along = hessian @ direction
    grad = jax.jit(jax.grad(loss))
    near(along, difference(grad, point, direction))
    for product in (
        lambda p, d: jax.grad(lambda q: jax.jvp(loss, (q,), (d,))[1])(p),
        lambda p, d: jax.grad(lambda q: jax.grad(loss)(q) @ d)(p),
    ):
        assert_close(jax.jit(product)(point, direction), along, gradient=True)
    twice = jax.jit(lambda p, d, e: jax.jvp(lambda q: jax.jvp(loss, (q,), (d,))[1], (p,), (e,))[1])
    assert_close(twice(point, direction, other), other @ along, gradient=True)


@pytest.mark.slow  # test_backends has one
@everything
def test_third_order(problem):
    loss, _, point, (direction, _) = problem

    def curve(s):
        return loss(point + s * direction)

    second = jax.jit(jax.grad(jax.grad(curve)))
    third = jax.jit(jax.jacfwd(jax.grad(jax.grad(curve))))(0.0)
    near(third, difference(second, 0.0, 1.0))


def test_vmap_of_grad_is_a_loop_of_grads():
    rng = np.random.default_rng(1)
    params, xs = draw_params(rng, I, H, width=P), jnp.asarray(rng.normal(size=(B, T, I)))

    def loss(params, xs):
        return (lstm(params, xs)[1] ** 2).sum()

    each = jax.jit(jax.vmap(jax.grad(loss), in_axes=(None, 0)))(params, xs)
    one = jax.jit(jax.grad(loss))
    for n in range(B):
        assert_close(take(each, n), one(params, take(xs, n)), gradient=True)
    assert_close(jax.tree.map(lambda a: a.sum(0), each), jax.jit(jax.grad(loss))(params, xs), gradient=True)


@pytest.mark.parametrize("policy", ["checkpoint", "remat-outside", "scan"])
def test_gradients_stand_inside_other_transforms(policy):
    """The layer's own checkpoint, jax.checkpoint around it, and the layer as a scan's body."""
    rng = np.random.default_rng(2)
    params, xs = draw_params(rng, I, H), jnp.asarray(rng.normal(size=(B, T, I)))

    def plain(params, xs):
        return (lstm(params, xs)[1] ** 2).sum()

    def scanned(params, xs):
        def body(total, x):
            return total + (lstm(params, x)[1] ** 2).sum(), None

        return jax.lax.scan(body, jnp.zeros(()), xs)[0]

    other = {
        "checkpoint": lambda p, x: (lstm(p, x, checkpoint="sqrt")[1] ** 2).sum(),
        "remat-outside": jax.checkpoint(plain),
        "scan": scanned,
    }[policy]
    assert_close(
        jax.jit(jax.grad(other, (0, 1)))(params, xs), jax.jit(jax.grad(plain, (0, 1)))(params, xs), gradient=True
    )
    hvp = [jax.jit(lambda p, x, f=f: jax.jvp(jax.grad(f), (p, x), (p, x))[1])(params, xs) for f in (other, plain)]
    assert_close(*hvp, gradient=True)
