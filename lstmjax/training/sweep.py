"""Search for the best values of a configuration with Optuna; each trial is a run folder.

The folder holds base.yaml (the configuration), space.yaml, sweep.db (Optuna's SQLite storage) and trial-0, trial-1, ...
What is tried next is a function of the seed and the trials before it, so that a sweep that was killed goes on as if it
had not been.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from lstmjax.claims import counted
from lstmjax.config import Config, ConfigError, dump_config, load_config
from lstmjax.runs import RunError, RunFolder, folder_lock, new_folder
from lstmjax.training.finite import Diverged
from lstmjax.training.hooks import Training
from lstmjax.training.loop import resume, train
from lstmjax.training.metrics import metrics_of, sign_of
from lstmjax.training.run_hooks import Interrupted
from lstmjax.training.sweep_space import Range, Space, candidate, check_space, load_space
from lstmjax.training.writers import check_writers
from lstmjax.writing import write_text

log = logging.getLogger("lstmjax")
BASE, SPACE, STORAGE, NAME = "base.yaml", "space.yaml", "sweep.db", "sweep"
ATTRIBUTE = "pruned"
PRUNED = "pruned: worse than the median of the other trials"


def _optuna() -> Any:
    try:
        import optuna
    except ImportError:
        raise ConfigError("a sweep needs Optuna; pip install 'lstmjax[sweep]'") from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


class Pruning:
    """A hook that reports the metric of each evaluation to a trial, and stops its run if the trial is pruned.

    Args:
        trial: an Optuna trial.
        metric: name of the metric of validation.
    """

    def __init__(self, trial: Any, metric: str):
        self.trial, self.metric, self.pruned = trial, metric, False
        self._reported = set(trial.study.get_trials(deepcopy=False)[trial.number].intermediate_values)

    def on_evaluate(self, training: Training) -> None:
        """Report the metric, and stop if it is time for that."""
        assert training.record is not None
        if training.step < max(self._reported, default=0):
            return  # a run that was killed repeats its last steps; at these it was not pruned
        if training.step not in self._reported:
            self.trial.report(training.record["validation"][self.metric], training.step)
        if training.step < training.steps and self.trial.should_prune():
            self.pruned = True
            self.trial.set_user_attr(ATTRIBUTE, True)  # before the run ends, which a kill may prevent
            training.stop(PRUNED)

    def on_step(self, training: Training) -> None:
        """Do nothing."""

    def on_end(self, training: Training) -> None:
        """Do nothing."""


def sweep(
    config: Config, space: Space, run_dir: str | Path | None = None, *, name: str = "sweep", trials: int | None = None
) -> Iterator[str]:
    """Search, and yield a line for each trial and the best one.

    Args:
        config: what all trials have in common.
        space: what is searched.
        run_dir: a folder that is new or empty; None: one under runs/.
        name: what the folder under runs/ begins with.
        trials: number of trials in all; None: as in the space.

    Raises:
        UserError: a value cannot be used, or Optuna is not installed.
        Interrupted: a signal came; `resume_sweep` goes on.
    """
    _optuna()
    check_writers(config)
    check_space(space, config)
    folder = new_folder(None if run_dir is None else Path(run_dir), f"{name}-sweep").absolute()
    write_text(folder / SPACE, yaml.safe_dump(space.model_dump(mode="json", exclude_none=True), sort_keys=False))
    write_text(folder / BASE, dump_config(config))
    yield from resume_sweep(folder, trials=trials)


def resume_sweep(folder: str | Path, *, trials: int | None = None) -> Iterator[str]:
    """Continue a sweep, or add trials to it, and yield a line for each new trial and the best one.

    Raises:
        UserError: no such sweep, or one of its files is damaged.
        Interrupted: a signal came.
    """
    folder = Path(folder).absolute()
    for file in (BASE, SPACE):
        if not (folder / file).is_file():
            raise RunError(f"{folder}: has no {file}, so it is no sweep; lstmjax sweep CONFIG SPACE makes one")
    optuna = _optuna()
    config, space = load_config(folder / BASE), load_space(folder / SPACE)
    check_space(space, config)
    count = space.trials if trials is None else trials
    if count < 1:
        raise ConfigError(f"--trials is {count}, expected at least 1")
    with folder_lock(folder):
        study = _study(optuna, folder, config, space)
        yield f"sweep folder {folder}"
        for number in range(count):
            known = study.get_trials(deepcopy=False)
            if number < len(known) and known[number].state.is_finished():
                continue
            study.sampler = optuna.samplers.TPESampler(seed=space.seed + number, n_startup_trials=space.startup_trials)
            trial = optuna.Trial(study, known[number]._trial_id) if number < len(known) else study.ask()
            yield _tried(optuna, study, trial, folder, config, space)
        yield from _best(optuna, study, folder, config)


def _study(optuna: Any, folder: Path, config: Config, space: Space) -> Any:
    pruner = optuna.pruners.NopPruner()
    if space.prune:
        pruner = optuna.pruners.MedianPruner(space.startup_trials, space.warmup_steps)
    direction = "maximize" if sign_of(config) > 0 else "minimize"
    try:
        storage = f"sqlite:///{folder / STORAGE}"
        return optuna.create_study(
            storage=storage, study_name=NAME, direction=direction, pruner=pruner, load_if_exists=True
        )
    except Exception as error:  # SQLAlchemy and SQLite raise errors of many types
        reason = " ".join(str(error).split())[:200]
        raise RunError(f"{folder / STORAGE}: cannot be used ({reason}); put it back, or start a new sweep") from None


def suggested(trial: Any, space: Space, config: Config) -> dict[str, Any]:
    """Return the values of a trial by key; those that it has already are not drawn again."""
    values: dict[str, Any] = {}
    for key, row in space.search.items():
        if not isinstance(row, Range):
            names = {_label(value): value for value in row}
            values[key] = names[trial.suggest_categorical(key, list(names))]
        elif all(isinstance(value, int) for value in (row.low, row.high, row.step or 1)) and not _is_float(config, key):
            values[key] = trial.suggest_int(key, row.low, row.high, step=int(row.step or 1), log=row.log)
        else:
            values[key] = trial.suggest_float(key, row.low, row.high, step=row.step, log=row.log)
    return values


def _label(value: Any) -> Any:
    """Return a value that the storage holds: lists as text."""
    return value if value is None or isinstance(value, bool | int | float | str) else repr(value)


def _is_float(config: Config, key: str) -> bool:
    value: Any = config
    for name in key.split("."):
        value = getattr(value, name)
    return isinstance(value, float)


def _tried(optuna: Any, study: Any, trial: Any, folder: Path, config: Config, space: Space) -> str:
    """Train a trial to its end, tell the study, and return a line about it."""
    metric, states = metrics_of(config)[0], optuna.trial.TrialState
    values = suggested(trial, space, config)
    shown = f"trial {trial.number}: {', '.join(f'{key} {_short(value)}' for key, value in values.items())}"
    path = folder / f"trial-{trial.number}"
    try:
        settings = candidate(config, values, f"trial {trial.number}")
    except ConfigError as error:
        study.tell(trial, state=states.FAIL)
        return f"{shown}: left out, as its values do not go together ({error})"
    hook = Pruning(trial, metric)
    try:
        value = _trained(path, settings, hook)
    except Diverged as error:
        study.tell(trial, state=states.FAIL)
        return f"{shown}: {error}"
    except Interrupted as error:
        raise SweepInterrupted(error.step, folder, error.signum) from None
    except ConfigError as error:  # of the network with its data, such as one too large for the memory
        study.tell(trial, state=states.FAIL)
        return f"{shown}: left out ({error})"
    if hook.pruned:
        study.tell(trial, state=states.PRUNED)
        return f"{shown}: {metric} {value:.4f} at best, {PRUNED}"
    study.tell(trial, value)
    return f"{shown}: {metric} {value:.4f}"


class SweepInterrupted(Interrupted):
    """A sweep was stopped by a signal, and the state of its trial is saved."""

    def __init__(self, step: int, run_dir: Path, signum: int):
        super().__init__(step, run_dir, signum)
        self.args = (f"stopped at step {step} of a trial; continue by: lstmjax sweep --resume {run_dir}",)


def _trained(path: Path, settings: Config, hook: Pruning) -> float:
    """Train a trial, or go on with it, and return the best metric of validation."""
    metric = hook.metric
    if not (path / "config.yaml").is_file():
        return train(settings, path, quiet=True, hooks=(hook,)).validation[metric]
    run = RunFolder.open(path)
    if run.config.fingerprint != settings.fingerprint:
        raise RunError(f"{path}: its config.yaml is not that of this trial; put it back, or start a new sweep")
    if (reason := run.divergence()) is not None:
        raise Diverged(reason)
    if hook.trial.user_attrs.get(ATTRIBUTE):  # it was killed before the study was told
        hook.pruned = True
        sign = sign_of(settings)
        return sign * max(sign * float(record["validation"][metric]) for record in run.records(metric))
    return resume(path, quiet=True, hooks=(hook,)).validation[metric]


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else f"{value}"


def _best(optuna: Any, study: Any, folder: Path, config: Config) -> Iterator[str]:
    """Yield the best trial with its configuration.

    Raises:
        RunError: no trial came to its end.
    """
    trials = study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.COMPLETE,))
    counts = f"{counted(len(study.get_trials(deepcopy=False)), 'trial')}, {len(trials)} to the end"
    if not trials:
        raise RunError(f"{folder}: {counts}; widen the space, or lower the learning rates in it")
    best = study.best_trial
    path = folder / f"trial-{best.number}"
    settings = load_config(path / "config.yaml", of_run=True)
    yield counts
    yield f"configuration {path / 'config.yaml'}, beside the defaults:"
    tree = settings.model_dump(mode="json", exclude_defaults=True)
    yield from yaml.safe_dump(tree, sort_keys=False, allow_unicode=True).splitlines()
    yield f"best trial {best.number}, validation {metrics_of(config)[0]} {best.value:.4f}"
