"""What `LSTM` and `LSTMNetwork` share in NNX: the options of a call, and random keys."""

from __future__ import annotations

from typing import Any, ClassVar, Self, Unpack

from flax import nnx as flax_nnx

from lstmjax import backends, checks
from lstmjax.arguments import check_floating, check_rate, one_of
from lstmjax.cell import cell_step
from lstmjax.cells import Cell
from lstmjax.keywords import takes
from lstmjax.nnx.held import Held, Rngs, holding
from lstmjax.options import ModuleOptions
from lstmjax.published import find_cell
from lstmjax.stack import stacked
from lstmjax.types import Array


class OverTime(Held):
    """Base class of `LSTM` and `LSTMNetwork`: the options of a call, and random keys for dropout and wrappers."""

    _sequences: ClassVar[bool]  # the constructor's default of return_sequences
    dropout: float
    wrappers: tuple

    def _configure(
        self,
        options: ModuleOptions,
        cell: Cell | str,
        return_sequences: bool,
        deterministic: bool,
        rngs: flax_nnx.Rngs | flax_nnx.RngStream | None,
    ) -> None:
        find_cell(cell)
        one_of("merge", options["merge"], ("concat", "sum"))
        check_rate("dropout", options["dropout"])
        checks.check_running(cell_step, options["wrappers"], options["checkpoint"], options["unroll"])
        one_of("backend", options["backend"], ("auto", *backends.BACKENDS))
        if options["dtype"] is not None:
            check_floating("dtype", options["dtype"])
        for name, value in {**options, "wrappers": tuple(options["wrappers"])}.items():
            setattr(self, name, value)
        self.cell = cell
        self.return_sequences = return_sequences
        self.deterministic = deterministic
        self.rngs = flax_nnx.data(_stream(rngs) if self.dropout or self.wrappers else None)

    @staticmethod
    def _named(params: Any) -> Any:
        """Return the parameters as a NamedTuple of the module's attributes; refuse parameters of another kind."""
        raise NotImplementedError

    @classmethod
    @takes(ModuleOptions, stacked)
    def from_params(
        cls,
        params: Any,
        *,
        cell: Cell | str = "vanilla",
        return_sequences: bool | None = None,
        deterministic: bool = False,
        rngs: flax_nnx.Rngs | flax_nnx.RngStream | None = None,
        **options: Unpack[ModuleOptions],
    ) -> Self:
        """Return a module that holds these parameters; nothing is drawn.

        Args:
            params: what `to_params()` returns: a tuple of layers for `LSTM`, `NetworkParams` for
                `LSTMNetwork`. The arrays are not copied, and may be tracers of jit and grad.
            cell: the cell of the parameters.
            return_sequences: None: the default of the constructor.
            merge, residual, dropout, wrappers, time_major, dtype: see the class.
            checkpoint, unroll, backend, deterministic: see the class.
            rngs: `nnx.Rngs` or a stream for dropout and wrappers in training; None: for evaluation.

        Example:
            >>> import jax.numpy as jnp
            >>> from flax import nnx
            >>> from lstmjax.nnx import LSTM
            >>> params = LSTM(5, 8, rngs=nnx.Rngs(0)).to_params()
            >>> state, ys = LSTM.from_params(params, return_sequences=False)(jnp.ones((2, 7, 5)))
            >>> ys.shape
            (2, 8)
        """
        module = holding(cls, cls._named(params))
        sequences = cls._sequences if return_sequences is None else return_sequences
        module._configure(options, cell, sequences, deterministic, rngs)
        return module

    def _options(self) -> dict[str, Any]:
        names = ("cell", "return_sequences", *ModuleOptions.__annotations__)
        return {name: getattr(self, name) for name in names}

    def _key(self, deterministic: bool | None, rngs: Rngs | None) -> Array | None:
        """Return a key for this call; None: evaluation, or nothing is random."""
        off = self.deterministic if deterministic is None else deterministic
        if off or not (self.dropout or self.wrappers):
            return None
        source = self.rngs if rngs is None else rngs
        if source is None:
            raise ValueError(
                "rngs is None, but dropout or wrappers draw while training. Pass rngs=nnx.Rngs(...) to the constructor "
                "or to the call, or say that this is evaluation: model.eval(), or deterministic=True."
            )
        if isinstance(source, flax_nnx.Rngs):
            return source.dropout()
        return source() if isinstance(source, flax_nnx.RngStream) else source

    def set_view(self, deterministic: bool | None = None) -> None:
        """Set the attributes that `nnx.view` changes.

        Args:
            deterministic: True: evaluation, without dropout or random wrappers.
        """
        if deterministic is not None:
            self.deterministic = deterministic


def _stream(rngs: Any) -> flax_nnx.RngStream | None:
    if rngs is None:
        return None
    if isinstance(rngs, flax_nnx.Rngs):
        return rngs.dropout.fork()
    if isinstance(rngs, flax_nnx.RngStream):
        return rngs.fork()
    raise TypeError(
        f"rngs is a {type(rngs).__name__}, expected nnx.Rngs: a module draws at every call. One key serves one call: "
        "pass it there, model(xs, rngs=key)."
    )
