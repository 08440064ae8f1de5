"""How much slower does a layer become when other processes want the processors, beside PyTorch under the same load?

    python benchmarks/busy.py                     # --json FILE for a record; --load 4 for more busy processes

First everybody takes turns on the machine as it is, then beside processes that compute without a pause, as many as
there are CPUs. The slowdown is the median under load over the median before; ours over that of PyTorch is the last
column. Start it on an idle machine.
"""

import argparse
import subprocess
import sys
from pathlib import Path

import numpy as np
from record import write

from lstmjax.bench import ALL, POINTS, take_turns
from lstmjax.bench.points import MODES, make_job
from lstmjax.frameworks.base.running import as_users_have_it, cpus

NAMES = ("lstmjax auto", "lstmjax scan", "PyTorch")
SPIN = "n = 0\nwhile True: n += 1"


def main(points: list[str], load: int, seconds: float, path: Path | None) -> None:
    rows = []
    print(f"{'point':6}{'mode':10}{'network':14}{'quiet, ms':>11}{'busy, ms':>11}{'slowdown':>10}{'of PyTorch':>12}")
    for point in points:
        for mode in MODES:
            with as_users_have_it():
                job = make_job(POINTS[point], mode, "float32")
                calls = {name: ALL[name].build(job).call for name in NAMES}
                quiet = take_turns(calls, seconds=seconds)
                spinning = [subprocess.Popen([sys.executable, "-c", SPIN]) for _ in range(load)]
                try:
                    busy = take_turns(calls, seconds=seconds)
                finally:
                    for process in spinning:
                        process.kill()
                        process.wait()
            slowdowns = {name: float(np.median(busy[name]) / np.median(quiet[name])) for name in NAMES}
            for name in NAMES:
                times = [1e3 * float(np.median(each[name])) for each in (quiet, busy)]
                row = [point, mode, name, *times, slowdowns[name], slowdowns[name] / slowdowns["PyTorch"]]
                rows.append(row)
                print(
                    f"{point:6}{mode:10}{name:14}{row[3]:11.3f}{row[4]:11.3f}{row[5]:10.2f}{row[6]:12.2f}", flush=True
                )
    if path is not None:
        columns = ("point", "mode", "network", "quiet, ms", "busy, ms", "slowdown", "over PyTorch's")
        command = f"python benchmarks/busy.py --points {','.join(points)} --load {load} --seconds {seconds:g}"
        write(path, command, columns, (0, 0, 0, 2, 2, 2, 2), rows)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--points", default="A,B,E,F")
    parser.add_argument("--load", type=int, default=cpus(), help="busy processes; default: one for each CPU")
    parser.add_argument(
        "--seconds", type=float, default=2.0, help="for each point and mode, quiet and under load alike"
    )
    parser.add_argument("--json", type=Path, default=None)
    options = parser.parse_args()
    main(options.points.split(","), options.load, options.seconds, options.json)
