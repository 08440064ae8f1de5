"""Hooks that write a run folder: its records, its checkpoints, its curves."""

from __future__ import annotations

import logging
import signal
from pathlib import Path

from lstmjax.runs import RunFolder
from lstmjax.training import hosts
from lstmjax.training.hooks import Hooks, Training
from lstmjax.training.plan import Job
from lstmjax.training.recipe import saved_form, train_only

log = logging.getLogger("lstmjax")


class Interrupted(Exception):
    """Training was stopped by a signal, and its state is saved."""

    def __init__(self, step: int, run_dir: Path, signum: int):
        super().__init__(f"stopped at step {step}; continue by: lstmjax train --resume {run_dir}")
        self.step, self.run_dir, self.signum = step, run_dir, signum


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
