"""Trains a network from a configuration: `train`, `resume`, and the step that they repeat."""

from __future__ import annotations

import logging
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from lstmjax.config import Config, ConfigError, Loss, Model, Optimizer
from lstmjax.data import About, Parts, Sequences, batch, load, steps_per_epoch
from lstmjax.errors import UserError
from lstmjax.limits import check_network
from lstmjax.networks import NetworkParams, init_network
from lstmjax.runs import RunError, RunFolder, default_folder
from lstmjax.training.checkpoint import Checkpoints
from lstmjax.training.inference import Sums, Trained, evaluate, logits_of, sums_of
from lstmjax.training.losses import LOSSES
from lstmjax.training.optimizers import make_optimizer
from lstmjax.training.progress import Progress
from lstmjax.types import Array, PyTree

log = logging.getLogger("lstmjax")
TIE = 1e-6  # of the loss, in the score: between equal accuracies the lower loss is better


class TrainState(NamedTuple):
    """All that training carries from step to step; the data and the keys follow from `step`."""

    params: NetworkParams
    moments: PyTree  # Optax' state
    step: Array  # steps done
    sums: Sums  # since the last line of metrics.jsonl


class Recipe(NamedTuple):
    """What a compiled training step depends on, beside the arrays: hashable."""

    model: Model
    optimizer: Optimizer
    loss: Loss
    shift: int
    per_step: bool
    steps: int


class Result(NamedTuple):
    """How a run ended."""

    trained: Trained  # the network that validation chose
    step: int  # the step that it is from
    parameters: int  # how many numbers were learned
    validation: dict[str, float]  # "loss", and "accuracy" or "mse"
    test: dict[str, float] | None  # None: there is no test part
    run_dir: Path

    @property
    def last_line(self) -> str:
        """The one number that counts: of the test part, or of validation if there is none."""
        part, values = ("validation", self.validation) if self.test is None else ("test", self.test)
        metric = LOSSES[self.trained.config.loss.name].metric
        return f"{part} {metric} {values[metric]:.4f}"


class Interrupted(Exception):
    """Training was stopped by a signal, after a checkpoint."""

    def __init__(self, step: int, run_dir: Path, signum: int):
        super().__init__(f"stopped at step {step}; continue by: lstmjax train --resume {run_dir}")
        self.step, self.run_dir, self.signum = step, run_dir, signum


class Diverged(UserError):
    """The loss is no number any more."""

    code = 1


def train(config: Config, run_dir: str | Path | None = None, *, quiet: bool = False) -> Result:
    """Gives the network that a configuration describes, trained, with what it is worth.

    Args:
        config: the whole run; see `lstmjax.config`.
        run_dir: a folder that is new or empty; None: one under runs/, by time.
        quiet: print nothing.

    Raises:
        UserError: the configuration, the data or the folder cannot be used; the message says why.
        Interrupted: a signal came; the state is saved.
    """
    if not isinstance(config, Config):
        raise TypeError(f"config is a {type(config).__name__}, expected a Config, as load_config(path) gives it.")
    with jax.enable_x64(config.model.needs_x64):
        parts, about = load(config.data, config.loss.name)
        check_network(config, about.input_size, about.output_size, _room())
        recipe = make_recipe(config, about, parts)
        like = _structure(recipe, about)
        run = RunFolder.create(default_folder("train") if run_dir is None else run_dir, config)
        with run.locked():
            run.write_about(about)
            with Checkpoints(run.checkpoints, config.fingerprint, keep_every=config.keep_every) as saved:
                begin = partial(_first_state, jax.random.key(config.seed), recipe=recipe, about=about)
                return _fit(run, saved, recipe, parts, about, begin, like, quiet)


def _room() -> int | None:
    """Return the bytes of memory of the accelerator, or None where the machine's own memory counts."""
    room: int | None = (jax.local_devices()[0].memory_stats() or {}).get("bytes_limit")
    return room


