"""Train a network from a configuration in a run folder: `train` and `resume`, which are users of `fit`."""

from __future__ import annotations

import json
import logging
import signal
import zlib
from collections.abc import Callable, Generator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from lstmjax.config import Config, ConfigError, parse_config
from lstmjax.data import About, Parts, load
from lstmjax.errors import UserError
from lstmjax.limits import check_batch, check_network
from lstmjax.networks import NetworkParams
from lstmjax.runs import RunError, RunFolder, about_sum
from lstmjax.signals import Stop, noted
from lstmjax.training import hosts
from lstmjax.training.batches import Batches, buckets_to_try, make_batches, new_buckets, size_of
from lstmjax.training.blame import first_bad
from lstmjax.training.checkpoint import Checkpoints
from lstmjax.training.evaluation import evaluate
from lstmjax.training.finite import Diverged, check_restored, remedy_of
from lstmjax.training.fit import Hook, Hooks, Request, Rules, Training, checked, drive, loop_steps
from lstmjax.training.inference import Sums, Trained
from lstmjax.training.initial import with_initial
from lstmjax.training.labels import check_metrics, class_weights_of
from lstmjax.training.metrics import metrics_of, sign_of
from lstmjax.training.models import identity
from lstmjax.training.optimizers import make_plateau
from lstmjax.training.progress import Progress
from lstmjax.training.recipe import (
    Recipe,
    delivered,
    first_state,
    recipe_of,
    restored_form,
    run_key,
    saved_form,
    state_of,
    structure,
    train_only,
    train_step_of,
)
from lstmjax.training.shards import check_hidden, described, make_mesh
from lstmjax.training.step import Info, TrainState
from lstmjax.training.writers import check_writers, writer_hooks

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
    mesh: Mesh | None  # None: one device
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
    metrics: tuple[str, ...]  # names beside the loss; the first one chooses the best network
    rules: Rules
    stop: Stop
    quiet: bool
    hooks: Sequence[Hook | Hooks] = ()  # of the caller


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
        metric = metrics_of(self.trained.config)[0]
        return f"{part} {metric} {values[metric]:.4f}"


class Interrupted(Exception):
    """Training was stopped by a signal, and its state is saved."""

    def __init__(self, step: int, run_dir: Path, signum: int):
        super().__init__(f"stopped at step {step}; continue by: lstmjax train --resume {run_dir}")
        self.step, self.run_dir, self.signum = step, run_dir, signum


def train(
    config: Config,
    run_dir: str | Path | None = None,
    *,
    name: str = "train",
    quiet: bool = False,
    hooks: Sequence[Hook | Hooks] = (),
) -> Result:
    """Train the network that a configuration describes, and return it with its loss and metric.

    Args:
        config: configuration of the run; see `lstmjax.config`.
        run_dir: a folder that is new or empty; None: one under runs/, by name and time.
        name: what the folder under runs/ begins with.
        quiet: print nothing.
        hooks: called after steps and evaluations, see `Hook`; what they stop is saved, and ends as a run that is done.

    Raises:
        UserError: the configuration, the data or the folder cannot be used; the message says why.
        Diverged: the loss or the state is NaN or infinite.
        Interrupted: a signal came (SIGINT, SIGTERM, SIGHUP, SIGQUIT); the state is saved.
    """
    if not isinstance(config, Config):
        raise TypeError(f"config is a {type(config).__name__}, expected a Config, as load_config(path) gives it.")
    check_writers(config)
    with jax.enable_x64(config.model.needs_x64):
        plan = new_plan(config)
        check_same(plan, config)
        create = partial(RunFolder.create, run_dir, config, name)
        # From here on there is something to save; until now a signal ends the process at once.
        with noted(leave=hosts.noted_by_jax()) as stop, hosts.opened_by_first(create, _path) as opened:
            run = opened if isinstance(opened, RunFolder) else RunFolder(opened, config)
            if hosts.is_first():
                run.write_about(plan.about)
                run.write_split(plan.parts.split)
            with saving(run) as saved:
                return _fit(make_job(run, saved, plan, stop, quiet, hooks), partial(first_of, config, plan, saved))


def _path(run: RunFolder) -> Path:
    return run.path


def check_same(plan: Plan, config: Config) -> None:
    """Refuse processes with other data or another configuration than the first one."""
    hosts.check_same(zlib.crc32(config.fingerprint.encode()), "configuration")
    hosts.check_same(about_sum(plan.about), "data file, or part of one,")


def new_plan(config: Config) -> Plan:
    """Load the data of a configuration and check that the network can be trained on them, in a new run."""
    parts, about = load(config.data, config.loss.name)
    return _plan(config, parts, about.model_copy(update={"buckets": new_buckets(config, parts)}))


