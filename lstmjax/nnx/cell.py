"""`LSTMCell`: one step as a cell of Flax's own `nnx.RNN`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Self

import jax
import jax.numpy as jnp
from flax import nnx as flax_nnx

from lstmjax import checks
from lstmjax.carry import Carry, carry_like, carry_step
from lstmjax.cells import Cell
from lstmjax.init import init_params
from lstmjax.nnx.held import Held, Rngs, check_sizes, holding
from lstmjax.published import find_cell
from lstmjax.types import Array, LSTMParams

if TYPE_CHECKING:
    from jax.typing import DTypeLike

    Initializer = Callable[[Array, tuple[int, ...], DTypeLike], Array]


class LSTMCell(Held, flax_nnx.RNNCellBase):
    """Gives Flax's `nnx.RNN` and `nnx.Bidirectional` one step of our LSTM: a drop-in for `nnx.LSTMCell`.

    The carry is (c, h), as Flax has it; everywhere else in this library the state is (h, c). A cell that
    feeds gates back has them behind: (c, h, i, f, o). For dropout, zoneout, masks and resets use `LSTM`.

    Args:
        in_features, hidden_features, cell, projection_size, projection_bias, init, bias, forget_bias, dtype,
            param_dtype, rngs: see `LSTM`. `init="flax"` draws as Flax's own cell does.

    Example:
        >>> from flax import nnx
        >>> rnn = nnx.RNN(LSTMCell(5, 8, rngs=nnx.Rngs(0)), return_carry=True)
        >>> (c, h), ys = rnn(jnp.ones((2, 7, 5)))
        >>> ys.shape, bool((ys[:, -1] == h).all())
        ((2, 7, 8), True)
    """

    def __init__(
        self,
        in_features: int,
        hidden_features: int,
        *,
        cell: Cell | str = "vanilla",
        projection_size: int | None = None,
        projection_bias: bool = False,
        init: str = "default",
        bias: str | None = "preset",
        forget_bias: float | None = None,
        dtype: DTypeLike | None = None,
        param_dtype: DTypeLike = jnp.float32,
        rngs: flax_nnx.Rngs,
    ) -> None:
        check_sizes(param_dtype, in_features=in_features, hidden_features=hidden_features)
        params = init_params(
            rngs.params(), in_features, hidden_features,
            cell=cell, projection_size=projection_size, bias=bias, init=init,
            projection_bias=projection_bias,
            forget_bias=forget_bias, dtype=param_dtype,
        )  # fmt: skip
        Held.__init__(self, params)
        self._configure(cell, dtype)

    def _configure(self, cell: Cell | str, dtype: DTypeLike | None) -> None:
        find_cell(cell)
        if dtype is not None:
            checks.check_floating("dtype", dtype)
        self.cell = cell
        self.dtype = dtype

    @classmethod
    def from_params(cls, params: LSTMParams, *, cell: Cell | str = "vanilla", dtype: DTypeLike | None = None) -> Self:
        """Gives a cell that holds given parameters; nothing is drawn. `cell` is the one that they were made for."""
        if not isinstance(params, LSTMParams):
            raise TypeError(f"params is a {type(params).__name__}, expected LSTMParams, those of one layer.")
        module = holding(cls, params)
        module._configure(cell, dtype)
        return module

    def to_params(self) -> LSTMParams:
        """Gives the parameters that `lstmjax.cell_step` and `lstmjax.lstm` take."""
        return self.held()

    def __call__(self, carry: Carry, inputs: Array) -> tuple[Carry, Array]:
        """Gives ((c', h'), h') after one step.

        Args:
            carry: (c, h), Flax's order: c `[..., H]`, h `[..., P]`, as `initialize_carry` gives them.
            inputs: x, `[..., I]`.
        """
        return carry_step(self.to_params(), carry, inputs, self.dtype, self.cell)

    def initialize_carry(
        self, input_shape: tuple[int, ...], rngs: Rngs | None = None, carry_init: Initializer | None = None
    ) -> Carry:
        """Gives the carry (c, h) to start from: zeros, or what `carry_init` draws.

        c, and the gates that the cell feeds back, are float32 where the computation is half precision.

        Args:
            input_shape: shape of the input of one step, `[..., I]`.
            rngs: keys for `carry_init` (stream "carry"); zeros need none.
            carry_init: `carry_init(key, shape, dtype)`.
        """
        params = self.to_params()
        dtype = jnp.dtype(self.dtype or params.w_x.dtype)
        like = carry_like(self.cell, input_shape[:-1], params.hidden_size, params.output_size, dtype)
        if carry_init is None:
            return tuple(jnp.zeros(part.shape, part.dtype) for part in like)
        if rngs is None:
            raise ValueError("rngs is None, but carry_init draws. Pass rngs=nnx.Rngs(...).")
        stream: Any = rngs.carry if isinstance(rngs, flax_nnx.Rngs) else rngs
        keys = [stream() for _ in like] if callable(stream) else jax.random.split(stream, len(like))
        return tuple(carry_init(key, part.shape, part.dtype) for key, part in zip(keys, like, strict=True))

    @property
    def num_feature_axes(self) -> int:
        """The number of axes of one step's features: 1."""
        return 1
