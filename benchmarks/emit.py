"""What does it cost to return c_t, or everything, at every step, compared with h alone?

    python benchmarks/emit.py [--json FILE]

Forward pass, float32; the variants take turns in one run, h runs twice, as a control of the noise. "fields" is a trace
of the gates, c and h, and "step" has m and the pre-activations, too; both run as `auto` chooses, by the scan and in
place.
Prints medians in ms, and the median of the ratios to h of the same round.
"""

import argparse
from functools import partial
from pathlib import Path

import jax
import numpy as np
import record

from lstmjax import init_params, lstm, trace
from lstmjax.bench import take_turns

SHAPES = {"A": (32, 100, 5, 256), "B": (16, 1000, 8, 64), "C": (64, 128, 128, 512), "D": (1, 100, 5, 256)}  # B T I H
FIELDS = ("i", "f", "g", "o", "c", "h")
VARIANTS = {
    "h": lstm,
    "h again": lstm,
    "c": partial(lstm, emit="c"),
    "fields": partial(trace, fields=FIELDS),
    "fields, scan": partial(trace, fields=FIELDS, backend="scan"),
    "fields, inplace": partial(trace, fields=FIELDS, backend="inplace"),
    "step": partial(lstm, emit="step"),
    "step, scan": partial(lstm, emit="step", backend="scan"),
    "step, inplace": partial(lstm, emit="step", backend="inplace"),
}


def seconds(calls: dict) -> dict:
    """Time each jitted call in each round, warmed up and taking turns."""
    turns = {name: lambda call=call: jax.block_until_ready(call()) for name, call in calls.items()}
    return take_turns(turns, seconds=4)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--json", type=Path, metavar="FILE", help="file to write the table to, as page.py reads it")
    file = parser.parse_args().json
    print(f"jax {jax.__version__}, {jax.devices()[0].device_kind}, {jax.device_count()} device(s)")
    rows = []
    for point, (batch, steps, inputs, hidden) in SHAPES.items():
        params = init_params(jax.random.key(0), inputs, hidden)
        xs = jax.random.normal(jax.random.key(1), (batch, steps, inputs))
        times = seconds({name: partial(jax.jit(partial(run, params)), xs) for name, run in VARIANTS.items()})
        for name, of_one in times.items():
            ratio = float(np.median(of_one / times["h"]))
            rows.append([f"{point} B{batch} T{steps} I{inputs} H{hidden}", name, 1e3 * float(np.median(of_one)), ratio])
            print("{:<22}{:<16}{:9.2f}{:7.2f}".format(*rows[-1]), flush=True)
    if file is not None:
        record.write(file, "python benchmarks/emit.py", ("point", "returns", "ms", "over h"), (0, 0, 2, 2), rows)


if __name__ == "__main__":
    main()
