"""StableHLO: a function of sequences as a file that any XLA runtime takes, through `jax.export`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
from jax import export

from lstmjax.frameworks.base.guard import draft, optional
from lstmjax.frameworks.base.layouts import ConvertError

if TYPE_CHECKING:
    from jax.typing import DTypeLike

    from lstmjax.types import PyTree

PLATFORMS = ("cpu", "cuda", "tpu")


def to_stablehlo(
    function: Callable[..., Any],
    input_size: int | None,
    path: str | Path | None = None,
    *,
    lengths: bool = False,
    time_major: bool = False,
    dtype: DTypeLike = jnp.float32,
    platforms: Sequence[str] = PLATFORMS,
    state: PyTree | None = None,
) -> export.Exported:
    """Return the StableHLO of a function of sequences, for any batch and any number of steps from 1 on.

    What the function closes over, such as parameters, becomes constants of it. The file is read by
    `jax.export.deserialize(Path(path).read_bytes())`, whose `call` runs it.

    Args:
        function: `function(xs)`, `function(xs, lengths)`, or either of them with a state as the last argument; its
            outputs may be any pytree.
        input_size: I, features of one step; None: xs are tokens, int32 `[batch, time]`.
        path: the file; an older one is replaced once the new one is complete.
        lengths: hand the function valid steps `[batch]`, int32, as well.
        time_major: xs is `[time, batch, I]` instead of `[batch, time, I]`.
        dtype: of xs.
        platforms: what it is compiled for where it runs.
        state: shapes and dtypes of the state of one sequence, a pytree; the function gets that of the batch, each
            `[batch, ...]`. None: it takes none.

    Returns:
        `jax.export.Exported`; `mlir_module()` is its text.

    Raises:
        ConvertError: the function asks for the number of sequences or steps, which are symbols here; or there is no
            folder for the file.

    Example:
        >>> from lstmjax import init_params, lstm
        >>> params = init_params(jax.random.key(0), 5, 8)
        >>> exported = to_stablehlo(lambda xs: lstm(params, xs)[1], 5)
        >>> exported.call(jnp.ones((2, 7, 5))).shape, str(exported.out_avals[0].shape)
        ((2, 7, 8), '(batch, time, 8)')
    """
    axes = export.symbolic_shape("time, batch" if time_major else "batch, time")
    batch = axes[1 if time_major else 0]
    xs = (
        jax.ShapeDtypeStruct(axes, jnp.int32)
        if input_size is None
        else jax.ShapeDtypeStruct((*axes, input_size), dtype)
    )
    arguments: list[Any] = [xs]
    if lengths:
        arguments.append(jax.ShapeDtypeStruct((batch,), jnp.int32))
    if state is not None:
        arguments.append(jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((batch, *leaf.shape), leaf.dtype), state))
    try:
        exported = export.export(jax.jit(function), platforms=tuple(platforms))(*arguments)
    except (TypeError, jax.errors.ConcretizationTypeError, jax.errors.InconclusiveDimensionOperation) as error:
        raise ConvertError(
            "the function cannot be exported for any number of sequences and steps, as checkpoint= cannot, for one: "
            f"{str(error).splitlines()[0]}"
        ) from error
    if path is not None:
        optional("flatbuffers")
        with draft(Path(path)) as place:
            place.write_bytes(exported.serialize())
    return exported
