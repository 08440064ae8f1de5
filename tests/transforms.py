"""Transforms of a layer, small ones, since a Hessian has the square of their number: what a backend is compared by."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
from against import random_like

from lstmjax import Zoneout, init_params, lstm

t, b, i, h = 3, 2, 1, 2
FLAGS = np.array([[1, 0, 1], [1, 1, 0]], bool)
PROBLEMS = {
    "plain": {},
    "everything": {"mask": FLAGS, "resets": ~FLAGS, "wrappers": (Zoneout(0.2, 0.3),), "cell": "peephole"},
}


@cache
def problem(name):
    """Arguments (params, xs, state), two directions beside them, and weights for what comes out."""
    rng, options = np.random.default_rng(0), PROBLEMS[name]
    like = jax.eval_shape(lambda: init_params(jax.random.key(0), i, h, cell=options.get("cell", "vanilla")))
    shapes = like, np.zeros((b, t, i)), (np.zeros((b, h)), np.zeros((b, h)))
    arguments, one, other = (
        random_like(rng, jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, jnp.float64), shapes)) for _ in range(3)
    )
    return arguments, one, other, random_like(rng, (arguments[2], np.zeros((b, t, h))))


def outputs(how, params, xs, state):
    return lstm(params, xs, state, **how)


def loss(how, *arguments):
    """A number for all sequences, or for one of them without its batch axis."""
    return sum(jnp.tanh(0.7 * leaf).sum() + (leaf**3).sum() for leaf in jax.tree.leaves(outputs(how, *arguments)))


def jvp(how, arguments, one, other, weights):
    return jax.jvp(partial(outputs, how), arguments, one)


def jvp_of_some(how, arguments, one, other, weights):
    """Of xs alone, of the recurrent weights alone, and of the state alone."""
    params, xs, state = arguments
    return (
        jax.jvp(lambda xs: outputs(how, params, xs, state), (xs,), one[1:2])[1],
        jax.jvp(lambda w: outputs(how, params._replace(w_h=w), xs, state), (params.w_h,), (one[0].w_h,))[1],
        jax.jvp(lambda c: outputs(how, params, xs, (state[0], c)), (state[1],), (one[2][1],))[1],
    )


def vjp(how, arguments, one, other, weights):
    return jax.vjp(partial(outputs, how), *arguments)[1](weights)


def grad_of_some(how, arguments, one, other, weights):
    params, xs, state = arguments
    return (
        jax.grad(lambda b: loss(how, params._replace(b=b), xs, state))(params.b),
        jax.grad(lambda xs: loss(how, params, xs, state))(xs),
        jax.grad(lambda h: loss(how, params, xs, (h, state[1])))(state[0]),
    )


def jacobians(how, arguments, one, other, weights):
    params, xs, state = arguments
    of_xs = partial(outputs, how, params, state=state)
    return jax.jacfwd(of_xs)(xs), jax.jacrev(of_xs)(xs)


def hessian(how, arguments, one, other, weights):
    return jax.hessian(lambda xs: loss(how, arguments[0], xs, arguments[2]))(arguments[1])


def linearize(how, arguments, one, other, weights):
    values, linear = jax.linearize(partial(outputs, how), *arguments)
    return values, linear(*one), linear(*other), jax.linear_transpose(linear, *arguments)(weights)


def inner(a, b):
    return sum(jax.tree.leaves(jax.tree.map(lambda x, y: (x * y).sum(), a, b)))


def grad_of_grad(how, arguments, one, other, weights):
    gradient = jax.grad(partial(loss, how), (0, 1, 2))
    return jax.grad(lambda *moved: inner(gradient(*moved), one), (0, 1, 2))(*arguments)


def jvp_of_grad(how, arguments, one, other, weights):
    return jax.jvp(jax.grad(partial(loss, how), (0, 1, 2)), arguments, one)[1]


def grad_of_jvp(how, arguments, one, other, weights):
    return jax.grad(lambda *moved: jax.jvp(partial(loss, how), moved, one)[1], (0, 1, 2))(*arguments)


def jvp_of_jvp(how, arguments, one, other, weights):
    return jax.jvp(lambda *moved: jax.jvp(partial(loss, how), moved, one)[1], arguments, other)[1]


def third_order(how, arguments, one, other, weights):
    def curve(s):
        return loss(how, *jax.tree.map(lambda a, d: a + s * d, arguments, one))

    return jax.jacfwd(jax.grad(jax.grad(curve)))(0.1)


def vmap_over_examples(how, arguments, one, other, weights):
    """Each sequence by itself: its values, its tangents and its gradients; the gradient of their sum."""
    each = partial(loss, how)
    axes = None, 0, 0
    return (
        jax.vmap(partial(outputs, how), axes)(*arguments),
        jax.vmap(jax.grad(each, (0, 1, 2)), axes)(*arguments),
        jax.vmap(lambda *a: jax.jvp(each, a, (one[0], *a[1:]))[1], axes)(*arguments),
        jax.grad(lambda *a: jax.vmap(each, axes)(*a).sum(), (0, 1, 2))(*arguments),
    )


def vmap_over_parameters(how, arguments, one, other, weights):
    """Several networks at once, with inputs of their own and with common ones; and the gradient of each."""
    many = jax.tree.map(lambda *a: jnp.stack(a), arguments, one, other)
    return (
        jax.vmap(partial(outputs, how))(*many),
        jax.vmap(partial(outputs, how), (0, None, None))(many[0], *arguments[1:]),
        jax.vmap(jax.grad(partial(loss, how), (0, 1, 2)))(*many),
        jax.grad(lambda *a: jax.vmap(partial(loss, how), (0, None, None))(*a).sum(), (0, 1))(many[0], *arguments[1:]),
    )


def remat(how, arguments, one, other, weights):
    return jax.value_and_grad(jax.checkpoint(partial(loss, how)), (0, 1, 2))(*arguments)


def inside_loops(how, arguments, one, other, weights):
    """As a scan's body, under lax.map and in a branch of lax.cond; the gradient through all of it."""
    params, xs, state = arguments

    def f(params, xs, state):
        def body(total, x):
            return total + loss(how, params, x, state), None

        first = jax.lax.scan(body, jnp.zeros((), xs.dtype), jnp.stack([xs, 2 * xs]))[0]
        mapped = jax.lax.map(lambda x: loss(how, params, x, state), jnp.stack([xs, xs + 1]))
        return first + mapped.sum() + jax.lax.cond(first > 0, lambda: loss(how, params, xs, state), lambda: first)

    return jax.value_and_grad(f, (0, 1, 2))(params, xs, state)