def resume(run_dir: str | Path, *, quiet: bool = False) -> Result:
    """Gives what `train` would have given, had it not been stopped: bit by bit the same parameters.

    Args:
        run_dir: the folder of the run.
        quiet: print nothing.

    Raises:
        UserError: as `train`, and if config.yaml or the data have changed since.
        Interrupted: a signal came; the state is saved.
    """
    run = RunFolder.open(run_dir)
    config = run.config
    with jax.enable_x64(config.model.needs_x64), run.locked():
        parts, about = load(config.data, config.loss.name)
        if (run.path / "data.json").exists() and run.read_about() != about:
            raise RunError(f"{run.path}: the data have changed since this run began; restore them or start a new run")
        run.write_about(about)
        check_network(config, about.input_size, about.output_size, _room())
        recipe = make_recipe(config, about, parts)
        like = _structure(recipe, about)
        with Checkpoints(run.checkpoints, config.fingerprint, keep_every=config.keep_every) as saved:
            if saved.steps():
                step, found = saved.latest(like)
                begin = partial(jax.tree.map, jnp.asarray, found)
            else:  # stopped before the first checkpoint
                step = 0
                begin = partial(_first_state, jax.random.key(config.seed), recipe=recipe, about=about)
            run.forget_after(step)
            return _fit(run, saved, recipe, parts, about, begin, like, quiet)


def load_run(run_dir: str | Path) -> Trained:
    """Gives the network of a run's folder, that of the best checkpoint so far."""
    run = RunFolder.open(run_dir)
    with _reading(run) as (saved, recipe, about):
        _, state = saved.best(_structure(recipe, about))
        return Trained(jax.tree.map(jnp.asarray, state.params), run.config, about)


def load_checkpoints(run_dir: str | Path) -> list[tuple[int, Trained]]:
    """Gives a run's network before its first step and at each checkpoint that is kept, with the steps.

    A run keeps the last two and the best one; `keep_every` in its configuration keeps more.
    """
    run = RunFolder.open(run_dir)
    with _reading(run) as (saved, recipe, about):
        first = _first_state(jax.random.key(run.config.seed), recipe=recipe, about=about).params
        kept = [(step, jax.tree.map(jnp.asarray, s.params)) for step, s in saved.each(_structure(recipe, about))]
        return [(step, Trained(params, run.config, about)) for step, params in ((0, first), *kept)]


@contextmanager
def _reading(run: RunFolder) -> Iterator[tuple[Checkpoints, Recipe, About]]:
    """Gives the checkpoints of a run, which stay as they are, and what a state of it is made by."""
    config, about = run.config, run.read_about()
    recipe = Recipe(config.model, config.optimizer, config.loss, 0, about.per_step, 2**31 - 1)
    with (
        jax.enable_x64(config.model.needs_x64),
        Checkpoints(run.checkpoints, config.fingerprint, read_only=True) as saved,
    ):
        yield saved, recipe, about


def make_recipe(config: Config, about: About, parts: Parts) -> Recipe:
    """Gives what the training step of a configuration depends on."""
    steps = (config.epochs or 0) * _epoch(config, parts) or config.steps or 0
    if steps >= 2**31:
        raise ConfigError(f"epochs is {config.epochs}, which makes {steps} steps; they should be less than 2147483648")
    return Recipe(config.model, config.optimizer, config.loss, config.data.shift, about.per_step, steps)


