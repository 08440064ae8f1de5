"""Group sequences of similar lengths into buckets, so that batches need little padding."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np

MOST = 32  # buckets at most: each is a program of its own, which takes about a second to compile
LIMIT = 0.1  # fraction of the steps of a training batch that may be padding
EVALUATED = 0.25  # the same for evaluation, which is a small part of the work and should not compile many programs
FREE_STEPS = 2**20  # steps, with padding, of the sequences that a page looks at, whatever their lengths are
CANDIDATES = 512  # lengths at which a bucket may end; of more, those that differ by less than about 2% are one


class Bucket(NamedTuple):
    """Sequences of similar lengths."""

    members: np.ndarray  # their indices
    steps: int  # T of each batch: their longest length or a little more
    rows: int  # B of each batch
    batches: int  # number of batches in an epoch


@dataclass(frozen=True, eq=False)  # compared by identity, so that an epoch can be cached
class Buckets:
    """All sequences of a part, in buckets of ascending lengths."""

    content: tuple[Bucket, ...]

    @property
    def batches(self) -> int:
        """The number of batches in an epoch."""
        return sum(bucket.batches for bucket in self.content)

    @property
    def computed(self) -> int:
        """The number of steps of all batches of an epoch, with padding."""
        return sum(bucket.batches * bucket.rows * bucket.steps for bucket in self.content)

    def batch(self, *, seed: int, step: int) -> tuple[Bucket, np.ndarray]:
        """Return the bucket of a step's batch and the indices of its sequences, `bucket.rows` or one less.

        Each epoch takes every sequence once, in new batches and in a new order, determined by (seed, epoch).
        """
        epoch, place = divmod(step, self.batches)
        return _epoch(self, seed, epoch)[place]


def padding(lengths: np.ndarray, computed: int) -> float:
    """Return the fraction of the computed steps that are padding."""
    return 1.0 - float(lengths.sum(dtype=np.int64)) / computed


def choose_edges(lengths: np.ndarray, longest: int, size: int, *, limit: float = LIMIT) -> tuple[int, ...] | None:
    """Return the steps to which the batches of each bucket are padded, in ascending order.

    These are as few as keep the padding below the limit; if no choice does, those with the least padding. If possible
    each bucket fills a batch, and there are never more than twice as many batches (and one) as without buckets: more
    would be so small that they would be another way of training.

    Args:
        lengths: steps of each sequence, `[N]`.
        longest: T, to which all of them would be padded otherwise.
        size: sequences in a batch, at most.
        limit: the fraction of padding that is accepted.

    Returns:
        The last one is the longest length. None: no buckets are needed, as padding to T stays below the limit.

    >>> choose_edges(np.arange(1, 1001), 1000, 32)
    (100, 200, 300, 398, 495, 598, 694, 794, 897, 1000)
    >>> choose_edges(np.array([1000] + 999 * [1]), 1000, 32), choose_edges(np.array([9, 10, 10]), 10, 32)
    ((1, 1000), None)
    """
    if padding(lengths, len(lengths) * longest) < limit:
        return None
    most = 2 * -(-len(lengths) // size) + 1
    best: tuple[int, ...] = ()
    least = np.inf
    for fewest in (size, max(size // 2, 1), max(size // 4, 1), 1):  # sequences in a bucket
        for edges in _best_edges(lengths, fewest):
            buckets = make_buckets(lengths, edges, size)
            fraction = padding(lengths, buckets.computed)
            if buckets.batches > most or fraction >= least:
                continue
            if fraction < limit:
                return edges
            best, least = edges, fraction
    return best


def make_buckets(lengths: np.ndarray, edges: tuple[int, ...], size: int) -> Buckets:
    """Return the buckets that end at these lengths.

    The batches of a bucket have the same shape, so that each bucket is a single program. They share its sequences
    evenly: a bucket of 70 has three batches of 24 sequences where `size` is 32. A bucket of fewer sequences than `size`
    is one small batch: filling it up with shorter sequences would pad them to many times their length.

    Args:
        lengths: steps of each sequence, `[N]`.
        edges: ascending steps, the last one at least the longest length.
        size: sequences in a batch, at most.
    """
    of_each = np.searchsorted(edges, lengths)
    content = []
    for n, steps in enumerate(edges):
        members = np.flatnonzero(of_each == n)
        if len(members):
            batches = -(-len(members) // size)
            content.append(Bucket(members, steps, -(-len(members) // batches), batches))
    return Buckets(tuple(content))


def _best_edges(lengths: np.ndarray, fewest: int) -> list[tuple[int, ...]]:
    """Return for 1, 2, ..., `MOST` buckets the edges with the fewest steps in all, by dynamic programming.

    Args:
        lengths: steps of each sequence, `[N]`.
        fewest: sequences in a bucket, at least.
    """
    ends, counts = _candidates(lengths)
    below = np.concatenate([[0], np.cumsum(counts)])  # sequences below each place where a bucket may begin
    inside = (below[None, 1:] - below[:-1, None]).astype(np.float64)  # [begin, end]: sequences of a bucket
    steps = np.where(inside >= fewest, inside * ends, np.inf)
    total = np.full(len(below), np.inf)  # of the buckets so far, by where they end
    total[0] = 0.0
    begins: list[np.ndarray] = []  # for each number of buckets, where the last one begins
    results = []
    for _ in range(min(MOST, len(ends))):
        candidates = total[:-1, None] + steps
        begins.append(candidates.argmin(axis=0))
        total = np.concatenate([[np.inf], candidates.min(axis=0)])
        if np.isfinite(total[-1]):
            results.append(_edges_of(ends, begins))
    return results


def _edges_of(ends: np.ndarray, begins: list[np.ndarray]) -> tuple[int, ...]:
    """Follow where the buckets begin back from the last one, and return where they end."""
    edges = []
    place = len(ends)
    for begin in reversed(begins):
        edges.append(int(ends[place - 1]))
        place = int(begin[place - 1])
    return tuple(reversed(edges))


def _candidates(lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return ascending lengths at which a bucket may end, and the number of sequences from the one before to each."""
    ends, counts = np.unique(lengths, return_counts=True)
    if len(ends) > CANDIDATES:
        place = np.log(ends / ends[0]) / np.log(ends[-1] / ends[0]) * (CANDIDATES - 1)
        last = np.flatnonzero(np.diff(np.floor(place), append=np.inf))  # the longest one in each class
        counts = np.diff(np.cumsum(counts)[last], prepend=0)
        ends = ends[last]
    return ends, counts


