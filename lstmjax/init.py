"""Initial values: a table of presets, each the distribution of a framework, read from its source.

They reproduce distributions, not draws: the same seed gives other numbers than the framework's.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from lstmjax import checks
from lstmjax.arguments import as_units, check_floating, check_key, check_positive, described, one_of
from lstmjax.cells import VANILLA, Cell
from lstmjax.published import find_cell
from lstmjax.types import Array, LSTMParams, Norms

if TYPE_CHECKING:
    from jax.typing import ArrayLike, DTypeLike

Draw = Callable[[Array, tuple[int, ...], "Sizes", Any], Array]
"""draw(key, shape, sizes, dtype) -> the initial values of one field."""


@dataclass(frozen=True)
class Sizes:
    """I, H and P of the layer whose values are drawn."""

    inputs: int
    hidden: int
    width: int


def zeros(key: Array, shape: tuple[int, ...], sizes: Sizes, dtype: Any) -> Array:
    """Zeros."""
    return jnp.zeros(shape, dtype)


def uniform_hidden(key: Array, shape: tuple[int, ...], sizes: Sizes, dtype: Any) -> Array:
    """U(−1/√H, 1/√H), whatever the fan-in."""
    bound = 1 / math.sqrt(sizes.hidden)
    return jax.random.uniform(key, shape, dtype, -bound, bound)


def lecun_normal(key: Array, shape: tuple[int, ...], sizes: Sizes, dtype: Any) -> Array:
    """Truncated normal of variance 1 / fan-in; each gate sees the same fan-in, so one draw serves all."""
    return jax.nn.initializers.lecun_normal()(key, (shape[0], math.prod(shape[1:])), dtype).reshape(shape)


def glorot_joint(key: Array, shape: tuple[int, ...], sizes: Sizes, dtype: Any) -> Array:
    """Glorot uniform on the joint matrix `[N, G·H]`: U(±√(6 / (N + G·H)))."""
    return jax.nn.initializers.glorot_uniform()(key, (shape[0], math.prod(shape[1:])), dtype).reshape(shape)


def orthogonal_joint(key: Array, shape: tuple[int, ...], sizes: Sizes, dtype: Any) -> Array:
    """One orthogonal draw of the joint matrix `[P, G·H]`: its rows are orthonormal."""
    return orthogonal(key, (shape[0], math.prod(shape[1:])), dtype).reshape(shape)


def orthogonal_per_gate(key: Array, shape: tuple[int, ...], sizes: Sizes, dtype: Any) -> Array:
    """One orthogonal draw of `[P, H]` for each gate."""
    return jnp.stack([orthogonal(k, (shape[0], shape[2]), dtype) for k in jax.random.split(key, shape[1])], axis=1)


def orthogonal(key: Array, shape: tuple[int, int], dtype: Any, scale: float = 1.0) -> Array:
    """Draw a matrix with orthonormal columns, or rows if it is wider than high, times a scale.

    Under `jax.vmap` the matrices are drawn one after the other: JAX's QR decomposition of a batch waits for threads of
    the pool that runs it, and two at a time have left a machine with two cores waiting for ever (jaxlib 0.10.2).
    """
    # The QR decomposition knows no half precision.
    draw = lambda key: jax.nn.initializers.orthogonal(scale)(key, shape, checks.cell_dtype(dtype))
    return jax.custom_batching.sequential_vmap(draw)(key).astype(dtype)


def haiku_normal(key: Array, shape: tuple[int, ...], sizes: Sizes, dtype: Any) -> Array:
    """Normal of scale 1/√(I + P), cut at two scales; the cut is not corrected for."""
    scale = 1 / math.sqrt(sizes.inputs + sizes.width)
    return scale * jax.random.truncated_normal(key, -2.0, 2.0, shape, dtype)


@dataclass(frozen=True)
class Preset:
    """One row: how each field is drawn, how many biases there are, and the forget bias."""

    w_x: Draw
    w_h: Draw
    b: Draw = zeros
    w_p: Draw = lecun_normal
    bias: str = "single"
    forget_bias: float | None = None  # None: as drawn


PRESETS = MappingProxyType(
    {
        "default": Preset(lecun_normal, orthogonal_per_gate, forget_bias=1.0),
        "torch": Preset(uniform_hidden, uniform_hidden, uniform_hidden, uniform_hidden, bias="double"),
        "keras": Preset(glorot_joint, orthogonal_joint, forget_bias=1.0),
        "flax": Preset(lecun_normal, orthogonal_per_gate),
        "flax_optimized_nnx": Preset(lecun_normal, orthogonal_joint),
        "haiku": Preset(haiku_normal, haiku_normal, forget_bias=1.0),
        "equinox": Preset(uniform_hidden, uniform_hidden, uniform_hidden),
    }
)
"""All presets by name.

- default: unit-variance inputs give unit-variance pre-activations (LeCun normal); an orthogonal
  matrix for each gate neither shrinks nor grows h on its way back (Saxe et al. 2014); forget bias 1,
  so that an untrained cell remembers (Jozefowicz et al. 2015).
- torch: `torch.nn.LSTM`, U(±1/√H) for everything, two biases. f's total bias is random.
- keras: `keras.layers.LSTM`; Glorot uniform and orthogonal on the joint matrices, forget bias 1.
- flax: `flax.linen.LSTMCell`, `OptimizedLSTMCell` and `flax.nnx.LSTMCell`; forget bias 0.
- flax_optimized_nnx: `flax.nnx.OptimizedLSTMCell`, whose recurrent matrix is drawn jointly.
- haiku: `haiku.LSTM`; the 1 that it adds to f at run time is stored in b.
- equinox: `equinox.nn.LSTMCell`, U(±1/√H) for everything, one bias.

