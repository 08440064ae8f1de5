"""Find the stack of layers in a model: what each node LSTM reads, and what reads its outputs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np

from lstmjax.frameworks.onnx.values import (
    Axis,
    Entry,
    Filled,
    Level,
    Mixed,
    Node,
    Opaque,
    Signal,
    Source,
    Stored,
    Value,
    Wiring,
    Zeros,
    axis_of,
    features,
    level_of,
    size_of,
    sources_of,
)

HEADS = ("head", "readout")
QUANTISED = ("Quantize", "Integer", "QLinear", "QGemm", "QAttention", "QLSTM")
"""Parts of the names of operators that compute with quantised numbers."""


@dataclass(frozen=True)
class Output:
    """An output of the model that a stack of layers has, too."""

    name: str
    kind: str  # "ys", "h" (the last step), "head", "readout" or "state"
    axes: tuple[str, ...]  # the name of each axis: "time", "batch", "features", or "1"
    readout: str | None = None


@dataclass
class Chain:
    """A model as a stack of layers, each given by the places of its nodes; `complaints` say why it is no stack."""

    layers: tuple[tuple[int, ...], ...] = ()
    merge: str = "concat"
    residual: bool = False
    return_sequences: bool | None = None
    directions: tuple[str, ...] = ()  # of each layer; "forward" of a pair
    head: tuple[np.ndarray, np.ndarray | None] | None = None
    readout: str | None = None  # the operator after the head
    xs: str = ""  # the input
    xs_axes: tuple[str, ...] = ()
    lengths: str | None = None  # the input of valid steps
    states: tuple[str, ...] = ()  # inputs that are initial states
    outputs: tuple[Output, ...] = ()
    only_states: str = ""  # in words, if no output of the model is one of the layers or of a head
    complaints: list[str] = field(default_factory=list)


def chain_of(model: Any, wiring: Wiring) -> Chain:
    """Return a model as a stack; its `complaints` name what a stack does not have."""
    chain = Chain()
    below: dict[int, Level | str] = {}
    for n, entry in wiring.entries.items():
        complaint = _entering(wiring, entry, below, n)
        if complaint is not None:
            chain.complaints.append(complaint)
    _states(chain, wiring)
    outputs = _outputs(chain, model, wiring, below)
    if chain.complaints:
        chain.layers = _in_order(wiring)
        return chain
    levels = [level for level in below.values() if isinstance(level, Level)]
    levels += [level for _, level in outputs if level is not None]
    chain.layers = tuple(_layers(chain, wiring, below, levels))
    if chain.complaints:
        chain.layers = _in_order(wiring)
        return chain
    _join(chain, wiring, below, levels, outputs)
    return chain


def _in_order(wiring: Wiring) -> tuple[tuple[int, ...], ...]:
    """Return each node as a layer, in the order of the graph."""
    return tuple((n,) for n in wiring.entries)


OUTPUTS = MappingProxyType({"ys": "Y", "h": "Y_h", "c": "Y_c"})
"""ONNX' names of the outputs of a node LSTM."""


def _origin(wiring: Wiring, value: Value) -> str:
    """Return, in words, what a value comes from."""
    words = dict.fromkeys(_source_words(wiring, source) for source in sources_of([value]))
    return " and ".join(words) or "nothing of the input"


def _source_words(wiring: Wiring, source: Source) -> str:
    if source.kind == "input":
        return f"the input {source.name!r}"
    if source.kind in ("sum", "residual"):
        return _source_words(wiring, source.of[0])
    if source.kind == "readout":
        return f"{source.name} of {_source_words(wiring, source.of[0])}"
    if source.kind == "head":
        return f"the head {source.name!r}"
    at = "" if source.step is None else f"the {source.step} step in time of "
    return f"{at}{OUTPUTS[source.kind]} of {wiring.entries[source.node].node}"


def _between(wiring: Wiring, value: Value, reader: str) -> str:
    """Return, in words, which node comes between a reader and its source."""
    if isinstance(value, Mixed | Opaque):
        if not value.sources:
            return f"{reader} comes from {_cause_words(value.cause)}"
        return f"between {_origin(wiring, value)} and {reader} stands {_cause_words(value.cause)}"
    return f"{reader} takes {_origin(wiring, value)}"


