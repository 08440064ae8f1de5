"""What the tests of training share."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np

from lstmjax.config import dump_config, parse_config
from lstmjax.training import progress

# Drawn by the preset that compiles fastest.
TINY = {"model": {"hidden_size": 4, "init": "equinox"}, "batch_size": 8, "steps": 6, "evaluate_every": 2}


def flip(data):
    """One bit is another one."""
    return data[: len(data) // 2] + bytes([data[len(data) // 2] ^ 1]) + data[len(data) // 2 + 1 :]


def damage(folder, how=flip):
    """Change the largest file of a checkpoint's arrays."""
    path = max((folder / "state" / "d").iterdir(), key=lambda p: p.stat().st_size)  # orbax leaves copies elsewhere
    path.write_bytes(how(path.read_bytes()))


def config(**sections):
    """A tiny configuration, with sections merged in."""
    tree = {key: dict(value) if isinstance(value, dict) else value for key, value in TINY.items()}
    for key, value in sections.items():
        tree[key] = tree.get(key, {}) | value if isinstance(value, dict) else value
    return parse_config(tree)


def same_params(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_array_equal(x, y)


def lines(run):
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text("utf-8").splitlines()]
    for record in records:
        record.pop("steps_per_second")
    return records


def kill_in_training(settings, run):
    """Train in a process of its own, and kill it when it has been validated twice."""
    path = run.with_suffix(".yaml")
    path.write_text(dump_config(settings), encoding="utf-8")
    command = [sys.executable, "-c", "import sys; from lstmjax.cli import main; sys.exit(main())"]
    reads_only = os.environ | {
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "1e9"
    }  # a kill leaves no half of a program
    process = subprocess.Popen(
        [*command, "train", str(path), "--run-dir", str(run)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=reads_only,
        cwd=Path(__file__).parent,  # the installed package, as here: the checkout's may be without the native kernel
    )
    deadline = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline:
        if (run / "metrics.jsonl").exists() and (run / "metrics.jsonl").read_text("utf-8").count("\n") >= 2:
            os.kill(process.pid, signal.SIGKILL)
            break
        time.sleep(0.002)
    process.wait()
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"step": 12, "tra')  # as a kill in the middle of a line leaves it


def stop_at(monkeypatch, step, signum=signal.SIGINT):
    """Sends a signal after a step, as a user or a scheduler does."""
    seen = []

    def count(self, now):
        seen.append(None)
        if len(seen) == step:
            signal.raise_signal(signum)

    monkeypatch.setattr(progress.Progress, "step", count)


def write_sequences(path, *, n=40, t=6, i=3, ragged=True, target="class", seed=0):
    """An NPZ file whose labels follow from the sequences: the sign of the sum of the first feature, or that sum."""
    random = np.random.default_rng(seed)
    x = random.normal(2.0, 3.0, (n, t, i)).astype(np.float32)
    lengths = random.integers(2, t + 1, n) if ragged else np.full(n, t)
    valid = np.arange(t) < lengths[:, None]
    steps = np.where(valid, x[:, :, 0] - 2.0, 0.0)
    total = steps.sum(axis=1)
    y = {
        "class": (total > 0).astype(np.int64),
        "word": np.where(total > 0, "up", "down"),
        "switch": np.stack([total > 0, total > 1], axis=1).astype(np.int64),
        "number": total.astype(np.float32),
        "class_each_step": (steps.cumsum(axis=1) > 0).astype(np.int64),
        "number_each_step": steps.cumsum(axis=1)[..., None].astype(np.float32),
    }[target]
    np.savez(path, x=x, y=y, **({"lengths": lengths} if ragged else {}))
    return x, y, lengths
