"""The benchmark: build each competitor, compare it with the reference, and time it if it computes the same."""

from __future__ import annotations

import dataclasses
import gc
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import jax
import numpy as np

from lstmjax.bench.clock import take_turns
from lstmjax.bench.competitors import REFERENCE, Competitor
from lstmjax.bench.machine import look, resident
from lstmjax.bench.points import MODES, STREAMING, Point, make_job
from lstmjax.bench.program import Arrays, Program
from lstmjax.bench.results import Comparison, Results, Row
from lstmjax.frameworks.base.running import as_users_have_it
from lstmjax.frameworks.base.timing import Job
from lstmjax.replica.bounds import eps
from lstmjax.replica.compare import compare

BOUNDS = {
    "float32": {"forward": 64, "training": 1024, STREAMING: 64},
    "bfloat16": {"forward": 16, "training": 32, STREAMING: 16},
}
"""In eps of the dtype: the largest difference of an array from the reference's, as a share of its largest number.

They distinguish another computation from another order of sums, and no more: the peers at A, B and G were up to 12 eps
away in outputs and 20 in gradients in float32, 3 and 9 in bfloat16. Rounding errors grow with T, since states feed
back, and with B·T, over which the gradients of the parameters are summed.
"""


def silent(line: str) -> None:
    """Ignore a line."""


def measure(
    points: Sequence[Point],
    competitors: Sequence[Competitor],
    *,
    modes: Sequence[str] = MODES,
    dtype: str = "float32",
    seconds: float = 5.0,
    rounds: int | None = None,
    seed: int = 0,
    growth: str | None = None,
    workers: int = 1,
    tell: Callable[[str], None] = silent,
    starts: Callable[[str], None] = silent,
) -> Results:
    """Compare and time each competitor at each point in each mode.

    Args:
        points: sizes; see `find_points`.
        competitors: rows of the table, the reference among them; see `find_competitors`.
        modes: of "forward" and "training", or "streaming" alone. The outputs are compared in any case.
        dtype: of the weights and inputs, "float32" or "bfloat16".
        seconds: about how long the rounds take at each point in each mode; at least 5 rounds.
        rounds: an exact number of rounds instead.
        seed: of the numbers, and of the order in which competitors take turns.
        growth: "T", "H" or "B" where the points are those of a curve.
        workers: how many programs are compiled at once. With more than one, the seconds of compiling include the wait
            for each other.
        tell: is called with a line of progress before each measurement.
        starts: is called with the name of each competitor before it runs for the first time, and with "" before the
            rounds.
    """
    with as_users_have_it():
        machine = look(dtype)
        comparisons: list[Comparison] = []
        for point in points:
            wrong: dict[str, Row] = {}
            order = modes if STREAMING in modes else MODES[: 1 + max(MODES.index(mode) for mode in modes)]
            for mode in order:
                timed = mode in modes
                tell(f"{point.name} ({point}), {mode}{'' if timed else ', compared only'}")
                job = make_job(point, mode, dtype, seed)
                with Builders(job, workers) as builders:
                    programs, rows = _ready(point, competitors, job, builders, dtype, wrong, starts)
                wrong |= {row.name: row for row in rows.values() if row.wrong}
                if timed:
                    starts("")
                    calls = {name: program.call for name, program in programs.items()}
                    times = take_turns(calls, seconds=seconds, rounds=rounds, seed=seed)
                    for name, seconds_of_rounds in times.items():
                        rows[name] = dataclasses.replace(rows[name], seconds=tuple(seconds_of_rounds.tolist()))
                    comparisons.append(Comparison(point, mode, dtype, tuple(rows.values())))
                del programs
                gc.collect()
    return Results(machine, tuple(comparisons), growth)


