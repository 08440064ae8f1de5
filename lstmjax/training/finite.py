"""Numbers that are none: a loss, a state or weights with NaN or infinity in them are told by name and step."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np

from lstmjax.errors import UserError
from lstmjax.training.checkpoint import Checkpoints, leaf_names
from lstmjax.training.step import TrainState
from lstmjax.types import PyTree

log = logging.getLogger("lstmjax")
REMEDY = "lower optimizer.learning_rate or set optimizer.clip_norm"


class Diverged(UserError):
    """The loss is no number any more."""

    code = 1


def check_values(part: str, values: dict[str, float], step: int, saved: Checkpoints) -> dict[str, float]:
    """Return loss and metric if they are numbers.

    Args:
        part: of the data, for the message.
        values: "loss", and the metric under its name.
        step: that they are from.
        saved: the checkpoints of the run.

    Raises:
        Diverged: they are none.
    """
    if not all(map(math.isfinite, values.values())):
        raise Diverged(f"the {part} loss is {values['loss']} at step {step}; {REMEDY}{_before(saved)}")
    return values


def check_training(state: TrainState, first_bad: int, metric: str, saved: Checkpoints) -> dict[str, float]:
    """Return the means of a state if it is worth going on from: the losses up to it and its arrays are numbers.

    Args:
        state: after a step, with the sums of its batches.
        first_bad: the first step whose loss was no number, or 0.
        metric: name of what is reported beside the loss.
        saved: the checkpoints of the run.

    Raises:
        Diverged: it is not; the message names the first bad step.
    """
    values = state.sums.means(metric)
    check_values("training", values, first_bad or int(state.step), saved)
    if bad := bad_leaves(state):
        raise Diverged(f"{bad[0]} holds NaN or infinity after step {int(state.step)}; {REMEDY}{_before(saved)}")
    return values


def check_restored(state: TrainState, saved: Checkpoints) -> None:
    """Refuse to go on from a checkpoint that holds no numbers.

    Raises:
        Diverged: it does not.
    """
    if bad := bad_leaves(state):
        step = int(state.step)
        earlier = [kept for kept in saved.steps() if kept < step]
        remove = f", or remove {saved.folder / str(step)} to go on from step {earlier[-1]}" if earlier else ""
        raise Diverged(
            f"{saved.folder}: {bad[0]} holds NaN or infinity at step {step}, from which nothing can be learned; start "
            f"a new run with a lower optimizer.learning_rate or an optimizer.clip_norm{remove}"
        )


def bad_leaves(state: TrainState) -> list[str]:
    """Return the names of the arrays that make a state useless: parameters that are not finite, moments that are NaN.

    An infinite second moment still leaves finite updates, of zero.
    """
    params = [f"params.{name}" for name in _names_where(state.params, lambda a: ~np.isfinite(a))]
    return params + [f"moments.{name}" for name in _names_where(state.moments, np.isnan)]


def warn_of_weights(params: PyTree, path: Path, step: int) -> None:
    """Say so if the weights of a run are not finite: all that is computed with them is no number."""
    if bad := _names_where(params, lambda a: ~np.isfinite(a)):
        more = f" and {len(bad) - 1} more" if len(bad) > 1 else ""
        log.warning(
            "%s: the weights of step %d hold NaN or infinity (%s%s): what they give is no number",
            path,
            step,
            bad[0],
            more,
        )


def _names_where(tree: PyTree, bad: Callable[[np.ndarray], np.ndarray]) -> list[str]:
    pairs = zip(leaf_names(tree), jax.tree.leaves(tree), strict=True)
    arrays = ((name, np.asarray(leaf)) for name, leaf in pairs)
    return [name for name, array in arrays if array.dtype.kind == "f" and bad(array).any()]


def _before(saved: Checkpoints) -> str:
    return f". What was saved before is in {saved.folder}" if saved.steps() else ""
