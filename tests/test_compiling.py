"""How many programs are compiled for a new shape: one for each call of a layer or a stack, two for a network."""

import logging

import jax
import jax.numpy as jnp
import pytest
from tiers import tiered

from lstmjax import Zoneout, init_network, init_params, init_stacked, lstm, network, stacked, trace

B, I, H = 3, 2, 4
LAYER = init_params(jax.random.key(0), I, H)
PAIRS = init_stacked(jax.random.key(1), I, H, layers=2, bidirectional=True)
NETWORK = init_network(jax.random.key(2), I, H, 3, layers=2)
KEY = jax.random.key(3)
LENGTHS = jnp.array([2, 5, 3])


def steps(xs):
    """A mask and resets for inputs."""
    return {"mask": xs[..., 0] > 0, "resets": xs[..., 1] > 1}


TRACED = jax.jit(lambda xs, steps: trace(PAIRS, xs, **steps, lengths=LENGTHS))
CALLS = {
    "layer": (1, lambda xs, steps: lstm(LAYER, xs)),
    "options": (
        1,
        lambda xs, steps: lstm(
            LAYER, xs, lengths=LENGTHS, **steps, padding="hold", wrappers=(Zoneout(0.1),), key=KEY, dtype="bfloat16"
        ),
    ),
    "segments": (1, lambda xs, steps: lstm(LAYER, xs, checkpoint="sqrt", reverse=True)),
    "stack": (1, lambda xs, steps: stacked(PAIRS, xs, lengths=LENGTHS, **steps, dropout=0.5, key=KEY)),
    "half": (1, lambda xs, steps: stacked(PAIRS, xs, lengths=LENGTHS, dtype="float16", time_major=False)),
    "network": (
        2,
        lambda xs, steps: network(NETWORK, xs, lengths=LENGTHS, return_sequences=True, dropout=0.5, key=KEY),
    ),
    "trace": (1, lambda xs, steps: trace(LAYER, xs, **steps)),
    "trace of layers in jit": (1, lambda xs, steps: TRACED(xs, steps)),
    "trace of a network": (2, lambda xs, steps: trace(NETWORK, xs)),
    "reduced": (1, lambda xs, steps: trace(LAYER, xs, **steps, reduce=lambda step: step.f)),
}


@pytest.mark.parametrize("name", tiered(CALLS, first=["layer", "stack", "trace"]))
def test_a_new_number_of_steps_compiles_few_programs(name, caplog):
    expected, call = CALLS[name]
    logger = "jax._src.interpreters.pxla"
    for T in (5, 6):  # the first time, what does not depend on T is compiled, too
        xs = jax.random.normal(KEY, (B, T, I))
        flags = steps(xs)
        with caplog.at_level(logging.WARNING, logger), jax.log_compiles():
            caplog.clear()
            jax.block_until_ready(call(xs, flags))
    compiled = [record.getMessage() for record in caplog.records if record.getMessage().startswith("Compiling ")]
    assert len(compiled) == expected, compiled


def test_what_is_compiled_is_kept_from_call_to_call(caplog):
    xs = jax.random.normal(KEY, (B, 7, I))
    for _ in range(2):
        caplog.clear()
        with jax.log_compiles():
            jax.block_until_ready(stacked(PAIRS, xs + 1, lengths=LENGTHS, wrappers=(Zoneout(0.1),)))
    assert not [record for record in caplog.records if record.getMessage().startswith("Compiling ")]
