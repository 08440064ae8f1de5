"""Data as arrays: sequences with labels, their parts, and what a run remembers of them."""

from __future__ import annotations

import re
import warnings
import zlib
from typing import Any, NamedTuple, Protocol

import numpy as np

from lstmjax.config import Section
from lstmjax.errors import UserError

FREE = 2**30  # bytes that any file of data may claim: padding and zeros compress to a hundredth
SHOWN = 40  # letters of a value that a message shows
NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?|[-+]?(nan|inf(inity)?)", re.ASCII | re.IGNORECASE)
WHOLE = re.compile(r"[-+]?0*(\d+)(\.0*)?", re.ASCII)
EXACT32, EXACT64 = 2.0**24, 2.0**53  # up to these float32 and float64 represent every whole number


class DataError(UserError):
    """Data cannot be used; the message names the file, the place and the remedy."""


class Sequences(NamedTuple):
    """N sequences, padded to the longest one."""

    x: np.ndarray  # [N, T, I]
    y: np.ndarray | None = None  # classes [N] or [N, T] (those of CSV are str objects), or numbers [N, O] or [N, T, O]
    lengths: np.ndarray | None = None  # valid steps [N]; None: all T
    names: tuple[str, ...] | None = None  # N names of the sequences, if the file has them
    features: tuple[str, ...] | None = None  # I names of the features, if the file has them

    def take(self, rows: Any) -> Sequences:
        """Return some of the sequences; `rows` is a slice or an array of indices."""
        y = None if self.y is None else self.y[rows]
        lengths = None if self.lengths is None else self.lengths[rows]
        names = None if self.names is None else tuple(np.asarray(self.names, object)[rows])
        return Sequences(self.x[rows], y, lengths, names, self.features)

    def valid(self) -> np.ndarray:
        """Return which steps are valid and not padding, bool `[N, T]`."""
        n, t = self.x.shape[:2]
        return np.ones((n, t), bool) if self.lengths is None else np.arange(t) < self.lengths[:, None]


class Draw(Protocol):
    """A function that returns the batch of a step, `count` sequences, determined by (seed, step)."""

    def __call__(self, count: int, *, seed: int, step: int) -> Sequences: ...


class Parts(NamedTuple):
    """The parts of the data: for learning, for choosing a checkpoint, and for testing once."""

    train: Sequences  # with `draw`, only a sample
    validation: Sequences
    test: Sequences | None
    draw: Draw | None = None  # generates training batches; None: they are taken from `train`


class About(Section):
    """What a run remembers of its data, so that it can predict without them."""

    input_size: int
    """I."""
    output_size: int
    """O: classes, labels or numbers."""
    per_step: bool
    """Whether each step has a label."""
    classes: tuple[str, ...] | None
    """Names of the classes, in the order of the logits."""
    offset: tuple[float, ...]
    """Number subtracted from each of the I features."""
    scale: tuple[float, ...]
    """Number by which each of the I features is divided after that."""
    features: tuple[str, ...] | None
    """Names of the features, if the file has them."""
    fingerprint: int
    """Checksum of the training and validation part."""

    def scaled(self, data: Sequences, name: str = "x") -> Sequences:
        """Return the sequences with x as the network sees it: float32, shifted and scaled as in training.

        Raises:
            DataError: the number or the names of the features differ from those of training.
        """
        if data.x.shape[-1] != self.input_size:
            raise DataError(
                f"{name}: {data.x.shape[-1]} features at each step, but the network was trained on I = "
                f"{self.input_size}; x is [sequences, steps, features]"
            )
        if self.features and data.features and self.features != data.features:
            raise DataError(
                f"{name}: the feature columns are {', '.join(data.features)}, but the network was trained on "
                f"{', '.join(self.features)}; give the same ones in the same order"
            )
        x = (data.x - np.array(self.offset, np.float32)) / np.array(self.scale, np.float32)
        return data._replace(x=x.astype(np.float32, copy=False))


def fingerprint(*parts: Sequences) -> int:
    """Return a checksum of everything in the parts that training depends on."""
    crc = 0
    for part in parts:
        for array in (part.x, part.y, part.lengths):
            if array is not None:
                crc = zlib.crc32(f"{array.shape}{array.dtype}".encode(), crc)
                crc = zlib.crc32(array.tobytes(), crc)
    return crc


def plain_number(word: str) -> bool:
    """Return whether a word is a decimal number in ASCII; `float` would also take 1_000 and full-width digits."""
    return NUMBER.fullmatch(word.strip()) is not None


def lost_digits(values: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """Return which values are whole numbers that float32 cannot represent, such as seconds since 1970.

    Numbers with a fraction are not reported, as rounding them to 7 digits is expected; nor are float64 beyond 2^53,
    which may have been rounded before.

    Args:
        values: integers, or float64.
        numbers: the same values as float32.
    """
    if values.dtype.kind in "iu":
        inside = numbers < np.iinfo(values.dtype).max + 1.0  # beyond, a conversion to integers wraps around
        return ~inside | (np.where(inside, numbers, 0).astype(values.dtype) != values)
    exact = values.astype(np.float64)
    return (np.abs(exact) > EXACT32) & (np.abs(exact) < EXACT64) & (exact == np.rint(exact)) & (exact != numbers)


def lost_in_words(words: np.ndarray, exact: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """Return which numbers, as written in a file, are whole and cannot be represented in float32.

    Args:
        words: strings of numbers.
        exact: the same values as float64.
        numbers: the same values as float32.
    """
    lost = lost_digits(exact, numbers)
    large = (np.abs(exact) >= EXACT64) & np.isfinite(numbers)
    for at in zip(*np.nonzero(large), strict=True):  # float64 itself may have lost digits
        whole = WHOLE.fullmatch(str(words[at]).strip())
        lost[at] = whole is not None and int(whole[1]) != abs(int(numbers[at]))
    return lost


def warn_lost(place: str, value: Any, number: Any, count: int) -> None:
    """Warn of whole numbers that lose digits in float32."""
    shown = str(value) if len(str(value)) <= SHOWN else f"{str(value)[:SHOWN]}…"
    warnings.warn(
        f"{place} is {shown}, which float32 keeps as {number:.0f} ({count} such numbers in all); subtract a constant, "
        "or give it in other units",
        stacklevel=2,
    )
