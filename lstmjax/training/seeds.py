"""Train a network for each of several seeds: all of them by one program where shapes allow, else one after the other.

The folder holds seeds.json, with which it goes on, and a run folder for each seed: seed-0, seed-1, ...
"""

from __future__ import annotations

import json
import logging
import statistics
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from lstmjax.claims import available, words
from lstmjax.config import Config, ConfigError, parse_config
from lstmjax.data import About, Parts, load
from lstmjax.limits import copies
from lstmjax.runs import SEEDS, RunError, RunFolder, folder_lock, new_folder
from lstmjax.signals import Stop, noted
from lstmjax.training.drive import Request
from lstmjax.training.finite import Diverged
from lstmjax.training.loop import Result, fit_steps, resume, train
from lstmjax.training.metrics import metrics_of
from lstmjax.training.plan import Job, Plan, first_of, initial_of, make_job, new_plan, saving
from lstmjax.training.recipe import Recipe, objective_of_recipe
from lstmjax.training.resuming import reopened
from lstmjax.training.run_hooks import Interrupted
from lstmjax.training.step import Info, TrainState, make_train_step
from lstmjax.training.writers import check_writers
from lstmjax.types import Array
from lstmjax.writing import write_text

log = logging.getLogger("lstmjax")
MOST = 100  # seeds


class SeedResults(NamedTuple):
    """How the runs of several seeds ended."""

    folder: Path
    results: dict[int, Result | Diverged]  # by seed
    way: str  # whether one program trained all of them, and why not

    def lines(self) -> Iterator[str]:
        """Yield the numbers of each seed, their mean and their spread as lines; the last one is the mean.

        Raises:
            Diverged: none of the seeds has a network.
        """
        yield f"run folder {self.folder}"
        yield self.way
        done = {seed: result for seed, result in self.results.items() if isinstance(result, Result)}
        for seed, result in self.results.items():
            if isinstance(result, Diverged):
                yield f"seed {seed}: {result}"
            else:
                yield f"seed {seed}: best step {result.step}, {', '.join(_shown(result))}"
        if not done:
            raise Diverged(f"{self.folder}: training diverged with every seed")
        some = next(iter(done.values()))
        for part in ("validation", "test"):
            for name in getattr(some, part) or ():
                if name != "loss":
                    values = [getattr(result, part)[name] for result in done.values()]
                    yield f"{part} {name} {_spread(values)}"


def _shown(result: Result) -> list[str]:
    names = metrics_of(result.trained.config)
    parts = {"validation": result.validation, "test": result.test or {}}
    return [f"{part} {name} {values[name]:.4f}" for part, values in parts.items() for name in names if name in values]


def _spread(values: Sequence[float]) -> str:
    """Return mean, standard deviation and extremes.

    >>> _spread([0.5, 0.75, 1.0]), _spread([0.5])
    ('0.7500 ± 0.2500 (3 seeds, 0.5000 to 1.0000)', '0.5000 (1 seed)')
    """
    if len(values) == 1:
        return f"{values[0]:.4f} (1 seed)"
    deviation = statistics.stdev(values)
    return (
        f"{statistics.mean(values):.4f} ± {deviation:.4f} ({len(values)} seeds, {min(values):.4f} to {max(values):.4f})"
    )


def train_seeds(
    config: Config, seeds: int, run_dir: str | Path | None = None, *, name: str = "train", quiet: bool = False
) -> SeedResults:
    """Train a network for each of several seeds, from that of the configuration on.

    The network of each seed is that of a run alone, to rounding.

    Args:
        config: configuration of the runs.
        seeds: number of seeds.
        run_dir: a folder that is new or empty; None: one under runs/.
        name: what the folder under runs/ begins with.
        quiet: print nothing.

    Raises:
        UserError: as for `train`.
        Interrupted: a signal came; `resume_seeds` goes on.
    """
    if not 1 <= seeds <= MOST:
        raise ConfigError(f"--seeds is {seeds}, expected 1 to {MOST}")
    if config.seed + seeds > 2**32:
        raise ConfigError(f"--seeds is {seeds} and seed is {config.seed}; seeds are less than {2**32}")
    check_writers(config)
    with jax.enable_x64(config.model.needs_x64):
        plan = new_plan(config)
        initial_of(config, plan)  # before there is a folder, as it may be refused
        reason = _why_not(config, plan, seeds)
        folder = new_folder(None if run_dir is None else Path(run_dir), name).absolute()
        tree = {"seeds": seeds, "together": not reason, "reason": reason, "config": config.model_dump(mode="json")}
        write_text(folder / SEEDS, json.dumps(tree, indent=1) + "\n")
    return resume_seeds(folder, quiet=quiet)


