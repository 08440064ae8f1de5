"""How long until lstmjax can be used, compared with JAX alone?

    python benchmarks/import_time.py

Each line is a new process, timed from its start to its end; they take turns. Prints medians in seconds.
"""

import subprocess
import sys
import time

import numpy as np

STARTS = {
    "python alone": "pass",
    "import jax": "import jax",
    "import lstmjax": "import lstmjax",
    "import lstmjax, and use it": "import lstmjax; lstmjax.lstm",
    "lstmjax --help": "from lstmjax.cli import main; main(['--help'])",
    "import lstmjax.nnx": "import lstmjax.nnx",
    "import lstmjax.training": "import lstmjax.training",
}
ROUNDS = 7


def main() -> None:
    times: dict[str, list[float]] = {name: [] for name in STARTS}
    for _ in range(ROUNDS):
        for name, code in STARTS.items():
            start = time.perf_counter()
            subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
            times[name].append(time.perf_counter() - start)
    for name, seconds in times.items():
        print(f"{name:<28}{np.median(seconds):6.2f} s")


if __name__ == "__main__":
    main()
