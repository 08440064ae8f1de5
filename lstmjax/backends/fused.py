"""The scan for training: its derivative is a linear scan out of which every product with a tangent weight is moved.

A step is z = x·W_x + h·W_h + b and what follows from z element by element. Its tangent is dz = dh·W_h + e with
e = dx·W_x + x·dW_x + h·dW_h + db, and nothing in e waits for the step before: it is made for all steps at once, in one
product for each weight. JAX transposes that: the backward scan carries dh and dc only, and the gradient of each weight
is one product over all steps after it. What the forward pass saves is z and the state; everything else is computed
again, element by element. So there is no derivative of a cell or a wrapper here, no rule of transposition and no
internals of JAX: a `jax.custom_jvp` of plain JAX, which every transform goes through, to any order (higher ones are
those of the plain scan).

Products are seen through the step's `product` hook. What a step multiplies by itself is differentiated as it stands.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero

from lstmjax.backends import cpu, scan
from lstmjax.backends.every_step import by_tangent_weight, of_tangent_input
from lstmjax.backends.request import Request, hooks
from lstmjax.backends.segments import in_segments
from lstmjax.backends.settled import settled
from lstmjax.cell import product
from lstmjax.types import Array, PyTree


class Given(NamedTuple):
    """All that a run is given."""

    params: PyTree
    state: PyTree
    xs: Array  # [T, ..., I]
    fixed: tuple
    scanned: tuple


@dataclass(frozen=True)
class Site:
    """One call of `product` in a step whose weights and biases are leaves of params, by their places there.

    `operands` says of each term what is multiplied: "x", the place of a leaf of the state, or None for what the step
    has made of them.
    """

    operands: tuple[str | int | None, ...]
    weights: tuple[int, ...]
    biases: tuple[int, ...]


@dataclass(frozen=True)
class Plan:
    """What a step multiplies: the sites in the order of its calls (None: not ours to move), and what else it reads."""

    sites: tuple[Site | None, ...]
    reads: frozenset[int]  # leaves of one step's `Given` that are read other than by the sites


def run(
    step: Callable[..., tuple[PyTree, PyTree]],
    params: PyTree,
    state: PyTree,
    xs: Array,
    fixed: tuple,
    scanned: tuple,
    *,
    request: Request,
) -> tuple[PyTree, PyTree]:
    """Gives what `scan.run` gives, with a derivative that is faster to transpose."""
    if not xs.shape[0]:
        return scan.run(step, params, state, xs, fixed, scanned, request=request)

    def over(state: PyTree, inputs: tuple[Array, tuple]) -> tuple[PyTree, PyTree]:
        sequence = jax.custom_jvp(partial(infer, step, request))
        sequence.defjvp(partial(derivative, step, request), symbolic_zeros=True)
        return sequence(Given(params, state, inputs[0], fixed, inputs[1]))

    inputs = xs, scanned
    return over(state, inputs) if request.checkpoint is None else in_segments(over, state, xs, scanned, request)


def refuses(request: Request) -> str | None:
    """Gives the reason against a step whose products cannot be seen."""
    if "product" in hooks(request.step):
        return None
    name = getattr(request.step, "__name__", type(request.step).__name__)
    return (
        f"it moves products out of the scan, but the step {name} does not name the keyword product. Multiply by it as "
        "cell_step does, or pass backend='scan'."
    )


def one(step: Callable, given: Given, **hooks: Any) -> tuple[PyTree, PyTree]:
    """Gives what one step makes of what it is given, leaves of one step."""
    params, state, x, fixed, scanned = given
    return step(params, state, x, tuple(zip(fixed, scanned, strict=True)), **hooks)


def now(given: Given, state: PyTree, inputs: tuple[Array, tuple]) -> Given:
    """Gives what one step is given."""
    return Given(given.params, state, inputs[0], given.fixed, inputs[1])


def infer(step: Callable, request: Request, given: Given) -> tuple[PyTree, PyTree]:
    """Gives the final state and the outputs, and saves nothing."""
    multiply = cpu.forwards(given.params, request)

    def body(state: PyTree, inputs: tuple[Array, tuple]) -> tuple[PyTree, PyTree]:
        state, y = one(step, now(given, state, inputs), product=multiply)
        return state, y if request.return_sequences else None

    return settled(over_time(body, given.state, (given.xs, given.scanned), request))


def over_time(body: Callable, state: PyTree, inputs: PyTree, request: Request) -> tuple[PyTree, PyTree]:
    """Gives what a scan gives that runs as the layer asks."""
    return jax.lax.scan(body, state, inputs, reverse=request.reverse, unroll=request.unroll)


def plan(step: Callable, given: Given) -> Plan:
    """Gives what a step multiplies, by tracing it once with a twin of each of its arguments for the sites to read.

    A step that multiplies inside a transform of its own (a vmap, a cond) is differentiated as it stands: what is made
    in there cannot be saved from outside.
    """
    like = now(given, given.state, jax.tree.map(lambda a: a[0], (given.xs, given.scanned)))
    sites: list[Site | None] = []

    def probe(given: Given, twin: Given) -> tuple[PyTree, list[Array]]:
        zs: list[Array] = []  # no tracer is kept outside: jax.checking_leaks
        params, state, twins = (jax.tree.leaves(tree) for tree in (given.params, given.state, twin.params))

        def watched(name: str, *terms: tuple[Array, Array], bias: tuple[Array | None, ...] = ()) -> Array:
            there = [b for b in bias if b is not None]
            weights, biases = ([place(a, params) for a in arrays] for arrays in ([w for _, w in terms], there))
            if None in weights + biases:
                sites.append(None)
                return product(name, *terms, bias=bias)
            operands = tuple("x" if a is given.xs else place(a, state) for a, _ in terms)
            sites.append(Site(operands, tuple(weights), tuple(biases)))
            seen = [twin.xs if source == "x" else a for (a, _), source in zip(terms, operands, strict=True)]
            apart = zip(seen, (twins[k] for k in weights), strict=True)
            zs.append(product(name, *apart, bias=tuple(twins[k] for k in biases)))
            return zs[-1]

        return one(step, given, product=watched), zs

    try:
        closed, (_, zs) = jax.make_jaxpr(probe, return_shape=True)(like, like)
        jaxpr = closed.jaxpr
        made = {id(v) for eqn in jaxpr.eqns for v in eqn.outvars}
        inside = any(id(v) not in made for v in jaxpr.outvars[len(jaxpr.outvars) - len(zs) :])
    except jax.errors.UnexpectedTracerError:
        inside = True
    if inside:
        sites = []
        jaxpr = jax.make_jaxpr(lambda given, twin: one(step, given))(like, like).jaxpr
    read = {id(v) for eqn in jaxpr.eqns for v in eqn.invars} | {id(v) for v in jaxpr.outvars}
    mine = jaxpr.invars[: len(jaxpr.invars) // 2]  # the twins follow
    return Plan(tuple(sites), frozenset(k for k, v in enumerate(mine) if id(v) in read))


def place(wanted: Array, among: list[Array]) -> Any:
    """Gives where an array stands in a list, by identity, or None."""
    return next((k for k, array in enumerate(among) if array is wanted), None)


class Saved(NamedTuple):
    """What the forward pass keeps of each step."""

    states: PyTree  # before the step
    zs: tuple[Array, ...]  # what each site gave
    made: tuple[tuple[Array, ...], ...]  # of each site, the operands that the step made


def save(
    step: Callable, request: Request, sites: tuple[Site | None, ...], given: Given
) -> tuple[PyTree, PyTree, Saved]:
    """Gives the final state, the outputs, and what the derivative needs of every step."""
    multiply = cpu.forwards(given.params, request)

    def body(state: PyTree, inputs: tuple[Array, tuple]) -> tuple[PyTree, tuple[PyTree, Saved]]:
        calls, zs, made = iter(sites), [], []

        def kept(name: str, *terms: tuple[Array, Array], bias: tuple[Array | None, ...] = ()) -> Array:
            z, site = multiply(name, *terms, bias=bias), next(calls, None)
            if site is not None:
                zs.append(z)
                made.append(tuple(a for (a, _), source in zip(terms, site.operands, strict=True) if source is None))
            return z

        new, y = one(step, now(given, state, inputs), product=kept)
        return new, (y if request.return_sequences else None, Saved(state, tuple(zs), tuple(made)))

    state, (ys, saved) = over_time(body, given.state, (given.xs, given.scanned), request)
    return state, ys, saved


def derivative(step: Callable, request: Request, primals: tuple, tangents: tuple) -> tuple[PyTree, PyTree]:
    """Gives the value and the tangent of a run; see the head of this file."""
    (given,), (moved,) = primals, tangents
    values: list[Array] = jax.tree.leaves(given)
    tree: Any = jax.tree.structure(given)
    moves = {k: d for k, d in enumerate(tree.flatten_up_to(moved)) if not isinstance(d, SymbolicZero)}
    first, of_state, of_x = places(given)
    watched = plan(step, given)
    state, ys, saved = save(step, request, watched.sites, given)
    es = ahead(watched, given, saved, {k: moves.get(k) for k in range(of_x + 1)}, of_x, request)

    carried = [k for k in of_state if differentiable(values[k])]
    start = [moves.get(k, jnp.zeros_like(values[k])) for k in carried]
    inner = {k: d for k, d in moves.items() if k in watched.reads and k not in of_state}
    scanned = {k: d for k, d in inner.items() if k == of_x or k >= first}
    whole = {k: d for k, d in inner.items() if k not in scanned}

    @partial(jax.checkpoint, prevent_cse=False)  # what follows from z is computed again: no more is saved
    def pushed(values: list[Array], zs: tuple, moves: dict[int, Array], es: tuple) -> tuple[list, list]:
        def local(moving: dict[int, Array], zs: tuple) -> tuple[list, list]:
            here = tree.unflatten([moving.get(k, value) for k, value in enumerate(values)])
            new, y = one(step, here, product=replay(watched.sites, zs, request))
            return (
                [a for a in jax.tree.leaves(new) if differentiable(a)],
                [a for a in jax.tree.leaves(y) if differentiable(a)] if request.return_sequences else [],
            )

        return jax.jvp(local, ({k: values[k] for k in moves}, zs), (moves, es))[1]

    def body(carry: list[Array], inputs: tuple) -> tuple[list, list]:
        at, saved, scanned, es = inputs
        here = jax.tree.leaves(now(given, saved.states, at))
        es = tuple(jnp.zeros_like(z) if e is None else e for z, e in zip(saved.zs, es, strict=True))
        return pushed(here, saved.zs, whole | scanned | dict(zip(carried, carry, strict=True)), es)

    end, out = over_time(body, start, ((given.xs, given.scanned), saved._replace(made=()), scanned, es), request)
    return settled((state, ys)), (with_tangents(state, settled(end)), with_tangents(ys, settled(out)))


def places(given: Given) -> tuple[int, range, int]:
    """Gives where in the leaves `scanned` begins, where the state stands, and where xs."""
    counts = [len(jax.tree.leaves(part)) for part in given]
    before = [sum(counts[:k]) for k in range(len(counts) + 1)]
    return before[4], range(before[1], before[2]), before[2]


def ahead(
    watched: Plan, given: Given, saved: Saved, moves: dict[int, Array | None], of_x: int, request: Request
) -> tuple[Array | None, ...]:
    """Gives the part of each site's tangent that waits for no step, [T, ..., G, H], or None if there is none."""
    params, states = jax.tree.leaves(given.params), jax.tree.leaves(saved.states)
    by_weight = cpu.by_tangent_weight if cpu.on_cpu(request) else by_tangent_weight

    def of(site: Site, z: Array, made: Iterator[Array]) -> Array | None:
        parts = []
        for source, k in zip(site.operands, site.weights, strict=True):
            operand = given.xs if source == "x" else next(made) if source is None else states[int(source)]
            moved, pushed = moves[k], moves[of_x] if source == "x" else None
            parts += [] if moved is None else [by_weight(operand, moved)]
            parts += [] if pushed is None else [of_tangent_input(pushed, params[k])]
        parts = [spread(part.astype(z.dtype), z) for part in parts]
        biases = [b for b in map(moves.get, site.biases) if b is not None]
        parts += [jnp.broadcast_to(b.astype(z.dtype), z.shape) for b in biases]
        return sum(parts[1:], parts[0]) if parts else None

    ours = [site for site in watched.sites if site is not None]
    return tuple(of(site, z, iter(made)) for site, z, made in zip(ours, saved.zs, saved.made, strict=True))


