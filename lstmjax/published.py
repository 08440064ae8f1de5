r"""The published cells: a table of rows, each with the paper it comes from.

Write σ for the logistic function, and for the gates of the vanilla cell

    z_k = x·W_xk + h·W_hk + b_k                 for k in i, f, g, o
    i = σ(z_i)   f = σ(z_f)   g = tanh(z_g)   o = σ(z_o)
    c' = f ⊙ c + i ⊙ g       m = o ⊙ tanh(c')       h' = m, or m·W_p

The rows of `CELLS` differ from it in this:

    vanilla               nothing. Hochreiter & Schmidhuber (1997) with the forget gate of Gers et al. (2000)
    np                    nothing: the same row. Greff et al. (2017) call "vanilla" what is "peephole" here
    peephole              z_i + w_ci ⊙ c, z_f + w_cf ⊙ c, z_o + w_co ⊙ c': the output gate sees the new c
                          (Gers & Schmidhuber 2000; Greff et al. 2017, "vanilla")
    nig, nfg, nog         peephole with i = 1, f = 1 or o = 1 (Greff et al. 2017)
    niaf, noaf            peephole with g = z_g, or m = o ⊙ c' (Greff et al. 2017)
    cifg                  peephole with f = 1 − i (Greff et al. 2017)
    cifg_mirror           peephole with i = 1 − f
    fgr                   peephole, and z_k + i·R_ik + f·R_fk + o·R_ok for k in i, f, o with the gates of the
                          step before: nine more matrices, and the state is (h, c, i, f, o) (Greff et al. 2017)
    no_forget_gate        f = 1 without peepholes: the gates of 1997, trained with the full gradient and
                          without its memory blocks, hence not named after that paper
    projection            peephole with h' = m·W_p (Sak, Senior & Beaufays 2014); W_p goes with any row
    layer_norm            z = LN(x·W_x) + LN(h·W_h) + b, m = o ⊙ tanh(LN(c')), c' itself is carried raw; each
                          LN over all it is given, with gain and shift (Ba, Kiros & Hinton 2016, eq. 20 to 22)
    layer_norm_carried    the same z, but c' = LN(f ⊙ c + i ⊙ g) is carried on, m = o ⊙ tanh(c'), ε = 1e-3, as
                          TensorFlow Addons has it (rnn/layer_norm_lstm_cell.py)
    layer_norm_per_gate   peephole, and z_k = LN(x·W_xk + h·W_hk + w_ck ⊙ c) ⊙ gain_k + b_k: each gate by itself, its
                          peephole included, the bias after the LN, ε = 1e-8 (TensorFlow Lite, lstm_eval.cc)
    hard_sigmoid_fifth    vanilla with max(0, min(1, z/5 + 1/2)) for σ: Keras 2, and the default of ONNX
    hard_sigmoid_sixth    vanilla with max(0, min(1, z/6 + 1/2)) for σ: Keras 3, `jax.nn.hard_sigmoid`, PyTorch

A cell of your own is a `Cell` of your own; see the README. `clip_cell`, `clip_inputs` and `clip_projection` make
a row with limits of another one; `tensorflow_lite_cell` says every cell that TensorFlow Lite has.
"""

from __future__ import annotations

import numbers
from collections.abc import Callable
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp

from lstmjax.arguments import check_hashable, one_of
from lstmjax.cells import VANILLA, Activation, Cell, as_it_is, identity
from lstmjax.types import Array, LSTMParams


def hard_sigmoid_fifth(z: Array) -> Array:
    """Return max(0, min(1, z/5 + 1/2)), the hard sigmoid of Keras 2 and of ONNX."""
    return jnp.clip(0.2 * z + 0.5, 0.0, 1.0)


def hard_sigmoid_sixth(z: Array) -> Array:
    """Return max(0, min(1, z/6 + 1/2)), the hard sigmoid of Keras 3, PyTorch and JAX."""
    return jnp.clip(z / 6 + 0.5, 0.0, 1.0)


def forget_from_input(i: Array, f: Array) -> tuple[Array, Array]:
    """Return i, and f = 1 − i."""
    return i, 1.0 - i


def input_from_forget(i: Array, f: Array) -> tuple[Array, Array]:
    """Return i = 1 − f, and f."""
    return 1.0 - f, f


