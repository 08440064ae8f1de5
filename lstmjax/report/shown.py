"""What a page shows of one network: its options as one thing, and all numbers and words of it as a tree."""

from __future__ import annotations

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


def settings_of(
    *,
    loss: str = "softmax",
    per_step: bool = False,
    merge: str = "concat",
    residual: bool = False,
    wrappers: tuple[Wrapper, ...] = (),
    cell: Cell | str | None = None,
    dtype: DTypeLike | None = None,
) -> Settings:
    """Return how a network is run and trained; arguments as for `report`."""
    one_of("loss", loss, tuple(LOSSES))
    return Settings(loss, per_step, merge, residual, tuple(wrappers), cell, dtype)


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
    return tree_of(with_layer_tuple(params), data, settings, **accepted(tree_of, options))
