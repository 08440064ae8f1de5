"""`ScannedRNN` as the scripts of PureJaxRL, JaxMARL, Mava and Stoix have it, run by `lstmjax.lstm`.

To swap it in, change one import:

    from lstmjax.linen import ScannedRNN                           # PureJaxRL, JaxMARL, Mava
    from lstmjax.linen import StoixScannedRNN as ScannedRNN        # Stoix

It stands for theirs with `nn.OptimizedLSTMCell` (or `nn.LSTMCell`): the same call, the same carry (c, h), the same tree
of variables and, from the same key, the same initial values. A script whose cell was a GRU has one array as its carry;
where it indexes that, such as `hstate[None]`, map over the pair: `jax.tree.map(lambda a: a[None], hstate)`.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from flax.core import meta
from flax.linen.dtypes import promote_dtype

from lstmjax.arguments import as_whole, check_positive, kind, one_of
from lstmjax.carry import Carry, check_carry, check_parts
from lstmjax.checks import cell_dtype
from lstmjax.layer import lstm
from lstmjax.types import GATES, Array, LSTMParams

CELL_TYPES = MappingProxyType({"lstm": nn.LSTMCell, "optimised_lstm": nn.OptimizedLSTMCell})
"""The LSTM cells of Flax by the names that Stoix gives them; their variables are built alike."""


def zero_carry(batch: int | tuple[int, ...], hidden: int) -> Carry:
    """Return the carry (c, h) of an episode's beginning: zeros `[..., H]`."""
    check_positive("hidden_size", hidden)
    axes = tuple(as_whole("batch_size", size) for size in (batch if isinstance(batch, tuple | list) else (batch,)))
    if min(axes, default=0) < 0:
        raise ValueError(f"batch_size is {batch}, expected the number of environments, 0 or more.")
    shape = (*axes, hidden)
    return jnp.zeros(shape), jnp.zeros(shape)


def cell_of(module: nn.Module, kind: Any, features: int) -> Any:
    """Return Flax' cell, bound to a module under the name that it has in a script.

    A script whose `initialize_carry` makes a cell within the module has used up the number 0 by that, and the weights
    are those of number 1; one that makes zeros has them under 0. Initial values are drawn for number 1.
    """
    names = [f"{kind.__name__}_{n}" for n in (1, 0)]
    present = [name for name in names if module.has_variable("params", name)]
    return kind(features, name=(present or names)[0])


def scanned(cell: Any, carry: Carry, x: tuple[Array, Array], *, initializing: bool) -> tuple[Carry, Array]:
    """Run a bound cell of Flax over a sequence, by `lstm`, on the variables that it holds."""
    check_parts(carry, "vanilla")
    if not isinstance(x, tuple | list) or len(x) != 2:
        raise ValueError(f"x is {kind(x)}, expected the pair (inputs [T, B, I], resets [T, B]).")
    inputs, resets = jnp.asarray(x[0]), jnp.asarray(x[1])
    if inputs.ndim < 2 or resets.shape != inputs.shape[:-1]:
        raise ValueError(
            f"x has inputs of shape {inputs.shape} and resets of shape {resets.shape}, expected [T, ..., I] and "
            "[T, ...], time first: for one step add an axis, inputs[None] and resets[None]."
        )
    for part, a in zip("ch", carry, strict=True):
        if jnp.ndim(a) == 0 or jnp.shape(a)[-1] != cell.features:
            raise ValueError(
                f"carry {part} has shape {jnp.shape(a)}, but this module has {cell.features} units, expected "
                f"{(*inputs.shape[1:-1], cell.features)}, as initialize_carry(batch_size, {cell.features}) gives it."
            )
        if jnp.shape(a)[:-1] not in ((), inputs.shape[1:-1]):
            raise ValueError(
                f"carry {part} has shape {jnp.shape(a)}, but x has inputs of shape {inputs.shape}, expected "
                "[T, ..., I] with the batch axes of the carry, time first."
            )
    if initializing:  # Flax's own cell draws its variables
        cell(carry, jnp.zeros(inputs.shape[1:], inputs.dtype))
    if "params" not in cell.variables:
        raise ValueError(
            f"the variables have no LSTM cell under {cell.name!r}. Pass those that init returned, or that a script "
            "with an LSTM cell trained; a GRU has others."
        )
    tree = meta.unbox(cell.variables["params"])
    kernels = [[tree[f"{side}{gate}"]["kernel"] for gate in GATES] for side in "ih"]
    w_x, w_h = (jnp.stack(side, axis=1) for side in kernels)
    params = LSTMParams(w_x, w_h, jnp.stack([tree[f"h{gate}"]["bias"] for gate in GATES]))
    check_carry(carry, params, inputs.shape[1:-1], "vanilla")
    c, h = map(jnp.asarray, carry)
    inputs, w_x, w_h, b, wide = promote_dtype(inputs, *params[:3], h, dtype=None)
    state = (wide, c.astype(cell_dtype(wide.dtype)))
    (last_h, last_c), ys = lstm(LSTMParams(w_x, w_h, b), inputs, state, resets=resets.astype(bool), time_major=True)
    return (last_c.astype(jnp.result_type(c.dtype, wide.dtype)), last_h), ys


