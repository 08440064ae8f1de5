"""Whatever the sizes, masks, resets and options: `lstm` is the oracle."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from against import I, T, check_layer, check_stack, compare, draw_params, draw_state, random_like
from hypothesis import given, settings
from hypothesis import strategies as st

from lstmjax import Bidirectional, lstm, oracle

pytestmark = pytest.mark.usefixtures("x64")

# Each example compiles a program of its own, hence few of them; what they are is fixed (derandomize).
few = settings(max_examples=8, deadline=None, derandomize=True, database=None)
sizes = st.integers(1, 4)


@st.composite
def sequences(draw, count):
    """Options for `count` sequences of up to 6 steps: their number of steps, and what is valid and reset."""
    steps = draw(st.integers(0, 6))
    flags = st.lists(st.lists(st.booleans(), min_size=steps, max_size=steps), min_size=count, max_size=count)
    options = {name: np.array(draw(flags), bool).reshape(count, steps) for name in ("mask", "resets")}
    options["lengths"] = np.array(draw(st.lists(st.integers(0, steps), min_size=count, max_size=count)))
    there = draw(st.sets(st.sampled_from(["mask", "resets", "lengths"])))
    return steps, {name: value for name, value in options.items() if name in there}


@few
@given(
    data=sequences(2), inputs=sizes, hidden=sizes, width=st.none() | sizes, biases=st.integers(0, 2),
    reverse=st.booleans(), padding=st.sampled_from(["zero", "hold"]), return_sequences=st.booleans(),
    checkpoint=st.sampled_from([None, "sqrt", 2]), seed=st.integers(0, 99),
)  # fmt: skip
def test_a_layer_is_the_oracle(data, inputs, hidden, width, biases, seed, **options):
    steps, flags = data
    rng = np.random.default_rng(seed)
    params = draw_params(rng, inputs, hidden, width=width, biases=biases)
    xs = jnp.asarray(rng.normal(size=(2, steps, inputs)))
    check_layer(params, xs, draw_state(rng, params, (2,)), draw_state(rng, params, (2,)), **flags, **options)


@few
@given(
    data=sequences(2), inputs=sizes, hidden=st.lists(sizes, min_size=1, max_size=2), pairs=st.booleans(),
    merge=st.sampled_from(["concat", "sum"]), padding=st.sampled_from(["zero", "hold"]), seed=st.integers(0, 99),
)  # fmt: skip
def test_a_stack_is_the_oracle(data, inputs, hidden, pairs, seed, **options):
    steps, flags = data
    rng, layers, below = np.random.default_rng(seed), [], inputs
    for size in hidden:
        ahead, back = (draw_params(rng, below, size) for _ in range(2))
        layers.append(Bidirectional(ahead, back) if pairs else ahead)
        below = size * (2 if pairs and options["merge"] == "concat" else 1)
    layers = tuple(layers)
    xs = jnp.asarray(rng.normal(size=(2, steps, inputs)))
    check_stack(layers, xs, draw_state(rng, layers, (2,)), draw_state(rng, layers, (2,)), **flags, **options)


@settings(max_examples=25, deadline=None, derandomize=True, database=None)
@given(flags=st.lists(st.booleans(), min_size=4 * T, max_size=4 * T), lengths=st.tuples(*[st.integers(0, T)] * 2))
def test_masks_and_resets_of_every_kind_are_the_oracles(flags, lengths):
    """One program for all: what is valid and what is reset are arguments of it."""
    mask, resets = np.array(flags, bool).reshape(2, 2, T)
    arguments, cotangents, both = program()
    options = {"lengths": np.array(lengths), "mask": mask, "resets": resets}
    actual, gradients = both(options)
    compare(oracle.lstm, arguments, cotangents, actual, gradients, options, {"reverse": True, "padding": "hold"})


@functools.cache
def program():
    """A layer's values and gradients as a compiled function of lengths, mask and resets."""
    rng = np.random.default_rng(0)
    params = draw_params(rng)
    states = draw_state(rng, params, (2,)), draw_state(rng, params, (2,))
    arguments = params, jnp.asarray(rng.normal(size=(2, T, I))), *states

    def f(options, params, xs, state, again):
        return lstm(params, xs, state, reset_state=again, reverse=True, padding="hold", emit="step", **options)

    @jax.jit
    def both(options):
        values, pull = jax.vjp(functools.partial(f, options), *arguments)
        return values, pull(cotangents)

    cotangents = random_like(rng, jax.eval_shape(functools.partial(f, {}), *arguments))
    return arguments, cotangents, both
