"""What `fused` must mind beyond what every backend is tested for: steps that multiply in ways of their own."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from against import B, H, I, T, draw_params
from tiers import tiered
from tolerances import assert_close

from lstmjax import init_params, lstm, product

pytestmark = pytest.mark.usefixtures("x64")


def gates(params, c, z):
    i, f, g, o = (z[..., k, :] for k in range(4))
    c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
    return jax.nn.sigmoid(o) * jnp.tanh(c), c


def in_a_vmap(params, state, x, *, product=product):
    """Multiplies inside a vmap of its own, one sequence at a time."""
    h, c = state
    z = jax.vmap(lambda x, h: product("z", (x, params.w_x), (h, params.w_h), bias=(params.b,)))(x, h)
    h, c = gates(params, c, z)
    return (h, c), h


def in_a_cond(params, state, x, *, product=product):
    h, c = state
    z = product("x", (x, params.w_x), bias=(params.b,))
    z = jax.lax.cond(x[0, 0] > 0, lambda: z + product("h", (h, params.w_h)), lambda: z - product("h", (h, params.w_h)))
    h, c = gates(params, c, z)
    return (h, c), h


def tied(params, state, x, *, product=product):
    """Uses one matrix at two sites, and beside them."""
    h, c = state
    z = product("z", (x, params.w_x), (h, params.w_h), bias=(params.b,))
    z = z + product("more", (jnp.tanh(h) * x.sum(), params.w_h)) + (params.w_h.sum(0) + params.b**2)[None]
    h, c = gates(params, c, z)
    return (h, c), h


def of_inputs_alone(params, state, x, *, product=product):
    """Multiplies what it makes of x, so that no tangent comes through the product from the step before."""
    h, c = state
    z = product("z", (jnp.sin(x), params.w_x), bias=(params.b,)) + h[..., None, :]
    h, c = gates(params, c, z)
    return (h, c), h


def broadcast(params, state, x, *, product=product):
    """Multiplies by matrices of different widths, and what has no batch."""
    h, c = state
    z = product("z", (x, params.w_x), (h, params.w_h), (h, params.w_h[:, :1]), bias=(params.b,))
    z = z + product("one", (h, params.w_h), (params.b[0], params.w_h[:, :1]))
    z = z + product("own", (h, params.w_h), (params.b[1], params.w_h))
    h, c = gates(params, c, z)
    return (h, c), h


STEPS = (in_a_vmap, in_a_cond, tied, of_inputs_alone, broadcast)


@pytest.mark.parametrize(
    ("step", "batch", "hidden"),
    [
        (tied, (B,), H),
        (broadcast, (), 64),
        *(
            pytest.param(step, batch, H, marks=pytest.mark.thorough)
            for step, batch in [*((step, (B,)) for step in STEPS if step is not tied), (broadcast, (1,))]
        ),
    ],
    ids=lambda it: getattr(it, "__name__", None),
)
def test_a_step_may_multiply_as_it_likes(step, batch, hidden):
    rng = np.random.default_rng(0)
    params = draw_params(rng, I, hidden, biases=1)
    xs, weights = (jnp.asarray(rng.normal(size=(*batch, T, n))) for n in (I, hidden))
    state = tuple(jnp.asarray(rng.normal(size=(*batch, hidden))) for _ in range(2))

    def loss(backend, params, state, xs):
        return (lstm(params, xs, state, step=step, backend=backend)[1] * weights).sum()

    def everything(backend):
        given = params, state, xs
        slopes = jax.grad(loss, argnums=(1, 2, 3))
        _, curved = jax.jvp(lambda *a: slopes(backend, *a), given, jax.tree.map(jnp.cos, given))
        return slopes(backend, *given), curved

    with jax.numpy_rank_promotion("allow"):  # one of them leans on it
        jax.tree.map(assert_close, *(jax.jit(everything, static_argnums=0)(name) for name in ("fused", "scan")))


def multiplying_itself(params, state, x):
    h, c = state
    h, c = gates(params, c, jnp.einsum("bi,igh->bgh", x, params.w_x) + h[..., None, :])
    return (h, c), h


def test_a_step_that_multiplies_by_itself_is_refused_by_name_and_run_by_auto():
    rng = np.random.default_rng(0)
    params, xs = draw_params(rng, biases=1), jnp.asarray(rng.normal(size=(B, T, I)))
    state = jnp.zeros((B, H)), jnp.zeros((B, H))
    with pytest.raises(ValueError, match="the step multiplying_itself does not name the keyword product"):
        lstm(params, xs, state, step=multiplying_itself, backend="fused")
    automatic, plain = (lstm(params, xs, state, step=multiplying_itself, backend=name)[1] for name in ("auto", "scan"))
    np.testing.assert_array_equal(automatic, plain)


def shapes_in(jaxpr):
    """All shapes of values in a jaxpr and in what it calls."""
    for eqn in jaxpr.eqns:
        yield from (v.aval.shape for v in eqn.outvars)
        for inner in jax.tree.leaves(list(eqn.params.values()), is_leaf=lambda p: hasattr(p, "eqns")):
            inner = getattr(inner, "jaxpr", inner)
            if hasattr(inner, "eqns"):
                yield from shapes_in(inner)


@pytest.mark.parametrize("per_example", [False, True])
def test_the_gradient_of_a_vmap_forms_none_for_each_example(per_example):
    rng = np.random.default_rng(0)
    params, xs = draw_params(rng, biases=1), jnp.asarray(rng.normal(size=(B, T, I)))

    def loss(params, x):
        return (lstm(params, x, backend="fused")[1] ** 2).sum()

    def total(params):
        return jax.vmap(loss, (None, 0))(params, xs).sum()

    mapped = jax.vmap(jax.grad(loss), (None, 0))
    jaxpr = jax.make_jaxpr((lambda p: mapped(p, xs)) if per_example else jax.grad(total))(params).jaxpr
    large = {shape for shape in shapes_in(jaxpr) if shape[:1] == (B,) and np.prod(shape) == B * params.w_h.size}
    assert bool(large) == per_example


@pytest.mark.parametrize("dtype", ["bfloat16", "float64"])
def test_a_vmap_over_examples_gives_what_the_batch_gives(dtype):
    """The same products, rounded alike: values and gradients are equal, up to the order of sums."""
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda a: a.astype(dtype), draw_params(rng, biases=1))
    xs, weights = (jnp.asarray(rng.normal(size=(B, T, n)), dtype) for n in (I, H))

    def layer(params, xs):
        return lstm(params, xs, backend="fused")[1]

    batched, mapped, turned = (
        jax.jit(jax.value_and_grad(lambda p, xs, f=f: (f(p, xs) * weights).sum(dtype="float64"), (0, 1)))(params, xs)
        for f in (
            layer,
            jax.vmap(layer, (None, 0)),
            lambda p, xs: jax.vmap(layer, (None, 2))(p, jnp.moveaxis(xs, 0, 2)),
        )
    )
    assert jax.tree.map(lambda a: a.dtype, mapped) == jax.tree.map(lambda a: a.dtype, batched)
    for found in (mapped, turned):
        assert_close(found, batched, gradient=True, dtype=dtype)


def test_a_vmap_over_examples_costs_no_more_memory_than_the_batch():
    params = draw_params(np.random.default_rng(0), biases=1)
    xs = jnp.zeros((7, 50, I))

    def layer(params, xs):
        return lstm(params, xs, backend="fused")[1]

    batched, mapped = (
        jax.jit(jax.grad(lambda p, xs, f=f: f(p, xs).sum(), (0, 1))).lower(params, xs).compile().memory_analysis()
        for f in (layer, jax.vmap(layer, (None, 0)))
    )
    assert mapped.temp_size_in_bytes <= 1.1 * batched.temp_size_in_bytes


@pytest.mark.parametrize("hidden", tiered([H, 512], first=[512]))
def test_axes_that_are_sharded_explicitly_are_not_merged(hidden):
    mesh = jax.make_mesh((1,), ("batch",), axis_types=(jax.sharding.AxisType.Explicit,))
    params = init_params(
        jax.random.key(0), I, hidden, init="equinox"
    )  # an orthogonal matrix of this size takes seconds
    xs = jnp.asarray(np.random.default_rng(0).normal(size=(2, 3, I)), jnp.float32)
    with jax.set_mesh(mesh):
        split = jax.device_put(xs, jax.NamedSharding(mesh, jax.sharding.PartitionSpec("batch")))

        def slopes(backend, mapped):
            def layer(params, xs):
                return lstm(params, xs, backend=backend)[1]

            f = jax.vmap(layer, (None, 0)) if mapped else layer
            return jax.tree.map(
                np.asarray, jax.jit(jax.grad(lambda p, xs: (f(p, xs) ** 2).sum(), (0, 1)))(params, split)
            )

        expected = slopes("scan", False)
        for mapped in (False, True):
            assert_close(slopes("fused", mapped), expected, gradient=True)


@pytest.mark.parametrize("hidden", [4, 512])
def test_no_examples_have_no_gradient(hidden):
    """A batch of none, and a vmap over none."""
    params = init_params(jax.random.key(0), 3, hidden, dtype=jnp.float64, init="equinox")  # see above
    xs = jnp.ones((0, 2, 3))

    def layer(params, xs):
        return lstm(params, xs, backend="fused")[1]

    for f in (layer, jax.vmap(layer, (None, 0))):
        of_params, of_xs = jax.grad(lambda params, xs, f=f: f(params, xs).sum(), (0, 1))(params, xs)
        assert of_xs.shape == xs.shape
        assert not any(leaf.any() for leaf in jax.tree.leaves(of_params))


def test_a_step_may_multiply_by_a_vector():
    rng = np.random.default_rng(0)
    shapes = {"u": (3, 4), "w": (4, 4), "v": (3,)}
    params = {name: jnp.asarray(rng.normal(size=shape)) for name, shape in shapes.items()}

    def step(params, state, x, *, product=product):
        (h,) = state
        scale = product("v", (x, params["v"]))
        h = jnp.tanh(product("u", (x, params["u"]), (h, params["w"])) * scale[..., None])
        return (h,), h

    def layer(backend, params, xs):
        return lstm(params, xs, (jnp.zeros((*xs.shape[:-2], 4)),), step=step, backend=backend)[1]

    xs = jnp.asarray(rng.normal(size=(2, 5, 3)))
    for f in (layer, lambda backend, *a: jax.vmap(lambda p, x: layer(backend, p, x), (None, 0))(*a)):
        found, expected = (
            jax.grad(lambda p, x, f=f, name=name: (f(name, p, x) ** 2).sum(), (0, 1))(params, xs)
            for name in ("fused", "scan")
        )
        assert_close(found, expected, gradient=True)
