"""A linear map with a transpose of its own: every transform, against the same function in plain JAX."""

import subprocess
import sys
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.custom_derivatives import SymbolicZero
from tiers import tiered
from tolerances import assert_close

from lstmjax.backends import linear
from lstmjax.backends.linear import SHARED, Axes, Way

T, B, N, I = 5, 3, 2, 4  # N: examples under vmap
RAN = []  # what ran of the transpose written by hand: how many arrays it gave, and the shape of xs


def plain(w, xs):
    """A recurrence h' = tanh(x + h·w), xs [T, ..., I], w [I, I]; what is linear is its derivative."""

    def body(h, x):
        h = jnp.tanh(x + h @ w)
        return h, h

    return jax.lax.scan(body, jnp.zeros_like(xs[0]), xs)[1]


def by_hand(w, xs, hs, d_hs):
    """Its transpose: dz carried backwards, and the gradient of w as one product over all steps."""

    def body(d_h, now):
        d_y, h = now
        d_z = (d_y + d_h) * (1 - h * h)
        return d_z @ w.T, d_z

    d_zs = jax.lax.scan(body, jnp.zeros_like(hs[0]), (d_hs, hs), reverse=True)[1]
    before = jnp.concatenate([jnp.zeros_like(hs[:1]), hs[:-1]])
    return jnp.tensordot(before.reshape(-1, I).T, d_zs.reshape(-1, I), 1), d_zs


@jax.custom_jvp
def fast(w, xs):
    return plain(w, xs)


@partial(fast.defjvp, symbolic_zeros=True)
def _(primals, tangents):
    hs = fast(*primals)
    varying = tuple(n for n, tangent in enumerate(tangents) if not isinstance(tangent, SymbolicZero))

    def of(values, moved):
        now = dict(zip(varying, moved, strict=True))
        return plain(*(now.get(n, value) for n, value in enumerate(values)))

    def there(residuals, vector):
        values = residuals[:2]
        return [jax.jvp(partial(of, values), ([values[n] for n in varying],), (list(vector),))[1]]

    def back(residuals, cotangents):
        RAN.append((len(varying), residuals[1].shape))
        slopes = by_hand(*residuals, *cotangents)
        return [slopes[n] for n in varying]

    def plain_back(residuals, cotangents):
        values = residuals[:2]
        return list(jax.vjp(partial(of, values), [values[n] for n in varying])[1](*cotangents)[0])

    every = (SHARED, 1)
    axes = Axes((*every, 1), tuple(every[n] for n in varying), (1,))
    moved = [tangents[n] for n in varying]
    ways = Way(there, there), Way(back, plain_back)
    return hs, linear.linear(*ways, [*primals, hs], moved, axes)[0]


def draw(*shape):
    return jnp.asarray(np.random.default_rng(sum(shape)).normal(size=shape) * 0.5)


def loss(f, w, xs):
    return (jnp.sin(f(w, xs)) ** 2).sum()


def many(f, w, xs):
    return jax.vmap(partial(f, w))(xs)


def example(f):
    return lambda w, xs: f(w, xs[0])


def both(f):
    return jax.grad(partial(loss, f), (0, 1))


def along(f, w, xs):
    return jax.jvp(f, (w, xs), (jnp.cos(w), jnp.sin(xs)))[1]


FAST = {  # with how many arrays the transpose written by hand ran last, and on how many batch axes
    "value": (lambda f: f, None),
    "grad": (both, (2, (T, B, I))),
    "grad of w": (lambda f: jax.grad(partial(loss, f)), (1, (T, B, I))),
    "grad of xs": (lambda f: jax.grad(partial(loss, f), 1), (1, (T, B, I))),
    "jvp": (lambda f: partial(along, f), None),
    "linearize": (lambda f: lambda w, xs: jax.linearize(f, w, xs)[1](w, xs), None),
    "linear in both, transposed in one": (
        lambda f: lambda w, xs: jax.vjp(lambda d: jax.jvp(f, (w, xs), (w, d))[1], xs)[1](xs),
        (2, (T, B, I)),
    ),
    "vmap over examples, then grad": (lambda f: both(partial(many, f)), (2, (T, N, B, I))),
    "vmap twice, then grad": (
        lambda f: both(lambda w, xs: many(partial(many, f), w, jnp.stack([xs, -xs]))),
        (2, (T, 2, N, B, I)),
    ),
    "vmap of a grad of xs": (lambda f: partial(many, jax.grad(partial(loss, f), 1)), (1, (T, N, B, I))),
    "checkpoint": (lambda f: both(jax.checkpoint(f)), (2, (T, B, I))),
    "inside scan": (lambda f: both(lambda w, xs: jax.lax.scan(lambda h, x: (h, f(w, x)), 0, xs)[1]), (2, (T, B, I))),
}
PLAIN = {  # by the rules of the plain function
    "vmap of grad": lambda f: partial(many, both(f)),
    "vmap over both, then grad": lambda f: both(
        lambda w, xs: jax.vmap(f, in_axes=(0, 1))(jnp.stack([w, -w]), jnp.stack([xs, -xs], 1))
    ),
    "jacfwd": lambda f: jax.jacfwd(f, (0, 1)),
    "jacrev": lambda f: jax.jacrev(f, (0, 1)),
    "grad of jvp": lambda f: both(partial(along, f)),
    "jvp of grad": lambda f: partial(along, both(f)),
    "hessian": lambda f: jax.hessian(partial(loss, f)),
    "grad of grad": lambda f: both(lambda w, xs: both(f)(w, xs)[1]),
    "third order": lambda f: both(lambda w, xs: both(lambda w, xs: both(f)(w, xs)[1])(w, xs)[0]),
    "hessian under vmap": lambda f: partial(many, jax.hessian(partial(loss, f))),
}
DEEP = {
    "vmap over examples, then grad",
    "vmap twice, then grad",
    "vmap of a grad of xs",
    "inside scan",
    "vmap of grad",
    "hessian under vmap",
}


