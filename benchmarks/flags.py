"""What do lengths and resets cost, compared with the same call without them?

    python benchmarks/flags.py [--json FILE]

Forward pass and training (gradients of all parameters and of the inputs), float32; the variants take turns in one run,
and the plain call runs twice, as a control of the noise. The lengths are all T, so that no step is saved. Prints
medians in ms, and the median of the ratios to the plain call of the same round.
"""

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import record

from lstmjax import explain_backend, init_params, lstm
from lstmjax.bench import take_turns

BATCH, STEPS, INPUTS, HIDDEN = 32, 100, 5, 256
FLAGGED = 0.02  # of the steps


def variants() -> dict[str, dict]:
    """Return the arguments of each variant."""
    keys = jax.random.split(jax.random.key(2), 3)
    resets = jax.random.bernoulli(keys[0], FLAGGED, (BATCH, STEPS))
    lengths = jnp.full(BATCH, STEPS)
    start = tuple(jax.random.normal(key, (BATCH, HIDDEN)) for key in keys[1:])
    return {
        "plain": {},
        "plain again": {},
        "lengths": {"lengths": lengths},
        "mask, 2% off": {"mask": ~resets},
        "resets": {"resets": resets},
        "resets to a state": {"resets": resets, "reset_state": start},
        "lengths, resets": {"lengths": lengths, "resets": resets},
    }


def program(mode: str) -> Callable:
    """Return the jitted forward pass or gradient, as a function of parameters, inputs and flags."""

    def outputs(params, xs, flags):
        return lstm(params, xs, **flags)[1]

    def loss(params, xs, flags):
        return jnp.sum(outputs(params, xs, flags) ** 2)

    return jax.jit(outputs if mode == "forward" else jax.grad(loss, argnums=(0, 1)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--json", type=Path, metavar="FILE", help="file to write the table to, as page.py reads it")
    file = parser.parse_args().json
    params = init_params(jax.random.key(0), INPUTS, HIDDEN)
    xs = jax.random.normal(jax.random.key(1), (BATCH, STEPS, INPUTS))
    print(f"jax {jax.__version__}, {jax.devices()[0].device_kind}, {jax.device_count()} device(s)")
    print(
        f"B{BATCH} T{STEPS} I{INPUTS} H{HIDDEN}, {FLAGGED:.0%} of the steps flagged; {explain_backend(params, xs).name}"
    )
    rows = []
    for mode in ("forward", "training"):
        run = program(mode)
        calls = {name: partial(run, params, xs, flags) for name, flags in variants().items()}
        times = take_turns({name: lambda call=call: jax.block_until_ready(call()) for name, call in calls.items()})
        for name, seconds in times.items():
            rows.append([mode, name, 1e3 * float(np.median(seconds)), float(np.median(seconds / times["plain"]))])
            print("{:<9} {:<18}{:9.2f}{:7.2f}".format(*rows[-1]), flush=True)
    if file is not None:
        columns = "mode", f"B{BATCH} T{STEPS} I{INPUTS} H{HIDDEN}", "ms", "over plain"
        record.write(file, "python benchmarks/flags.py", columns, (0, 0, 2, 2), rows)


if __name__ == "__main__":
    main()
