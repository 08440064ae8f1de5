"""Random networks to run on both sides, drawn from a seed; the extremes are always among them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import jax
import ml_dtypes
import numpy as np

from lstmjax.init import PRESETS
from lstmjax.init_stack import init_stacked
from lstmjax.stack import Layers


class Drawn(NamedTuple):
    """The arrays of a case, in NumPy; float64 as they are drawn."""

    layers: Layers
    xs: np.ndarray  # [B, T, I]
    lengths: np.ndarray | None  # [B], from 1 to T, at least one of them T
    d_ys: np.ndarray  # [B, T, P or 2P]  cotangents of the outputs, zero at padding
    valid: np.ndarray  # [B, T, 1]  which steps are compared

    def rounded(self, dtype: str) -> Drawn:
        """Return the same numbers, rounded to a dtype."""
        narrow = ml_dtypes.finfo(dtype).dtype
        layers = jax.tree.map(lambda a: a.astype(narrow), self.layers)
        return self._replace(layers=layers, xs=self.xs.astype(narrow), d_ys=self.d_ys.astype(narrow))


@dataclass(frozen=True)
class Case:
    """A network and its inputs, by their sizes; the numbers come from the seed."""

    inputs: int
    hidden: int
    steps: int
    layers: int = 1
    pair: bool = False
    ragged: bool = False
    bias: str | None = "single"
    init: str = "default"
    batch: int = 2
    seed: int = 0

    @property
    def scans(self) -> int:
        """Number of layers, each direction by itself."""
        return self.layers * (1 + self.pair)

    def __str__(self) -> str:
        words = [f"I={self.inputs} H={self.hidden} T={self.steps} L={self.layers}"]
        if self.pair:
            words.append("two directions")
        if self.ragged:
            words.append("lengths")
        if self.bias != "single":
            words.append("no bias" if self.bias is None else "two biases")
        return ", ".join([*words, f"init {self.init}"])

    def draw(self) -> Drawn:
        """Return weights at the scale of the preset, and normal inputs and cotangents."""
        rng = np.random.default_rng(self.seed)
        with jax.enable_x64(True):
            layers = init_stacked(
                jax.random.key(self.seed),
                self.inputs,
                self.hidden,
                self.layers,
                bidirectional=self.pair,
                bias=self.bias,
                init=self.init,
                dtype=np.float64,
            )
        lengths = rng.integers(1, self.steps + 1, self.batch) if self.ragged else None
        if lengths is not None:
            lengths[0] = self.steps
        longest = np.full(self.batch, self.steps) if lengths is None else lengths
        valid = (np.arange(self.steps) < longest[:, None])[..., None]
        xs = rng.normal(size=(self.batch, self.steps, self.inputs))
        d_ys = rng.normal(size=(self.batch, self.steps, self.hidden * (1 + self.pair))) * valid
        return Drawn(jax.tree.map(np.asarray, layers), xs, lengths, d_ys, valid)


EXTREMES = (
    Case(3, 1, 200),
    Case(300, 300, 200, init="equinox"),
    Case(7, 5, 1, layers=2, pair=True, init="keras"),
    Case(1, 13, 20, pair=True, ragged=True, bias=None, init="haiku"),
    Case(4, 6, 200, layers=3, pair=True, ragged=True, bias="double", init="torch"),
)
"""One unit, many units, one step, many steps, no bias and two biases: always among the cases."""


def draw_cases(count: int, seed: int) -> list[Case]:
    """Return `count` networks: the extremes, then random ones with I and H up to 300, T to 200, and up to 3 layers."""
    rng = np.random.default_rng(seed)

    def up_to(largest: int) -> int:  # uniform on a logarithmic scale: most networks are small, some large
        return math.floor(math.exp(rng.uniform(0, math.log(largest + 1))))

    presets = list(PRESETS)
    cases = list(EXTREMES)
    while len(cases) < count:
        cases.append(
            Case(
                up_to(300),
                up_to(300),
                up_to(200),
                layers=int(rng.choice([1, 1, 1, 2, 2, 3])),
                pair=bool(rng.integers(2)),
                ragged=bool(rng.integers(2)),
                init=presets[rng.integers(len(presets))],
                batch=int(rng.integers(1, 4)),
                seed=int(rng.integers(2**31)),
            )
        )
    return cases[:count]
