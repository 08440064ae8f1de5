"""When is a product faster with the weights on the left?

    python benchmarks/columns.py

The recurrent products of one step, [B, H]·[H, 4H] forwards and [B, 4H]·[4H, H] backwards, in a scan with a few
elementwise operations, float32: the time with the weights on the right over that with them on the left; backwards as
`lstmjax.backends.cpu` writes it, forwards as it did, until whole layers gained nothing by it on one of two machines.
Then layers on `backend="fused"` in training, all gradients: the time with the weights of the backward product on the
right over that with them on the left. Above 1 the left is faster; a star marks where `fused` has them there. Medians of
ratios within a round.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from folded import compiled

from lstmjax import init_params
from lstmjax.backends.cpu import columns_back, flat, turns_back
from lstmjax.bench import take_turns
from lstmjax.cell import product

LAYERS = (
    (2, 100, 8, 128), (4, 100, 8, 128), (16, 100, 8, 128), (4, 50, 64, 256), (16, 50, 64, 256), (32, 50, 64, 256),
    (16, 50, 64, 384), (64, 20, 64, 512), (128, 20, 64, 512), (128, 20, 64, 1024),
)  # fmt: skip
UNITS, BATCHES = (128, 256, 512, 1024, 2048), (2, 4, 8, 16, 32, 64, 128, 256)


def columns(h, w, turned):
    """Return h·w as (wᵀ·hᵀ)ᵀ, by the transposed `[4H, H]`; a barrier keeps the compiler from turning it back."""
    z = jax.lax.optimization_barrier(jax.lax.dot_general(turned, h, (((1,), (1,)), ((), ()))))
    return z.T.reshape(h.shape[0], *w.shape[1:])


def forwards(multiply, h, w):
    def body(h, _):
        i, f, g, o = (part[..., 0, :] for part in jnp.split(multiply(h, w), 4, axis=-2))
        return jnp.tanh(i + f) * jnp.tanh(g + o), None

    return jax.lax.scan(body, h, length=steps(h, w))[0]


def backwards(multiply, h, w):
    def body(h, _):
        dz = jnp.stack([jnp.tanh(n * h) for n in range(1, 5)], axis=-2)
        return jax.linear_transpose(lambda h: multiply(h, w), h)(dz)[0], None

    return jax.lax.scan(body, h, length=steps(h, w))[0]


def steps(h, w):
    return max(3, min(100, int(3e9 / (2 * h.shape[0] * w.size))))


def main() -> None:
    print(f"jax {jax.__version__}, {jax.devices()[0].device_kind}, {jax.device_count()} device(s)")
    print(f"{'B':>12}" + "".join(f"{batch:>14}" for batch in BATCHES))
    for units in UNITS:
        w = 0.01 * jax.random.normal(jax.random.key(0), (units, 4, units))
        cells = []
        for batch in BATCHES:
            h = jax.random.normal(jax.random.key(1), (batch, units))
            turned = jax.block_until_ready(flat(w).T)

            def left(h, w, turned=turned):
                return columns(h, w, turned)

            def right(h, w):
                return product("", (h, w))

            programs = {
                ("forwards", "right"): partial(forwards, right),
                ("forwards", "left"): partial(forwards, left),
                ("backwards", "right"): partial(backwards, right),
                ("backwards", "left"): partial(backwards, columns_back),
            }
            programs = {name: jax.jit(f).lower(h, w).compile() for name, f in programs.items()}
            calls = {name: lambda run=run, h=h, w=w: jax.block_until_ready(run(h, w)) for name, run in programs.items()}
            times = take_turns(calls, seconds=1.5)
            cell = []
            for direction in ("forwards", "backwards"):
                ratio = np.median(times[direction, "right"] / times[direction, "left"])
                is_left = direction == "backwards" and turns_back(batch, [w])
                cell.append(f"{ratio:.2f}" + ("*" if is_left else " "))
            cells.append("/".join(cell))
        print(f"H {units:<10}" + "".join(f"{cell:>14}" for cell in cells), flush=True)

    print(f"\n{'B':>5}{'T':>5}{'I':>5}{'H':>5}{'training':>10}")
    for batch, length, inputs, units in LAYERS:
        params = init_params(jax.random.key(0), inputs, units)
        xs = jax.random.normal(jax.random.key(1), (batch, length, inputs))
        programs = {
            turned: compiled(True, "turns_back", lambda *sizes, turned=turned: turned, params, xs)
            for turned in (False, True)
        }
        calls = {
            turned: lambda run=run, params=params, xs=xs: jax.block_until_ready(run(params, xs))
            for turned, run in programs.items()
        }
        times = take_turns(calls, seconds=3)
        mark = " *" if turns_back(batch, [params.w_h]) else ""
        print(f"{batch:5}{length:5}{inputs:5}{units:5}{np.median(times[False] / times[True]):10.2f}{mark}", flush=True)


if __name__ == "__main__":
    main()
