"""`LSTMCell`: one step as a cell for Flax's `linen.RNN`."""

from __future__ import annotations

from dataclasses import KW_ONLY
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.core import meta
from flax.linen.dtypes import promote_dtype

from lstmjax.arguments import kind, one_of
from lstmjax.carry import Carry, carry_like, carry_step, check_parts
from lstmjax.cells import Activation, Cell
from lstmjax.init import PRESETS, init_params
from lstmjax.linen.held import existing_params, held
from lstmjax.per_gate import with_initializers
from lstmjax.published import with_activations
from lstmjax.types import Array, LSTMParams

if TYPE_CHECKING:
    from jax.typing import ArrayLike, DTypeLike


class LSTMCell(nn.RNNCellBase):
    """One step of the LSTM as a cell for Flax's `nn.RNN` and `nn.Bidirectional`, to use instead of `nn.LSTMCell`.

    It takes the arguments, inputs and carries that `nn.LSTMCell` takes, and computes the same with the same weights
    (`lstmjax.convert` converts them). The carry is (c, h), as in Flax; everywhere else in this library the state is
    (h, c). A cell that feeds gates back appends them: (c, h, i, f, o). For dropout, zoneout, masks and resets use
    `LSTM`.

    Differences from `nn.LSTMCell`:

    - Variables: one `LSTMParams` under "cell", w_x `[I, 4, H]`, w_h `[H, 4, H]` and b `[4, H]`, instead of eight
      Dense layers. The names of `nn.with_partitioning` get a None for the gate axis.
    - Initial values: `preset="default"` has a forget bias of 1; `preset="flax"` has the distributions of Flax's cell.
      An initialiser is called once for each gate, with the shape that it has in Flax. The random numbers differ from
      Flax's for the same key, which is split in another way.
    - Half precision: gates and c are float32, and so is the initial c. h and the output have the dtype of the
      computation. (In Flax both h and c start in `param_dtype`.) A carry that you pass keeps its dtypes.

    Attributes:
        features: H of the carry that `initialize_carry` returns. As in Flax, the parameters get their H from the
            carry of the first call; with `projection_size` they get it from here.
        gate_fn: replaces σ, a function of one array; None: that of `cell`.
        activation_fn: replaces tanh, both for the candidate and for c; None: that of `cell`.
        kernel_init, recurrent_kernel_init, bias_init: `init(key, shape, dtype)`, called for each gate with the shape
            `[I, H]`, `[P, H]` or `[H]`; None: that of `preset`. `bias_init` also sets the forget bias.
        dtype: of the computation; None: the dtype to which Flax promotes inputs, carry and parameters.
        param_dtype: of the stored parameters.
        carry_init: `carry_init(key, shape, dtype)` for each part of the initial carry.
        cell, projection_size, projection_bias, preset, bias, forget_bias: see `LSTM`. `preset="flax"` has the
            distributions of Flax's cell.

    Raises:
        ValueError, TypeError: an argument is invalid, at `init` or `apply`; the message names it.

    Example:
        >>> import jax
        >>> rnn = nn.RNN(LSTMCell(8), return_carry=True)
        >>> xs = jnp.ones((2, 7, 5))
        >>> (c, h), ys = rnn.apply(rnn.init(jax.random.key(0), xs), xs)
        >>> ys.shape, bool((ys[:, -1] == h).all())
        ((2, 7, 8), True)
    """

    features: int
    gate_fn: Activation | None = None
    activation_fn: Activation | None = None
    kernel_init: Any = None
    recurrent_kernel_init: Any = None
    bias_init: Any = None
    dtype: Any = None
    param_dtype: Any = jnp.float32
    carry_init: Any = nn.initializers.zeros
    _: KW_ONLY
    cell: Cell | str = "vanilla"
    projection_size: int | None = None
    projection_bias: bool = False
    preset: str = "default"
    bias: str | None = "preset"
    forget_bias: ArrayLike | None = None

    @nn.compact
    def __call__(self, carry: Carry, inputs: Array) -> tuple[Carry, Array]:
        """Return ((c', h'), h') after one step.

        Args:
            carry: (c, h), in the order of Flax: c `[..., H]`, h `[..., P]`, as `initialize_carry` returns them.
                The batch axes of the inputs may be missing.
            inputs: x, `[..., I]`, real numbers; integers are promoted to floating-point.
        """
        row = self._row()
        check_parts(carry, row)
        params = held(self, "cell", inputs, lambda key, size: self._draw(key, size, self._hidden(carry)))
        return carry_step(params, carry, inputs, self.dtype, row, _promote)

    @nn.nowrap
    def _row(self) -> Cell:
        return with_activations(self.cell, self.gate_fn, self.activation_fn)

    def _hidden(self, carry: Carry) -> int:
        """Return H: that of the parameters, else that of h in the carry, or `features` if h is projected."""
        existing = existing_params(self, "cell")
        if existing is not None:
            return existing.hidden_size
        return self.features if self.projection_size is not None else jnp.shape(carry[1])[-1]

    @nn.nowrap
    def _draw(self, key: Array, inputs: int, hidden: int) -> LSTMParams:
        """Return initial parameters, in boxes of metadata where the initialiser returns boxes."""
        one_of("preset", self.preset, tuple(PRESETS))
        if self.bias is None and self.bias_init is not None:
            raise ValueError("bias is None, so there is no bias for bias_init. Leave bias out.")
        initializers = (self.kernel_init, self.recurrent_kernel_init, self.bias_init)
        preset, draws = with_initializers(self.preset, meta.unbox, *initializers)
        params = init_params(
            key, inputs, hidden,
            cell=self.cell, projection_size=self.projection_size, projection_bias=self.projection_bias,
            init=preset, bias=self.bias, forget_bias=self.forget_bias, dtype=self.param_dtype,
        )  # fmt: skip
        boxes = {field: _boxed(draw.box, getattr(params, field)) for field, draw in draws.items()}
        return params._replace(**boxes)

    @nn.nowrap
    def initialize_carry(self, rng: Array, input_shape: tuple[int, ...]) -> Carry:
        """Return the initial carry (c, h): zeros, unless `carry_init` says otherwise.

        In half precision, c and the gates that the cell feeds back are float32.

        Args:
            rng: key for `carry_init`.
            input_shape: shape of the input of one step, `[..., I]`.
        """
        dtype = jnp.dtype(self.dtype or self.param_dtype)
        width = self.features if self.projection_size is None else self.projection_size
        like = carry_like(self.cell, input_shape[:-1], self.features, width, dtype)
        keys = jax.random.split(rng, len(like))
        return tuple(self.carry_init(key, part.shape, part.dtype) for key, part in zip(keys, like, strict=True))

    @property
    def num_feature_axes(self) -> int:
        """The number of axes of one step's features: 1."""
        return 1

    @staticmethod
    def to_params(variables: Any) -> LSTMParams:
        """Return the parameters that `lstmjax.cell_step` and `lstmjax.lstm` take, without boxes of metadata."""
        params = variables["params"]["cell"]
        return meta.unbox(params) if any(map(meta.is_axis_metadata, params)) else params

    @staticmethod
    def from_params(params: LSTMParams) -> dict[str, Any]:
        """Return the variables for `apply`; the module's sizes must be those of the parameters."""
        if not isinstance(params, LSTMParams):
            raise TypeError(f"params is {kind(params)}, expected LSTMParams, those of one layer.")
        return {"params": {"cell": params}}


def _promote(arrays: tuple[Any, ...], *, dtype: DTypeLike | None) -> Any:
    """Promote arrays to one dtype as linen's Dense does."""
    return promote_dtype(*arrays, dtype=dtype)


def _boxed(box: Any, value: Array) -> Any:
    """Return an array of all gates in the box of the first gate's array, with an unnamed gate axis added."""
    index = value.ndim - 2
    return meta.add_axis(meta.replace_boxed(box, value), index, {nn.PARTITION_NAME: None})
