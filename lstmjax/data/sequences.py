"""Data as arrays: sequences with labels, their parts, and what a run remembers of them."""

from __future__ import annotations

import math
import re
import warnings
import zlib
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np

from lstmjax import claims
from lstmjax.config import Section
from lstmjax.data.buckets import few
from lstmjax.data.ragged import Ragged
from lstmjax.errors import UserError

FREE = 2**30  # bytes that any file of data may claim: padding and zeros compress to a hundredth
SHOWN = 40  # letters of a value that a message shows
NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?|[-+]?(nan|inf(inity)?)", re.ASCII | re.IGNORECASE)
WHOLE = re.compile(r"[-+]?0*(\d+)(\.0*)?", re.ASCII)
EXACT32, EXACT64 = 2.0**24, 2.0**53  # up to these float32 and float64 represent every whole number


class DataError(UserError):
    """Data cannot be used; the message names the file, the place and the remedy."""


class Sequences(NamedTuple):
    """N sequences, padded to the longest one, or stored without padding and indexed as if padded."""

    x: np.ndarray | Ragged  # [N, T, I]; the ragged sequences of a CSV file are a `Ragged`
    y: np.ndarray | None = None  # classes [N] or [N, T] (those of CSV are str objects), or numbers [N, O] or [N, T, O]
    lengths: np.ndarray | None = None  # valid steps [N]; None: all T
    names: tuple[str, ...] | None = None  # N names of the sequences, if the file has them
    features: tuple[str, ...] | None = None  # I names of the features, if the file has them
    weight: np.ndarray | None = None  # weight of each sequence in the loss [N]; None: 1

    @property
    def array(self) -> np.ndarray:
        """The x, padded if it is stored without padding."""
        return np.asarray(self.x) if isinstance(self.x, Ragged) else self.x

    def take(self, rows: Any) -> Sequences:
        """Return some of the sequences; `rows` is a slice or an array of indices."""
        x = self.x.take(rows) if isinstance(self.x, Ragged) else self.x[rows]
        return self._with(rows, x, None if self.y is None else self.y[rows])

    def padded(self, rows: Any, steps: int, *, per_step: bool) -> Sequences:
        """Return some of the sequences with x as an array `[rows, steps, I]`.

        Args:
            rows: a slice or an array of indices.
            steps: the first so many of the T steps; no sequence among the rows should be longer.
            per_step: whether y has a label for each step, of which it keeps the same steps.
        """
        y = self.y
        if y is not None:
            y = y[rows, :steps] if per_step else y[rows]
        return self._with(rows, self.x[rows, :steps], y)

    def few(self, at_most: int, *, per_step: bool) -> Sequences:
        """Return the first sequences as arrays; see `lstmjax.data.buckets.few` for which are left out."""
        if self.lengths is None:
            return self.take(slice(at_most))
        rows, steps = few(self.lengths, self.x.shape[1], at_most)
        return self.padded(rows, steps, per_step=per_step)

    def rows_of_few(self, at_most: int) -> np.ndarray:
        """Return which sequences `few` returns, as indices."""
        if self.lengths is None:
            return np.arange(min(at_most, len(self.x)))
        return few(self.lengths, self.x.shape[1], at_most)[0]

    def _with(self, rows: Any, x: np.ndarray | Ragged, y: np.ndarray | None) -> Sequences:
        lengths, weight = (None if a is None else a[rows] for a in (self.lengths, self.weight))
        names = None if self.names is None else tuple(np.asarray(self.names, object)[rows])
        return Sequences(x, y, lengths, names, self.features, weight)

    def valid(self) -> np.ndarray:
        """Return which steps are valid and not padding, bool `[N, T]`."""
        n, t = self.x.shape[:2]
        return np.ones((n, t), bool) if self.lengths is None else np.arange(t) < self.lengths[:, None]

    def valid_steps(self) -> np.ndarray:
        """Return x at all valid steps, one sequence after the other, `[steps, I]`."""
        return self.x.flat if isinstance(self.x, Ragged) else self.x[self.valid()]


class Draw(Protocol):
    """A function that returns the batch of a step, `count` sequences, determined by (seed, step)."""

    def __call__(self, count: int, *, seed: int, step: int) -> Sequences: ...


