"""Is the truth found? The temporal-order task over five seeds: which unit holds the first marker, and is it so?

Each run is a process of its own, `lstmjax train configs/order.yaml` as a user types it, timed from
start to end with imports and compilation. Then the trained network reads sequences of the test part,
and the unit that `rank_units` puts first for the first marker is looked at. Prints a Markdown table:
accuracy; the unit, its AUC at the worst place between the markers, and the distance of the two kinds
in units of their spread; accuracy with the unit out, of the class and of its first marker alone (0.5 is
chance); the unit's mean forget gate between the markers and the mean product of them; the part of the
unit's gradient between the markers that comes along the cell, step by step; and what of the gradient
at the first marker is left if every cell path is cut. Run it on an idle machine:

    python benchmarks/order_seeds.py
"""

import os
import platform
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lstmjax.data import load, markers
from lstmjax.inside import Ablate, Question, gradient_flow, gradient_paths, rank_units, trace
from lstmjax.networks import network
from lstmjax.training import load_run

CONFIG = Path(__file__).parent.parent / "configs" / "order.yaml"
SEEDS = range(5)
SEQUENCES = 512  # that are looked at


class Found(NamedTuple):
    """What the tools say of one network."""

    accuracy: float
    unit: int  # that holds the first marker best
    auc: float  # at the worst place between the markers
    distance: float  # between the two kinds, in units of their spread
    without: float  # accuracy when the unit is out
    first_without: float  # of the first marker alone
    forget: float  # mean forget gate between the markers
    retention: float  # mean product of the forget gates between the markers
    along_the_cell: float  # part of the unit's gradient between the markers
    recurrent_alone: float  # what reaches the first marker, all units together, if the cell paths are cut


@dataclass(frozen=True)
class CutCell:
    """Lets no gradient pass from c to the next c: what comes through then comes through h."""

    def draw(self, key, steps, state, x):
        return None, None

    def __call__(self, inner, params, state, x, own):
        h, c, *fed_back = state
        return inner(params, (h, jax.lax.stop_gradient(c), *fed_back), x)


def look(trained, data):
    """Gives what the tools say of a trained network: `Found`.

    Args:
        trained: as `lstmjax.training.load_run` gives it.
        data: sequences of the task, as `lstmjax.data.load` gives them.
    """
    params, xs, lengths, y = trained.params, jnp.asarray(data.x), jnp.asarray(data.lengths), jnp.asarray(data.y)
    first = Question(*markers(data)[0])
    (steps,) = trace(params, xs, lengths=lengths, fields=("c", "f"))
    best = rank_units((steps,), first)[0]

    def predictions(wrappers=()):
        return network(params, xs, lengths=lengths, wrappers=wrappers)[1].argmax(axis=-1)

    def sureness(logits):  # classes are XX, XY, YX, YY: two on is the class with the other first marker
        n = jnp.arange(len(y))
        return (logits[n, y] - logits[n, (y + 2) % 4]).sum()

    whole, out = predictions(), predictions((Ablate("c", (best.unit,)),))
    n, t = np.arange(len(xs)), np.arange(xs.shape[1])
    start, stop = first.spans.T[:, :, None]
    gap = (t >= start) & (t < stop)
    f = np.asarray(steps.f[..., best.unit])
    (paths,) = gradient_paths(params, xs, sureness, lengths=lengths)
    total, cell = (np.asarray(a[..., best.unit])[gap] for a in (paths.total, paths.cell))
    reaching = [
        np.abs(gradient_flow(params, xs, sureness, lengths=lengths, fields="c", wrappers=cut)[0].c[n, start[:, 0] - 1])
        for cut in ((), (CutCell(),))
    ]
    return Found(
        accuracy=float((whole == y).mean()),
        unit=best.unit,
        auc=best.auc,
        distance=best.distance,
        without=float((out == y).mean()),
        first_without=float((out // 2 == y // 2).mean()),
        forget=float(f[gap].mean()),
        retention=float(np.where(gap, f, 1.0).prod(axis=1).mean()),
        along_the_cell=float((cell * np.sign(total)).sum() / np.abs(total).sum()),
        recurrent_alone=float(reaching[1].sum() / reaching[0].sum()),
    )


def run(seed, folder):
    """Gives the wall seconds of one run."""
    command = [sys.executable, "-c", "import sys; from lstmjax.cli import main; sys.exit(main())"]
    start = time.monotonic()
    words = ["train", str(CONFIG), "--run-dir", str(folder), "--seed", str(seed)]
    subprocess.run([*command, *words], check=True, capture_output=True)
    return time.monotonic() - start


def main():
    versions = ", ".join(f"{name} {version(name)}" for name in ("jax", "optax"))
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    print(f"Python {platform.python_version()}, {versions}, {cores} CPU cores, load {os.getloadavg()[0]:.1f}\n")
    titles = (
        "seed", "accuracy", "unit", "AUC", "distance", "without", "first marker", "f", "product of f", "along the cell",
        "recurrent alone", "seconds",
    )  # fmt: skip
    print(f"| {' | '.join(titles)} |")
    print("|---" * len(titles) + "|")
    for seed in SEEDS:
        with tempfile.TemporaryDirectory() as folder:
            seconds = run(seed, Path(folder) / "run")
            trained = load_run(Path(folder) / "run")
        parts, _ = load(trained.config.data)
        found = look(trained, parts.test.take(slice(0, SEQUENCES)))
        print(
            f"| {seed} | {100 * found.accuracy:.1f}% | {found.unit} | {found.auc:.3f} | {found.distance:.1f} | "
            f"{100 * found.without:.0f}% | {100 * found.first_without:.0f}% | {found.forget:.3f} | "
            f"{found.retention:.2f} | {100 * found.along_the_cell:.1f}% | {found.recurrent_alone:.0e} | "
            f"{seconds:.0f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
