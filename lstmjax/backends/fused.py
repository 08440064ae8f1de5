"""The scan for training: its derivative moves every product with the tangent of a weight out of the scan.

A step is z = x·W_x + h·W_h + b and what follows from z element by element. Its tangent is dz = dh·W_h + e with
e = dx·W_x + x·dW_x + h·dW_h + db, and nothing in e waits for the step before: e is computed for all steps at once, with
one product for each weight. JAX transposes that: the backward scan carries dh and dc only, and the gradient of each
weight is one product over all steps after it. The forward pass saves z and the state; everything else is computed
again, element by element. So there is no derivative of a cell or a wrapper here, no rule of transposition and no
internals of JAX: a `jax.custom_jvp` of plain JAX, which every transform goes through, to any order (higher orders are
those of the plain scan).

Products are seen through the step's `product` hook. A product that a step computes without it is differentiated as part
of the step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero

from lstmjax.arguments import hooks
from lstmjax.backends import cpu, scan
from lstmjax.backends.every_step import by_tangent_weight, of_tangent_input
from lstmjax.backends.request import Request, explicitly_sharded
from lstmjax.backends.segments import in_segments
from lstmjax.backends.settled import settled
from lstmjax.cell import product
from lstmjax.types import Array, PyTree


class Primals(NamedTuple):
    """The inputs of a scan, or of one of its steps: then x `[..., I]` and scanned without the axis of time."""

    params: PyTree
    state: PyTree
    xs: Array  # [T, ..., I]
    fixed: tuple
    scanned: tuple

    def at_step(self, state: PyTree, inputs: tuple[Array, tuple]) -> Primals:
        """Return the inputs of one step from its state and its part (x, scanned)."""
        x, scanned = inputs
        return Primals(self.params, state, x, self.fixed, scanned)


@dataclass(frozen=True)
class Site:
    """One call of `product` in a step whose weights and biases are leaves of params, by their places there.

    `operands` names the operand of each term: "x", the place of a leaf of the state, or None for an array that the step
    computed.
    """

    operands: tuple[str | int | None, ...]
    weights: tuple[int, ...]
    biases: tuple[int, ...]


@dataclass(frozen=True)
class Plan:
    """The products of a step: its sites in the order of its calls (None: not moved), and what else the step reads."""

    sites: tuple[Site | None, ...]
    reads: frozenset[int]  # leaves of one step's `Primals` that are read other than by the sites


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
    """Return what `scan.run` returns, with a derivative that is faster to transpose."""
    if not xs.shape[0]:
        return scan.run(step, params, state, xs, fixed, scanned, request=request)

    def over(state: PyTree, inputs: tuple[Array, tuple]) -> tuple[PyTree, PyTree]:
        sequence = jax.custom_jvp(partial(infer, step, request))
        sequence.defjvp(partial(derivative, step, request), symbolic_zeros=True)
        return sequence(Primals(params, state, inputs[0], fixed, inputs[1]))

    if request.checkpoint is None:
        return over(state, (xs, scanned))
    return in_segments(over, state, xs, scanned, request)


def refuses(request: Request) -> str | None:
    """Return why a request cannot be served: with a step whose products cannot be seen; or None."""
    if "product" in hooks(request.step):
        return None
    name = getattr(request.step, "__name__", type(request.step).__name__)
    return (
        f"it moves products out of the scan, but the step {name} does not name the keyword product. Multiply by it as "
        "cell_step does, or pass backend='scan'."
    )


def declines(request: Request) -> str | None:
    """Return why "auto" passes it over: JAX cannot transpose its derivative without the mesh of the arrays."""
    if request.explicit and not explicitly_sharded():
        return "the arrays are sharded over explicit mesh axes, and no mesh is set. Run this under jax.set_mesh(mesh)."
    return None


def run_step(step: Callable, primals: Primals, **hooks: Any) -> tuple[PyTree, PyTree]:
    """Return the new state and the output of one step."""
    params, state, x, fixed, scanned = primals
    return step(params, state, x, tuple(zip(fixed, scanned, strict=True)), **hooks)


def infer(step: Callable, request: Request, primals: Primals) -> tuple[PyTree, PyTree]:
    """Return the final state and the outputs, and save nothing."""
    multiply = cpu.forwards(primals.params, request)

    def body(state: PyTree, inputs: tuple[Array, tuple]) -> tuple[PyTree, PyTree]:
        state, y = run_step(step, primals.at_step(state, inputs), product=multiply)
        return state, y if request.return_sequences else None

    return settled(over_time(body, primals.state, (primals.xs, primals.scanned), request))


def over_time(body: Callable, state: PyTree, inputs: PyTree, request: Request) -> tuple[PyTree, PyTree]:
    """Scan a body in the direction and with the unrolling of a request."""
    return jax.lax.scan(body, state, inputs, reverse=request.reverse, unroll=request.unroll)


def plan(step: Callable, primals: Primals) -> Plan:
    """Return the products of a step, by tracing it once.

    The step is traced with two copies of its arguments: the sites multiply the second one, and everything else reads
    the first, so that the jaxpr shows what the step reads other than by its sites.

    Arrays are told apart by identity. That is sound, since the arguments of a traced function are tracers, one object
    for each leaf for as long as it is traced: an argument that reaches `product` unchanged is the same object, and one
    that was changed, cast or copied is another, whose site is then not moved or whose operand is computed by the step.
    The variables of a jaxpr are likewise one object each, and the jaxpr keeps all of them alive; they are compared by
    `id`, as literals among them cannot be hashed.

    A step that multiplies inside a transform of its own (a vmap, a cond) is differentiated as it is: values from inside
    cannot be saved from outside.
    """
    like = primals.at_step(primals.state, jax.tree.map(lambda a: a[0], (primals.xs, primals.scanned)))
    sites: list[Site | None] = []

    def probe(primals: Primals, twin: Primals) -> tuple[PyTree, list[Array]]:
        zs: list[Array] = []  # returned, not kept outside: jax.checking_leaks
        params, state, twins = (jax.tree.leaves(tree) for tree in (primals.params, primals.state, twin.params))

        def watched(name: str, *terms: tuple[Array, Array], bias: tuple[Array | None, ...] = ()) -> Array:
            weights = [place(w, params) for _, w in terms]
            biases = [place(b, params) for b in bias if b is not None]
            if None in weights + biases:
                sites.append(None)
                return product(name, *terms, bias=bias)
            operands = tuple("x" if a is primals.xs else place(a, state) for a, _ in terms)
            sites.append(Site(operands, tuple(weights), tuple(biases)))
            factors = [twin.xs if source == "x" else a for (a, _), source in zip(terms, operands, strict=True)]
            twin_terms = zip(factors, (twins[k] for k in weights), strict=True)
            zs.append(product(name, *twin_terms, bias=tuple(twins[k] for k in biases)))
            return zs[-1]

        return run_step(step, primals, product=watched), zs

    try:
        closed, (_, zs) = jax.make_jaxpr(probe, return_shape=True)(like, like)
        jaxpr = closed.jaxpr
        computed = {id(v) for eqn in jaxpr.eqns for v in eqn.outvars}
        inside_transform = any(id(v) not in computed for v in jaxpr.outvars[len(jaxpr.outvars) - len(zs) :])
    except jax.errors.UnexpectedTracerError:
        inside_transform = True
    if inside_transform:
        sites = []
        jaxpr = jax.make_jaxpr(lambda primals, twin: run_step(step, primals))(like, like).jaxpr
    read = {id(v) for eqn in jaxpr.eqns for v in eqn.invars} | {id(v) for v in jaxpr.outvars}
    leaves = jaxpr.invars[: len(jaxpr.invars) // 2]  # the twins follow
    return Plan(tuple(sites), frozenset(k for k, v in enumerate(leaves) if id(v) in read))


def place(array: Array, leaves: list[Array]) -> Any:
    """Return where an array stands in a list, by identity, or None."""
    return next((k for k, leaf in enumerate(leaves) if leaf is array), None)


class Saved(NamedTuple):
    """What the forward pass saves of each step."""

    states: PyTree  # before the step
    zs: tuple[Array, ...]  # the result of each site
    operands: tuple[tuple[Array, ...], ...]  # of each site, the operands that the step computed


def save(
    step: Callable, request: Request, sites: tuple[Site | None, ...], primals: Primals
) -> tuple[PyTree, PyTree, Saved]:
    """Return the final state, the outputs, and what the derivative needs of every step."""
    multiply = cpu.forwards(primals.params, request)

    def body(state: PyTree, inputs: tuple[Array, tuple]) -> tuple[PyTree, tuple[PyTree, Saved]]:
        calls, zs, operands = iter(sites), [], []

        def saving(name: str, *terms: tuple[Array, Array], bias: tuple[Array | None, ...] = ()) -> Array:
            z, site = multiply(name, *terms, bias=bias), next(calls, None)
            if site is not None:
                zs.append(z)
                operands.append(tuple(a for (a, _), source in zip(terms, site.operands, strict=True) if source is None))
            return z

        new, y = run_step(step, primals.at_step(state, inputs), product=saving)
        return new, (y if request.return_sequences else None, Saved(state, tuple(zs), tuple(operands)))

    state, (ys, saved) = over_time(body, primals.state, (primals.xs, primals.scanned), request)
    return state, ys, saved


def derivative(step: Callable, request: Request, primals: tuple, tangents: tuple) -> tuple[PyTree, PyTree]:
    """Return the value and the tangent of a run; see the head of this file.

    Leaves of `Primals` are numbered; tangents are dictionaries by these numbers, without those that are zero.
    """
    (inputs,), (input_tangents,) = primals, tangents
    values: list[Array] = jax.tree.leaves(inputs)
    tree: Any = jax.tree.structure(inputs)
    tangent_of = {
        k: tangent
        for k, tangent in enumerate(tree.flatten_up_to(input_tangents))
        if not isinstance(tangent, SymbolicZero)
    }
    first_scanned, of_state, of_x = places(inputs)
    products = plan(step, inputs)
    state, ys, saved = save(step, request, products.sites, inputs)
    es = ahead(products, inputs, saved, tangent_of, of_x)

    carried = [k for k in of_state if differentiable(values[k])]
    start = [tangent_of.get(k, jnp.zeros_like(values[k])) for k in carried]
    of_step = {k: d for k, d in tangent_of.items() if k in products.reads and k not in of_state}
    scanned = {k: d for k, d in of_step.items() if k == of_x or k >= first_scanned}
    fixed = {k: d for k, d in of_step.items() if k not in scanned}

    @partial(jax.checkpoint, prevent_cse=False)  # what follows from z is computed again: no more is saved
    def step_tangent(values: list[Array], zs: tuple, tangent_of: dict[int, Array], es: tuple) -> tuple[list, list]:
        def elementwise(varying: dict[int, Array], zs: tuple) -> tuple[list, list]:
            step_inputs = tree.unflatten([varying.get(k, value) for k, value in enumerate(values)])
            new, y = run_step(step, step_inputs, product=replay(products.sites, zs, request))
            outputs = jax.tree.leaves(y) if request.return_sequences else []
            return ([a for a in jax.tree.leaves(new) if differentiable(a)], [a for a in outputs if differentiable(a)])

        return jax.jvp(elementwise, ({k: values[k] for k in tangent_of}, zs), (tangent_of, es))[1]

    def body(carry: list[Array], scan_inputs: tuple) -> tuple[list, list]:
        part, saved, scanned, es = scan_inputs
        leaves = jax.tree.leaves(inputs.at_step(saved.states, part))
        es = tuple(jnp.zeros_like(z) if e is None else e for z, e in zip(saved.zs, es, strict=True))
        return step_tangent(leaves, saved.zs, fixed | scanned | dict(zip(carried, carry, strict=True)), es)

    scan_inputs = (inputs.xs, inputs.scanned), saved._replace(operands=()), scanned, es
    end, out = over_time(body, start, scan_inputs, request)
    return settled((state, ys)), (with_tangents(state, settled(end)), with_tangents(ys, settled(out)))


def places(primals: Primals) -> tuple[int, range, int]:
    """Return where among the leaves `scanned` begins, where the state stands, and where xs."""
    counts = [len(jax.tree.leaves(part)) for part in primals]
    before = [sum(counts[:k]) for k in range(len(counts) + 1)]
    return before[4], range(before[1], before[2]), before[2]


def ahead(
    products: Plan, primals: Primals, saved: Saved, tangent_of: dict[int, Array], of_x: int
) -> tuple[Array | None, ...]:
    """Return e of each site, the part of its tangent that waits for no step, `[T, ..., G, H]`, or None for zero."""
    params, states = jax.tree.leaves(primals.params), jax.tree.leaves(saved.states)

    def site_tangent(site: Site, z: Array, computed: Iterator[Array]) -> Array | None:
        parts = []
        for source, k in zip(site.operands, site.weights, strict=True):
            if source == "x":
                operand = primals.xs
            elif source is None:
                operand = next(computed)
            else:
                operand = states[int(source)]
            if k in tangent_of:
                parts.append(by_tangent_weight(operand, tangent_of[k]))
            if source == "x" and of_x in tangent_of:
                parts.append(of_tangent_input(tangent_of[of_x], params[k]))
        parts = [spread(part.astype(z.dtype), z) for part in parts]
        biases = [tangent_of[k] for k in site.biases if k in tangent_of]
        parts += [jnp.broadcast_to(b.astype(z.dtype), z.shape) for b in biases]
        return sum(parts[1:], parts[0]) if parts else None

    sites = [site for site in products.sites if site is not None]
    triples = zip(sites, saved.zs, saved.operands, strict=True)
    return tuple(site_tangent(site, z, iter(computed)) for site, z, computed in triples)


def spread(part: Array, z: Array) -> Array:
    """Return an array of all steps in the shape of z, to which the terms of a product are broadcast in a step."""
    if part.shape == z.shape:
        return part
    return jnp.broadcast_to(jnp.expand_dims(part, range(1, 1 + z.ndim - part.ndim)), z.shape)


def replay(sites: tuple[Site | None, ...], zs: tuple[Array, ...], request: Request) -> Callable[..., Array]:
    """Return a product that returns the saved z; its tangent adds what comes through h and what is computed of it."""
    calls, saved = iter(sites), iter(zs)
    multiply = cpu.backwards if cpu.on_cpu(request) else partial(product, "")

    def replayed(name: str, *terms: tuple[Array, Array], bias: tuple[Array | None, ...] = ()) -> Array:
        site = next(calls, None)
        if site is None:
            return product(name, *terms, bias=bias)
        recurrent = [term for term, source in zip(terms, site.operands, strict=True) if source != "x"]
        return as_saved(multiply, next(saved), tuple(a for a, _ in recurrent), tuple(w for _, w in recurrent))

    return replayed


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def as_saved(multiply: Callable, z: Array, operands: tuple[Array, ...], weights: tuple[Array, ...]) -> Array:
    """Return z, with a tangent to which the products of the operands' tangents are added.

    z must have a tangent in the innermost `jax.jvp`, zero perhaps, so that this rule is used up there: for transforms
    further out z is a saved value, in which the operands have their share already.
    """
    return z


@as_saved.defjvp
def _as_saved(multiply: Callable, primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    (z, _, weights), (e, operand_tangents, _) = primals, tangents
    terms = tuple(zip(operand_tangents, weights, strict=True))
    return z, e + multiply(*terms) if terms else e


def differentiable(a: Array) -> bool:
    """Return whether an array can have a tangent."""
    return jnp.issubdtype(a.dtype, jnp.inexact)


def with_tangents(tree: PyTree, tangents: list[Array]) -> PyTree:
    """Return the tangents in the structure of a tree; a leaf that cannot have one gets the zero that JAX has for it."""
    remaining = iter(tangents)

    def zero(a: Array) -> Array:
        return jax.jvp(lambda _: a, (0.0,), (0.0,))[1]

    return jax.tree.map(lambda a: next(remaining) if differentiable(a) else zero(a), tree)
