"""The order in which a Keras model calls its layers, and where they are no chain."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

MODELS = ("Sequential", "Functional", "Model")
MASKS = ("NotEqual", "Any")
"""The operations that Keras adds to the description of a functional model with a layer Masking."""

RECURRENT = ("sequence", "initial_state", "mask", "training")
"""The arguments of a recurrent layer in the order of `call`; Keras takes nothing but tensors by position."""
RECURRENT_LAYERS = ("LSTM", "CuDNNLSTM", "RNN", "Bidirectional")


def get(tree: Any, name: str, kind: type = dict) -> Any:
    """Return an entry of a tree, or an empty value if it is not of this kind: the file may hold anything."""
    value = tree.get(name) if isinstance(tree, dict) else None
    return value if isinstance(value, kind) else kind()


def name_of(layer: Any) -> str:
    """Return the name of a layer, or its class if it has no name."""
    return get(get(layer, "config"), "name", str) or get(layer, "class_name", str)


def layers_of(model: Any) -> list[Any] | None:
    """Return the layers of a model in the order of its list, or None if this is no model."""
    config = model.get("config") if isinstance(model, dict) else None
    if isinstance(config, list):  # Sequential before Keras 2.2.3
        return config
    layers = config.get("layers") if isinstance(config, dict) else None
    return layers if isinstance(layers, list) else None


def in_call_order(model: Any) -> tuple[list[int], list[str]]:
    """Return the numbers of the layers of a model in the order in which they are called, and where it is no chain."""
    layers = layers_of(model) or []
    listed = list(range(len(layers)))
    if not any(get(layer, "inbound_nodes", list) for layer in layers):
        several = len(layers) > 1 and get(model, "class_name", str) in ("Functional", "Model")
        return listed, ["no layer reads another one"] if several else []
    masks, faults = _masks(layers)
    source: dict[int, str] = {}
    readers: dict[str, list[int]] = {}
    for n, layer in enumerate(layers):
        if get(layer, "class_name", str) in MASKS:
            continue
        name, inputs = name_of(layer), _inputs(layer)
        if len(inputs) > 1:
            faults.append(f"{name} reads {', '.join(inputs)}")
        for node in get(layer, "inbound_nodes", list):
            arguments = RECURRENT if get(layer, "class_name", str) in RECURRENT_LAYERS else ()
            faults += _call_faults(node, name, masks, arguments)
        for other in inputs:
            source[n] = other
            readers.setdefault(other, []).append(n)
    for name, numbers in readers.items():
        if len(numbers) > 1:
            faults.append(f"{name} is read by {', '.join(name_of(layers[n]) for n in numbers)}")
    names = {name_of(layer): n for n, layer in enumerate(layers) if get(layer, "class_name", str) not in MASKS}
    starts = [n for n in names.values() if source.get(n) not in names]
    order = starts[:1]
    while order and len(order) <= len(layers):
        following = readers.get(name_of(layers[order[-1]]), [])
        if not following:
            break
        order.append(following[0])
    if not faults and sorted(order) != sorted(names.values()):
        faults.append(f"its layers are no chain: {', '.join(list(names)[:8])}")
    faults += _ends(model, layers, order)
    return (listed if faults else order), faults


def _ends(model: Any, layers: list[Any], order: list[int]) -> Iterator[str]:
    """Yield whether a model has several inputs or outputs, or ends before its last layer."""
    config = get(model, "config")
    for words, key, at in (("inputs", "input_layers", 0), ("outputs", "output_layers", -1)):
        ends = config.get(key)
        if ends is None:
            continue
        if isinstance(ends, dict):
            ends = list(ends.values())
        if isinstance(ends, list | tuple) and ends and isinstance(ends[0], str):
            ends = [ends]
        names = [end[0] for end in ends if isinstance(end, list | tuple) and end and isinstance(end[0], str)]
        if len(names) != 1:
            yield f"it has {len(names)} {words}: {', '.join(names[:8])}"
        elif order and names[0] != name_of(layers[order[at]]):
            yield f"its {words[:-1]} is {names[0]}, and not {name_of(layers[order[at]])}"
        elif len(ends[0]) > 2 and tuple(ends[0][1:3]) != (0, 0):
            yield f"its {words[:-1]} is {names[0]} at {tuple(ends[0][1:3])}"


def _masks(layers: list[Any]) -> tuple[set[str], list[str]]:
    """Return the names of the operations that compute the mask of a layer Masking, and all other operations."""
    layers_by_kind: dict[str, list[Any]] = {kind: [] for kind in ("Masking", *MASKS)}
    for layer in layers:
        kind = get(layer, "class_name", str)
        if kind in layers_by_kind:
            layers_by_kind[kind].append(layer)
    maskings = [(_inputs(layer), get(layer, "config").get("mask_value", 0.0)) for layer in layers_by_kind["Masking"]]
    unequal, masks = set(), set()
    for layer in layers_by_kind["NotEqual"]:
        calls = [(_inputs(layer), _number(node)) for node in get(layer, "inbound_nodes", list)]
        if len(calls) == 1 and calls[0] in maskings:
            unequal.add(name_of(layer))
    for layer in layers_by_kind["Any"]:
        config, inputs = get(layer, "config"), _inputs(layer)
        over_features = config.get("axis") in (-1, [-1]) and not config.get("keepdims")
        if over_features and len(inputs) == 1 and inputs[0] in unequal:
            masks.add(name_of(layer))
    others = [layer for kind in MASKS for layer in layers_by_kind[kind] if name_of(layer) not in masks | unequal]
    return masks, [f"{name_of(layer)} ({get(layer, 'class_name', str)})" for layer in others]


def _inputs(layer: Any) -> list[str]:
    """Return the names of the layers that a layer reads, masks left out."""
    return [name for node in get(layer, "inbound_nodes", list) for name in _sources(node)]


def _arguments(node: Any) -> list[Any]:
    """Return the positional arguments of a call."""
    return get(node, "args", list) or list(get(node, "args", tuple))


def _number(node: Any) -> Any:
    """Return the second argument of a call, or None."""
    arguments = _arguments(node)
    return arguments[1] if len(arguments) > 1 else None


def _call_faults(node: Any, name: str, masks: set[str], names: Sequence[str]) -> Iterator[str]:
    """Yield the arguments of a call, besides its input, that change what it computes; `names`: of those by position."""
    options = dict(get(node, "kwargs")) if isinstance(node, dict) else {}
    if isinstance(node, list):  # Keras 2: [name, node, tensor, keywords] for each input
        for call in node:
            if isinstance(call, list) and len(call) > 3 and call[3]:
                options |= call[3]
    if options.get("training"):
        yield f"{name} is called with training=True"
    mask = _history(options.get("mask"))
    if options.get("mask") is not None and mask not in masks:
        yield f"{name} is called with a mask of {mask or 'its own'}"
    first, *others = _arguments(node) or [None]
    if isinstance(first, list | tuple) and not all(map(_history, first)):
        yield f"{name} is called with a list in which not every tensor is the output of a layer"
    for n, value in enumerate(others, start=1):
        if value is not None and _history(value) is None:
            argument = names[n] if n < len(names) else f"argument {n}"
            yield f"{name} is called with {argument} by position"
    for key, value in options.items():
        if key not in ("training", "mask") and value is not None and _history(value) is None:
            yield f"{name} is called with {key}"


def _sources(node: Any) -> list[str]:
    """Return the names of the layers whose outputs enter a call, masks left out."""
    if isinstance(node, list):  # Keras 2: [name, node, tensor, keywords] for each input
        return [str(call[0]) for call in node if isinstance(call, list) and call]
    options = get(node, "kwargs")
    stack = [*_arguments(node), *(value for key, value in options.items() if key not in ("training", "mask"))]
    names = []
    while stack:
        item = stack.pop()
        if isinstance(item, list | tuple):
            stack += item
        name = _history(item)
        if name is not None:
            names.append(name)
    return names


def _history(tensor: Any) -> str | None:
    """Return the name of the layer whose output a tensor is, or None."""
    config = get(tensor, "config")
    history = get(config, "keras_history", list) or list(get(config, "keras_history", tuple))
    return str(history[0]) if history else None
