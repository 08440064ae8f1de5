"""`LSTM` and `LSTMNetwork`: layers over time as Flax linen modules."""

from __future__ import annotations

from dataclasses import KW_ONLY
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
from flax import linen as nn

from lstmjax.cell import Emit
from lstmjax.cells import Cell
from lstmjax.init_stack import init_network, init_stacked
from lstmjax.linen.held import held
from lstmjax.networks import NetworkParams, network
from lstmjax.options import ModuleFields, ModuleOptions
from lstmjax.parameters import network_of, stack_of
from lstmjax.stack import Layers, stacked
from lstmjax.types import Array, PyTree

if TYPE_CHECKING:
    from jax.typing import ArrayLike


class _OverTime(nn.Module, ModuleFields):
    """Base class of `LSTM` and `LSTMNetwork`: initial parameters, the options of the function, and random keys."""

    _: KW_ONLY
    cell: Cell | str = "vanilla"
    projection_size: int | None = None
    projection_bias: bool = False
    preset: str = "default"
    bias: str | None = "preset"
    forget_bias: ArrayLike | None = None
    param_dtype: Any = jnp.float32
    layers: int = 1
    bidirectional: bool = False
    deterministic: bool | None = None

    def _held(self, name: str, inputs: Any, draw: Any, *sizes: int) -> Any:
        """Return the parameters held under `name`; at init, those that `draw` returns for these inputs."""

        def initial(key: Array, size: int) -> Any:
            return draw(
                key, size, *sizes, self.layers, bidirectional=self.bidirectional, merge=self.merge, cell=self.cell,
                projection_size=self.projection_size, projection_bias=self.projection_bias, init=self.preset,
                bias=self.bias, forget_bias=self.forget_bias, dtype=self.param_dtype,
            )  # fmt: skip

        return held(self, name, inputs, initial)

    def _options(self, deterministic: bool | None) -> dict[str, Any]:
        """Return the keyword arguments of the function; the key is None for evaluation, or if nothing is random."""
        options = {name: getattr(self, name) for name in ("cell", *ModuleOptions.__annotations__)}
        is_random = bool(self.dropout or self.wrappers)
        evaluation = not is_random or nn.merge_param("deterministic", self.deterministic, deterministic)
        return options | {"key": None if evaluation else self.make_rng("dropout")}


class LSTM(_OverTime):
    """LSTM layers over a sequence: `lstmjax.stacked` as a module.

    Attributes:
        features: H, units of each layer.
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
        preset, bias, forget_bias: initial values: `init`, `bias`, `forget_bias` of `lstmjax.init_params`.
        dtype: of the computation; None: that of the parameters. In bfloat16 and float16 c stays float32.
        param_dtype: of the stored parameters.
        checkpoint, unroll, backend: see `lstmjax.lstm`.
        deterministic: True: evaluation, without dropout or random wrappers. If there are any, it must be
            set here or at the call, as for `nn.Dropout`; they draw from the stream "dropout".

    Raises:
        ValueError: a size, rate or name is invalid, at `init` or `apply`; the message names it.

    Example:
        >>> import jax
        >>> model = LSTM(8, layers=2, bidirectional=True)
        >>> xs = jnp.ones((2, 7, 5))
        >>> variables = model.init(jax.random.key(0), xs)
        >>> state, ys = model.apply(variables, xs)
        >>> ys.shape, state[0].reverse[0].shape
        ((2, 7, 16), (2, 8))
        >>> variables["params"]["layers"][1].forward.w_x.shape
        (16, 4, 8)
    """

    features: int
    _: KW_ONLY
    return_sequences: bool = True

    @nn.compact
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
    ) -> tuple[tuple, PyTree]:
        """Return (state, ys) as `lstmjax.stacked` does: (h, c) of each layer, and the outputs of the last layer.

        Args:
            xs: inputs `[..., T, I]`, or `[T, ..., I]` with time_major.
            state: initial state, in the form in which it is returned; for a single layer also (h, c). None: zeros.
            lengths, mask, resets, reset_state, emit, padding: see `lstmjax.stacked`.
            deterministic: True: evaluation, without dropout or random wrappers.
        """
        params = self._held("layers", xs, init_stacked, self.features)
        return stacked(
            params,
            xs,
            state,
            lengths=lengths,
            mask=mask,
            resets=resets,
            reset_state=reset_state,
            return_sequences=self.return_sequences,
            emit=emit,
            padding=padding,
            **self._options(deterministic),
        )

    @staticmethod
    def to_params(variables: Any) -> Layers:
        """Return the parameters that `lstmjax.stacked` takes: a tuple of LSTMParams or Bidirectional pairs."""
        return variables["params"]["layers"]

    @staticmethod
    def from_params(params: Layers) -> dict[str, Any]:
        """Return the variables for `apply`; the module's sizes must be those of the parameters."""
        return {"params": {"layers": stack_of(params)}}


