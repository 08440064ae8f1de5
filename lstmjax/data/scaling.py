"""Find the scale of features and targets in the training part, and say it in words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from lstmjax.claims import counted
from lstmjax.data.ragged import Ragged
from lstmjax.data.sequences import Sequences

BLOCK = 2**14  # steps that are converted to float64 at once
MEAN, LEAST, MOST = 1.0, 0.25, 4.0  # a unit scale: |mean| and the standard deviation
INSIDE, SPAN = 1.0, 0.5  # or: all values within -1 to 1, over a span of at least half
TINY = float(np.finfo(np.float32).tiny)
NAMED = 8  # features that a line of the log names


class Moments(NamedTuple):
    """What is known of each of I features over the training part."""

    low: np.ndarray  # [I]
    high: np.ndarray
    mean: np.ndarray
    deviation: np.ndarray  # standard deviation


class Scaling(NamedTuple):
    """What is subtracted from each number, and by what it is divided after that."""

    offset: tuple[float, ...]
    scale: tuple[float, ...]


def moments(data: Sequences) -> Moments:
    """Return the moments of each feature over all valid steps, a block of sequences at a time.

    The blocks depend on the lengths only, so that data in the memory and on the disk have the same moments.
    """
    return merged_moments(blocks(data), data.x.shape[-1])


def merged_moments(blocks: Iterator[np.ndarray] | Sequence[np.ndarray], width: int) -> Moments:
    """Return the moments of blocks `[n, I]` of numbers, by the update of Chan, Golub & LeVeque (1979); NaN is left out.

    >>> merged_moments([np.array([[1.0], [2.0]]), np.array([[6.0]])], 1)
    Moments(low=array([1.]), high=array([6.]), mean=array([3.]), deviation=array([2.1602469]))
    """
    count, mean, squares = np.zeros((3, width))
    low, high = np.full(width, np.inf), np.full(width, -np.inf)
    for block in blocks:
        values = block.astype(np.float64)
        missing = np.isnan(values)
        low = np.minimum(low, np.min(np.where(missing, np.inf, values), axis=0))
        high = np.maximum(high, np.max(np.where(missing, -np.inf, values), axis=0))
        number = len(values) - missing.sum(axis=0)
        values[missing] = 0.0
        center = values.sum(axis=0) / np.maximum(number, 1)
        values -= center
        values[missing] = 0.0
        spread = np.square(values, out=values).sum(axis=0)
        total = np.maximum(count + number, 1)
        difference = center - mean
        mean = mean + difference * number / total
        squares = squares + spread + np.square(difference) * count * number / total
        count = count + number
    nothing = count == 0
    low, high = np.where(nothing, 0.0, low), np.where(nothing, 0.0, high)
    return Moments(low, high, mean, np.sqrt(squares / np.maximum(count, 1)))


def on_unit_scale(known: Moments) -> np.ndarray:
    """Return which features need no scaling, bool `[I]`.

    Their mean is within -1 to 1 and their standard deviation within 1/4 to 4, or all their values lie within -1 to 1
    and span at least 1/2, as switches, one-hot columns and pixels do; or they are a constant within -1 to 1.
    """
    inside = np.maximum(np.abs(known.low), np.abs(known.high)) <= INSIDE
    span = known.high - known.low
    near = (np.abs(known.mean) <= MEAN) & (known.deviation >= LEAST) & (known.deviation <= MOST)
    return near | (inside & ((span >= SPAN) | (span == 0)))


def standardising(known: Moments, chosen: np.ndarray) -> Scaling:
    """Return the scaling that brings the chosen features to mean 0 and standard deviation 1, and leaves the others.

    A constant becomes 0: its scale is 1, as is that of a feature whose deviation float32 cannot divide by.
    """
    divisible = (known.high > known.low) & (known.deviation > TINY)
    offset = np.where(chosen, known.mean, 0.0)
    scale = np.where(chosen & divisible, known.deviation, 1.0)
    return Scaling(tuple(map(float, offset)), tuple(map(float, scale)))


def described(what: str, known: Moments, scaling: Scaling, names: Sequence[str]) -> list[str]:
    """Return lines for the log: the range of each feature, and whether it is scaled.

    >>> known = Moments(*np.array([[18.0, 0.0], [25.0, 1.0], [21.5, 0.5], [2.0, 0.25]]))
    >>> for line in described("inputs", known, Scaling((21.5, 0.0), (2.0, 1.0)), ["temp", "open"]):
    ...     print(line)
    inputs standardised: temp 18 to 25 (mean 21.5, deviation 2)
    inputs as they are: open 0 to 1
    """
    as_is = [o == 0.0 and s == 1.0 for o, s in zip(scaling.offset, scaling.scale, strict=True)]
    lines = []
    for unscaled, words in ((False, "standardised"), (True, "as they are")):
        rows = [n for n, same in enumerate(as_is) if same is unscaled]
        if rows:
            lines.append(f"{what} {words}: {_listed(known, rows, names, moments_too=not unscaled)}")
    return lines


def described_alike(what: str, known: Moments, names: Sequence[str], scale: float) -> str:
    """Return a line for the log on features that a source in the package brings with one scale for all."""
    divided = f", divided by {scale:g}" if scale != 1.0 else ", as they are"
    return f"{what}: {counted(len(names), 'feature')} from {known.low.min():g} to {known.high.max():g}{divided}"


def _listed(known: Moments, rows: list[int], names: Sequence[str], *, moments_too: bool) -> str:
    parts = []
    for n in rows[:NAMED]:
        text = f"{names[n]} {known.low[n]:.4g} to {known.high[n]:.4g}"
        parts.append(f"{text} (mean {known.mean[n]:.4g}, deviation {known.deviation[n]:.3g})" if moments_too else text)
    if others := rows[NAMED:]:
        parts.append(f"and {len(others)} more from {known.low[others].min():.4g} to {known.high[others].max():.4g}")
    return ", ".join(parts)


def blocks(data: Sequences) -> Iterator[np.ndarray]:
    """Yield x at all valid steps, in blocks of the same number of steps `[BLOCK, I]`; the last one may have fewer."""
    if isinstance(data.x, Ragged):
        pieces = data.x.pieces(BLOCK)
    else:
        count, longest = data.x.shape[:2]
        at_once = max(BLOCK // longest, 1)
        lengths = np.full(count, longest) if data.lengths is None else data.lengths
        pieces = (
            data.x[start : start + at_once][np.arange(longest) < lengths[start : start + at_once, None]]
            for start in range(0, count, at_once)
        )
    waiting: list[np.ndarray] = []
    missing = BLOCK
    for piece in pieces:
        while len(piece) >= missing:
            yield np.concatenate([*waiting, piece[:missing]])
            waiting, piece, missing = [], piece[missing:], BLOCK
        waiting.append(piece)
        missing -= len(piece)
    if missing < BLOCK:
        yield np.concatenate(waiting)
