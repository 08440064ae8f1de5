"""What a page shows of one network: its options as one thing, and all numbers and words of it as a tree."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from lstmjax.arguments import one_of
from lstmjax.cells import Cell
from lstmjax.keywords import accepted
from lstmjax.networks import NetworkParams
from lstmjax.options import LayerOptions
from lstmjax.report.collect import Settings, with_layer_tuple
from lstmjax.report.inputs import InputOptions, report_inputs
from lstmjax.report.tree import ContentOptions, tree_of
from lstmjax.stack import Layers
from lstmjax.training.losses import LOSSES
from lstmjax.types import Bidirectional, LSTMParams
from lstmjax.wrappers import Wrapper

if TYPE_CHECKING:
    from jax.typing import ArrayLike, DTypeLike


class NetworkOptions(InputOptions, ContentOptions, LayerOptions, total=False):
    """Everything that `report` is told of one network, beside its parameters and xs."""

    loss: str
    """The meaning of the logits: "softmax", "sigmoid" or "linear"."""
    per_step: bool
    """Whether there is a prediction at each step, not only at the last valid step."""
    target_scaling: tuple[Sequence[float], Sequence[float]] | None
    """For numbers: offset `[O]` and scale `[O]` of the targets that the network learned; what it predicts, times scale
    plus offset, is in the units of the labels. None: it learned the labels."""


def settings_of(
    *,
    loss: str = "softmax",
    per_step: bool = False,
    merge: str = "concat",
    residual: bool = False,
    wrappers: tuple[Wrapper, ...] = (),
    cell: Cell | str | None = None,
    dtype: DTypeLike | None = None,
    target_scaling: tuple[Sequence[float], Sequence[float]] | None = None,
) -> Settings:
    """Return how a network is run and trained; arguments as for `report`."""
    one_of("loss", loss, tuple(LOSSES))
    scaling = None
    if target_scaling is not None:
        offset, scale = (tuple(map(float, part)) for part in target_scaling)
        if loss in ("softmax", "sigmoid") or len(offset) != len(scale):
            raise ValueError(_scaling_refused(offset, scale, loss))
        scaling = (offset, scale)
    return Settings(loss, per_step, merge, residual, tuple(wrappers), cell, dtype, scaling)


def _scaling_refused(offset: tuple[float, ...], scale: tuple[float, ...], loss: str) -> str:
    return (
        f"target_scaling has {len(offset)} offsets and {len(scale)} scales for loss {loss!r}, expected those of each "
        "of the O outputs of a regression; leave it out otherwise."
    )


def network_tree(
    params: LSTMParams | Bidirectional | Layers | NetworkParams, xs: ArrayLike, options: NetworkOptions
) -> dict[str, Any]:
    """Return everything that the page shows of one network.

    Args:
        params, xs: as for `report`.
        options: all of them, as `takes` completes them.
    """
    data = report_inputs(xs, **accepted(report_inputs, options))
    settings = settings_of(**accepted(settings_of, options))
    if settings.target_scaling is not None:
        offset, scale = settings.target_scaling
        if not isinstance(params, NetworkParams) or len(offset) != params.head.b.shape[0]:
            raise ValueError(_scaling_refused(offset, scale, settings.loss))
    return tree_of(with_layer_tuple(params), data, settings, **accepted(tree_of, options))
