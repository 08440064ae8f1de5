"""Draw batches as a function of (seed, step), so that the step is the only state."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from lstmjax.data.sequences import DataError, Sequences


def steps_per_epoch(count: int, batch_size: int) -> int:
    """Return the number of full batches in N sequences; each epoch leaves out a different remainder.

    Raises:
        DataError: N is less than the size of a batch.
    """
    if batch_size > count:
        raise DataError(f"batch_size is {batch_size}, but only {count} sequences train; set it to {count} at most")
    return count // batch_size


def batch_rows(count: int, batch_size: int, *, seed: int, step: int) -> np.ndarray:
    """Return the indices of a step's batch among N sequences, `[B]`; each epoch is shuffled anew.

    >>> [batch_rows(5, 2, seed=0, step=step).tolist() for step in range(4)]
    [[2, 4], [3, 0], [1, 4], [3, 0]]
    """
    epoch, place = divmod(step, steps_per_epoch(count, batch_size))
    return _order(count, seed, epoch)[place * batch_size : (place + 1) * batch_size]


def batch(data: Sequences, batch_size: int, *, seed: int, step: int) -> Sequences:
    """Return the batch of a step: `batch_size` of the sequences."""
    rows = batch_rows(len(data.x), batch_size, seed=seed, step=step)
    return data._replace(names=None, features=None).take(rows)


@lru_cache(maxsize=2)
def _order(count: int, seed: int, epoch: int) -> np.ndarray:
    return np.random.default_rng([seed, epoch]).permutation(count)
