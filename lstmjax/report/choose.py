"""The choice of sequences to show: a few of different kinds, and the worst one."""

from __future__ import annotations

import numpy as np


def choose(kinds: np.ndarray, losses: np.ndarray, count: int, *, known: bool) -> dict[int, str]:
    """Return rows with the reason for each: the first ones of each kind in turn, then the one with the largest loss.

    Args:
        kinds: the class of each sequence `[N]`, that of its label or, without labels, of the prediction; all the same
            where there are no classes.
        losses: the loss of each sequence `[N]`, on its label or on the prediction.
        count: the number of rows, at most.
        known: the losses are on labels.

    >>> choose(np.array([0, 0, 0, 1, 2]), np.array([0.1, 0.2, 0.9, 0.1, 0.1]), 4, known=True)
    {0: '', 3: '', 4: '', 2: 'the largest loss'}
    """
    worst = int(np.argmax(losses))
    seen: dict[int, int] = {}
    turns = []  # the number of sequences of the same kind before each
    for kind in kinds.tolist():
        turns.append(seen.get(kind, 0))
        seen[kind] = turns[-1] + 1
    order = np.lexsort((np.arange(len(kinds)), kinds, np.array(turns)))
    rows = [row for row in order.tolist() if row != worst][: count - 1]
    return dict.fromkeys(rows, "") | {worst: "the largest loss" if known else "the least sure"}
