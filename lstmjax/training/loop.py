"""Train a network from a configuration in a run folder: `train` and `resume`, which are users of `fit`."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Generator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lstmjax.claims import counted
from lstmjax.config import Config, parse_config
from lstmjax.data import About, load
from lstmjax.errors import UserError
from lstmjax.networks import NetworkParams
from lstmjax.runs import RunFolder
from lstmjax.signals import noted
from lstmjax.training import hosts
from lstmjax.training.batches import size_of
from lstmjax.training.blame import first_bad
from lstmjax.training.checkpoint import Checkpoints
from lstmjax.training.drive import Request, checked, drive, loop_steps
from lstmjax.training.evaluation import evaluate
from lstmjax.training.finite import Diverged, remedy_of
from lstmjax.training.forward import Trained
from lstmjax.training.hooks import Hook, Hooks, Training
from lstmjax.training.loss_sums import Sums
from lstmjax.training.metrics import metrics_of
from lstmjax.training.models import identity
from lstmjax.training.plan import Job, check_same, first_of, initial_of, make_job, make_plan, new_plan, saving
from lstmjax.training.progress import Progress
from lstmjax.training.recipe import delivered, restored_form, run_key, saved_form, train_only, train_step_of
from lstmjax.training.resuming import mend_about, restored, warn_of_gaps
from lstmjax.training.run_hooks import Recorder, Saver, draw_run
from lstmjax.training.shards import described
from lstmjax.training.step import Info, TrainState
from lstmjax.training.writers import check_writers, writer_hooks

log = logging.getLogger("lstmjax")


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
        initial = initial_of(config, plan)  # before there is a folder, as it may be refused
        create = partial(RunFolder.create, run_dir, config, name)
        # From here on there is something to save; until now a signal ends the process at once.
        with noted(leave=hosts.noted_by_jax()) as stop, hosts.opened_by_first(create, _path) as opened:
            run = opened if isinstance(opened, RunFolder) else RunFolder(opened, config)
            if hosts.is_first():
                run.write_about(plan.about)
                run.write_split(plan.parts.split)
            with saving(run) as saved:
                begin = partial(first_of, config, plan, saved, initial)
                return _fit(make_job(run, saved, plan, stop, quiet, hooks), begin)


def _path(run: RunFolder) -> Path:
    return run.path


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
            mended = hosts.from_first(lambda: mend_about(run, saved, about, parts).model_dump(mode="json"))
            plan = make_plan(config, parts, About.model_validate_json(json.dumps(mended)))
            check_same(plan, config)
            job = make_job(run, saved, plan, stop, quiet, hooks)
            if not hosts.from_first(lambda: bool(saved.steps())):
                hosts.from_first(lambda: warn_of_gaps(job, 0, run.forget_after(0, job.metrics[0])))
                return _fit(job, partial(first_of, config, plan, saved))
            states: list[TrainState] = []
            hosts.from_first(lambda: states.append(restored(job)))
            state = states[0] if states else jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), plan.like)
            state = hosts.tree_from_first(state)
            return _fit(job, partial(restored_form, state))


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
            + f", {counted(recipe.steps, 'step')}"
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
                measure=lambda params, carried: hosts.from_first(
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
        first = first_bad(
            state, steps, lambda step: job.plan.batches.draw(seed=config.seed, step=step), run_key(config.seed), recipe
        )
        if first is None:
            return ""
        step, words, before = first
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
