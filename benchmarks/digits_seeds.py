"""How accurate are the digits, and how long do they take? Both configurations over five seeds.

Each run is a separate process, `lstmjax train` as a user types it, timed from start to end with
imports and compilation. Prints a Markdown table: test accuracy (mean ± standard deviation, and
each seed's), validation accuracy, seconds. Run it on an idle machine:

    python benchmarks/digits_seeds.py [digits] [digits-plain]
"""

import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

CONFIGS = Path(__file__).parent.parent / "configs"
SEEDS = range(5)


def run(config: Path, seed: int, folder: Path) -> tuple[float, float, float, float]:
    """Return test accuracy, validation accuracy, wall seconds and CPU seconds of one run."""
    command = [sys.executable, "-c", "import sys; from lstmjax.cli import main; sys.exit(main())"]
    words = ["train", str(config), "--run-dir", str(folder), "--seed", str(seed)]
    wall, before = time.monotonic(), os.times()
    lines = subprocess.run([*command, *words], check=True, capture_output=True, text=True).stdout.splitlines()
    wall, after = time.monotonic() - wall, os.times()
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return float(lines[-1].removeprefix("test accuracy ")), float(lines[-2].split()[-1]), wall, cpu


def main() -> None:
    versions = ", ".join(f"{name} {version(name)}" for name in ("jax", "optax"))
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    print(f"Python {platform.python_version()}, {versions}, {cores} CPU cores, load {os.getloadavg()[0]:.1f}\n")
    print("| config | test accuracy | seeds | validation | seconds (longest) | CPU seconds |")
    print("|---|---|---|---|---|---|")
    for name in sys.argv[1:] or ("digits", "digits-plain"):
        with tempfile.TemporaryDirectory() as folder:
            rows = [run(CONFIGS / f"{name}.yaml", seed, Path(folder) / str(seed)) for seed in SEEDS]
        test, validation, wall, cpu = (list(column) for column in zip(*rows, strict=True))
        print(
            f"| {name} | {100 * statistics.mean(test):.1f} ± {100 * statistics.stdev(test):.1f}% | "
            f"{', '.join(f'{100 * value:.1f}' for value in test)} | {100 * statistics.mean(validation):.1f}% | "
            f"{statistics.mean(wall):.0f} ({max(wall):.0f}) | {statistics.mean(cpu):.0f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
