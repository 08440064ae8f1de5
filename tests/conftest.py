"""The strictest JAX there is: no silent promotion of dtypes or ranks, and warnings are errors."""

import jax
import pytest

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture
def x64():
    """Computes in float64 where a test asks for it."""
    with jax.enable_x64(True):
        yield


@pytest.fixture
def promotion():
    """Promotes as JAX does by default: Optax multiplies moments by decay rates of other dtypes."""
    with jax.numpy_dtype_promotion("standard"):
        yield
