"""Draw the learning curves of `recurrent_ppo.py` from the returns that are stored beside it.

    python examples/curves.py            # docs/pictures/agents.png

Each line is the median over the seeds, the area from the second worst to the second best of them.
"""

import json
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

FOLDER = Path(__file__).parent / "returns"
PICTURE = Path(__file__).parents[1] / "docs" / "pictures" / "agents.png"
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


def main() -> None:
    """Draw the picture and print the table."""
    tasks = runs()
    names = [name for name in tasks if name in PUBLISHED]
    figure = Figure(figsize=(3.6 * len(names), 2.9), layout="constrained")
    for axes, name in zip(np.atleast_1d(figure.subplots(1, len(names))), names, strict=True):
        run = tasks[name]
        curves = np.array([[np.nan if r is None else r for r in row] for row in run["return"]], float)
        curves = smooth(curves, max(1, curves.shape[1] // 25))
        steps = np.array(run["steps"]) / 1000
        ordered = np.sort(curves, axis=0)
        axes.fill_between(steps, ordered[1], ordered[-2], alpha=0.25, linewidth=0)
        axes.plot(steps, np.median(curves, axis=0), label=f"{len(curves)} seeds, while learning")
        axes.axhline(PUBLISHED[name], color="0.4", linestyle="--", linewidth=1, label="RL-Zoo, after learning")
        axes.set(xlabel="thousand steps", title=f"{name}, no velocities", ylabel="return")
        axes.title.set_fontsize(10)
        axes.legend(fontsize=8, frameon=False, loc="lower right")
    figure.savefig(PICTURE, dpi=110)
    for name, run in tasks.items():
        final = np.array(run["final"])
        print(f"{name}: {len(final)} seeds, median {np.median(final):.1f}, {final.min():.1f} to {final.max():.1f}; "
              f"correct {np.median(run['correct']):.3f}; {run['steps'][-1]} steps")  # fmt: skip


if __name__ == "__main__":
    main()
