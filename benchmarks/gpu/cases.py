"""What a GPU must compute: the inputs of each case, and values and gradients by the float64 oracle, in NumPy files.

Run by `supervise.py` beside the worker, on the CPU: the numbers are drawn here, since a GPU draws others. The oracle
goes sequence by sequence, so that of large networks only some sequences of the batch are compared: the loss has no
weight on the others, whose gradients must be zero.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from lstmjax import oracle
from lstmjax.bench import POINTS, Point
from lstmjax.bench.points import make_job
from lstmjax.bench.program import gradients

COMPARED = {"C": 8, "G": 4}
"""Sequences of the batch that are compared; of all other cases 16 at most."""
ORDER = ("A", "Bi", "lengths", "resets", "D", "E", "F", "C", "B", "G")


class Case(NamedTuple):
    """One case: a network, its inputs, and the weights of the outputs in the loss."""

    layers: Any
    xs: np.ndarray  # [B, T, I]
    weights: np.ndarray  # [B, T, H or 2H]  zero beyond the sequences that are compared
    lengths: np.ndarray | None = None  # [B]
    resets: np.ndarray | None = None  # [B, T]
    compared: int = 0  # sequences


def find_point(name: str, rehearse: bool) -> Point:
    """Return the sizes of a case or a point, tiny ones where it is rehearsed."""
    sizes = {
        "Bi": Point("Bi", 24, 60, 16, 128, layers=2, directions=2),
        "lengths": dataclasses.replace(POINTS["A"], name="lengths"),
        "resets": dataclasses.replace(POINTS["A"], name="resets"),
    }
    point = sizes.get(name) or POINTS[name]
    if not rehearse:
        return point
    small = {"batch": min(point.batch, 3), "steps": min(point.steps, 5), "inputs": min(point.inputs, 2), "hidden": 4}
    return dataclasses.replace(point, **small)


def draw(name: str, rehearse: bool) -> Case:
    """Draw a case; the same numbers on every machine, as long as it is drawn on a CPU."""
    point = find_point(name, rehearse)
    job = make_job(point, "training", "float32")
    layers, xs, weights = jax.tree.map(np.asarray, (job.layers, job.xs, job.weights))
    compared = min(point.batch, COMPARED.get(name, 16))
    weights = np.where(np.arange(point.batch)[:, None, None] < compared, weights, 0)
    rng = np.random.default_rng(7)
    lengths = resets = None
    if name == "lengths":
        lengths = rng.integers(1, point.steps + 1, point.batch).astype(np.int32)
        lengths[:2] = 0, point.steps
    if name == "resets":
        resets = rng.random((point.batch, point.steps)) < (0.3 if rehearse else 0.02)
    return Case(layers, xs, weights, lengths, resets, compared)


def one_sequence(case: Case, n: int) -> tuple[np.ndarray, Any, np.ndarray]:
    """Return the outputs `[T, H]` of a sequence, and the gradients of the layers and of its inputs, in float64."""
    layers, xs, weights = jax.tree.map(lambda a: np.asarray(a, np.float64), (case.layers, case.xs[n], case.weights[n]))
    options: dict = {}
    if case.lengths is not None:
        options["lengths"] = int(case.lengths[n])
    if case.resets is not None:
        options["resets"] = case.resets[n]
    (_, steps), pull = oracle.stacked(layers, xs, **options)
    pulled = pull(None, oracle.Steps(h=weights))
    return steps.h, pulled.params, pulled.xs


def expected(case: Case, pool: ProcessPoolExecutor) -> dict[str, np.ndarray]:
    """Return outputs and gradients by name, as `lstmjax.bench.program` names them; d_xs of all sequences."""
    results = list(pool.map(one_sequence, [case] * case.compared, range(case.compared)))
    ys, layers, xs = zip(*results, strict=True)
    total = jax.tree.map(lambda *a: np.sum(a, axis=0), *layers)
    d_xs = np.zeros(case.xs.shape)
    d_xs[: case.compared] = np.stack(xs)
    return {"ys": np.stack(ys), **gradients(total, d_xs)}


def main(out: Path, rehearse: bool) -> None:
    folder = out / "cases"
    folder.mkdir(parents=True, exist_ok=True)
    names = [name for name in ORDER if not rehearse or name in ("A", "Bi", "lengths", "resets")]
    cpus = len(os.sched_getaffinity(0))
    workers = 1 if rehearse else max(1, cpus // 2)
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[variable] = "1"
    with ProcessPoolExecutor(workers, get_context("spawn")) as pool:
        for name in names:
            draft = folder / f"{name}.draft"
            with draft.open("wb") as file:
                np.savez(file, **expected(draw(name, rehearse), pool))
            draft.replace(folder / f"{name}.npz")


if __name__ == "__main__":
    main(Path(sys.argv[1]), json.loads(sys.argv[2]))
