"""PyTorch's weights that are kept as something else: a direction and its length, a raw copy, a matrix to be divided.

A table: how the names end that stand in the place of a weight, and how PyTorch computes the weight outside of
training. `fold` puts the weight in their place; what a checkpoint does not determine is refused by name.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lstmjax.convert.layouts import ConvertError
from lstmjax.convert.names import Leaf

PARAMETRISED = r"((?:.*\.)?)parametrizations\.([^.]+)\..+"


@dataclass(frozen=True)
class Fold:
    """One row.

    `names`: those that stand for a weight, which is called {} in them. `compute`: its value, of their arrays; its
    second argument is the name of the weight, for messages. `words`: what it did. `weight`: a pattern of the
    weights that it is about. `copies`: the weight may stand there, too, as the last training step had it.
    """

    names: tuple[str, ...]
    compute: Callable[[Sequence[np.ndarray], str], np.ndarray]
    words: str
    weight: str = r"(?:weight|bias)[^.]*"
    copies: bool = False


def _weight_norm(arrays: Sequence[np.ndarray], name: str) -> np.ndarray:
    """W = g · v / ‖v‖, the norm over all axes but that of g (Salimans & Kingma 2016, eq. 2)."""
    g, v = arrays
    sizes = (1,) * v.ndim if g.ndim == 0 else g.shape  # without an axis: one length of all
    kept = [axis for axis, size in enumerate(sizes) if size != 1]
    if len(sizes) != v.ndim or len(kept) > 1 or any(sizes[axis] != v.shape[axis] for axis in kept):
        raise ConvertError(
            f"{name} is kept as arrays of shape {g.shape} and {v.shape}; weight_norm has one length for each row"
        )
    wide = v.astype(np.float64)
    axes = tuple(axis for axis in range(v.ndim) if axis not in kept)
    length = np.sqrt((wide * wide).sum(axis=axes, keepdims=True))
    if not length.all():
        raise ConvertError(f"{name} cannot be computed: weight_norm divides by the length of a row of zeros")
    return (wide * (g.astype(np.float64).reshape(sizes) / length)).astype(v.dtype)


def _spectral_norm(arrays: Sequence[np.ndarray], name: str) -> np.ndarray:
    """W / (u · w v), with u and v as the last training step left them (Miyato et al. 2018, eq. 8 and 9)."""
    w, u, v = arrays
    if w.ndim != 2 or (*u.shape, *v.shape) not in (w.shape, w.shape[::-1]) or u.size == v.size:
        raise ConvertError(
            f"{name} is kept as arrays of shape {w.shape}, {u.shape} and {v.shape}, which do not say along which axis "
            "spectral_norm took its vectors. Remove it in PyTorch before saving: "
            "torch.nn.utils.parametrize.remove_parametrizations, or torch.nn.utils.remove_spectral_norm"
        )
    wide, u, v = (a.astype(np.float64) for a in (w, u, v))
    sigma = u @ wide @ v if u.size == w.shape[0] else v @ wide @ u
    return (wide / sigma).astype(w.dtype)


def _raw(arrays: Sequence[np.ndarray], name: str) -> np.ndarray:
    return arrays[0]


WEIGHT_NORM, SPECTRAL_NORM = "g · v / ‖v‖, as weight_norm has it", "divided by its spectral norm"
FOLDS = (
    Fold(
        ("parametrizations.{}.original0", "parametrizations.{}.original1"), _weight_norm, WEIGHT_NORM, weight=r"[^.]+"
    ),
    Fold(
        ("parametrizations.{}.original", "parametrizations.{}.0._u", "parametrizations.{}.0._v"),
        _spectral_norm,
        SPECTRAL_NORM,
        weight=r"[^.]+",
    ),
    Fold(("{}_g", "{}_v"), _weight_norm, WEIGHT_NORM),
    Fold(("{}_orig", "{}_u", "{}_v"), _spectral_norm, SPECTRAL_NORM),
    Fold(
        ("{}_raw",),
        _raw,
        "the raw weight of WeightDrop, without the dropout of training",
        weight=r"weight_(?:ih|hh|hr)[^.]*",
        copies=True,
    ),
)
"""What PyTorch keeps in the place of a weight, and AWD-LSTM (Merity et al. 2018, section 2)."""


class Folded(Leaf):
    """A weight that is computed from others once it is read; `beside`: copies of it that stay behind."""

    def __init__(self, name: str, row: Fold, sources: Sequence[Leaf], beside: Sequence[Leaf] = ()):
        super().__init__(name, max(sources, key=lambda source: math.prod(source.shape or ())).value)
        self.row, self.sources, self.beside = row, tuple(sources), tuple(beside)

    @property
    def words(self) -> str:
        """What was folded, in a line."""
        return f"{self.name} is {self.row.words}: {', '.join(leaf.name for leaf in (*self.sources, *self.beside))}"

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        a = self.row.compute([np.asarray(source) for source in self.sources], self.name)
        self.used = True
        return a


class Undetermined(Leaf):
    """A weight that a file does not determine: to read it is refused, by the names of what stands in its place."""

    def __init__(self, name: str, sources: Sequence[Leaf]):
        super().__init__(name, sources[0].value)
        self.sources = tuple(sources)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        raise ConvertError(
            f"{self.name!r} is parametrised: the file has {', '.join(leaf.name for leaf in self.sources)} in its "
            "place, and does not say by which function (orthogonal, or another) they become the weight. Compute it "
            "in PyTorch before saving: torch.nn.utils.parametrize.remove_parametrizations(module, "
            f"{self.name.rpartition('.')[2]!r})"
        )


def fold(leaves: Mapping[str, Leaf]) -> dict[str, Leaf]:
    """Return the arrays of a file with every weight under its usual name, in the place of what it is kept as.

    >>> g, v = Leaf("weight_hh_l0_g", np.full((8, 1), 2.0)), Leaf("weight_hh_l0_v", np.ones((8, 4)))
    >>> np.asarray(fold({"weight_hh_l0_g": g, "weight_hh_l0_v": v})["weight_hh_l0"])[0]
    array([1., 1., 1., 1.])
    """
    found = dict(leaves)
    for row in FOLDS:
        first = re.compile(rf"((?:.*\.)?){re.escape(row.names[0])}".replace(r"\{\}", f"({row.weight})"))
        for match in filter(None, map(first.fullmatch, leaves)):
            place, weight = match.groups()
            names = [place + name.format(weight) for name in row.names]
            target = place + weight
            if row.copies and any(name.startswith(f"{place}module.weight_") for name in leaves):
                target = f"{place}module.{weight}"  # fastai's wrapper keeps the raw weight, and runs what is in it
            others = {name for name in leaves if name.startswith(f"{place}parametrizations.{weight}.")} - {*names}
            if others or not found.keys() >= {*names} or (target in leaves and not row.copies):
                continue
            sources = [found.pop(name) for name in names]
            beside = [leaves[target]] if target in leaves else []
            found[target] = Folded(target, row, sources, beside)
    kept: dict[str, list[Leaf]] = {}
    for name, leaf in found.items():
        if match := re.fullmatch(PARAMETRISED, name):
            kept.setdefault(match[1] + match[2], []).append(leaf)
    for target, sources in kept.items():
        for source in sources:
            del found[source.name]
        found[target] = Undetermined(target, sources)
    return found


def names_in_file(leaf: Leaf) -> tuple[str, ...]:
    """Return the names that an array has in its file; several for what is folded."""
    return tuple(source.name for source in leaf.sources) if isinstance(leaf, Folded | Undetermined) else (leaf.name,)
