"""Fit regional models: all seeds of an ensemble by one program."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from lstmjax.forecast.series import SeriesSet
from lstmjax.forecast.windows import table_of
from lstmjax.hydrology.basins import Period, during, encoded, levels_of, masked_outside, without_days
from lstmjax.hydrology.design import Design, Training
from lstmjax.hydrology.network import EPSILON, NETWORKS, Setting, run, scales_of
from lstmjax.hydrology.regional import RegionalModel, check_columns, check_mass, check_water
from lstmjax.hydrology.windows import cut, windows_of
from lstmjax.training.fit import Hooks, fit
from lstmjax.training.fit import Training as Running
from lstmjax.training.sources import Shuffled
from lstmjax.types import Array, PyTree


def fit_basins(
    basins: SeriesSet,
    period: Period,
    design: Design | None = None,
    training: Training | None = None,
    *,
    seeds: Sequence[int] = (0,),
    start: RegionalModel | None = None,
    hooks: Sequence[Hooks] = (),
) -> RegionalModel:
    """Fit one network to all basins, for each of some seeds.

    Discharges outside of the period are not read, nor is any scale computed of what lies outside. The forcing of the
    days before the period may be read, as the beginning of its first windows.

    Args:
        basins: discharge, forcing and attributes.
        period: of the training, first and last day.
        design: of the network.
        training: how it is fitted.
        seeds: of initial values, order of the windows and dropout. The networks are trained side by side, and each is
            the one that its seed alone would give.
        start: a model of this design, these seeds and columns, whose parameters the training begins with; its scales
            are not used, but those of the period. None: initial values by seed.
        hooks: of `lstmjax.training.fit`, called after steps and evaluations.

    Raises:
        SeriesError: nothing to learn from, a missing attribute, an unknown forcing as mass, negative mass, or mass in
            another unit than mm/day, as its unit says or its size.
        Diverged: the loss is not finite.

    Warns:
        UserWarning: the period begins before the data of all basins, or ends after them.
    """
    training = training or Training()
    outside = without_days(basins, period)
    if outside is not None:
        warnings.warn(f"the training is {outside}: there is nothing to learn from outside of them.", stacklevel=2)
    model = init_basins(basins, period, design, seeds=seeds)
    if start is not None:
        if (start.design, start.seeds) != (model.design, model.seeds):
            raise ValueError(
                f"start has the seeds {start.seeds} and {start.design}, expected {model.seeds} and {model.design}. "
                "Pass design=start.design and seeds=start.seeds."
            )
        check_columns(basins, start.forcing_names, start.attribute_names)
        if start.levels != model.levels:
            raise ValueError(
                f"start has learnt the categories {start.levels}, but the basins have {model.levels}; pass basins with "
                "the same words."
            )
        model = replace(model, params=start.params)
    design, setting = model.design, model.setting
    learnt = masked_outside(encoded(basins, model.levels), period)
    sources = [Shuffled(windows_of(learnt, design, period), training.batch_size, seed) for seed in seeds]
    table = table_of(learnt)

    def batch(step: int) -> dict[str, Any]:
        windows = [source(step) for source in sources]
        return {"table": table, "seed": np.asarray(seeds, np.int32)} | {
            name: np.stack([window[name] for window in windows]) for name in ("basin", "day")
        }

    losses: list[tuple[float, ...]] = []

    def note(running: Running) -> None:
        assert running.record is not None
        losses.append(tuple(running.record["train"][str(seed)] for seed in seeds))

    fitted = fit(
        model.params,
        batch,
        partial(ensemble_loss, setting=setting, seeds=model.seeds),
        by_member(training.optimizer()),
        steps=training.steps,
        average=training.average,
        hooks=[Hooks(on_evaluate=note), *hooks],
    )
    return replace(model, params=jax.tree.map(np.asarray, fitted.model), losses=tuple(zip(*losses, strict=True)))


def init_basins(
    basins: SeriesSet, period: Period, design: Design | None = None, *, seeds: Sequence[int] = (0,)
) -> RegionalModel:
    """Return a model before its training: initial values by seed, and the scales of the period.

    Args:
        basins, period, design, seeds: as for `fit_basins`.
    """
    design, seeds = design or Design(), tuple(seeds)
    if not seeds or len(set(seeds)) != len(seeds):
        raise ValueError(f"seeds is {seeds}, expected one or more different whole numbers.")
    check_mass(basins, design)
    check_water(during(basins, period), design)
    levels = levels_of(basins)
    numbered = encoded(basins, levels)
    scales = scales_of(numbered, period)
    init = NETWORKS[design.cell].init
    sizes = len(basins.known_names), len(numbered.number_names)
    members = [init(jax.random.key(seed), design, *sizes) for seed in seeds]
    params = jax.tree.map(lambda *leaves: np.stack([np.asarray(leaf) for leaf in leaves]), *members)
    return RegionalModel(params, design, scales, seeds, basins.known_names, basins.number_names, levels=levels)


def by_member(optimizer: optax.GradientTransformation) -> optax.GradientTransformation:
    """Return an optimizer of parameters with seeds on the first axis, each with norms and moments of its own."""

    def update(gradients: PyTree, state: PyTree, params: PyTree = None) -> tuple[PyTree, PyTree]:
        return jax.vmap(optimizer.update)(gradients, state, params)

    return optax.GradientTransformation(jax.vmap(optimizer.init), update)


def ensemble_loss(
    params: PyTree, batch: dict[str, Any], key: Array, *, setting: Setting, seeds: tuple[int, ...]
) -> tuple[Array, dict[str, Array]]:
    """Return the sum of the members' losses, whose gradients do not meet, and the loss of each by its seed."""

    def member(params: PyTree, basin: Array, day: Array, seed: Array) -> Array:
        window = cut(batch["table"], basin, day, setting.design)
        drop_key = jax.random.fold_in(key, seed) if setting.design.dropout else None
        last = setting.design.predict
        _, discharge = run(params, window.forcing, window.attributes, setting, last=last, key=drop_key)
        deviation = jnp.asarray(setting.scales.deviation)[basin]
        return nse_loss(discharge, window.discharge, deviation[:, None])

    losses = jax.vmap(member)(params, batch["basin"], batch["day"], batch["seed"])
    return jnp.sum(losses), {str(seed): losses[n] for n, seed in enumerate(seeds)}


def nse_loss(simulated: Array, observed: Array, deviation: Array, epsilon: float = EPSILON) -> Array:
    """Return the NSE loss of a batch, weighted by basin (Kratzert et al. 2019):

        mean over known discharges of (ŷ − y)² / (s + ε)²

    Args:
        simulated: ŷ, `[..., T]`, mm/day.
        observed: y, the same; NaN where it is not known, which has no gradient.
        deviation: s, the standard deviation of the basin's discharge in training, `[..., 1]`.
        epsilon: mm/day.
    """
    known = ~jnp.isnan(observed)
    errors = jnp.where(known, simulated - jnp.where(known, observed, 0.0), 0.0)
    return jnp.sum((errors / (deviation + epsilon)) ** 2) / jnp.maximum(jnp.sum(known), 1).astype(errors.dtype)
