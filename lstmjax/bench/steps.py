"""One step after the other, each by a call from Python: a control loop, a live signal (`lstmjax bench --streaming`).

Everybody gets the input of a step as an array of NumPy and returns the output as one, or as a tensor of the CPU, and
carries the state along. The threads are one, but for XLA, which decides by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lstmjax.backends import native_stream
from lstmjax.bench import builders
from lstmjax.bench.competitors import AUTO, CONTROL, OURS, REFERENCE, Competitor
from lstmjax.bench.program import Program, outputs
from lstmjax.bench.results import Comparison, Results
from lstmjax.bench.show import WIDTH, in_words
from lstmjax.bench.standing import judge, noise_in_words, ratio
from lstmjax.frameworks import FRAMEWORKS
from lstmjax.frameworks.base.layouts import numbers
from lstmjax.frameworks.base.timing import JAX_PEER, Job, Step, Stepped, steps_on_jax
from lstmjax.streaming import compile_step

KERNEL = "all steps in a call"
"""The time of the steps themselves: what a call of `compile_step` costs beyond them is the time of the calls."""


def program(job: Job, begin: Callable[[], Step]) -> Program:
    """Return the steps of a job, one after the other; `begin` returns what runs a step `[B, I]`, in its first state."""
    xs = np.asarray(job.xs)
    rows = [np.array(x) for x in xs.swapaxes(0, 1)]

    def call() -> list:
        step = begin()
        return [step(x) for x in rows]

    return Program(call, lambda ys: outputs(np.stack([numbers(y) for y in ys], axis=1)))


def whole(job: Job) -> Program:
    """Build the sequence in one call by the definition, with which all are compared."""
    return builders.ours("scan", job._replace(mode="forward"))


def ours(backend: str, job: Job) -> Program:
    """Build `compile_step`."""
    step = compile_step(job.layers, batch_size=job.xs.shape[0], backend=backend)

    def begin() -> Step:
        step.reset()
        return step

    return program(job, begin)


def kernel(job: Job) -> Program:
    """Build a call of the native steps that runs all of them."""
    step = compile_step(job.layers, batch_size=job.xs.shape[0], backend="native")
    xs = np.asarray(job.xs)

    def call() -> np.ndarray:
        step.reset()
        return step(xs)

    return Program(call, outputs)


def by_hand(job: Job) -> Program:
    """Build the textbook's step under `jax.jit`, without lstmjax."""
    p: Any = job.layers[0]
    hidden = p.w_x.shape[-1]
    weights = p.w_x.reshape(-1, 4 * hidden), p.w_h.reshape(-1, 4 * hidden), p.b.reshape(-1)

    def step(weights: Any, state: Any, x: Any) -> Any:
        w_x, w_h, b = weights
        h, c = state
        i, f, g, o = jnp.split(x @ w_x + h @ w_h + b, 4, axis=-1)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        h = jax.nn.sigmoid(o) * jnp.tanh(c)
        return (h, c), h

    return program(job, steps_on_jax(job, step, weights))


def native_is_there() -> bool:
    """Return whether single steps run in the native kernel here."""
    return not isinstance(native_stream.functions(), str)


def _of_framework(row: Stepped) -> Competitor:
    """Return the competitor of a row of a framework."""

    def build(job: Job) -> Program:
        return program(job, row.build(job))

    return Competitor(row.name, row.kind, build, row.packages, dtypes=row.dtypes, platforms=row.platforms)


ONLY_CPU: dict[str, Any] = {"platforms": ("cpu",), "dtypes": ("float32",)}
ROWS = MappingProxyType(
    {
        row.name: row
        for row in (
            Competitor(REFERENCE, CONTROL, whole),
            Competitor(AUTO, OURS, partial(ours, "auto")),
            Competitor("lstmjax on JAX", OURS, partial(ours, "jax")),
            Competitor(KERNEL, CONTROL, kernel, **ONLY_CPU),
            Competitor("JAX by hand", JAX_PEER, by_hand),
            Competitor("JAX by hand again", CONTROL, by_hand),
            *(_of_framework(row) for framework in FRAMEWORKS.values() for row in framework.stepped),
        )
    }
)
"""Who takes part, by name. The definition runs the whole sequence in one call; all are compared with it."""


def lines(results: Results) -> Iterator[str]:
    """Yield everything: the machine, and a table for each point."""
    yield str(results.machine)
    for comparison in results.comparisons:
        yield ""
        yield from table(comparison)


def microseconds(comparison: Comparison) -> dict[str, np.ndarray]:
    """Return the time of a step in µs, in each round, by name."""
    return {name: 1e6 * np.array(row.seconds) / comparison.point.steps for name, row in comparison.timed().items()}


def table(comparison: Comparison) -> Iterator[str]:
    """Yield the table of one comparison, the fastest first, in µs a step."""
    timed, times, point = comparison.timed(), microseconds(comparison), comparison.point
    rounds = max((len(row.seconds) for row in timed.values()), default=0)
    yield f"{point.name} ({point}), one step at a time, {rounds} rounds, noise {noise_in_words(comparison)}"
    yield f"{'':{WIDTH}}{'µs a step':>10}{'spread':>8}{'of auto':>9}{'over the kernel':>17}{'eps':>7}"
    for name in sorted(times, key=lambda name: np.median(times[name])):
        low, middle, high = np.quantile(times[name], (0.25, 0.5, 0.75))
        cells = f"{middle:>10.2f}{(high - low) / middle:>8.0%}"
        cells += f"{ratio(timed[name], timed[AUTO]).median:>9.2f}" if AUTO in timed else f"{'-':>9}"
        above = np.median(times[name] - times[KERNEL]) if KERNEL in times else None
        cells += f"{'-':>17}" if above is None else f"{above:>17.2f}"
        yield f"{name:{WIDTH}}{cells}{max(timed[name].differences.values(), default=0):>7.2g}"
    for row in comparison.rows:
        if not row.seconds:
            yield f"{row.name:{WIDTH}}  {'DIFFERS' if row.wrong else 'not run'}: {row.why}"
    standing = judge(comparison, AUTO)
    if standing is not None:
        yield in_words(standing)
