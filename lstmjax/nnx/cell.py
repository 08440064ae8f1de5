"""`LSTMCell`: one step as a cell for Flax's `nnx.RNN`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Self

import jax
import jax.numpy as jnp
from flax import nnx as flax_nnx
from flax.nnx.nn.dtypes import promote_dtype as flax_promote
from jax.sharding import PartitionSpec

from lstmjax.arguments import check_floating, kind, one_of
from lstmjax.carry import Carry, Promote, carry_like, carry_step
from lstmjax.cells import Activation, Cell
from lstmjax.init import PRESETS, init_params
from lstmjax.nnx.held import Held, Rngs, check_sizes, holding
from lstmjax.per_gate import with_initializers
from lstmjax.published import find_cell, with_activations
from lstmjax.types import Array, LSTMParams

if TYPE_CHECKING:
    from jax.typing import ArrayLike, DTypeLike

    from lstmjax.per_gate import Initializer

Metadata = Mapping[str, Any]
NOTHING: Metadata = MappingProxyType({})


class LSTMCell(Held, flax_nnx.RNNCellBase):
    """One step of the LSTM as a cell for Flax's `nnx.RNN` and `nnx.Bidirectional`, to use instead of `nnx.LSTMCell`.

    It takes the arguments, inputs and carries that `nnx.LSTMCell` takes, and computes the same with the same
    weights (`lstmjax.convert` converts them). The carry is (c, h), as in Flax; everywhere else in this library
    the state is (h, c). A cell that feeds gates back appends them: (c, h, i, f, o). For dropout, zoneout, masks
    and resets use `LSTM`.

    Differences from `nnx.LSTMCell`:

    - Parameters: w_x `[I, 4, H]`, w_h `[H, 4, H]` and b `[4, H]` instead of eight Linear layers. Names in
      `out_sharding` get a None for the gate axis.
    - Initial values: `init="default"` has a forget bias of 1; `init="flax"` has the distributions of Flax's cell.
      An initialiser is called once for each gate, with the shape that it has in Flax. The random numbers differ
      from Flax's for the same seed, because the keys are split in another way.
    - Half precision: gates and c are float32, and so is the initial c. h and the output have the dtype of the
      computation. (In Flax both h and c start in `param_dtype`.) A carry that you pass keeps its dtypes.
    - A carry of zeros needs no `rngs`, and nothing warns about `carry_init` or `keep_rngs`.

    Args:
        in_features, hidden_features: see `LSTM`.
        cell, projection_size, projection_bias: see `LSTM`.
        init, bias, forget_bias, param_dtype, rngs: see `LSTM`.
        dtype: of the computation; None: the dtype to which Flax promotes inputs, carry and parameters.
        gate_fn: replaces σ, a function of one array; None: that of `cell`.
        activation_fn: replaces tanh, both for the candidate and for c; None: that of `cell`.
        kernel_init, recurrent_kernel_init, bias_init: `init(key, shape, dtype)`, called for each gate with the
            shape `[I, H]`, `[P, H]` or `[H]`; None: that of `init`. `bias_init` also sets the forget bias.
        carry_init: `carry_init(key, shape, dtype)` for each part of the carry; None: zeros.
        promote_dtype: function that brings inputs, kernel and bias to one dtype; the default is Flax's.
        keep_rngs: keep a fork of the stream "carry", so that `carry_init` works without rngs at the call.
        kernel_metadata, recurrent_kernel_metadata, bias_metadata: metadata of the `nnx.Param` w_x, w_h and b, as
            in Flax's cell.

    Raises:
        ValueError, TypeError: an argument is invalid; the message names it.

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
        forget_bias: ArrayLike | None = None,
        gate_fn: Activation | None = None,
        activation_fn: Activation | None = None,
        kernel_init: Initializer | None = None,
        recurrent_kernel_init: Initializer | None = None,
        bias_init: Initializer | None = None,
        dtype: DTypeLike | None = None,
        param_dtype: DTypeLike = jnp.float32,
        carry_init: Initializer | None = None,
        promote_dtype: Promote = flax_promote,
        keep_rngs: bool = False,
        rngs: flax_nnx.Rngs,
        kernel_metadata: Metadata = NOTHING,
        recurrent_kernel_metadata: Metadata = NOTHING,
        bias_metadata: Metadata = NOTHING,
    ) -> None:
        check_sizes(param_dtype, in_features=in_features, hidden_features=hidden_features)
        one_of("init", init, tuple(PRESETS))
        if bias is None and (bias_init is not None or bias_metadata):
            raise ValueError("bias is None, so there is no bias for bias_init or bias_metadata. Leave bias out.")
        preset, draws = with_initializers(init, _open, kernel_init, recurrent_kernel_init, bias_init)
        params = init_params(
            rngs.params(), in_features, hidden_features,
            cell=cell, projection_size=projection_size, projection_bias=projection_bias, bias=bias, init=preset,
            forget_bias=forget_bias, dtype=param_dtype,
        )  # fmt: skip
        Held.__init__(self, params)
        fields = {"w_x": kernel_metadata, "w_h": recurrent_kernel_metadata, "b": bias_metadata}
        for field, metadata in fields.items():
            box = draws[field].box if field in draws else None
            if metadata or isinstance(box, flax_nnx.VariableMetadata):
                setattr(self, field, _param(getattr(params, field), box, metadata))
        self._configure(cell, gate_fn, activation_fn, dtype, carry_init, promote_dtype, rngs if keep_rngs else None)

    def _configure(
        self,
        cell: Cell | str,
        gate_fn: Activation | None,
        activation_fn: Activation | None,
        dtype: DTypeLike | None,
        carry_init: Initializer | None,
        promote_dtype: Promote,
        rngs: flax_nnx.Rngs | None,
    ) -> None:
        row = with_activations(cell, gate_fn, activation_fn)
        if dtype is not None:
            check_floating("dtype", dtype)
        self.cell = cell if row == find_cell(cell) else row
        self.dtype = dtype
        self.carry_init = carry_init
        self.promote_dtype = promote_dtype
        self.rngs = flax_nnx.data(None if rngs is None else rngs.carry.fork())

    @classmethod
    def from_params(
        cls,
        params: LSTMParams,
        *,
        cell: Cell | str = "vanilla",
        gate_fn: Activation | None = None,
        activation_fn: Activation | None = None,
        dtype: DTypeLike | None = None,
        carry_init: Initializer | None = None,
        promote_dtype: Promote = flax_promote,
    ) -> Self:
        """Return a cell that holds these parameters; nothing is drawn.

        Args:
            params: parameters of one layer, for `cell`. The arrays are not copied.
            cell, gate_fn, activation_fn, dtype, carry_init, promote_dtype: see the class.
        """
        if not isinstance(params, LSTMParams):
            raise TypeError(f"params is {kind(params)}, expected LSTMParams, those of one layer.")
        module = holding(cls, params)
        module._configure(cell, gate_fn, activation_fn, dtype, carry_init, promote_dtype, None)
        return module

    def to_params(self) -> LSTMParams:
        """Return the parameters that `lstmjax.cell_step` and `lstmjax.lstm` take."""
        return self.held()

    def __call__(self, carry: Carry, inputs: Array) -> tuple[Carry, Array]:
        """Return ((c', h'), h') after one step.

        Args:
            carry: (c, h), in the order of Flax: c `[..., H]`, h `[..., P]`, as `initialize_carry` returns them.
                The batch axes of the inputs may be missing.
            inputs: x, `[..., I]`, real numbers; integers are promoted to floating-point.
        """
        return carry_step(self.to_params(), carry, inputs, self.dtype, self.cell, self.promote_dtype)

    def initialize_carry(
        self, input_shape: tuple[int, ...], rngs: Rngs | None = None, carry_init: Initializer | None = None
    ) -> Carry:
        """Return the initial carry (c, h): zeros, or what `carry_init` draws.

        In half precision, c and the gates that the cell feeds back are float32.

        Args:
            input_shape: shape of the input of one step, `[..., I]`.
            rngs: keys for `carry_init` (stream "carry"); zeros need none.
            carry_init: `carry_init(key, shape, dtype)`; None: that of the constructor.
        """
        params = self.to_params()
        dtype = jnp.dtype(self.dtype or params.w_x.dtype)
        like = carry_like(self.cell, input_shape[:-1], params.hidden_size, params.output_size, dtype)
        carry_init = self.carry_init if carry_init is None else carry_init
        if carry_init is None:
            return tuple(jnp.zeros(part.shape, part.dtype) for part in like)
        rngs = self.rngs if rngs is None else rngs
        if rngs is None:
            raise ValueError("rngs is None, but carry_init draws. Pass rngs=nnx.Rngs(...).")
        stream: Any = rngs.carry if isinstance(rngs, flax_nnx.Rngs) else rngs
        keys = [stream() for _ in like] if callable(stream) else jax.random.split(stream, len(like))
        return tuple(carry_init(key, part.shape, part.dtype) for key, part in zip(keys, like, strict=True))

    @property
    def num_feature_axes(self) -> int:
        """The number of axes of one step's features: 1."""
        return 1

    def _w_x(self) -> Array:
        module: Any = self  # the fields are set by name
        return module.w_x.get_value()

    @property
    def in_features(self) -> int:
        """I, features of one step."""
        return self._w_x().shape[-3]

    @property
    def hidden_features(self) -> int:
        """H, units."""
        return self._w_x().shape[-1]

    @property
    def param_dtype(self) -> jnp.dtype:
        """The dtype of the stored parameters."""
        return self._w_x().dtype

    @property
    def gate_fn(self) -> Activation:
        """The activation of the output gate, which in cells such as `nnx.LSTMCell` is that of all gates."""
        return find_cell(self.cell).o

    @property
    def activation_fn(self) -> Activation:
        """The activation of c in h, which in cells such as `nnx.LSTMCell` is also that of the candidate."""
        return find_cell(self.cell).squash


