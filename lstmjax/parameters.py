"""The kinds of parameters: of one layer, of a pair of directions, of several layers, of a network with a head."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from lstmjax.arguments import kind
from lstmjax.checks import remedy
from lstmjax.layer import lstm
from lstmjax.networks import Dense, NetworkParams, network
from lstmjax.stack import Layers, directions, stacked
from lstmjax.types import Bidirectional, LSTMParams


class Parameters(NamedTuple):
    """Parameters of any kind, as layers from the bottom up and a head."""

    layers: Layers
    head: Dense | None
    run: Callable  # the function that runs them: `lstm`, `stacked` or `network`
    alone: bool  # one layer or one pair without a tuple around it

    def in_layers(self, tree: Any) -> Any:
        """Return a tree that is built as the parameters are, such as a state, with an entry for each layer."""
        if not self.alone or tree is None or (type(tree) is tuple and len(tree) == 1):
            return tree
        return (tree,)

    def result(self, entries: Sequence[Any]) -> Any:
        """Return entries for each direction, in the order in which they are run, in the form of the parameters.

        Returns:
            A tuple with an entry for each layer, a `Bidirectional` of two for a pair; of what stands alone its entry.

        >>> pair_and_layer = parameters_of((Bidirectional(LSTMParams(1, 2), LSTMParams(3, 4)), LSTMParams(5, 6)))
        >>> pair_and_layer.result(("a", "b", "c"))
        (Bidirectional(forward='a', reverse='b'), 'c')
        """
        remaining = iter(entries)
        layered = tuple(
            Bidirectional(next(remaining), next(remaining)) if isinstance(layer, Bidirectional) else next(remaining)
            for layer in self.layers
        )
        return layered[0] if self.alone else layered


def parameters_of(params: Any) -> Parameters:
    """Return parameters of any kind as layers and a head: the one place that tells the kinds apart.

    Args:
        params: `LSTMParams`, a `Bidirectional` pair, a tuple of these from the bottom up, or `NetworkParams`. Whether
            the layers fit each other is not checked, and they may be an ensemble; see `stack.as_layers`.

    Raises:
        TypeError: params are of no such kind.
    """
    if isinstance(params, LSTMParams):
        return Parameters((params,), None, lstm, True)
    if isinstance(params, Bidirectional):
        return Parameters((params,), None, stacked, True)
    if isinstance(params, NetworkParams):
        return Parameters(params.layers, params.head, network, False)
    several = type(params) in (tuple, list)
    if not several or not params:
        raise TypeError(
            f"params is {'empty' if several else kind(params)}, expected LSTMParams, a Bidirectional pair, a tuple of "
            f"these from the bottom up, or NetworkParams.{remedy(params)}"
        )
    for n, layer in enumerate(params):
        for part in directions(layer):
            if not isinstance(part, LSTMParams):
                raise TypeError(f"params, layer {n} holds {kind(part)}, expected LSTMParams or Bidirectional.")
    return Parameters(tuple(params), None, stacked, False)


def are_parameters(params: Any) -> bool:
    """Return whether `parameters_of` knows the kind of params."""
    try:
        parameters_of(params)
    except TypeError:
        return False
    return True


def stack_of(params: Any) -> Layers:
    """Return params as the layers of a module without a head, or refuse them."""
    if type(params) not in (tuple, list):
        raise TypeError(
            f"params is {kind(params)}, expected a tuple of LSTMParams or Bidirectional pairs, from the bottom up. "
            "For one layer: (params,)."
        )
    return tuple(params)


def network_of(params: Any) -> NetworkParams:
    """Return params as those of a module with a head, or refuse them."""
    if not isinstance(params, NetworkParams):
        raise TypeError(
            f"params is {kind(params)}, expected NetworkParams(layers, Dense(w, b)). For layers without a head: "
            "LSTM.from_params."
        )
    return params