def few(lengths: np.ndarray, longest: int, at_most: int) -> tuple[np.ndarray, int]:
    """Return which sequences to look at where they are all padded to one length, and that length.

    These are the first ones, without those that are so long that the others would mostly be padding, beyond what fits
    into the memory anyway.

    Args:
        lengths: steps of each sequence, `[N]`.
        longest: T, to which they are padded.
        at_most: number of sequences.

    >>> rows, steps = few(np.array([9, 4, 5_000_000, 7]), 5_000_000, 3)
    >>> rows.tolist(), steps
    ([0, 1], 9)
    """
    first = lengths[:at_most].astype(np.int64)
    if len(first) * longest <= max(FREE_STEPS, 2 * first.sum()):
        return np.arange(len(first)), longest
    ascending = np.sort(first)
    padded = ascending * np.arange(1, len(first) + 1)
    fits = padded <= np.maximum(FREE_STEPS, 2 * np.cumsum(ascending))
    steps = int(ascending[np.flatnonzero(fits)[-1]])
    return np.flatnonzero(first <= steps), steps


@lru_cache(maxsize=2)
def _epoch(buckets: Buckets, seed: int, epoch: int) -> list[tuple[Bucket, np.ndarray]]:
    random = np.random.default_rng([seed, epoch])
    batches = [
        (bucket, rows)
        for bucket in buckets.content
        for rows in np.array_split(random.permutation(bucket.members), bucket.batches)
    ]
    return [batches[n] for n in random.permutation(len(batches))]