@dataclass(frozen=True)
class Normed:
    """Return LN(x·W_x) + LN(h·W_h) + b, each normalised over all gates together: z `[..., G, H]`."""

    epsilon: float

    def __call__(self, params: LSTMParams, x: Array, h: Array, product: Any) -> Array:
        norm: Any = params.norm  # there is one: the row says so, and it was checked
        z_x = normalised(product("x", (x, params.w_x)), norm.x, norm.x_shift, 2, self.epsilon)
        z_h = normalised(product("h", (h, params.w_h)), norm.h, norm.h_shift, 2, self.epsilon)
        biases = (jnp.broadcast_to(b.astype(z_x.dtype), z_x.shape) for b in (params.b, params.b_h) if b is not None)
        return sum(biases, z_x + z_h)


@dataclass(frozen=True)
class NormedCell:
    """Return LN(c)."""

    epsilon: float

    def __call__(self, params: LSTMParams, c: Array) -> Array:
        norm: Any = params.norm
        return normalised(c, norm.c, norm.c_shift, 1, self.epsilon)


@dataclass(frozen=True)
class GateNorm:
    """Return LN(z) ⊙ gain + b of one gate block z `[..., H]`, which has no bias yet."""

    epsilon: float

    def __call__(self, params: LSTMParams, block: int, z: Array) -> Array:
        gain: Any = params.gain  # there is one: the row says so, and it was checked
        z = normalised(z, gain[block], None, 1, self.epsilon)
        biases = (b[block].astype(z.dtype) for b in (params.b, params.b_h) if b is not None)
        return sum((jnp.broadcast_to(b, z.shape) for b in biases), z)


def unbiased(params: LSTMParams, x: Array, h: Array, product: Any) -> Array:
    """Return x·W_x + h·W_h without a bias, one site: z `[..., G, H]`."""
    return product("z", (x, params.w_x), (h, params.w_h))


def normalised(z: Array, gain: Array, shift: Array | None, axes: int, epsilon: float) -> Array:
    """Return (z − mean) / √(variance + ε) · gain + shift over the last axes (Ba et al. 2016, eq. 3 and 4)."""
    over = tuple(range(-axes, 0))
    centred = z - z.mean(over, keepdims=True)
    scaled = centred * jax.lax.rsqrt((centred * centred).mean(over, keepdims=True) + epsilon)
    scaled = scaled * jnp.broadcast_to(gain.astype(z.dtype), z.shape)
    return scaled if shift is None else scaled + jnp.broadcast_to(shift.astype(z.dtype), z.shape)


GREFF = "Greff, Srivastava, Koutník, Steunebrink & Schmidhuber (2017)"
BA = "Ba, Kiros & Hinton (2016)"
PEEPHOLE = Cell("peephole", "Gers & Schmidhuber (2000)", has=("w_c",))
EPSILON = 1e-5
EPSILON_LITE = 1e-8


def _hard(name: str, paper: str, sigma: Activation) -> Cell:
    return Cell(name, paper, i=sigma, f=sigma, o=sigma)


_ROWS = (
    VANILLA,
    PEEPHOLE,
    replace(PEEPHOLE, name="nig", paper=GREFF, blocks=("f", "g", "o")),
    replace(PEEPHOLE, name="nfg", paper=GREFF, blocks=("i", "g", "o")),
    replace(PEEPHOLE, name="nog", paper=GREFF, blocks=("i", "f", "g")),
    replace(PEEPHOLE, name="niaf", paper=GREFF, g=identity),
    replace(PEEPHOLE, name="noaf", paper=GREFF, squash=identity),
    replace(PEEPHOLE, name="cifg", paper=GREFF, blocks=("i", "g", "o"), couple=forget_from_input),
    replace(PEEPHOLE, name="cifg_mirror", paper="as cifg", blocks=("f", "g", "o"), couple=input_from_forget),
    replace(PEEPHOLE, name="fgr", paper=GREFF, has=("w_c", "w_r"), feeds=("i", "f", "o")),
    replace(VANILLA, name="no_forget_gate", paper="none", blocks=("i", "g", "o")),
    replace(PEEPHOLE, name="projection", paper="Sak, Senior & Beaufays (2014)"),
    Cell("layer_norm", BA, has=("norm",), join=Normed(EPSILON), inside=NormedCell(EPSILON)),
    Cell("layer_norm_carried", "TensorFlow Addons", has=("norm",), join=Normed(1e-3), carry=NormedCell(1e-3)),
    replace(
        PEEPHOLE,
        name="layer_norm_per_gate",
        paper="TensorFlow Lite",
        has=("w_c", "gain"),
        join=unbiased,
        normalise=GateNorm(EPSILON_LITE),
    ),
    _hard("hard_sigmoid_fifth", "Keras 2, ONNX", hard_sigmoid_fifth),
    _hard("hard_sigmoid_sixth", "Keras 3", hard_sigmoid_sixth),
)
CELLS = MappingProxyType({row.name: row for row in _ROWS} | {"np": VANILLA})
"""All cells by name; the head of this file has their equations."""