def shard_map(how, arguments, one, other, weights):
    """Values and gradients where xs and state vary over a mesh axis, and the parameters do not."""
    mesh = jax.make_mesh((1,), ("batch",), axis_types=(jax.sharding.AxisType.Auto,))
    whole, split = jax.sharding.PartitionSpec(), jax.sharding.PartitionSpec("batch")
    f = jax.shard_map(partial(outputs, how), mesh=mesh, in_specs=(whole, split, split), out_specs=split)
    return jax.jvp(f, arguments, one), jax.vjp(f, *arguments)[1](weights)


def shard_map_of_vmap(how, arguments, one, other, weights):
    """The same where the layer is written for one sequence."""
    mesh = jax.make_mesh((1,), ("batch",), axis_types=(jax.sharding.AxisType.Auto,))
    whole, split = jax.sharding.PartitionSpec(), jax.sharding.PartitionSpec("batch")
    each = jax.vmap(partial(outputs, how), (None, 0, 0))
    f = jax.shard_map(each, mesh=mesh, in_specs=(whole, split, split), out_specs=split)
    return jax.vjp(f, *arguments)[1](weights)


def jitted_inside(how, arguments, one, other, weights):
    return jax.vmap(jax.jit(jax.grad(jax.jit(partial(loss, how)), 1)), (None, 0, 0))(*arguments)


def vmap_of_higher(how, arguments, one, other, weights):
    """Hessian-vector products of each sequence by itself, forward over reverse and reverse over reverse."""
    axes, each = (None, 0, 0), partial(loss, how)
    gradient = jax.grad(each, (0, 1, 2))
    return (
        jax.vmap(lambda *a: jax.jvp(gradient, a, (one[0], *a[1:]))[1], axes)(*arguments),
        jax.vmap(jax.grad(lambda *a: inner(gradient(*a), a)), axes)(*arguments),
    )


FIRST = (jvp, jvp_of_some, vjp, grad_of_some, linearize, remat, inside_loops, shard_map)
MAPPED = (vmap_over_examples, vmap_over_parameters, vmap_of_higher, jitted_inside, shard_map_of_vmap)
HIGHER = (jacobians, hessian, grad_of_grad, jvp_of_grad, grad_of_jvp, jvp_of_jvp, third_order)
BY_NAME = {transform.__name__: transform for transform in (*FIRST, *MAPPED, *HIGHER)}
ALONE = {
    "vmap_over_examples",
    "vmap_of_higher",
    "jitted_inside",
    "shard_map_of_vmap",
}  # each sequence by itself has no flags of the others


def transformed(name, which, backend):
    arguments, one, other, weights = problem(which)
    options = {k: v for k, v in PROBLEMS[which].items() if name not in ALONE or k not in ("mask", "resets")}
    how = options | {"backend": backend}
    return jax.jit(lambda *given: BY_NAME[name](how, *given))(arguments, one, other, weights)


@cache
def definition_of(name, which):
    return transformed(name, which, "scan")
