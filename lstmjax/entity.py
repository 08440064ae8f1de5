r"""The entity-aware LSTM: an input gate from attributes that do not change, such as those of a river basin.

    i  = σ(s·W_s + b_s)                     once for the sequence, from static attributes s alone
    f  = σ(x·W_xf + h·W_hf + b_f)           g = tanh(x·W_xg + h·W_hg + b_g)           o = σ(x·W_xo + h·W_ho + b_o)
    c' = f ⊙ c + i ⊙ g                      h' = o ⊙ tanh(c')

Kratzert et al. (2019, Hydrol. Earth Syst. Sci. 23, 5089), as neuralhydrology's `EALSTM` has it.

It needs no equations of its own. Its step is that of a cell without a block for the input gate, and a wrapper gives
each step the gate, which was computed before the scan. Nor is it more than a vanilla LSTM whose inputs are x and s side
by side, with zeros in some blocks of its weights: `as_vanilla` returns that one, for everything that knows `LSTMParams`
only (files, ONNX, `compile_step`, the report).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, TypedDict, Unpack

import jax
import jax.numpy as jnp

from lstmjax import checks
from lstmjax.arguments import as_array, as_arrays, as_flags, check_positive, kind
from lstmjax.cell import product
from lstmjax.cells import Cell
from lstmjax.keywords import takes
from lstmjax.layer import lstm
from lstmjax.options import SequenceOptions
from lstmjax.types import GATES, Array, LSTMParams, PyTree, exported
from lstmjax.wrappers import Inner

if TYPE_CHECKING:
    from jax.typing import ArrayLike

DYNAMIC_GATES = Cell("entity_aware", "Kratzert et al. (2019)", blocks=("f", "g", "o"))
"""The cell of the gates that see x and h. It is no row of `CELLS`: without `StaticGate` its input gate would be 1."""


class EntityParams(NamedTuple):
    """The parameters of one entity-aware layer: a pytree, and nothing else."""

    dynamic: LSTMParams  # w_x [I, 3, H], w_h [P, 3, H], b [3, H]: the blocks f, g, o
    w_s: Array  # [S, H]  from the static attributes to the input gate
    b_s: Array | None = None  # [H]

    @property
    def remedy(self) -> str:
        """What messages say to whoever passes them where `LSTMParams` are expected."""
        return " An entity-aware layer runs by entity_aware; elsewhere pass as_vanilla(params), or use with_statics."

    @property
    def input_size(self) -> int:
        """I, the number of features of one step, without the static attributes."""
        return self.dynamic.input_size

    @property
    def static_size(self) -> int:
        """S, the number of static attributes."""
        return self.w_s.shape[-2]

    @property
    def hidden_size(self) -> int:
        """H, the number of units."""
        return self.dynamic.hidden_size


exported(EntityParams)


@dataclass(frozen=True)
class StaticGate:
    """Set the input gate of every step to one `[..., H]` that was computed before; it comes as the wrapper's extras."""

    def draw(self, key: Array | None, steps: int, state: PyTree, x: Any) -> tuple[PyTree, PyTree]:
        raise ValueError("StaticGate draws nothing: pass the pair of wrapper and gate that with_statics returns.")

    def at(self, layer: int, direction: str, pairs: tuple[bool, ...]) -> StaticGate:
        if len(pairs) > 1 or pairs[layer]:
            raise ValueError(
                "StaticGate is for one layer in one direction: an entity-aware layer has an input gate of its own. Run "
                "it with entity_aware, and other layers on the ys that it returns."
            )
        return self

    def __call__(self, inner: Inner, params: PyTree, state: PyTree, x: Array, extras: Any) -> tuple[PyTree, PyTree]:
        gate, _ = extras

        def tap(name: str, value: Array) -> Array:
            return in_batch(gate, value.shape).astype(value.dtype) if name == "i" else value

        return inner(params, state, x, tap=tap)


def in_batch(gate: Array, shape: tuple[int, ...]) -> Array:
    """Return a gate `[..., H]` or `[H]` in the shape of a step's values."""
    if gate.shape not in (shape, shape[-1:]):
        raise ValueError(
            f"the input gate has shape {gate.shape}, expected {shape}, the batch axes of xs and H. Are the batch axes "
            "of statics those of xs?"
        )
    return jnp.broadcast_to(gate, shape)


class CellAndWrappers(TypedDict):
    """The keywords of `lstm` that run an entity-aware layer."""

    cell: Cell
    wrappers: tuple[tuple[StaticGate, tuple], ...]


