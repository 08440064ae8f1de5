"""How long does a step take on N devices? Measure its parts with two processes, and predict 1 to 1,024 devices.

    python benchmarks/scaling.py --json measured.json
    python benchmarks/scaling.py --read measured.json --record benchmarks/results/scaling.json

Two processes, pinned to a core each, measure medians: the step of one device by its batch, the addition of flat arrays
over both (Gloo), the input of a batch, and the step of both, with which the model is compared (T 100, I 5, H 256).
The model: step(N) = max(compute(b), input) + wait(N) + reduction(N), with compute(b) = fixed + b · each for b sequences
on a device, wait(N) = spread · the expected largest of N standard normal numbers, as all wait for the slowest, and
reduction(N) = 2 · ceil(log2 N) · latency + 2 · (N − 1) / N · bytes / bandwidth. The benchmark waits for each step, so
that there input comes on top; in training it overlaps.
"""

import argparse
import json
import math
import os
import platform
import socket
import subprocess
import sys
import time
from pathlib import Path
from statistics import NormalDist, mean, median

import record

T, I, H, O = 100, 5, 256, 10
ROUNDS = 25
BATCHES = (8, 16, 32)
SIZES = (1_000, 270_870, 2_000_000)  # numbers; the second are those of the gradient
COUNTS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
NETWORKS = {  # latency in s of a message, bytes a second of a device: assumptions, not measured here
    "ethernet 10 Gbit/s": (30e-6, 1.25e9),
    "infiniband 400 Gbit/s": (5e-6, 50e9),
}
SPREAD = 0.01  # of the time that accelerators compute: an assumption
ACCELERATOR = (2e-3, 2e-6)  # s fixed and s a sequence of a step: an assumption, not measured here


def worker(address, index):
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[index % len(cores)]})
    import jax
    import numpy as np
    from jax.experimental import multihost_utils

    from lstmjax.config import parse_config
    from lstmjax.data import About, Sequences, batch
    from lstmjax.launch import Hosts
    from lstmjax.training import make_mesh
    from lstmjax.training.hosts import join
    from lstmjax.training.recipe import first_state, recipe_of, run_key, train_step_of
    from lstmjax.training.shards import placed_batch

    join(Hosts(address, 2, index))
    config = parse_config({"model": {"hidden_size": H}, "steps": 100})
    blank = {"offset": (0.0,) * I, "scale": (1.0,) * I, "features": None, "fingerprint": 0}
    about = About(input_size=I, output_size=O, per_step=False, classes=tuple(map(str, range(O))), **blank)
    recipe = recipe_of(config, about, steps=100)
    rng = np.random.default_rng(0)
    data = Sequences(rng.normal(size=(512, T, I)).astype(np.float32), rng.integers(O, size=512))
    key = run_key(0)

    def stepping(mesh, count):
        state = [first_state(jax.random.key(0), recipe=recipe, about=about)]
        step, rows = train_step_of(recipe, mesh), batch(data, count, seed=0, step=0)

        def run():
            state[0], info = step(state[0], rows, key)
            return info.loss

        return run

    mesh = make_mesh("auto")
    rows = jax.NamedSharding(mesh, jax.P("data"))
    add = jax.jit(
        jax.shard_map(lambda a: jax.lax.psum(a, "data"), mesh=mesh, in_specs=jax.P("data"), out_specs=jax.P())
    )
    ones = {
        size: jax.make_array_from_process_local_data(rows, np.ones((1, size), np.float32), (2, size)) for size in SIZES
    }
    calls = {("step", count): stepping(None, count) for count in BATCHES}
    calls |= {("both", 2 * count): stepping(mesh, 2 * count) for count in BATCHES}
    calls |= {("reduction", size): lambda size=size: add(ones[size]) for size in SIZES}
    calls["input", 64] = lambda: placed_batch(batch(data, 64, seed=0, step=0), mesh)
    times = {name: [] for name in calls}
    for _ in range(ROUNDS + 1):
        for name, run in calls.items():
            jax.block_until_ready(add(ones[SIZES[0]]))  # both processes are here
            began = time.perf_counter()
            jax.block_until_ready(run())
            times[name].append(time.perf_counter() - began)
    result = {"spread": {}}
    for name in [name for name in calls if name[0] == "step"]:
        both = np.asarray(multihost_utils.process_allgather(np.asarray(times[name][1:])))
        result["spread"][name[1]] = float(np.median(both.max(axis=0) - both.mean(axis=0)) / expected_largest(2))
    for (kind, count), seconds in times.items():
        result.setdefault(kind, {})[count] = median(seconds[1:])  # the first one compiles
    result["versions"] = {"jax": jax.__version__, "python": platform.python_version(), "machine": platform.machine()}
    if index == 0:
        print("RESULT" + json.dumps(result), flush=True)
    jax.distributed.shutdown()