def resume_seeds(folder: str | Path, *, quiet: bool = False) -> SeedResults:
    """Continue the runs of several seeds; they end in the same bits, on the same machine and installation.

    Raises:
        UserError: as for `resume`, or seeds.json is damaged.
        Interrupted: a signal came.
    """
    folder = Path(folder).absolute()
    seeds, together, reason, config = _read(folder)
    configs = [config.model_copy(update={"seed": config.seed + n}) for n in range(seeds)]
    with folder_lock(folder):
        if together:
            results = _together(folder, configs, quiet)
            return SeedResults(folder, results, f"{seeds} seeds, trained by one program")
        results = {}
        for each in configs:
            results[each.seed] = _alone(folder, each, quiet)
        return SeedResults(folder, results, f"{seeds} seeds, trained one after the other: {reason}")


def _read(folder: Path) -> tuple[int, bool, str, Config]:
    try:
        tree = json.loads((folder / SEEDS).read_text(encoding="utf-8"))
        return int(tree["seeds"]), bool(tree["together"]), str(tree["reason"]), parse_config(tree["config"], SEEDS)
    except OSError as error:
        raise RunError(f"{folder / SEEDS}: cannot be read ({error.strerror or error})") from None
    except (ValueError, KeyError, TypeError):
        raise RunError(f"{folder / SEEDS}: is damaged; start anew by lstmjax train CONFIG --seeds N") from None


def _why_not(config: Config, plan: Plan, seeds: int) -> str:
    """Return why one program cannot train all seeds; "": it can."""
    if seeds == 1:
        return "there is one alone"
    if plan.about.buckets is not None and len(plan.about.buckets) > 1:
        counts = ", ".join(map(str, plan.about.buckets))
        return f"batches of different seeds differ in their shapes (buckets of {counts} steps)"
    of_network = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(plan.like.params))
    needed = 2 * seeds * of_network * sum(copies(config).values())  # the state before the step, and the one after it
    limit = (jax.local_devices()[0].memory_stats() or {}).get("bytes_limit") or available()
    return f"together they take {words(needed)} of memory" if needed > limit else ""


def _alone(folder: Path, config: Config, quiet: bool) -> Result | Diverged:
    path = _path(folder, config)
    try:
        if not (path / "config.yaml").is_file():
            return train(config, path, quiet=quiet)
        if reason := RunFolder.open(path).divergence():
            return Diverged(reason)
        return resume(path, quiet=quiet)
    except Diverged as error:
        return error
    except Interrupted as error:
        raise Interrupted(error.step, folder, error.signum) from None


def _path(folder: Path, config: Config) -> Path:
    return folder / f"seed-{config.seed}"


Begin = Callable[[], TrainState]
Requests = Generator[Request, tuple[TrainState, Info], Result]


def _together(folder: Path, configs: Sequence[Config], quiet: bool) -> dict[int, Result | Diverged]:
    """Train all seeds by one program, from the last step of which all of them have a checkpoint."""
    config = configs[0]
    check_writers(config)
    with jax.enable_x64(config.model.needs_x64), noted() as stop, ExitStack() as stack:
        parts, about = load(config.data, config.loss.name)
        runs = []
        for each in configs:
            path = _path(folder, each)
            if not (path / "config.yaml").is_file():
                with RunFolder.create(path, each):
                    pass
            run = RunFolder.open(path)
            stack.enter_context(run.locked())
            runs.append(run)
        _align(runs, new_plan(config))
        jobs, begins = [], []
        for n, run in enumerate(runs):
            saved = stack.enter_context(saving(run))
            job, begin = _opened(run, saved, parts, about, stop, quiet or n > 0)
            jobs.append(job)
            begins.append(begin)
        if not quiet:
            print(f"{folder}: {len(runs)} seeds by one program; the progress is that of seed {config.seed}", flush=True)
        results = _drive(jobs, begins)
    for result in results.values():
        if isinstance(result, Interrupted):
            raise Interrupted(result.step, folder, result.signum)
    return {seed: result for seed, result in results.items() if not isinstance(result, Interrupted)}