def _cause_words(node: Node) -> str:
    """Return the name of a node that is in the way, and whether it computes with quantised numbers."""
    if any(part in node.op for part in QUANTISED):
        return f"{node}, which computes with quantised numbers"
    return str(node)


def _entering(wiring: Wiring, entry: Entry, below: dict[int, Level | str], n: int) -> str | None:
    """Note in `below` what a node reads; return a complaint if no layer reads that."""
    value, reader = entry.values["X"], f"X of {entry.node}"
    if isinstance(value, Mixed | Opaque):
        return _between(wiring, value, reader)
    if not isinstance(value, Signal):
        return f"{reader} is a constant"
    axes = _time_first(entry, value.axes)
    level = level_of(value.sources)
    if [source.kind for source in value.sources] == ["input"]:
        single = all(len(axis) < 2 for axis in value.axes) and len(value.axes) == 3
        if not single or value.sources[0].step is not None:
            return f"{reader} takes the input {value.sources[0].name!r} with axes that are joined or left out"
        below[n] = value.sources[0].name
    elif level is None or level.kind != "ys":
        return f"{reader} takes {_origin(wiring, value)}, which is not the outputs of all steps of a layer"
    else:
        below[n] = level
        if axes and axes[-1] != features(value.sources):
            return f"{reader} takes {_origin(wiring, value)} with other axes than time, batch and features"
    if axes[:2] != (wiring.time, wiring.batch):
        return f"{reader} takes {_origin(wiring, value)} with time and batch in another order than the layers before"
    return None


def _time_first(entry: Entry, axes: tuple[Axis, ...]) -> tuple[Axis, ...]:
    """Return the axes of X with time first."""
    if entry.node.attributes.get("layout", 0) and len(axes) > 1:
        return (axes[1], axes[0], *axes[2:])
    return axes


def _states(chain: Chain, wiring: Wiring) -> None:
    """Note which inputs of the model are lengths and initial states; complain of other lengths and states."""
    lengths: dict[int, str | None] = {}
    states: dict[str, None] = {}
    for n, entry in wiring.entries.items():
        value = entry.values["sequence_lens"]
        lengths[n] = None
        if isinstance(value, Signal) and [source.kind for source in value.sources] == ["input"]:
            lengths[n] = value.sources[0].name
        elif isinstance(value, Signal | Mixed | Opaque):
            chain.complaints.append(_between(wiring, value, f"sequence_lens of {entry.node}"))
        elif value is not None and not _is_all(value, wiring.time):
            chain.complaints.append(f"{entry.node} has lengths of its own, which layers do not say")
        for name in ("initial_h", "initial_c"):
            value = entry.values[name]
            if value is None or isinstance(value, Zeros):
                continue
            sources = sources_of([value])
            if not isinstance(value, Signal | Mixed | Opaque):
                chain.complaints.append(f"{entry.node} has an initial state, which layers do not say")
            elif isinstance(value, Opaque) or any(source.kind != "input" for source in sources):
                chain.complaints.append(_between(wiring, value, f"{name} of {entry.node}"))
            else:
                states |= dict.fromkeys(source.name for source in sources)
    if len(set(lengths.values())) > 1:
        others = [str(wiring.entries[n].node) for n, name in lengths.items() if name is None]
        chain.complaints.append(f"only some nodes take lengths, and {', '.join(others)} others or none")
    chain.lengths = next((name for name in lengths.values() if name is not None), None)
    chain.states = tuple(states)


def _read_nodes(sources: tuple[Source, ...]) -> set[int]:
    """Return the places of the nodes LSTM that sources come from."""
    result = {source.node for source in sources if source.node >= 0}
    for source in sources:
        result |= _read_nodes(source.of) | _read_nodes(source.plus)
    return result


def _is_all(value: Value, time: Axis | None) -> bool:
    """Return whether these lengths are those of sequences without padding."""
    if time is None:
        return False
    if isinstance(value, Stored):
        return all(int(n) == size_of(time) for n in value.array.reshape(-1))
    return isinstance(value, Filled) and value.size == size_of(time)


