"""Batches of a user's own arrays, as a function of the step, so that the step is the only state."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from lstmjax.data import batch_rows, steps_per_epoch
from lstmjax.types import PyTree


@dataclass(frozen=True, eq=False)
class Shuffled:
    """Batches of arrays, shuffled anew in each epoch: `source(step)` is the batch of a step.

    Args:
        arrays: a pytree of arrays `[N, ...]`, such as a dict.
        batch_size: B.
        seed: seed of the order.

    >>> source = Shuffled({"x": np.arange(10.0), "y": np.arange(10)}, 4)
    >>> source.epoch, source(0)["y"].tolist(), source(0)["x"].tolist()
    (2, [4, 6, 2, 7], [4.0, 6.0, 2.0, 7.0])
    """

    arrays: PyTree
    batch_size: int
    seed: int = 0

    def __post_init__(self) -> None:
        counts = {len(array) for array in jax.tree.leaves(self.arrays)}
        if len(counts) != 1:
            raise ValueError(
                f"arrays have {sorted(counts)} rows, expected one number; each array is [N, ...] with an entry for "
                "each sequence."
            )
        steps_per_epoch(self.count, self.batch_size)

    @property
    def count(self) -> int:
        """N."""
        return len(jax.tree.leaves(self.arrays)[0])

    @property
    def epoch(self) -> int:
        """The number of batches in an epoch."""
        return steps_per_epoch(self.count, self.batch_size)

    def __call__(self, step: int) -> Any:
        rows = batch_rows(self.count, self.batch_size, seed=self.seed, step=step)
        return jax.tree.map(lambda array: np.asarray(array)[rows], self.arrays)
