"""Check that the description of a model names nothing but plain parts of Keras, so that Keras may build it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from lstmjax.convert.keras_config import HARMLESS, LAYERS, READ, strange
from lstmjax.convert.keras_graph import MASKS, MODELS, get

PARTS = ("keras.initializers", "keras.regularizers", "keras.constraints")
CODE = ("function", "Lambda", "__lambda__")


def foreign(tree: Any) -> Iterator[str]:
    """Yield the names in a model's description that are no plain part of Keras, and could run code when it is built.

    Losses and optimizers are skipped, since the model is built without them (compile=False).
    """
    stack: list[Any] = [tree]
    while stack:
        item = stack.pop()
        if isinstance(item, dict):
            kind, module = get(item, "class_name", str), get(item, "module", str)
            known = kind == "DTypePolicy" or any(kind in kinds for kinds in (LAYERS, HARMLESS, MODELS, READ, MASKS))
            # Without a module Keras only searches its own classes of the kind that the setting needs.
            plain = not module or module in PARTS or (known and module.split(".")[0] == "keras")
            if kind in CODE or (kind and kind != "__keras_tensor__" and not plain):
                yield f"{module}.{kind}".lstrip(".")[:60]
            elif name := strange(item):
                yield name
        stack += _children(item)


def _children(item: Any) -> Iterable[Any]:
    if isinstance(item, dict):
        return [value for key, value in item.items() if key != "compile_config"]
    return item if isinstance(item, list | tuple) else ()