def _outputs(
    chain: Chain, model: Any, wiring: Wiring, below: Mapping[int, Level | str]
) -> list[tuple[Output, Level | None]]:
    """Return the outputs of the model that a stack has, with their layers; complain of the others."""
    result: list[tuple[Output, Level | None]] = []
    for info in model.graph.output:
        value, reader = wiring.value(info.name), f"the output {info.name!r}"
        if isinstance(value, Mixed | Opaque):
            chain.complaints.append(_between(wiring, value, reader))
            continue
        if not isinstance(value, Signal):
            chain.complaints.append(f"{reader} is a constant, or a shape")
            continue
        axes = tuple(_axis_words(wiring, value, axis) for axis in value.axes)
        first = value.sources[0]
        kind, level, readout = "state", level_of(value.sources), None
        if len(value.sources) == 1 and first.kind == "head":
            kind, level = "head", level_of(first.of)
        elif len(value.sources) == 1 and first.kind == "readout":
            kind, level, readout = "readout", level_of(first.of[0].of), first.name
        elif level is not None:
            kind = level.kind
        elif any(source.kind not in ("h", "c") for source in value.sources):
            chain.complaints.append(
                f"{reader} takes {_origin(wiring, value)}, and a stack of layers does not give that"
            )
            continue
        if any(n not in below for n in _read_nodes(value.sources)):
            continue  # there is a complaint already, and its axes are unknown
        if kind in HEADS and level is None:
            sources = first.of if kind == "head" else first.of[0].of
            words = " and ".join(dict.fromkeys(_source_words(wiring, source) for source in sources))
            chain.complaints.append(f"{reader} is a head of {words}, and a stack of layers has none there")
            continue
        if kind != "state" and (level is None or not _has_axes(wiring, value, axes, level.kind == "ys")):
            expected = "time, batch and features" if level is not None and level.kind == "ys" else "batch and features"
            chain.complaints.append(f"{reader} has axes ({', '.join(axes)}), expected {expected}")
            continue
        result.append((Output(info.name, kind, axes, readout), level))
    return result


def _has_axes(wiring: Wiring, value: Signal, words: tuple[str, ...], sequences: bool) -> bool:
    """Return whether axes are those of a layer's outputs, in any order, with a separate axis of directions or not."""
    axes = [wiring.batch, wiring.time] if sequences else [wiring.batch]
    joined, separate = [features(value.sources)], [axis_of(atom) for atom in features(value.sources)]
    present = sorted(word for word in words if word != "1")
    return any(present == sorted(_axis_words(wiring, value, a) for a in axes + end if a) for end in (joined, separate))


def _axis_words(wiring: Wiring, value: Signal, axis: Axis) -> str:
    """Return the name of an axis."""
    if not axis:
        return "1"
    known = ((wiring.batch, "batch"), (wiring.time, "time"), (features(value.sources), "features"))
    return next((name for other, name in known if axis == other), "×".join(atom.name for atom in axis))


def _layers(
    chain: Chain, wiring: Wiring, below: Mapping[int, Level | str], levels: list[Level]
) -> Iterator[tuple[int, ...]]:
    """Yield the layers from the bottom up; complain of nodes with the same input, or without a way to the input."""
    layer_of = {n: (n,) for n in wiring.entries} | {n: level.nodes for level in levels for n in level.nodes}
    layers = list(dict.fromkeys(layer_of.values()))
    inputs = sorted({name for name in below.values() if isinstance(name, str)})
    if len(inputs) != 1 or inputs[0] in (chain.lengths, *chain.states):
        chain.complaints.append(f"layers take the inputs {', '.join(inputs)}, and a stack has one")
        return
    layer: tuple[int, ...] | None = None  # None: the input of the model
    count = 0
    while True:
        above = [other for other in layers if any(_nodes(below[n]) == layer for n in other)]
        if len(above) > 1:
            nodes = " and ".join(dict.fromkeys(str(wiring.entries[n].node) for other in above for n in other))
            source = f"the input {inputs[0]!r}" if layer is None else str(wiring.entries[layer[0]].node)
            chain.complaints.append(f"{nodes} stand side by side, and all take {source}")
        if len(above) != 1:
            break
        layer = above[0]
        entering = {(below[n], wiring.entries[n].values["X"]) for n in layer}
        if len(entering) > 1:
            nodes = " and ".join(str(wiring.entries[n].node) for n in layer)
            chain.complaints.append(f"{nodes} take different inputs")
            return
        count += 1
        yield layer
    if not chain.complaints and count < len(layers):
        chain.complaints.append("some nodes LSTM stand on no other, and not on the input")


