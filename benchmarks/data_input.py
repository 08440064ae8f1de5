"""What does the input of a training step cost?

    python benchmarks/data_input.py

At B32 T100 I5 H256, with the training step of `lstmjax train`: the time of a step on one batch that is in the memory
already, and what drawing each batch adds to it (from the memory and from the disk, when it is asked for and ahead in a
thread). Beside these the time to draw a batch alone. Steps of all ways in turns; medians, and ratios to the bare step;
the last row is the bare step once more, which shows the noise.
"""

import statistics
import tempfile
import time
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from lstmjax.config import parse_config
from lstmjax.data import Ahead, batch
from lstmjax.training import loop
from lstmjax.training.step import first_state, train_step

B, T, I, H, COUNT, ROUNDS, STEPS = 32, 100, 5, 256, 20_000, 15, 20


def main() -> None:
    print(f"jax {jax.__version__}, {jax.devices()[0].device_kind}, {jax.device_count()} device(s)")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.npz"
        random = np.random.default_rng(0)
        np.savez(path, x=random.normal(size=(COUNT, T, I)).astype(np.float32), y=random.integers(0, 2, COUNT))
        parts, plans = {}, {}
        for where, stream in (("memory", False), ("disk", True)):
            data = {"source": str(path), "stream": stream}
            config = parse_config({"data": data, "model": {"hidden_size": H}, "batch_size": B, "steps": 10_000})
            plans[where] = loop.new_plan(config)
            parts[where] = plans[where].parts.train
        plan, key = plans["memory"], jax.random.key(0)
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
            print(f"a batch from the {where} alone: {1e6 * (time.perf_counter() - start) / 200:.0f} µs")
        times: dict[str, list[float]] = {name: [] for name in ways}
        states = {name: first_state(key, recipe=plan.recipe, about=plan.about) for name in ways}
        counts = dict.fromkeys(ways, 0)
        for round_ in range(ROUNDS + 1):
            for name, draw in ways.items():
                state, bad = states[name], jnp.zeros((), jnp.int32)
                start = time.perf_counter()
                for _ in range(STEPS):
                    rows = draw(seed=0, step=counts[name])
                    state, bad, _ = train_step(state, bad, rows, key, recipe=plan.recipe)
                    counts[name] += 1
                jax.block_until_ready(state)
                states[name] = state
                if round_:
                    times[name].append((time.perf_counter() - start) / STEPS)
        bare = times["bare step"]
        for name, own in times.items():
            ratios = [one / other for one, other in zip(own, bare, strict=True)]
            print(
                f"{name:28} {1e3 * statistics.median(own):7.2f} ms   {statistics.median(ratios):.3f} of the bare step"
            )


if __name__ == "__main__":
    main()
