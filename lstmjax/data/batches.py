"""Draw batches as a function of (seed, step), so that the step is the only state."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from lstmjax.claims import counted
from lstmjax.data.buckets import Buckets
from lstmjax.data.sequences import DataError, Sequences


def steps_per_epoch(count: int, batch_size: int) -> int:
    """Return the number of full batches in N sequences; each epoch leaves out a different remainder.

    Raises:
        DataError: N is less than the size of a batch.
    """
    if batch_size > count:
        train = f"{counted(count, 'sequence')} {'trains' if count == 1 else 'train'}"
        raise DataError(f"batch_size is {batch_size}, but only {train}; set it to {count} at most")
    return count // batch_size


def batch_rows(count: int, batch_size: int, *, seed: int, step: int) -> np.ndarray:
    """Return the indices of a step's batch among N sequences, `[B]`; each epoch is shuffled anew.

    >>> [batch_rows(5, 2, seed=0, step=step).tolist() for step in range(4)]
    [[2, 4], [3, 0], [1, 4], [3, 0]]
    """
    epoch, place = divmod(step, steps_per_epoch(count, batch_size))
    return _order(count, seed, epoch)[place * batch_size : (place + 1) * batch_size]


def batch(data: Sequences, batch_size: int, *, seed: int, step: int) -> Sequences:
    """Return the batch of a step: `batch_size` of the sequences, with all T steps."""
    count, steps = data.x.shape[:2]
    rows = batch_rows(count, batch_size, seed=seed, step=step)
    return data._replace(names=None, features=None).padded(rows, steps, per_step=False)


def bucketed_batch(data: Sequences, buckets: Buckets, *, seed: int, step: int, per_step: bool) -> Sequences:
    """Return the batch of a step from one of the buckets, padded to the steps of that bucket.

    Args:
        data: N sequences.
        buckets: all of them, see `lstmjax.data.buckets`.
        seed, step: what determines the batch.
        per_step: whether each step has a label.
    """
    bucket, rows = buckets.batch(seed=seed, step=step)
    return filled(data, rows, bucket.rows, bucket.steps, per_step=per_step)


def filled(data: Sequences, rows: np.ndarray, count: int, steps: int, *, per_step: bool) -> Sequences:
    """Return some of the sequences, padded to `steps` steps, and filled up at weight 0 to `count` of them.

    So all batches of a bucket have the same shape, and share one compiled program.
    """
    chosen = np.concatenate([rows, np.repeat(rows[:1], count - len(rows))])
    batch = data._replace(names=None, features=None).padded(chosen, steps, per_step=per_step)
    weight = (np.arange(count) < len(rows)).astype(np.float32)
    return batch._replace(weight=weight if batch.weight is None else weight * batch.weight)


@lru_cache(maxsize=2)
def _order(count: int, seed: int, epoch: int) -> np.ndarray:
    return np.random.default_rng([seed, epoch]).permutation(count)
