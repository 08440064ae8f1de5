"""What a run remembers of its data: sizes, classes, scales, and how files are read."""

from __future__ import annotations

from typing import Literal

import numpy as np

from lstmjax.config import Columns, Section
from lstmjax.data.form import Form
from lstmjax.data.missing import filled
from lstmjax.data.ragged import Ragged
from lstmjax.data.sequences import DataError, Sequences


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
    form: Form | None = None
    """How files are read; None: as without any option."""
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

    @property
    def target_names(self) -> tuple[str, ...]:
        """Names of the O targets of a regression or of switches: of their columns where these are named, or y_0."""
        columns = Columns() if self.form is None else self.form.columns
        if columns.target != Columns().target and len(columns.target) == self.output_size:
            return columns.target
        return tuple(f"y_{n}" for n in range(self.output_size))

    def has_same_data(self, other: About) -> bool:
        """Return whether the other one describes the same data, whatever the batches are padded to."""
        return self.model_copy(update={"buckets": None}) == other.model_copy(update={"buckets": None})

    def prepared(self, data: Sequences, name: str = "x") -> Sequences:
        """Return the sequences of a file, or of a user's array, with missing values filled in as in training."""
        form = self.form
        if form is None or form.fill is None or data.x.shape[-1] != len(form.fill):
            return data
        result = filled(data, form, name)
        return result if data.features else result._replace(features=None)

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
