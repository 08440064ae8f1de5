"""Products turned or folded: as right as the others, in every transform, and where they are taken."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_backends import CASES, both, defined
from tolerances import assert_close
from transforms import BY_NAME, definition_of, transformed

from lstmjax import explain_backend, init_params, lstm
from lstmjax.backends import cpu

FEW = ("two biases, mask and lengths, hold", "nig, no batch, emit", "nfg, two batch axes, time first")
QUICK = {"jvp", "vmap_over_examples", "vmap_over_parameters", "vmap_of_higher"}


@pytest.fixture(params=["turned", "as they stand"])
def form(request, monkeypatch):
    """Turns every product, however small; or leaves all as they stand. Tests are small: elsewhere theirs are folded."""
    monkeypatch.setattr(cpu, "turns_back", lambda rows, weights: request.param == "turned")
    monkeypatch.setattr(cpu, "folds", lambda weights: False)
    jax.clear_caches()  # compiled programs are not kept by this
    yield
    monkeypatch.undo()
    jax.clear_caches()


@pytest.mark.usefixtures("x64", "form")
@pytest.mark.parametrize("name", FEW)
def test_values_and_gradients_are_those_of_the_definition(name):
    (values, grads), (expected, slopes) = both(CASES[name], "fused"), defined(name)
    assert_close(values, expected)
    assert_close(grads, slopes, gradient=True)


@pytest.mark.usefixtures("x64", "form")
@pytest.mark.parametrize("name", [pytest.param(n, marks=() if n in QUICK else pytest.mark.slow) for n in BY_NAME])
def test_transforms_give_what_they_give_of_the_definition(name):
    assert_close(transformed(name, "plain", "fused"), definition_of(name, "plain"), gradient=True)


@pytest.mark.usefixtures("form")
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_lower_precision_gives_what_it_gives_of_plain_products(dtype):
    params = init_params(jax.random.key(0), 3, 4, dtype=dtype)
    xs = jax.random.normal(jax.random.key(1), (2, 5, 3), dtype)
    found, expected = (
        jax.value_and_grad(lambda p, name=name: lstm(p, xs, backend=name)[1].astype(jnp.float32).sum())(params)
        for name in ("fused", "scan")
    )
    assert jax.tree.map(lambda a: a.dtype, found) == jax.tree.map(lambda a: a.dtype, expected)
    assert_close(found, expected, gradient=True, dtype=dtype)


def shapes_of(inputs, hidden):
    """Parameters without numbers: drawing an orthogonal matrix of 1024 x 1024 takes seconds, and nothing is run."""
    return jax.eval_shape(lambda: init_params(jax.random.key(0), inputs, hidden))


def turned_back(batch, hidden, *, each=False):
    """Whether the program of a gradient multiplies a matrix of weights on the left."""
    params, xs = shapes_of(4, hidden), jax.ShapeDtypeStruct((*batch, 2, 4), jnp.float32)

    def layer(params, xs):
        return lstm(params, xs, backend="fused")[1]

    f = jax.vmap(layer, (None, 0)) if each else layer
    text = jax.jit(jax.grad(lambda params, xs: f(params, xs).sum())).lower(params, xs).as_text()
    return "optimization_barrier %" in text and f"tensor<{hidden}x{max(batch, default=1)}xf32>" in text


@pytest.mark.parametrize(
    ("batch", "hidden", "each", "expected"),
    [
        ((8,), 512, False, True),
        ((8,), 512, True, True),  # a batch that vmap makes
        ((1,), 512, False, True),  # one row
        ((4,), 256, False, True),  # smaller matrices
        ((16,), 256, True, True),
        ((4,), 64, False, False),  # small ones
        ((17,), 256, False, False),  # many rows
        ((65,), 512, False, False),
        ((128,), 1024, False, True),
        ((129,), 1024, False, False),
    ],
)
def test_large_matrices_beside_few_rows_are_turned_in_the_derivative(batch, hidden, each, expected):
    assert turned_back(batch, hidden, each=each) == expected


def folded(hidden, batch=(4,), backend="fused", *, steps=50, each=False):
    """Whether a program multiplies x and h in one product."""
    params, xs = shapes_of(4, hidden), jax.ShapeDtypeStruct((*batch, steps, 4), jnp.float32)

    def layer(params, xs):
        return lstm(params, xs, backend=backend)[1]

    text = jax.jit(jax.vmap(layer, (None, 0)) if each else layer).lower(params, xs).as_text()
    assert f", tensor<{hidden}x{4 * hidden}xf32>)" in text or f", tensor<{4 + hidden}x{4 * hidden}xf32>)" in text
    return f", tensor<{4 + hidden}x{4 * hidden}xf32>)" in text


@pytest.mark.parametrize("backend", ["fused", "inplace"])
@pytest.mark.parametrize(
    ("hidden", "expected", "options"),
    [
        (64, True, {}),
        (128, False, {}),  # no small matrices
        (64, True, {"steps": 2}),
        (64, True, {"batch": ()}),
        (64, True, {"each": True}),  # a batch that vmap makes
    ],
)
def test_small_matrices_are_folded(hidden, expected, options, backend):
    assert folded(hidden, backend=backend, **options) == expected


def test_the_definition_multiplies_as_it_is_written():
    assert not folded(8, backend="scan")


def test_explained():
    xs = jax.ShapeDtypeStruct((16, 10, 4), jnp.float32)
    small, plain, large = (
        explain_backend(shapes_of(4, n), xs, backend="fused").verdicts[0].reason for n in (64, 256, 512)
    )
    assert small == f"{plain}; small matrices folded into one product"
    assert large == plain
    wide = shapes_of(300, 64)  # only the recurrent product stands in the derivative
    left = (
        explain_backend(wide, jax.ShapeDtypeStruct((4, 10, 300), jnp.float32), mode="training", backend="fused")
        .verdicts[0]
        .reason
    )
    assert left == plain
    single = explain_backend(shapes_of(4, 512), jax.ShapeDtypeStruct((10, 4), jnp.float32), backend="fused")
    assert single.verdicts[0].reason == plain
    derived = explain_backend(shapes_of(4, 256), xs, mode="training", backend="fused").verdicts[0].reason
    assert derived == f"{plain}; matrices on the left in the derivative"
    inplace = explain_backend(shapes_of(4, 64), xs, backend="inplace").verdicts[0].reason
    assert inplace.endswith("; small matrices folded into one product")


def test_a_large_layer_gives_what_the_definition_gives():
    rng = np.random.default_rng(0)
    params = init_params(jax.random.key(0), 4, 512, init="equinox")
    xs = jnp.asarray(rng.normal(size=(3, 4, 4)), jnp.float32)
    found, expected = (
        jax.value_and_grad(lambda p, name=name: (lstm(p, xs, backend=name)[1] ** 2).sum())(params)
        for name in ("fused", "scan")
    )
    assert_close(found, expected, gradient=True)


@pytest.mark.parametrize("each", [False, True])
def test_a_symbolic_batch_is_exported(each):
    params = shapes_of(4, 512)
    (batch,) = jax.export.symbolic_shape("batch")

    def layer(params, xs):
        return lstm(params, xs, backend="fused")[1]

    f = jax.vmap(layer, (None, 0)) if each else layer
    exported = jax.export.export(jax.jit(f))(params, jax.ShapeDtypeStruct((batch, 2, 4), jnp.float32))
    assert exported.out_avals[0].shape == (batch, 2, 512)