def with_statics(params: EntityParams, statics: ArrayLike) -> tuple[LSTMParams, CellAndWrappers]:
    """Return an entity-aware layer as what `lstm` and all that is built on it take: parameters, cell and wrapper.

    `trace` shows all gates, `inside` measures, and interventions act as for any layer; the gradient passes through.

    Args:
        params: `EntityParams`.
        statics: static attributes `[..., S]` on the batch axes of xs, or `[S]` for all sequences alike.

    Returns:
        (`LSTMParams` of the blocks f, g, o, keywords `cell` and `wrappers`).

    Raises:
        ValueError, TypeError: params or statics do not fit each other.

    >>> from lstmjax import init_entity_aware, trace
    >>> params = init_entity_aware(jax.random.key(0), 5, 27, 8)
    >>> layer, options = with_statics(params, jnp.ones((4, 27)))
    >>> steps = trace(layer, jnp.ones((4, 365, 5)), **options)
    >>> steps.i.shape, bool((steps.i == steps.i[:, :1]).all())
    ((4, 365, 8), True)
    """
    check_entity_params(params)
    if several := checks.ensemble(params.dynamic):
        raise ValueError(several)
    statics = as_array("statics", statics)
    if statics.ndim < 1 or statics.shape[-1] != params.static_size or statics.dtype != params.w_s.dtype:
        raise ValueError(
            f"statics has shape {statics.shape} and dtype {statics.dtype}, expected [..., S] with S = "
            f"{params.static_size} attributes (w_s {params.w_s.shape}) of {params.w_s.dtype}: the batch axes of xs "
            "without time, for attributes do not change."
        )
    gate = input_gate(params.w_s, params.b_s, statics)
    return params.dynamic, {"cell": DYNAMIC_GATES, "wrappers": ((StaticGate(), (gate, None)),)}


@jax.jit
def input_gate(w_s: Array, b_s: Array | None, statics: Array) -> Array:
    """Return σ(s·W_s + b_s), `[..., H]`; in float32 for half precision."""
    return jax.lax.logistic(product("s", (statics, w_s), bias=(b_s,)))


@takes(SequenceOptions, lstm)
def entity_aware(
    params: EntityParams,
    xs: ArrayLike,
    statics: ArrayLike,
    state: PyTree | None = None,
    *,
    return_sequences: bool = True,
    **options: Unpack[SequenceOptions],
) -> tuple[PyTree, PyTree]:
    """Run one entity-aware layer over a sequence; return the final state and the outputs, as `lstm` does.

    The input gate is computed once. To look inside, see `with_statics`; `as_vanilla` returns the same network as
    `LSTMParams`.

    Args:
        params: `EntityParams`, as `init_entity_aware` makes them.
        xs: inputs `[..., T, I]`, or `[T, ..., I]` with `time_major`: those that change with time.
        statics: static attributes `[..., S]`, on the batch axes of xs.
        state: (h, c) to start from; None: zeros. A state that was returned continues the sequence (hot start).
        return_sequences: whether ys has all steps, or (False) only the last valid one.
        lengths, mask, resets, reset_state, reverse, time_major, emit, padding, key, wrappers, dtype, checkpoint,
            unroll, backend: as for `lstm`; wrappers stand around the step with its input gate.

    Returns:
        (state, ys): (h, c) `[..., H]` after the last step; ys `[..., T, H]`, or `[..., H]` without `return_sequences`.

    Raises:
        ValueError, TypeError: an argument does not fit the others; the message says which, and what to do.

    Example:
        >>> from lstmjax import init_entity_aware
        >>> params = init_entity_aware(jax.random.key(0), 5, 27, 64, forget_bias=3.0)
        >>> (h, c), ys = entity_aware(params, jnp.ones((10, 365, 5)), jnp.ones((10, 27)))
        >>> h.shape, c.shape, ys.shape
        ((10, 64), (10, 64), (10, 365, 64))
    """
    layer, given = with_statics(params, statics)
    xs, statics = as_array("xs", xs), as_array("statics", statics)
    (time_major,) = as_flags(time_major=options["time_major"])
    axis = 0 if time_major else xs.ndim - 2
    batch = xs.shape[:axis] + xs.shape[axis + 1 : -1]
    if xs.ndim > 1 and statics.shape[:-1] != batch:
        hint = " They stand beside xs once, not at every step." if statics.shape[:-1] == xs.shape[:-1] else ""
        raise ValueError(
            f"statics has shape {statics.shape}, expected {(*batch, params.static_size)}: the batch axes of xs "
            f"{xs.shape}, then S.{hint}"
        )
    wrappers = options["wrappers"]
    if isinstance(wrappers, tuple | list):  # others are refused by `lstm`
        wrappers = (*given["wrappers"], *wrappers)
    call: Any = {**options, "cell": given["cell"], "wrappers": wrappers}
    return lstm(layer, xs, state, return_sequences=return_sequences, **call)


