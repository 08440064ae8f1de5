"""N networks of a size at once, each with its weights and its inputs (`lstmjax bench --networks N`).

On JAX they are mapped by `jax.vmap`, or run one after the other by `jax.lax.map`, in one program; "calls" are N calls
of a program for one network, and PyTorch runs a loop over N modules.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lstmjax.bench import builders
from lstmjax.bench.competitors import AUTO, CONTROL, CONTROLS, OURS, REFERENCE, Competitor
from lstmjax.bench.program import Program, compiled, on_jax, program
from lstmjax.frameworks import FRAMEWORKS
from lstmjax.frameworks.base.running import OnJax
from lstmjax.frameworks.base.timing import JAX_PEER, PEER, Job, Timed
from lstmjax.stack import Layers

Build = Callable[[Layers], OnJax]
"""Returns a network with these layers."""


def members(job: Job) -> list[Job]:
    """Return the job of each network."""
    parts = [_taken((job.layers, job.xs, job.weights), n) for n in range(len(job.xs))]
    return [Job(layers, xs, weights, job.mode) for layers, xs, weights in parts]


def _taken(tree: Any, n: int) -> Any:
    """Return the n-th of the networks that a tree holds."""
    return jax.tree.map(lambda a: a[n], tree)


def stack(trees: list) -> Any:
    """Return trees as one, each leaf with N in front of its axes."""
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


def mapped(build: Build, by: str, job: Job) -> Program:
    """Build all networks in one program, mapped by "vmap" or "map"."""
    networks = [build(member.layers) for member in members(job)]
    first = networks[0]

    def forward(weights: Any, xs: Any) -> Any:
        if by == "vmap":
            return jax.vmap(first.forward)(weights, xs)
        return jax.lax.map(lambda pair: first.forward(*pair), (weights, xs))

    def to_ours(gradients: Any) -> Layers:
        return stack([first.to_ours(_taken(gradients, n)) for n in range(len(networks))])

    return on_jax(OnJax(forward, stack([network.weights for network in networks]), to_ours), job)


def calls(build: Build, job: Job) -> Program:
    """Build one program for one network, and call it for each."""
    jobs = members(job)
    program = compiled(build(jobs[0].layers), jobs[0])
    arguments = [program.arguments(build(member.layers).weights, member) for member in jobs]
    return Program(
        lambda: jax.block_until_ready([program.run(*arrays) for arrays in arguments]),
        lambda results: joined([program.arrays(result) for result in results]),
        program.stages,
    )


def loop(build: Callable[[Job], Any], job: Job) -> Program:
    """Build a program for each network, and run them one after the other."""
    programs = [program(build, member) for member in members(job)]
    return Program(
        lambda: [program.call() for program in programs],
        lambda results: joined([p.arrays(result) for p, result in zip(programs, results, strict=True)]),
    )


def joined(arrays: list) -> dict[str, np.ndarray]:
    """Return the arrays of all networks, each with N in front of its axes."""
    return {name: np.stack([of_one[name] for of_one in arrays]) for name in arrays[0]}


def _of_framework(row: Timed) -> tuple[Competitor, ...]:
    """Return the competitors of a row of a framework: mapped in two ways on JAX, a loop outside of it."""
    if row.kind == PEER:
        return (Competitor(row.name, PEER, partial(loop, row.build), row.packages, platforms=row.platforms),)

    def build(layers: Layers) -> OnJax:
        return row.build(Job(layers, layers[0].w_x, layers[0].w_x, "forward"))  # type: ignore[union-attr, return-value]

    return tuple(
        Competitor(f"{row.name} {by}", JAX_PEER, partial(mapped, build, by), row.packages) for by in ("vmap", "map")
    )


auto, scan = partial(builders.ours_of, "auto"), partial(builders.ours_of, "scan")
ROWS = MappingProxyType(
    {
        row.name: row
        for row in (
            Competitor(AUTO, OURS, partial(mapped, auto, "vmap")),
            Competitor(REFERENCE, OURS, partial(mapped, scan, "vmap")),
            Competitor("lstmjax calls", OURS, partial(calls, auto)),
            Competitor("lstmjax map", OURS, partial(mapped, auto, "map")),
            Competitor(CONTROLS[0], JAX_PEER, partial(mapped, builders.plain_of, "vmap")),
            Competitor(CONTROLS[1], CONTROL, partial(mapped, builders.plain_of, "vmap")),
            Competitor("lax.scan map", JAX_PEER, partial(mapped, builders.plain_of, "map")),
            *(
                competitor
                for framework in FRAMEWORKS.values()
                for row in framework.timed
                if row.ensembles
                for competitor in _of_framework(row)
            ),
        )
    }
)
"""Who takes part, by name; where none is named, by `jax.vmap`."""