def line(points):
    """Least squares of y = a + b·x through points {x: y}, a not below 0."""
    xs, ys = list(map(float, points)), list(points.values())
    mean_x, mean_y = sum(xs) / len(xs), sum(ys) / len(ys)
    slope = sum((x - mean_x) * (y - mean_y) for x, y in zip(xs, ys, strict=True)) / sum((x - mean_x) ** 2 for x in xs)
    return max(mean_y - slope * mean_x, 0.0), slope


def reduction(count, size, latency, bandwidth):
    """Seconds to add up `size` bytes over `count` devices."""
    return 2 * math.ceil(math.log2(count)) * latency + 2 * (count - 1) / count * size / bandwidth


def expected_largest(count):
    """The expected value of the largest of so many standard normal numbers (Blom 1958)."""
    return NormalDist().inv_cdf((count - 0.375) / (count + 0.25)) if count > 1 else 0.0


def step_time(count, sequences, compute, network, size, spread=0.0):
    """Seconds of a step with so many sequences on each device; spread is a part of the time that they compute."""
    fixed, each = compute
    computing = fixed + each * sequences
    return computing * (1 + spread * expected_largest(count)) + reduction(count, size, *network)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--json", type=Path)
    parser.add_argument("--worker", nargs=2)
    parser.add_argument("--read", type=Path, help="predict from an earlier measurement, or from a record of one")
    parser.add_argument("--record", type=Path)
    options = parser.parse_args()
    if options.worker:
        worker(options.worker[0], int(options.worker[1]))
        return
    if options.read:
        result = json.loads(options.read.read_text())
        result = result.get("measured", result)
    else:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{probe.getsockname()[1]}"
        command = [sys.executable, __file__, "--worker", address]
        second = subprocess.Popen([*command, "1"], stdout=subprocess.DEVNULL)
        first = subprocess.run([*command, "0"], stdout=subprocess.PIPE, text=True, check=True)
        second.wait()
        [text] = [word for word in first.stdout.splitlines() if word.startswith("RESULT")]
        result = json.loads(text.removeprefix("RESULT"))
        if options.json:
            options.json.write_text(json.dumps(result, indent=1) + "\n")
    compute = line(result["step"])
    constant, per_number = line(result["reduction"])
    size = 4 * SIZES[1]
    [feeding] = result["input"].values()
    spread = mean(result["spread"][count] / result["step"][count] for count in result["step"])
    network = constant / 2, 4 / per_number  # of two devices: 2 messages of latency; each moves its bytes once
    print(result["versions"])
    print(f"compute: {compute[0] * 1e3:.2f} ms + {compute[1] * 1e3:.3f} ms a sequence")
    print(f"reduction: {network[0] * 1e6:.0f} us a message, {network[1] / 1e9:.2f} GB/s; input {feeding * 1e3:.2f} ms")
    print(f"spread of a step: {100 * spread:.1f}% of it")
    rows = [[f"one device, b {n}", 1e3 * seconds, 1e3 * step_time(1, int(n), compute, network, size)]
            for n, seconds in result["step"].items()]  # fmt: skip
    for text, seconds in result["both"].items():
        predicted = step_time(2, int(text) / 2, compute, network, size, spread) + feeding
        rows.append([f"two processes, batch {text}", 1e3 * seconds, 1e3 * predicted])
        print(f"two processes, batch {text}: {seconds * 1e3:.1f} ms, predicted {predicted * 1e3:.1f} ms")
    for numbers, seconds in result["reduction"].items():
        predicted = reduction(2, 4 * int(numbers), *network)
        rows.append([f"reduction of {int(numbers):,} numbers", 1e3 * seconds, 1e3 * predicted])
    if options.record is not None:
        command = "python benchmarks/scaling.py"
        record.write(options.record, command, ("what", "measured, ms", "predicted, ms"), (0, 1, 1), rows)
        tree = json.loads(options.record.read_text()) | {"measured": result}
        options.record.write_text(json.dumps(tree, indent=1) + "\n", encoding="utf-8")
    cases = {"these cores, b 32": (32, compute, network, spread)}
    for name, other in NETWORKS.items():
        cases |= {f"accelerator, {name}, b {b}": (b, ACCELERATOR, other, SPREAD) for b in (32, 1024)}
    print("efficiency with b sequences a device (weak scaling)", *COUNTS)
    for name, (b, *parts, part) in cases.items():
        alone = step_time(1, b, *parts, size)
        print(name, *(f"{100 * alone / step_time(n, b, *parts, size, part):.0f}" for n in COUNTS))
    print("speed-up of a batch of 1,024 (strong scaling)", *COUNTS)
    for name, (b, *parts, part) in cases.items():
        if b == 32:
            alone = step_time(1, 1024, *parts, size)
            print(name, *(f"{alone / step_time(n, 1024 / n, *parts, size, part):.1f}" for n in COUNTS))


if __name__ == "__main__":
    main()