def find_cell(cell: Cell | str) -> Cell:
    """Return the row of a name, or the cell itself.

    Raises:
        ValueError: there is no cell of that name; the message has them all.
    """
    if isinstance(cell, Cell):
        return cell
    one_of("cell", cell, tuple(CELLS))
    return CELLS[cell]


SAME: MappingProxyType[Any, Activation] = MappingProxyType(
    {
        jax.nn.sigmoid: jax.lax.logistic,
        jax.nn.tanh: jax.lax.tanh,
        jnp.tanh: jax.lax.tanh,
        jax.nn.hard_sigmoid: hard_sigmoid_sixth,
        jax.nn.identity: identity,
    }
)
"""Functions of JAX, by which Flax names its own, and the function that the rows have for the same numbers."""


def with_activations(
    cell: Cell | str, gate_fn: Activation | None = None, activation_fn: Activation | None = None
) -> Cell:
    """Return a cell with other functions in the place of σ and of tanh; a row of `CELLS` if there is one that has them.

    Args:
        cell: the cell to change, a row or its name, whose functions are σ and tanh as in "vanilla".
        gate_fn: in place of σ in the gates i, f and o; None: as the cell has it.
        activation_fn: in place of tanh, of the candidate and of c inside h; None: as the cell has it.

    Raises:
        TypeError: it is no function, or none that compiled code can be kept by.
        ValueError: the cell has another function there, which would be lost.

    >>> with_activations("vanilla", gate_fn=jax.nn.hard_sigmoid).name
    'hard_sigmoid_sixth'
    >>> with_activations("vanilla", activation_fn=jax.nn.relu).name
    'vanilla, tanh by relu'
    """
    row = find_cell(cell)
    name, changes = row.name, dict[str, Any]()
    usual = {
        "gate_fn": (jax.lax.logistic, "σ", ("i", "f", "o")),
        "activation_fn": (jax.lax.tanh, "tanh", ("g", "squash")),
    }
    for argument, function in (("gate_fn", gate_fn), ("activation_fn", activation_fn)):
        default, word, places = usual[argument]
        if function is None:
            continue
        if not callable(function):
            raise TypeError(f"{argument} is {function!r}, expected a function of one array, such as jax.nn.relu.")
        check_hashable(argument, function)
        function = SAME.get(function, function)
        for place in places:
            if getattr(row, place) not in (default, function):
                raise ValueError(
                    f"{argument} is given, but the cell {row.name!r} has a function of its own for {place}, "
                    f"{_called(getattr(row, place))}. Pass a cell that says it all: dataclasses.replace(cell, ...)."
                )
            if getattr(row, place) is not function:
                changes[place] = function
        if any(place in changes for place in places):
            name += f", {word} by {_called(function)}"
    if not changes:
        return row
    changed = replace(row, name=name, **changes)
    same = (other for other in CELLS.values() if replace(changed, name=other.name, paper=other.paper) == other)
    return next(same, changed)


def _called(function: Any) -> str:
    return getattr(function, "__name__", None) or repr(function)


@dataclass(frozen=True)
class Clip:
    """Limit every number to [−limit, limit]; beyond it no gradient passes. `before` is applied first."""

    limit: float
    before: Activation = identity

    def __call__(self, z: Array) -> Array:
        return jnp.clip(self.before(z), -self.limit, self.limit)


@dataclass(frozen=True)
class ClipCell:
    """Limit c before the next step and m see it (TensorFlow's `cell_clip`). `before` is applied first."""

    limit: float
    before: Callable[[LSTMParams, Array], Array] = as_it_is

    def __call__(self, params: LSTMParams, c: Array) -> Array:
        return jnp.clip(self.before(params, c), -self.limit, self.limit)


