"""PyTorch's weights that are stored in another form: a direction and a length, a raw copy, a matrix to be divided.

Each row of a table has the names of the arrays that are stored instead of a weight, and how PyTorch computes the weight
from them outside of training. `fold` replaces them by the weight; a weight that they do not determine is refused.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lstmjax.frameworks.base.contents import Leaf
from lstmjax.frameworks.base.layouts import ConvertError

PARAMETRISED = r"((?:.*\.)?)parametrizations\.([^.]+)\..+"


@dataclass(frozen=True)
class Fold:
    """One form in which PyTorch stores a weight.

    Attributes:
        names: the names of the arrays that are stored, with {} for the name of the weight.
        compute: returns the weight; takes the arrays, and the name of the weight for messages.
        words: how the weight is computed.
        weight: a pattern of the names of weights that are stored so.
        copies: the file may also have a copy of the weight itself, from the last training step.
    """

    names: tuple[str, ...]
    compute: Callable[[Sequence[np.ndarray], str], np.ndarray]
    words: str
    weight: str = r"(?:weight|bias)[^.]*"
    copies: bool = False


def _weight_norm(arrays: Sequence[np.ndarray], name: str) -> np.ndarray:
    """Return W = g · v / ‖v‖, the norm over all axes but that of g (Salimans & Kingma 2016, eq. 2)."""
    g, v = arrays
    sizes = (1,) * v.ndim if g.ndim == 0 else g.shape  # without an axis: a single length
    axes_of_g = [axis for axis, size in enumerate(sizes) if size != 1]
    if len(sizes) != v.ndim or len(axes_of_g) > 1 or any(sizes[axis] != v.shape[axis] for axis in axes_of_g):
        raise ConvertError(
            f"{name} is kept as arrays of shape {g.shape} and {v.shape}; weight_norm has one length for each row"
        )
    wide = v.astype(np.float64)
    axes = tuple(axis for axis in range(v.ndim) if axis not in axes_of_g)
    length = np.sqrt((wide * wide).sum(axis=axes, keepdims=True))
    if not length.all():
        raise ConvertError(f"{name} cannot be computed: weight_norm divides by the length of a row of zeros")
    return (wide * (g.astype(np.float64).reshape(sizes) / length)).astype(v.dtype)


def _pruned(arrays: Sequence[np.ndarray], name: str) -> np.ndarray:
    """Return W · mask, as `torch.nn.utils.prune` has it."""
    w, mask = arrays
    if w.shape != mask.shape:
        raise ConvertError(f"{name} is kept as arrays of shape {w.shape} and {mask.shape}; a mask has the weight's")
    return (w * mask).astype(w.dtype)


def _spectral_norm(arrays: Sequence[np.ndarray], name: str) -> np.ndarray:
    """Return W / (u · W v), with u and v of the last training step (Miyato et al. 2018, eq. 8 and 9)."""
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
    Fold(("{}_orig", "{}_mask"), _pruned, "pruned, the stored weight times its mask"),
    Fold(
        ("{}_raw",),
        _raw,
        "the raw weight of WeightDrop, without the dropout of training",
        weight=r"weight_(?:ih|hh|hr)[^.]*",
        copies=True,
    ),
)
"""What PyTorch stores instead of a weight, and AWD-LSTM (Merity et al. 2018, section 2)."""


class Parametrised(Leaf):
    """A weight for which a file has other arrays, its sources."""

    def __init__(self, name: str, value: Any, sources: Sequence[Leaf]):
        super().__init__(name, value)
        self.sources = tuple(sources)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of its sources."""
        return tuple(source.name for source in self.sources)


class Folded(Parametrised):
    """A weight that is computed from other arrays when it is read; `copies` of it in the file are left out."""

    def __init__(self, name: str, row: Fold, sources: Sequence[Leaf], copies: Sequence[Leaf] = ()):
        super().__init__(name, max(sources, key=lambda source: math.prod(source.shape or ())).value, sources)
        self.row = row
        stored = ", ".join(leaf.name for leaf in (*sources, *copies))
        self.words = f"{name} is {row.words}: {stored}"
        if "parametrizations." in sources[0].name:  # the names of a parametrisation are the same for any function
            self.assumed = f"the parametrisation of {name} as {row.words}"

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        a = self.row.compute([np.asarray(source) for source in self.sources], self.name)
        self.used = True
        return a


class Undetermined(Parametrised):
    """A weight that a file does not determine: reading it is refused, with the names of what is stored instead."""

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        raise ConvertError(
            f"{self.name!r} is parametrised: the file has {', '.join(self.names)} in its "
            "place, and does not say by which function (orthogonal, or another) they become the weight. Compute it "
            "in PyTorch before saving: torch.nn.utils.parametrize.remove_parametrizations(module, "
            f"{self.name.rpartition('.')[2]!r})"
        )


def fold(leaves: Mapping[str, Leaf]) -> dict[str, Leaf]:
    """Return the arrays of a file with each weight under its usual name, instead of the arrays that it is stored as.

    >>> g, v = Leaf("weight_hh_l0_g", np.full((8, 1), 2.0)), Leaf("weight_hh_l0_v", np.ones((8, 4)))
    >>> np.asarray(fold({"weight_hh_l0_g": g, "weight_hh_l0_v": v})["weight_hh_l0"])[0]
    array([1., 1., 1., 1.])
    """
    folded = dict(leaves)
    for row in FOLDS:
        first = re.compile(rf"((?:.*\.)?){re.escape(row.names[0])}".replace(r"\{\}", f"({row.weight})"))
        for leaf_name in leaves:
            match = first.fullmatch(leaf_name)
            if match is None:
                continue
            module, weight = match.groups()
            names = [module + name.format(weight) for name in row.names]
            target = module + weight
            if row.copies and any(name.startswith(f"{module}module.weight_") for name in leaves):
                target = f"{module}module.{weight}"  # fastai's wrapper keeps the raw weight, and runs what is in it
            others = {name for name in leaves if name.startswith(f"{module}parametrizations.{weight}.")} - {*names}
            if others or not folded.keys() >= {*names} or (target in leaves and not row.copies):
                continue
            sources = [folded.pop(name) for name in names]
            copies = [leaves[target]] if target in leaves else []
            folded[target] = Folded(target, row, sources, copies)
    undetermined: dict[str, list[Leaf]] = {}
    for name, leaf in folded.items():
        if match := re.fullmatch(PARAMETRISED, name):
            undetermined.setdefault(match[1] + match[2], []).append(leaf)
    for target, sources in undetermined.items():
        for source in sources:
            del folded[source.name]
        folded[target] = Undetermined(target, sources[0].value, sources)
    return folded
