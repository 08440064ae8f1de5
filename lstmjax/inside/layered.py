"""What has an entry for each layer, and for a pair one for each direction: the form of what `trace` gives."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from lstmjax.arguments import kind
from lstmjax.networks import NetworkParams
from lstmjax.types import Bidirectional, LSTMParams


def of_one_layer(params: Any, *trees: Any) -> tuple[Any, ...]:
    """Return params, and what belongs to them in their form, as `stacked` takes them.

    A `Bidirectional` pair alone is a layer: it becomes a tuple of one, and so does what belongs to it, such as a state,
    if it is not such a tuple already. Everything else stays as it is.

    Raises:
        TypeError: params are no parameters.

    >>> of_one_layer(Bidirectional("a", "b"), Bidirectional("state of a", "state of b"), None)[1:]
    ((Bidirectional(forward='state of a', reverse='state of b'),), None)
    """
    if not isinstance(params, tuple | list) or not params:
        what = "empty" if isinstance(params, tuple | list) else kind(params)
        raise TypeError(
            f"params is {what}, expected LSTMParams, a Bidirectional pair, a tuple of these from the bottom up, or "
            "NetworkParams."
        )
    if not isinstance(params, Bidirectional):
        return (params, *trees)
    wrapped = [tree if tree is None or (type(tree) is tuple and len(tree) == 1) else (tree,) for tree in trees]
    return ((params,), *wrapped)


def in_form_of(params: Any, layered: Any) -> Any:
    """Return what there is of each layer in the form of params: of a `Bidirectional` pair alone, the pair's entry."""
    return layered[0] if isinstance(params, Bidirectional) else layered


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
        what = "empty" if type(params) in (tuple, list) else kind(params)
        raise TypeError(
            f"params is {what}, expected LSTMParams, a Bidirectional pair, a tuple of these from the bottom up, or "
            "NetworkParams."
        )
    layers: Any = params if several else ()
    for n, layer in enumerate(layers):
        if not isinstance(layer, LSTMParams | Bidirectional):
            raise TypeError(f"params, layer {n} holds {kind(layer)}, expected LSTMParams or Bidirectional.")
