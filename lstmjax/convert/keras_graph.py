"""How the layers of a Keras model are called: in which order, and where it is no chain."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

MODELS = ("Sequential", "Functional", "Model")
MASKS = ("NotEqual", "Any")
"""The operations that Keras writes into a functional model beside a layer Masking."""


def get(tree: Any, name: str, kind: type = dict) -> Any:
    """Return what stands there if it is of this kind, else an empty one: the file is a stranger's."""
    value = tree.get(name) if isinstance(tree, dict) else None
    return value if isinstance(value, kind) else kind()


def name_of(layer: Any) -> str:
    """Return the name of a layer, or else its class."""
    return get(get(layer, "config"), "name", str) or get(layer, "class_name", str)


def layers_of(model: Any) -> list[Any] | None:
    """Return the layers of a model as it lists them, or None if it is none."""
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
        name, nodes = name_of(layer), get(layer, "inbound_nodes", list)
        entering = _entering(layer)
        if len(entering) > 1:
            faults.append(f"{name} reads {', '.join(entering)}")
        for node in nodes:
            faults += _call_faults(node, name, masks)
        for one in entering:
            source[n] = one
            readers.setdefault(one, []).append(n)
    for one, numbers in readers.items():
        if len(numbers) > 1:
            faults.append(f"{one} is read by {', '.join(name_of(layers[n]) for n in numbers)}")
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
    """Yield where a model has several inputs or outputs, or ends before its last layer."""
    config = get(model, "config")
    for words, key, at in (("inputs", "input_layers", 0), ("outputs", "output_layers", -1)):
        ends = config.get(key)
        if ends is None:
            continue
        if isinstance(ends, dict):
            ends = list(ends.values())
        if isinstance(ends, list | tuple) and ends and isinstance(ends[0], str):
            ends = [ends]
        names = [one[0] for one in ends if isinstance(one, list | tuple) and one and isinstance(one[0], str)]
        if len(names) != 1:
            yield f"it has {len(names)} {words}: {', '.join(names[:8])}"
        elif order and names[0] != name_of(layers[order[at]]):
            yield f"its {words[:-1]} is {names[0]}, and not {name_of(layers[order[at]])}"
        elif len(ends[0]) > 2 and tuple(ends[0][1:3]) != (0, 0):
            yield f"its {words[:-1]} is {names[0]} at {tuple(ends[0][1:3])}"


def _masks(layers: list[Any]) -> tuple[set[str], list[str]]:
    """Return the operations whose results are the mask of a layer Masking, and what others there are."""
    kinds: dict[str, list[Any]] = {kind: [] for kind in ("Masking", *MASKS)}
    for layer in layers:
        kinds.get(get(layer, "class_name", str), []).append(layer)
    made = [(_entering(layer), get(layer, "config").get("mask_value", 0.0)) for layer in kinds["Masking"]]
    unequal = {
        name_of(layer)
        for layer in kinds["NotEqual"]
        if [(_entering(layer), _number(node)) for node in get(layer, "inbound_nodes", list)] in [[one] for one in made]
    }
    known = {
        name_of(layer)
        for layer in kinds["Any"]
        if get(layer, "config").get("axis") in (-1, [-1])
        and not get(layer, "config").get("keepdims")
        and len(_entering(layer)) == 1
        and unequal.issuperset(_entering(layer))
    }
    operations = [layer for kind in MASKS for layer in kinds[kind]]
    return known, [
        f"{name_of(one)} ({get(one, 'class_name', str)})" for one in operations if name_of(one) not in known | unequal
    ]


def _entering(layer: Any) -> list[str]:
    return [one for node in get(layer, "inbound_nodes", list) for one in _sources(node)]


def _number(node: Any) -> Any:
    """Return the number that is the second argument of a call."""
    arguments = get(node, "args", list) or list(get(node, "args", tuple))
    return arguments[1] if len(arguments) > 1 else None


def _call_faults(node: Any, name: str, masks: set[str]) -> Iterator[str]:
    """Yield what a call is handed beside its input that changes what it computes."""
    options = get(node, "kwargs") if isinstance(node, dict) else {}
    if isinstance(node, list):  # Keras 2: [name, node, tensor, keywords] for each input
        for one in node:
            options = {**options, **(one[3] if isinstance(one, list) and len(one) > 3 and one[3] else {})}
    if options.get("training"):
        yield f"{name} is called with training=True"
    mask = _history(options.get("mask"))
    if options.get("mask") is not None and mask not in masks:
        yield f"{name} is called with a mask of {mask or 'its own'}"
    for key, value in options.items():
        if key not in ("training", "mask") and value is not None and _history(value) is None:
            yield f"{name} is called with {key}"


def _sources(node: Any) -> list[str]:
    """Return the names of the layers whose outputs enter a call, masks left out."""
    if isinstance(node, list):  # Keras 2: [name, node, tensor, keywords] for each input
        return [str(one[0]) for one in node if isinstance(one, list) and one]
    arguments = get(node, "args", list) or list(get(node, "args", tuple))
    rest = [*arguments, *(v for k, v in get(node, "kwargs").items() if k not in ("training", "mask"))]
    found = []
    while rest:
        one = rest.pop()
        rest += one if isinstance(one, list | tuple) else []
        name = _history(one)
        if name is not None:
            found.append(name)
    return found


def _history(tensor: Any) -> str | None:
    """Return the name of the layer whose output a tensor is, or None."""
    config = get(tensor, "config")
    history = get(config, "keras_history", list) or list(get(config, "keras_history", tuple))
    return str(history[0]) if history else None