class LSTMNetwork(_OverTime):
    """LSTM layers and a Dense head over a sequence: `lstmjax.network` as a module.

    It returns logits; the loss decides what they mean: softmax, sigmoid, or plain numbers.

    Attributes:
        hidden_features: H, units of each layer.
        out_features: O, classes or targets.
        return_sequences: return logits of every step; False: of the last valid step.
        dropout: rate of dropout between layers and before the head, in training.
        layers, bidirectional, merge, cell, projection_size, projection_bias, residual: see `LSTM`.
        wrappers, time_major, preset, bias, forget_bias, dtype, param_dtype: see `LSTM`.
        checkpoint, unroll, backend, deterministic: see `LSTM`.

    Raises:
        ValueError: a size, rate or name is invalid, at `init` or `apply`; the message names it.

    Example:
        >>> import jax, optax
        >>> model = LSTMNetwork(8, 3, dropout=0.1)
        >>> xs, labels = jax.random.normal(jax.random.key(1), (4, 7, 5)), jnp.array([0, 1, 2, 0])
        >>> variables = model.init(jax.random.key(0), xs, deterministic=True)
        >>> def loss(variables, key):
        ...     logits = model.apply(variables, xs, deterministic=False, rngs={"dropout": key})
        ...     return optax.losses.softmax_cross_entropy_with_integer_labels(logits, labels).mean()
        >>> @jax.jit
        ... def train_step(variables, key):
        ...     value, grads = jax.value_and_grad(loss)(variables, key)
        ...     return jax.tree.map(lambda p, g: p - 0.1 * g, variables, grads), value
        >>> losses = []
        >>> for key in jax.random.split(jax.random.key(2), 50):
        ...     variables, value = train_step(variables, key)
        ...     losses.append(value)
        >>> bool(losses[-1] < losses[0])
        True
        >>> model.apply(variables, xs, deterministic=True).shape
        (4, 3)
    """

    hidden_features: int
    out_features: int
    _: KW_ONLY
    return_sequences: bool = False

    @nn.compact
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
    ) -> Any:
        """Return the logits `[..., O]`, or `[..., T, O]` with return_sequences.

        Args:
            xs, state, lengths, mask, resets, deterministic: see `LSTM`.
            return_state: return (state, logits), to continue from the state.
        """
        params = self._held("network", xs, init_network, self.hidden_features, self.out_features)
        state, logits = network(
            params,
            xs,
            state,
            lengths=lengths,
            mask=mask,
            resets=resets,
            return_sequences=self.return_sequences,
            **self._options(deterministic),
        )
        return (state, logits) if return_state else logits

    @staticmethod
    def to_params(variables: Any) -> NetworkParams:
        """Return the parameters that `lstmjax.network` takes."""
        return variables["params"]["network"]

    @staticmethod
    def from_params(params: NetworkParams) -> dict[str, Any]:
        """Return the variables for `apply`; the module's sizes must be those of the parameters."""
        return {"params": {"network": network_of(params)}}