def _opened(run: RunFolder, saved: Any, parts: Parts, about: About, stop: Stop, quiet: bool) -> tuple[Job, Begin]:
    if saved.steps() or (run.path / "data.json").exists():
        return reopened(run, saved, parts, about, stop, quiet)
    plan = new_plan(run.config)
    run.write_about(plan.about)
    run.write_split(plan.parts.split)
    return make_job(run, saved, plan, stop, quiet), partial(first_of, run.config, plan, saved)


def _align(runs: Sequence[RunFolder], plan: Plan) -> None:
    """Remove the checkpoints after the last step that all runs have which are not done.

    A kill between the checkpoints of two seeds would otherwise let them go on at different steps.
    """
    going = [run for run in runs if not _is_done(run)]
    with ExitStack() as stack:
        saved = [stack.enter_context(saving(run)) for run in going]
        while True:
            steps = [each.latest(plan.like)[0] if each.steps() else 0 for each in saved]
            if len(set(steps)) <= 1:
                return
            for each in saved:
                each.forget_after(min(steps))


def _is_done(run: RunFolder) -> bool:
    return (run.path / "result.json").exists() or run.divergence() is not None


def _drive(jobs: Sequence[Job], begins: Sequence[Begin]) -> dict[int, Result | Diverged | Interrupted]:
    """Do the steps of all trainings by one program.

    A training that has ended keeps its place, where its steps go on without being used: rows of the program depend on
    their number in the last digits, so that the bits of the others would change.
    """
    step = step_of_all(jobs[0].plan.recipe, len(jobs))
    results: dict[int, Result | Diverged | Interrupted] = {}
    going: dict[int, Requests] = {}
    requests: dict[int, Request] = {}
    idle: list[int] = []
    for n, (job, begin) in enumerate(zip(jobs, begins, strict=True)):
        seed = job.run.config.seed
        if reason := job.run.divergence():
            results[seed] = Diverged(reason)
            idle.append(n)
            continue
        going[n] = fit_steps(job, begin)
        if _advance(going, n, requests, results, seed, None):
            idle.append(n)
    while going:
        some = requests[next(iter(going))]
        for n in idle:
            if n not in requests:
                requests[n] = some
        states, batches, keys = zip(*(requests[n] for n in range(len(jobs))), strict=True)
        done = step(states, batches, keys)
        for n, job in enumerate(jobs):
            if n in going:
                _advance(going, n, requests, results, job.run.config.seed, done[n])
    return {job.run.config.seed: results[job.run.config.seed] for job in jobs}


def _advance(
    going: dict[int, Requests],
    n: int,
    requests: dict[int, Request],
    results: dict[int, Result | Diverged | Interrupted],
    seed: int,
    done: tuple[TrainState, Info] | None,
) -> bool:
    """Send a training what its step returned, and note what it asks for next; return whether it has ended."""
    try:
        requests[n] = next(going[n]) if done is None else going[n].send(done)
        return False
    except StopIteration as end:
        results[seed] = end.value
    except (Diverged, Interrupted) as error:
        results[seed] = error
    del going[n]
    return True


@lru_cache(maxsize=8)
def step_of_all(
    recipe: Recipe, count: int
) -> Callable[[Sequence[TrainState], Sequence[Any], Sequence[Array]], list[tuple[TrainState, Info]]]:
    """Return the compiled step of several states, batches and keys: that of one, mapped over their rows."""
    step = make_train_step(objective_of_recipe(recipe), recipe.rule, average=recipe.average or 0.0, donate=False)

    @jax.jit
    def steps(states: Any, batches: Any, keys: Any) -> list[Any]:
        rows = [jax.tree.map(lambda *arrays: jnp.stack(arrays), *trees) for trees in (states, batches, keys)]
        done = jax.vmap(step)(*rows)
        return [jax.tree.map(lambda array, n=n: array[n], done) for n in range(count)]

    return steps
