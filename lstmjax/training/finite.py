"""Refuse NaN and infinity in a loss, a state or weights, with the name and the step in the message."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np

from lstmjax.errors import UserError
from lstmjax.training.checkpoint import Checkpoints
from lstmjax.training.paths import leaf_names
from lstmjax.training.step import TrainState
from lstmjax.types import PyTree

log = logging.getLogger("lstmjax")
REMEDY = "lower optimizer.learning_rate or set optimizer.clip_norm"


class Diverged(UserError):
    """The loss or the state is NaN or infinite."""

    code = 1

    def __init__(self, message: str, step: int | None = None):
        super().__init__(message)
        self.step = step  # the first bad step, or the one at which it was seen


def check_restored(state: TrainState, saved: Checkpoints) -> None:
    """Refuse to continue from a checkpoint that holds NaN or infinity.

    Raises:
        Diverged: it does.
    """
    if bad := bad_leaves(state):
        step = int(state.step)
        earlier = [candidate for candidate in saved.steps() if candidate < step]
        remove = f", or remove {saved.folder / str(step)} to go on from step {earlier[-1]}" if earlier else ""
        raise Diverged(
            f"{saved.folder}: {bad[0]} holds NaN or infinity at step {step}, from which nothing can be learned; start "
            f"a new run with a lower optimizer.learning_rate or an optimizer.clip_norm{remove}"
        )


def bad_leaves(state: TrainState) -> list[str]:
    """Return the names of the parameters that are not finite and of the moments that are NaN.

    Infinite moments are allowed: an infinite second moment makes updates of zero, which are finite.
    """
    params = [f"params.{name}" for name in _names_where(state.params, lambda a: ~np.isfinite(a))]
    return params + [f"moments.{name}" for name in _names_where(state.moments, np.isnan)]


def warn_of_weights(params: PyTree, path: Path, step: int) -> None:
    """Warn if the weights of a run are not finite: whatever is computed with them is not finite either."""
    if bad := _names_where(params, lambda a: ~np.isfinite(a)):
        more = f" and {len(bad) - 1} more" if len(bad) > 1 else ""
        log.warning(
            "%s: the weights of step %d hold NaN or infinity (%s%s): no output of theirs is finite",
            path, step, bad[0], more,
        )  # fmt: skip


def _names_where(tree: PyTree, bad: Callable[[np.ndarray], np.ndarray]) -> list[str]:
    pairs = zip(leaf_names(tree), jax.tree.leaves(tree), strict=True)
    arrays = ((name, np.asarray(leaf)) for name, leaf in pairs)
    return [name for name, array in arrays if array.dtype.kind == "f" and bad(array).any()]


def remedy_of(saved: Checkpoints) -> str:
    """Return what to do about a divergence, and where the last good state is."""
    return REMEDY + (f". What was saved before is in {saved.folder}" if saved.steps() else "")
