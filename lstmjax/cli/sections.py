"""The options of `lstmjax train`: the fields of a configuration, as tyro reads them. JAX is not imported here."""

from __future__ import annotations

import dataclasses
from types import MappingProxyType
from typing import Annotated, Any

import tyro

from lstmjax.config import Config, Section
from lstmjax.config.base import names_in

NAMES = tyro.constructors.PrimitiveConstructorSpec(
    nargs=1,
    metavar="A,B",
    instance_from_str=lambda words: names_in(words[0]),
    is_instance=lambda names: isinstance(names, tuple) and all(isinstance(name, str) for name in names),
    str_from_instance=lambda names: [",".join(names)],
)
"""Several names in one word, as every option of train takes exactly one."""


def _word(metavar: str) -> tyro.constructors.PrimitiveConstructorSpec[Any]:
    """Return an option of one word, which `parse_config` reads as numbers, or as a mapping."""
    return tyro.constructors.PrimitiveConstructorSpec(
        nargs=1,
        metavar=metavar,
        instance_from_str=lambda words: None if words[0] == "None" else words[0],
        is_instance=lambda value: value is None or isinstance(value, str | tuple | dict),
        str_from_instance=lambda value: [_as_word(value)],
    )


def _as_word(value: Any) -> str:
    if isinstance(value, dict):
        return ",".join(f"{name}={weight}" for name, weight in value.items())
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


WORDS = MappingProxyType({"quantiles": _word("A,B"), "class_weights": _word("{None,balanced,A=X,B=Y}")})
"""Fields that hold several numbers, by name."""


def _options(section: type[Section]) -> type:
    """Return a dataclass with the fields of a section, without its checks.

    `parse_config` checks them, so that a value is refused in the same words whether it comes from a file or an option.
    """
    fields = []
    for name, field in section.model_fields.items():
        kind: Any = field.annotation
        nested = isinstance(kind, type) and issubclass(kind, Section)
        if nested:
            kind = _options(kind)
        elif name in WORDS:
            kind = Annotated[Any, WORDS[name], tyro.conf.arg(help=field.description)]
        elif kind == tuple[str, ...]:
            kind = Annotated[kind, NAMES, tyro.conf.arg(help=field.description)]
        else:
            kind = Annotated[kind, tyro.conf.arg(help=field.description)]
        fields.append((name, kind, dataclasses.field(default=kind() if nested else field.default)))
    return dataclasses.make_dataclass(section.__name__, fields, frozen=True, namespace={"__doc__": section.__doc__})


Options: Any = _options(Config)