def clip_cell(cell: Cell | str, limit: float) -> Cell:
    """Return a cell with c limited to [−limit, limit] at every step, as TensorFlow's `cell_clip` does.

    c is limited once it is made: the output gate's peephole, m and the next step see the limited one.

    Raises:
        ValueError: limit is no number above 0; TensorFlow's 0 means that there is no limit.
    """
    row = find_cell(cell)
    _check_limit(limit)
    return replace(row, name=f"{row.name}, c clipped at {limit}", carry=ClipCell(limit, row.carry))


def clip_inputs(cell: Cell | str, limit: float) -> Cell:
    """Return a cell with its pre-activations limited to [−limit, limit], as the attribute `clip` of ONNX does.

    Raises:
        ValueError: limit is no number above 0.
    """
    row = find_cell(cell)
    _check_limit(limit)
    return replace(row, name=f"{row.name}, inputs clipped at {limit}", limit=Clip(limit, row.limit))


def clip_projection(cell: Cell | str, limit: float) -> Cell:
    """Return a cell with a projected h limited to [−limit, limit] at every step, as TensorFlow's `proj_clip` does.

    The parameters are to have a projection: without w_p there is nothing to limit, and they are refused.

    Raises:
        ValueError: limit is no number above 0; TensorFlow's 0 means that there is no limit.
    """
    row = find_cell(cell)
    _check_limit(limit)
    return replace(row, name=f"{row.name}, h clipped at {limit}", limit_h=Clip(limit, row.limit_h))


def _check_limit(limit: Any, name: str = "limit", remedy: str = "leave the cell as it is") -> None:
    if isinstance(limit, bool) or not isinstance(limit, numbers.Real) or not float(limit) > 0:
        raise ValueError(f"{name} is {limit!r}, expected a number above 0. For no limit {remedy}.")


def tensorflow_lite_cell(
    *,
    cifg: bool = False,
    peephole: bool = False,
    layer_norm: bool = False,
    cell_clip: float = 0.0,
    proj_clip: float = 0.0,
) -> Cell:
    """Return the cell that TensorFlow Lite's LSTM computes (tensorflow/lite/kernels/lstm_eval.cc, float).

        z_k = x·W_xk + h·W_hk + b_k + w_ck ⊙ c            the output gate's peephole sees c'
        z_k = LN(x·W_xk + h·W_hk + w_ck ⊙ c) ⊙ gain_k + b_k    with layer_norm; ε = 1e-8
        c' = clip(f ⊙ c + i ⊙ g, cell_clip)
        h' = clip(m·W_p + b_p, proj_clip)                 m without a projection

    Args:
        cifg: there is no input gate, i = 1 − f.
        peephole, layer_norm: the parameters have w_c, or gain.
        cell_clip, proj_clip: limits of c and of a projected h; 0: none.

    Returns:
        A `Cell`; a row of `CELLS` where the table has it. A projection w_p and its bias b_p are parameters.

    Raises:
        ValueError: a limit is below 0 or no number.

    >>> tensorflow_lite_cell(peephole=True).name, tensorflow_lite_cell(cifg=True, peephole=True).name
    ('peephole', 'cifg_mirror')
    >>> tensorflow_lite_cell(cifg=True, layer_norm=True, cell_clip=3.0).has
    ('gain',)
    """
    options = {"cifg": cifg, "peephole": peephole, "layer norm": layer_norm}
    words = [word for word, chosen in options.items() if chosen]
    fields = {"w_c": peephole, "gain": layer_norm}
    has = tuple(field for field, chosen in fields.items() if chosen)
    row = Cell(f"TensorFlow Lite: {', '.join(words)}", "TensorFlow Lite", has=has)
    if cifg:
        row = replace(row, blocks=("f", "g", "o"), couple=input_from_forget)
    if layer_norm:
        row = replace(row, join=unbiased, normalise=GateNorm(EPSILON_LITE))
    row = known_row(row)
    limits = {"cell_clip": (cell_clip, clip_cell), "proj_clip": (proj_clip, clip_projection)}
    for name, (limit, clipped) in limits.items():
        if limit != 0:
            _check_limit(limit, name, "pass 0")
            row = clipped(row, limit)
    return row


def known_row(cell: Cell) -> Cell:
    """Return the row of `CELLS` that computes as a cell does, or the cell itself."""
    for row in CELLS.values():
        if replace(cell, name=row.name, paper=row.paper) == row:
            return row
    return cell