def _open(value: Any) -> Any:
    """Return the array that an initialiser drew, without the box of `nnx.with_partitioning` or `nnx.with_metadata`."""
    return value.raw_value if isinstance(value, flax_nnx.VariableMetadata) else value


def _param(value: Array, box: Any, metadata: Metadata) -> flax_nnx.Param:
    """Return a Param with the metadata of Flax's cell, for an array that also has a gate axis."""
    with_gates = {name: _with_gates(name, entry) for name, entry in metadata.items()}
    if not isinstance(box, flax_nnx.VariableMetadata):
        return flax_nnx.Param(value, **with_gates)
    boxed = {name: _with_gates(name, entry) for name, entry in box.metadata.items()}
    return flax_nnx.Param(replace(box, raw_value=value, metadata=boxed), **with_gates)


AXES = ("out_sharding", "sharding", "sharding_names")
"""The entries of Flax's metadata that name the axes of an array."""


def _with_gates(name: str, entry: Any) -> Any:
    """Return an entry of one gate's metadata for all gates: names of axes get a None for the gate axis."""
    if name not in AXES or not isinstance(entry, tuple | list | PartitionSpec) or not entry:
        return entry
    names = (*entry[:-1], None, entry[-1])
    return PartitionSpec(*names) if isinstance(entry, PartitionSpec) else names
