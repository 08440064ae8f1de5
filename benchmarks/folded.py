"""When is one product [x, h]·[W_x; W_h] faster than x·W_x + h·W_h?

    python benchmarks/folded.py

Layers on `backend="fused"`, forwards and in training (all gradients), float32: the time with two products over that
with one. Above 1 the single product is faster; a star marks where `fused` has it. Medians of ratios within a round.
"""

import jax
import jax.numpy as jnp
import numpy as np

from lstmjax import init_params, lstm
from lstmjax.backends import cpu
from lstmjax.bench import take_turns

SHAPES = (
    *((batch, 500, 8, hidden) for hidden in (32, 64, 128) for batch in (1, 4, 16, 64)),
    (16, 10, 128, 128), (32, 100, 128, 128), (64, 50, 64, 192), (32, 100, 5, 256), (32, 50, 256, 256),
)  # fmt: skip


def compiled(training, name, decide, params, xs):
    """Compile a layer with `decide` in place of the function of this name in `backends.cpu`."""

    def layer(params, xs):
        return lstm(params, xs, backend="fused")[1]

    f = jax.grad(lambda params, xs: jnp.sum(layer(params, xs) ** 2), (0, 1)) if training else layer
    original = getattr(cpu, name)
    setattr(cpu, name, decide)
    jax.clear_caches()
    try:
        return jax.jit(f).lower(params, xs).compile()
    finally:
        setattr(cpu, name, original)


def main() -> None:
    print(f"jax {jax.__version__}, {jax.devices()[0].device_kind}, {jax.device_count()} device(s)")
    print(f"{'B':>5}{'T':>5}{'I':>5}{'H':>5}{'forward':>10}{'training':>10}")
    for batch, steps, inputs, hidden in SHAPES:
        params = init_params(jax.random.key(0), inputs, hidden)
        xs = jax.random.normal(jax.random.key(1), (batch, steps, inputs))
        cells = []
        for training in (False, True):
            programs = {
                folds: compiled(training, "folds", lambda weights, folds=folds: folds and len(weights) > 1, params, xs)
                for folds in (False, True)
            }
            calls = {
                folds: lambda run=run, params=params, xs=xs: jax.block_until_ready(run(params, xs))
                for folds, run in programs.items()
            }
            times = take_turns(calls, seconds=3)
            cells.append(f"{np.median(times[False] / times[True]):10.2f}")
        mark = " *" if cpu.folds([params.w_x, params.w_h]) else ""
        print(f"{batch:5}{steps:5}{inputs:5}{hidden:5}" + "".join(cells) + mark, flush=True)


if __name__ == "__main__":
    main()
