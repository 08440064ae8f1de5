"""Generate the temporal-order task: which markers, in which order? (Hochreiter & Schmidhuber 1997, experiment 6a.)"""

from __future__ import annotations

import numpy as np

from lstmjax.data.sequences import DataError, Parts, Sequences

SYMBOLS = ("E", "B", "a", "b", "c", "d", "X", "Y")  # start, end, four distractors, two markers
CLASSES = ("XX", "XY", "YX", "YY")
END, DISTRACTOR, MARKER = 1, 2, 6  # where each kind begins in SYMBOLS; the start symbol is 0
TRAIN, VALIDATION, TEST = range(1, 4)  # each has its own stream of random numbers
SAMPLE, VALIDATED, TESTED = 1024, 1024, 2560  # numbers of sequences; the paper tests 2,560


def order(length: int = 100) -> Parts:
    """Generate the parts of the task: endless batches for training, fixed sequences for validation and test.

    A sequence begins with E and ends with B. Between them are a, b, c and d at random, except for an X or
    Y at step t1 and another X or Y at step t2. The class is the two markers in their order: XX, XY, YX or
    YY. With T = `length`, a sequence has T to 1.1 T steps, t1 is from T/10 to T/5 and t2 from T/2 to 3T/5,
    all drawn uniformly and counted from 0. Inputs are one-hot, I = 8.

    Args:
        length: T, 100 in the paper.

    Returns:
        Parts whose `draw` generates training batches; `train` is a sample of them. Each part has its own
        stream of random numbers; two sequences of 100 steps agree with probability below 1e-58.

    >>> parts = order()
    >>> parts.train.x.shape, parts.validation.x.shape, parts.test.x.shape
    ((1024, 110, 8), (1024, 110, 8), (2560, 110, 8))
    >>> batch = parts.draw(1, seed=0, step=0)
    >>> symbols = [SYMBOLS[n] for n in batch.x[0].argmax(axis=-1)]
    >>> "".join(symbols[:20]), "".join(symbols[50:60]), batch.lengths[0].item(), batch.y[0].item()
    ('EddabdbbdbbccaaYddcd', 'bcabdbcbXb', 105, 'YX')
    """

    def draw(count: int, *, seed: int, step: int) -> Sequences:
        return sequences(count, length, np.random.default_rng([TRAIN, seed, step]))

    train, validation, test = (
        sequences(count, length, np.random.default_rng([part]))
        for part, count in ((TRAIN, SAMPLE), (VALIDATION, VALIDATED), (TEST, TESTED))
    )
    return Parts(train, validation, test, draw)


def sequences(count: int, length: int, random: np.random.Generator) -> Sequences:
    """Generate N sequences of the task: x `[N, 1.1 T, 8]`, y `[N]` strings, lengths `[N]`."""
    tenth = length // 10
    lengths = random.integers(length, length + tenth, count, endpoint=True)
    at = np.stack(
        [
            random.integers(tenth, 2 * tenth, count, endpoint=True),
            random.integers(5 * tenth, 6 * tenth, count, endpoint=True),
        ],
        axis=1,
    )  # [N, 2]
    kinds = random.integers(0, 2, (count, 2))
    symbols = random.integers(DISTRACTOR, MARKER, (count, length + tenth))
    rows = np.arange(count)
    symbols[:, 0] = 0
    symbols[rows[:, None], at] = MARKER + kinds
    symbols[rows, lengths - 1] = END
    x = np.eye(len(SYMBOLS), dtype=np.float32)[symbols]
    x[np.arange(length + tenth) >= lengths[:, None]] = 0.0
    y = np.array(CLASSES)[2 * kinds[:, 0] + kinds[:, 1]]
    return Sequences(x, y, lengths.astype(np.int32), features=SYMBOLS)


def markers(data: Sequences) -> tuple[tuple[str, np.ndarray, np.ndarray], ...]:
    """Return what must be remembered in sequences of the task, as the fields of two `lstmjax.inside.Question`.

    "first marker": whether it is an X, from the step after it to the step before the second marker;
    "second marker": whether it is an X, from the step after it to the end.

    Args:
        data: N sequences, x `[N, T, 8]` as `order` returns them.

    Returns:
        Two tuples (name, labels bool `[N]`, spans `[N, 2]`: the first step and the step after the last one).

    Raises:
        DataError: a sequence does not have exactly two markers, or eight features.

    >>> (name, labels, spans), _ = markers(order().test)
    >>> name, labels[:3].tolist(), spans[0].tolist()
    ('first marker', [True, False, True], [15, 58])
    """
    if data.x.shape[-1] != len(SYMBOLS):
        raise DataError(f"x has {data.x.shape[-1]} features, expected the task's {len(SYMBOLS)}: {', '.join(SYMBOLS)}")
    is_marker = (data.x[..., MARKER:] > 0).any(axis=-1) & data.valid()
    if (wrong := np.flatnonzero(is_marker.sum(axis=1) != 2)).size:
        n = wrong[0]
        raise DataError(f"x[{n}] has {is_marker[n].sum()} markers (X or Y), expected two; the task has no others")
    rows, steps = (a.reshape(-1, 2) for a in np.nonzero(is_marker))
    is_x = data.x[rows, steps, MARKER] > 0  # [N, 2]
    ends = np.stack([steps[:, 1], data.valid().sum(axis=1)], axis=1)
    names = ("first marker", "second marker")
    return tuple((name, is_x[:, n], np.stack([steps[:, n] + 1, ends[:, n]], axis=1)) for n, name in enumerate(names))
