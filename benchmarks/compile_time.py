"""How long does a first call take, compiled by `jax.jit` and not, beside Flax?

    python benchmarks/compile_time.py [--turns 5]

Every call has a new number of steps T, so that everything that depends on shapes is compiled: the forward pass and the
gradient (of all parameters and of the inputs) of one layer, with and without lengths, and of two bidirectional layers
with lengths, at B = 32, I = 5, H = 256 (64 where they are bidirectional), float32, with and without `jax.jit` around
the call. The libraries take turns; JAX's compilation cache is off. Prints medians of the seconds of processor time and
of wall time, their ratios to Flax linen's (processor time of the same turn, which other programs on the machine disturb
less), and how many programs XLA compiled. Flax masks its outputs by lengths, not the state.

The last line is the growth with T: our gradient at T = 1,000 beside T = 10.
"""

import argparse
import time
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen, nnx

from lstmjax import init_params, init_stacked, lstm, stacked

BATCH, INPUTS, UNITS, UNITS_OF_PAIRS = 32, 5, 256, 64


def layer_of_ours(params, xs, lengths):
    return lstm(params, xs, lengths=lengths)[1]


def layers_of_ours(params, xs, lengths):
    return stacked(params, xs, lengths=lengths)[1]


class Pairs(linen.Module):
    """Two bidirectional layers of Flax."""

    @linen.compact
    def __call__(self, xs, seq_lengths=None):
        for _ in range(2):
            forward, backward = (linen.RNN(linen.OptimizedLSTMCell(UNITS_OF_PAIRS)) for _ in range(2))
            xs = linen.Bidirectional(forward, backward)(xs, seq_lengths=seq_lengths)
        return xs


def of_linen(module):
    variables = module.init(jax.random.key(0), jnp.zeros((BATCH, 3, INPUTS)))
    return lambda variables, xs, lengths: module.apply(variables, xs, seq_lengths=lengths), variables


def of_nnx():
    module = nnx.RNN(nnx.OptimizedLSTMCell(INPUTS, UNITS, rngs=nnx.Rngs(0)))
    graph, params, counters = nnx.split(module, nnx.Param, ...)
    state = (jnp.zeros((BATCH, UNITS)),) * 2

    def run(params, xs, lengths):
        return nnx.merge(graph, params, counters)(xs, initial_carry=state, seq_lengths=lengths)

    return run, params


def competitors():
    """Return for each network and library a function and its parameters."""
    ours = init_params(jax.random.key(0), INPUTS, UNITS)
    pairs = init_stacked(jax.random.key(0), INPUTS, UNITS_OF_PAIRS, layers=2, bidirectional=True)
    return {
        "layer": {
            "lstmjax": (layer_of_ours, ours),
            "linen": of_linen(linen.RNN(linen.OptimizedLSTMCell(UNITS))),
            "nnx": of_nnx(),
        },
        "pairs": {"lstmjax": (layers_of_ours, pairs), "linen": of_linen(Pairs())},
    }


def loss(ys):
    return jnp.sum(ys**2)


def forms(run):
    """Return the four calls that are compiled for each new T."""
    gradient = jax.grad(lambda params, xs, lengths: loss(run(params, xs, lengths)), (0, 1))
    return {"forward": run, "gradient": gradient, "forward, jit": jax.jit(run), "gradient, jit": jax.jit(gradient)}


def measured(call, programs):
    """Return processor seconds and wall seconds of a call, and how many programs were compiled."""
    before, wall, processor = len(programs), time.perf_counter(), time.process_time()
    jax.block_until_ready(call())
    return time.process_time() - processor, time.perf_counter() - wall, len(programs) - before


def main() -> None:
    parser = argparse.ArgumentParser(description="Time to compile, beside Flax.")
    parser.add_argument("--turns", type=int, default=5)
    turns = parser.parse_args().turns
    jax.config.update("jax_enable_compilation_cache", False)
    print(f"jax {jax.__version__}, {jax.devices()[0].device_kind}, {jax.device_count()} device(s), {turns} turns")
    programs: list[str] = []

    def note(event, seconds, **metadata):
        if event.endswith("backend_compile_duration"):
            programs.append(event)

    jax.monitoring.register_event_duration_secs_listener(note)
    cases = [("layer", False), ("layer", True), ("pairs", True)]
    calls: dict[str, dict] = {}
    for network, libraries in competitors().items():
        calls[network] = {}
        for library, (run, params) in libraries.items():
            for form, f in forms(run).items():
                calls[network][library, form] = f, params
    measurements: dict[tuple, list[tuple[float, float, int]]] = {}
    steps, random = 20, np.random.default_rng(0)
    for turn in range(turns + 1):  # the first one is not counted: it compiles what does not depend on T
        for network, with_lengths in cases:
            steps += 1
            xs = jnp.asarray(random.normal(size=(BATCH, steps, INPUTS)), jnp.float32)
            lengths = jnp.full(BATCH, steps // 2) if with_lengths else None
            width = UNITS if network == "layer" else 2 * UNITS_OF_PAIRS
            # Compiled before the turns, since all share it: else whoever comes first would pay for it.
            jax.block_until_ready(jax.grad(loss)(jnp.zeros((BATCH, steps, width))))
            order = list(calls[network].items())
            for (library, form), (f, params) in order if turn % 2 else order[::-1]:
                numbers = measured(partial(f, params, xs, lengths), programs)
                if turn:
                    measurements.setdefault((network, with_lengths, form, library), []).append(numbers)
    for (network, with_lengths, form, library), numbers in sorted(measurements.items(), key=lambda item: item[0][:3]):
        processor, wall, count = np.median(numbers, axis=0)
        theirs = np.array(measurements[network, with_lengths, form, "linen"])[:, 0]
        ratio = np.median(np.array(numbers)[:, 0] / theirs)
        name = f"{network}{', lengths' if with_lengths else ''}"
        times = f"{processor:.2f} s ({wall:.2f} s wall)  {ratio:.2f} of linen"
        print(f"{name:15} {form:14} {library:8} {times}  {count:.0f} programs")

    run, params = competitors()["layer"]["lstmjax"]
    gradient = forms(run)["gradient, jit"]
    processor_of = {}
    for steps in (10, 1000):
        xs = jax.ShapeDtypeStruct((BATCH, steps, INPUTS), jnp.float32)
        start = time.process_time()
        gradient.lower(params, xs, None).compile()
        processor_of[steps] = time.process_time() - start
    print(f"gradient, jit: T = 1000 takes {processor_of[1000] / processor_of[10]:.2f} of T = 10")


if __name__ == "__main__":
    main()
