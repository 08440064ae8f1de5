"""Whether a model is a stack of layers, with a head or without: what feeds each node LSTM, and what reads it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np

from lstmjax.convert.onnx.values import (
    Axis,
    Filled,
    Level,
    Mixed,
    Opaque,
    Signal,
    Size,
    Source,
    Stored,
    Value,
    Zeros,
    axis_of,
    features,
    level_of,
    size_of,
    sources_of,
)
from lstmjax.convert.onnx.wiring import Entry, Wiring, words_of


@dataclass(frozen=True)
class Output:
    """An output of the model that a stack gives, too."""

    name: str
    kind: str  # "ys", "h" (the last step), "head", "readout" or "state"
    axes: tuple[str, ...]  # what each axis is: "time", "batch", "features", or "1"
    readout: str | None = None


@dataclass
class Chain:
    """A model as a stack: its layers from the bottom up, each the numbers of its nodes; and what is in the way."""

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
    complaints: list[str] = field(default_factory=list)


def chain_of(model: Any, wiring: Wiring) -> Chain:
    """Return what a model is as a stack; `complaints` say by name what a stack does not have."""
    chain = Chain()
    below: dict[int, Level | str] = {}
    for n, entry in wiring.entries.items():
        words = _entering(wiring, entry, below, n)
        if words is not None:
            chain.complaints.append(words)
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
    return tuple((n,) for n in wiring.entries)


OUTPUTS = MappingProxyType({"ys": "Y", "h": "Y_h", "c": "Y_c"})
"""What the outputs of a node LSTM are called in ONNX."""


def _origin(wiring: Wiring, value: Value) -> str:
    """Return what a value comes from, in words."""
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
    return f"{at}{OUTPUTS[source.kind]} of {wiring.entries[source.node].step}"


def _between(wiring: Wiring, value: Value, reader: str) -> str:
    """Return what stands between a reader and what it should read, in words."""
    if isinstance(value, Mixed | Opaque):
        if not value.sources:
            return f"{reader} comes from {words_of(value.cause)}"
        return f"between {_origin(wiring, value)} and {reader} stands {words_of(value.cause)}"
    return f"{reader} takes {_origin(wiring, value)}"


def _entering(wiring: Wiring, entry: Entry, below: dict[int, Level | str], n: int) -> str | None:
    """Note what is below a node; return what is wrong with it, in words."""
    value, reader = entry.values["X"], f"X of {entry.step}"
    if not isinstance(value, Signal):
        return f"{reader} is a constant" if not isinstance(value, Mixed | Opaque) else _between(wiring, value, reader)
    ahead = _oriented(entry, value.axes)
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
        if value.axes and ahead[-1:] != (features(value.sources),):
            return f"{reader} takes {_origin(wiring, value)} with other axes than time, batch and features"
    if ahead[:2] != (wiring.time, wiring.batch):
        return f"{reader} takes {_origin(wiring, value)} with time and batch in another order than the layers before"
    return None


def _oriented(entry: Entry, axes: tuple[Axis, ...]) -> tuple[Axis, ...]:
    """Return the axes of X with time first."""
    return (axes[1], axes[0], *axes[2:]) if entry.step.said.get("layout", 0) and len(axes) > 1 else axes


def _states(chain: Chain, wiring: Wiring) -> None:
    """Note which inputs are lengths and initial states, and what else feeds those of a node."""
    lengths: dict[int, str | None] = {}
    states: dict[str, None] = {}
    for n, entry in wiring.entries.items():
        value = entry.values["sequence_lens"]
        lengths[n] = None
        if isinstance(value, Signal) and [source.kind for source in value.sources] == ["input"]:
            lengths[n] = value.sources[0].name
        elif isinstance(value, Signal | Mixed | Opaque):
            chain.complaints.append(_between(wiring, value, f"sequence_lens of {entry.step}"))
        elif value is not None and not _is_all(value, wiring.time):
            chain.complaints.append(f"{entry.step} has lengths of its own, which layers do not say")
        for name in ("initial_h", "initial_c"):
            value = entry.values[name]
            if value is None or isinstance(value, Zeros):
                continue
            sources = sources_of([value])
            if not isinstance(value, Signal | Mixed | Opaque):
                chain.complaints.append(f"{entry.step} has an initial state, which layers do not say")
            elif isinstance(value, Opaque) or any(source.kind != "input" for source in sources):
                chain.complaints.append(_between(wiring, value, f"{name} of {entry.step}"))
            else:
                states |= dict.fromkeys(source.name for source in sources)
    if len(set(lengths.values())) > 1:
        steps = [str(wiring.entries[n].step) for n, name in lengths.items() if name is None]
        chain.complaints.append(f"only some nodes take lengths, and {', '.join(steps)} others or none")
    chain.lengths = next((name for name in lengths.values() if name is not None), None)
    chain.states = tuple(states)


def _read_nodes(sources: tuple[Source, ...]) -> set[int]:
    """Return the nodes LSTM that sources come from."""
    result = {source.node for source in sources if source.node >= 0}
    for source in sources:
        result |= _read_nodes(source.of) | _read_nodes(source.plus)
    return result


def _is_all(value: Value, time: Axis | None) -> bool:
    """Return whether lengths are those of sequences that have all steps."""
    if time is None:
        return False
    if isinstance(value, Stored):
        return all(Size(int(n)) == size_of(time) for n in value.array.reshape(-1))
    return isinstance(value, Filled) and value.size == size_of(time)


def _outputs(
    chain: Chain, model: Any, wiring: Wiring, below: Mapping[int, Level | str]
) -> list[tuple[Output, Level | None]]:
    """Return the outputs of the model that a stack gives, and of which layer each is."""
    result: list[tuple[Output, Level | None]] = []
    for one in model.graph.output:
        value, reader = wiring.value(one.name), f"the output {one.name!r}"
        if not isinstance(value, Signal):
            unclear = isinstance(value, Mixed | Opaque)
            chain.complaints.append(
                _between(wiring, value, reader) if unclear else f"{reader} is a constant, or a shape"
            )
            continue
        axes = tuple(_axis_words(wiring, value, axis) for axis in value.axes)
        first = value.sources[0]
        kind, level, readout = "state", level_of(value.sources), None
        if len(value.sources) == 1 and first.kind in ("head", "readout"):
            kind, readout = first.kind, first.name if first.kind == "readout" else None
            head = first.of[0] if first.kind == "readout" else first
            level = level_of(head.of)
        elif level is not None:
            kind = level.kind
        elif any(source.kind not in ("h", "c") for source in value.sources):
            chain.complaints.append(
                f"{reader} takes {_origin(wiring, value)}, and a stack of layers does not give that"
            )
            continue
        if any(n not in below for n in _read_nodes(value.sources)):
            continue  # it is complained of already, and which axes it has is not known
        if kind != "state" and (level is None or not _has_axes(wiring, value, axes, level.kind == "ys")):
            expected = "time, batch and features" if level is not None and level.kind == "ys" else "batch and features"
            chain.complaints.append(f"{reader} has axes ({', '.join(axes)}), expected {expected}")
            continue
        result.append((Output(one.name, kind, axes, readout), level))
    return result


def _has_axes(wiring: Wiring, value: Signal, words: tuple[str, ...], sequences: bool) -> bool:
    """Return whether axes are those of a layer's outputs, in any order, directions on an axis of their own or not."""
    axes = [wiring.batch, *([wiring.time] if sequences else [])]
    joined, apart = [features(value.sources)], [axis_of(atom) for atom in features(value.sources)]
    present = sorted(word for word in words if word != "1")
    return any(present == sorted(_axis_words(wiring, value, a) for a in axes + end if a) for end in (joined, apart))


