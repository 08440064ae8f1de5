"""What must hold, said in words: at the public boundary ValueError, at every gate a chex assertion.

Everything here looks at shapes and dtypes only, so it runs once, when a function is traced, and
costs nothing at run time. `check_lengths` alone looks at values, and only when they are at hand.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING, Any

import chex
import jax
import jax.numpy as jnp

from lstmjax.arguments import check_hashable, check_positive, counted, kind
from lstmjax.errors import Either, Message, Option
from lstmjax.types import Array, LSTMParams, Norms, PyTree, leading_axes

if TYPE_CHECKING:
    from jax.typing import ArrayLike

    from lstmjax.cells import Cell

EMITS = ("h", "c", "step")
PADDINGS = ("zero", "hold")
REQUIRED = ("w_x", "w_h", "norm.x", "norm.h", "norm.c")
"""Arrays of the parameters that are never None; the norm's where there is one."""
BY_CELL = ("w_c", "w_r", "norm", "gain")
"""Optional fields of the parameters that the cell says; biases and a projection go with every cell."""


def cell_dtype(dtype: Any) -> jnp.dtype:
    """Gives the dtype of c, the gates and m: float32 for half precision, else the dtype itself.

    >>> cell_dtype(jnp.bfloat16), cell_dtype(jnp.float64)
    (dtype('float32'), dtype('float64'))
    """
    return jnp.dtype(jnp.float32) if jnp.dtype(dtype).itemsize < 4 else jnp.dtype(dtype)


def check_emit(emit: object) -> None:
    """Refuses an `emit` that is neither a known word nor a function."""
    if not callable(emit) and not (isinstance(emit, str) and emit in EMITS):
        raise ValueError(f"emit is {emit!r}, expected 'h', 'c', 'step' or a function of the Step.")
    check_hashable("emit", emit)


def check_emitted(ys: PyTree, batch: tuple[int, ...]) -> None:
    """Refuses what a step emits if it does not begin with the batch axes."""
    for y in jax.tree.leaves(ys):
        if jnp.shape(y)[: len(batch)] != batch:
            raise ValueError(
                f"what the step emits has shape {jnp.shape(y)}, expected {batch} first, the batch axes of x. "
                "Reduce over features only; sums over the batch are taken from ys."
            )


def ensemble(params: PyTree) -> str:
    """Return why parameters are more than one network and what to do, or nothing if they are one."""
    axes = leading_axes(params)
    if not axes:
        return ""
    member = "a[k]" if len(axes) == 1 else f"a[{', '.join('jkmn'[: len(axes)])}]"
    return (
        f"the parameters are an ensemble of {prod(axes)} networks: every array has the leading axes {axes}, as "
        f"jax.vmap makes them. Take one, jax.tree.map(lambda a: {member}, params), or run all by jax.vmap over params."
    )


def check_params_type(params: object) -> None:
    """Refuse what is no `LSTMParams`."""
    if not isinstance(params, LSTMParams):
        raise TypeError(
            f"params is {kind(params)}, expected LSTMParams. For one layer pass init_params(...); "
            "for a tuple of layers use stacked."
        )


def check_params(params: LSTMParams, cell: Cell) -> None:
    """Refuses parameters whose arrays do not fit each other or the cell."""
    check_params_type(params)
    fields = params._asdict()
    if isinstance(params.norm, Norms):
        fields |= {f"norm.{name}": value for name, value in fields.pop("norm")._asdict().items()}
    for name, value in fields.items():
        if not hasattr(value, "shape") and (value is not None or name in REQUIRED):
            raise TypeError(f"{name} is {kind(value)}, expected an array: jnp.asarray({name}).")
        if value is not None and not jnp.issubdtype(value.dtype, jnp.floating):
            remedy = (
                "Pass their real parts; gates are not defined for complex numbers"
                if jnp.issubdtype(value.dtype, jnp.complexfloating)
                else "Cast them: jax.tree.map(lambda a: a.astype(jnp.float32), params)"
            )
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
            there, wanted = ("None", "has it") if name in cell.has else ("given", "has none")
            raise ValueError(
                Message(
                    f"{name} is {there}, but the cell {cell.name!r} {wanted}. Were these parameters made for another "
                    "cell? Pass ",
                    Option("cell"),
                    Either(" to both init_params and the layer.", "."),
                )
            )
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
    expected: dict[str, tuple[str, tuple[int, ...]]] = {
        "w_h": ("[P, G, H]", (width, gates, hidden)),
        "w_p": ("[H, P]", (hidden, width)),
        "b_p": ("[P]", (width,)),
        "w_c": ("[K, H]", (len(cell.peepholes), hidden)),
        "w_r": ("[3H, 3, H]", (3 * hidden, 3, hidden)),
        "norm.c": ("[H]", (hidden,)),
        "norm.c_shift": ("[H]", (hidden,)),
    }
    for name, value in fields.items():
        if value is None:
            continue
        letters, shape = expected.get(name, ("[G, H]", (gates, hidden)))
        shape = params.w_x.shape if name == "w_x" else shape
        if value.shape != shape:
            raise ValueError(
                f"{name} has shape {value.shape}, expected {letters} = {shape}, since w_x {params.w_x.shape} "
                f"has I = {inputs}, G = {gates}, H = {hidden}."
            )
        if value.dtype != params.w_x.dtype:
            raise ValueError(f"{name} is {value.dtype}, but w_x is {params.w_x.dtype}; all parameters share one dtype.")


