"""The named arrays of a file: as a tree or flat, which of them were read, and their order from the bottom up."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import pairwise, zip_longest
from typing import Any, NamedTuple

import numpy as np

from lstmjax.errors import Option
from lstmjax.frameworks.base.architecture import Architecture
from lstmjax.frameworks.base.layouts import ConvertError, natural, numbers
from lstmjax.networks import NetworkParams
from lstmjax.stack import Layers

DTYPES = ("float16", "bfloat16", "float32", "float64")
DEPTH = 64  # folders within folders; a name can be made of thousands
LEAVES = 2**20  # names; a small file can say that each folder holds the one before ten times


class Contents(NamedTuple):
    """What a file contains, or what is to be written to it."""

    arrays: Mapping[str, Any]  # by name; entries that are no arrays are listed too, and not read
    order: tuple[str, ...] | None = None  # the layers from the bottom up, if the file states their order
    settings: tuple[str, ...] = ()  # what the file says of its model that layers and a head cannot do
    params: Layers | NetworkParams | None = None  # of a file that holds a network instead of named arrays
    architecture: Architecture = Architecture()  # how the file says that its weights are run
    head: str | None = None  # the name of the head, if the file describes its model; None: it has none
    pairs: Mapping[str, str] | None = None  # the pairs of a Keras file, and the forward layer of each, if it names them


class Unread(NamedTuple):
    """An entry of a file that is no array of numbers, and is not read; `kind` says what it is."""

    kind: str


class Beside(NamedTuple):
    """An entry beside the weights that is no part of a model, and is not read; `kind` says what it is."""

    kind: str


class Object(NamedTuple):
    """An object that is not unpickled, but may be part of a model; `kind` is its class, `remedy` how to save it."""

    kind: str
    remedy: str


class Leaf:
    """A named entry of a file, usually an array, which remembers whether it was read."""

    assumed: str | None = None  # what the file does not say of it, and was assumed
    words: str | None = None  # how it is computed, if it is not stored itself

    def __init__(self, name: str, value: Any):
        self.name, self.value, self.used = name, value, False

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the arrays in the file that it is read from."""
        return (self.name,)

    @property
    def is_note(self) -> bool:
        """Whether it is a number or a word beside the arrays, such as the number of the epoch."""
        return self.value is None or isinstance(self.value, int | float | str | Beside)

    @property
    def shape(self) -> tuple[int, ...] | None:
        """Its shape, or None if it is no array."""
        return tuple(self.value.shape) if hasattr(self.value, "dtype") and hasattr(self.value, "shape") else None

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        kind = self.value.kind if isinstance(self.value, Unread | Beside | Object) else type(self.value).__name__
        if self.shape is not None:
            kind = str(getattr(self.value.dtype, "name", self.value.dtype)).removeprefix("torch.")
        if kind not in DTYPES:
            raise ConvertError(f"{self.name!r} is {kind}, expected numbers: {', '.join(DTYPES)}")
        self.used = True
        a = numbers(self.value)
        return a.astype(a.dtype.newbyteorder("="), copy=False)