class ScannedRNN(nn.Module):
    """The LSTM of PureJaxRL's and JaxMARL's recurrent scripts, with the call of their `ScannedRNN`.

    Attributes:
        hidden_state_dim: H, for scripts that name it (Mava); None: that of the carry.

    Example:
        >>> import jax
        >>> carry = ScannedRNN.initialize_carry(3, 8)
        >>> x = jnp.ones((5, 3, 2)), jnp.zeros((5, 3), bool)
        >>> variables = ScannedRNN().init(jax.random.key(0), carry, x)
        >>> sorted(variables["params"]["OptimizedLSTMCell_1"])
        ['hf', 'hg', 'hi', 'ho', 'if', 'ig', 'ii', 'io']
        >>> carry, ys = ScannedRNN().apply(variables, carry, x)
        >>> ys.shape
        (5, 3, 8)
    """

    hidden_state_dim: int | None = None

    @nn.compact
    def __call__(self, carry: Carry, x: tuple[Array, Array]) -> tuple[Carry, Array]:
        """Return (carry, ys): the carry after the last step, and h at every step, `[T, ..., H]`.

        Args:
            carry: (c, h), each `[..., H]`, as `initialize_carry` and the last call return it.
            x: (inputs `[T, ..., I]`, resets `[T, ...]`): where resets is not 0 the carry returns to zeros before the
                step, so that it belongs to the first observation of an episode.
        """
        check_parts(carry, "vanilla")
        features = jnp.shape(carry[1])[-1] if self.hidden_state_dim is None else self.hidden_state_dim
        return scanned(cell_of(self, nn.OptimizedLSTMCell, features), carry, x, initializing=self.is_initializing())

    @staticmethod
    def initialize_carry(batch_size: int | tuple[int, ...], hidden_size: int) -> Carry:
        """Return the carry (c, h) of an episode's beginning: zeros `[B, H]`, or `[..., H]` for several batch axes."""
        return zero_carry(batch_size, hidden_size)


class StoixScannedRNN(nn.Module):
    """The LSTM of Stoix' recurrent networks, with the fields and the call of their `ScannedRNN`.

    In Stoix' configuration: `_target_: lstmjax.linen.StoixScannedRNN`, `cell_type: optimised_lstm`.

    Attributes:
        hidden_state_dim: H.
        cell_type: "optimised_lstm" or "lstm", which name the variables; both are computed alike.

    Raises:
        ValueError: another cell, at `init` or `apply`.
    """

    hidden_state_dim: int
    cell_type: str = "optimised_lstm"

    @nn.compact
    def __call__(self, rnn_state: Carry, x: tuple[Array, Array]) -> tuple[Carry, Array]:
        """Return (carry, ys), as `ScannedRNN` does."""
        one_of("cell_type", self.cell_type, tuple(CELL_TYPES))
        cell = cell_of(self, CELL_TYPES[self.cell_type], self.hidden_state_dim)
        return scanned(cell, rnn_state, x, initializing=self.is_initializing())

    @nn.nowrap
    def initialize_carry(self, batch_size: int) -> Carry:
        """Return the carry (c, h) of an episode's beginning: zeros `[B, H]`."""
        one_of("cell_type", self.cell_type, tuple(CELL_TYPES))
        return zero_carry(batch_size, self.hidden_state_dim)
