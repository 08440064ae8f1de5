"""Why two sides differ: a table of likely causes, each a change of our side that would compute as theirs does.

A cause is proven by running it: if the changed side gives their numbers, it is what they do.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import permutations

import jax

from lstmjax.cells import identity
from lstmjax.frameworks import LAYOUTS
from lstmjax.published import hard_sigmoid_fifth, hard_sigmoid_sixth
from lstmjax.replica import changes
from lstmjax.replica.changes import OfParams, OfSide
from lstmjax.replica.sides import Side
from lstmjax.stack import directions
from lstmjax.types import GATES, Bidirectional, LSTMParams


@dataclass(frozen=True)
class Cause:
    """One row: its name, a sentence on what theirs does, and the change that makes our side do the same.

    A change of the parameters is tried on all layers, then on each layer, then on each direction of a pair.
    A change of the side applies to it as a whole.
    """

    name: str
    sentence: str
    params: OfParams | None = None
    side: OfSide | None = None

    def changed(self, side: Side) -> Iterator[tuple[str, Side]]:
        """Yield the sides that this cause can make of ours, each with words for where it sits."""
        if self.side is not None:
            changed = self.side(side)
            if changed is not None:
                yield "", changed
            return
        for where, chosen in locations(side):
            changed = self._in(side, chosen)
            if changed is not None:
                yield where, changed

    def _in(self, side: Side, chosen: LayerDirections) -> Side | None:
        assert self.params is not None
        layers: list[LSTMParams | Bidirectional] = []
        for n, layer in enumerate(side.layers):
            parts = []
            for d, part in enumerate(directions(layer)):
                changed = self.params(part, side.cell) if (n, d) in chosen else part
                if changed is None:
                    return None
                parts.append(changed)
            layers.append(Bidirectional(*parts) if len(parts) == 2 else parts[0])
        return replace(side, layers=tuple(layers))


LayerDirections = frozenset[tuple[int, int]]
"""Pairs of a layer and a direction that have a fault, counted from 0."""


def locations(side: Side) -> Iterator[tuple[str, LayerDirections]]:
    """Yield where a fault of the parameters can sit, in words and in numbers, the most likely first."""
    every = [(n, d) for n, layer in enumerate(side.layers) for d in range(len(directions(layer)))]
    yield "", frozenset(every)
    several = len(side.layers) > 1
    for n, layer in enumerate(side.layers):
        if several:
            yield f"layer {n} only", frozenset(at for at in every if at[0] == n)
        if isinstance(layer, Bidirectional):
            for d, direction in enumerate(layer._fields):
                of = f" of layer {n}" if several else ""
                yield f"the {direction} direction{of} only", frozenset({(n, d)})


def _orders() -> Iterator[Cause]:
    """Yield a row for each other order of the gates, those of frameworks first."""
    users: dict[str, list[str]] = {}
    for layout in LAYOUTS.values():
        users.setdefault(layout.order, []).append(layout.name)
    orders = ["".join(permutation) for permutation in permutations(GATES)]
    orders.sort(key=lambda order: order not in users)
    for order in orders:
        if order == "".join(GATES):
            continue
        whose = f", that of {' and '.join(users[order])}" if order in users else ""
        sentence = f"theirs takes the gate blocks to be in the order {', '.join(order)}{whose}; they are in i, f, g, o"
        yield Cause("gate order", sentence, partial(changes.gates_reordered, order=order))


def _hard(name: str, divisor: str, sigma: changes.Activation) -> Cause:
    sentence = f"theirs has the hard sigmoid max(0, min(1, z/{divisor} + 1/2)), that of {name}, in the place of σ"
    return Cause("activation", sentence, side=partial(changes.activated, sigma=sigma))


def _side(name: str, sentence: str, change: OfSide) -> Cause:
    return Cause(name, sentence, side=change)


CAUSES = (
    Cause(
        "forget bias added twice",
        "theirs adds 1 to the bias of the forget gate, which has it already (a 1 added at run time is folded into b)",
        partial(changes.forget_bias_shifted, by=1.0),
    ),
    Cause(
        "forget bias missing",
        "theirs has 1 less in the bias of the forget gate: a 1 that is added at run time is missing there",
        partial(changes.forget_bias_shifted, by=-1.0),
    ),
    Cause("two biases", "theirs leaves b_h out, the second bias", partial(changes.biases_scaled, first=1, second=0)),
    Cause("two biases", "theirs leaves b out, the first bias", partial(changes.biases_scaled, first=0, second=1)),
    Cause("two biases", "theirs counts every bias twice", partial(changes.biases_scaled, first=2, second=2)),
    Cause("no bias", "theirs has no bias", partial(changes.biases_scaled, first=0, second=0)),
    *_orders(),
    Cause("transposed weights", "theirs has w_h transposed, gate by gate", partial(changes.transposed, field="w_h")),
    Cause("transposed weights", "theirs has w_x transposed, gate by gate", partial(changes.transposed, field="w_x")),
    Cause("weights exchanged", "theirs has w_x in the place of w_h, and w_h in that of w_x", changes.weights_exchanged),
    Cause("peepholes", "theirs has no peepholes", changes.without_peepholes),
    _side("reversed order", "theirs runs backwards", changes.run_backwards),
    _side(
        "reversed order",
        "theirs runs on xs in reverse order and leaves its outputs so, as Keras does with go_backwards=True",
        changes.inputs_reversed,
    ),
    _side(
        "reversed order",
        "every layer of theirs leaves its outputs in the reverse of the order in which it was fed",
        changes.every_layer_reversed,
    ),
    _side("reversed order", "theirs gives its outputs in reverse order", changes.outputs_reversed),
    _side(
        "reversed order",
        "theirs leaves the outputs of the reverse direction in the order it ran",
        changes.reverse_half_turned,
    ),
    _side(
        "directions", "theirs has the weights of the two directions in each other's place", changes.directions_swapped
    ),
    _side("directions", "theirs gives the outputs of the reverse direction first", changes.halves_swapped),
    _side(
        "time axis",
        "theirs takes the first axis of xs for time, ours the second; in PyTorch that is batch_first",
        changes.along_the_batch,
    ),
    _side("lengths", "theirs runs over the padding, too: it was not given the lengths", changes.without_lengths),
    _side("initial state", "theirs has h and c in each other's place", changes.state_swapped),
    _side("initial state", "theirs begins with zeros", changes.without_state),
    _hard("Keras 2 and ONNX", "5", hard_sigmoid_fifth),
    _hard("Keras 3", "6", hard_sigmoid_sixth),
    _side(
        "activation",
        "theirs has relu in the place of both tanh",
        partial(changes.activated, g=jax.nn.relu, squash=jax.nn.relu),
    ),
    _side("activation", "theirs has relu for the candidate", partial(changes.activated, g=jax.nn.relu)),
    _side("activation", "theirs has no tanh around c", partial(changes.activated, squash=identity)),
    _side("activation", "theirs has no tanh for the candidate", partial(changes.activated, g=identity)),
    *(
        _side(
            "activation",
            f"theirs has {name} behind the head, which stands in the settings of a model, not in its weights",
            partial(changes.head_activated, activation=activation),
        )
        for name, activation in (
            ("relu", jax.nn.relu),
            ("softplus", jax.nn.softplus),
            ("σ", jax.nn.sigmoid),
            ("tanh", jax.numpy.tanh),
            ("softmax", jax.nn.softmax),
        )
    ),
    *(
        _side("epsilon", f"theirs has ε = {e:g} in its layer normalisation", partial(changes.other_epsilon, epsilon=e))
        for e in (1e-3, 1e-5, 1e-6)
    ),
    _side("layer normalisation", "theirs carries c on where ours carries LN(c), or the reverse", changes.other_norm),
    _side("peepholes", "the output gate of theirs sees the old c, not the new one", changes.peephole_on_old_c),
    *(
        _side(
            "rounding",
            f"theirs rounds what it multiplies to {bits}",
            partial(changes.products_rounded, exponent=exponent, mantissa=mantissa),
        )
        for bits, exponent, mantissa in (
            ("11 bits, as TF32 and float16 have them", 8, 10),
            ("bfloat16", 8, 7),
            ("float16, and small numbers to 0", 5, 10),
        )
    ),
)
"""All rows, cheap and likely ones first."""
