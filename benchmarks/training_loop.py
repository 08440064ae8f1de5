"""What does the loop of a training add to its bare jitted step?

    python benchmarks/training_loop.py --record benchmarks/results/FILE.json

The loop of `lstmjax train`, between two evaluations: batches that a thread prepares, the clock, progress, signals, and
the question whether a checkpoint is due. Against it the compiled step alone, called with one batch that is in memory.
At B32 T100 I5 H256, and for a network so small that a step is little more than its call. In turns, and each way begins
a round in its turn; medians, and the median of the ratios; the bare step once more shows the noise.
"""

import argparse
import statistics
import tempfile
import time
from functools import partial
from pathlib import Path

import jax
import numpy as np
import record

from lstmjax.config import parse_config
from lstmjax.runs import RunFolder
from lstmjax.signals import noted
from lstmjax.training.drive import loop_steps
from lstmjax.training.hooks import Training
from lstmjax.training.loss_sums import Sums
from lstmjax.training.models import identity
from lstmjax.training.plan import make_job, new_plan, saving
from lstmjax.training.progress import Progress
from lstmjax.training.recipe import first_state, run_key, train_step_of
from lstmjax.training.run_hooks import Saver

CASES = {"B32 T100 I5 H256": (32, 100, 5, 256, 14), "B8 T10 I3 H8": (8, 10, 3, 8, 400)}  # the last: steps of a round
ROUNDS = 11


def measured(folder, sizes):
    """Return the seconds of a step, a list for each way."""
    b, t, i, h, steps = sizes
    random = np.random.default_rng(0)
    path = folder / f"{h}.npz"
    np.savez(path, x=random.normal(size=(2000, t, i)).astype(np.float32), y=random.integers(0, 2, 2000))
    config = parse_config(
        {
            "data": {"source": str(path)},
            "model": {"hidden_size": h},
            "batch_size": b,
            "steps": 10**6,
            "evaluate_every": 10**6,
        }
    )
    plan, key = new_plan(config), run_key(0)
    train_step = train_step_of(plan.recipe)
    rows = plan.batches.draw(seed=0, step=0)

    def begin():
        return first_state(jax.random.key(0), recipe=plan.recipe, about=plan.about)

    states = {"bare step": begin(), "bare step again": begin()}

    def bare(name):
        for _ in range(steps):
            states[name], _ = train_step(states[name], rows, key)
        jax.block_until_ready(states[name])

    with RunFolder.create(folder / f"run {h}", config, "run") as run, saving(run) as saved, noted() as stop:
        job = make_job(run, saved, plan, stop, quiet=False)
        means = partial(Sums.means, loss=config.loss, metrics=job.metrics)
        training = Training(identity(plan.like.params), begin(), plan.recipe.steps, job.rules, means)
        with Progress(plan.recipe.steps, metrics=job.metrics) as progress:
            requests = loop_steps(
                training, lambda step: plan.batches.draw(seed=0, step=step), key,
                measure=None, due=job.schedule.validates, hooks=(progress, Saver(job)),
            )  # fmt: skip
            waiting = [next(requests)]

            def looped():
                for _ in range(steps):
                    waiting[0] = requests.send(train_step(*waiting[0]))
                jax.block_until_ready(training.state)

            ways = {"bare step": partial(bare, "bare step"), "the loop": looped}
            ways["bare step again"] = partial(bare, "bare step again")
            times = {name: [] for name in ways}
            names = [*ways]
            for n in range(ROUNDS + 1):
                for name in names[n % 3 :] + names[: n % 3]:
                    began = time.perf_counter()
                    ways[name]()
                    if n:  # the first round compiles
                        times[name].append((time.perf_counter() - began) / steps)
    return times


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--record", type=Path)
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for case, sizes in CASES.items():
            times = measured(Path(folder), sizes)
            bare = times["bare step"]
            for name, seconds in times.items():
                ratio = statistics.median(one / other for one, other in zip(seconds, bare, strict=True))
                added = 1e6 * statistics.median(one - other for one, other in zip(seconds, bare, strict=True))
                rows.append([case, name, 1e3 * statistics.median(seconds), added, ratio])
                print(
                    f"{case:18} {name:16} {rows[-1][2]:8.3f} ms  {added:7.1f} us added  ratio {ratio:.3f}", flush=True
                )
    if options.record is not None:
        columns = ("sizes", "way", "ms a step", "us added", "over the bare step")
        record.write(options.record, "python benchmarks/training_loop.py", columns, (0, 0, 3, 1, 3), rows)


if __name__ == "__main__":
    main()
