"""Named arrays, as files hold them: trees of them, which of them were read, and their order from the bottom up."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise, zip_longest
from typing import Any, NamedTuple

import numpy as np

from lstmjax.convert.architecture import Architecture
from lstmjax.convert.layouts import ConvertError, natural, numbers
from lstmjax.networks import NetworkParams
from lstmjax.stack import Layers

DTYPES = ("float16", "bfloat16", "float32", "float64")
DEPTH = 64  # folders within folders; a name can be made of thousands


class Contents(NamedTuple):
    """What a file holds, or is to hold."""

    arrays: Mapping[str, Any]  # by name; what is no array stands there too, and is not read
    order: tuple[str, ...] | None = None  # the layers from the bottom up, where the file says
    settings: tuple[str, ...] = ()  # what it says of the model that weights do not
    params: Layers | NetworkParams | None = None  # of a file that holds a network, and no names
    architecture: Architecture = Architecture()  # how the file says that its weights are run
    head: str | None = None  # the name of the head, where the file describes its model; None: it has none


class Unread(NamedTuple):
    """What stands in a file in the place of an array, and is not read; `kind` says what it is."""

    kind: str


class Leaf:
    """An array of a file by its name there, that remembers whether it was read."""

    def __init__(self, name: str, value: Any):
        self.name, self.value, self.used = name, value, False

    @property
    def is_note(self) -> bool:
        """Whether it is a number or a word beside the arrays, such as that of the epoch."""
        return self.value is None or isinstance(self.value, int | float | str)

    @property
    def shape(self) -> tuple[int, ...] | None:
        """Its shape, or None if it is no array."""
        return tuple(self.value.shape) if hasattr(self.value, "dtype") and hasattr(self.value, "shape") else None

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        kind = self.value.kind if isinstance(self.value, Unread) else type(self.value).__name__
        if self.shape is not None:
            kind = str(getattr(self.value.dtype, "name", self.value.dtype)).removeprefix("torch.")
        if kind not in DTYPES:
            raise ConvertError(f"{self.name!r} is {kind}, expected numbers: {', '.join(DTYPES)}")
        self.used = True
        a = numbers(self.value)
        return a.astype(a.dtype.newbyteorder("="), copy=False)


def nested(flat: Mapping[str, Any], separators: str) -> dict[str, Any]:
    """Gives the tree that names such as a/b/c stand for, split at any of these characters.

    Raises:
        ConvertError: one name stands below another, or too many folders stand in each other.
    """
    tree: dict[str, Any] = {}
    for name, leaf in flat.items():
        *folders, last = re.split(f"[{separators}]", name)
        if len(folders) > DEPTH:
            raise ConvertError(f"{name[:60]!r}… has {len(folders)} folders; the most is {DEPTH}")
        place = tree
        for folder in folders:
            place = place.setdefault(folder, {})
            if not isinstance(place, dict):
                raise ConvertError(f"{name!r} stands below an array")
        if last in place:
            raise ConvertError(f"{name!r} is an array, and has others below it")
        place[last] = leaf
    return tree


def flat(tree: Mapping[Any, Any], separator: str) -> dict[str, Any]:
    """Gives what stands in a tree by names such as a/b/c; what is no folder is a leaf."""
    found: dict[str, Any] = {}
    rest: list[tuple[str, Any, int]] = [("", tree, 0)]
    while rest:
        name, value, depth = rest.pop()
        if depth > DEPTH:
            raise ConvertError(f"{name[:60]!r}… has more than {DEPTH} folders")
        if isinstance(value, Mapping):
            within = [(f"{name}{separator}{key}" if name else str(key), each, depth + 1) for key, each in value.items()]
            rest += reversed(within)
        else:
            found[name] = value
    return found


def in_order(paths: Iterable[str], names: Sequence[str] | None = None) -> list[str]:
    """Gives the paths of layers from the bottom up: as `names` says, and below that by the numbers in them.

    Args:
        paths: of the layers, parts separated by /.
        names: parts of paths, in the order of the model.

    Raises:
        ConvertError: they differ in more than numbers, so that their order is not known; or one is not in `names`.

    >>> in_order(["rnn_10/cell", "rnn_9/cell"]), in_order(["up/cell", "down/cell"], ["up", "down"])
    (['rnn_9/cell', 'rnn_10/cell'], ['up/cell', 'down/cell'])
    """
    paths = sorted(paths, key=lambda path: [natural(part) for part in path.split("/")])
    if names is None:
        _check_known(paths)
        return paths
    groups: list[list[str]] = [[] for _ in names]
    for path in paths:
        places = [(f"/{path}/".find(f"/{name}/"), -len(name), n) for n, name in enumerate(names)]
        hits = [place for place in places if place[0] >= 0]
        if not hits:
            raise ConvertError(
                f"the order is said for {', '.join(names)}, but there is {path} too; pass names= with all of them in "
                "the order of the model"
            )
        groups[min(hits)[-1]].append(path)
    for group in groups:
        _check_known(group)
    return [path for group in groups for path in group]


def _check_known(paths: list[str]) -> None:
    """Refuses paths, sorted, whose order their numbers do not say."""
    for path, following in pairwise(paths):
        parts = path.split("/")
        pairs = enumerate(zip_longest(parts, following.split("/"), fillvalue=""))
        at, (one, other) = next((n, pair) for n, pair in pairs if pair[0] != pair[1])
        if re.sub(r"_?\d+$", "", one) != re.sub(r"_?\d+$", "", other):
            alike = (p.split("/") for p in paths)
            beside = dict.fromkeys(p[at] for p in alike if len(p) > at and p[:at] == parts[:at])
            raise ConvertError(
                f"the file does not keep the order of {', '.join(beside)}; pass names= with these in the order of the "
                "model"
            )
