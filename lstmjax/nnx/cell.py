"""`LSTMCell`: one step as a cell of Flax's own `nnx.RNN`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Self

import jax
import jax.numpy as jnp
from flax import nnx as flax_nnx

from lstmjax import checks
from lstmjax.carry import carry_step
from lstmjax.init import init_params
from lstmjax.nnx.held import Held, Rngs, check_sizes, holding
from lstmjax.types import Array, LSTMParams

if TYPE_CHECKING:
    from jax.typing import DTypeLike

    Initializer = Callable[[Array, tuple[int, ...], DTypeLike], Array]


class LSTMCell(Held, flax_nnx.RNNCellBase):
    """Gives Flax's `nnx.RNN` and `nnx.Bidirectional` one step of our LSTM: a drop-in for `nnx.LSTMCell`.

    The carry is (c, h), as Flax has it; everywhere else in this library the state is (h, c). For
    dropout, zoneout, masks and resets use `LSTM`.

    Args:
        in_features, hidden_features, projection_size, init, bias, forget_bias, dtype, param_dtype,
            rngs: see `LSTM`. `init="flax"` draws as Flax's own cell does.

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
        projection_size: int | None = None,
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
            projection_size=projection_size, bias=bias, init=init,
            forget_bias=forget_bias, dtype=param_dtype,
        )  # fmt: skip
        Held.__init__(self, params)
        self._configure(dtype)

    def _configure(self, dtype: DTypeLike | None) -> None:
        if dtype is not None:
            checks.check_floating("dtype", dtype)
        self.dtype = dtype

    @classmethod
    def from_params(cls, params: LSTMParams, *, dtype: DTypeLike | None = None) -> Self:
        """Gives a cell that holds given parameters; nothing is drawn."""
        if not isinstance(params, LSTMParams):
            raise TypeError(f"params is a {type(params).__name__}, expected LSTMParams, those of one layer.")
        module = holding(cls, params)
        module._configure(dtype)
        return module

    def to_params(self) -> LSTMParams:
        """Gives the parameters that `lstmjax.cell_step` and `lstmjax.lstm` take."""
        return self.held()

    def __call__(self, carry: tuple[Array, Array], inputs: Array) -> tuple[tuple[Array, Array], Array]:
        """Gives ((c', h'), h') after one step.

        Args:
            carry: (c, h), Flax's order: c `[..., H]`, h `[..., P]`, as `initialize_carry` gives them.
            inputs: x, `[..., I]`.
        """
        return carry_step(self.to_params(), carry, inputs, self.dtype)

    def initialize_carry(
        self, input_shape: tuple[int, ...], rngs: Rngs | None = None, carry_init: Initializer | None = None
    ) -> tuple[Array, Array]:
        """Gives the carry (c, h) to start from: zeros, or what `carry_init` draws.

        c is float32 where the computation is half precision.

        Args:
            input_shape: shape of the input of one step, `[..., I]`.
            rngs: keys for `carry_init` (stream "carry"); zeros need none.
            carry_init: `carry_init(key, shape, dtype)`.
        """
        params = self.to_params()
        dtype = jnp.dtype(self.dtype or params.w_x.dtype)
        shapes = (*input_shape[:-1], params.hidden_size), (*input_shape[:-1], params.output_size)
        dtypes = checks.cell_dtype(dtype), dtype
        if carry_init is None:
            c, h = (jnp.zeros(shape, kind) for shape, kind in zip(shapes, dtypes, strict=True))
            return c, h
        if rngs is None:
            raise ValueError("rngs is None, but carry_init draws. Pass rngs=nnx.Rngs(...).")
        stream: Any = rngs.carry if isinstance(rngs, flax_nnx.Rngs) else rngs
        keys = (stream(), stream()) if callable(stream) else jax.random.split(stream)
        c, h = (carry_init(key, shape, kind) for key, shape, kind in zip(keys, shapes, dtypes, strict=True))
        return c, h

    @property
    def num_feature_axes(self) -> int:
        """The number of axes of one step's features: 1."""
        return 1
