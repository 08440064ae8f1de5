"""Draw the learning curves of `recurrent_ppo.py` from the returns that are stored beside it.

    python examples/curves.py            # docs/pictures/agents.png and tmaze.png

Each line is the median over the seeds, the area from the second worst to the second best of them, or with three seeds
from the worst to the best.
"""

import json
import re
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

FOLDER = Path(__file__).parent / "returns"
PICTURES = Path(__file__).parents[1] / "docs" / "pictures"
PUBLISHED = {"CartPole-v1": 500.0, "Pendulum-v1": -217.933, "MountainCarContinuous-v0": 91.469}  # RL-Zoo, ppo_lstm


def runs() -> dict[str, dict]:
    """Return the stored runs by task, the seeds of several files together; those without memory beside the others."""
    tasks: dict[str, dict] = {}
    for path in sorted(FOLDER.glob("*.json")):
        run = json.loads(path.read_text())
        name = run["task"] if run["settings"]["memory"] else f"{run['task']} without memory"
        known = tasks.setdefault(name, run | {"return": [], "final": [], "correct": []})
        for field in ("return", "final", "correct"):
            known[field] = known[field] + run[field]
    return tasks


def smooth(curves: np.ndarray, width: int) -> np.ndarray:
    """Return running means over updates in which an episode ended."""
    filled = np.array([np.interp(np.arange(len(c)), np.flatnonzero(~np.isnan(c)), c[~np.isnan(c)]) for c in curves])
    kernel = np.ones(width)
    return np.array([np.convolve(c, kernel, "same") / np.convolve(np.ones_like(c), kernel, "same") for c in filled])


def draw(axes: Axes, run: dict, label: str) -> None:
    """Draw the curves of one task."""
    curves = np.array([[np.nan if r is None else r for r in row] for row in run["return"]], float)
    curves = np.sort(smooth(curves, max(1, curves.shape[1] // 25)), axis=0)
    steps = np.array(run["steps"]) / 1000
    outside = 1 if len(curves) > 3 else 0
    (line,) = axes.plot(steps, np.median(curves, axis=0), label=label)
    low, high = curves[outside], curves[-1 - outside]
    axes.fill_between(steps, low, high, alpha=0.25, linewidth=0, color=line.get_color())


def gymnax_picture(tasks: dict[str, dict]) -> Figure:
    """Draw the environments of gymnax beside what was published."""
    names = [name for name in tasks if name in PUBLISHED]
    figure = Figure(figsize=(3.6 * len(names), 2.9), layout="constrained")
    for axes, name in zip(np.atleast_1d(figure.subplots(1, len(names))), names, strict=True):
        draw(axes, tasks[name], f"{len(tasks[name]['final'])} seeds, while learning")
        axes.axhline(PUBLISHED[name], color="0.4", linestyle="--", linewidth=1, label="RL-Zoo, after learning")
        axes.set(xlabel="thousand steps", ylabel="return")
        axes.set_title(f"{name}, no velocities", fontsize=10)
        axes.legend(fontsize=8, frameon=False, loc="lower right")
    return figure


def tmaze_picture(tasks: dict[str, dict]) -> Figure:
    """Draw the T-mazes from short to long, with a memory and without."""
    names = sorted((n for n in tasks if re.fullmatch(r"TMaze-\d+", n)), key=lambda name: int(name.split("-")[1]))
    figure = Figure(figsize=(2.8 * len(names), 2.9), layout="constrained")
    for axes, name in zip(figure.subplots(1, len(names), sharey=True), names, strict=True):
        draw(axes, tasks[name], "with a memory")
        draw(axes, tasks[f"{name} without memory"], "without")
        axes.axhline(1.0, color="0.4", linestyle="--", linewidth=1)
        axes.set(xlabel="thousand steps", ylim=(-1.5, 1.2))
        axes.set_title(f"T-maze of length {name.split('-')[1]}, {len(tasks[name]['final'])} seeds", fontsize=10)
        axes.label_outer()
    axes.legend(fontsize=8, frameon=False, loc="lower right")
    figure.axes[0].set_ylabel("return; all turns right: 1")
    return figure


def main() -> None:
    """Draw the pictures and print the table."""
    tasks = runs()
    gymnax_picture(tasks).savefig(PICTURES / "agents.png", dpi=110)
    tmaze_picture(tasks).savefig(PICTURES / "tmaze.png", dpi=110)
    for name, run in tasks.items():
        final = np.array(run["final"])
        print(f"{name}: {len(final)} seeds, median {np.median(final):.1f}, {final.min():.1f} to {final.max():.1f}; "
              f"correct {np.median(run['correct']):.3f}; {run['steps'][-1]} steps")  # fmt: skip


if __name__ == "__main__":
    main()