def _epoch(config: Config, parts: Parts) -> int:
    """Gives how many steps an epoch has; where batches are new for ever, a tenth of the run."""
    if parts.draw is not None:
        return max((config.steps or 0) // 10, 1)
    return steps_per_epoch(len(parts.train.x), config.batch_size)


def init_state(key: Array, recipe: Recipe, about: About) -> TrainState:
    """Gives the state before the first step."""
    model = recipe.model
    params = init_network(
        jax.random.fold_in(key, 0),
        about.input_size,
        model.hidden_size,
        about.output_size,
        model.layers,
        bidirectional=model.bidirectional,
        merge=model.merge,
        cell=model.cell,
        projection_size=model.projection_size,
        bias=model.bias,
        init=model.init,
        forget_bias=model.forget_bias,
        input_bias=model.input_bias,
        input_bias_step=model.input_bias_step,
        dtype=jnp.dtype(model.param_dtype),
    )
    moments = make_optimizer(recipe.optimizer, recipe.steps).init(params)
    return TrainState(params, moments, jnp.zeros((), jnp.int32), Sums.zero())


# Runs once: to optimise it would take longer than to run it (2.2 against 5.7 s, most of them compiling).
_first_state = partial(
    jax.jit, static_argnames=("recipe", "about"), compiler_options={"xla_backend_optimization_level": 0}
)(init_state)


@partial(jax.jit, static_argnames="recipe", donate_argnames="state")
def train_step(state: TrainState, data: Sequences, key: Array, *, recipe: Recipe) -> tuple[TrainState, Sums]:
    """Gives the state after one step, and the sums of its batch.

    Args:
        state: before the step; its memory is taken over.
        data: a batch, x `[B, T, I]`, y and lengths as `lstmjax.data.load` gives them.
        key: the run's random key, the same at every step: the step's own is made from it and the step.
        recipe: what is trained and how.
    """
    shifts, draws = jax.random.split(jax.random.fold_in(jax.random.fold_in(key, 1), state.step))
    x = shifted(shifts, jnp.asarray(data.x), recipe.shift)

    def mean_loss(params: NetworkParams) -> tuple[Array, Sums]:
        logits = logits_of(params, x, data.lengths, model=recipe.model, per_step=recipe.per_step, key=draws)
        smoothing = recipe.loss.label_smoothing
        sums = sums_of(logits, data.y, None, data.lengths, loss=recipe.loss.name, smoothing=smoothing)
        return sums.loss / sums.weight, sums

    gradient, sums = jax.grad(mean_loss, has_aux=True)(state.params)
    updates, moments = make_optimizer(recipe.optimizer, recipe.steps).update(gradient, state.moments, state.params)
    total = jax.tree.map(jnp.add, state.sums, sums)
    return TrainState(optax.apply_updates(state.params, updates), moments, state.step + 1, total), sums


def shifted(key: Array, x: Array, by: int) -> Array:
    """Gives images, given row by row `[B, T, I]`, each moved by up to `by` pixels in both directions.

    What comes in at the border is zero.
    """
    if by == 0:
        return x
    padded = jnp.pad(x, ((0, 0), (by, by), (by, by)))
    corners = jax.random.randint(key, (len(x), 2), 0, 2 * by + 1)
    return jax.vmap(lambda image, corner: jax.lax.dynamic_slice(image, corner, x.shape[1:]))(padded, corners)


def _structure(recipe: Recipe, about: About) -> TrainState:
    """Gives shapes and dtypes of the state; here a model that makes no sense is refused, before any work."""
    model = recipe.model
    if model.residual and model.bidirectional and model.layers > 1 and not recipe.per_step:
        raise ConfigError(
            "model.residual does not go with model.bidirectional for a label per sequence; set one of the two to "
            "false, or model.layers to 1"
        )
    try:
        like = jax.eval_shape(partial(init_state, recipe=recipe, about=about), jax.random.key(0))
        xs = jax.ShapeDtypeStruct((1, 2, about.input_size), jnp.float32)
        jax.eval_shape(partial(logits_of, model=recipe.model, per_step=recipe.per_step), like.params, xs)
    except ConfigError:
        raise
    except (ValueError, TypeError) as error:
        raise ConfigError(f"model: {error}") from None
    return like


def _fit(
    run: RunFolder,
    saved: Checkpoints,
    recipe: Recipe,
    parts: Parts,
    about: About,
    begin: Callable[[], TrainState],
    like: TrainState,
    quiet: bool,
) -> Result:
    config = run.config
    metric = LOSSES[config.loss.name].metric
    parameters = sum(leaf.size for leaf in jax.tree.leaves(like.params))
    with _signals() as stop:  # a signal while the first state compiles is served after a step
        state = begin()
        start = int(state.step)
        with Progress(recipe.steps, start, metric=metric, quiet=quiet) as progress:
            progress.say(
                f"{run.path}: {parameters:,} parameters, "
                + ("new sequences" if parts.draw else f"{len(parts.train.x)} sequences")
                + f", {recipe.steps} steps"
                + (f", from step {start}" if start else "")
            )
            _steps(run, saved, recipe, parts, about, state, start, progress, stop)
    _draw(run, metric)
    step, best = saved.best(like)
    trained = Trained(jax.tree.map(jnp.asarray, best.params), config, about)
    result = run.read_result()
    if result is None or result["step"] != step:
        # The test part is read here and nowhere else, after validation has chosen.
        test = None if parts.test is None else _finite("test", evaluate(trained, parts.test), step, run)
        validation = evaluate(trained, parts.validation)
        result = {"step": step, "parameters": parameters, "validation": validation, "test": test}
        run.write_result(result)
    return Result(trained, step, parameters, result["validation"], result["test"], run.path)


def _steps(
    run: RunFolder,
    saved: Checkpoints,
    recipe: Recipe,
    parts: Parts,
    about: About,
    state: TrainState,
    start: int,
    progress: Progress,
    stop: dict[str, int],
) -> None:
    config, metric, sign = run.config, LOSSES[recipe.loss.name].metric, LOSSES[recipe.loss.name].sign
    key = jax.random.key(config.seed)
    evaluate_every = config.evaluate_every or _epoch(config, parts)
    checkpoint_every = config.checkpoint_every or evaluate_every
    keep_every = config.keep_every or checkpoint_every
    draw = parts.draw or partial(batch, parts.train)
    since, last = time.monotonic(), start
    for step in range(start, recipe.steps):
        rows = draw(config.batch_size, seed=config.seed, step=step)
        state, sums = train_step(state, rows, key, recipe=recipe)
        done = step + 1
        progress.step(partial(sums.means, metric))
        save = done % checkpoint_every == 0 or done % keep_every == 0 or done == recipe.steps
        if save or done % evaluate_every == 0:
            record: dict[str, Any] = {"step": done, "train": _finite("training", state.sums.means(metric), done, run)}
            values = evaluate(Trained(state.params, config, about), parts.validation)
            record["validation"] = _finite("validation", values, done, run)
            record["steps_per_second"] = round((done - last) / (time.monotonic() - since), 1)
            run.append(record)  # before the checkpoint: a kill between the two repeats the line, and loses none
            progress.validated(record)
            state = state._replace(sums=Sums.zero())
            if save:
                saved.save(done, state, sign * record["validation"][metric] - TIE * record["validation"]["loss"])
            since, last = time.monotonic(), done
        if stop:
            if not save:
                saved.save(done, state)
            if done < recipe.steps:
                _draw(run, metric)
                raise Interrupted(done, run.path, stop["signum"])


def _finite(part: str, values: dict[str, float], step: int, run: RunFolder) -> dict[str, float]:
    """Gives loss and metric back if they are numbers."""
    if not all(map(math.isfinite, values.values())):
        raise Diverged(
            f"the {part} loss is {values['loss']} at step {step}; lower optimizer.learning_rate or set "
            f"optimizer.clip_norm. What was saved before is in {run.checkpoints}"
        )
    return values


def _draw(run: RunFolder, metric: str) -> None:
    """Draws the curves; a picture that fails costs a line, not the run."""
    try:
        from lstmjax.training.curves import draw_curves

        draw_curves(run.records(), metric, run.curves, run.path.name)
    except Exception as error:  # whatever it is, the run is worth more
        log.warning("%s: could not be drawn (%s)", run.curves, error)


@contextmanager
def _signals() -> Iterator[dict[str, int]]:
    """Gives a dict that says, once SIGINT or SIGTERM came, which; the second one acts at once."""
    stop: dict[str, int] = {}
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def note(signum: int, frame: object) -> None:
        stop["signum"] = signum
        for number, handler in before.items():
            signal.signal(number, handler)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