def check_cell_inputs(params: LSTMParams, state: tuple[Array, ...], x: Array, cell: Cell) -> None:
    """Refuses parameters, a state and an input that do not fit each other."""
    check_params(params, cell)
    check_state_tuple("state", state, cell.feeds)
    dtype = params.w_x.dtype
    check_features("x", x, params)
    for name, value in zip(("h", "c", *cell.feeds), state, strict=True):
        shape = (*x.shape[:-1], params.output_size if name == "h" else params.hidden_size)
        expected = dtype if name == "h" else cell_dtype(dtype)
        if value.shape != shape:
            raise ValueError(
                f"state {name} has shape {value.shape}, expected {shape}, the batch axes of x and "
                f"{'P, the width of h' if name == 'h' else 'H units'}. Is the state (h, c), and not (c, h)?"
            )
        if value.dtype != expected:
            raise ValueError(
                f"state {name} is {value.dtype}, expected {expected} with {dtype} parameters "
                f"(c is kept in float32 under half precision). Cast it with .astype."
            )


def check_features(name: str, xs: Any, params: PyTree, layout: str = "[..., I]") -> None:
    """Refuses inputs whose last axis or dtype is not that of the parameters."""
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
        raise ValueError(
            f"{name} has {xs.shape[-1]} features on its last axis, but the parameters expect I = "
            f"{params.input_size} (w_x {params.w_x.shape}); {name} has shape {xs.shape}, expected {layout}. "
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
    """Refuses inputs that are no sequence of feature vectors for these parameters."""
    layout = "[T, ..., I]" if time_major else "[..., T, I]"
    if xs.ndim < 2:
        raise ValueError(
            f"xs has shape {xs.shape}, expected {layout}: (time, features), or (batch, time, features). "
            "One step alone is a sequence of length 1: xs[None], or use cell_step."
        )
    check_features("xs", xs, params, layout)


def check_steps(name: str, value: Array, shape: tuple[int, ...], time_major: bool) -> None:
    """Refuses a mask or resets that are not booleans, one for each step of xs."""
    if value.shape != shape:
        layout = "[T, ...]" if time_major else "[..., T]"
        raise ValueError(
            f"{name} has shape {value.shape}, expected {layout} = {shape}: one boolean a step, on the axes of xs "
            "without the features."
        )
    if value.dtype != jnp.bool_:
        raise ValueError(f"{name} is {value.dtype}, expected bool. Did you mean {name} > 0?")


def check_lengths(lengths: ArrayLike, batch: tuple[int, ...], steps: int) -> None:
    """Refuses lengths that are not whole numbers from 0 to T, one for each sequence."""
    value: Any = lengths
    if value.shape != batch:
        hint = " Did you pass (time, batch, features)? Then pass time_major=True." if value.shape == (steps,) else ""
        raise ValueError(
            f"lengths has shape {value.shape}, expected {batch}: one number a sequence, the batch axes of xs.{hint}"
        )
    if not jnp.issubdtype(value.dtype, jnp.integer):
        raise ValueError(f"lengths is {value.dtype}, expected whole numbers (int32).")
    if not isinstance(value, jax.core.Tracer):  # values are at hand: not under jit, grad or vmap
        if isinstance(value, jax.Array) and value.is_fully_addressable:
            value = jax.device_get(value)  # nothing is compiled for it
        with jax.ensure_compile_time_eval():  # even while a function that closes over them is traced
            extremes = int(value.max(initial=0)), int(value.min(initial=0))
        for extreme in extremes:
            if not 0 <= extreme <= steps:
                raise ValueError(f"lengths holds {extreme}, expected 0 to T = {steps}, the number of steps in xs.")


def check_running(step: object, wrappers: object, checkpoint: object, unroll: object) -> tuple[tuple, tuple]:
    """Refuses a step, wrappers, checkpoint or unroll that a scan cannot use; gives wrappers and what they bring."""
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
    return tuple(wrapper for wrapper, _ in pairs), tuple(own for _, own in pairs)


def check_tapped(tapped: bool, names: Sequence[str], step: object) -> None:
    """Refuses a tap where a step of one's own does not take it."""
    if tapped and "tap" not in names:
        name = getattr(step, "__name__", step)
        raise TypeError(f"a wrapper taps what {name} computes, but {name} does not name the keyword tap. Hand it on.")


def check_stepped(pair: object, step: object) -> None:
    """Refuses a step of one's own that does not give (state, y)."""
    if not isinstance(pair, tuple | list) or len(pair) != 2:
        what = f"a tuple of {len(pair)}" if isinstance(pair, tuple) else kind(pair)
        raise TypeError(f"step {getattr(step, '__name__', step)} gives {what}, expected the tuple (state, y).")


def check_alike(name: str, reset_state: PyTree, state: PyTree, other: str = "state") -> None:
    """Refuses a state to return to that is not built as the state is."""
    there, wanted = (str(jax.tree.structure(s)) for s in (reset_state, state))
    if there != wanted:
        raise ValueError(f"{name} has the structure {there}, but {other} has {wanted}. Pass one that is built alike.")


def is_state(state: PyTree, like: PyTree, batch: tuple[int, ...]) -> bool:
    """Tells whether the state of a step of one's own is a plain (h, c): both with the batch axes, or both without."""
    if type(state) is not tuple or not all(
        hasattr(s, "dtype") and jnp.issubdtype(s.dtype, jnp.floating) for s in state
    ):
        return False
    shapes, wanted = [jnp.shape(s) for s in state], [z.shape for z in like]
    return shapes == wanted or [batch + shape for shape in shapes] == wanted


def check_state_tuple(name: str, state: PyTree, feeds: tuple[str, ...]) -> None:
    """Refuses a state that is no tuple (h, c), with the gates behind it that the cell feeds back."""
    if not isinstance(state, tuple) or len(state) != 2 + len(feeds):
        raise ValueError(f"{name} is {counted(state)}, expected the tuple ({', '.join(('h', 'c', *feeds))}).")


def check_state(
    name: str, state: PyTree, like: PyTree, batch: tuple[int, ...], force: bool, feeds: tuple[str, ...] = ()
) -> None:
    """Refuses an (h, c) that is neither one state for all sequences nor one for each."""
    check_state_tuple(name, state, feeds)
    for part, value, target in zip(("h", "c", *feeds), state, like, strict=True):
        size = target.shape[-1:]
        if not hasattr(value, "shape"):
            raise TypeError(f"{name} {part} is {kind(value)}, expected an array: jnp.asarray({part}).")
        if value.shape not in (size, batch + size):
            either = "" if not batch else f" or {size} for all sequences alike"
            raise ValueError(
                f"{name} {part} has shape {value.shape}, expected {batch + size}{either}. "
                "Is the state (h, c), and not (c, h) as Flax has it?"
            )
        if not force and value.dtype != target.dtype and cell_dtype(value.dtype) != target.dtype:
            raise ValueError(f"{name} {part} is {value.dtype}, expected {target.dtype}. Cast it with .astype.")


def check_values(params: LSTMParams, batch: tuple[int, ...], **values: Array | None) -> None:
    """Asserts the shape and dtype of gates, c, m or h, named as in `Step` (chex, while tracing).

    To be called before the values meet others, so that the message comes from here and names them.
    """
    dtype = params.w_x.dtype
    for name, value in values.items():
        if value is None:  # the cell has no such block
            continue
        size, letter = (params.output_size, "P") if name == "h" else (params.hidden_size, "H")
        expected = dtype if name == "h" else cell_dtype(dtype)
        words = (
            f"{_WORDS[name]} has shape {value.shape} and dtype {value.dtype}, expected [..., {letter}] = "
            f"{(*batch, size)} and {expected}."
        )
        chex.assert_shape(value, (*batch, size), custom_message=words)
        chex.assert_type(value, expected, custom_message=words)


_WORDS = {
    "i": "input gate i",
    "f": "forget gate f",
    "g": "candidate g",
    "o": "output gate o",
    "z_i": "pre-activation z_i of the input gate",
    "z_f": "pre-activation z_f of the forget gate",
    "z_g": "pre-activation z_g of the candidate",
    "z_o": "pre-activation z_o of the output gate",
    "c": "cell state c",
    "m": "m = o ⊙ tanh(c)",
    "h": "output h",
}
