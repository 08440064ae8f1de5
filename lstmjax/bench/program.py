"""What a competitor makes of a job: a call that can be timed, and what it gave, laid out as ours."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import jax
import numpy as np

from lstmjax.bench.points import Job
from lstmjax.replica.peers.outcome import OnJax
from lstmjax.stack import Layers

Arrays = Mapping[str, np.ndarray]
"""Outputs as "ys"; gradients as "xs" and the path of each parameter, such as "[0].w_x"."""


@dataclass(frozen=True)
class Program:
    """A competitor ready to run: `call()` comes back when all is computed, `arrays(result)` says what it was."""

    call: Callable[[], Any]
    arrays: Callable[[Any], Arrays]
    stages: Mapping[str, float] = field(default_factory=dict)  # seconds of trace, lower and compile
    temporaries: int | None = None  # bytes, as the compiled program itself says


def on_jax(made: OnJax, job: Job) -> Program:
    """Gives a network on JAX, compiled ahead of time; its parameters go in as a flat list.

    A flat list, so that no competitor's time holds the walk through a tree of its own.
    """
    everything: list = jax.tree.leaves(made.weights)
    tree: Any = jax.tree.structure(made.weights)
    places = [n for n, a in enumerate(everything) if jax.numpy.issubdtype(a.dtype, jax.numpy.floating)]  # no counters

    def whole(leaves: list) -> Any:
        now = dict(zip(places, leaves, strict=True))
        return tree.unflatten([now.get(n, a) for n, a in enumerate(everything)])

    def forward(leaves: list, xs: Any) -> Any:
        return made.forward(whole(leaves), xs)

    run, arrays = RUNS[job.mode]
    function, given = run(forward, ([everything[n] for n in places], job.xs, job.weights))
    clock = [time.perf_counter()]
    traced = jax.jit(function).trace(*given)
    clock.append(time.perf_counter())
    lowered = traced.lower()
    clock.append(time.perf_counter())
    compiled = lowered.compile()
    clock.append(time.perf_counter())
    analysis = compiled.memory_analysis()
    return Program(
        lambda: jax.block_until_ready(compiled(*given)),
        lambda result: arrays(result, lambda found: made.to_ours(whole(found))),
        dict(zip(("trace", "lower", "compile"), np.diff(clock).tolist(), strict=True)),
        None if analysis is None else int(analysis.temp_size_in_bytes),
    )


def _forward(forward: Callable, given: tuple) -> tuple[Callable, tuple]:
    return forward, given[:2]


def _training(forward: Callable, given: tuple) -> tuple[Callable, tuple]:
    def loss(leaves: list, xs: Any, weights: Any) -> Any:
        return (forward(leaves, xs) * weights).sum()

    return jax.value_and_grad(loss, argnums=(0, 1)), given


def outputs(ys: Any, back: Callable[[Any], Layers] | None = None) -> Arrays:
    """Gives the outputs under their name."""
    return {"ys": np.asarray(ys)}


def _gradients(result: Any, back: Callable[[Any], Layers]) -> Arrays:
    _, (leaves, xs) = result
    return gradients(back(leaves), xs)


def gradients(layers: Layers, xs: Any) -> Arrays:
    """Gives the gradients of layers in our form, and of xs, under their names."""
    named = {jax.tree_util.keystr(path): np.asarray(a) for path, a in jax.tree.leaves_with_path(layers)}
    return named | {"xs": np.asarray(xs)}


RUNS: Mapping[str, tuple[Callable, Callable]] = MappingProxyType(
    {"forward": (_forward, outputs), "training": (_training, _gradients)}
)
"""By mode: the function that is compiled, with what it is given; and what it gave."""