def _nodes(below: Level | str) -> tuple[int, ...] | None:
    return below.nodes if isinstance(below, Level) else None


def _join(
    chain: Chain,
    wiring: Wiring,
    below: Mapping[int, Level | str],
    levels: list[Level],
    outputs: list[tuple[Output, Level | None]],
) -> None:
    """Note how the layers are joined, and which outputs of the last layer the model has."""
    top = chain.layers[-1]
    for layer in chain.layers:
        reverse = wiring.entries[layer[0]].direction == "reverse"
        chain.directions += ("reverse" if reverse else "forward",)
    mains: list[tuple[Output, Level]] = []  # the outputs of the last layer and of heads, those that come last first
    for kind in ("readout", "head", "ys", "h"):
        for output, level in outputs:
            if output.kind == kind and level is not None and (kind in HEADS or level.nodes == top):
                mains.append((output, level))
    for output, level in outputs:
        if level is not None and output.kind in HEADS and level.nodes != top:
            chain.complaints.append(f"the output {output.name!r} is a head of {wiring.entries[level.nodes[0]].node}")
    if not outputs or not (mains or any(output.kind == "state" for output, _ in outputs)):
        chain.complaints.append("no output of the model comes from its last layer")
    used = [level for level in below.values() if isinstance(level, Level)] + [level for _, level in mains[:1]]
    merges = {level.merge for level in used if level.pair}
    residuals = {level.residual for level in used if level.nodes != chain.layers[0]}
    if len(merges) > 1:
        chain.complaints.append("the directions are side by side in one layer, and added up in another")
    if len(residuals) > 1:
        chain.complaints.append("only some layers have a residual connection around them")
    readouts = {output.readout for output, _ in mains if output.readout is not None}
    if len(readouts) > 1:
        chain.complaints.append(f"the head has several activations: {', '.join(sorted(readouts))}")
    heads = {_head(wiring, output) for output, _ in mains if output.kind in HEADS}
    if len(heads) > 1:
        chain.complaints.append(f"there are {len(heads)} heads: {', '.join(map(repr, sorted(heads)))}")
    chain.merge = next(iter(merges), "concat")
    chain.residual = next(iter(residuals), False)
    if outputs and not mains:
        values = [(output.name, wiring.values[output.name]) for output, _ in outputs]
        states = [f"the output {name!r} is {_origin(wiring, value)}" for name, value in values]
        chain.only_states = f"{', '.join(states)}: states alone, while a stack gives what its last layer puts out"
    if mains:
        chain.return_sequences = mains[0][1].kind == "ys"
    if heads:
        chain.head = wiring.heads[min(heads)]
    chain.readout = min(readouts, default=None)
    value = wiring.entries[chain.layers[0][0]].values["X"]
    assert isinstance(value, Signal)
    chain.xs = value.sources[0].name
    xs = wiring.values[chain.xs]
    assert isinstance(xs, Signal)
    known = {value.axes[2]: "features", wiring.batch: "batch", wiring.time: "time", (): "1"}
    chain.xs_axes = tuple(known[axis] for axis in xs.axes)
    chain.outputs = tuple(dict.fromkeys(output for output, _ in [*mains, *outputs]))


def _head(wiring: Wiring, output: Output) -> str:
    """Return the name of the head that an output comes from."""
    value = wiring.values[output.name]
    assert isinstance(value, Signal)
    source = value.sources[0]
    return source.of[0].name if source.kind == "readout" else source.name
