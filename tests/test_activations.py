"""Derivatives of the activations against their formulas, and how far a gradient reaches."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tolerances import assert_close

from lstmjax import LSTMParams, lstm
from lstmjax.inside import MAXIMA, derivatives, gradient_survival

pytestmark = pytest.mark.usefixtures("x64")

F = (0.0, 0.5, 0.9, 0.99, 1.0)


def test_derivatives_are_those_of_the_formulas():
    z = jnp.asarray(np.random.default_rng(0).normal(size=(3, 5)) * 3)
    at = jax.jit(derivatives)(z)
    sigma = 1 / (1 + np.exp(-np.asarray(z)))
    assert_close(at, at._replace(sigma=sigma, d_sigma=sigma * (1 - sigma), tanh=np.tanh(z), d_tanh=1 - np.tanh(z) ** 2))


def test_the_largest_derivatives_are_a_quarter_and_one_at_zero():
    at = derivatives()
    assert (float(at.z[0]), float(at.z[-1]), at.z.size) == (-6.0, 6.0, 241)
    for name, slope in (("sigma", at.d_sigma), ("tanh", at.d_tanh)):
        where, value = MAXIMA[name]
        assert float(at.z[slope.argmax()]) == where
        assert float(slope.max()) == value
        assert float(jnp.sort(slope)[-2]) < value
    assert MAXIMA == {"sigma": (0.0, 0.25), "tanh": (0.0, 1.0)}


def test_the_carousel_keeps_f_to_the_power_of_the_steps():
    kept = gradient_survival(F, 60)
    assert kept.cell.shape == (61, len(F))
    np.testing.assert_allclose(kept.cell, np.array(F) ** np.arange(61)[:, None], rtol=1e-12)
    np.testing.assert_array_equal(kept.cell[:, -1], 1.0)
    np.testing.assert_array_equal(kept.steps, np.arange(61))


def test_the_slopes_are_those_of_jax_grad():
    """Of a layer with that forget gate, and of the plain RNN written out."""
    kept = gradient_survival((0.9,), 7, weight=(1.5, -0.7), x=0.2)
    params = LSTMParams(jnp.zeros((1, 4, 1)), jnp.zeros((1, 4, 1)), jnp.array([[0.0], [np.log(9.0)], [0.0], [0.0]]))

    def last(c):
        return lstm(params, jnp.zeros((7, 1)), (jnp.zeros(1), c))[0][1][0]

    np.testing.assert_allclose(jax.grad(last)(jnp.ones(1)), kept.cell[7], rtol=1e-12)
    for n, weight in enumerate((1.5, -0.7)):

        def plain(h, weight=weight):
            for _ in range(7):
                h = jnp.tanh(weight * h + 0.2)
            return h

        np.testing.assert_allclose(jax.grad(plain)(0.0), kept.plain[7, n], rtol=1e-12)


def test_a_plain_rnn_loses_what_the_carousel_keeps():
    kept = gradient_survival(steps=50, weight=(0.5, 1.0, 2.0))
    assert np.all(np.abs(kept.plain[-1]) < 1e-9)
    assert np.all(np.abs(kept.plain[-1]) < kept.cell[-1, -1])


def test_gates_and_steps_that_are_none_are_refused():
    with pytest.raises(ValueError, match=r"f is \[1.5\], expected gates from 0 to 1"):
        gradient_survival((1.5,))
    with pytest.raises(ValueError, match=r"f has shape \(\), expected \[K\]: a list of numbers"):
        gradient_survival(0.5)
    with pytest.raises(ValueError, match="steps is 0, expected a whole number of at least 1"):
        gradient_survival(steps=0)
    with pytest.raises(ValueError, match="z is int64, expected a floating-point dtype"):
        derivatives(jnp.array([1, 2]))
