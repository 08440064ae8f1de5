"""What was measured, as text."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from lstmjax.bench.competitors import AUTO, OURS, REFERENCE
from lstmjax.bench.points import GRID
from lstmjax.bench.results import Comparison, Results
from lstmjax.bench.verdict import TOLERATED, Verdict, geometric_mean, judge, noise, ratio

STAGES = ("trace", "lower", "compile", "first")
WIDTH = 24
LOUD = 0.1


def lines(results: Results) -> Iterator[str]:
    """Gives everything: the machine, a table for each point and mode, and what they come to."""
    yield str(results.machine)
    for comparison in results.comparisons:
        yield ""
        yield from table(comparison, results.machine.peak)
    yield ""
    yield from summary(results.comparisons)


def table(comparison: Comparison, peak: float) -> Iterator[str]:
    """Gives one comparison, the fastest first; peak is in GFLOP/s."""
    timed, point, mode = comparison.timed(), comparison.point, comparison.mode
    rounds = max((len(row.seconds) for row in timed.values()), default=0)
    yield f"{point.name} ({point}), {mode}, {comparison.dtype}, {rounds} rounds, noise {noise(comparison):.1%}"
    base = timed.get(AUTO) or timed.get(REFERENCE)
    titles = ("ms", "25%", "75%", "x auto" if base and base.name == AUTO else "x scan", "GFLOP/s", "of peak")
    more = (*(f"{stage} s" for stage in STAGES), "temp MB", "grown MB", "eps")
    yield f"{'':{WIDTH}}" + "".join(f"{title:>10}" for title in (*titles, *more))
    for row in sorted(timed.values(), key=lambda row: np.median(row.seconds)):
        low, middle, high = np.quantile(row.seconds, (0.25, 0.5, 0.75))
        speed = point.operations(mode) / middle / 1e9
        cells = [f"{1e3 * value:.3f}" for value in (middle, low, high)]
        cells += ["" if base is None else f"{ratio(row, base).median:.2f}", f"{speed:.1f}", f"{speed / peak:.0%}"]
        cells += [_number(row.stages.get(stage), 1, 2) for stage in STAGES]
        cells += [_number(row.temporaries, 1e6, 1), _number(row.resident, 1e6, 1)]
        cells += [f"{max(row.differences.values(), default=0):.3g}"]
        yield f"{row.name:{WIDTH}}" + "".join(f"{cell:>10}" for cell in cells)
    for row in comparison.rows:
        if not row.seconds:
            yield f"{row.name:{WIDTH}}  {'DIFFERS' if row.wrong else 'not run'}: {row.why}"
    for row in comparison.rows:
        found = judge(comparison, row.name) if row.kind == OURS else None
        if found is not None:
            yield said(found)


def said(verdict: Verdict) -> str:
    """Gives a verdict in words; a loss is called a loss."""
    best = verdict.best
    if best is None:
        return f"{verdict.name}: no peer on JAX took part"
    against = f"the best peer on JAX, {best.name} ({best.median:.2f}, quartiles {best.low:.2f} to {best.high:.2f})"
    if verdict.loss:
        return f"LOSS  {verdict.name} takes {1 / best.median:.2f} times as long as {against}"
    allowed = max(TOLERATED, verdict.noise)
    if best.median < 1:
        return f"even  {verdict.name} takes {1 / best.median:.2f} times as long as {against}, within {allowed:.0%}"
    if best.median <= 1 + allowed:
        return f"even  {verdict.name} is {best.median:.2f} times as fast as {against}, within {allowed:.0%}"
    return f"ahead {verdict.name} is {best.median:.2f} times as fast as {against}"


def summary(comparisons: Sequence[Comparison]) -> Iterator[str]:
    """Gives a line for each comparison: how much longer the best peer takes than each of ours, and PyTorch.

    Below, the geometric mean over the points of the grid.
    """
    names = list(dict.fromkeys(row.name for one in comparisons for row in one.timed().values() if row.kind == OURS))
    titles = [name.removeprefix("lstmjax ") for name in names]
    yield "time of the best peer on JAX over ours (above 1: we are ahead, !: a loss), and of PyTorch over auto"
    head = "".join(f"{title:>10}" for title in titles)
    width = max(10, *(len(one.point.name) + 2 for one in comparisons))
    yield f"{'point':{width}}{'mode':10}{'best peer':{WIDTH}}{head}{'PyTorch':>10}{'noise':>8}"
    for one in comparisons:
        yield _line(one, names, width)
    for mode in dict.fromkeys(one.mode for one in comparisons):
        grid = [one for one in comparisons if one.mode == mode and one.point.name in GRID]
        if grid:
            yield _mean(grid, names, mode, width)
    losses = sum(verdict.loss for one in comparisons if (verdict := judge(one, AUTO)) is not None)
    yield f"losses of {AUTO}: {losses} of {len(comparisons)}"
    loud = [f"{one.point.name} {one.mode}" for one in comparisons if noise(one) > LOUD]
    if loud:
        yield f"too noisy to tell (above {LOUD:.0%}; idle the machine, or give it more --seconds): {', '.join(loud)}"


def _line(one: Comparison, names: Sequence[str], width: int) -> str:
    timed = one.timed()
    verdicts = [judge(one, name) for name in names]
    cells = "".join(
        f"{'-' if v is None or v.best is None else f'{v.best.median:.2f}' + '!' * v.loss:>10}" for v in verdicts
    )
    best = next((v.best.name for v in verdicts if v is not None and v.best is not None), "none")
    torch = f"{ratio(timed['PyTorch'], timed[AUTO]).median:.2f}" if {"PyTorch", AUTO} <= set(timed) else "-"
    return f"{one.point.name:{width}}{one.mode:10}{best:{WIDTH}}{cells}{torch:>10}{noise(one):>8.1%}"


def _mean(comparisons: Sequence[Comparison], names: Sequence[str], mode: str, width: int) -> str:
    def mean(name: str) -> float:
        verdicts = (judge(one, name) for one in comparisons)
        return geometric_mean([v.best.median for v in verdicts if v is not None and v.best is not None])

    def torch() -> float:
        pairs = [one.timed() for one in comparisons if {"PyTorch", AUTO} <= set(one.timed())]
        return geometric_mean([ratio(timed["PyTorch"], timed[AUTO]).median for timed in pairs])

    points = ", ".join(one.point.name for one in comparisons)
    cells = "".join(f"{'-' if math.isnan(value) else f'{value:.2f}':>10}" for value in (*map(mean, names), torch()))
    return f"{'mean':{width}}{mode:10}{points:{WIDTH}}{cells}"


def compared(results: Sequence[Results], names: Sequence[str]) -> Iterator[str]:
    """Gives the ratios of several runs side by side: the best peer's time over that of auto."""
    yield "time of the best peer on JAX over that of lstmjax auto"
    keys = dict.fromkeys((c.point, c.mode, c.dtype) for one in results for c in one.comparisons)
    width = max(10, *(len(point.name) + 2 for point, _, _ in keys))
    yield f"{'point':{width}}{'mode':10}{'dtype':10}" + "".join(f"{name:>36}" for name in names)
    for point, mode, dtype in keys:
        cells = ""
        for one in results:
            found = [c for c in one.comparisons if (c.point, c.mode, c.dtype) == (point, mode, dtype)]
            verdict = judge(found[0], AUTO) if found else None
            best = None if verdict is None else verdict.best
            cells += f"{'-' if best is None else f'{best.median:.2f} ({best.name})':>36}"
        yield f"{point.name:{width}}{mode:10}{dtype:10}{cells}"


def _number(value: float | None, unit: float, digits: int) -> str:
    return "-" if value is None else f"{value / unit:.{digits}f}"
