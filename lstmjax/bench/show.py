"""The results of a benchmark as text."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from types import MappingProxyType

import numpy as np

from lstmjax.bench.competitors import AUTO, OURS, REFERENCE
from lstmjax.bench.points import GRID
from lstmjax.bench.results import Comparison, Results
from lstmjax.bench.standing import LOUD, TOLERATED, Standing, geometric_mean, judge, noise, noise_in_words, ratio

WIDTH = 23
"""Columns of a competitor's name, unless one is longer; tables of one network at a time fit into 100 columns."""

COLUMNS = MappingProxyType(
    {
        "ms": 9,
        "spread": 7,
        "of auto": 8,
        "GFLOP/s": 8,
        "peak": 5,
        "trace": 6,
        "compile": 8,
        "first": 6,
        "MB": 8,
        "grown": 7,
        "eps": 5,
    }
)
"""The titles of a table and their widths; see docs/benchmarks.md."""


def lines(results: Results) -> Iterator[str]:
    """Yield everything: the machine, a table for each point and mode, and the summary."""
    yield str(results.machine)
    for comparison in results.comparisons:
        yield ""
        yield from table(comparison, results.machine.peak)
    yield ""
    yield from summary(results.comparisons)


def table(comparison: Comparison, peak: float) -> Iterator[str]:
    """Yield the table of one comparison, the fastest first; peak is in GFLOP/s."""
    timed, point, mode = comparison.timed(), comparison.point, comparison.mode
    rounds = max((len(row.seconds) for row in timed.values()), default=0)
    yield f"{point.name} ({point}), {mode}, {comparison.dtype}, {rounds} rounds, noise {noise_in_words(comparison)}"
    base = timed.get(AUTO) or timed.get(REFERENCE)
    titles = dict(COLUMNS)
    if base is None or base.name != AUTO:
        titles = {title.replace("of auto", "of scan"): width for title, width in titles.items()}
    name_width = max(WIDTH, *(len(row.name) + 1 for row in comparison.rows))
    yield f"{'':{name_width}}" + "".join(f"{title:>{width}}" for title, width in titles.items())
    for row in sorted(timed.values(), key=lambda row: np.median(row.seconds)):
        low, middle, high = np.quantile(row.seconds, (0.25, 0.5, 0.75))
        speed = point.operations(mode) / middle / 1e9
        cells = [f"{1e3 * middle:.3f}", f"{(high - low) / middle:.0%}"]
        cells += ["" if base is None else f"{ratio(row, base).median:.2f}", f"{speed:.1f}", f"{speed / peak:.0%}"]
        stages = row.stages
        tracing = stages["trace"] + stages["lower"] if {"trace", "lower"} <= stages.keys() else stages.get("trace")
        cells += [_number(seconds, 1, 2) for seconds in (tracing, stages.get("compile"), stages.get("first"))]
        cells += [_number(row.temporaries, 1e6, 1), _number(row.resident, 1e6, 1)]
        cells += [f"{max(row.differences.values(), default=0):.2g}"]
        numbers = "".join(f"{cell:>{n}}" for cell, n in zip(cells, COLUMNS.values(), strict=True))
        yield f"{row.name:{name_width}}{numbers}"
    for row in comparison.rows:
        if not row.seconds:
            yield f"{row.name:{name_width}}  {'DIFFERS' if row.wrong else 'not run'}: {row.why}"
    for row in comparison.rows:
        standing = judge(comparison, row.name) if row.kind == OURS else None
        if standing is not None:
            yield in_words(standing)


def in_words(standing: Standing) -> str:
    """Return a standing in words; a loss is called a loss."""
    best, name = standing.best, standing.name
    if best is None:
        return f"{name}: no peer on JAX took part"
    if standing.noisy:
        slower = f"takes {1 / best.median:.2f} times as long as"
        faster = f"is {best.median:.2f} times as fast as"
        return (
            f"?     {name} {slower if best.median < 1 else faster} {best.name}, but one program differs from itself by "
            f"{standing.noise:.0%} here: no verdict"
        )
    against = f"the best peer on JAX, {best.name} ({best.median:.2f}, quartiles {best.low:.2f} to {best.high:.2f})"
    if standing.loss:
        return f"LOSS  {name} takes {1 / best.median:.2f} times as long as {against}"
    allowed = max(TOLERATED, standing.noise)
    if best.median < 1:
        return f"even  {name} takes {1 / best.median:.2f} times as long as {against}, within {allowed:.0%}"
    if best.median <= 1 + allowed:
        return f"even  {name} is {best.median:.2f} times as fast as {against}, within {allowed:.0%}"
    return f"ahead {name} is {best.median:.2f} times as fast as {against}"


