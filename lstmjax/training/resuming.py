"""Go on with a run: the state from its latest checkpoint, and what is known of its data."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial

from lstmjax.data import About, Parts
from lstmjax.runs import RunError, RunFolder, about_sum
from lstmjax.signals import Stop
from lstmjax.training.batches import buckets_to_try
from lstmjax.training.checkpoint import Checkpoints
from lstmjax.training.finite import check_restored
from lstmjax.training.hooks import Hook, Hooks
from lstmjax.training.plan import Job, first_of, make_job, make_plan
from lstmjax.training.recipe import restored_form
from lstmjax.training.step import TrainState

log = logging.getLogger("lstmjax")


def restored(job: Job) -> TrainState:
    """Return the latest state that was saved, and remove what was written after it."""
    step, state = job.saved.latest(job.plan.like)
    check_restored(state, job.saved)
    warn_of_gaps(job, step, job.run.forget_after(step, job.metrics[0]))
    return state


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
    plan = make_plan(config, parts, mend_about(run, saved, about, parts))
    job = make_job(run, saved, plan, stop, quiet, hooks)
    step, state = 0, None
    if saved.steps():
        step, state = saved.latest(plan.like)
        check_restored(state, saved)
    warn_of_gaps(job, step, run.forget_after(step, job.metrics[0]))
    if state is not None:
        return job, partial(restored_form, state)
    return job, partial(first_of, config, plan, saved)


def mend_about(run: RunFolder, saved: Checkpoints, about: About, parts: Parts) -> About:
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


def warn_of_gaps(job: Job, step: int, lines: list[int]) -> None:
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
