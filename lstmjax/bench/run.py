"""The benchmark: each competitor is built, compared with the reference, and timed if it computes the same."""

from __future__ import annotations

import dataclasses
import gc
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from lstmjax.bench.clock import take_turns
from lstmjax.bench.competitors import REFERENCE, Competitor
from lstmjax.bench.machine import look, resident
from lstmjax.bench.points import MODES, Point, make_job
from lstmjax.bench.program import Arrays, Program
from lstmjax.bench.results import Comparison, Results, Row
from lstmjax.replica.bounds import eps
from lstmjax.replica.compare import compare
from lstmjax.replica.peers.outcome import as_users_have_it

BOUNDS = {"float32": {"forward": 64, "training": 1024}, "bfloat16": {"forward": 16, "training": 32}}
"""In eps of the dtype: the largest difference of an array from the reference's, as a share of its largest number.

They tell another computation from another order of sums, and no more: the peers at A, B and G were up to 12 eps away
in outputs and 20 in gradients in float32, 3 and 9 in bfloat16. What rounding does grows with T, where states feed back,
and with B·T, over which the gradients of the parameters are summed up.
"""


def silent(line: str) -> None:
    """Tells nothing."""


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
    tell: Callable[[str], None] = silent,
) -> Results:
    """Gives what was measured: each competitor at each point in each mode.

    Args:
        points: sizes; see `find_points`.
        competitors: rows of the table, the reference among them; see `find_competitors`.
        modes: of "forward" and "training". The outputs are compared in any case.
        dtype: of the weights and inputs, "float32" or "bfloat16".
        seconds: about how long the rounds take at each point in each mode; at least 5 rounds.
        rounds: exactly so many instead.
        seed: of the numbers, and of the order in which competitors take turns.
        growth: "T", "H" or "B" where the points are of a curve.
        tell: is handed a line on how far it is.
    """
    with as_users_have_it():
        machine = look(dtype)
        found: list[Comparison] = []
        for point in points:
            wrong: dict[str, Row] = {}
            for mode in MODES[: 1 + max(MODES.index(mode) for mode in modes)]:
                timed = mode in modes
                tell(f"{point.name} ({point}), {mode}" + ", compared only" * (not timed))
                programs, rows = _ready(point, competitors, mode, dtype, seed, wrong)
                wrong |= {row.name: row for row in rows.values() if row.wrong}
                if timed:
                    calls = {name: program.call for name, program in programs.items()}
                    times = take_turns(calls, seconds=seconds, rounds=rounds, seed=seed)
                    rows |= {n: dataclasses.replace(rows[n], seconds=tuple(t.tolist())) for n, t in times.items()}
                    found.append(Comparison(point, mode, dtype, tuple(rows.values())))
                del programs
                gc.collect()
    return Results(machine, tuple(found), growth)


def _ready(
    point: Point, competitors: Sequence[Competitor], mode: str, dtype: str, seed: int, wrong: dict[str, Row]
) -> tuple[dict[str, Program], dict[str, Row]]:
    """Gives the programs that compute what the reference computes, and a row for every competitor."""
    job = make_job(point, mode, dtype, seed)
    programs: dict[str, Program] = {}
    rows: dict[str, Row] = {}
    reference: Arrays = {}
    for one in sorted(competitors, key=lambda one: one.name != REFERENCE):
        row = Row(one.name, one.kind)
        reason = one.refuses(point, mode, dtype, jax.default_backend())
        if reason is not None or one.name in wrong:
            rows[one.name] = wrong.get(one.name) or dataclasses.replace(row, why=reason or "")
            continue
        jax.clear_caches()  # what one has traced, the next would find
        try:
            program = one.build(job)
            start = time.perf_counter()
            result, grown = resident(program.call)
            first = time.perf_counter() - start
            arrays = program.arrays(result)
        except Exception as error:  # of another framework: the others go on, and the table tells it
            rows[one.name] = dataclasses.replace(row, why=_said(error))
            continue
        reference = reference or arrays
        differences = differ(arrays, reference, dtype)
        largest = max(differences.values(), default=np.inf)
        bound = BOUNDS[dtype][mode]
        row = dataclasses.replace(
            row,
            wrong=not largest <= bound,
            why="" if largest <= bound else _differs(differences, bound),
            stages={**program.stages, "first": first},
            temporaries=program.temporaries,
            resident=grown,
            differences=differences,
        )
        rows[one.name] = row
        if not row.wrong:
            programs[one.name] = program
    return programs, {one.name: rows[one.name] for one in competitors}


def differ(arrays: Arrays, reference: Arrays, dtype: str) -> dict[str, float]:
    """Gives how far each array is from the reference's, in eps of the dtype; infinite where it is missing or NaN.

    What the reference does not have, such as a second bias, is not looked at.
    """

    def far(name: str, wanted: Any) -> float:
        there = arrays.get(name)
        if there is None or there.shape != wanted.shape:
            return float(np.inf)
        return compare(there, wanted).relative / eps(dtype)

    return {name: far(name, wanted) for name, wanted in reference.items()}


def _differs(differences: dict[str, float], bound: int) -> str:
    name, largest = max(differences.items(), key=lambda pair: pair[1])
    what = "outputs" if name == "ys" else f"gradient of {name}"
    return f"computes something else: {what} {largest:.3g} eps away, bound {bound}"


def _said(error: Exception) -> str:
    lines = str(error).splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else ''}"[:300]