def spread(part: Array, z: Array) -> Array:
    """Gives an array of all steps the shape of z, by which the terms of a product are broadcast in a step."""
    if part.shape == z.shape:
        return part
    return jnp.broadcast_to(jnp.expand_dims(part, range(1, 1 + z.ndim - part.ndim)), z.shape)


def replay(sites: tuple[Site | None, ...], zs: tuple[Array, ...], request: Request) -> Callable[..., Array]:
    """Gives a product that returns what was saved; its tangent adds what comes through h, or what is made of it."""
    calls, left = iter(sites), iter(zs)
    multiply = cpu.backwards if cpu.on_cpu(request) else partial(product, "")

    def replayed(name: str, *terms: tuple[Array, Array], bias: tuple[Array | None, ...] = ()) -> Array:
        site = next(calls, None)
        if site is None:
            return product(name, *terms, bias=bias)
        inner = [term for term, source in zip(terms, site.operands, strict=True) if source != "x"]
        return as_saved(multiply, next(left), tuple(a for a, _ in inner), tuple(w for _, w in inner))

    return replayed


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def as_saved(multiply: Callable, z: Array, operands: tuple[Array, ...], weights: tuple[Array, ...]) -> Array:
    """Gives z, whose tangent gets the share of the operands.

    z is to have a tangent in the inmost `jax.jvp`, zero perhaps, so that this rule is used up there: to transforms
    further out z is a saved value, in which the operands have their share already.
    """
    return z


@as_saved.defjvp
def _as_saved(multiply: Callable, primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    (z, _, weights), (e, moved, _) = primals, tangents
    terms = tuple(zip(moved, weights, strict=True))
    return z, e + multiply(*terms) if terms else e


def differentiable(a: Array) -> bool:
    """Tells whether an array can have a tangent."""
    return jnp.issubdtype(a.dtype, jnp.inexact)


def with_tangents(tree: PyTree, moved: list[Array]) -> PyTree:
    """Gives the tangents in the shape of a tree; what cannot have one gets the zero that JAX has for it."""
    left = iter(moved)

    def zero(a: Array) -> Array:
        return jax.jvp(lambda _: a, (0.0,), (0.0,))[1]

    return jax.tree.map(lambda a: next(left) if differentiable(a) else zero(a), tree)
