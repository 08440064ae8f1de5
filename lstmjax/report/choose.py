"""Which sequences are worth a look: a few that differ, and the worst."""

from __future__ import annotations

import numpy as np


def choose(kinds: np.ndarray, losses: np.ndarray, count: int, *, known: bool) -> dict[int, str]:
    """Gives rows with the reason for each: the first of each kind in turn, and the one with the largest loss at last.

    Args:
        kinds: the class of each sequence `[N]`, of its label or, if that is not known, of the prediction; all
            the same where there are no classes.
        losses: `[N]`, on the label or on the prediction.
        count: how many; all of them if there are no more.
        known: the losses are on labels.

    >>> choose(np.array([0, 0, 0, 1, 2]), np.array([0.1, 0.2, 0.9, 0.1, 0.1]), 4, known=True)
    {0: '', 3: '', 4: '', 2: 'the largest loss'}
    """
    worst = int(np.argmax(losses))
    seen: dict[int, int] = {}
    turns = []  # how many of the same kind came before
    for kind in kinds.tolist():
        turns.append(seen.get(kind, 0))
        seen[kind] = turns[-1] + 1
    order = np.lexsort((np.arange(len(kinds)), kinds, np.array(turns)))
    rows = [row for row in order.tolist() if row != worst][: count - 1]
    return dict.fromkeys(rows, "") | {worst: "the largest loss" if known else "the least sure"}
