"""What does a long sequence cost, in time and in memory, with segments that are computed again?

    python benchmarks/long_sequences.py [--picture PATH] [--seconds 60]

Training: the gradient of parameters and inputs, float32, B = 8, I = H = 256, of a loss on the last state and of one on
all outputs. Memory is the size of temporaries that the compiled program states, beyond inputs and gradients. The
variants take turns in one run; no segments stand twice, as a control of the noise. What would take longer than
`--seconds` in all, or more than half of the machine's memory, is not run, and its memory printed alone. Prints medians
in µs a step, and their ratios to no segments.
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


def gradient(params, xs, checkpoint, keep):
    def loss(params, xs):
        return jnp.square(lstm(params, xs, checkpoint=checkpoint, return_sequences=keep)[1]).mean()

    return jax.grad(loss, (0, 1))(params, xs)


def compiled(steps: int, checkpoint, keep: bool):
    """Gives the program, its temporaries in bytes, and the seconds of compiling it."""
    params = jax.eval_shape(lambda: init_params(jax.random.key(0), SIZE, SIZE))
    xs = jax.ShapeDtypeStruct((BATCH, steps, SIZE), jnp.float32)
    lowered = jax.jit(partial(gradient, checkpoint=checkpoint, keep=keep)).lower(params, xs)
    start = time.perf_counter()
    program = lowered.compile()
    return program, program.memory_analysis().temp_size_in_bytes, time.perf_counter() - start


def seconds(programs: dict, steps: int, rounds: int) -> dict:
    """Gives the median seconds of each program, warmed up and taking turns; the gradients are compared before."""
    params = init_params(jax.random.key(0), SIZE, SIZE)
    xs = jax.random.normal(jax.random.key(1), (BATCH, steps, SIZE))
    first = None
    for program in programs.values():
        found = jax.tree.map(lambda a: np.asarray(a[..., :8]), program(params, xs))
        first = first or found
        for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(first), strict=True):
            assert np.abs(a - b).max() <= 1e-4 * np.abs(b).max()
    taken: dict = {name: [] for name in programs}
    for _ in range(rounds):
        for name, program in programs.items():
            start = time.perf_counter()
            jax.block_until_ready(program(params, xs))
            taken[name].append(time.perf_counter() - start)
    return {name: float(np.median(values)) for name, values in taken.items()}


def measure(budget: float, rounds: int) -> list[dict]:
    """Gives a record for each loss, number of steps and segment length."""
    room = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2
    records, per_step, spent = [], 400e-6, 0.0
    for steps in STEPS:
        for what, keep in LOSSES.items():
            made = {name: compiled(steps, checkpoint, keep) for name, checkpoint in SEGMENTS.items()}
            fits = {name: p for name, (p, memory, _) in made.items() if memory + 2.5 * steps * BATCH * SIZE * 4 < room}
            expected = steps * per_step * len(fits) * (rounds + 1)
            found = {}
            if spent + expected < budget:
                start = time.perf_counter()
                found = seconds(fits, steps, rounds)
                taken = time.perf_counter() - start
                spent, per_step = spent + taken, taken / (steps * len(fits) * (rounds + 1))
            for name, (_, memory, compiling) in made.items():
                record = {"loss": what, "steps": steps, "segments": name, "bytes": memory, "compile": compiling}
                records.append(record | {"seconds": found.get(name)})
                print(row(record | {"seconds": found.get(name)}, found.get("none")), flush=True)
    return records


def row(record: dict, base: float | None) -> str:
    taken = record["seconds"]
    time_of = "" if taken is None else f"{1e6 * taken / record['steps']:>10.0f}{taken / base:>8.2f}" if base else ""
    return (
        f"{record['loss']:<16}{record['steps']:>8}  {record['segments']:<12}{record['bytes'] / 1e6:>10.1f}"
        f"{record['compile']:>9.1f}{time_of}"
    )


def draw(records: list[dict], path: Path) -> None:
    """Draws memory over T for both losses, and time against memory where it was measured."""
    figure = sheet(11, 3.6)
    left, middle, right = figure.subplots(1, 3)
    names = [name for name in SEGMENTS if name != "none again"]
    for axes, what in ((left, "the last state"), (middle, "all outputs")):
        for name, colour in zip(names, LINES, strict=False):
            own = [r for r in records if r["loss"] == what and r["segments"] == name]
            axes.loglog(
                [r["steps"] for r in own], [r["bytes"] / 1e6 for r in own], "o-", color=colour, label=name, ms=3
            )
        axes.set(xlabel="steps T", ylabel="temporaries, MB", title=f"loss on {what}")
    left.legend(title="checkpoint", frameon=False, fontsize=8)
    for name, colour in zip(names, LINES, strict=False):
        own = [r for r in records if r["loss"] == "the last state" and r["segments"] == name and r["seconds"]]
        at = [(r["bytes"] / 1e6, 1e6 * r["seconds"] / r["steps"]) for r in own]
        right.semilogx([m for m, _ in at], [t for _, t in at], "o-", color=colour, ms=3)
        for record, (memory, taken) in zip(own, at, strict=True):
            right.annotate(
                f"{record['steps']:,}", (memory, taken), fontsize=6, xytext=(2, 3), textcoords="offset points"
            )
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
    parser.add_argument("--seconds", type=float, default=60, help="for all that is run")
    parser.add_argument("--rounds", type=int, default=3, help="how often each program is timed")
    given = parser.parse_args()
    print(f"jax {jax.__version__}, {jax.devices()[0].device_kind}, {jax.device_count()} device(s)")
    print("loss on                T  checkpoint          MB  compile s  µs a step  to none")
    records = measure(given.seconds, given.rounds)
    if given.picture:
        draw(records, given.picture)


if __name__ == "__main__":
    main()
