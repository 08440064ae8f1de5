"""Train a network from a configuration: `train`, `resume`, `load_run` and `load_checkpoints`."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from lstmjax.config import Config, ConfigError
from lstmjax.data import About, Parts, load
from lstmjax.limits import check_batch, check_network
from lstmjax.runs import RunError, RunFolder, about_sum
from lstmjax.signals import Stop, noted
from lstmjax.training.batches import Batches, buckets_to_try, make_batches, new_buckets
from lstmjax.training.checkpoint import Checkpoints
from lstmjax.training.finite import Diverged, check_restored, check_training, check_values, warn_of_weights
from lstmjax.training.inference import Trained, evaluate
from lstmjax.training.losses import LOSSES
from lstmjax.training.progress import Progress
from lstmjax.training.step import Recipe, TrainState, first_state, structure, train_only, train_step

log = logging.getLogger("lstmjax")
TIE = 1e-6  # weight of the loss in the score, so that of equal accuracies the one with the lower loss wins


class Schedule(NamedTuple):
    """After which steps a run is validated and saved."""

    steps: int
    evaluate_every: int
    checkpoint_every: int
    keep_every: int

    def saves(self, done: int) -> bool:
        """Return whether a checkpoint is saved after `done` steps."""
        return done % self.checkpoint_every == 0 or done % self.keep_every == 0 or done == self.steps

    def validates(self, done: int) -> bool:
        """Return whether the network is validated after `done` steps."""
        return self.saves(done) or done % self.evaluate_every == 0


class Plan(NamedTuple):
    """What a configuration and its data determine before a run has a folder."""

    recipe: Recipe
    parts: Parts
    about: About
    like: TrainState  # shapes and dtypes of the state
    batches: Batches


class Job(NamedTuple):
    """Everything that the training loop works on, beside the state."""

    run: RunFolder
    saved: Checkpoints
    plan: Plan
    schedule: Schedule
    metric: str  # name of the metric beside the loss
    stop: Stop
    quiet: bool


class Result(NamedTuple):
    """How a run ended."""

    trained: Trained  # the network that validation chose
    step: int  # its training step
    parameters: int  # number of trained parameters
    validation: dict[str, float]  # "loss", and "accuracy" or "mse"
    test: dict[str, float] | None  # None: no test part
    run_dir: Path

    @property
    def last_line(self) -> str:
        """The metric of the test part, or of the validation part if there is no test part, as text."""
        part, values = ("validation", self.validation) if self.test is None else ("test", self.test)
        metric = LOSSES[self.trained.config.loss.name].metric
        return f"{part} {metric} {values[metric]:.4f}"


class Interrupted(Exception):
    """Training was stopped by a signal, and its state is saved."""

    def __init__(self, step: int, run_dir: Path, signum: int):
        super().__init__(f"stopped at step {step}; continue by: lstmjax train --resume {run_dir}")
        self.step, self.run_dir, self.signum = step, run_dir, signum


def train(config: Config, run_dir: str | Path | None = None, *, name: str = "train", quiet: bool = False) -> Result:
    """Train the network that a configuration describes, and return it with its loss and metric.

    Args:
        config: configuration of the run; see `lstmjax.config`.
        run_dir: a folder that is new or empty; None: one under runs/, by name and time.
        name: what the folder under runs/ begins with.
        quiet: print nothing.

    Raises:
        UserError: the configuration, the data or the folder cannot be used; the message says why.
        Diverged: the loss or the state is NaN or infinite.
        Interrupted: a signal came (SIGINT, SIGTERM, SIGHUP, SIGQUIT); the state is saved.
    """
    if not isinstance(config, Config):
        raise TypeError(f"config is a {type(config).__name__}, expected a Config, as load_config(path) gives it.")
    with jax.enable_x64(config.model.needs_x64):
        plan = new_plan(config)
        # From here on there is something to save; until now a signal ends the process at once.
        with noted() as stop, RunFolder.create(run_dir, config, name) as run:
            run.write_about(plan.about)
            run.write_split(plan.parts.split)
            with _saving(run) as saved:
                return _fit(_job(run, saved, plan, stop, quiet), partial(_first_state, config, plan))


def new_plan(config: Config) -> Plan:
    """Load the data of a configuration and check that the network can be trained on them, in a new run."""
    parts, about = load(config.data, config.loss.name)
    return _plan(config, parts, about.model_copy(update={"buckets": new_buckets(config, parts)}))


def _plan(config: Config, parts: Parts, about: About) -> Plan:
    """Check that the network of a configuration can be trained on its data."""
    room = _room()
    check_network(config, about.input_size, about.output_size, room)
    batches = make_batches(config, parts, about)
    recipe = make_recipe(config, about, batches)
    like = structure(recipe, about)
    if batches.largest is not None:
        check_batch(config, *batches.largest, about.input_size, room)
    return Plan(recipe, parts, about, like, batches)


def _first_state(config: Config, plan: Plan) -> TrainState:
    return first_state(jax.random.key(config.seed), recipe=plan.recipe, about=plan.about)


def _room() -> int | None:
    """Return the bytes of memory of the accelerator; None: arrays live in the memory of the machine."""
    room: int | None = (jax.local_devices()[0].memory_stats() or {}).get("bytes_limit")
    return room


def resume(run_dir: str | Path, *, quiet: bool = False) -> Result:
    """Continue a run that was stopped; the parameters are those of an uninterrupted run, bit by bit.

    Args:
        run_dir: the folder of the run.
        quiet: print nothing.

    Raises:
        UserError: as for `train`, or config.yaml or the data have changed since.
        Diverged: the loss or the state, or the saved state, is NaN or infinite.
        Interrupted: a signal came (SIGINT, SIGTERM, SIGHUP, SIGQUIT); the state is saved.
    """
    run = RunFolder.open(run_dir)
    config = run.config
    with jax.enable_x64(config.model.needs_x64), run.locked():
        parts, about = load(config.data, config.loss.name)
        with noted() as stop, _saving(run) as saved:
            plan = _plan(config, parts, _mend_about(run, saved, about, parts))
            job = _job(run, saved, plan, stop, quiet)
            step, state = 0, None
            if saved.steps():
                step, state = saved.latest(plan.like)
                check_restored(state, saved)
            _warn_of_gaps(job, step, run.forget_after(step, job.metric))
            if state is not None:
                return _fit(job, partial(jax.tree.map, jnp.asarray, state))
            return _fit(job, partial(_first_state, config, plan))


def _saving(run: RunFolder) -> Checkpoints:
    return Checkpoints(run.checkpoints, run.config.fingerprint, keep_every=run.config.keep_every)


def _job(run: RunFolder, saved: Checkpoints, plan: Plan, stop: Stop, quiet: bool) -> Job:
    config = run.config
    saved.data = about_sum(plan.about)
    evaluate_every = config.evaluate_every or plan.batches.epoch
    checkpoint_every = config.checkpoint_every or evaluate_every
    schedule = Schedule(plan.recipe.steps, evaluate_every, checkpoint_every, config.keep_every or checkpoint_every)
    return Job(run, saved, plan, schedule, LOSSES[config.loss.name].metric, stop, quiet)


def _mend_about(run: RunFolder, saved: Checkpoints, about: About, parts: Parts) -> About:
    """Return what a run knows of its data, with the buckets with which it began; rewrite data.json if it is damaged.

    The checkpoints tell damage from data that have changed.

    Raises:
        RunError: the data have changed.
    """
    path, stored = run.path / "data.json", None
    with suppress(RunError):
        stored = run.read_about()
    recorded = saved.data_sum()
    # The first versions recorded no checksum, and had no buckets.
    could_have_buckets = recorded is not None or not saved.steps()
    for buckets in buckets_to_try(run.config, parts, stored, new=could_have_buckets):
        about = about.model_copy(update={"buckets": buckets})
        # Without a checksum the file itself is compared.
        if stored in (None, about) if recorded is None else recorded == about_sum(about):
            break
    else:
        raise RunError(f"{run.path}: the data have changed since this run began; restore them or start a new run")
    if stored != about:
        if saved.steps():  # before the first checkpoint a kill is the likely cause
            reason = "is not what was saved" if path.exists() else "is missing"
            log.warning("%s: %s; it is written anew from the data", path, reason)
        run.write_about(about)
    return about


def _warn_of_gaps(job: Job, step: int, lines: list[int]) -> None:
    """Warn of checkpoints and of lines of metrics.jsonl that are missing.

    Args:
        job: the run.
        step: step of the latest checkpoint; 0: there is none.
        lines: steps of the lines in metrics.jsonl.
    """
    run, result = job.run, job.run.path / "result.json"
    if step == 0 and result.exists():
        log.warning("%s: holds no checkpoint any more; training begins anew", run.checkpoints)
    expected = [done for done in range(1, step + 1) if job.schedule.validates(done)]
    if missing := sorted(set(expected) - set(lines)):
        log.warning(
            "%s: lacks %d of %d lines up to step %d, the first one of step %d; the curves show the others",
            run.metrics, len(missing), len(expected), step, missing[0],
        )  # fmt: skip


def load_run(run_dir: str | Path) -> Trained:
    """Return the network of a run's best checkpoint so far.

    Warns if this is not the checkpoint that validation chose, or if weights are NaN or infinite.
    """
    run = RunFolder.open(run_dir)
    with _reading(run) as (saved, recipe, about):
        result = run.read_result(LOSSES[run.config.loss.name].metric)
        step, state = saved.best(structure(recipe, about), None if result is None else result["step"])
        warn_of_weights(state.params, run.path, step)
        return Trained(jax.tree.map(jnp.asarray, state.params), run.config, about)


def load_checkpoints(run_dir: str | Path) -> list[tuple[int, Trained]]:
    """Return a run's network before its first step and at each of its checkpoints, each with its step.

    A run keeps its last two checkpoints and the best one; with `keep_every` in its configuration it keeps more.
    """
    run = RunFolder.open(run_dir)
    with _reading(run) as (saved, recipe, about):
        first = first_state(jax.random.key(run.config.seed), recipe=recipe, about=about).params
        networks = [(0, Trained(first, run.config, about))]
        for step, state in saved.each(structure(recipe, about)):
            networks.append((step, Trained(jax.tree.map(jnp.asarray, state.params), run.config, about)))
        return networks


@contextmanager
def _reading(run: RunFolder) -> Iterator[tuple[Checkpoints, Recipe, About]]:
    """Yield the checkpoints of a run, opened for reading only, and the recipe and data that determine its state.

    Raises:
        RunError: there is no checkpoint yet, or data.json is not what training wrote.
    """
    config, about = run.config, run.read_about()
    recipe = Recipe(config.model, config.optimizer, config.loss, 0, about.per_step, 2**31 - 1)
    if not run.checkpoints.is_dir():
        raise _no_checkpoint(run)
    with (
        jax.enable_x64(config.model.needs_x64),
        Checkpoints(run.checkpoints, config.fingerprint, read_only=True, growing=run.is_trained()) as saved,
    ):
        if not saved.steps():
            raise _no_checkpoint(run)
        if saved.data_sum() not in (None, about_sum(about)):
            raise RunError(
                f"{run.path / 'data.json'}: is not what training wrote, by the checksum in the checkpoints; put it "
                f"back, or write it anew from the data: {run.remedy}"
            )
        yield saved, recipe, about


def _no_checkpoint(run: RunFolder) -> RunError:
    if run.is_trained():
        return RunError(f"{run.path}: is being trained and has no checkpoint yet; wait for the first one")
    if (reason := run.divergence()) is not None:
        return RunError(
            f"{run.path}: training diverged before the first checkpoint, and would again ({reason}); start a new run "
            "with other settings"
        )
    return RunError(f"{run.checkpoints}: holds no checkpoint; go on with the run: {run.remedy}")


def make_recipe(config: Config, about: About, batches: Batches) -> Recipe:
    """Return the static arguments of the training step for a configuration."""
    steps = (config.epochs or 0) * batches.epoch or config.steps or 0
    if steps >= 2**31:
        raise ConfigError(f"epochs is {config.epochs}, which makes {steps} steps; they should be less than 2147483648")
    per_step, weight = about.per_step, batches.mean_weight
    return Recipe(
        config.model, config.optimizer, config.loss, config.data.shift, per_step, steps, weight, about.target_scale
    )


def _fit(job: Job, begin: Callable[[], TrainState]) -> Result:
    """Train to the end from the state that `begin` returns, and evaluate the best checkpoint."""
    run, config = job.run, job.run.config
    recipe, parts, about, like, batches = job.plan
    parameters = sum(leaf.size for leaf in jax.tree.leaves(like.params))
    state = begin()
    start = int(state.step)
    with Progress(recipe.steps, start, metric=job.metric, quiet=job.quiet) as progress:
        progress.say(
            f"{run.path}: {parameters:,} parameters, "
            + ("new sequences" if parts.draw else f"{len(parts.train.x)} sequences")
            + f", {recipe.steps} steps"
            + (f", from step {start}" if start else "")
        )
        for line in parts.notes:
            progress.say(line)
        if batches.description:
            progress.say(batches.description)
        run.note_divergence(None)
        try:
            _steps(job, state, start, progress)
        except Diverged as error:
            run.note_divergence(str(error))
            raise
    _draw(run, job.metric)
    result = run.read_result(job.metric)
    step, best = job.saved.best(like, None if result is None else result["step"])
    trained = Trained(jax.tree.map(jnp.asarray, best.params), config, about)
    if result is None or result["step"] != step:
        # The test part is read here and nowhere else, after validation has chosen.
        test = None if parts.test is None else check_values("test", evaluate(trained, parts.test), step, job.saved)
        validation = evaluate(trained, parts.validation)
        evaluated = {"step": step, "parameters": parameters, "validation": validation, "test": test}
        if result is None:  # otherwise the file describes the chosen checkpoint, which is lost, and stays
            run.write_result(evaluated)
        result = evaluated
    return Result(trained, step, parameters, result["validation"], result["test"], run.path)


def _steps(job: Job, state: TrainState, start: int, progress: Progress) -> None:
    """Train from step `start` to the last one, validating and saving by the schedule.

    Raises:
        Diverged: the loss or the state is NaN or infinite.
        Interrupted: a signal came, and the state is saved.
    """
    run, saved, config, metric = job.run, job.saved, job.run.config, job.metric
    recipe, parts, about, _, batches = job.plan
    sign = LOSSES[config.loss.name].sign
    key = jax.random.key(config.seed)
    first_bad = jnp.zeros((), jnp.int32)
    since, last = time.monotonic(), start
    for step in range(start, recipe.steps):
        rows = batches.draw(seed=config.seed, step=step)
        state, first_bad, sums = train_step(state, first_bad, rows, key, recipe=recipe)
        done = step + 1
        progress.step(partial(sums.means, metric))
        save, validate = job.schedule.saves(done), job.schedule.validates(done)
        if validate:
            record: dict[str, Any] = {"step": done, "train": check_training(state, int(first_bad), metric, saved)}
            values = evaluate(Trained(state.params, config, about), parts.validation)
            record["validation"] = check_values("validation", values, done, saved)
            record["steps_per_second"] = round((done - last) / (time.monotonic() - since), 1)
            run.append(record)  # before the checkpoint: a kill between the two repeats the line instead of losing it
            progress.validated(record)
            state = state._replace(sums=state.sums.zero())
            if save:
                saved.save(done, state, sign * record["validation"][metric] - TIE * record["validation"]["loss"])
            since, last = time.monotonic(), done
        if job.stop.signum is not None:
            if not validate:
                check_training(state, int(first_bad), metric, saved)
            if not save:
                saved.save(done, state)
            if done < recipe.steps:
                _draw(run, metric)
                raise Interrupted(done, run.path, job.stop.signum)


def _draw(run: RunFolder, metric: str) -> None:
    """Draw the curves; if that fails, warn and go on."""
    try:
        from lstmjax.training.curves import draw_curves

        draw_curves(run.records(metric), metric, run.curves, run.path.name, train_only(run.config))
    except Exception as error:  # a failed picture must not cost the run
        log.warning("%s: could not be drawn (%s)", run.curves, error)
