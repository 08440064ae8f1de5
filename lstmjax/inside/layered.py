"""The form of what `trace` returns: an entry for each layer, and for a pair of directions one for each of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from lstmjax.types import Bidirectional


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
