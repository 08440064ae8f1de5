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

from lstmjax import frameworks
from lstmjax.bench import builders
from lstmjax.bench.competitors import AUTO, CONTROL, CONTROLS, JAX_PEER, OURS, PEER, REFERENCE, Competitor
from lstmjax.bench.points import Job
from lstmjax.bench.program import Program, compiled, on_jax
from lstmjax.frameworks.base.running import OnJax
from lstmjax.frameworks.flax.run import build_linen
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


def torch(job: Job) -> Program:
    """Build a module for each network, and run them one after the other."""
    programs = [builders.torch(member) for member in members(job)]
    return Program(
        lambda: [program.call() for program in programs],
        lambda results: joined([p.arrays(result) for p, result in zip(programs, results, strict=True)]),
    )


def joined(arrays: list) -> dict[str, np.ndarray]:
    """Return the arrays of all networks, each with N in front of its axes."""
    return {name: np.stack([of_one[name] for of_one in arrays]) for name in arrays[0]}


def flax(layers: Layers) -> OnJax:
    """Return `linen.OptimizedLSTMCell`."""
    return build_linen(layers, layers[0].w_x.dtype, optimized=True)  # type: ignore[union-attr]


auto, scan = partial(builders.ours_of, "auto"), partial(builders.ours_of, "scan")
PEERS: dict[str, tuple[Build, tuple[str, ...]]] = {
    "Flax Optimized": (flax, ("flax",)),
    "Haiku": (frameworks.haiku.build, ("haiku",)),
    "Equinox": (frameworks.equinox.build, ("equinox",)),
}
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
                Competitor(f"{name} {by}", JAX_PEER, partial(mapped, build, by), packages)
                for name, (build, packages) in PEERS.items()
                for by in ("vmap", "map")
            ),
            Competitor("PyTorch", PEER, torch, ("torch",), platforms=("cpu", "gpu")),
        )
    }
)
"""Who takes part, by name; where none is named, by `jax.vmap`."""