def _plan(config: Config, parts: Parts, about: About) -> Plan:
    """Check that the network of a configuration can be trained on its data."""
    room = _room()
    check_network(config, about.input_size, about.output_size * config.loss.width, room)
    batches = make_batches(config, parts, about)
    recipe = make_recipe(config, parts, about, batches)
    like = structure(recipe, about)
    check_metrics(config, parts, about)
    if batches.largest is not None:
        check_batch(config, *batches.largest, about.output_size if about.is_stream else about.input_size, room)
    return Plan(recipe, _mesh_of(config, about), parts, about, like, batches)


def _mesh_of(config: Config, about: About) -> Mesh | None:
    """Return the devices of a training; None: one.

    Raises:
        ConfigError: they do not fit the batch, the hidden units or the task.
    """
    mesh = make_mesh(config.mesh, config.batch_size, streams=about.is_stream)
    check_hidden(mesh, config.model.hidden_size)
    return mesh


def first_of(config: Config, plan: Plan, saved: Checkpoints) -> TrainState:
    """Return the state before the first step; save it if it comes from elsewhere, which may change."""
    state = first_state(jax.random.key(config.seed), recipe=plan.recipe, about=plan.about)
    if config.init_from is None:
        return state
    state = state_of(with_initial(config, state.params, plan.about), plan.recipe)
    if hosts.is_first():
        saved.save(0, saved_form(state))
    return state


def _room() -> int | None:
    """Return the bytes of memory of the accelerator; None: arrays live in the memory of the machine."""
    room: int | None = (jax.local_devices()[0].memory_stats() or {}).get("bytes_limit")
    return room


def resume(
    run_dir: str | Path, *, mesh: str | None = None, quiet: bool = False, hooks: Sequence[Hook | Hooks] = ()
) -> Result:
    """Continue a run that was stopped; the parameters are those of an uninterrupted run, bit by bit.

    On another number of devices they are so to rounding, and random masks of dropout are others.

    Args:
        run_dir: the folder of the run; of several processes only the first one needs it.
        mesh: devices, as the key of the configuration has it; None: as in the configuration of the run.
        quiet: print nothing.
        hooks: as for `train`.

    Raises:
        UserError: as for `train`, or config.yaml or the data have changed since.
        Diverged: the loss or the state, or the saved state, is NaN or infinite.
        Interrupted: a signal came (SIGINT, SIGTERM, SIGHUP, SIGQUIT); the state is saved.
    """
    config = parse_config(hosts.from_first(lambda: RunFolder.open(run_dir).config.model_dump(mode="json")))
    if mesh is not None:
        config = config.model_copy(update={"mesh": mesh})
    check_writers(config)
    run = RunFolder(Path(run_dir), config)
    locked = hosts.opened_by_first(run.locked, lambda _: run.path)
    with jax.enable_x64(config.model.needs_x64), locked:
        parts, about = load(config.data, config.loss.name)
        with noted(leave=hosts.noted_by_jax()) as stop, saving(run) as saved:
            mended = hosts.from_first(lambda: _mend_about(run, saved, about, parts).model_dump(mode="json"))
            plan = _plan(config, parts, About.model_validate_json(json.dumps(mended)))
            check_same(plan, config)
            job = make_job(run, saved, plan, stop, quiet, hooks)
            if not hosts.from_first(lambda: bool(saved.steps())):
                hosts.from_first(lambda: _warn_of_gaps(job, 0, run.forget_after(0, job.metrics[0])))
                return _fit(job, partial(first_of, config, plan, saved))
            restored = []
            hosts.from_first(lambda: restored.append(_restored(job)))
            state = restored[0] if restored else jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), plan.like)
            state = hosts.tree_from_first(state)
            return _fit(job, partial(restored_form, state))


def _restored(job: Job) -> TrainState:
    """Return the latest state that was saved, and remove what was written after it."""
    step, state = job.saved.latest(job.plan.like)
    check_restored(state, job.saved)
    _warn_of_gaps(job, step, job.run.forget_after(step, job.metrics[0]))
    return state


def saving(run: RunFolder) -> Checkpoints:
    """Open the checkpoints; only the first of several processes uses them."""
    first = hosts.is_first()
    return Checkpoints(run.checkpoints, run.config.fingerprint, keep_every=run.config.keep_every, unused=not first)


def reopened(
    run: RunFolder,
    saved: Checkpoints,
    parts: Parts,
    about: About,
    stop: Stop,
    quiet: bool,
    hooks: Sequence[Hook | Hooks] = (),
) -> tuple[Job, Callable[[], TrainState]]:
    """Return the job of a run that goes on from its latest checkpoint, and what returns the state to begin from."""
    config = run.config
    plan = _plan(config, parts, _mend_about(run, saved, about, parts))
    job = make_job(run, saved, plan, stop, quiet, hooks)
    step, state = 0, None
    if saved.steps():
        step, state = saved.latest(plan.like)
        check_restored(state, saved)
    _warn_of_gaps(job, step, run.forget_after(step, job.metrics[0]))
    if state is not None:
        return job, partial(restored_form, state)
    return job, partial(first_of, config, plan, saved)


