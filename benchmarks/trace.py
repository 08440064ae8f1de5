"""What does it cost to return every gate at every step, compared with the forward pass that returns h only?

    python benchmarks/trace.py

Forward pass, float32; the variants take turns in one run, h runs twice, as a control of the noise. Prints medians in
ms, and the median of the ratios to h of the same round.
"""

from functools import partial

import jax
import numpy as np
from emit import SHAPES, seconds

from lstmjax import init_params, lstm
from lstmjax.inside import trace

GATES = ("i", "f", "g", "o", "c", "h")
FIELDS = {"f": ("f",), "gates": GATES, "all": ("z_i", "z_f", "z_g", "z_o", *GATES)}


def main() -> None:
    print(f"jax {jax.__version__}, {jax.devices()[0].device_kind}, {jax.device_count()} device(s)")
    names = ("h", "h again", *FIELDS, "mean of f")
    print("point  B T I H            " + "".join(f"{name:>18}" for name in names))
    for point, (batch, steps, inputs, hidden) in SHAPES.items():
        params = init_params(jax.random.key(0), inputs, hidden)
        xs = jax.random.normal(jax.random.key(1), (batch, steps, inputs))
        calls = {name: partial(jax.jit(partial(lstm, params)), xs) for name in ("h", "h again")}
        for name, fields in FIELDS.items():
            calls[name] = partial(jax.jit(partial(trace, params, fields=fields)), xs)
        calls["mean of f"] = partial(jax.jit(partial(trace, params, reduce=lambda step: step.f)), xs)
        times = seconds(calls)
        cells = (f"{1e3 * np.median(s):>10.2f} ({np.median(s / times['h']):.2f})" for s in times.values())
        print(f"{point:<6} {batch} {steps} {inputs} {hidden}".ljust(24) + "".join(cells), flush=True)


if __name__ == "__main__":
    main()
