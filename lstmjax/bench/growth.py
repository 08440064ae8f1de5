"""How time grows with T, H or B: the points of a curve, its slope, and where it bends."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from lstmjax.bench.competitors import AUTO
from lstmjax.bench.points import Point
from lstmjax.bench.results import Results
from lstmjax.bench.verdict import judge

BEST = "best peer on JAX"
COMPETITORS = "lstmjax auto,lax.scan,Flax OptimizedLSTMCell,Haiku,Keras on JAX,PyTorch"
"""Who takes part unless others are named: of the peers on JAX those that are ahead somewhere in the grid."""


class Letter(NamedTuple):
    """What grows, and what stays."""

    field: str  # of a Point
    about: str
    sizes: tuple[int, ...]
    quick: tuple[int, ...]
    base: Point


LETTERS = MappingProxyType(
    {
        "T": Letter(
            "steps", "time steps", (10, 30, 100, 300, 1000, 3000, 10_000, 30_000, 100_000), (10, 100, 1000),
            Point("T", 1, 10, 8, 64),
        ),
        "H": Letter(
            "hidden", "units", (16, 32, 64, 128, 256, 512, 1024, 2048), (16, 64, 256), Point("H", 16, 20, 8, 16)
        ),
        "B": Letter(
            "batch", "sequences", (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024), (1, 8, 64), Point("B", 1, 50, 8, 128)
        ),
    }
)  # fmt: skip
"""The curves; where one letter grows, the others are small enough that the longest call takes seconds."""


def points(letter: str, quick: bool = False) -> list[Point]:
    """Gives the points of a curve, named T10, T30, …; a few small ones if `quick`."""
    row = LETTERS[letter]
    sizes = row.quick if quick else row.sizes
    return [replace(row.base, name=f"{letter}{size}", **{row.field: size}) for size in sizes]


def curve(results: Results, mode: str) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Gives for lstmjax auto, the best peer on JAX at each size, and PyTorch: sizes, and medians of the seconds."""
    field = LETTERS[results.growth or ""].field
    found: dict[str, list[tuple[int, float]]] = {}
    for one in results.comparisons:
        if one.mode != mode:
            continue
        medians = {name: float(np.median(row.seconds)) for name, row in one.timed().items()}
        verdict = judge(one, AUTO)
        if verdict is not None and verdict.best is not None:  # by the ratio within the rounds, as everywhere
            medians[BEST] = medians[AUTO] * verdict.best.median
        for name in (AUTO, BEST, "PyTorch"):
            if name in medians:
                found.setdefault(name, []).append((getattr(one.point, field), medians[name]))
    return {name: tuple(map(np.array, zip(*pairs, strict=True))) for name, pairs in found.items()}  # type: ignore[misc]


def slopes(sizes: ArrayLike, seconds: ArrayLike) -> np.ndarray:
    """Gives the exponent of growth between neighbours: 1 in proportion, 0 not at all, 2 with the square.

    >>> slopes([10, 100, 1000], [1.0, 10.0, 1000.0]).round(6).tolist()
    [1.0, 2.0]
    """
    return np.diff(np.log(seconds)) / np.diff(np.log(sizes))


def bend(sizes: Sequence[int], seconds: Sequence[float], least: float = 0.9) -> int | None:
    """Gives the size from which on time grows at least in proportion, or None if it nowhere does.

    Below it a call costs something that does not depend on the size. "In proportion": no slope to the right is below
    `least`, since times are never exact.

    >>> bend([1, 10, 100, 1000], [1.0, 2.0, 20.0, 200.0])
    10
    """
    small = np.flatnonzero(slopes(sizes, seconds) < least)
    first = int(small[-1]) + 1 if small.size else 0
    return None if first == len(sizes) - 1 else sizes[first]


def lines(results: Results) -> Iterator[str]:
    """Gives for each mode the times over the sizes, their slopes, and where they bend."""
    letter = results.growth or ""
    yield str(results.machine)
    for mode in dict.fromkeys(one.mode for one in results.comparisons):
        found = curve(results, mode)
        yield ""
        about = f"{letter}, {LETTERS[letter].about}"
        yield f"{mode} over {about}; ms of a call (us for each of {letter}) ^slope since the size before"
        yield f"{letter:>8}" + "".join(f"{name:>36}" for name in found)
        sizes = sorted({int(size) for pairs in found.values() for size in pairs[0]})
        for size in sizes:
            yield f"{size:>8}" + "".join(f"{_cell(size, *pairs):>36}" for pairs in found.values()).rstrip()
        verdicts = ((one.point.name, judge(one, AUTO)) for one in results.comparisons if one.mode == mode)
        best = [f"{name} {v.best.name}" for name, v in verdicts if v is not None and v.best is not None]
        yield f"{BEST}: {', '.join(best) or 'none'}"
        for name, pairs in found.items():
            from_ = bend(pairs[0].tolist(), pairs[1].tolist()) if len(pairs[0]) > 1 else None
            yield f"{name}: " + ("nowhere in proportion" if from_ is None else f"in proportion from {letter} = {from_}")


def _cell(size: int, sizes: np.ndarray, seconds: np.ndarray) -> str:
    place = np.flatnonzero(sizes == size)
    if not place.size:
        return "-"
    n = int(place[0])
    slope = f"^{slopes(sizes, seconds)[n - 1]:.2f}" if n else ""
    return f"{1e3 * seconds[n]:.3f} ({1e6 * seconds[n] / size:.2f}) {slope:>6}"
