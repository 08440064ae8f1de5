"""Initialise the parameters of the cells of hydrology: the entity-aware one and the mass-conserving one."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp

from lstmjax.arguments import as_flags, check_floating, check_key, check_number, check_positive
from lstmjax.draws import Preset, Sizes, lecun_normal, orthogonal
from lstmjax.entity import DYNAMIC_GATES, EntityParams
from lstmjax.init import init_params
from lstmjax.mass import MassForm, MassGate, MassParams, check_exact, find_form, softmax
from lstmjax.types import Array

if TYPE_CHECKING:
    from jax.typing import ArrayLike, DTypeLike


def init_entity_aware(
    key: Array,
    input_size: int,
    static_size: int,
    hidden_size: int,
    *,
    init: str | Preset = "default",
    forget_bias: ArrayLike | None = None,
    dtype: DTypeLike = jnp.float32,
) -> EntityParams:
    """Initialise the parameters of one entity-aware layer.

    Args:
        key: random key.
        input_size: I, features of one step, without the static attributes.
        static_size: S, static attributes.
        hidden_size: H, units.
        init: how the gates that see x and h are drawn, as for `init_params`. The input gate's weights are LeCun normal,
            its bias is 0.
        forget_bias: total bias of the forget gate, a number or one for each unit `[H]`; None: as the preset has it.
            Hydrologists begin with 3 or 5, so that a network remembers a season from the start.
        dtype: floating-point dtype of all fields.

    Returns:
        `EntityParams`: w_x `[I, 3, H]`, w_h `[H, 3, H]`, b `[3, H]`, w_s `[S, H]`, b_s `[H]`.

    Raises:
        ValueError: a size below 1, an unknown preset, a forget bias that is not finite or of another shape.

    >>> params = init_entity_aware(jax.random.key(0), 5, 27, 256, forget_bias=3.0)
    >>> sum(leaf.size for leaf in jax.tree.leaves(params))  # 3·(5·256 + 256·256 + 256) + 27·256 + 256
    208384
    """
    check_key("key", key)
    check_positive("static_size", static_size)
    check_floating("dtype", dtype)
    below, beside = jax.random.split(key)
    dynamic = init_params(
        below, input_size, hidden_size, cell=DYNAMIC_GATES, bias="single", init=init, forget_bias=forget_bias,
        dtype=dtype,
    )  # fmt: skip
    sizes = Sizes(static_size, hidden_size, hidden_size)
    w_s = lecun_normal(beside, (static_size, hidden_size), sizes, dtype)
    return EntityParams(dynamic, w_s, jnp.zeros(hidden_size, dtype))


def init_mass_conserving(
    key: Array,
    aux_size: int,
    hidden_size: int,
    *,
    mass_size: int = 1,
    form: MassForm | str = "hydrology",
    constant: bool = False,
    output_bias: float = -3.0,
    dtype: DTypeLike = jnp.float32,
) -> MassParams:
    """Initialise the parameters of one mass-conserving layer, as ml-jku/mc-lstm does.

    The weights of a gate are one orthogonal matrix, biases are 0 but for two: that of the output gate, and in the form
    "softmax" that of R, which is the unit matrix, so that a unit rather keeps its mass.

    Args:
        key: random key.
        aux_size: A, auxiliary inputs.
        hidden_size: H, units that store mass.
        mass_size: M, mass inputs.
        form: a row of `MASS_FORMS`, its name, or a `MassForm`.
        constant: R is the same at every step, a matrix that is trained. Its bias is then the unit matrix in each form.
        output_bias: the bias of the output gate. Below 0 mass stays at first; neuralhydrology calls it
            `initial_forget_bias`.
        dtype: float32 or float64.

    Returns:
        `MassParams`.

    Raises:
        ValueError: a size below 1, an unknown form, half precision.

    >>> params = init_mass_conserving(jax.random.key(0), 5, 64)
    >>> sum(leaf.size for leaf in jax.tree.leaves(params))  # (1 + 64 + 1)·64·(1 + 5 + 64 + 1)
    299904
    """
    check_key("key", key)
    for name, size in (("aux_size", aux_size), ("hidden_size", hidden_size), ("mass_size", mass_size)):
        check_positive(name, size)
    row = find_form(form)
    (constant,) = as_flags(constant=constant)
    check_number("output_bias", output_bias)
    check_floating("dtype", dtype)
    check_exact(dtype)
    seen = mass_size if row.sees_mass else 0
    units = jnp.eye(hidden_size, dtype=dtype)

    def gate(key: Array, shape: tuple[int, ...], bias: Array) -> MassGate:
        w = orthogonal(key, (seen + aux_size + hidden_size, math.prod(shape)), dtype)
        w_m, w_a, w_c = jnp.split(w.reshape(-1, *shape), (seen, seen + aux_size))
        return MassGate(bias, w_a, w_c, w_m if row.sees_mass else None)

    keys = jax.random.split(key, 3)
    square = (hidden_size, hidden_size)
    r = MassGate(units)
    if not constant:
        r = gate(keys[1], square, units if row.r is softmax else jnp.zeros(square, dtype))
    return MassParams(
        gate(keys[0], (mass_size, hidden_size), jnp.zeros((mass_size, hidden_size), dtype)),
        r,
        gate(keys[2], (hidden_size,), jnp.full(hidden_size, output_bias, dtype)),
    )
