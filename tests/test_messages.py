"""Every error message of the core is read: it names the argument, what came, what was expected and a remedy."""

import ast
import dataclasses
import functools
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.nnx import Rngs

import lstmjax
from lstmjax import (
    Bidirectional,
    Dense,
    LSTMParams,
    NetworkParams,
    RecurrentDropout,
    Zoneout,
    cell_step,
    clip_cell,
    clip_projection,
    forecast,
    from_concatenated,
    init_network,
    init_params,
    init_stacked,
    lstm,
    network,
    nnx,
    stacked,
    to_concatenated,
)  # fmt: skip
from lstmjax.dropout import weight_drop
from lstmjax.forecast.network import init_forecaster, normal_of
from lstmjax.published import with_activations

T, B, I, H, P = 5, 3, 2, 4, 6


def zeros(*shape, dtype=jnp.float32):
    return jnp.zeros(shape, dtype)


PARAMS = LSTMParams(zeros(I, 4, H), zeros(H, 4, H), zeros(4, H))
PROJECTED = LSTMParams(zeros(I, 4, H), zeros(P, 4, H), zeros(4, H), None, zeros(H, P))
NORMED = init_params(jax.random.key(0), I, H, cell="layer_norm")
ABOVE = LSTMParams(zeros(H, 4, H), zeros(H, 4, H), zeros(4, H))
XS = zeros(B, T, I)
STATE = zeros(B, H), zeros(B, H)
KEY = jax.random.key(0)
SERIES = forecast.from_arrays([[1.0, 3.0, 2.0, 4.0], [5.0, 4.0, 7.0, 6.0]])
DESIGN = forecast.Design(horizon=2, context=3, hidden_size=4)


@functools.cache
def forecaster():
    """A network of two series that has learnt nothing."""
    return forecast.Forecaster(init_forecaster(KEY, DESIGN, SERIES), DESIGN, normal_of(SERIES))


class Unhashable:
    __hash__ = None

    def __call__(self, params, state, x):
        return state, x


class TorchTensor:
    """A tensor of PyTorch that takes part in a gradient, by all that is looked at."""

    requires_grad = True


class UnhashableEmit:
    __hash__ = None

    def __call__(self, step):
        return step.h


class Tapping(RecurrentDropout):
    def __init__(self):
        super().__init__(0.0)

    def __call__(self, inner, params, state, x, own):
        return inner(params, state, x, tap=lambda name, value: value)


def plain(params, state, x):
    return state, x


def lonely(params, state, x):
    return state[0]


def scalar(step):
    return step.c.mean()


def first_unit(step):
    return step.c[..., 0]


def to_complex(arrays, *, dtype):
    return tuple(None if a is None else jnp.asarray(a, jnp.complex64) for a in arrays)


