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
from lstmjax.bench.standing import judge

BEST = "best peer on JAX"
COMPETITORS = "lstmjax auto,lax.scan,Flax OptimizedLSTMCell,Haiku,Keras on JAX,PyTorch"
"""The default competitors: of the peers on JAX those that are fastest somewhere in the grid."""


class Letter(NamedTuple):
    """The size that grows, and the network that it grows from."""

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
"""The curves; the sizes that do not grow are small enough that the longest call takes seconds."""


def points(letter: str, quick: bool = False) -> list[Point]:
    """Return the points of a curve, named T10, T30, …; a few small ones if `quick`."""
    row = LETTERS[letter]
    sizes = row.quick if quick else row.sizes
    return [replace(row.base, name=f"{letter}{size}", **{row.field: size}) for size in sizes]


def curve(results: Results, mode: str) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return sizes and median seconds of lstmjax auto, of the best peer on JAX at each size, and of PyTorch."""
    field = LETTERS[results.growth or ""].field
    sizes: dict[str, list[int]] = {}
    seconds: dict[str, list[float]] = {}
    for comparison in results.comparisons:
        if comparison.mode != mode:
            continue
        medians = {name: float(np.median(row.seconds)) for name, row in comparison.timed().items()}
        standing = judge(comparison, AUTO)
        if standing is not None and standing.best is not None:  # by the ratio within the rounds, as everywhere
            medians[BEST] = medians[AUTO] * standing.best.median
        for name in (AUTO, BEST, "PyTorch"):
            if name in medians:
                sizes.setdefault(name, []).append(getattr(comparison.point, field))
                seconds.setdefault(name, []).append(medians[name])
    return {name: (np.array(sizes[name]), np.array(seconds[name])) for name in sizes}


def slopes(sizes: ArrayLike, seconds: ArrayLike) -> np.ndarray:
    """Return the exponent of growth between neighbours: 1 in proportion, 0 not at all, 2 with the square.

    >>> slopes([10, 100, 1000], [1.0, 10.0, 1000.0]).round(6).tolist()
    [1.0, 2.0]
    """
    return np.diff(np.log(seconds)) / np.diff(np.log(sizes))


def bend(sizes: Sequence[int], seconds: Sequence[float], least: float = 0.9) -> int | None:
    """Return the size from which on time grows at least in proportion, or None if it nowhere does.

    Below it, costs dominate that do not depend on the size. "In proportion": every slope to the right is at least
    `least`, which is below 1 since times are never exact.

    >>> bend([1, 10, 100, 1000], [1.0, 2.0, 20.0, 200.0])
    10
    """
    small = np.flatnonzero(slopes(sizes, seconds) < least)
    first = int(small[-1]) + 1 if small.size else 0
    return None if first == len(sizes) - 1 else sizes[first]


def lines(results: Results) -> Iterator[str]:
    """Yield for each mode the times over the sizes, their slopes, and where they bend."""
    letter = results.growth or ""
    yield str(results.machine)
    for mode in dict.fromkeys(comparison.mode for comparison in results.comparisons):
        curves = curve(results, mode)
        yield ""
        about = f"{letter}, {LETTERS[letter].about}"
        yield f"{mode} over {about}; ms of a call (us for each of {letter}) ^slope since the size before"
        yield f"{letter:>8}" + "".join(f"{name:>36}" for name in curves)
        sizes = sorted({int(size) for pair in curves.values() for size in pair[0]})
        for size in sizes:
            yield f"{size:>8}" + "".join(f"{_cell(size, *pair):>36}" for pair in curves.values()).rstrip()
        best = []
        for comparison in results.comparisons:
            standing = judge(comparison, AUTO) if comparison.mode == mode else None
            if standing is not None and standing.best is not None:
                best.append(f"{comparison.point.name} {standing.best.name}")
        yield f"{BEST}: {', '.join(best) or 'none'}"
        for name, (at, seconds) in curves.items():
            start = bend(at.tolist(), seconds.tolist()) if len(at) > 1 else None
            yield f"{name}: " + ("nowhere in proportion" if start is None else f"in proportion from {letter} = {start}")


def _cell(size: int, sizes: np.ndarray, seconds: np.ndarray) -> str:
    place = np.flatnonzero(sizes == size)
    if not place.size:
        return "-"
    n = int(place[0])
    slope = f"^{slopes(sizes, seconds)[n - 1]:.2f}" if n else ""
    return f"{1e3 * seconds[n]:.3f} ({1e6 * seconds[n] / size:.2f}) {slope:>6}"
