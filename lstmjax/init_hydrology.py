"""Initialise the parameters of the cells of hydrology: the entity-aware one and the mass-conserving one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp

from lstmjax.arguments import check_floating, check_key, check_positive
from lstmjax.draws import Preset, Sizes, lecun_normal
from lstmjax.entity import DYNAMIC_GATES, EntityParams
from lstmjax.init import init_params
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
