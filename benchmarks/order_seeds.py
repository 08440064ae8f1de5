"""Do the tools find the truth? The temporal-order task over five seeds: which unit holds the first marker, and does it?

Each run is a separate process, `lstmjax train configs/order.yaml` as a user types it, timed from
start to end with imports and compilation. Then the trained network reads sequences of the test part,
and the unit that `rank_units` puts first for the first marker is examined. Prints a Markdown table:
accuracy; the unit, its AUC at the worst place between the markers, and the distance of the two kinds
in units of their spread; accuracy without the unit, of the class and of its first marker alone (0.5 is
chance); the unit's mean forget gate between the markers and the mean product of them; the part of the
unit's gradient between the markers that comes along the cell, step by step; and the part of the gradient
at the first marker that remains if every cell path is cut. Run it on an idle machine:

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
SEQUENCES = 512  # that are examined


class Measurements(NamedTuple):
    """What the tools measure of one network."""

    accuracy: float
    unit: int  # that holds the first marker best
    auc: float  # at the worst place between the markers
    distance: float  # between the two kinds, in units of their spread
    without: float  # accuracy without the unit
    first_without: float  # of the first marker alone
    forget: float  # mean forget gate between the markers
    retention: float  # mean product of the forget gates between the markers
    along_the_cell: float  # part of the unit's gradient between the markers
    recurrent_alone: float  # what reaches the first marker, all units together, if the cell paths are cut


@dataclass(frozen=True)
class CutCell:
    """Stop the gradient from c to the next c: what remains comes through h."""

    def draw(self, key, steps, state, x):
        return None, None

    def __call__(self, inner, params, state, x, extras):
        h, c, *fed_back = state
        return inner(params, (h, jax.lax.stop_gradient(c), *fed_back), x)


def look(trained, data):
    """Return the `Measurements` of a trained network.

    Args:
        trained: as `lstmjax.training.load_run` returns it.
        data: sequences of the task, as `lstmjax.data.load` returns them.
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

    intact, ablated = predictions(), predictions((Ablate("c", (best.unit,)),))
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
    return Measurements(
        accuracy=float((intact == y).mean()),
        unit=best.unit,
        auc=best.auc,
        distance=best.distance,
        without=float((ablated == y).mean()),
        first_without=float((ablated // 2 == y // 2).mean()),
        forget=float(f[gap].mean()),
        retention=float(np.where(gap, f, 1.0).prod(axis=1).mean()),
        along_the_cell=float((cell * np.sign(total)).sum() / np.abs(total).sum()),
        recurrent_alone=float(reaching[1].sum() / reaching[0].sum()),
    )


def run(seed, folder):
    """Return the wall seconds of one run."""
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
        m = look(trained, parts.test.take(slice(0, SEQUENCES)))
        print(
            f"| {seed} | {100 * m.accuracy:.1f}% | {m.unit} | {m.auc:.3f} | {m.distance:.1f} | "
            f"{100 * m.without:.0f}% | {100 * m.first_without:.0f}% | {m.forget:.3f} | "
            f"{m.retention:.2f} | {100 * m.along_the_cell:.1f}% | {m.recurrent_alone:.0e} | "
            f"{seconds:.0f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