def make_job(
    run: RunFolder, saved: Checkpoints, plan: Plan, stop: Stop, quiet: bool, hooks: Sequence[Hook | Hooks] = ()
) -> Job:
    """Return everything that the training loop works on."""
    config = run.config
    saved.data = about_sum(plan.about)
    metrics, sign = metrics_of(config), sign_of(config)
    rules = Rules(
        score=lambda values: sign * values[metrics[0]] - TIE * values["loss"],
        patience=config.stopping.patience,
        min_delta=config.stopping.min_delta,
        plateau=make_plateau(config.plateau),
        average=config.average.decay,
    )
    return Job(run, saved, plan, schedule_of(config, plan), metrics, rules, stop, quiet, hooks)


def schedule_of(config: Config, plan: Plan) -> Schedule:
    """Return after which steps a run is validated and saved."""
    evaluate_every = config.evaluate_every or plan.batches.epoch
    checkpoint_every = config.checkpoint_every or evaluate_every
    return Schedule(plan.recipe.steps, evaluate_every, checkpoint_every, config.keep_every or checkpoint_every)


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


def make_recipe(config: Config, parts: Parts, about: About, batches: Batches) -> Recipe:
    """Return the static arguments of the training step for a configuration."""
    steps = (config.epochs or 0) * batches.epoch or config.steps or 0
    if steps >= 2**31:
        raise ConfigError(f"epochs is {config.epochs}, which makes {steps} steps; they should be less than 2147483648")
    weights = class_weights_of(config, parts, about)
    return recipe_of(config, about, steps=steps, mean_weight=batches.mean_weight, class_weights=weights)


def _fit(job: Job, begin: Callable[[], TrainState]) -> Result:
    """Train to the end from the state that `begin` returns, and evaluate the best checkpoint."""
    return drive(fit_steps(job, begin), train_step_of(job.plan.recipe, job.plan.mesh))


def fit_steps(job: Job, begin: Callable[[], TrainState]) -> Generator[Request, tuple[TrainState, Info], Result]:
    """Yield the steps of training as requests, see `loop_steps`; evaluate the best checkpoint and return the result."""
    run, config = job.run, job.run.config
    recipe, mesh, parts, about, like, batches = job.plan
    parameters = sum(leaf.size for leaf in jax.tree.leaves(like.params))
    training = Training(
        identity(like.params),
        begin(),
        recipe.steps,
        job.rules,
        partial(Sums.means, loss=config.loss, metrics=job.metrics),
    )
    start = training.step
    saver, first = Saver(job), hosts.is_first()
    quiet = job.quiet or not first
    with Progress(recipe.steps, start, metrics=job.metrics, quiet=quiet, counts=saver.saves) as progress:
        progress.say(
            f"{run.path}: {parameters:,} parameters, "
            + size_of(parts, about)
            + f", {recipe.steps} steps"
            + (f", from step {start}" if start else "")
        )
        if mesh is not None:
            progress.say(described(mesh))
        for line in parts.notes:
            progress.say(line)
        if batches.description:
            progress.say(batches.description)
        if first:
            run.note_divergence(None)
        try:
            yield from loop_steps(
                training,
                lambda step: batches.draw(seed=config.seed, step=step),
                run_key(config.seed),
                measure=lambda params, rest: hosts.from_first(
                    lambda: evaluate(Trained(params, config, about), parts.validation, "validation")
                ),
                due=job.schedule.validates,
                hooks=(
                    *((Recorder(job.run),) if first else ()),
                    progress,
                    *(writer_hooks(run, start) if first else ()),
                    *job.hooks,
                    saver,
                ),
            )
        except Diverged as error:
            if not first:
                raise
            # One device repeats the steps, which needs all data in this process, and the masks that were drawn.
            repeats = mesh is None or not (hosts.several() or train_only(config))
            cause = _cause(job, begin, training.step) if repeats else ""
            error = Diverged(f"{error}; {remedy_of(job.saved)}{cause}", error.step)
            run.note_divergence(str(error))
            raise error from None
    chosen: list[NetworkParams] = []
    result = hosts.from_first(lambda: _result(job, parameters, chosen))
    if not chosen:
        chosen.append(jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), like.params))
    trained = Trained(jax.tree.map(jnp.asarray, hosts.tree_from_first(chosen[0])), config, about)
    return Result(trained, result["best"], parameters, result["validation"], result["test"], run.path)


