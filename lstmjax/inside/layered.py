"""The form of what `trace` returns: an entry for each layer, and for a pair of directions one for each of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from lstmjax.arguments import kind
from lstmjax.networks import NetworkParams
from lstmjax.types import Bidirectional, LSTMParams


def of_one_layer(params: Any, *trees: Any) -> tuple[Any, ...]:
    """Return params and trees built as they are, such as states, in the form that `stacked` takes.

    A `Bidirectional` pair alone is one layer: it becomes a tuple of one entry, and so do the trees that are no such
    tuple already. All else is returned as it is.

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
    layered = [tree if tree is None or (type(tree) is tuple and len(tree) == 1) else (tree,) for tree in trees]
    return ((params,), *layered)


def in_form_of(params: Any, layered: Any) -> Any:
    """Undo `of_one_layer` for a result: return the only entry if params are a `Bidirectional` pair alone."""
    return layered[0] if isinstance(params, Bidirectional) else layered


def layers_of(params: Any) -> Any:
    """Return the layers of a network, a stack or one layer as a tuple."""
    if isinstance(params, LSTMParams):
        return (params,)
    return params.layers if isinstance(params, NetworkParams) else params


def in_layers(layers: Sequence[LSTMParams | Bidirectional], entries: Sequence[Any]) -> tuple[Any, ...]:
    """Return entries for each direction, in the order in which they are run, as a tuple with one for each layer.

    >>> in_layers((Bidirectional("up", "down"), "top"), ("a", "b", "c"))
    (Bidirectional(forward='a', reverse='b'), 'c')
    """
    remaining = iter(entries)
    return tuple(
        Bidirectional(next(remaining), next(remaining)) if isinstance(layer, Bidirectional) else next(remaining)
        for layer in layers
    )


def each_part(layered: Any) -> Iterator[tuple[int, str, Any]]:
    """Yield (layer, direction, entry) for each entry, in the order in which the directions are run.

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
    """Refuse params that are not those of a layer, of several layers or of a network."""
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