def compare(name, make):
    w, xs = draw(I, I), draw(*([N] if name in DEEP else []), T, B, I)
    assert_close(jax.jit(make(fast))(w, xs), jax.jit(make(plain))(w, xs), gradient=True)


@pytest.mark.parametrize("name", FAST)
def test_transforms_that_keep_the_transpose(name, x64):
    make, ran = FAST[name]
    RAN.clear()
    compare(name, make)
    assert RAN[-1:] == ([] if ran is None else [ran])


@pytest.mark.parametrize("name", tiered(PLAIN, first=["vmap of grad", "vmap over both, then grad", "hessian"]))
def test_transforms_by_plain_rules(name, x64):
    compare(name, PLAIN[name])


def test_without_axes_vmap_is_plain(x64):
    double = Way(*[lambda residuals, vector: [residuals[0] * vector[0]]] * 2)
    wrong = Way(lambda residuals, vector: [0 * vector[0]], double.plain)  # so that it shows which one runs

    def f(w, x):
        return linear.linear(double, wrong, [w], [x])[0]

    w, xs = draw(I), draw(B, I)
    assert not jax.grad(lambda x: f(w, x).sum())(xs[0]).any()
    slopes = jax.grad(lambda xs: jax.vmap(partial(f, w))(xs).sum())(xs)
    assert_close(slopes, jnp.broadcast_to(w, (B, I)), gradient=True)


def test_what_is_transposed_in_a_part_is_mapped_and_transposed_again(x64):
    """The cotangents of the part that is not wanted have the mapped axis, too."""
    scaled = Way(*[lambda residuals, vector: [residuals[0] * (vector[0] + 2 * vector[1])]] * 2)
    turned = Way(*[lambda residuals, vector: [residuals[0] * vector[0], 2 * residuals[0] * vector[0]]] * 2)

    def by_linear(w, a, b):
        return linear.linear(scaled, turned, [w], [a, b], Axes((0,), (0, 0), (0,)))[0]

    def by_jax(w, a, b):
        return w * (a + 2 * b)

    def of_cotangents(f, w, a, b, cotangents):
        part = lambda w, a, b, cotangent: jax.vjp(lambda b: f(w, a, b), b)[1](cotangent)[0]
        return jax.grad(lambda c: jnp.sin(jax.vmap(part)(w, a, b, c)).sum())(cotangents)

    arrays = jnp.split(draw(4 * B, I), 4)
    assert_close(of_cotangents(by_linear, *arrays), of_cotangents(by_jax, *arrays), gradient=True)


def test_an_unknown_jax_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "jax.extend.core", None)
    uncached = linear.primitive.__wrapped__
    monkeypatch.setattr(linear, "primitive", uncached)
    reason = linear.available.__wrapped__()
    assert f"JAX {jax.__version__} does not take our primitive (ModuleNotFoundError: import of jax.extend" in reason
    monkeypatch.setattr(linear, "available", lambda: reason)
    with pytest.raises(RuntimeError, match=r"a linear map with a transpose of its own cannot be made: JAX .* does not"):
        linear.linear(Way(max, max), Way(max, max), [], [jnp.ones(1)])


SCRIPT = """
import jax, jax.numpy as jnp
jax.config.update("jax_num_cpu_devices", 4)
jax.config.update("jax_enable_x64", True)
from functools import partial
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from test_linear import I, RAN, T, both, draw, fast, loss, plain
from tolerances import assert_close

w, xs, split = draw(I, I), draw(T, 8, I), PartitionSpec(None, "batch")
expected = jax.jit(both(plain))(w, xs)
mesh = jax.make_mesh((4,), ("batch",), axis_types=(AxisType.Auto,))
sharded = jax.shard_map(fast, mesh=mesh, in_specs=(PartitionSpec(), split), out_specs=split)
assert_close(jax.jit(both(sharded))(w, xs), expected, gradient=True)
inside = jax.shard_map(both(fast), mesh=mesh, in_specs=(PartitionSpec(), split), out_specs=(PartitionSpec(), split))
assert_close(jax.jit(inside)(w, xs), expected, gradient=True)
assert RAN == [(2, (T, 2, I))] * len(RAN) and RAN

mesh = jax.make_mesh((4,), ("batch",), axis_types=(AxisType.Explicit,))
with jax.set_mesh(mesh):
    placed = jax.device_put(xs, NamedSharding(mesh, split))
    hs = jax.jit(lambda w, xs: jax.jvp(fast, (w, xs), (w, xs))[1])(w, placed)
assert hs.sharding.spec[1] == "batch"
print("equal on", len(jax.devices()), "devices")
"""


@pytest.mark.thorough
def test_shard_map_and_explicit_sharding():
    """A process of its own, since the number of devices is fixed once JAX has started."""
    folder = Path(__file__).parent
    run = subprocess.run([sys.executable, "-W", "error", "-c", SCRIPT], capture_output=True, text=True, cwd=folder)
    assert run.returncode == 0, run.stderr
    assert run.stdout == "equal on 4 devices\n"
