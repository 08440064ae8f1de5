"""What must hold of parameters, states and inputs: ValueError at the public boundary, a chex assertion at every gate.

Every check looks at shapes and dtypes only, so it runs once, when a function is traced, and costs
nothing at run time.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING, Any

import chex
import jax
import jax.numpy as jnp

from lstmjax.arguments import check_hashable, check_positive, kind
from lstmjax.errors import Either, Message, Option
from lstmjax.types import GATE_WORDS, LETTERS, Array, LSTMParams, Norms, PyTree, leading_axes

if TYPE_CHECKING:
    from lstmjax.cells import Cell

EMITS = ("h", "c", "step")
PADDINGS = ("zero", "hold")
REQUIRED = ("w_x", "w_h", "norm.x", "norm.h", "norm.c")
"""Arrays of the parameters that are never None; those of a norm, if there is one."""
BY_CELL = ("w_c", "w_r", "norm", "gain")
"""Optional fields of the parameters that the cell determines; biases and a projection go with every cell."""
VALUE_WORDS = (
    {name: f"{words} {name}" for name, words in GATE_WORDS.items()}
    | {f"z_{name}": f"pre-activation z_{name} of the {words}" for name, words in GATE_WORDS.items()}
    | {"c": "cell state c", "m": "m = o ⊙ tanh(c)", "h": "output h"}
)
"""The fields of `Step` in words."""


def cell_dtype(dtype: Any) -> jnp.dtype:
    """Return the dtype of c, the gates and m: float32 for half precision, else the dtype itself.

    >>> cell_dtype(jnp.bfloat16), cell_dtype(jnp.float64)
    (dtype('float32'), dtype('float64'))
    """
    return jnp.dtype(jnp.float32) if jnp.dtype(dtype).itemsize < 4 else jnp.dtype(dtype)


def check_emit(emit: object) -> None:
    """Refuse an `emit` that is neither a known word nor a function."""
    if not callable(emit) and not (isinstance(emit, str) and emit in EMITS):
        raise ValueError(f"emit is {emit!r}, expected 'h', 'c', 'step' or a function of the Step.")
    check_hashable("emit", emit)


def check_emitted(ys: PyTree, batch: tuple[int, ...]) -> None:
    """Refuse what a step emits unless its arrays begin with the batch axes."""
    for y in jax.tree.leaves(ys):
        if jnp.shape(y)[: len(batch)] != batch:
            raise ValueError(
                f"what the step emits has shape {jnp.shape(y)}, expected {batch} first, the batch axes of x. "
                "Reduce over features only; sums over the batch are taken from ys."
            )


def ensemble(params: PyTree) -> str:
    """Return why parameters are of several networks and what to do about it, or "" if they are of one."""
    axes = leading_axes(params)
    if not axes:
        return ""
    member = "a[k]" if len(axes) == 1 else f"a[{', '.join('jkmn'[: len(axes)])}]"
    return (
        f"the parameters are an ensemble of {prod(axes)} networks: every array has the leading axes {axes}, as "
        f"jax.vmap makes them. Take one, jax.tree.map(lambda a: {member}, params), or run all by jax.vmap over params."
    )


def check_params_type(params: object) -> None:
    """Refuse anything but `LSTMParams`."""
    if not isinstance(params, LSTMParams):
        raise TypeError(
            f"params is {kind(params)}, expected LSTMParams. For one layer pass init_params(...); "
            f"for a tuple of layers use stacked.{remedy(params)}"
        )


def remedy(params: object) -> str:
    """Return what to do with parameters of another kind than `LSTMParams`, as they say it, or ""."""
    return getattr(params, "remedy", "")


def check_params(params: LSTMParams, cell: Cell) -> None:
    """Refuse parameters whose arrays do not fit each other or the cell."""
    check_params_type(params)
    fields = params._asdict()
    if isinstance(params.norm, Norms):
        fields |= {f"norm.{name}": value for name, value in fields.pop("norm")._asdict().items()}
    for name, value in fields.items():
        if not hasattr(value, "shape") and (value is not None or name in REQUIRED):
            raise TypeError(f"{name} is {kind(value)}, expected an array: jnp.asarray({name}).")
        if value is not None and not jnp.issubdtype(value.dtype, jnp.floating):
            remedy = "Cast them: jax.tree.map(lambda a: a.astype(jnp.float32), params)"
            if jnp.issubdtype(value.dtype, jnp.complexfloating):
                remedy = "Pass their real parts; gates are not defined for complex numbers"
            raise ValueError(f"{name} is {value.dtype}, expected floating-point numbers. {remedy}.")
    if params.w_x.ndim > 3 and params.w_h.ndim == params.w_x.ndim:
        raise ValueError(ensemble(params))
    if params.w_x.ndim != 3 or params.w_h.ndim != 3:
        raise ValueError(
            f"w_x has shape {params.w_x.shape} and w_h {params.w_h.shape}, expected [I, G, H] and [P, G, H] with the "
            "gates on an axis of their own. from_concatenated reads the textbook form [4H, I + H]."
        )
    inputs, gates, hidden = params.w_x.shape
    if 0 in (inputs, hidden):
        raise ValueError(
            f"w_x has shape {params.w_x.shape}, expected [I, G, H] with I and H at least 1. "
            "A layer without inputs is one of a single feature that is 0."
        )
    if gates != len(cell.blocks):
        raise ValueError(
            f"w_x has {gates} gate blocks, but the cell {cell.name!r} has {len(cell.blocks)}: "
            f"{', '.join(cell.blocks)}. Were these parameters made for another cell?"
        )
    for name in BY_CELL:
        if (getattr(params, name) is None) == (name in cell.has):
            fault = "None, but the cell {} has it" if name in cell.has else "given, but the cell {} has none"
            words = f"{name} is {fault.format(repr(cell.name))}. Were these parameters made for another cell? Pass "
            raise ValueError(Message(words, Option("cell"), Either(" to both init_params and the layer.", ".")))
    if params.w_p is None and params.b_p is not None:
        raise ValueError(
            "b_p is given, but there is no projection w_p for it to be the bias of. Pass b_p=None, or w_p [H, P]."
        )
    if params.w_p is None and cell.needs_projection:
        raise ValueError(
            f"w_p is None, but the cell {cell.name!r} limits a projected h. Pass projection_size= to init_params, or "
            "the cell without that limit."
        )
    width = hidden if params.w_p is None else params.w_p.shape[-1]
    expected = cell.shapes(inputs, hidden, width)
    for name, value in fields.items():
        if value is None:
            continue
        if value.shape != expected[name]:
            letters = ", ".join(LETTERS[name]).replace("R", "3H").replace("S", "3")
            raise ValueError(
                f"{name} has shape {value.shape}, expected [{letters}] = {expected[name]}, since w_x "
                f"{params.w_x.shape} has I = {inputs}, G = {gates}, H = {hidden}."
            )
        if value.dtype != params.w_x.dtype:
            raise ValueError(f"{name} is {value.dtype}, but w_x is {params.w_x.dtype}; all parameters share one dtype.")


def check_cell_inputs(params: LSTMParams, state: tuple[Array, ...], x: Array, cell: Cell) -> None:
    """Refuse parameters, a state and an input that do not fit each other."""
    check_params(params, cell)
    check_features("x", x, params)
    check_state("state", state, state_like(params, x.shape[:-1], cell.feeds), cell.feeds, exact=True)


def check_features(name: str, xs: Any, params: PyTree, layout: str = "[..., I]") -> None:
    """Refuse inputs whose last axis or dtype is not that of the parameters."""
    if xs.ndim < 1 or not jnp.issubdtype(xs.dtype, jnp.floating):
        hint = "Symbols and class numbers go through jax.nn.one_hot or an embedding first."
        if jnp.issubdtype(xs.dtype, jnp.complexfloating):
            hint = f"A complex number goes in as two features: jnp.concatenate([{name}.real, {name}.imag], -1)."
        raise ValueError(
            f"{name} has shape {xs.shape} and dtype {xs.dtype}, expected {layout} of floating-point numbers. {hint}"
        )
    if not isinstance(params, LSTMParams):
        return
    if xs.shape[-1] != params.input_size:
        features = "1 feature" if xs.shape[-1] == 1 else f"{xs.shape[-1]} features"
        raise ValueError(
            f"{name} has {features} on its last axis, but the parameters expect I = {params.input_size} (w_x "
            f"{params.w_x.shape}); {name} has shape {xs.shape}, expected {layout}. "
            f"{_features_hint(xs, params.input_size)}"
        )
    if xs.dtype != params.w_x.dtype:
        raise ValueError(
            f"{name} is {xs.dtype}, but the parameters are {params.w_x.dtype}. Cast {name} with "
            f".astype({params.w_x.dtype}), or pass dtype= to compute in another type than the parameters' own."
        )


def _features_hint(xs: Any, inputs: int) -> str:
    if inputs in xs.shape:
        axis = xs.shape.index(inputs)
        return f"Axis {axis} has {inputs}: did you pass (batch, time, features)? Move that axis to the end."
    if inputs == 1:
        return "A series of single numbers needs a feature axis of its own: xs[..., None]."
    return "Did you pass (batch, time, features)? The last axis is the features of one time step."


def check_sequence(xs: Any, params: PyTree, time_major: bool) -> None:
    """Refuse inputs that are not a sequence of feature vectors for these parameters."""
    layout = "[T, ..., I]" if time_major else "[..., T, I]"
    if xs.ndim < 2:
        raise ValueError(
            f"xs has shape {xs.shape}, expected {layout}: (time, features), or (batch, time, features). "
            "One step alone is a sequence of length 1: xs[None], or use cell_step."
        )
    check_features("xs", xs, params, layout)


def check_running(step: object, wrappers: object, checkpoint: object, unroll: object) -> tuple[tuple, tuple]:
    """Return the wrappers, and for each the extras it brings or None; refuse what a scan cannot run.

    Args:
        step, wrappers, checkpoint, unroll: as for `lstm`.
    """
    check_positive("unroll", unroll)
    if checkpoint is not None and not (isinstance(checkpoint, str) and checkpoint == "sqrt"):
        if isinstance(checkpoint, str):
            raise ValueError(f"checkpoint is {checkpoint!r}, expected None, 'sqrt' or a segment length.")
        check_positive("checkpoint", checkpoint)
    if not isinstance(wrappers, tuple | list):
        raise TypeError(f"wrappers is {kind(wrappers)}, expected a tuple: wrappers=(Zoneout(0.1, 0.1),).")
    pairs = [w if isinstance(w, tuple) and len(w) == 2 else (w, None) for w in wrappers]
    for wrapper, _ in pairs:
        if isinstance(wrapper, type) or not hasattr(wrapper, "draw"):
            raise TypeError(
                f"wrappers holds {wrapper!r}, expected wrappers with their rates, such as Zoneout(0.1, 0.1), or "
                "objects with the methods draw and __call__."
            )
        check_hashable("wrappers", wrapper)
    if not callable(step):
        raise TypeError(f"step is {step!r}, expected a function step(params, state, x) that gives (state, y).")
    check_hashable("step", step)
    return tuple(wrapper for wrapper, _ in pairs), tuple(extras for _, extras in pairs)


def check_tapped(tapped: bool, names: Sequence[str], step: object) -> None:
    """Refuse a tap around a user's step that does not take it."""
    if tapped and "tap" not in names:
        name = getattr(step, "__name__", step)
        raise TypeError(f"a wrapper taps what {name} computes, but {name} does not name the keyword tap. Hand it on.")


