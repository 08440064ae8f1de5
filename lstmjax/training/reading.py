"""Read the network of a run from its checkpoints: `load_run` and `load_checkpoints`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import jax
import jax.numpy as jnp

from lstmjax.data import About
from lstmjax.runs import RunError, RunFolder, about_sum
from lstmjax.training.checkpoint import Checkpoints
from lstmjax.training.finite import warn_of_weights
from lstmjax.training.forward import Trained
from lstmjax.training.metrics import metrics_of
from lstmjax.training.recipe import Recipe, delivered, first_state, recipe_of, structure


def load_run(run_dir: str | Path) -> Trained:
    """Return the network of a run's best checkpoint so far.

    Warns if this is not the checkpoint that validation chose, or if weights are NaN or infinite.
    """
    run = RunFolder.open(run_dir)
    with _reading(run) as (saved, recipe, about):
        result = run.read_result(metrics_of(run.config)[0])
        step, state = saved.best(structure(recipe, about), None if result is None else result["step"])
        warn_of_weights(state.params, run.path, step)
        return Trained(delivered(state, recipe), run.config, about)


def load_sequence_run(run_dir: str | Path, use: str) -> Trained:
    """Return what `load_run` does, for a network that reads sequences of numbers; refuse a language model.

    Args:
        run_dir: the run's folder.
        use: what the network is needed for, as the end of a message: "exchange its weights".

    Raises:
        RunError: it is a language model.
    """
    trained = load_run(run_dir)
    if trained.about.is_stream:
        raise RunError(
            f"{run_dir}: is a language model, which reads tokens, so that lstmjax cannot {use}; use lstmjax "
            "export, or its layers in Python: load_run(run).params.layers"
        )
    return trained


def load_checkpoints(run_dir: str | Path) -> list[tuple[int, Trained]]:
    """Return a run's network before its first step and at each of its checkpoints, each with its step.

    A run keeps its last two checkpoints and the best one; with `keep_every` in its configuration it keeps more.
    """
    run = RunFolder.open(run_dir)
    with _reading(run) as (saved, recipe, about):
        networks = []
        if run.config.init_from is None:
            first = first_state(jax.random.key(run.config.seed), recipe=recipe, about=about).params
            networks.append((0, Trained(first, run.config, about)))
        for step, state in saved.each(structure(recipe, about)):
            # No average has been taken yet before the first step.
            params = delivered(state, recipe) if step else jax.tree.map(jnp.asarray, state.params)
            networks.append((step, Trained(params, run.config, about)))
        return networks


@contextmanager
def _reading(run: RunFolder) -> Iterator[tuple[Checkpoints, Recipe, About]]:
    """Yield the checkpoints of a run, opened for reading only, and the recipe and data that determine its state.

    Raises:
        RunError: there is no checkpoint yet, or data.json is not what training wrote.
    """
    config, about = run.config, run.read_about()
    recipe = recipe_of(config, about)
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