def _result(job: Job, parameters: int, chosen: list[NetworkParams]) -> dict[str, Any]:
    """Return the result of a run that has ended, and append the network that validation chose to `chosen`."""
    run, config, (recipe, _, parts, about, like, _) = job.run, job.run.config, job.plan
    draw_run(run, job.metrics)
    result = run.read_result(job.metrics[0])
    step, best = job.saved.best(like, None if result is None else result["step"])
    trained = Trained(delivered(best, recipe), config, about)
    chosen.append(trained.params)
    if result is None or result["step"] != step:
        # The test part is read here and nowhere else, after validation has chosen.
        test = None
        if parts.test is not None:
            test = _finite("test", evaluate(trained, parts.test, "test"), step, job.saved)
        validation = evaluate(trained, parts.validation, "validation")
        evaluated = {"step": step, "parameters": parameters, "validation": validation, "test": test}
        if result is None:  # otherwise the file describes the chosen checkpoint, which is lost, and stays
            run.write_result(evaluated)
        result = evaluated
    return {"best": step, "validation": result["validation"], "test": result["test"]}


def _cause(job: Job, begin: Callable[[], TrainState], steps: int) -> str:
    """Return the first array that was not finite, in words; keep the last good state, if it is not saved yet.

    The steps since the last checkpoint are repeated for that. If that fails, the divergence itself is more important.
    """
    config, recipe = job.run.config, job.plan.recipe
    try:
        last = job.saved.steps()[-1:]
        state = restored_form(job.saved.latest(job.plan.like)[1]) if last else begin()
        found = first_bad(
            state, steps, lambda step: job.plan.batches.draw(seed=config.seed, step=step), run_key(config.seed), recipe
        )
        if found is None:
            return ""
        step, words, before = found
        if last and step - 1 > last[0]:  # without any other, a run that diverged would seem to have a network
            job.saved.save(step - 1, saved_form(before))
        return f". The first NaN or infinity was, at step {step}, in {words}"
    except (OSError, UserError, RuntimeError) as error:
        log.warning("the first array that is not finite could not be found (%s)", error)
        return ""


def _finite(part: str, values: dict[str, float], step: int, saved: Checkpoints) -> dict[str, float]:
    try:
        return checked(part, values, step)
    except Diverged as error:
        raise Diverged(f"{error}; {remedy_of(saved)}", step) from None


class Recorder(Hooks):
    """A hook that appends the record of each evaluation to metrics.jsonl.

    It comes before the one that saves: a kill between the two repeats the line instead of losing it.
    """

    def __init__(self, run: RunFolder):
        super().__init__(on_evaluate=lambda training: run.append(training.record or {}))


class Saver:
    """A hook that saves checkpoints by the schedule, and stops at a signal with its state saved.

    Args:
        job: the run.
    """

    def __init__(self, job: Job):
        self.job = job

    def saves(self, training: Training) -> bool:
        """Return whether the state is saved after an evaluation: by the schedule, and where early stopping needs it."""
        stopped = training.reason is not None
        return self.job.schedule.saves(training.step) or training.improved or stopped

    def on_evaluate(self, training: Training) -> None:
        """Save the state, with its score."""
        job, record = self.job, training.record
        assert record is not None
        if self.saves(training) and hosts.is_first():
            job.saved.save(training.step, saved_form(training.state), job.rules.score(record["validation"]))

    def on_step(self, training: Training) -> None:
        """Save the state and stop if a signal has come."""
        job = self.job
        if hosts.several():
            if hosts.stopping(job.stop.signum, training.step):
                job.stop.signum = job.stop.signum or signal.SIGTERM
            else:
                return  # until all processes agree
        if job.stop.signum is None or training.reason is not None:
            return
        if not training.evaluated:
            training.check()
        if not (training.evaluated and self.saves(training)) and hosts.is_first():
            job.saved.save(training.step, saved_form(training.state))
        training.stop(signal.Signals(job.stop.signum).name)

    def on_end(self, training: Training) -> None:
        """Raise `Interrupted` if a signal has come before the last step.

        Raises:
            Interrupted: the state is saved.
        """
        job = self.job
        if job.stop.signum is not None and training.step < training.steps and training.reason is not None:
            if hosts.is_first():
                draw_run(job.run, job.metrics)
            raise Interrupted(training.step, job.run.path, job.stop.signum)


def draw_run(run: RunFolder, metrics: tuple[str, ...]) -> None:
    """Draw the curves; if that fails, warn and go on."""
    try:
        from lstmjax.training.curves import draw_curves

        draw_curves(run.records(metrics[0]), metrics, run.curves, run.path.name, train_only(run.config))
    except Exception as error:  # a failed picture must not cost the run
        log.warning("%s: could not be drawn (%s)", run.curves, error)