def check_stepped(pair: object, step: object) -> None:
    """Refuse a user's step that does not return (state, y)."""
    if not isinstance(pair, tuple | list) or len(pair) != 2:
        raise TypeError(f"step {getattr(step, '__name__', step)} gives {kind(pair)}, expected the tuple (state, y).")


def check_alike(name: str, reset_state: PyTree, state: PyTree, other: str = "state") -> None:
    """Refuse a reset state whose tree is not that of the state."""
    got, expected = str(jax.tree.structure(reset_state)), str(jax.tree.structure(state))
    if got != expected:
        raise ValueError(f"{name} has the structure {got}, but {other} has {expected}. Pass one that is built alike.")


def state_like(params: LSTMParams, batch: tuple[int, ...], feeds: tuple[str, ...]) -> tuple[jax.ShapeDtypeStruct, ...]:
    """Return the shapes and dtypes of a state (h, c), with the gates behind it that the cell feeds back."""
    dtype = params.w_x.dtype
    h = jax.ShapeDtypeStruct((*batch, params.output_size), dtype)
    c = jax.ShapeDtypeStruct((*batch, params.hidden_size), cell_dtype(dtype))
    return h, *[c] * (1 + len(feeds))


def is_state(state: PyTree, like: tuple[jax.ShapeDtypeStruct, ...]) -> bool:
    """Return whether the state of a user's step is a plain (h, c): both with the batch axes, or both without."""
    if type(state) is not tuple or not all(hasattr(s, "dtype") for s in state):
        return False
    real = all(jnp.issubdtype(s.dtype, jnp.floating) for s in state)
    return real and [jnp.shape(s) for s in state] in ([z.shape for z in like], [z.shape[-1:] for z in like])


