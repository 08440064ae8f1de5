"""What a training is made of before its first step: network, data, devices, schedule."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import NamedTuple

import jax
from jax.sharding import Mesh

from lstmjax.config import Config, ConfigError
from lstmjax.data import About, Parts, load
from lstmjax.limits import check_batch, check_network
from lstmjax.runs import RunFolder, about_sum
from lstmjax.signals import Stop
from lstmjax.training import hosts
from lstmjax.training.batches import Batches, make_batches, new_buckets
from lstmjax.training.checkpoint import Checkpoints
from lstmjax.training.hooks import Hook, Hooks, Rules
from lstmjax.training.initial import with_initial
from lstmjax.training.labels import check_metrics, class_weights_of, warn_of_untrained
from lstmjax.training.metrics import metrics_of, sign_of
from lstmjax.training.optimizers import make_plateau
from lstmjax.training.recipe import Recipe, first_state, recipe_of, saved_form, state_of, structure
from lstmjax.training.shards import check_hidden, make_mesh
from lstmjax.training.step import TrainState

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


def check_same(plan: Plan, config: Config) -> None:
    """Refuse processes with other data or another configuration than the first one."""
    hosts.check_same(zlib.crc32(config.fingerprint.encode()), "configuration")
    hosts.check_same(about_sum(plan.about), "data file, or part of one,")


def new_plan(config: Config) -> Plan:
    """Load the data of a configuration and check that the network can be trained on them, in a new run."""
    parts, about = load(config.data, config.loss.name)
    warn_of_untrained(parts, about)
    return make_plan(config, parts, about.model_copy(update={"buckets": new_buckets(config, parts)}))


def make_plan(config: Config, parts: Parts, about: About) -> Plan:
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


def initial_of(config: Config, plan: Plan) -> TrainState | None:
    """Return the state that `init_from` begins with; None: that key is not set.

    Raises:
        ConfigError: it does not fit the network.
    """
    if config.init_from is None:
        return None
    random = first_state(jax.random.key(config.seed), recipe=plan.recipe, about=plan.about)
    return state_of(with_initial(config, random.params, plan.about), plan.recipe)


def first_of(config: Config, plan: Plan, saved: Checkpoints, initial: TrainState | None = None) -> TrainState:
    """Return the state before the first step; save it if it comes from elsewhere, which may change.

    `initial` is what `initial_of` returned, if it has been called.
    """
    state = initial_of(config, plan) if initial is None else initial
    if state is None:
        return first_state(jax.random.key(config.seed), recipe=plan.recipe, about=plan.about)
    if hosts.is_first():
        saved.save(0, saved_form(state))
    return state


def _room() -> int | None:
    """Return the bytes of memory of the accelerator; None: arrays live in the memory of the machine."""
    room: int | None = (jax.local_devices()[0].memory_stats() or {}).get("bytes_limit")
    return room


def saving(run: RunFolder) -> Checkpoints:
    """Open the checkpoints; only the first of several processes uses them."""
    first = hosts.is_first()
    return Checkpoints(run.checkpoints, run.config.fingerprint, keep_every=run.config.keep_every, unused=not first)


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


def make_recipe(config: Config, parts: Parts, about: About, batches: Batches) -> Recipe:
    """Return the static arguments of the training step for a configuration."""
    steps = (config.epochs or 0) * batches.epoch or config.steps or 0
    if steps >= 2**31:
        raise ConfigError(f"epochs is {config.epochs}, which makes {steps} steps; they should be less than 2147483648")
    weights = class_weights_of(config, parts, about)
    return recipe_of(config, about, steps=steps, mean_weight=batches.mean_weight, class_weights=weights)
