"""What has an entry for each layer, and for a pair one for each direction: the form of what `trace` gives."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from lstmjax.arguments import counted
from lstmjax.checks import kind
from lstmjax.networks import NetworkParams
from lstmjax.types import Bidirectional, LSTMParams


def each_part(layered: Any) -> Iterator[tuple[int, str, Any]]:
    """Gives (layer, direction, entry) of each entry, in the order in which the directions are run.

    Args:
        layered: a tuple with an entry for each layer from the bottom up, a `Bidirectional` of two for a pair; or the
            entry of one layer alone.

    >>> list(each_part(("a", Bidirectional("b", "c"))))
    [(0, 'forward', 'a'), (1, 'forward', 'b'), (1, 'reverse', 'c')]
    """
    for n, layer in enumerate(layered if type(layered) in (tuple, list) else (layered,)):
        pair = layer if isinstance(layer, Bidirectional) else (layer,)
        yield from ((n, direction, part) for direction, part in zip(Bidirectional._fields, pair, strict=False))


def check_model(params: object) -> None:
    """Refuse what is no parameters of one layer, of several or of a network, by the name params."""
    several = type(params) in (tuple, list) and len(params) > 0  # type: ignore[arg-type]
    if not several and not isinstance(params, LSTMParams | Bidirectional | NetworkParams):
        what = "empty" if type(params) in (tuple, list) else counted(params)
        raise TypeError(f"params is {what}, expected LSTMParams, a tuple of layers or NetworkParams.")
    layers: Any = params if several else ()
    for n, layer in enumerate(layers):
        if not isinstance(layer, LSTMParams | Bidirectional):
            raise TypeError(f"params, layer {n} holds {kind(layer)}, expected LSTMParams or Bidirectional.")