MESSAGES = {
    "weight-drop": (
        lambda: weight_drop(({"w": 1},), 0.5, jax.random.key(0)),
        TypeError,
        "layers holds a int, expected LSTMParams: pass the layers of a network, without its head.",
    ),
    # parameters
    "not-params": (
        lambda: cell_step({"w": 1}, STATE, XS[:, 0]),
        TypeError,
        "params is a dict, expected LSTMParams. For one layer pass init_params(...); for a tuple of layers use "
        "stacked.",
    ),
    "flat-weights": (
        lambda: lstm(LSTMParams(zeros(I, 16), zeros(H, 4, H)), XS),
        ValueError,
        "w_x has shape (2, 16) and w_h (4, 4, 4), expected [I, G, H] and [P, G, H] with the gates on an axis of their "
        "own. from_concatenated reads the textbook form [4H, I + H].",
    ),
    "no-inputs": (
        lambda: lstm(LSTMParams(zeros(0, 4, H), zeros(H, 4, H)), zeros(B, T, 0)),
        ValueError,
        "w_x has shape (0, 4, 4), expected [I, G, H] with I and H at least 1. A layer without inputs is one of a "
        "single feature that is 0.",
    ),
    "gate-blocks": (
        lambda: lstm(LSTMParams(zeros(I, 3, H), zeros(H, 3, H)), XS),
        ValueError,
        "w_x has 3 gate blocks, but the cell 'vanilla' has 4: i, f, g, o. Were these parameters made for another cell?",
    ),
    "field-shape": (
        lambda: lstm(PARAMS._replace(b_h=zeros(H, 4, 1)), XS),
        ValueError,
        "b_h has shape (4, 4, 1), expected [G, H] = (4, 4), since w_x (2, 4, 4) has I = 2, G = 4, H = 4.",
    ),
    "recurrent-shape": (
        lambda: lstm(PROJECTED._replace(w_p=None), XS),
        ValueError,
        "w_h has shape (6, 4, 4), expected [P, G, H] = (4, 4, 4), since w_x (2, 4, 4) has I = 2, G = 4, H = 4.",
    ),
    "field-dtype": (
        lambda: lstm(PARAMS._replace(b=zeros(4, H, dtype=jnp.bfloat16)), XS),
        ValueError,
        "b is bfloat16, but w_x is float32; all parameters share one dtype.",
    ),
    "peephole-missing": (
        lambda: lstm(PARAMS, XS, cell="peephole"),
        ValueError,
        "w_c is None, but the cell 'peephole' has it. Were these parameters made for another cell? Pass cell= to both "
        "init_params and the layer.",
    ),
    "peephole-given": (
        lambda: lstm(PARAMS._replace(w_c=zeros(3, H)), XS),
        ValueError,
        "w_c is given, but the cell 'vanilla' has none. Were these parameters made for another cell? Pass cell= to "
        "both init_params and the layer.",
    ),
    "norm-gain-missing": (
        lambda: lstm(NORMED._replace(norm=NORMED.norm._replace(x=None)), XS, cell="layer_norm"),
        TypeError,
        "norm.x is None, expected an array: jnp.asarray(norm.x).",
    ),
    "gate-gain-missing": (
        lambda: lstm(PARAMS._replace(w_c=zeros(3, H)), XS, cell="layer_norm_per_gate"),
        ValueError,
        "gain is None, but the cell 'layer_norm_per_gate' has it. Were these parameters made for another cell? Pass "
        "cell= to both init_params and the layer.",
    ),
    "projection-bias-shape": (
        lambda: lstm(PROJECTED._replace(b_p=zeros(H)), XS),
        ValueError,
        "b_p has shape (4,), expected [P] = (6,), since w_x (2, 4, 4) has I = 2, G = 4, H = 4.",
    ),
    "projection-bias-alone": (
        lambda: lstm(PARAMS._replace(b_p=zeros(H)), XS),
        ValueError,
        "b_p is given, but there is no projection w_p for it to be the bias of. Pass b_p=None, or w_p [H, P].",
    ),
    "projection-limit-alone": (
        lambda: lstm(PARAMS, XS, cell=clip_projection("vanilla", 0.5)),
        ValueError,
        "w_p is None, but the cell 'vanilla, h clipped at 0.5' limits a projected h. Pass projection_size= to "
        "init_params, or the cell without that limit.",
    ),
    "no-limit": (
        lambda: clip_cell("vanilla", 0),
        ValueError,
        "limit is 0, expected a number above 0. For no limit leave the cell as it is.",
    ),
    "state-lists": (
        lambda: lstm(PARAMS, XS, ([0.0] * H, [0.0] * H)),
        TypeError,
        "state h is a list, expected an array: jnp.asarray(h).",
    ),
    "reset-state-structure": (
        lambda: lstm(PARAMS, XS, (*STATE, STATE[0]), step=plain, resets=np.ones((B, T), bool)),
        ValueError,
        "reset_state has the structure PyTreeDef((*, *)), but state has PyTreeDef((*, *, *)). Pass one that is built "
        "alike.",
    ),
    "cell-and-step": (
        lambda: lstm(PARAMS, XS, STATE, step=plain, cell="vanilla"),
        ValueError,
        "cell is given, but step is a step of your own, which says itself what it computes. Pass one.",
    ),
    "cell": (
        lambda: lstm(PARAMS, XS, cell="gru"),
        ValueError,
        "cell is 'gru', expected one of 'vanilla', 'peephole', 'nig', 'nfg', 'nog', 'niaf', 'noaf', 'cifg', "
        "'cifg_mirror', 'fgr', 'no_forget_gate', 'projection', 'layer_norm', 'layer_norm_carried', "
        "'layer_norm_per_gate', 'hard_sigmoid_fifth', 'hard_sigmoid_sixth', 'np'.",
    ),
    "forget-bias-without-forget-gate": (
        lambda: init_params(KEY, 5, 10, cell="cifg", forget_bias=1.0),
        ValueError,
        "forget_bias is 1.0, but the cell 'cifg' has no forget gate of its own: its blocks are i, g, o. Leave "
        "forget_bias out.",
    ),
    # inputs
    "features": (
        lambda: lstm(PARAMS, zeros(B, T, 3)),
        ValueError,
        "xs has 3 features on its last axis, but the parameters expect I = 2 (w_x (2, 4, 4)); xs has shape (3, 5, 3), "
        "expected [..., T, I]. Did you pass (batch, time, features)? The last axis is the features of one time step.",
    ),
    "features-elsewhere": (
        lambda: lstm(PARAMS, zeros(B, I, T), time_major=True),
        ValueError,
        "xs has 5 features on its last axis, but the parameters expect I = 2 (w_x (2, 4, 4)); xs has shape (3, 2, 5), "
        "expected [T, ..., I]. Axis 1 has 2: did you pass (batch, time, features)? Move that axis to the end.",
    ),
    "features-missing": (
        lambda: lstm(LSTMParams(zeros(1, 4, H), zeros(H, 4, H)), zeros(B, T)),
        ValueError,
        "xs has 5 features on its last axis, but the parameters expect I = 1 (w_x (1, 4, 4)); xs has shape (3, 5), "
        "expected [..., T, I]. A series of single numbers needs a feature axis of its own: xs[..., None].",
    ),
    "one-step": (
        lambda: lstm(PARAMS, zeros(I)),
        ValueError,
        "xs has shape (2,), expected [..., T, I]: (time, features), or (batch, time, features). One step alone is a "
        "sequence of length 1: xs[None], or use cell_step.",
    ),
    "symbols": (
        lambda: lstm(PARAMS, zeros(B, T, I, dtype=jnp.int32)),
        ValueError,
        "xs has shape (3, 5, 2) and dtype int32, expected [..., T, I] of floating-point numbers. Symbols and class "
        "numbers go through jax.nn.one_hot or an embedding first.",
    ),
    "input-dtype": (
        lambda: lstm(PARAMS, XS.astype(jnp.bfloat16)),
        ValueError,
        "xs is bfloat16, but the parameters are float32. Cast xs with .astype(float32), or pass dtype= to compute in "
        "another type than the parameters' own.",
    ),
    # the state of a step
    "step-state": (
        lambda: cell_step(PARAMS, zeros(B, H), XS[:, 0]),
        ValueError,
        "state is an array, expected the tuple (h, c).",
    ),
    "step-state-shape": (
        lambda: cell_step(PROJECTED, (zeros(B, H), zeros(B, P)), XS[:, 0]),
        ValueError,
        "state h has shape (3, 4), expected (3, 6): the batch axes of x, then P, the width of h. Is the state "
        "(h, c), and not (c, h) as Flax has it?",
    ),
    "step-state-dtype": (
        lambda: cell_step(PARAMS, (zeros(B, H), zeros(B, H, dtype=jnp.bfloat16)), XS[:, 0]),
        ValueError,
        "state c is bfloat16, expected float32 (under half precision h is half and c is float32). Cast it with "
        ".astype.",
    ),
    "carry": (
        lambda: nnx.LSTMCell(I, H, rngs=Rngs(0))(STATE[0], XS[:, 0]),
        ValueError,
        "carry is an array, expected the tuple (c, h), as initialize_carry gives it.",
    ),
    "carry-shape": (
        lambda: nnx.LSTMCell(I, H, projection_size=P, rngs=Rngs(0))((zeros(B, P), zeros(B, H)), XS[:, 0]),
        ValueError,
        "carry c has shape (3, 6), expected (3, 4). Is the carry (c, h), as Flax has it, and not (h, c)?",
    ),
    "carry-number": (
        lambda: nnx.LSTMCell(I, H, rngs=Rngs(0))(STATE[::-1], 1.0),
        ValueError,
        "inputs is a single number, expected [..., I], the features of one step.",
    ),
    "carry-batch": (
        lambda: nnx.LSTMCell(I, H, rngs=Rngs(0))(STATE[::-1], XS[:2, 0]),
        ValueError,
        "inputs has shape (2, 2) and the parts of the carry (3, 4), (3, 4): their batch axes, all but the last, do not "
        "fit. Is the carry from initialize_carry(..., inputs.shape)?",
    ),
    "carry-dtype": (
        lambda: nnx.LSTMCell(I, H, promote_dtype=to_complex, rngs=Rngs(0))(STATE[::-1], XS[:, 0]),
        ValueError,
        "inputs, carry and parameters promote to complex64, but the gates of an LSTM need real numbers.",
    ),
    "activation-type": (
        lambda: with_activations("vanilla", gate_fn="hard"),
        TypeError,
        "gate_fn is 'hard', expected a function of one array, such as jax.nn.relu.",
    ),
    "activation-own": (
        lambda: with_activations("niaf", activation_fn=jax.nn.relu),
        ValueError,
        "activation_fn is given, but the cell 'niaf' has a function of its own for g, identity. Pass a cell that says "
        "it all: dataclasses.replace(cell, ...).",
    ),
    # the state of a layer
    "state": (lambda: lstm(PARAMS, XS, [*STATE]), ValueError, "state is a list, expected the tuple (h, c)."),
    "state-shape": (
        lambda: lstm(PROJECTED, XS, (zeros(B, H), zeros(B, P))),
        ValueError,
        "state h has shape (3, 4), expected (3, 6) or (6,) for all sequences alike: the batch axes of x, then P, the "
        "width of h. Is the state (h, c), and not (c, h) as Flax has it?",
    ),
    "reset-state": (
        lambda: lstm(PARAMS, XS[0], reset_state=STATE, resets=np.ones(T, bool)),
        ValueError,
        "reset_state h has shape (3, 4), expected (4,): the batch axes of x, then P, the width of h. Is the state "
        "(h, c), and not (c, h) as Flax has it?",
    ),
    "state-dtype": (
        lambda: lstm(PARAMS, XS, (zeros(B, H, dtype=jnp.int32), zeros(B, H))),
        ValueError,
        "state h is int32, expected float32 (under half precision h is half and c is float32). Cast it with .astype.",
    ),
    "state-of-own-step": (
        lambda: lstm({"w": zeros(I, H)}, XS, step=plain),
        ValueError,
        "state is None, but params is a dict and no LSTMParams, so that the sizes of the state are not known. Pass the "
        "initial state of your step, with the batch axes of xs.",
    ),
    # what is valid
    "mask-shape": (
        lambda: lstm(PARAMS, XS, mask=np.ones((T, B), bool)),
        ValueError,
        "mask has shape (5, 3), expected [..., T] = (3, 5): one boolean a step, on the axes of xs without the "
        "features.",
    ),
    "resets-shape": (
        lambda: lstm(PARAMS, XS, resets=np.ones((B, T - 1), bool), time_major=True),
        ValueError,
        "resets has shape (3, 4), expected [T, ...] = (3, 5): one boolean a step, on the axes of xs without the "
        "features.",
    ),
    "mask-dtype": (
        lambda: lstm(PARAMS, XS, mask=np.ones((B, T), np.float32)),
        ValueError,
        "mask is float32, expected bool. Did you mean mask > 0?",
    ),
    "lengths-shape": (
        lambda: lstm(PARAMS, XS, lengths=5),
        ValueError,
        "lengths has shape (), expected (3,): one number a sequence, the batch axes of xs.",
    ),
    **{
        f"lengths-huge-{n}": (
            lambda lengths=lengths: lstm(PARAMS, XS, lengths=lengths),
            ValueError,
            f"lengths holds {count}, expected 0 to T = 5, the number of steps in xs.",
        )
        for n, (lengths, count) in enumerate(
            [
                ([3, 2**40, 1], 2**40),
                ([3, -(10**30), 1], -(10**30)),
                (np.array([3, 2**32 + 1, 1]), 2**32 + 1),
                (np.array([3, 2**63, 1], np.uint64), 2**63),
            ]
        )
    },
    "lengths-dtype": (
        lambda: lstm(PARAMS, XS, lengths=np.ones(B, np.float32)),
        ValueError,
        "lengths is float32, expected whole numbers (int32).",
    ),
    "lengths-value": (
        lambda: lstm(PARAMS, XS, lengths=[5, 6, -1]),
        ValueError,
        "lengths holds 6, expected 0 to T = 5, the number of steps in xs.",
    ),
    "lengths-value-jax": (
        lambda: lstm(PARAMS, XS, lengths=jnp.array([5, 0, -1])),
        ValueError,
        "lengths holds -1, expected 0 to T = 5, the number of steps in xs.",
    ),
    # options
    "emit": (
        lambda: lstm(PARAMS, XS, emit="gates"),
        ValueError,
        "emit is 'gates', expected 'h', 'c', 'step' or a function of the Step.",
    ),
    "padding": (
        lambda: lstm(PARAMS, XS, padding="last"),
        ValueError,
        "padding is 'last', expected one of 'zero', 'hold'.",
    ),
    "unroll": (lambda: lstm(PARAMS, XS, unroll=0), ValueError, "unroll is 0, expected a whole number of at least 1."),
    "unroll-true": (
        lambda: lstm(PARAMS, XS, unroll=True),
        ValueError,
        "unroll is True, expected a whole number of at least 1.",
    ),
    "checkpoint": (
        lambda: lstm(PARAMS, XS, checkpoint="half"),
        ValueError,
        "checkpoint is 'half', expected None, 'sqrt' or a segment length.",
    ),
    "checkpoint-size": (
        lambda: lstm(PARAMS, XS, checkpoint=2.5),
        ValueError,
        "checkpoint is 2.5, expected a whole number of at least 1.",
    ),
    "wrappers": (
        lambda: lstm(PARAMS, XS, wrappers=Zoneout()),
        TypeError,
        "wrappers is a Zoneout, expected a tuple: wrappers=(Zoneout(0.1, 0.1),).",
    ),
    "unhashable": (
        lambda: lstm(PARAMS, XS, step=Unhashable()),
        TypeError,
        "step holds a Unhashable that is not hashable, so that compiled code cannot be kept by it. Use a module-level "
        "function or a frozen dataclass without arrays; arrays go through params.",
    ),
    "rate": (lambda: RecurrentDropout(1.5), ValueError, "rate is 1.5, expected a probability from 0 to 1."),
    "zoneout-rate": (lambda: Zoneout(h=0.1, c=-0.5), ValueError, "c is -0.5, expected a probability from 0 to 1."),
    "zoneout-of-own-step": (
        lambda: lstm(PARAMS, XS, STATE, step=plain, wrappers=(Zoneout(0.1),)),
        TypeError,
        "Zoneout changes h and c after the step, so the step inside must emit a Step; it emits an array. Give your "
        "step the keyword emit and return emitted(emit, Step(...)).",
    ),
    "c-of-own-step": (
        lambda: lstm(PARAMS, XS, STATE, step=plain, emit="c"),
        ValueError,
        "emit is 'c', but the step emits an array and no Step. Pass a function of what it emits.",
    ),
    # gates and the textbook form
    "gate": (lambda: PARAMS.gate("c"), ValueError, "gate 'c' is not one of i, f, g, o."),
    "gate-names": (
        lambda: PARAMS.gate("f", ("i", "f", "o")),
        ValueError,
        "w_x has 4 gate blocks, but 3 names were given: i, f, o.",
    ),
    "two-biases": (
        lambda: to_concatenated(PARAMS._replace(b_h=PARAMS.b)),
        ValueError,
        "params has two biases, b and b_h, but W·[x, h] + b has one. Pass sum_biases=True to add them up.",
    ),
    "textbook-peepholes": (
        lambda: to_concatenated(PARAMS._replace(w_c=zeros(3, H))),
        ValueError,
        "params has w_c, but W·[x, h] + b has no place for it: it is the form of the vanilla cell.",
    ),
    "textbook-projection-bias": (
        lambda: to_concatenated(PROJECTED._replace(b_p=zeros(P))),
        ValueError,
        "params has b_p, but W·[x, h] + b has no place for it: it is the form of the vanilla cell.",
    ),
    "textbook-blocks": (
        lambda: to_concatenated(LSTMParams(zeros(I, 3, H), zeros(H, 3, H))),
        ValueError,
        "params has 3 gate blocks, but W·[x, h] + b is of i, f, g and o.",
    ),
    "rows": (
        lambda: from_concatenated(zeros(14, 6)),
        ValueError,
        "w has shape (14, 6), expected [4H, I + P]: four gates of H rows each.",
    ),
    "columns": (
        lambda: from_concatenated(zeros(16, 4)),
        ValueError,
        "w has 4 columns, expected I + 4 with I at least 1: the columns of x, then of h.",
    ),
    "projection-rows": (
        lambda: from_concatenated(zeros(16, 8), w_p=zeros(3, 6)),
        ValueError,
        "w_p has shape (3, 6), expected [H, P] with H = 4 from the 16 rows of w.",
    ),
    "bias-size": (
        lambda: from_concatenated(zeros(16, 6), zeros(4, 4)),
        ValueError,
        "b has shape (4, 4), expected [4H] = (16,), one number for a row of w.",
    ),
    # initial values
    "size": (
        lambda: init_params(KEY, 5, -10),
        ValueError,
        "hidden_size is -10, expected a whole number of at least 1.",
    ),
    "layers": (lambda: init_stacked(KEY, 5, 10, 0), ValueError, "layers is 0, expected a whole number of at least 1."),
    "outputs": (
        lambda: init_network(KEY, 5, 10, 2.0),
        ValueError,
        "output_size is 2.0, expected a whole number of at least 1.",
    ),
    "preset": (
        lambda: init_params(KEY, 5, 10, init="pytorch"),
        ValueError,
        "init is 'pytorch', expected one of 'default', 'torch', 'keras', 'flax', 'flax_optimized_nnx', 'haiku', "
        "'equinox'.",
    ),
    "bias-name": (
        lambda: init_params(KEY, 5, 10, bias="both"),
        ValueError,
        "bias is 'both', expected one of 'preset', 'single', 'double', None.",
    ),
    "dtype": (
        lambda: init_params(KEY, 5, 10, dtype=jnp.int32),
        ValueError,
        "dtype is int32, expected a floating-point dtype such as float32 or bfloat16.",
    ),
    "forget-bias": (
        lambda: init_params(KEY, 5, 10, bias=None, forget_bias=2.0),
        ValueError,
        "forget_bias is 2.0, but bias=None leaves no bias to set. Pass bias='single'.",
    ),
    "projection-bias": (
        lambda: init_params(KEY, 5, 10, projection_bias=True),
        ValueError,
        "projection_bias is True, but projection_size is None: there is no projection. Pass projection_size=P.",
    ),
    "cell-of-a-projection": (
        lambda: init_params(KEY, 5, 10, cell=clip_projection("vanilla", 0.5)),
        ValueError,
        "the cell 'vanilla, h clipped at 0.5' limits a projected h, but projection_size is None: there is no "
        "projection. Pass projection_size=P.",
    ),
    # stacks
    "one-layer": (
        lambda: stacked(PARAMS, XS),
        TypeError,
        "layers is a LSTMParams, expected a tuple of LSTMParams or Bidirectional pairs, from the bottom up. For one "
        "layer: (params,).",
    ),
    "no-layers": (
        lambda: stacked((), XS),
        TypeError,
        "layers is empty, expected a tuple of LSTMParams or Bidirectional pairs, from the bottom up. For one layer: "
        "(params,).",
    ),
    "layer-type": (
        lambda: stacked((PARAMS, Bidirectional(ABOVE, "reverse")), XS),
        TypeError,
        "layer 1 holds a str, expected LSTMParams or Bidirectional.",
    ),
    "states": (
        lambda: stacked((PARAMS, ABOVE), XS, STATE + STATE),
        ValueError,
        "state has 4 entries, but there are 2 layers; expected a tuple with an (h, c) for each layer.",
    ),
    "states-of-one": (
        lambda: stacked((PARAMS,), XS, (STATE, STATE)),
        ValueError,
        "state has 2 entries, but there is 1 layer; expected a tuple with an (h, c) for each layer. For one layer: "
        "(h, c), or ((h, c),).",
    ),
    "states-of-a-pair": (
        lambda: stacked((Bidirectional(PARAMS, PARAMS),), XS, (STATE, STATE)),
        ValueError,
        "state has 2 entries, but there is 1 layer; expected a tuple with an (h, c) for each layer. For one pair: "
        "Bidirectional((h, c), (h, c)), or that in a tuple.",
    ),
    "fit": (
        lambda: stacked((Bidirectional(PARAMS, PARAMS), ABOVE), XS),
        ValueError,
        "layer 1 expects I = 4 features, but layer 0 gives 8: the width of its h, twice that for a Bidirectional pair "
        "with merge='concat'.",
    ),
    "merge": (
        lambda: stacked((PARAMS,), XS, merge="mean"),
        ValueError,
        "merge is 'mean', expected one of 'concat', 'sum'.",
    ),
    "dropout": (
        lambda: stacked((PARAMS,), XS, dropout=50),
        ValueError,
        "dropout is 50, expected a probability from 0 to 1.",
    ),
    "residual-width": (
        lambda: stacked((PARAMS, LSTMParams(zeros(H, 4, 3), zeros(3, 4, 3))), XS, residual=True),
        ValueError,
        "residual=True adds what enters layer 1 (4 wide) to what it gives (3 wide); they must be equally wide.",
    ),
    "residual-emit": (
        lambda: stacked((PARAMS, ABOVE), XS, residual=True, emit="c"),
        ValueError,
        "residual=True adds to h at valid steps; it goes with emit='h' and padding='zero' only, not with 'c' and "
        "'zero'.",
    ),
    "residual-last": (
        lambda: stacked((PARAMS, Bidirectional(ABOVE, ABOVE)), XS, residual=True, return_sequences=False),
        ValueError,
        "residual=True with return_sequences=False is not defined for a Bidirectional last layer, whose directions end "
        "at different steps. Pass return_sequences=True and take the steps you mean.",
    ),
    # kinds of arguments that do not go together
    "list-weights": (
        lambda: lstm(LSTMParams([[1.0]], zeros(H, 4, H)), XS),
        TypeError,
        "w_x is a list, expected an array: jnp.asarray(w_x).",
    ),
    "swapped": (
        lambda: lstm(XS, PARAMS),
        TypeError,
        "params is an array, expected LSTMParams. For one layer pass init_params(...); for a tuple of layers use "
        "stacked.",
    ),
    "layers-in-lstm": (
        lambda: lstm((PARAMS,), XS),
        TypeError,
        "params is a tuple of 1, expected LSTMParams. For one layer pass init_params(...); for a tuple of layers use "
        "stacked.",
    ),
    "dtype-of-layer": (
        lambda: lstm(PARAMS, XS, dtype=int),
        ValueError,
        "dtype is int64, expected a floating-point dtype such as float32 or bfloat16.",
    ),
    "dtype-word": (
        lambda: stacked((PARAMS,), XS, dtype="fp16"),
        ValueError,
        "dtype is 'fp16', expected a floating-point dtype such as float32 or bfloat16.",
    ),
    "key": (
        lambda: lstm(PARAMS, XS, key=0, wrappers=(Zoneout(0.1),)),
        TypeError,
        "key is 0, expected a random key: jax.random.key(0).",
    ),
    "key-of-params": (lambda: init_params(0, 5, 10), TypeError, "key is 0, expected a random key: jax.random.key(0)."),
    "key-of-stack": (
        lambda: stacked((PARAMS,), XS, key=1),
        TypeError,
        "key is 1, expected a random key: jax.random.key(0).",
    ),
    "key-of-network": (
        lambda: init_network(1, 5, 3, 2),
        TypeError,
        "key is 1, expected a random key: jax.random.key(0).",
    ),
    "wrapper-class": (
        lambda: lstm(PARAMS, XS, wrappers=(Zoneout,)),
        TypeError,
        "wrappers holds <class 'lstmjax.dropout.Zoneout'>, expected wrappers with their rates, such as "
        "Zoneout(0.1, 0.1), or objects with the methods draw and __call__.",
    ),
    "rate-type": (lambda: Zoneout("0.1"), ValueError, "h is '0.1', expected a probability from 0 to 1."),
    "step-type": (
        lambda: lstm(PARAMS, XS, step="cell_step"),
        TypeError,
        "step is 'cell_step', expected a function step(params, state, x) that gives (state, y).",
    ),
    "step-gives": (
        lambda: lstm(PARAMS, XS, STATE, step=lonely),
        TypeError,
        "step lonely gives an array, expected the tuple (state, y).",
    ),
    "emit-unhashable": (
        lambda: lstm(PARAMS, XS, emit=UnhashableEmit()),
        TypeError,
        "emit holds a UnhashableEmit that is not hashable, so that compiled code cannot be kept by it. Use a "
        "module-level function or a frozen dataclass without arrays; arrays go through params.",
    ),
    "emit-batch": (
        lambda: lstm(PARAMS, XS, emit=scalar),
        ValueError,
        "what the step emits has shape (), expected (3,) first, the batch axes of x. Reduce over features only; "
        "sums over the batch are taken from ys.",
    ),
    "emit-pair": (
        lambda: stacked((Bidirectional(PARAMS, PARAMS),), XS, emit=first_unit),
        ValueError,
        "emit gives one number a step, shape (3, 5), but a Bidirectional pair joins its directions on an axis of "
        "features. Keep that axis: [..., None], or keepdims=True.",
    ),
    "lengths-time": (
        lambda: lstm(PARAMS, zeros(B, T, I), lengths=[1, 2, 3, 4, 5]),
        ValueError,
        "lengths has shape (5,), expected (3,): one number a sequence, the batch axes of xs. Did you pass (time, "
        "batch, features)? Then pass time_major=True.",
    ),
    "state-type": (
        lambda: stacked((PARAMS,), XS, zeros(B, H)),
        TypeError,
        "state is an array, expected a tuple with an (h, c) for each layer. For one layer: (h, c), or ((h, c),).",
    ),
    "state-pair": (
        lambda: stacked((Bidirectional(PARAMS, PARAMS),), XS, (STATE,)),
        TypeError,
        "state[0] is a tuple of 2, but layer 0 is a pair; expected Bidirectional(forward, reverse) of two (h, c).",
    ),
    "state-single": (
        lambda: stacked((PARAMS,), XS, (Bidirectional(STATE, STATE),)),
        TypeError,
        "state[0] is a Bidirectional, but layer 0 has one direction; expected (h, c).",
    ),
    "state-of-layer": (
        lambda: stacked((PARAMS, ABOVE), XS, (STATE, zeros(H))),
        ValueError,
        "state is an array, expected the tuple (h, c).",
    ),
    "layer-dtype": (
        lambda: stacked((PARAMS, jax.tree.map(lambda a: a.astype(jnp.bfloat16), ABOVE)), XS),
        ValueError,
        "layer 1 is bfloat16, but layer 0 gives float32; all layers share one dtype. Cast them, or pass dtype= to"
        " compute in one.",
    ),
    "sum-widths": (
        lambda: stacked((Bidirectional(PARAMS, PROJECTED),), XS, merge="sum"),
        ValueError,
        "merge='sum' adds up the directions of layer 0, which are 4 and 6 wide; they must be equally wide. Pass "
        "merge='concat'.",
    ),
    "head": (
        lambda: network(NetworkParams((PARAMS,), Dense(zeros(8, 2), zeros(2))), XS),
        ValueError,
        "the head's w has 8 rows, but the last layer gives 4 numbers with merge='concat': the width of its h, "
        "twice that for a concatenated Bidirectional pair.",
    ),
    "input-bias-step": (
        lambda: init_network(KEY, I, H, 3, input_bias_step=-2.0),
        ValueError,
        "input_bias_step is -2.0, but there is no input_bias to step from. Pass both.",
    ),
    "input-bias": (
        lambda: init_network(KEY, I, H, 3, input_bias=-1.0, cell="nig"),
        ValueError,
        "input_bias is given, but the cell 'nig' has no input gate. Leave input_bias out.",
    ),
    "network-type": (
        lambda: network((PARAMS,), XS),
        TypeError,
        "params is a tuple of 1, expected NetworkParams(layers, Dense(w, b)), as init_network gives them. For LSTM "
        "layers without a head use stacked.",
    ),
    "resets-of-stack": (
        lambda: stacked((PARAMS,), XS, resets=np.ones((B, T))),
        ValueError,
        "resets is float32, expected bool. Did you mean resets > 0?",
    ),
    "tap": (
        lambda: lstm(PARAMS, XS, STATE, step=plain, wrappers=(Tapping(),)),
        TypeError,
        "a wrapper taps what plain computes, but plain does not name the keyword tap. Hand it on.",
    ),
    "xs-none": (lambda: lstm(PARAMS, None), TypeError, "xs is None, expected an array of numbers."),
    "xs-word": (lambda: lstm(PARAMS, "abc"), TypeError, "xs is 'abc', expected an array of numbers."),
    "xs-words": (
        lambda: stacked((PARAMS,), np.array(["a", "b"])),
        TypeError,
        "xs is an array of shape (2,) and dtype <U1, expected an array of numbers.",
    ),
    "xs-ragged": (
        lambda: lstm(PARAMS, [[[1.0, 2.0], [3.0, 4.0]], [[5.0, 6.0]]]),
        ValueError,
        "xs is a list whose parts differ in length, expected an array. Pad them to one length, and pass lengths to say "
        "how many steps each has.",
    ),
    "xs-ragged-arrays": (
        lambda: lstm(PARAMS, (np.ones((4, I)), np.ones((3, I)))),
        ValueError,
        "xs is a tuple of 2 whose parts differ in length, expected an array. Pad them to one length, and pass "
        "lengths to say how many steps each has.",
    ),
    "xs-large": (
        lambda: lstm(PARAMS, [[10**30, 1]]),
        ValueError,
        "xs holds a whole number that is too large for an array. Pass it as float.",
    ),
    "xs-complex": (
        lambda: lstm(PARAMS, np.ones((B, T, I), complex)),
        ValueError,
        "xs has shape (3, 5, 2) and dtype complex64, expected [..., T, I] of floating-point numbers. A complex number "
        "goes in as two features: jnp.concatenate([xs.real, xs.imag], -1).",
    ),
    "xs-wraps": (
        lambda: lstm(PARAMS, np.full((B, T, I), 2**32 + 1), dtype="float32"),
        ValueError,
        "xs holds a whole number that is too large for int32. Pass it as float.",
    ),
    "xs-masked": (
        lambda: lstm(PARAMS, np.ma.masked_array(np.ones((B, T, I), np.float32))),
        TypeError,
        "xs is a masked array of NumPy, expected an array of numbers. Put a number where it is masked: xs.filled(0).",
    ),
    "xs-list-of-masked": (
        lambda: lstm(PARAMS, [np.ma.masked_array(np.ones((T, I), np.float32))] * B),
        TypeError,
        "xs is a masked array of NumPy, expected an array of numbers. Put a number where it is masked: xs.filled(0).",
    ),
    "xs-shape": (
        lambda: lstm(PARAMS, jax.ShapeDtypeStruct((B, T, I), jnp.float32)),
        TypeError,
        "xs is a jax.ShapeDtypeStruct, a shape without numbers, expected an array of numbers. To compute shapes "
        "alone, call the function by jax.eval_shape.",
    ),
    "xs-torch": (
        lambda: lstm(PARAMS, TorchTensor()),
        TypeError,
        "xs is a tensor of PyTorch with requires_grad, expected an array of numbers. Pass xs.detach().",
    ),
    "flag-traced": (
        lambda: jax.jit(lambda flag: lstm(PARAMS, XS, reverse=flag))(True),
        TypeError,
        "reverse is traced, expected True or False, since other programs are compiled for it. Make it a static "
        "argument of jax.jit.",
    ),
    "step-x-none": (lambda: cell_step(PARAMS, STATE, None), TypeError, "x is None, expected an array of numbers."),
    "lengths-none": (
        lambda: lstm(PARAMS, XS, lengths=[1, None, 3]),
        TypeError,
        "lengths is a list that holds None, expected an array of numbers.",
    ),
    "mask-word": (lambda: lstm(PARAMS, XS, mask="all"), TypeError, "mask is 'all', expected an array of numbers."),
    "resets-function": (
        lambda: lstm(PARAMS, XS, resets=plain),
        TypeError,
        "resets is a function, expected an array of numbers.",
    ),
    "state-three": (
        lambda: lstm(PARAMS, XS, (*STATE, STATE[1])),
        ValueError,
        "state is a tuple of 3, expected the tuple (h, c).",
    ),
    "state-word": (
        lambda: lstm(PARAMS, XS, (STATE[0], "c")),
        TypeError,
        "state[1] is 'c', expected an array of numbers.",
    ),
    "params-whole": (
        lambda: lstm(jax.tree.map(lambda a: a.astype(int), PARAMS), XS),
        ValueError,
        "w_x is int32, expected floating-point numbers. Cast them: jax.tree.map(lambda a: a.astype(jnp.float32), "
        "params).",
    ),
    "params-complex": (
        lambda: lstm(PARAMS._replace(b=np.ones((4, H), np.complex64)), XS),
        ValueError,
        "b is complex64, expected floating-point numbers. Pass their real parts; gates are not defined for complex "
        "numbers.",
    ),
    "params-word": (
        lambda: lstm(PARAMS._replace(w_h="w"), XS),
        TypeError,
        "params.w_h is 'w', expected an array of numbers.",
    ),
    "flag-word": (lambda: lstm(PARAMS, XS, reverse="no"), TypeError, "reverse is 'no', expected True or False."),
    "flag-array": (
        lambda: stacked((PARAMS,), XS, residual=np.ones(2, bool)),
        TypeError,
        "residual is an array of shape (2,) and dtype bool, expected True or False.",
    ),
    "product": (
        lambda: cell_step(PARAMS, STATE, XS[:, 0], product=None),
        TypeError,
        "product is None, expected a function product(site, *terms, bias=()).",
    ),
    "emitted-step": (
        lambda: lstmjax.emitted("h", None),
        TypeError,
        "step is None, expected a Step of everything that the step computed.",
    ),
    "forget-bias-nan": (
        lambda: init_params(KEY, I, H, forget_bias=float("nan")),
        ValueError,
        "forget_bias is nan, expected a finite number.",
    ),
    "forget-bias-of-other-units": (
        lambda: init_params(KEY, I, H, forget_bias=jnp.ones(H + 1)),
        ValueError,
        f"forget_bias has shape ({H + 1},), expected a number, or one for each unit, [H] = ({H},).",
    ),
    "forget-bias-complex": (
        lambda: init_params(KEY, I, H, forget_bias=jnp.ones(H, jnp.complex64)),
        ValueError,
        "forget_bias is complex64, expected real numbers.",
    ),
    "forget-bias-too-large": (
        lambda: init_params(KEY, I, H, forget_bias=1e39),
        ValueError,
        "forget_bias is 1e+39, expected a number that is finite in float32.",
    ),
    "input-bias-word": (
        lambda: init_network(KEY, I, H, 3, input_bias="-1"),
        ValueError,
        "input_bias is '-1', expected a finite number.",
    ),
    "input-bias-step-infinite": (
        lambda: init_network(KEY, I, H, 3, input_bias=1.0, input_bias_step=np.inf),
        ValueError,
        "input_bias_step is inf, expected a finite number.",
    ),
    "to-concatenated": (
        lambda: to_concatenated(None),
        TypeError,
        "params is None, expected LSTMParams, as init_params gives them.",
    ),
    "from-concatenated": (lambda: from_concatenated(None), TypeError, "w is None, expected an array of numbers."),
    "padding-array": (
        lambda: lstm(PARAMS, XS, padding=np.ones(2)),
        ValueError,
        "padding is array([1., 1.]), expected one of 'zero', 'hold'.",
    ),
    "whole": (
        lambda: lstmjax.inside.state_jacobian(PARAMS, XS[0], None, 2),
        TypeError,
        "start is None, expected a whole number.",
    ),
    "above-0": (
        lambda: forecast.Training(steps=3, learning_rate=float("inf")),
        ValueError,
        "learning_rate is inf, expected a finite number above 0.",
    ),
    "stack-xs": (
        lambda: stacked(XS, (PARAMS,)),
        TypeError,
        "layers is an array, expected a tuple of LSTMParams or Bidirectional pairs, from the bottom up. For one "
        "layer: (params,).",
    ),
    # forecasting
    "forecast-samples": (
        lambda: forecaster().forecast(SERIES, samples=0),
        ValueError,
        "samples is 0, expected a whole number of at least 1.",
    ),
    "forecast-batch-size": (
        lambda: forecaster().forecast(SERIES, batch_size=0),
        ValueError,
        "batch_size is 0, expected a whole number of at least 1.",
    ),
    "forecast-seed-whole": (
        lambda: forecaster().forecast(SERIES, seed=1.5),
        TypeError,
        "seed is 1.5, expected a whole number.",
    ),
    "forecast-seed-flag": (
        lambda: forecaster().forecast(SERIES, seed=True),
        TypeError,
        "seed is True, expected a whole number, such as 0.",
    ),
    "forecast-seed-bits": (
        lambda: forecaster().forecast(SERIES, seed=2**32),
        ValueError,
        "seed is 4294967296, expected a whole number of 32 bits: from -2147483648 to 4294967295.",
    ),
    "forecast-which-empty": (
        lambda: forecaster().forecast(SERIES, which=[]),
        ValueError,
        "which is empty, expected the number of a series at least. None stands for all of them.",
    ),
    "forecast-which-outside": (
        lambda: forecaster().forecast(SERIES, which=[0, 9]),
        ValueError,
        "which has 9, expected whole numbers from 0 to 1: there are 2 series.",
    ),
    "forecast-which-flags": (
        lambda: forecaster().forecast(SERIES, which=[True, False]),
        ValueError,
        "which has the dtype bool, expected whole numbers: the series to forecast. Pass np.flatnonzero(which).",
    ),
    "forecast-which-fractions": (
        lambda: forecaster().forecast(SERIES, which=[0.5]),
        ValueError,
        "which is an array of shape (1,) and float64, expected whole numbers [N]: the series to forecast.",
    ),
    "forecast-which-words": (
        lambda: forecaster().forecast(SERIES, which=[None]),
        ValueError,
        "which is a list that holds None, expected whole numbers [N]: the series to forecast.",
    ),
    "forecast-series": (
        lambda: forecaster().forecast([1.0, 2.0]),
        TypeError,
        "series is a list, expected SeriesSet. from_arrays and from_frame make one.",
    ),
    "forecast-levels": (
        lambda: forecast.Forecast(np.zeros((1, 4, 2)), np.ones(1, int), ("a",)).quantiles([10, 90]),
        ValueError,
        "levels is [10, 90], expected levels [Q] from 0 to 1, such as [0.1, 0.5, 0.9].",
    ),
    "forecast-ensemble-spread": (
        lambda: forecast.Ensemble((forecaster(),), spread=np.nan),
        ValueError,
        "spread is nan, expected a finite number above 0; 1 leaves samples as they are.",
    ),
    "forecast-ensemble-none": (
        lambda: forecast.Ensemble(None),
        TypeError,
        "forecasters is None, expected a tuple of Forecaster.",
    ),
    "forecast-ensemble-member": (
        lambda: forecast.Ensemble((None,)),
        TypeError,
        "forecasters[0] is None, expected Forecaster. fit_forecaster returns one.",
    ),
    "forecast-network-spread": (
        lambda: dataclasses.replace(forecaster(), spread=-1),
        ValueError,
        "spread is -1, expected a finite number above 0; 1 leaves samples as they are.",
    ),
    "forecast-seeds-number": (
        lambda: forecast.fit_ensemble(SERIES, DESIGN, seeds=5),
        TypeError,
        "seeds is 5, expected a whole number for each network, such as range(5).",
    ),
    "forecast-seeds-empty": (
        lambda: forecast.fit_ensemble(SERIES, DESIGN, seeds=()),
        ValueError,
        "seeds is empty, expected a whole number for each network.",
    ),
    "forecast-seeds-fraction": (
        lambda: forecast.fit_ensemble(SERIES, DESIGN, seeds=(0, 0.5)),
        TypeError,
        "seeds[1] is 0.5, expected a whole number.",
    ),
    "forecast-seeds-twice": (
        lambda: forecast.fit_ensemble(SERIES, DESIGN, seeds=(0, 0)),
        ValueError,
        "seeds is (0, 0), expected different ones: networks of one seed are the same. Pass range(2).",
    ),
    "forecast-fitted": (
        lambda: forecast.fit_ensemble(SERIES, DESIGN, fitted=[forecaster()]),
        TypeError,
        "fitted is a list that holds a Forecaster, expected a dict with a Forecaster by seed.",
    ),
    "forecast-fitted-none": (
        lambda: forecast.fit_ensemble(SERIES, DESIGN, fitted={0: None}),
        TypeError,
        "fitted[0] is None, expected Forecaster. fit_forecaster returns one.",
    ),
    "forecast-on-forecaster": (
        lambda: forecast.fit_ensemble(SERIES, DESIGN, on_forecaster=1),
        TypeError,
        "on_forecaster is 1, expected a function (seed, forecaster).",
    ),
    "forecast-calibration": (
        lambda: forecast.fit_calibrated(SERIES, DESIGN, calibration=0.8),
        TypeError,
        "calibration is 0.8, expected Calibration. Pass Calibration(), or None for none.",
    ),
    "forecast-fit-design": (
        lambda: forecast.fit_forecaster(SERIES, 12),
        TypeError,
        "design is 12, expected Design. Pass Design(horizon=..., context=...).",
    ),
    "forecast-fit-training": (
        lambda: forecast.fit_forecaster(SERIES, DESIGN, 100),
        TypeError,
        "training is 100, expected Training. Pass Training(steps=...), or None for the defaults.",
    ),
    "forecast-level": (
        lambda: forecast.Calibration(level="80%"),
        ValueError,
        "level is '80%', expected a share above 0 and below 1, such as 0.8.",
    ),
    "forecast-factor": (
        lambda: forecast.scaled_spread(np.zeros((2, 3)), 0),
        ValueError,
        "factor is 0, expected a finite number above 0; 1 leaves samples as they are.",
    ),
    "forecast-rate": (
        lambda: forecast.Design(horizon=2, context=3, dropout=None),
        ValueError,
        "dropout is None, expected a rate from 0 to below 1.",
    ),
    "forecast-flag-none": (
        lambda: forecast.Design(horizon=2, context=3, volatility=None),
        TypeError,
        "volatility is None, expected True or False.",
    ),
    "forecast-rolling-origins": (
        lambda: forecast.Rolling(origins=0),
        ValueError,
        "origins is 0, expected a whole number of at least 1.",
    ),
    "forecast-rolling": (
        lambda: forecast.backtest(forecaster(), SERIES, 3),
        TypeError,
        "rolling is 3, expected Rolling. Pass Rolling(origins, stride), or None for one origin.",
    ),
    "forecast-backtest-forecaster": (
        lambda: forecast.backtest(None, SERIES),
        TypeError,
        "forecaster is None, expected a Forecaster or an Ensemble.",
    ),
    "forecast-refit": (
        lambda: forecast.backtest(forecaster(), SERIES, refit=3),
        TypeError,
        "refit is 3, expected a function of the series that are known, which returns a forecaster.",
    ),
    "forecast-keep-samples": (
        lambda: forecast.backtest(forecaster(), SERIES, keep_samples="no"),
        TypeError,
        "keep_samples is 'no', expected True or False.",
    ),
    "forecast-baselines": (
        lambda: forecast.backtest(forecaster(), SERIES, baselines=[forecast.naive]),
        TypeError,
        "baselines is a list that holds a function, expected a dict with functions of (history, horizon, "
        "season) by name.",
    ),
    "forecast-baseline": (
        lambda: forecast.backtest(forecaster(), SERIES, baselines={"naive": 3}),
        TypeError,
        "baselines['naive'] is 3, expected a function of (history [T], horizon, season).",
    ),
    "forecast-compare-origins": (
        lambda: forecast.compare(np.zeros((1, 2, 3, 2)), SERIES, [[3, 9]], 1),
        ValueError,
        "origins has 9 for series '1', expected 1 to 4: steps before it.",
    ),
    "forecast-compare-samples": (
        lambda: forecast.compare(np.zeros((2, 3, 2)), SERIES, [[3, 3]], 1),
        ValueError,
        "samples is [2, 3, 2] and float64, expected floating-point numbers [R, S, samples, H] with R, S = 1, "
        "2, as origins has.",
    ),
    "forecast-compare-left-out": (
        lambda: forecast.compare(np.zeros((1, 2, 3, 2)), SERIES, [[3, 3]], 1, left_out=[0]),
        ValueError,
        "left_out is a list, expected an array of bool [1, 2], or None.",
    ),
    "forecast-compare-ragged": (
        lambda: forecast.compare([[1.0], [1.0, 2.0]], SERIES, [[3, 3]], 1),
        ValueError,
        "samples is a list whose parts differ in length, expected an array.",
    ),
    "forecast-history-series": (lambda: SERIES.history(2), ValueError, "s is 2, expected 0 to 1: there are 2 series."),
    "forecast-history-before": (
        lambda: SERIES.history(0, 9),
        ValueError,
        "before is 9, expected 0 to 4, the steps of series '0'.",
    ),
    "forecast-cut": (lambda: SERIES.cut(-1), ValueError, "steps is -1, expected a whole number of at least 0."),
    "forecast-subset": (
        lambda: SERIES.subset([2]),
        ValueError,
        "which has 2, but there are 2 series, numbered from 0.",
    ),
    "forecast-history-numbers": (
        lambda: forecast.naive(["a"], 2),
        TypeError,
        "history is a list that holds 'a', expected an array of numbers, NaN where one is missing.",
    ),
    "forecast-horizon": (
        lambda: forecast.drift([1.0, 2.0], -1),
        ValueError,
        "horizon is -1, expected a whole number of at least 1.",
    ),
    "forecast-targets": (
        lambda: forecast.from_arrays(None),
        TypeError,
        "targets is None, expected a list with an array [T] for each series.",
    ),
    "forecast-names": (
        lambda: forecast.from_arrays([[1.0]], names="a"),
        TypeError,
        "names is 'a', expected a name for each series.",
    ),
    "forecast-start": (
        lambda: forecast.from_arrays([[1.0]], start=["May"]),
        forecast.SeriesError,
        "start[0] is 'May', expected a date in the unit of a step, such as '1996-01'.",
    ),
    "forecast-past": (
        lambda: forecast.from_arrays([[1.0]], past=[[1.0]]),
        TypeError,
        "past is a list, expected a dict with the values of each series by name.",
    ),
    "forecast-past-one": (
        lambda: forecast.from_arrays([[1.0]], past={"price": 3.0}),
        forecast.SeriesError,
        "past['price'] is 3.0, expected an entry for each of 1 series.",
    ),
    "forecast-frame-past": (
        lambda: forecast.from_frame({}, past="price"),
        TypeError,
        "past is 'price', expected a list of names: ['price'].",
    ),
    "forecast-frame-none": (
        lambda: forecast.from_frame({}, known=None),
        TypeError,
        "known is None, expected a list of names, such as [] for none.",
    ),
    "forecast-frame-target": (
        lambda: forecast.from_frame({}, target=None),
        TypeError,
        "target is None, expected the name of a column.",
    ),
    "forecast-frame-season": (
        lambda: forecast.from_frame({}, season=0),
        ValueError,
        "season is 0, expected a whole number of at least 1.",
    ),
    "forecast-parts": (
        lambda: forecast.store_series(SERIES, "nowhere"),
        TypeError,
        "parts is a SeriesSet, expected sets of series, such as read_parts yields. Pass [parts].",
    ),
    "forecast-path": (
        lambda: forecast.open_series(None),
        TypeError,
        "folder is None, expected the path of a file or a folder.",
    ),
    "forecast-pinball": (
        lambda: forecast.metrics.pinball([1.0], [[1.0, 2.0]], [0.5]),
        ValueError,
        "target is [1], quantiles [1, 2] and levels [1], expected [..., H], [..., H, Q] and [Q].",
    ),
    "forecast-crps": (
        lambda: forecast.metrics.crps([1.0], [1.0]),
        ValueError,
        "samples is [1] and target [1], expected [..., samples, H] and [..., H], with a sample at least.",
    ),
    "forecast-mase-scale": (
        lambda: forecast.metrics.mase([[1.0]], [[2.0]], [1.0, 2.0]),
        ValueError,
        "scale is [2], expected [1]: that of each history, without the steps H.",
    ),
    "forecast-metric-number": (
        lambda: forecast.metrics.mae(1.0, 1.0),
        ValueError,
        "target is a number, expected [..., H], a number for each step of the horizon.",
    ),
}


