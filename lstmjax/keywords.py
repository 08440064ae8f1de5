"""Keywords that several functions share, as one thing: a `TypedDict` that a function takes as `**options` (PEP 692)."""

from __future__ import annotations

import difflib
import functools
import inspect
import typing
from collections.abc import Callable
from typing import Any, ForwardRef, TypeVar

F = TypeVar("F", bound=Callable[..., Any])


def takes(options: Any, *sources: Callable) -> Callable[[F], F]:
    """Let a function take the fields of a `TypedDict` as keywords: a decorator.

    The function ends in `**options: Unpack[Options]`. Its signature, which `help` and editors show, then has a keyword
    for each field, and the function gets all of them: those that the caller leaves out with their defaults.

    Args:
        options: the `TypedDict`.
        sources: functions that spell these keywords out; the default of a field is that of the first one which has it.

    Example:
        >>> class Options(typing.TypedDict, total=False):
        ...     size: int
        ...     colour: str
        >>> def spelled_out(x, size: int = 3, colour: str = "red"): ...
        >>> @takes(Options, spelled_out)
        ... def derived(x: float, **options: typing.Unpack[Options]):
        ...     return options
        >>> derived(1.0, colour="blue")
        {'size': 3, 'colour': 'blue'}
        >>> derived(1.0, color="blue")
        Traceback (most recent call last):
        ...
        TypeError: derived has no argument 'color'. Did you mean 'colour'?
    """
    order = dict.fromkeys(name for source in sources for name in inspect.signature(source).parameters)
    hints = options.__annotations__
    names = {name: _written(hints[name]) for name in (*order, *hints) if name in hints}
    defaults = {name: _default(name, sources) for name in names}

    def decorate(function: F) -> F:
        *explicit, _ = inspect.signature(function).parameters.values()
        added = [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=defaults[name], annotation=hint)
            for name, hint in names.items()
        ]
        known = {parameter.name for parameter in (*explicit, *added)}

        @functools.wraps(function)
        def with_options(*args: Any, **keywords: Any) -> Any:
            unknown = keywords.keys() - known
            if unknown:
                raise TypeError(_refusal(function.__name__, min(unknown), known))
            return function(*args, **defaults | keywords)

        signature = inspect.signature(function).replace(parameters=[*explicit, *added])
        with_options.__signature__ = signature  # type: ignore[attr-defined]
        return typing.cast(F, with_options)

    return decorate


def accepted(function: Callable, options: Any) -> dict[str, Any]:
    """Return those of the options that a function takes."""
    parameters = inspect.signature(function).parameters
    return {name: value for name, value in options.items() if name in parameters}


def _written(hint: Any) -> str:
    """Return an annotation as it is written in the source."""
    return hint.__forward_arg__ if isinstance(hint, ForwardRef) else getattr(hint, "__name__", str(hint))


def _default(name: str, sources: tuple[Callable, ...]) -> Any:
    for source in sources:
        parameter = inspect.signature(source).parameters.get(name)
        if parameter is not None:
            return parameter.default
    raise TypeError(f"no default of {name} is known: none of {', '.join(f.__name__ for f in sources)} has it.")


def _refusal(function: str, name: str, known: set[str]) -> str:
    near = difflib.get_close_matches(name, known)
    words = f"{function} has no argument {name!r}."
    if near:
        return f"{words} Did you mean {' or '.join(map(repr, near))}?"
    return f"{words} It has {', '.join(sorted(known))}."
