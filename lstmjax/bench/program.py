"""The program of a competitor: a call that can be timed, and its result in our layout."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import jax
import numpy as np

from lstmjax.frameworks.base.running import OnJax
from lstmjax.frameworks.base.timing import Eager, Job
from lstmjax.stack import Layers

Arrays = Mapping[str, np.ndarray]
"""Outputs as "ys"; gradients as "xs" and the path of each parameter, such as "[0].w_x"."""


@dataclass(frozen=True)
class Program:
    """A competitor ready to run: `call()` returns its result when it is computed, `arrays(result)` names its arrays."""

    call: Callable[[], Any]
    arrays: Callable[[Any], Arrays]
    stages: Mapping[str, float] = field(default_factory=dict)  # seconds of trace, lower and compile
    temporaries: int | None = None  # bytes, as the compiled program states


def program(build: Callable[[Job], OnJax | Eager], job: Job) -> Program:
    """Return the program of what a framework builds."""
    network = build(job)
    if isinstance(network, OnJax):
        return on_jax(network, job)
    if job.mode == "forward":
        return Program(network.call, lambda result: outputs(network.to_ours(result)))
    return Program(network.call, lambda result: gradients(*network.to_ours(result)))


@dataclass(frozen=True)
class Compiled:
    """A network on JAX, compiled for the sizes of a job; other weights and inputs of the same sizes go in, too."""

    run: Callable[..., Any]
    arguments: Callable[[Any, Job], tuple]  # of weights and a job: what `run` takes
    arrays: Callable[[Any], Arrays]
    stages: Mapping[str, float]
    temporaries: int | None


def compiled(network: OnJax, job: Job) -> Compiled:
    """Compile a network on JAX ahead of time; its parameters go in as a flat list.

    A flat list, so that no competitor's time includes the traversal of its tree of parameters.
    """
    leaves: list = jax.tree.leaves(network.weights)
    tree: Any = jax.tree.structure(network.weights)
    trained = [n for n, a in enumerate(leaves) if jax.numpy.issubdtype(a.dtype, jax.numpy.floating)]  # no counters

    def unflatten(values: list) -> Any:
        every = list(leaves)
        for n, value in zip(trained, values, strict=True):
            every[n] = value
        return tree.unflatten(every)

    def forward(values: list, xs: Any) -> Any:
        return network.forward(unflatten(values), xs)

    def to_ours(gradients: list) -> Layers:
        return network.to_ours(unflatten(gradients))

    run, arrays = RUNS[job.mode]

    def arguments(weights: Any, job: Job) -> tuple:
        flat: list = jax.tree.leaves(weights)
        return run(forward, ([flat[n] for n in trained], job.xs, job.weights))[1]

    function, _ = run(forward, (leaves, job.xs, job.weights))
    clock = [time.perf_counter()]
    traced = jax.jit(function).trace(*arguments(network.weights, job))
    clock.append(time.perf_counter())
    lowered = traced.lower()
    clock.append(time.perf_counter())
    program = lowered.compile()
    clock.append(time.perf_counter())
    analysis = program.memory_analysis()
    return Compiled(
        program,
        arguments,
        lambda result: arrays(result, to_ours),
        dict(zip(("trace", "lower", "compile"), np.diff(clock).tolist(), strict=True)),
        None if analysis is None else int(analysis.temp_size_in_bytes),
    )


def on_jax(network: OnJax, job: Job) -> Program:
    """Compile a network on JAX and bind its weights and the inputs of the job; see `compiled`."""
    program = compiled(network, job)
    arguments = program.arguments(network.weights, job)
    return Program(
        lambda: jax.block_until_ready(program.run(*arguments)), program.arrays, program.stages, program.temporaries
    )


def _forward(forward: Callable, arguments: tuple) -> tuple[Callable, tuple]:
    return forward, arguments[:2]


def _training(forward: Callable, arguments: tuple) -> tuple[Callable, tuple]:
    def loss(leaves: list, xs: Any, weights: Any) -> Any:
        return (forward(leaves, xs) * weights).sum()

    return jax.value_and_grad(loss, argnums=(0, 1)), arguments


def outputs(ys: Any, to_ours: Callable[[Any], Layers] | None = None) -> Arrays:
    """Return the outputs under their name."""
    return {"ys": np.asarray(ys)}


def _gradients(result: Any, to_ours: Callable[[Any], Layers]) -> Arrays:
    _, (leaves, xs) = result
    return gradients(to_ours(leaves), xs)


def gradients(layers: Layers, xs: Any) -> Arrays:
    """Return the gradients of layers in our form, and of xs, under their names."""
    named = {jax.tree_util.keystr(path): np.asarray(a) for path, a in jax.tree.leaves_with_path(layers)}
    return named | {"xs": np.asarray(xs)}


RUNS: Mapping[str, tuple[Callable, Callable]] = MappingProxyType(
    {"forward": (_forward, outputs), "training": (_training, _gradients)}
)
"""By mode: what returns the function to compile with its arguments, and what names the arrays of its result."""