class Builders:
    """Builds the programs of competitors: one after the other as they are asked for, or several at once beforehand."""

    def __init__(self, job: Job, workers: int) -> None:
        self.job = job
        self.pool = ThreadPoolExecutor(workers) if workers > 1 else None
        self.started: dict[str, Future[Program]] = {}

    def start(self, competitors: Sequence[Competitor]) -> None:
        """Begin to build them where several are built at once."""
        if self.pool is not None:
            self.started = {row.name: self.pool.submit(self._build_alone, row) for row in competitors}

    def build(self, competitor: Competitor) -> Program:
        """Return its program, or raise whatever its framework raises."""
        if competitor.name in self.started:
            return self.started[competitor.name].result()
        jax.clear_caches()  # what one competitor has traced would shorten the trace of the next
        return competitor.build(self.job)

    def _build_alone(self, competitor: Competitor) -> Program:
        with as_users_have_it():  # JAX's options are those of a thread
            return competitor.build(self.job)

    def __enter__(self) -> Builders:
        return self

    def __exit__(self, *_: object) -> None:
        if self.pool is not None:
            self.pool.shutdown(cancel_futures=True)


def _ready(
    point: Point,
    competitors: Sequence[Competitor],
    job: Job,
    builders: Builders,
    dtype: str,
    wrong: dict[str, Row],
    starts: Callable[[str], None],
) -> tuple[dict[str, Program], dict[str, Row]]:
    """Return the programs that compute what the reference computes, and a row for every competitor."""
    mode = job.mode
    programs: dict[str, Program] = {}
    rows: dict[str, Row] = {}
    reference: Arrays = {}
    for competitor in competitors:
        if competitor.name in wrong:
            rows[competitor.name] = wrong[competitor.name]
            continue
        reason = competitor.refuses(point, mode, dtype, jax.default_backend())
        if reason is not None:
            rows[competitor.name] = Row(competitor.name, competitor.kind, why=reason)
    competing = [competitor for competitor in competitors if competitor.name not in rows]
    builders.start(competing)
    for competitor in sorted(competing, key=lambda competitor: competitor.name != REFERENCE):
        name = competitor.name
        row = Row(name, competitor.kind)
        starts(name)
        try:
            program = builders.build(competitor)
            start = time.perf_counter()
            result, grown = resident(program.call)
            first = time.perf_counter() - start
            arrays = program.arrays(result)
        except Exception as error:  # whatever a framework raises: the others go on, and the table shows it
            rows[name] = dataclasses.replace(row, why=_first_line(error))
            continue
        reference = reference or arrays
        differences = differ(arrays, reference, dtype)
        largest = max(differences.values(), default=np.inf)
        bound = round(BOUNDS[dtype][mode] * competitor.rounding)
        row = dataclasses.replace(
            row,
            wrong=not largest <= bound,
            why="" if largest <= bound else _differs(differences, bound),
            stages={**program.stages, "first": first},
            temporaries=program.temporaries,
            resident=grown,
            differences=differences,
        )
        rows[name] = row
        if not row.wrong:
            programs[name] = program
    return programs, {competitor.name: rows[competitor.name] for competitor in competitors}


def differ(arrays: Arrays, reference: Arrays, dtype: str) -> dict[str, float]:
    """Return the difference of each array from the reference's, in eps of the dtype; infinite if missing or NaN.

    Arrays that the reference does not have, such as a second bias, are not compared.
    """
    differences = {}
    for name, expected in reference.items():
        if name in arrays and arrays[name].shape == expected.shape:
            differences[name] = compare(arrays[name], expected).relative / eps(dtype)
        else:
            differences[name] = float(np.inf)
    return differences


def _differs(differences: dict[str, float], bound: int) -> str:
    name, largest = max(differences.items(), key=lambda pair: pair[1])
    what = "outputs" if name == "ys" else f"gradient of {name}"
    return f"computes something else: {what} {largest:.3g} eps away, bound {bound}"


def _first_line(error: Exception) -> str:
    lines = str(error).splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else ''}"[:300]
