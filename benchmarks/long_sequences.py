"""What does a long sequence cost, in time and in memory, with segments that are recomputed?

    python benchmarks/long_sequences.py [--picture PATH] [--seconds 60]

Training: the gradient of parameters and inputs, float32, B = 8, I = H = 256, of a loss on the last state and of one on
all outputs. Memory is the size of temporaries that the compiled program states, beyond inputs and gradients. The
variants take turns in one run; the one without segments runs twice, as a control of the noise. Programs that would
take longer than `--seconds` in total, or more than half of the machine's memory, are not run: only their memory is
printed. Prints medians in µs a step, and their ratios to no segments.
"""

import argparse
import os
import time
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from lstmjax import init_params, lstm
from lstmjax.plot.sheet import LINES, plain, sheet

BATCH, SIZE = 8, 256
STEPS = (1_000, 3_000, 10_000, 30_000, 100_000)
SEGMENTS = {"none": None, "none again": None, "sqrt": "sqrt", "100": 100}
LOSSES = {"the last state": False, "all outputs": True}


def gradient(params, xs, checkpoint, sequences):
    def loss(params, xs):
        return jnp.square(lstm(params, xs, checkpoint=checkpoint, return_sequences=sequences)[1]).mean()

    return jax.grad(loss, (0, 1))(params, xs)


def compiled(steps: int, checkpoint, sequences: bool):
    """Return the program, its temporaries in bytes, and the seconds of compiling it."""
    params = jax.eval_shape(lambda: init_params(jax.random.key(0), SIZE, SIZE))
    xs = jax.ShapeDtypeStruct((BATCH, steps, SIZE), jnp.float32)
    lowered = jax.jit(partial(gradient, checkpoint=checkpoint, sequences=sequences)).lower(params, xs)
    start = time.perf_counter()
    program = lowered.compile()
    return program, program.memory_analysis().temp_size_in_bytes, time.perf_counter() - start


def seconds(programs: dict, steps: int, rounds: int) -> dict:
    """Return the median seconds of each program, warmed up and taking turns; their gradients are compared first."""
    params = init_params(jax.random.key(0), SIZE, SIZE)
    xs = jax.random.normal(jax.random.key(1), (BATCH, steps, SIZE))
    first = None
    for program in programs.values():
        gradients = jax.tree.map(lambda a: np.asarray(a[..., :8]), program(params, xs))
        first = first or gradients
        for a, b in zip(jax.tree.leaves(gradients), jax.tree.leaves(first), strict=True):
            assert np.abs(a - b).max() <= 1e-4 * np.abs(b).max()
    times: dict = {name: [] for name in programs}
    for _ in range(rounds):
        for name, program in programs.items():
            start = time.perf_counter()
            jax.block_until_ready(program(params, xs))
            times[name].append(time.perf_counter() - start)
    return {name: float(np.median(values)) for name, values in times.items()}


def measure(budget: float, rounds: int) -> list[dict]:
    """Return a record for each loss, number of steps and segment length."""
    limit = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2
    records, per_step, spent = [], 400e-6, 0.0
    for steps in STEPS:
        arrays = 2.5 * steps * BATCH * SIZE * 4  # bytes of inputs and gradients
        for loss, sequences in LOSSES.items():
            programs = {name: compiled(steps, checkpoint, sequences) for name, checkpoint in SEGMENTS.items()}
            fits = {name: program for name, (program, memory, _) in programs.items() if memory + arrays < limit}
            expected = steps * per_step * len(fits) * (rounds + 1)
            medians = {}
            if spent + expected < budget:
                start = time.perf_counter()
                medians = seconds(fits, steps, rounds)
                elapsed = time.perf_counter() - start
                spent, per_step = spent + elapsed, elapsed / (steps * len(fits) * (rounds + 1))
            for name, (_, memory, compiling) in programs.items():
                record = {"loss": loss, "steps": steps, "segments": name, "bytes": memory, "compile": compiling}
                record["seconds"] = medians.get(name)
                records.append(record)
                print(row(record, medians.get("none")), flush=True)
    return records


def row(record: dict, base: float | None) -> str:
    times = ""
    if record["seconds"] is not None and base:
        times = f"{1e6 * record['seconds'] / record['steps']:>10.0f}{record['seconds'] / base:>8.2f}"
    return (
        f"{record['loss']:<16}{record['steps']:>8}  {record['segments']:<12}{record['bytes'] / 1e6:>10.1f}"
        f"{record['compile']:>9.1f}{times}"
    )


def draw(records: list[dict], path: Path) -> None:
    """Draw memory over T for both losses, and time against memory where it was measured."""
    figure = sheet(11, 3.6)
    left, middle, right = figure.subplots(1, 3)
    names = [name for name in SEGMENTS if name != "none again"]
    for axes, loss in ((left, "the last state"), (middle, "all outputs")):
        for name, colour in zip(names, LINES, strict=False):
            curve = [r for r in records if r["loss"] == loss and r["segments"] == name]
            axes.loglog(
                [r["steps"] for r in curve], [r["bytes"] / 1e6 for r in curve], "o-", color=colour, label=name, ms=3
            )
        axes.set(xlabel="steps T", ylabel="temporaries, MB", title=f"loss on {loss}")
    left.legend(title="checkpoint", frameon=False, fontsize=8)
    for name, colour in zip(names, LINES, strict=False):
        curve = [r for r in records if r["loss"] == "the last state" and r["segments"] == name and r["seconds"]]
        megabytes = [r["bytes"] / 1e6 for r in curve]
        microseconds = [1e6 * r["seconds"] / r["steps"] for r in curve]
        right.semilogx(megabytes, microseconds, "o-", color=colour, ms=3)
        for record, x, y in zip(curve, megabytes, microseconds, strict=True):
            right.annotate(f"{record['steps']:,}", (x, y), fontsize=6, xytext=(2, 3), textcoords="offset points")
    right.set(
        xlabel="temporaries, MB", ylabel="time of a step, µs", title="time against memory, loss on the last state"
    )
    right.set_ylim(0, 1.2 * right.get_ylim()[1])
    for axes in (left, middle, right):
        axes.title.set_size(9)
        plain(axes)
    path.write_bytes(figure.png(dpi=130))


def main() -> None:
    parser = argparse.ArgumentParser(description="What does a long sequence cost, in time and in memory?")
    parser.add_argument("--picture", type=Path, help="a PNG file to draw into")
    parser.add_argument("--seconds", type=float, default=60, help="limit of the time of all runs")
    parser.add_argument("--rounds", type=int, default=3, help="how often each program is timed")
    options = parser.parse_args()
    print(f"jax {jax.__version__}, {jax.devices()[0].device_kind}, {jax.device_count()} device(s)")
    print("loss on                T  checkpoint          MB  compile s  µs a step  to none")
    records = measure(options.seconds, options.rounds)
    if options.picture:
        draw(records, options.picture)


if __name__ == "__main__":
    main()