def as_vanilla(params: EntityParams) -> LSTMParams:
    """Return the vanilla LSTM that an entity-aware layer is: its inputs are x and s side by side, at every step.

    The rows of s reach the input gate only, those of x and h the other gates only; the blocks between them are 0. It
    computes the same, in every backend, and is differentiable, but as parameters to train it is another network: a
    gradient fills the zeros.

    Args:
        params: `EntityParams`.

    Returns:
        `LSTMParams`: w_x `[I + S, 4, H]`, w_h `[P, 4, H]`, b `[4, H]`, for xs
        `concatenate([xs, statics at each step], -1)`.

    >>> from lstmjax import init_entity_aware, lstm
    >>> params = init_entity_aware(jax.random.key(0), 5, 3, 8)
    >>> xs, statics = jnp.ones((7, 5)), jnp.ones(3)
    >>> _, ys = lstm(as_vanilla(params), jnp.concatenate([xs, jnp.broadcast_to(statics, (7, 3))], -1))
    >>> bool(jnp.allclose(ys, entity_aware(params, xs, statics)[1], atol=1e-6))
    True
    """
    check_entity_params(params)
    dynamic, w_s, b_s = as_arrays("params", params)
    of_x = jnp.concatenate([jnp.zeros_like(dynamic.w_x[..., :1, :]), dynamic.w_x], -2)  # [I, 4, H]
    of_s = jnp.concatenate([w_s[..., :, None, :], jnp.zeros((*w_s.shape[:-1], 3, w_s.shape[-1]), w_s.dtype)], -2)
    w_h = jnp.concatenate([jnp.zeros_like(dynamic.w_h[..., :1, :]), dynamic.w_h], -2)
    three = jnp.zeros_like(dynamic.w_x[..., 0, :, :]) if dynamic.b is None else dynamic.b
    first = jnp.zeros_like(three[..., :1, :]) if b_s is None else b_s[..., None, :]
    b_h = dynamic.b_h
    return dynamic._replace(
        w_x=jnp.concatenate([of_x, of_s], -3),
        w_h=w_h,
        b=jnp.concatenate([first, three], -2),
        b_h=None if b_h is None else jnp.concatenate([jnp.zeros_like(b_h[..., :1, :]), b_h], -2),
    )


def as_entity_aware(params: LSTMParams, static_size: int) -> EntityParams:
    """Return the entity-aware layer that a vanilla LSTM is, if it is one: the inverse of `as_vanilla`.

    Args:
        params: `LSTMParams` whose last `static_size` inputs are the static attributes, such as those that
            `load_weights` reads of a checkpoint of neuralhydrology.
        static_size: S.

    Raises:
        ValueError: a weight that an entity-aware layer does not have is not 0, or there are not so many inputs.

    >>> from lstmjax import init_entity_aware
    >>> params = init_entity_aware(jax.random.key(0), 5, 3, 8)
    >>> jax.tree.all(jax.tree.map(jnp.array_equal, as_entity_aware(as_vanilla(params), 3), params))
    True
    """
    checks.check_params_type(params)
    check_positive("static_size", static_size)
    params = as_arrays("params", params)
    if params.w_x.ndim != 3 or params.w_x.shape[1] != len(GATES) or params.input_size <= static_size:
        raise ValueError(
            f"w_x has shape {params.w_x.shape}, expected [I + S, 4, H] with S = {static_size} static attributes behind "
            "at least one input that changes with time."
        )
    of_x, of_s = params.w_x[:-static_size], params.w_x[-static_size:]
    absent = {
        "w_x of the static attributes in f, g and o": of_s[:, 1:],
        "w_x of the other inputs in i": of_x[:, 0],
        "w_h in i": params.w_h[:, 0],
        "b_h in i": params.b_h if params.b_h is None else params.b_h[0],
    }
    for words, block in absent.items():
        if block is not None and block.any():
            raise ValueError(
                f"{words} is not 0, but an entity-aware layer has no such weights: this LSTM computes something else. "
                "Are the static attributes the last inputs, and are there as many?"
            )
    b, b_h = (None if bias is None else bias[1:] for bias in (params.b, params.b_h))
    dynamic = params._replace(w_x=of_x[:, 1:], w_h=params.w_h[:, 1:], b=b, b_h=b_h)
    return EntityParams(dynamic, of_s[:, 0], None if params.b is None else params.b[0])


def check_entity_params(params: Any) -> None:
    """Refuse what is no `EntityParams`, or whose arrays do not fit each other."""
    if not isinstance(params, EntityParams):
        raise TypeError(f"params is {kind(params)}, expected EntityParams, as init_entity_aware makes them.")
    if not isinstance(params.dynamic, LSTMParams):
        raise TypeError(f"params.dynamic is {kind(params.dynamic)}, expected LSTMParams of the blocks f, g, o.")
    dynamic, w_s, b_s = as_arrays("params", params)
    hidden, dtype = dynamic.w_x.shape[-1], dynamic.w_x.dtype
    if w_s.ndim != dynamic.w_x.ndim - 1 or w_s.shape[-1] != hidden or 0 in w_s.shape or w_s.dtype != dtype:
        raise ValueError(
            f"w_s has shape {w_s.shape} and dtype {w_s.dtype}, expected [S, H] with H = {hidden} and {dtype}, as the "
            "other gates have."
        )
    if b_s is not None and (b_s.shape != (*w_s.shape[:-2], hidden) or b_s.dtype != dtype):
        raise ValueError(f"b_s has shape {b_s.shape} and dtype {b_s.dtype}, expected [H] = ({hidden},) of {dtype}.")
