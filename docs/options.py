"""Show the keywords that a function takes as `**options: Unpack[Options]`: a griffe extension.

Griffe reads the source, so it does not see the signature that the decorator `takes` makes. Its own extension for
`Unpack` knows neither defaults nor the fields that a `TypedDict` inherits.
"""

from collections.abc import Iterator

import griffe


class UnpackedOptions(griffe.Extension):
    """Put a keyword for each field of the `TypedDict` in place of `**options`."""

    def on_package(self, *, pkg: griffe.Module, **_: object) -> None:
        """Rewrite the signatures of a package that is read."""
        for function in functions(pkg):
            for decorator in function.decorators:
                if isinstance(decorator.value, griffe.ExprCall) and decorator.callable_path == "lstmjax.keywords.takes":
                    options, *sources = (pkg[within(pkg, name)] for name in decorator.value.arguments)
                    unpack(function, options, sources)


def functions(node: griffe.Module | griffe.Class) -> Iterator[griffe.Function]:
    """Yield all functions and methods below a module or a class."""
    for member in node.members.values():
        if member.is_alias:
            continue
        if member.is_function:
            yield member
        elif member.is_module or member.is_class:
            yield from functions(member)


def within(pkg: griffe.Module, name: griffe.ExprName) -> str:
    """Return the path of a name below the package."""
    return name.canonical_path.removeprefix(f"{pkg.name}.")


def parameters_of(source: griffe.Function | griffe.Class) -> list[griffe.Parameter]:
    """Return the parameters of a function, or the fields of a `NamedTuple` as such."""
    if source.is_function:
        return list(source.parameters)
    return [griffe.Parameter(name, default=field.value) for name, field in source.attributes.items()]


def unpack(function: griffe.Function, options: griffe.Class, sources: list) -> None:
    """Replace the last parameter of a function by the fields of a `TypedDict`, with the defaults of the sources."""
    *explicit, _ = function.parameters
    fields = {name: a for part in (options, *options.mro()) for name, a in part.attributes.items()}
    written = [parameters_of(source) for source in sources]
    spelled_out = {p.name: p.default for parameters in reversed(written) for p in parameters}
    order = [name for name in dict.fromkeys(p.name for parameters in written for p in parameters) if name in fields]
    keyword = griffe.ParameterKind.keyword_only
    added = [
        griffe.Parameter(name, annotation=fields[name].annotation, kind=keyword, default=spelled_out[name])
        for name in order
    ]
    function.parameters = griffe.Parameters(*explicit, *added)
