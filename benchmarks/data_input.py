"""What does the input of a training step cost?

    python benchmarks/data_input.py --record benchmarks/results/FILE.json

At B32 T100 I5 H256, with the training step of `lstmjax train`: the time of a step on one batch that is in the memory
already, and what drawing each batch adds to it (from the memory and from the disk, when it is asked for and ahead in a
thread). Beside these the time to draw a batch alone. Steps of all ways in turns; medians, and ratios to the bare step;
the last row is the bare step once more, which shows the noise.
"""

import argparse
import statistics
import tempfile
import time
from functools import partial
from pathlib import Path

import jax
import numpy as np
import record

from lstmjax.config import parse_config
from lstmjax.data import Ahead, batch
from lstmjax.training.plan import new_plan
from lstmjax.training.recipe import first_state, run_key, train_step_of

B, T, I, H, COUNT, ROUNDS, STEPS = 32, 100, 5, 256, 4_000, 9, 8


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--record", type=Path)
    options = parser.parse_args()
    rows: list[list] = []
    print(f"jax {jax.__version__}, {jax.devices()[0].device_kind}, {jax.device_count()} device(s)")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.npz"
        random = np.random.default_rng(0)
        np.savez(path, x=random.normal(size=(COUNT, T, I)).astype(np.float32), y=random.integers(0, 2, COUNT))
        parts, plans = {}, {}
        for where, stream in (("memory", False), ("disk", True)):
            data = {"source": str(path), "stream": stream}
            config = parse_config({"data": data, "model": {"hidden_size": H}, "batch_size": B, "steps": 10_000})
            plans[where] = new_plan(config)
            parts[where] = plans[where].parts.train
        plan, key = plans["memory"], run_key(0)
        train_step = train_step_of(plan.recipe)
        fixed = batch(parts["memory"], B, seed=0, step=0)
        ways = {"bare step": lambda *, seed, step: fixed}
        for where, part in parts.items():
            ways[f"{where}, when asked for"] = partial(batch, part, B)
            ways[f"{where}, ahead in a thread"] = Ahead(partial(batch, part, B))
        ways["bare step again"] = ways["bare step"]
        for where, part in parts.items():
            start = time.perf_counter()
            for step in range(200):
                batch(part, B, seed=0, step=step)
            seconds = (time.perf_counter() - start) / 200
            rows.append([f"{where}, a batch alone", 1e3 * seconds, None])
            print(f"a batch from the {where} alone: {1e6 * seconds:.0f} µs")
        times: dict[str, list[float]] = {name: [] for name in ways}
        states = {name: first_state(jax.random.key(0), recipe=plan.recipe, about=plan.about) for name in ways}
        counts = dict.fromkeys(ways, 0)
        for round_ in range(ROUNDS + 1):
            turn = round_ % len(ways)
            for name in [*ways][turn:] + [*ways][:turn]:
                draw, state = ways[name], states[name]
                start = time.perf_counter()
                for _ in range(STEPS):
                    state, _ = train_step(state, draw(seed=0, step=counts[name]), key)
                    counts[name] += 1
                jax.block_until_ready(state)
                states[name] = state
                if round_:
                    times[name].append((time.perf_counter() - start) / STEPS)
        bare = times["bare step"]
        for name, own in times.items():
            ratio = statistics.median(one / other for one, other in zip(own, bare, strict=True))
            rows.append([name, 1e3 * statistics.median(own), ratio])
            print(f"{name:28} {1e3 * statistics.median(own):7.2f} ms   {ratio:.3f} of the bare step")
    if options.record is not None:
        columns = ("way", "ms", "over the bare step")
        record.write(options.record, "python benchmarks/data_input.py", columns, (0, 3, 3), rows)


if __name__ == "__main__":
    main()
