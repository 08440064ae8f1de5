"""What does a layer cost that is written for one sequence and vmapped over examples, compared with the batched call?

    python benchmarks/vmapped.py

Training (gradients of all parameters and of the inputs), float32. The batched call runs twice, as a control of the
noise. Prints medians in ms, the median of the ratios to the batched call of the same round, and MB of temporaries.
"""

import jax
import jax.numpy as jnp
import numpy as np

from lstmjax import init_params, lstm
from lstmjax.bench import take_turns

SHAPES = {"A": (32, 100, 5, 256), "B": (16, 1000, 8, 64), "C": (64, 128, 128, 512), "E": (32, 10, 64, 32),
          "wide": (16, 50, 64, 1024)}  # B T I H  # fmt: skip


def main() -> None:
    print(f"jax {jax.__version__}, {jax.devices()[0].device_kind}, {jax.device_count()} device(s)")
    for point, (batch, steps, inputs, hidden) in SHAPES.items():
        params = init_params(jax.random.key(0), inputs, hidden)
        xs = jax.random.normal(jax.random.key(1), (batch, steps, inputs))
        weights = jax.random.normal(jax.random.key(2), (batch, steps, hidden))

        def layer(params, xs):
            return lstm(params, xs)[1]

        def compiled(layer, params=params, xs=xs, weights=weights):
            gradient = jax.grad(lambda params, xs: jnp.sum(layer(params, xs) * weights), argnums=(0, 1))
            return jax.jit(gradient).lower(params, xs).compile()

        programs = {"batched": compiled(layer), "vmapped": compiled(jax.vmap(layer, (None, 0)))}
        programs["batched again"] = programs["batched"]
        calls = {
            name: lambda run=run, params=params, xs=xs: jax.block_until_ready(run(params, xs))
            for name, run in programs.items()
        }
        times = take_turns(calls, seconds=6)
        for name, seconds in times.items():
            memory = programs[name].memory_analysis().temp_size_in_bytes / 1e6
            ratio = np.median(seconds / times["batched"])
            print(f"{point} {name:<14} {1e3 * np.median(seconds):9.2f} ms ({ratio:.2f}) {memory:8.1f} MB", flush=True)


if __name__ == "__main__":
    main()