class Parts(NamedTuple):
    """The parts of the data: for learning, for choosing a checkpoint, and for testing once."""

    train: Sequences  # with `draw`, only a sample
    validation: Sequences
    test: Sequences | None
    draw: Draw | None = None  # generates training batches; None: they are taken from `train`
    notes: tuple[str, ...] = ()  # lines for the log: ranges and scales of features and targets, what was filled


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
    buckets: tuple[int, ...] | None = None
    """Steps to which the batches of training are padded, see `lstmjax.data.buckets`; None: each to T."""
    target_offset: tuple[float, ...] | None = None
    """Number subtracted from each of the O targets of a regression; None: they are learned as they are."""
    target_scale: tuple[float, ...] | None = None
    """Number by which each of the O targets is divided after that."""

    text: Literal["characters", "bytes", "words"] | None = None
    """Tokens of a text, whose vocabulary are then the classes; None: the data are no text."""
    window: int | None = None
    """Tokens from which the next one is learned as a classification; None: a language model, or no text."""

    @property
    def is_stream(self) -> bool:
        """Whether the data are a text that is read from its beginning to its end, by a language model."""
        return self.text is not None and self.window is None

    @property
    def target_scaling(self) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
        """Offset and scale of the O targets; None: they are learned as they are."""
        if self.target_offset is None or self.target_scale is None:
            return None
        return self.target_offset, self.target_scale

    def has_same_data(self, other: About) -> bool:
        """Return whether the other one describes the same data, whatever the batches are padded to."""
        return self.model_copy(update={"buckets": None}) == other.model_copy(update={"buckets": None})

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
        offset, scale = np.array(self.offset, np.float32), np.array(self.scale, np.float32)

        def change(x: np.ndarray) -> np.ndarray:
            return ((x - offset) / scale).astype(np.float32, copy=False)

        return data._replace(x=data.x.map(change) if isinstance(data.x, Ragged) else change(data.x))

    def scaled_targets(self, y: np.ndarray) -> np.ndarray:
        """Return targets `[..., O]` as a regression learns them: float32, shifted and scaled by the training part."""
        if self.target_offset is None or self.target_scale is None:
            return y
        offset, scale = np.array(self.target_offset, np.float64), np.array(self.target_scale, np.float64)
        return ((y - offset) / scale).astype(np.float32)

    def unscaled_targets(self, values: np.ndarray) -> np.ndarray:
        """Return outputs or targets `[..., O]` in the units of the data: the inverse of `scaled_targets`."""
        if self.target_offset is None or self.target_scale is None:
            return values
        offset, scale = np.array(self.target_offset, np.float64), np.array(self.target_scale, np.float64)
        return (values * scale + offset).astype(values.dtype)

    def unscaled(self, data: Sequences) -> Sequences:
        """Return the sequences with x in the units of the training data: the inverse of `scaled`."""
        offset, scale = np.array(self.offset, np.float32), np.array(self.scale, np.float32)

        def change(x: np.ndarray) -> np.ndarray:
            return x * scale + offset

        return data._replace(x=data.x.map(change) if isinstance(data.x, Ragged) else change(data.x))


def fingerprint(*parts: Sequences) -> int:
    """Return a checksum of everything in the parts that training depends on."""
    crc = 0
    for part in parts:
        for array in (part.x, part.y, part.lengths):
            if array is not None:
                crc = zlib.crc32(f"{array.shape}{array.dtype}".encode(), crc)
                for piece in _pieces(array) if isinstance(array, Ragged) else (array.tobytes(),):
                    crc = zlib.crc32(piece, crc)
    return crc


def _pieces(x: Ragged) -> Iterator[memoryview | bytes]:
    """Yield the bytes of ragged data: those with padding, which earlier versions stored and summed."""
    size = math.prod(x.shape) * x.dtype.itemsize
    if size > FREE + claims.RATIO * x.flat.nbytes:  # too many to sum up, and earlier versions refused such a file
        yield np.ascontiguousarray(x.flat).data
        return
    row = bytes(x.longest * x.flat[0].nbytes)
    for start, length in zip(x.starts.tolist(), x.lengths.tolist(), strict=True):
        content = np.ascontiguousarray(x.flat[start : start + length])
        yield content.tobytes()
        yield memoryview(row)[content.nbytes :]


def plain_number(word: str) -> bool:
    """Return whether a word is a decimal number in ASCII; `float` would also take 1_000 and full-width digits."""
    return NUMBER.fullmatch(word.strip()) is not None


def lost_digits(values: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """Return which values are whole numbers that float32 cannot represent, such as seconds since 1970.

    Numbers with a fraction are not reported, as rounding them to 7 digits is expected; nor are float64 of 2^53 and
    more, which are all whole, such as 3.3e20: see `merged` for those.

    Args:
        values: integers, or float64.
        numbers: the same values as float32.
    """
    if values.dtype.kind in "iu":
        inside = numbers < np.iinfo(values.dtype).max + 1.0  # beyond, a conversion to integers wraps around
        return ~inside | (np.where(inside, numbers, 0).astype(values.dtype) != values)
    exact = values.astype(np.float64)
    return (np.abs(exact) > EXACT32) & (np.abs(exact) < EXACT64) & (exact == np.rint(exact)) & (exact != numbers)


def merged(values: np.ndarray, numbers: np.ndarray, valid: np.ndarray) -> Iterator[tuple[int, int, int]]:
    """Yield each feature with many different large values of which float32 keeps less than half apart.

    So are times in nanoseconds since 1970 as float64. Nothing is said of a single value: whether its last digits mean
    anything cannot be known.

    Args:
        values: float64 `[..., features]`.
        numbers: the same values as float32.
        valid: which of them count, bool `[..., features]`.

    Yields:
        The feature, the number of its different values of 2^53 and more in size, and the number of those in float32.
    """
    large = valid & (np.abs(values) >= EXACT64) & np.isfinite(numbers)
    for feature in np.flatnonzero(large.reshape(-1, large.shape[-1]).any(axis=0)).tolist():
        these = large[..., feature]
        different, kept = (len(np.unique(array[..., feature][these])) for array in (values, numbers))
        if 2 * kept <= different:
            yield feature, different, kept


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
