"""What does it cost to return c_t, or everything, at every step, compared with h alone?

    python benchmarks/emit.py

Forward pass, float32; the variants take turns in one run, h runs twice, as a control of the noise.
Prints medians in ms and ratios to h.
"""

from functools import partial

import jax
import numpy as np

from lstmjax import init_params, lstm
from lstmjax.bench import take_turns

SHAPES = {"A": (32, 100, 5, 256), "B": (16, 1000, 8, 64), "C": (64, 128, 128, 512), "D": (1, 100, 5, 256)}  # B T I H
EMITS = {"h": "h", "h again": "h", "c": "c", "gates": lambda s: (s.i, s.f, s.g, s.o, s.c, s.h), "step": "step"}


def seconds(calls: dict) -> dict:
    """Time each jitted call in each round, warmed up and taking turns."""
    return take_turns({name: lambda call=call: jax.block_until_ready(call()) for name, call in calls.items()})


def main() -> None:
    print(f"jax {jax.__version__}, {jax.devices()[0].device_kind}, {jax.device_count()} device(s)")
    print("point  B T I H            " + "".join(f"{name:>18}" for name in EMITS))
    for point, (batch, steps, inputs, hidden) in SHAPES.items():
        params = init_params(jax.random.key(0), inputs, hidden)
        xs = jax.random.normal(jax.random.key(1), (batch, steps, inputs))
        calls = {name: partial(jax.jit(partial(lstm, params, emit=emit)), xs) for name, emit in EMITS.items()}
        medians = {name: float(np.median(times)) for name, times in seconds(calls).items()}
        cells = "".join(f"{1e3 * s:>10.2f} ({s / medians['h']:.2f})" for s in medians.values())
        print(f"{point:<6} {batch} {steps} {inputs} {hidden}".ljust(24) + cells, flush=True)


if __name__ == "__main__":
    main()
