"""`LSTM` and `LSTMNetwork`: layers over time as Flax NNX modules."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Unpack

import jax.numpy as jnp
from flax import nnx as flax_nnx

from lstmjax.cell import Emit
from lstmjax.cells import Cell
from lstmjax.init_stack import init_network, init_stacked
from lstmjax.keywords import takes
from lstmjax.networks import NetworkParams, network
from lstmjax.nnx.held import Held, Rngs, check_sizes
from lstmjax.nnx.over_time import OverTime
from lstmjax.options import ModuleOptions
from lstmjax.parameters import network_of, stack_of
from lstmjax.stack import Layers, stacked
from lstmjax.types import PyTree

if TYPE_CHECKING:
    from jax.typing import ArrayLike, DTypeLike


class Stack(NamedTuple):
    """The layers of an `LSTM`, under the name of the module's attribute."""

    layers: Layers


class LSTM(OverTime):
    """LSTM layers over a sequence: `lstmjax.stacked` as a module.

    Args:
        in_features: I, features of one step.
        hidden_features: H, units of each layer.
        layers: L, number of layers.
        bidirectional: each layer runs in both directions.
        merge: how their outputs are joined: "concat" (width 2P) or "sum" (width P).
        cell: a name in `lstmjax.CELLS`, or a `Cell`.
        projection_size: P, width of h if it is projected; None: H.
        projection_bias: whether the projection has a bias.
        residual: add the input of each layer to its output, from the second layer on.
        dropout: rate of dropout between layers, in training.
        wrappers: wrappers around each step, such as `(RecurrentDropout(.2), Zoneout(.1, .1))`.
        return_sequences: return ys of all steps; False: of the last valid step.
        time_major: time is the first axis of xs and ys.
        init, bias, forget_bias: initial values; see `lstmjax.init_params`.
        dtype: of the computation; None: that of the parameters. In bfloat16 and float16 c stays float32.
        param_dtype: of the stored parameters.
        checkpoint, unroll, backend: see `lstmjax.lstm`.
        deterministic: True: evaluation, without dropout or random wrappers. `model.train()`,
            `model.eval()` and `nnx.view(model, deterministic=...)` set it, as for `nnx.Dropout`.
        rngs: `nnx.Rngs`: stream "params" for initial values; stream "dropout" for dropout and wrappers
            in training, of which a fork is held only if there are any.

    Raises:
        ValueError: a size, rate or name is invalid; the message names the argument.

    Example:
        >>> from flax import nnx
        >>> model = LSTM(5, 8, layers=2, bidirectional=True, rngs=nnx.Rngs(0))
        >>> state, ys = model(jnp.ones((2, 7, 5)))
        >>> ys.shape, state[0].reverse[0].shape
        ((2, 7, 16), (2, 8))
        >>> model.layers[1].forward.w_x[...].shape
        (16, 4, 8)
    """

    _sequences = True

    @takes(ModuleOptions, stacked)
    def __init__(
        self,
        in_features: int,
        hidden_features: int,
        *,
        layers: int = 1,
        bidirectional: bool = False,
        cell: Cell | str = "vanilla",
        projection_size: int | None = None,
        projection_bias: bool = False,
        return_sequences: bool = True,
        init: str = "default",
        bias: str | None = "preset",
        forget_bias: ArrayLike | None = None,
        param_dtype: DTypeLike = jnp.float32,
        deterministic: bool = False,
        rngs: flax_nnx.Rngs,
        **options: Unpack[ModuleOptions],
    ) -> None:
        check_sizes(param_dtype, in_features=in_features, hidden_features=hidden_features)
        params = init_stacked(
            rngs.params(), in_features, hidden_features, layers,
            bidirectional=bidirectional, merge=options["merge"], cell=cell, projection_size=projection_size,
            projection_bias=projection_bias, init=init, bias=bias, forget_bias=forget_bias, dtype=param_dtype,
        )  # fmt: skip
        Held.__init__(self, Stack(params))
        self._configure(options, cell, return_sequences, deterministic, rngs)

    def __call__(
        self,
        xs: ArrayLike,
        state: tuple | None = None,
        *,
        lengths: ArrayLike | None = None,
        mask: ArrayLike | None = None,
        resets: ArrayLike | None = None,
        reset_state: tuple | None = None,
        emit: Emit = "h",
        padding: str = "zero",
        deterministic: bool | None = None,
        rngs: Rngs | None = None,
    ) -> tuple[tuple, PyTree]:
        """Return (state, ys) as `lstmjax.stacked` does: (h, c) of each layer, and the outputs of the last layer.

        Args:
            xs: inputs `[..., T, I]`, or `[T, ..., I]` with time_major.
            state: initial state, in the form in which it is returned; for a single layer also (h, c). None: zeros.
            lengths, mask, resets, reset_state, emit, padding: see `lstmjax.stacked`.
            deterministic: replaces that of the module for this call.
            rngs: replaces those of the module for this call: `nnx.Rngs`, a stream, or a key; with a key the
                call returns exactly what `stacked(..., key=key)` returns.
        """
        return stacked(
            self.to_params(),
            xs,
            state,
            lengths=lengths,
            mask=mask,
            resets=resets,
            reset_state=reset_state,
            emit=emit,
            padding=padding,
            key=self._key(deterministic, rngs),
            **self._options(),
        )

    def to_params(self) -> Layers:
        """Return the parameters that `lstmjax.stacked` takes: a tuple of LSTMParams or Bidirectional pairs."""
        return self.held().layers

    @staticmethod
    def _named(params: Any) -> Stack:
        return Stack(stack_of(params))