@pytest.mark.parametrize("name", MESSAGES)
def test_the_message_says(name):
    call, kind, text = MESSAGES[name]
    with pytest.raises(kind) as error:
        call()
    said = str(error.value).split("\n--------------------")[0]  # what JAX adds about its own frames
    assert said == text


def test_a_backend_that_is_not_there_is_refused():
    """The names that are there change as backends are added."""
    with pytest.raises(ValueError, match=r"^backend is 'tpu', expected one of 'auto', 'scan'"):
        lstm(PARAMS, XS, backend="tpu")


CORE = [
    "types",
    "arguments",
    "textbook",
    "checks",
    "carry",
    "cells",
    "published",
    "cell",
    "init",
    "wrappers",
    "dropout",
    "states",
    "layer",
    "stack",
    "networks",
    "forecast/arguments",
]


def raised(module):
    """The message of each `raise` of a module, as a pattern: what is filled in stands for anything."""
    tree = ast.parse((Path(lstmjax.__file__).parent / f"{module}.py").read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
            (message,) = node.exc.args
            parts = message.values if isinstance(message, ast.JoinedStr) else [message]
            yield "".join(re.escape(p.value) if isinstance(p, ast.Constant) else ".*" for p in parts)


@pytest.mark.parametrize("module", CORE)
def test_no_message_goes_unread(module):
    for pattern in raised(module):
        assert any(re.fullmatch(pattern, text) for _, _, text in MESSAGES.values()), f"{module}: {pattern}"
