"""Split the sequences of a file into training, validation and test part, so that nothing leaks from one to another."""

from __future__ import annotations

from collections.abc import Callable
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from lstmjax.claims import counted
from lstmjax.config import Data
from lstmjax.data.form import Table
from lstmjax.data.sequences import DataError

SPLIT_SEED = 20260101  # the split is the same for all seeds of a run, so that their results can be compared
NAMED = 100_000  # sequences that the run folder lists


class Split(NamedTuple):
    """Rows of each part, in the order of the file, and what the run folder says of it."""

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray
    about: dict[str, Any]


def split(table: Table, data: Data) -> Split:
    """Return which sequences of the source train, validate and test.

    Raises:
        DataError: a part would be empty.
    """
    count = len(table.data.x)
    fractions = (0.0 if data.validation else data.validation_fraction, data.test_fraction or 0.0)
    if not any(fractions):
        nothing = np.zeros(0, np.int64)
        return Split(np.arange(count), nothing, nothing, {"by": "files"})
    sizes = [round(count * fraction) for fraction in fractions]
    nonzero = [n for n, fraction in enumerate(fractions) if fraction]
    if any(sizes[n] == 0 for n in nonzero) or sum(sizes) >= count:
        keys = ("validation", "test")
        key = keys[next((n for n in nonzero if sizes[n] == 0), nonzero[0])]
        raise DataError(
            f"{data.source}: {counted(count, 'sequence')} cannot be split with data.{key}_fraction "
            f"{fractions[keys.index(key)]}; give more, or a file as data.{key}"
        )
    parts, about = WAYS[data.split](table, data, sizes)
    about = {"by": data.split} | about
    for part, rows in parts.items():
        if not len(rows) and (part == "train" or sizes[("validation", "test").index(part)]):
            raise DataError(
                f"{data.source}: data.split: {data.split} leaves no sequence for the {part} part; give more, set the "
                "fractions otherwise, or give that part as a file of its own"
            )
    return Split(parts["train"], parts["validation"], parts["test"], about)


Parted = tuple[dict[str, np.ndarray], dict[str, Any]]


def _random(table: Table, data: Data, sizes: list[int]) -> Parted:
    order = np.random.default_rng(SPLIT_SEED).permutation(len(table.data.x))
    return _cut(order, sizes[0], sizes[1], first="validation"), {"seed": SPLIT_SEED}


def _index(table: Table, data: Data, sizes: list[int]) -> Parted:
    count = len(table.data.x)
    return _cut(np.arange(count), sizes[0], sizes[1], first="train"), {}


def _time(table: Table, data: Data, sizes: list[int]) -> Parted:
    """Return the earliest sequences for training, then those for validation, the latest ones for the test.

    A sequence that reaches over the beginning of the next part is in none.
    """
    begin, end = table.begin, table.end
    if begin is None or end is None:
        raise DataError(f"{data.source}: data.split is time, but there is no column of times; see data.columns.time")
    order = np.argsort(begin, kind="stable")
    train = len(order) - sum(sizes)
    bounds: list[Any] = [begin[order[train]] if sizes[0] else None]
    bounds.append(begin[order[train + sizes[0]]] if sizes[1] else None)
    first = next(bound for bound in bounds if bound is not None)
    masks = {"train": end < first}
    after = np.ones(len(begin), bool) if bounds[1] is None else end < bounds[1]
    masks["validation"] = (begin >= bounds[0]) & after if bounds[0] is not None else np.zeros(len(begin), bool)
    masks["test"] = begin >= bounds[1] if bounds[1] is not None else np.zeros(len(begin), bool)
    parts = {part: np.flatnonzero(mask) for part, mask in masks.items()}
    left_out = len(begin) - sum(map(len, parts.values()))
    names = ("validation", "test")
    begins = {f"{name} begins": str(bound) for name, bound in zip(names, bounds, strict=True) if bound is not None}
    return parts, {**begins, "left out, as they reach into the next part": left_out}


def _group(table: Table, data: Data, sizes: list[int]) -> Parted:
    """Return random groups for validation and test until these have their share; the others train."""
    group = table.group
    if group is None:
        raise DataError(f"{data.source}: data.split is group, but there is no column of groups; see data.columns.group")
    names = sorted(set(group.tolist()))
    needed = 1 + sum(size > 0 for size in sizes)
    if len(names) < needed:
        raise DataError(
            f"{data.source}: data.split is group, but column {data.columns.group!r} has {len(names)} groups for "
            f"{needed} parts; give more groups, or parts as files"
        )
    counts = dict(zip(*(values.tolist() for values in np.unique(group.astype(str), return_counts=True)), strict=True))
    order = [names[n] for n in np.random.default_rng(SPLIT_SEED).permutation(len(names))]
    chosen: dict[str, list[str]] = {}
    for part, size, reserved in (("validation", sizes[0], needed - 1), ("test", sizes[1], 1)):
        chosen[part], filled = [], 0
        while size and filled < size and len(order) > reserved:
            chosen[part].append(order.pop())
            filled += counts[chosen[part][-1]]
    chosen["train"] = order
    parts = {part: np.flatnonzero(np.isin(group.astype(str), chosen[part])) for part in ("train", "validation", "test")}
    return parts, {"groups": {part: sorted(chosen[part]) for part in parts}, "seed": SPLIT_SEED}


WAYS: MappingProxyType[str, Callable[[Table, Data, list[int]], Parted]] = MappingProxyType(
    {"random": _random, "index": _index, "time": _time, "group": _group}
)
"""The function for each value of `data.split`."""


def _cut(order: np.ndarray, validation: int, test: int, *, first: str) -> dict[str, np.ndarray]:
    """Cut rows into parts; `first` says which part the first ones are in."""
    if first == "validation":
        pieces = order[:validation], order[validation : validation + test], order[validation + test :]
        names = ("validation", "test", "train")
    else:
        train = len(order) - validation - test
        pieces = order[:train], order[train : train + validation], order[train + validation :]
        names = ("train", "validation", "test")
    return {name: np.sort(piece) for name, piece in zip(names, pieces, strict=True)}


def check_groups(tables: dict[str, Table]) -> None:
    """Refuse a group that is in two files.

    Args:
        tables: the files by name: source, validation, test.

    Raises:
        DataError: it is.
    """
    seen: dict[str, str] = {}
    for name, table in tables.items():
        for group in sorted(set([] if table.group is None else table.group.tolist())):
            if group in seen:
                raise DataError(
                    f"{name}: group {group!r} is also in {seen[group]}, so that what is learned of it there would "
                    "count here; put each group into one file"
                )
            seen[group] = name


def described(about: dict[str, Any], sizes: dict[str, int]) -> str:
    """Return a line for the log: how the parts came about, and how many sequences each has."""
    counts = ", ".join(f"{count:,} {part}" for part, count in sizes.items())
    left_out = about.get("left out, as they reach into the next part", 0)
    more = f"; {left_out:,} reach into the next part, and are left out" if left_out else ""
    return f"split by {about['by']}: {counts}{more}"


def listed(table: Table, rows: dict[str, np.ndarray]) -> dict[str, list[Any]] | None:
    """Return the names of the sequences of each part, or their numbers in the file; None: there are too many."""
    if sum(map(len, rows.values())) > NAMED:
        return None
    names = table.data.names
    return {part: [names[n] if names else n for n in those.tolist()] for part, those in rows.items()}
