"""Random layers and inputs of sizes all different, and the comparison of `lstm` with the oracle."""

import jax
import jax.numpy as jnp
import numpy as np
from tolerances import assert_close

from lstmjax import Bidirectional, LSTMParams, Step, lstm, oracle, stacked
from lstmjax.arguments import one_of
from lstmjax.backends import table

T, B, I, H, P = 5, 3, 2, 4, 6

LAYERS = {  # what exists in the parameters
    "single": {},
    "none": {"biases": 0},
    "double": {"biases": 2},
    "projection": {"width": P},
    "double-projection": {"biases": 2, "width": P},
    "projection-bias": {"width": P, "projection_bias": True},
}


def prefer(backend):
    """Lets "auto" try a backend first, in this process; what it refuses is run as in the table's own order."""
    if backend != "auto":
        one_of("--backend", backend, tuple(table.BACKENDS))
        table.AUTO = (backend, *table.AUTO)


def draw_params(rng, inputs=I, hidden=H, *, width=None, biases=1, projection_bias=False, dtype=None):
    """Random LSTMParams; every number is far from 0 and 1 often enough."""

    def normal(*shape):
        return jnp.asarray(rng.normal(size=shape) * 0.6, dtype)

    b = [normal(4, hidden) if n < biases else None for n in range(2)]
    w_p = None if width is None else normal(hidden, width)
    w = normal(inputs, 4, hidden), normal(width or hidden, 4, hidden)
    return LSTMParams(*w, *b, w_p, b_p=normal(width) if projection_bias else None)


def draw_state(rng, layer, batch=(B,)):
    """A random (h, c) for LSTMParams, a pair of them for a pair, a tuple for a tuple of layers."""
    if isinstance(layer, LSTMParams):
        return tuple(jnp.asarray(rng.normal(size=(*batch, n))) for n in (layer.output_size, layer.hidden_size))
    parts = tuple(draw_state(rng, part, batch) for part in layer)
    return Bidirectional(*parts) if isinstance(layer, Bidirectional) else parts


def random_like(rng, tree):
    return jax.tree.map(lambda a: jnp.asarray(rng.normal(size=a.shape), a.dtype), tree)


def values_and_pull(f, arguments, cotangents):
    """What f gives, and the gradients of all its arguments; compiled once."""

    @jax.jit
    def both(arguments, cotangents):
        values, pull = jax.vjp(f, *arguments)
        return values, pull(cotangents)

    return both(arguments, cotangents)


def take(tree, n):
    return jax.tree.map(lambda a: np.asarray(a)[n], tree)


def check_layer(params, xs, state, reset_state, *, seed=0, kept=None, emit="step", **options):
    """Compares values and all gradients of `lstm` on `[B, T, I]` with the oracle's, sequence by sequence.

    lengths, mask and resets are arrays over the batch. `kept(n)` gives further options of the oracle for
    sequence n: what stands there in the place of wrappers.
    """

    def f(params, xs, state, reset_state):
        return lstm(params, xs, state, reset_state=reset_state, emit=emit, **options)

    for_oracle = {k: v for k, v in options.items() if k in ("reverse", "padding", "return_sequences")}
    check(f, oracle.lstm, params, xs, state, reset_state, seed, options, for_oracle, kept)


def check_stack(layers, xs, state, reset_state, *, seed=0, **options):
    """The same for `stacked`, in all its layers."""

    def f(layers, xs, state, reset_state):
        return stacked(layers, xs, state, reset_state=reset_state, **options)

    for_oracle = {k: v for k, v in options.items() if k in ("merge", "residual", "padding")}
    check(f, oracle.stacked, layers, xs, state, reset_state, seed, options, for_oracle)


def check(f, reference, params, xs, state, reset_state, seed, options, for_oracle, kept=None):
    arguments = params, xs, state, reset_state
    cotangents = random_like(np.random.default_rng(seed), jax.eval_shape(f, *arguments))
    actual, gradients = values_and_pull(f, arguments, cotangents)
    compare(reference, arguments, cotangents, actual, gradients, options, for_oracle, kept)


def compare(reference, arguments, cotangents, actual, gradients, options, for_oracle, kept=None):
    """Compares values and gradients over a batch with the reference's, sequence by sequence."""
    params, xs, state, reset_state = arguments
    expected, pulled = [], []
    whole = isinstance(actual[1], Step)
    for n in range(xs.shape[0]):
        own = {k: np.asarray(options[k])[n] for k in ("lengths", "mask", "resets") if k in options}
        own |= kept(n) if kept else {}
        begin, again = (None if s is None else take(s, n) for s in (state, reset_state))
        (end, ys), pull = reference(params, np.asarray(xs[n]), begin, reset_state=again, **own, **for_oracle)
        expected.append((end, Step(*ys) if whole else ys.h))
        d_state, d_ys = take(cotangents, n)
        pulled.append(pull(d_state, oracle.Steps(*d_ys) if whole else oracle.Steps(h=d_ys)))
    assert_close(actual, jax.tree.map(lambda *a: np.stack(a), *expected))
    assert_close(gradients[0], jax.tree.map(lambda *a: sum(a), *(p.params for p in pulled)), gradient=True)
    for k, grad in enumerate(gradients[1:], start=1):
        if grad is not None:
            assert_close(grad, jax.tree.map(lambda *a: np.stack(a), *(p[k] for p in pulled)), gradient=True)


def run(params, xs, state=None, **options):
    """`lstm`, compiled fast; for calls that stand under no transform."""
    return jax.jit(lambda *arrays: lstm(*arrays, **options))(params, xs, state)