def check_state(
    name: str, state: PyTree, like: tuple, feeds: tuple[str, ...] = (), exact: bool = False, cast: bool = False
) -> None:
    """Refuse a state that is not a tuple (h, c), with the gates behind it that the cell feeds back, as `like` is.

    Without `exact` it may lack the batch axes, for all sequences alike, and c may be in half precision; with `cast`
    it may have any dtype.
    """
    names = ("h", "c", *feeds)
    if not isinstance(state, tuple) or len(state) != len(names):
        raise ValueError(f"{name} is {kind(state)}, expected the tuple ({', '.join(names)}).")
    for part, value, target in zip(names, state, like, strict=True):
        if not hasattr(value, "shape"):
            raise TypeError(f"{name} {part} is {kind(value)}, expected an array: jnp.asarray({part}).")
        shared = target.shape[-1:]  # one state for all sequences
        if value.shape != target.shape and (exact or value.shape != shared):
            either = "" if exact or target.shape == shared else f" or {shared} for all sequences alike"
            size = "P, the width of h" if part == "h" else "H units"
            raise ValueError(
                f"{name} {part} has shape {value.shape}, expected {target.shape}{either}: the batch axes of x, then "
                f"{size}. Is the state (h, c), and not (c, h) as Flax has it?"
            )
        fits = value.dtype == target.dtype or (not exact and cell_dtype(value.dtype) == target.dtype)
        if not (cast or fits):
            raise ValueError(
                f"{name} {part} is {value.dtype}, expected {target.dtype} (under half precision h is half and c is "
                "float32). Cast it with .astype."
            )


def check_value(params: LSTMParams, batch: tuple[int, ...], name: str, value: Array) -> None:
    """Assert the shape and dtype of a gate, c, m or h, named as in `Step` (by chex, while tracing)."""
    size, letter = (params.output_size, "P") if name == "h" else (params.hidden_size, "H")
    dtype = params.w_x.dtype if name == "h" else cell_dtype(params.w_x.dtype)
    message = (
        f"{VALUE_WORDS[name]} has shape {value.shape} and dtype {value.dtype}, expected [..., {letter}] = "
        f"{(*batch, size)} and {dtype}."
    )
    chex.assert_shape(value, (*batch, size), custom_message=message)
    chex.assert_type(value, dtype, custom_message=message)
