"""Whether a model's description names plain parts of Keras alone, so that Keras may be asked to build it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from lstmjax.convert.keras_config import HARMLESS, LAYERS, READ, strange
from lstmjax.convert.keras_graph import MASKS, MODELS, get

PARTS = ("keras.initializers", "keras.regularizers", "keras.constraints")
CODE = ("function", "Lambda", "__lambda__")


def foreign(tree: Any) -> Iterator[str]:
    """Yield what a model's description names that is no plain part of Keras, and may run code when it is built.

    Losses and optimizers are passed over: Keras is asked for the model alone (compile=False).
    """
    rest: list[Any] = [tree]
    while rest:
        one = rest.pop()
        if isinstance(one, dict):
            kind, module = get(one, "class_name", str), get(one, "module", str)
            known = kind == "DTypePolicy" or any(kind in kinds for kinds in (LAYERS, HARMLESS, MODELS, READ, MASKS))
            # Without a module Keras looks only among its own classes of the kind that a setting wants.
            plain = not module or module in PARTS or (known and module.split(".")[0] == "keras")
            if kind in CODE or (kind and kind != "__keras_tensor__" and not plain):
                yield f"{module}.{kind}".lstrip(".")[:60]
            elif strange(one):
                yield strange(one) or ""
        rest += _within(one)


def _within(one: Any) -> Iterable[Any]:
    if isinstance(one, dict):
        return [value for key, value in one.items() if key != "compile_config"]
    return one if isinstance(one, list | tuple) else ()