def summary(comparisons: Sequence[Comparison]) -> Iterator[str]:
    """Yield a line for each comparison: the best peer's time over that of each of ours, and PyTorch's over auto.

    Below, the geometric mean over the points of the grid.
    """
    rows = (row for comparison in comparisons for row in comparison.timed().values())
    names = list(dict.fromkeys(row.name for row in rows if row.kind == OURS))
    titles = [name.removeprefix("lstmjax ") for name in names]
    yield "time of the best peer on JAX over ours (above 1: ahead, !: a loss, ?: too noisy), and of PyTorch over auto"
    head = "".join(f"{title:>{_column(title)}}" for title in titles)
    width = max(6, *(len(comparison.point.name) + 1 for comparison in comparisons))
    yield f"{'point':{width}}{'mode':9}{'best peer':{WIDTH}}{head}{'PyTorch':>8}{'noise':>7}"
    for comparison in comparisons:
        yield _line(comparison, names, width)
    for mode in dict.fromkeys(comparison.mode for comparison in comparisons):
        grid = [c for c in comparisons if c.mode == mode and c.point.name in GRID]
        if grid:
            yield _mean(grid, names, mode, width)
    standings = [judge(comparison, AUTO) for comparison in comparisons]
    losses = sum(standing.loss for standing in standings if standing is not None)
    yield f"losses of {AUTO}: {losses} of {len(comparisons)}"
    loud = [f"{c.point.name} {c.mode}" for c in comparisons if noise(c) > LOUD]
    if loud:
        remedy = "idle the machine, or give it more --seconds"
        yield f"too noisy to tell (above {LOUD:.0%}: no verdict; {remedy}): {', '.join(loud)}"


def _column(name: str) -> int:
    """Return the width of the column of one of ours, or of PyTorch's."""
    return max(7, len(name.removeprefix("lstmjax ")) + 1)


def _line(comparison: Comparison, names: Sequence[str], width: int) -> str:
    cells, best = "", "none"
    for name in names:
        standing = judge(comparison, name)
        if standing is None or standing.best is None:
            cells += f"{'-':>{_column(name)}}"
        else:
            best = standing.best.name if best == "none" else best
            mark = "?" if standing.noisy else "!" if standing.loss else ""
            cells += f"{f'{standing.best.median:.2f}{mark}':>{_column(name)}}"
    torch = _torch_over_auto(comparison)
    torch_cell = "-" if torch is None else f"{torch:.2f}"
    start = f"{comparison.point.name:{width}}{comparison.mode:9}{best:{WIDTH}}"
    return f"{start}{cells}{torch_cell:>8}{noise_in_words(comparison):>7}"


def _torch_over_auto(comparison: Comparison) -> float | None:
    """Return the median ratio of PyTorch's time to that of lstmjax auto, or None if one was not timed."""
    timed = comparison.timed()
    if "PyTorch" not in timed or AUTO not in timed:
        return None
    return ratio(timed["PyTorch"], timed[AUTO]).median


def _mean(comparisons: Sequence[Comparison], names: Sequence[str], mode: str, width: int) -> str:
    """Return the line of geometric means over comparisons."""
    means = []
    for name in names:
        standings = (judge(comparison, name) for comparison in comparisons)
        means.append(geometric_mean(s.best.median for s in standings if s is not None and s.best is not None))
    ratios = (_torch_over_auto(comparison) for comparison in comparisons)
    means.append(geometric_mean(r for r in ratios if r is not None))
    points = ", ".join(comparison.point.name for comparison in comparisons)
    columns = [*map(_column, names), _column("")]
    texts = ("-" if math.isnan(mean) else f"{mean:.2f}" for mean in means)
    cells = "".join(f"{text:>{column}}" for text, column in zip(texts, columns, strict=True))
    return f"{'mean':{width}}{mode:9}{points:{WIDTH}}{cells}"


def compared(runs: Sequence[Results], names: Sequence[str]) -> Iterator[str]:
    """Yield the ratios of several runs side by side: the best peer's time over that of auto."""
    yield "time of the best peer on JAX over that of lstmjax auto"
    columns = [{(c.point, c.mode, c.dtype): c for c in results.comparisons} for results in runs]
    keys = dict.fromkeys(key for column in columns for key in column)
    width = max(10, *(len(point.name) + 2 for point, _, _ in keys))
    yield f"{'point':{width}}{'mode':10}{'dtype':10}" + "".join(f"{name:>36}" for name in names)
    for point, mode, dtype in keys:
        cells = ""
        for column in columns:
            comparison = column.get((point, mode, dtype))
            standing = None if comparison is None else judge(comparison, AUTO)
            best = None if standing is None else standing.best
            cells += f"{'-' if best is None else f'{best.median:.2f} ({best.name})':>36}"
        yield f"{point.name:{width}}{mode:10}{dtype:10}{cells}"


def _number(value: float | None, unit: float, digits: int) -> str:
    return "-" if value is None else f"{value / unit:.{digits}f}"