For frameworks that have no projection w_p is drawn as in `default`, LeCun normal.
"""


def init_params(
    key: Array,
    input_size: int,
    hidden_size: int,
    *,
    cell: Cell | str = VANILLA,
    projection_size: int | None = None,
    projection_bias: bool = False,
    bias: str | None = "preset",
    init: str | Preset = "default",
    forget_bias: ArrayLike | None = None,
    dtype: DTypeLike = jnp.float32,
) -> LSTMParams:
    """Initialise the parameters of one layer in one direction.

    Args:
        key: random key.
        input_size: I, features of one step.
        hidden_size: H, units.
        cell: the cell that the parameters are for, a row of `CELLS` or its name. Peepholes begin at
            0, so that an untrained peephole cell is the vanilla one; gains begin at 1, shifts at 0; the
            weights of gates fed back are LeCun normal.
        projection_size: P, width of h if it is a projection of m; None: h is m, P = H.
        projection_bias: whether the projection has a bias b_p, as in TensorFlow Lite; it begins at 0.
        bias: "single" (b), "double" (b and b_h, as PyTorch and cuDNN train it) or None. "preset":
            two for `init="torch"`, one for all others.
        init: the name of a row of `PRESETS`, or a `Preset` of your own.
        forget_bias: f's total bias, a number or one for each unit `[H]`: b's f is set to it and b_h's f to 0.
            None: as the preset has it. For chrono initialisation (Tallec & Ollivier 2018) pass the logarithms of
            numbers drawn between 1 and T − 1, the longest time to remember.
        dtype: floating-point dtype of all fields.

    Returns:
        `LSTMParams`: w_x `[I, 4, H]`, w_h `[P, 4, H]`, b and b_h `[4, H]`, w_p `[H, P]`, b_p `[P]`.

    Raises:
        ValueError: an unknown cell, preset or bias, a size below 1, a forget bias without a bias or
            a forget gate, of another shape or not finite in dtype, a bias of a projection that does not
            exist, a cell that needs a projection.

    >>> params = init_params(jax.random.key(0), 5, 10)
    >>> sum(leaf.size for leaf in jax.tree.leaves(params))
    640
    """
    check_positive("input_size", input_size)
    check_positive("hidden_size", hidden_size)
    if projection_size is not None:
        check_positive("projection_size", projection_size)
    if not isinstance(init, Preset):
        one_of("init", init, tuple(PRESETS))
    one_of("bias", bias, ("preset", "single", "double", None))
    check_key("key", key)
    check_floating("dtype", dtype)
    preset = init if isinstance(init, Preset) else PRESETS[init]
    forget = preset.forget_bias if forget_bias is None else forget_bias
    if forget is not None:
        forget = as_units("forget_bias", forget, hidden_size, dtype)
    if bias is None and forget_bias is not None:
        raise ValueError(
            f"forget_bias is {described(forget)}, but bias=None leaves no bias to set. Pass bias='single'."
        )
    sizes = Sizes(input_size, hidden_size, hidden_size if projection_size is None else projection_size)
    row = find_cell(cell)
    blocks = row.blocks
    if forget_bias is not None and "f" not in blocks:
        raise ValueError(
            f"forget_bias is {described(forget)}, but the cell {row.name!r} has no forget gate of its own: its "
            f"blocks are {', '.join(blocks)}. Leave forget_bias out."
        )
    if projection_size is None and (projection_bias or row.needs_projection):
        reason = "projection_bias is True" if projection_bias else f"the cell {row.name!r} limits a projected h"
        raise ValueError(f"{reason}, but projection_size is None: there is no projection. Pass projection_size=P.")
    biases = preset.bias if bias == "preset" else bias
    shape = row.shapes(input_size, hidden_size, sizes.width)
    keys = jax.random.split(key, 5)

    b = preset.b(keys[2], shape["b"], sizes, dtype) if biases else None
    b_h = preset.b(keys[3], shape["b_h"], sizes, dtype) if biases == "double" else None
    if forget is not None and "f" in blocks:
        k = blocks.index("f")
        b = None if b is None else b.at[k].set(forget)
        b_h = None if b_h is None else b_h.at[k].set(0.0)
    gain, c_gain = jnp.ones(shape["gain"], dtype), jnp.ones(shape["norm.c"], dtype)
    norm = Norms(gain, gain, c_gain, 0 * gain, 0 * gain, 0 * c_gain) if "norm" in row.has else None
    projected = projection_size is not None
    return LSTMParams(
        w_x=preset.w_x(keys[0], shape["w_x"], sizes, dtype),
        w_h=preset.w_h(keys[1], shape["w_h"], sizes, dtype),
        b=b,
        b_h=b_h,
        w_p=preset.w_p(keys[4], shape["w_p"], sizes, dtype) if projected else None,
        w_c=jnp.zeros(shape["w_c"], dtype) if "w_c" in row.has else None,
        w_r=lecun_normal(jax.random.fold_in(key, 5), shape["w_r"], sizes, dtype) if "w_r" in row.has else None,
        norm=norm,
        gain=gain if "gain" in row.has else None,
        b_p=jnp.zeros(shape["b_p"], dtype) if projected and projection_bias else None,
    )