class LSTMNetwork(OverTime):
    """LSTM layers and a Dense head over a sequence: `lstmjax.network` as a module.

    It returns logits; the loss decides what they mean: softmax, sigmoid, or plain numbers.

    Args:
        out_features: O, classes or targets.
        return_sequences: return logits of every step; False: of the last valid step.
        dropout: rate of dropout between layers and before the head, in training.
        in_features, hidden_features, layers, bidirectional, merge, cell, projection_size: see `LSTM`.
        projection_bias, residual, wrappers, time_major, init, bias, forget_bias, dtype: see `LSTM`.
        param_dtype, checkpoint, unroll, backend, deterministic, rngs: see `LSTM`.

    Raises:
        ValueError: a size, rate or name is invalid; the message names the argument.

    Example:
        >>> import jax, optax
        >>> from flax import nnx
        >>> model = LSTMNetwork(5, 8, 3, dropout=0.1, rngs=nnx.Rngs(0))
        >>> optimizer = nnx.Optimizer(model, optax.sgd(0.1), wrt=nnx.Param)
        >>> xs, labels = jax.random.normal(jax.random.key(1), (4, 7, 5)), jnp.array([0, 1, 2, 0])
        >>> @nnx.jit
        ... def train_step(model, optimizer):
        ...     def loss(model):
        ...         return optax.losses.softmax_cross_entropy_with_integer_labels(model(xs), labels).mean()
        ...     value, grads = nnx.value_and_grad(loss)(model)
        ...     optimizer.update(model, grads)
        ...     return value
        >>> losses = [train_step(model, optimizer) for _ in range(50)]
        >>> bool(losses[-1] < losses[0])
        True
        >>> model.eval()
        >>> model(xs).shape
        (4, 3)
    """

    _sequences = False

    @takes(ModuleOptions, stacked)
    def __init__(
        self,
        in_features: int,
        hidden_features: int,
        out_features: int,
        *,
        layers: int = 1,
        bidirectional: bool = False,
        cell: Cell | str = "vanilla",
        projection_size: int | None = None,
        projection_bias: bool = False,
        return_sequences: bool = False,
        init: str = "default",
        bias: str | None = "preset",
        forget_bias: ArrayLike | None = None,
        param_dtype: DTypeLike = jnp.float32,
        deterministic: bool = False,
        rngs: flax_nnx.Rngs,
        **options: Unpack[ModuleOptions],
    ) -> None:
        check_sizes(param_dtype, in_features=in_features, hidden_features=hidden_features, out_features=out_features)
        params = init_network(
            rngs.params(), in_features, hidden_features, out_features, layers,
            bidirectional=bidirectional, merge=options["merge"], cell=cell, projection_size=projection_size,
            projection_bias=projection_bias, init=init, bias=bias, forget_bias=forget_bias, dtype=param_dtype,
        )  # fmt: skip
        Held.__init__(self, params)
        self._configure(options, cell, return_sequences, deterministic, rngs)

    def __call__(
        self,
        xs: ArrayLike,
        state: tuple | None = None,
        *,
        lengths: ArrayLike | None = None,
        mask: ArrayLike | None = None,
        resets: ArrayLike | None = None,
        return_state: bool = False,
        deterministic: bool | None = None,
        rngs: Rngs | None = None,
    ) -> Any:
        """Return the logits `[..., O]`, or `[..., T, O]` with return_sequences.

        Args:
            xs, state, lengths, mask, resets, deterministic, rngs: see `LSTM`.
            return_state: return (state, logits), to continue from the state.
        """
        state, logits = network(
            self.to_params(),
            xs,
            state,
            lengths=lengths,
            mask=mask,
            resets=resets,
            key=self._key(deterministic, rngs),
            **self._options(),
        )
        return (state, logits) if return_state else logits

    def to_params(self) -> NetworkParams:
        """Return the parameters that `lstmjax.network` takes."""
        return self.held()

    @staticmethod
    def _named(params: Any) -> NetworkParams:
        return network_of(params)
