"""Find a learning rate: raise it from update to update, and see where the loss falls and where it diverges."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import optax

from lstmjax.config import Config, ConfigError
from lstmjax.training.finite import Diverged
from lstmjax.training.optimizers import make_optimizer
from lstmjax.training.plan import Plan, initial_of, new_plan
from lstmjax.training.recipe import first_state as first_state_of
from lstmjax.training.recipe import objective_of_recipe, run_key, state_of
from lstmjax.training.step import make_train_step
from lstmjax.writing import draft

MEMORY = 0.9  # decay of the average of the loss: of a hundred updates it takes the last ten
WORSE = 4.0  # times the lowest loss: the training has diverged
FORMATS = (".png", ".svg", ".pdf")


class Rates(NamedTuple):
    """The losses of rising learning rates, until the loss diverges."""

    rates: np.ndarray  # [n], ascending
    losses: np.ndarray  # [n], of the batches of an update
    smoothed: np.ndarray  # [n], averaged over the updates before, without the bias of the first ones
    steepest: float | None  # rate at which the averaged loss falls fastest, over the logarithm; None: it never falls
    lowest: float  # rate with the lowest averaged loss


def measure_rates(config: Config, low: float = 1e-6, high: float = 1.0, steps: int = 100) -> Rates:
    """Train for some updates while the learning rate rises, evenly in its logarithm (Smith 2017, section 3.3).

    Optimizer, clipping and accumulation are those of the configuration; its schedule and rate are not used.

    Args:
        config: configuration of a run.
        low, high: first and last learning rate.
        steps: number of updates.

    Raises:
        UserError: the configuration, the data or the limits cannot be used.
        Diverged: the loss is not finite at the first rates already.
    """
    if not 0 < low < high <= 1e6:
        raise ConfigError(f"--low is {low:g} and --high is {high:g}, expected 0 < low < high <= 1e6")
    if not 10 <= steps <= 100_000:
        raise ConfigError(f"--steps is {steps}, expected 10 to 100,000")
    with jax.enable_x64(config.model.needs_x64):
        return _measured(config, new_plan(config), low, high, steps)


def _measured(config: Config, plan: Plan, low: float, high: float, steps: int) -> Rates:
    every = config.optimizer.accumulate
    schedule: optax.Schedule = optax.exponential_decay(low, steps - 1, high / low)
    rule = make_optimizer(config.optimizer, steps * every, config.model.param_dtype, schedule)
    recipe = plan.recipe
    begin = initial_of(config, plan)
    if begin is None:
        begin = first_state_of(jax.random.key(config.seed), recipe=recipe, about=plan.about)
    state = state_of(begin.params, recipe)._replace(moments=rule.init(begin.params))
    step = make_train_step(objective_of_recipe(recipe), rule, average=recipe.average or 0.0)
    key = run_key(config.seed)
    losses: list[float] = []
    smoothed: list[float] = []
    average = 0.0
    for update in range(steps):
        of_update: list[Any] = []
        for n in range(every):
            state, info = step(state, plan.batches.draw(seed=config.seed, step=update * every + n), key)
            of_update.append(info.loss)
        loss = float(np.mean([float(value) for value in of_update]))
        if not math.isfinite(loss):
            break
        average = MEMORY * average + (1 - MEMORY) * loss
        losses.append(loss)
        smoothed.append(average / (1 - MEMORY ** (update + 1)))
        if smoothed[-1] > WORSE * max(min(smoothed), 1e-12):
            break
    if len(losses) < 3:
        raise Diverged(f"the loss is not finite after {len(losses)} updates from a learning rate of {low:g}; set --low")
    rates = low * (high / low) ** (np.arange(len(losses)) / (steps - 1))
    lowest = int(np.argmin(smoothed))
    slopes = np.diff(smoothed[: lowest + 1])
    falls = len(slopes) > 0 and bool((slopes < 0).any())
    steepest = float(rates[int(np.argmin(slopes)) + 1]) if falls else None
    return Rates(rates, np.asarray(losses), np.asarray(smoothed), steepest, float(rates[lowest]))


def lr_find(config: Config, low: float, high: float, steps: int, out: Path) -> Iterator[str]:
    """Yield the lines of `lstmjax lr-find`, and draw the picture; see `measure_rates`."""
    if out.suffix.lower() not in FORMATS:
        raise ConfigError(f"--out is {out}, expected a name that ends in {', '.join(FORMATS)}")
    curve = measure_rates(config, low, high, steps)
    from lstmjax.plot.compared import rates

    with draft(out) as place:
        picture = rates(curve.rates.tolist(), curve.losses.tolist(), curve.smoothed.tolist(), curve.steepest)
        picture.savefig(place, dpi=120, format=out.suffix[1:].lower())
    yield f"{len(curve.rates)} of {steps} updates, learning rates {curve.rates[0]:.2g} to {curve.rates[-1]:.2g}"
    if len(curve.rates) < steps:
        yield f"the loss diverges from {curve.rates[-1]:.2g} on"
    yield f"lowest loss {curve.smoothed.min():.4g}, at a learning rate of {curve.lowest:.2g}"
    yield f"picture {out}"
    if curve.steepest is None:
        yield "the loss never falls: look at the data, or try other limits by --low and --high"
    else:
        yield f"the loss falls fastest at: --optimizer.learning-rate {curve.steepest:.2g}"
