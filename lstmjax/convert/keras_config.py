"""What a Keras model says of itself beside its weights: the order of its layers, and what weights do not say."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from types import MappingProxyType
from typing import Any

LSTM = {"activation": ("tanh",), "recurrent_activation": ("sigmoid",), "go_backwards": (False,)}
SETTINGS: MappingProxyType[str, dict[str, tuple[Any, ...]]] = MappingProxyType(
    {
        "LSTM": LSTM,
        "LSTMCell": LSTM,
        "RNN": {"go_backwards": (False,)},
        "Bidirectional": {"merge_mode": ("concat",)},
        # Logits are what a head gives here, and the loss says what they mean.
        "Dense": {"activation": ("linear", "softmax", "sigmoid", None)},
    }
)
"""Layers whose settings count, and the values that these may have."""
# Models, what does nothing when a model is used, and what says which steps are there, as `lengths` does.
PLAIN = (
    "Sequential", "Functional", "Model", "InputLayer", "Dropout", "SpatialDropout1D", "GaussianNoise",
    "GaussianDropout", "Masking", "NotEqual", "Any", "StackedRNNCells", "TimeDistributed",
)  # fmt: skip
WITHIN = ("layer", "backward_layer", "cell", "cells")  # where a layer keeps others
PASSED = ("training", "mask")  # what a call may be handed beside its input


def describe(model: Any) -> tuple[tuple[str, ...] | None, tuple[str, ...]]:
    """Gives the paths of a model's layers in its order, as its file calls them, and the settings that weights lack.

    Args:
        model: what config.json holds, of a `Sequential` or a functional model; of others the order is None.
    """
    layers = list(_walk(model, ""))
    settings = [setting for _, layer in layers for setting in _settings(layer, _name(layer))]
    settings += _branches(model)
    return tuple(path for path, _ in layers) or None, tuple(dict.fromkeys(settings))


def _get(tree: Any, name: str, kind: type = dict) -> Any:
    """Gives what stands there if it is of this kind, else an empty one: the file is a stranger's."""
    value = tree.get(name) if isinstance(tree, dict) else None
    return value if isinstance(value, kind) else kind()


def _name(layer: Any) -> str:
    return _get(_get(layer, "config"), "name", str) or _get(layer, "class_name", str)


def _walk(model: Any, path: str) -> Iterator[tuple[str, Any]]:
    counts: Counter[str] = Counter()
    for layer in _get(_get(model, "config"), "layers", list):
        kind = re.sub("([a-z])([A-Z])", r"\1_\2", re.sub("(.)([A-Z][a-z]+)", r"\1_\2", _get(layer, "class_name", str)))
        number = counts[kind.lower()]
        counts[kind.lower()] += 1
        here = f"{path}layers/{kind.lower()}" + (f"_{number}" if number else "")
        within = list(_walk(layer, f"{here}/"))
        yield from within or [(here, layer)]


def _settings(layer: Any, where: str, passed: tuple[str, ...] = ()) -> Iterator[str]:
    """Gives what a layer does that its weights do not say."""
    kind, config = _get(layer, "class_name", str), _get(layer, "config")
    if kind not in SETTINGS and kind not in PLAIN:
        yield f"{where} ({kind})"
        return
    for name, allowed in SETTINGS.get(kind, {}).items():
        if name not in passed and (value := config.get(name, allowed[0])) not in allowed:
            yield f"{where}: {name} is {value!r}"
    for name in WITHIN:
        inner = config.get(name)
        for one in inner if isinstance(inner, list) else [inner]:
            if isinstance(one, dict):
                yield from _settings(one, f"{where}/{name}", ("go_backwards",) if name == "backward_layer" else ())


def _branches(model: Any) -> Iterator[str]:
    """Gives where a functional model is no chain of layers."""
    readers: dict[str, list[str]] = {}
    for layer in _get(_get(model, "config"), "layers", list):
        yield from _branches(layer)
        if _get(layer, "class_name", str) in ("NotEqual", "Any"):
            continue
        sources = [source for node in _get(layer, "inbound_nodes", list) for source in _sources(node)]
        if len(sources) > 1:
            yield f"{_name(layer)} reads {', '.join(map(str, sources))}"
        for source in sources:
            readers.setdefault(source, []).append(_name(layer))
    for source, names in readers.items():
        if len(names) > 1:
            yield f"{source} is read by {', '.join(names)}"


def _sources(node: Any) -> list[str]:
    """Gives the names of the layers whose outputs enter a call."""
    if isinstance(node, list):  # Keras 2: [name, node, tensor, keywords] for each input
        return [str(one[0]) for one in node if isinstance(one, list) and one]
    entering = [_get(node, "args", list), *(v for k, v in _get(node, "kwargs").items() if k not in PASSED)]
    found, rest = [], entering
    while rest:
        one = rest.pop()
        rest += one if isinstance(one, list) else []
        if history := _get(_get(one, "config"), "keras_history", list):
            found.append(str(history[0]))
    return found
