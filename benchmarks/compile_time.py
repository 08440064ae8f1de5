"""Does the time to compile depend on the number of steps, and how long does a first call take?

    python benchmarks/compile_time.py

Training (gradients of all parameters and of the inputs) at B = 32, I = 5, H = 256, float32, for each backend: seconds
to trace and lower and to compile at T = 10 and T = 1,000, medians of several turns with JAX' caches cleared before
each, and the first call of all in this process, which also starts JAX' compiler.
"""

import time

import jax
import jax.numpy as jnp
import numpy as np

from lstmjax import init_params, lstm
from lstmjax.bench import take_turns

BACKENDS, STEPS, TURNS = ("scan", "fused"), (10, 1000), 7


def main() -> None:
    print(f"jax {jax.__version__}, {jax.devices()[0].device_kind}, {jax.device_count()} device(s)")
    params = init_params(jax.random.key(0), 5, 256)

    def lowered(backend, steps):
        xs = jax.ShapeDtypeStruct((32, steps, 5), jnp.float32)
        gradient = jax.grad(lambda params, xs: jnp.sum(lstm(params, xs, backend=backend)[1] ** 2), argnums=(0, 1))
        jax.clear_caches()
        return jax.jit(gradient).lower(params, xs)

    start = time.perf_counter()
    xs = jnp.zeros((32, 100, 5))
    jax.block_until_ready(jax.jit(jax.grad(lambda params: jnp.sum(lstm(params, xs)[1] ** 2)))(params))
    print(f"first call: {time.perf_counter() - start:.2f} s")

    cases = [(backend, steps) for backend in BACKENDS for steps in STEPS]
    traced = take_turns({case: lambda case=case: lowered(*case) for case in cases}, rounds=TURNS)
    both = take_turns({case: lambda case=case: lowered(*case).compile() for case in cases}, rounds=TURNS)
    for backend in BACKENDS:
        few, many = ((backend, steps) for steps in STEPS)
        for steps, case in zip(STEPS, (few, many), strict=True):
            whole = np.median(both[case])
            print(f"{backend:<8} T = {steps:<6} trace {np.median(traced[case]):.2f} s, with compiling {whole:.2f} s")
        print(f"{backend:<8} T = {STEPS[1]} over T = {STEPS[0]}: {np.median(both[many] / both[few]):.2f}")


if __name__ == "__main__":
    main()
