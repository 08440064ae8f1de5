"""What does computing in bfloat16 or float16 cost, and how large is its error, compared with float32?

    python benchmarks/precision.py

Training (gradients of all parameters and of the inputs) with float32 parameters and inputs; `dtype=` sets the products
to half precision and leaves pre-activations, gates and c in float32. Prints medians in ms, the median of the ratios to
`fused` in float32 of the same round (below 1: faster), MB of temporaries, and the largest error of the outputs and of
any array of gradients, as a share of its largest number, against `scan` in float64.
"""

import jax
import jax.numpy as jnp
import numpy as np

from lstmjax import init_params, lstm
from lstmjax.bench import take_turns

SHAPES = {"A": (32, 100, 5, 256), "B": (16, 1000, 8, 64), "C": (64, 128, 128, 512)}  # B T I H
WAYS = tuple((dtype, backend) for dtype in ("float32", "bfloat16", "float16") for backend in ("fused", "scan"))


def program(dtype, backend):
    def training(params, xs, weights):
        def loss(params, xs):
            ys = lstm(params, xs, dtype=dtype, backend=backend)[1]
            return jnp.sum(ys * weights), ys

        slopes, ys = jax.grad(loss, argnums=(0, 1), has_aux=True)(params, xs)
        return ys, slopes

    return jax.jit(training)


def error(arrays, exact):
    """Return the largest error of any array, as a share of its largest number."""
    pairs = zip(jax.tree.leaves(arrays), jax.tree.leaves(exact), strict=True)
    return max(np.abs(np.asarray(a, "float64") - b).max() / np.abs(b).max() for a, b in pairs)


def main() -> None:
    print(f"jax {jax.__version__}, {jax.devices()[0].device_kind}, {jax.device_count()} device(s)")
    print(f"{'':<20}{'ms':>9}{'ratio':>7}{'MB':>8}{'outputs':>10}{'gradients':>11}")
    for point, (batch, steps, inputs, hidden) in SHAPES.items():
        arguments = (
            init_params(jax.random.key(0), inputs, hidden),
            jax.random.normal(jax.random.key(1), (batch, steps, inputs)),
            jax.random.normal(jax.random.key(2), (batch, steps, hidden)),
        )
        programs = {way: program(*way).lower(*arguments).compile() for way in WAYS}
        results = {way: jax.device_get(run(*arguments)) for way, run in programs.items()}
        jax.config.update("jax_enable_x64", True)
        exact = jax.device_get(program("float64", "scan")(*jax.tree.map(lambda a: a.astype("float64"), arguments)))
        jax.config.update("jax_enable_x64", False)
        calls = {
            way: lambda run=run, arguments=arguments: jax.block_until_ready(run(*arguments))
            for way, run in programs.items()
        }
        times = take_turns(calls, seconds=10)
        for way, seconds in times.items():
            ratio = np.median(seconds / times["float32", "fused"])
            memory = programs[way].memory_analysis().temp_size_in_bytes / 1e6
            errors = [error(arrays, reference) for arrays, reference in zip(results[way], exact, strict=True)]
            print(
                f"{point} {way[0]:<9} {way[1]:<7} {1e3 * np.median(seconds):9.2f}{ratio:7.2f}{memory:8.1f}"
                f"{errors[0]:10.1e}{errors[1]:11.1e}",
                flush=True,
            )


if __name__ == "__main__":
    main()
