"""Compute the statistics of gates at each checkpoint of a run, to see how they learn."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import jax
import numpy as np

from lstmjax.config import Model
from lstmjax.data import Sequences, load
from lstmjax.inside import gate_statistics
from lstmjax.networks import NetworkParams
from lstmjax.runs import RunError
from lstmjax.training.forward import Trained, network_options
from lstmjax.training.reading import load_checkpoints
from lstmjax.types import PyTree

if TYPE_CHECKING:
    from jax.typing import ArrayLike


class Learning(NamedTuple):
    """Statistics of a network's gates at S steps of its training."""

    steps: np.ndarray  # [S], starting with 0: before training
    statistics: PyTree  # for each layer `GateStatistics` with a leading axis S, a `Bidirectional` of two for a pair


def learning(
    run: str | Path,
    xs: ArrayLike | None = None,
    lengths: ArrayLike | None = None,
    *,
    low: float = 0.1,
    high: float = 0.9,
    at_most: int = 512,
) -> Learning:
    """Return the gate statistics of a run's network before training and at each of its checkpoints.

    A run keeps its last two checkpoints and the best one; with `keep_every: 100` in its configuration
    it also keeps that of every hundredth step.

    Args:
        run: the run's folder.
        xs: sequences `[N, T, I]` in the units of the training data; None: the run's validation part.
        lengths: valid steps of xs, `[N]`; None: all T.
        low, high: limits of saturation, see `lstmjax.inside.saturation`.
        at_most: use the first so many sequences, without those that are far longer than the others.

    Raises:
        UserError: no such run, no readable checkpoint in it, or its data have changed.
    """
    steps, networks = zip(*load_checkpoints(run), strict=True)
    if networks[0].about.is_stream:
        raise RunError(
            f"{run}: is a language model; its gates are seen by gate_statistics(*embedded(params, tokens)[:2])"
        )
    data = _sequences(run, networks[0], xs, lengths).few(at_most, per_step=networks[0].about.per_step)
    with jax.enable_x64(networks[0].config.model.needs_x64):
        statistics = [
            _statistics(trained.params, data.x, data.lengths, model=trained.config.model, low=low, high=high)
            for trained in networks
        ]
    return Learning(np.asarray(steps), jax.tree.map(lambda *a: np.stack(a), *statistics))


def _sequences(run: str | Path, trained: Trained, xs: ArrayLike | None, lengths: ArrayLike | None) -> Sequences:
    if xs is not None:
        valid_steps = None if lengths is None else np.asarray(lengths, np.int32)
        return trained.about.scaled(trained.about.prepared(Sequences(np.asarray(xs), None, valid_steps)))
    parts, about = load(trained.config.data, trained.config.loss.name)
    if not about.has_same_data(trained.about):
        raise RunError(f"{run}: the data have changed since this run began; restore them, or pass xs")
    return parts.validation


@partial(jax.jit, static_argnames=("model", "low", "high"))
def _statistics(
    params: NetworkParams, xs: ArrayLike, lengths: ArrayLike | None, *, model: Model, low: float, high: float
) -> PyTree:
    return gate_statistics(params, xs, low=low, high=high, lengths=lengths, **network_options(model))