def as_leaves(tree: Mapping[Any, Any], separator: str = "/", path: str = "") -> dict[Any, Any]:
    """Return a tree of arrays with a `Leaf` for each, so that it is known which were read."""
    leaves: dict[Any, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            leaves[key] = as_leaves(value, separator, f"{path}{key}{separator}")
        else:
            leaves[key] = value if isinstance(value, Leaf) else Leaf(f"{path}{key}", value)
    return leaves


def unread(tree: Mapping[Any, Any]) -> Iterator[Leaf]:
    """Yield what was not read of a tree of `as_leaves`."""
    for value in tree.values():
        if isinstance(value, Mapping):
            yield from unread(value)
        elif not value.used:
            yield value


def nested(flat: Mapping[str, Any], separators: str) -> dict[str, Any]:
    """Return arrays with names such as a/b/c as a tree of folders, split at any of these characters.

    Raises:
        ConvertError: a name is both that of an array and that of a folder, or folders are nested too deeply.
    """
    tree: dict[str, Any] = {}
    for name, leaf in flat.items():
        *folders, last = re.split(f"[{separators}]", name)
        if len(folders) > DEPTH:
            raise ConvertError(f"{name[:60]!r}… has {len(folders)} folders; the most is {DEPTH}")
        branch = tree
        for folder in folders:
            branch = branch.setdefault(folder, {})
            if not isinstance(branch, dict):
                raise ConvertError(f"{name!r} stands below an array")
        if last in branch:
            raise ConvertError(f"{name!r} is an array, and has others below it")
        branch[last] = leaf
    return tree


def items_of(value: Any) -> Iterable[tuple[Any, Any]] | None:
    """Return the items of a mapping, or None of a leaf."""
    return value.items() if isinstance(value, Mapping) else None


def flat(
    tree: Mapping[Any, Any], separator: str, children: Callable[[Any], Iterable[tuple[Any, Any]] | None] = items_of
) -> dict[str, Any]:
    """Return the leaves of a tree by names such as a/b/c.

    Args:
        tree: folders of folders.
        separator: what to join names with.
        children: returns what a folder holds, by name, or None for a leaf.

    Raises:
        ConvertError: folders are nested too deeply, or there are too many names.
    """
    leaves: dict[str, Any] = {}
    stack: list[tuple[str, Any, int]] = [("", tree, 0)]  # not by recursion: a tree can be deep
    while stack:
        name, value, depth = stack.pop()
        if depth > DEPTH:
            raise ConvertError(f"{name[:60]!r}… has more than {DEPTH} folders")
        if len(leaves) + len(stack) > LEAVES:
            raise ConvertError(f"holds more than {LEAVES:,} names")
        items = children(value)
        if items is None:
            leaves[name] = value
            continue
        below = [(f"{name}{separator}{key}" if name else str(key), child, depth + 1) for key, child in items]
        stack += reversed(below)
    return leaves


def in_order(paths: Iterable[str], names: Sequence[str] | None = None) -> list[str]:
    """Return the paths of layers from the bottom up: in the order of `names`, and then of the numbers in them.

    Args:
        paths: of the layers, their parts separated by /.
        names: parts of paths, in the order of the model.

    Raises:
        ConvertError: paths differ in more than numbers, so that their order is unknown; or `names` leaves one out.

    >>> in_order(["rnn_10/cell", "rnn_9/cell"]), in_order(["up/cell", "down/cell"], ["up", "down"])
    (['rnn_9/cell', 'rnn_10/cell'], ['up/cell', 'down/cell'])
    """
    paths = sorted(paths, key=lambda path: [natural(part) for part in path.split("/")])
    if names is None:
        _check_known(paths)
        return paths
    groups: list[list[str]] = [[] for _ in names]
    for path in paths:
        # Of several names in a path the outermost counts, and the longest of those.
        matches = [(f"/{path}/".find(f"/{name}/"), -len(name), n) for n, name in enumerate(names)]
        matches = [match for match in matches if match[0] >= 0]
        if not matches:
            raise ConvertError(
                f"the order is said for {', '.join(names)}, but there is {path} too; pass ",
                Option("names"),
                " with all of them in the order of the model",
            )
        groups[min(matches)[-1]].append(path)
    for group in groups:
        _check_known(group)
    return [path for group in groups for path in group]


def _check_known(paths: list[str]) -> None:
    """Refuse sorted paths that differ in more than their numbers."""
    for path, following in pairwise(paths):
        parts = path.split("/")
        pairs = enumerate(zip_longest(parts, following.split("/"), fillvalue=""))
        at, (first, second) = next((n, pair) for n, pair in pairs if pair[0] != pair[1])
        if re.sub(r"_?\d+$", "", first) != re.sub(r"_?\d+$", "", second):
            every = [other.split("/") for other in paths]
            siblings = dict.fromkeys(other[at] for other in every if len(other) > at and other[:at] == parts[:at])
            raise ConvertError(
                f"the file does not keep the order of {', '.join(siblings)}; pass ",
                Option("names"),
                " with these in the order of the model",
            )