def _axis_words(wiring: Wiring, value: Signal, axis: Axis) -> str:
    known = {(): "1", features(value.sources): "features"}
    known |= {wiring.time or (): "time", wiring.batch or (): "batch", (): "1"}
    return known.get(axis, "×".join(atom.name for atom in axis))


def _layers(
    chain: Chain, wiring: Wiring, below: Mapping[int, Level | str], levels: list[Level]
) -> Iterator[tuple[int, ...]]:
    """Yield the layers from the bottom up; complain of nodes that stand side by side, or on nothing."""
    layer_of = {n: (n,) for n in wiring.entries} | {n: level.nodes for level in levels for n in level.nodes}
    layers = list(dict.fromkeys(layer_of.values()))
    inputs = sorted({name for name in below.values() if isinstance(name, str)})
    if len(inputs) != 1 or inputs[0] in (chain.lengths, *chain.states):
        chain.complaints.append(f"layers take the inputs {', '.join(inputs)}, and a stack has one")
        return
    at: tuple[int, ...] | None = None
    count = 0
    while True:
        above = [layer for layer in layers if any(_nodes(below[n]) == at for n in layer)]
        if len(above) > 1:
            nodes = " and ".join(dict.fromkeys(str(wiring.entries[n].step) for layer in above for n in layer))
            what = f"the input {inputs[0]!r}" if at is None else str(wiring.entries[at[0]].step)
            chain.complaints.append(f"{nodes} stand side by side, and all take {what}")
        if len(above) != 1:
            break
        (at,) = above
        entering = {(below[n], wiring.entries[n].values["X"]) for n in at}
        if len(entering) > 1:
            chain.complaints.append(f"{' and '.join(str(wiring.entries[n].step) for n in at)} take different inputs")
            return
        count += 1
        yield at
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
    """Note how the layers are joined, and what the model gives of the last one."""
    top = chain.layers[-1]
    ways = [wiring.entries[layer[0]].direction for layer in chain.layers]
    chain.directions = tuple("reverse" if way == "reverse" else "forward" for way in ways)
    mains = [(one, level) for one, level in outputs if one.kind == "readout" and level is not None]
    mains += [(one, level) for one, level in outputs if one.kind == "head" and level is not None]
    mains += [(one, level) for one, level in outputs if one.kind == "ys" and level is not None and level.nodes == top]
    mains += [(one, level) for one, level in outputs if one.kind == "h" and level is not None and level.nodes == top]
    for one, level in outputs:
        if level is not None and one.kind in ("head", "readout") and level.nodes != top:
            chain.complaints.append(f"the output {one.name!r} is a head of {wiring.entries[level.nodes[0]].step}")
    if not outputs or not (mains or any(one.kind == "state" for one, _ in outputs)):
        chain.complaints.append("no output of the model comes from its last layer")
    used = [level for level in below.values() if isinstance(level, Level)] + [level for _, level in mains[:1]]
    merges = {level.merge for level in used if level.pair}
    residuals = {level.residual for level in used if level.nodes != chain.layers[0]}
    if len(merges) > 1:
        chain.complaints.append("the directions are side by side in one layer, and added up in another")
    if len(residuals) > 1:
        chain.complaints.append("only some layers have a residual connection around them")
    readouts = {one.readout for one, _ in mains if one.readout is not None}
    if len(readouts) > 1:
        chain.complaints.append(f"the head has several activations: {', '.join(sorted(readouts))}")
    heads = {head for one, _ in mains if one.kind in ("head", "readout") for head in [_head(wiring, one)]}
    if len(heads) > 1:
        chain.complaints.append(f"there are {len(heads)} heads: {', '.join(map(repr, sorted(heads)))}")
    chain.merge = next(iter(merges), "concat")
    chain.residual = next(iter(residuals), False)
    if mains:
        chain.return_sequences = mains[0][1].kind == "ys"
    if heads:
        chain.head = wiring.heads[min(heads)]
    chain.readout = min(readouts, default=None)
    value = wiring.entries[chain.layers[0][0]].values["X"]
    assert isinstance(value, Signal)
    chain.xs = value.sources[0].name
    given = wiring.values[chain.xs]
    assert isinstance(given, Signal)
    third = _oriented(wiring.entries[chain.layers[0][0]], value.axes)[2]
    known = {third: "features", wiring.batch: "batch", wiring.time: "time", (): "1"}
    chain.xs_axes = tuple(known[axis] for axis in given.axes)
    chain.outputs = tuple(dict.fromkeys(one for one, _ in [*mains, *outputs]))


def _head(wiring: Wiring, output: Output) -> str:
    value = wiring.values[output.name]
    assert isinstance(value, Signal)
    source = value.sources[0]
    return source.of[0].name if source.kind == "readout" else source.name
