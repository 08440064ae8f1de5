"""What data is: sequences with labels, and what is known about them."""

from __future__ import annotations

import re
import warnings
import zlib
from typing import Any, NamedTuple, Protocol

import numpy as np

from lstmjax.config import Section
from lstmjax.errors import UserError

FREE = 2**30  # bytes that any file of data may claim: what is mostly padding or zeros compresses to a hundredth
NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?|[-+]?(nan|inf(inity)?)", re.ASCII | re.IGNORECASE)
WHOLE, SUMMED = 2.0**24, 2.0**53  # up to these float32 and float64 have every whole number


class DataError(UserError):
    """Data that cannot be used; the message names the file, the place and the remedy."""


class Sequences(NamedTuple):
    """N sequences, padded to the longest one."""

    x: np.ndarray  # [N, T, I]
    y: np.ndarray | None = (
        None  # [N] or [N, T] classes (words of CSV as objects, each once), or [N, O] or [N, T, O] numbers
    )
    lengths: np.ndarray | None = None  # [N] valid steps; None: all T
    names: tuple[str, ...] | None = None  # N of them, as the file calls the sequences
    features: tuple[str, ...] | None = None  # I of them, as the file calls the features

    def take(self, rows: Any) -> Sequences:
        """Gives some of the sequences, by slice or by index."""
        y, lengths = (None if a is None else a[rows] for a in (self.y, self.lengths))
        names = None if self.names is None else tuple(np.asarray(self.names, object)[rows])
        return Sequences(self.x[rows], y, lengths, names, self.features)

    def valid(self) -> np.ndarray:
        """Gives which steps are there, bool `[N, T]`."""
        n, t = self.x.shape[:2]
        return np.ones((n, t), bool) if self.lengths is None else np.arange(t) < self.lengths[:, None]


class Draw(Protocol):
    """Gives the batch of a step, `count` sequences, as a function of (seed, step)."""

    def __call__(self, count: int, *, seed: int, step: int) -> Sequences: ...


class Parts(NamedTuple):
    """What is learned from, what choices are made on, and what is read once."""

    train: Sequences  # with `draw`, a sample of what is learned from
    validation: Sequences
    test: Sequences | None
    draw: Draw | None = None  # for data without end; None: batches are taken from `train`


class About(Section):
    """What a run must remember of its data, so that it can predict without them."""

    input_size: int
    """I."""
    output_size: int
    """O: classes, labels or numbers."""
    per_step: bool
    """Whether there is a label at each step."""
    classes: tuple[str, ...] | None
    """Names of the classes, in the order of the logits."""
    offset: tuple[float, ...]
    """What is subtracted from each of the I features."""
    scale: tuple[float, ...]
    """What each of the I features is divided by, after that."""
    features: tuple[str, ...] | None
    """Names of the features, where the file gives them."""
    fingerprint: int
    """Checksum of the training and validation part."""

    def scaled(self, data: Sequences, name: str = "x") -> Sequences:
        """Gives the sequences as the network sees them: x float32, shifted and scaled as in training.

        Raises:
            DataError: another number of features, or others by name.
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
    """Gives a checksum of everything in the parts that training depends on."""
    crc = 0
    for part in parts:
        for array in (part.x, part.y, part.lengths):
            if array is not None:
                crc = zlib.crc32(f"{array.shape}{array.dtype}".encode(), crc)
                crc = zlib.crc32(array.tobytes(), crc)
    return crc


def plain_number(word: str) -> bool:
    """Tell whether a word is a decimal number in ASCII, which Python's 1_000 and full-width digits are not."""
    return NUMBER.fullmatch(word.strip()) is not None


def lost_digits(values: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """Tell which values are whole numbers that float32 cannot keep, such as times in seconds since 1970.

    Other numbers are rounded to 7 digits without a word, as everywhere.

    Args:
        values: whole numbers, or float64.
        numbers: the same as float32.
    """
    exact = values.astype(np.float64)
    return (np.abs(exact) > WHOLE) & (np.abs(exact) < SUMMED) & (exact == np.rint(exact)) & (exact != numbers)


def warn_lost(place: str, value: Any, number: Any, count: int) -> None:
    """Warn of whole numbers that lose digits in float32."""
    warnings.warn(
        f"{place} is {value}, which float32 keeps as {number:.0f} ({count} such numbers in all); subtract a constant, "
        "or give it in other units",
        stacklevel=2,
    )
