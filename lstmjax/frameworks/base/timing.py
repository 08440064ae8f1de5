"""How a framework takes part in the benchmark: its networks that are timed, and what it builds of a job."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from lstmjax.frameworks.base.running import OnJax
from lstmjax.stack import Layers
from lstmjax.types import Array

JAX_PEER, PEER = "peer on JAX", "peer"
"""Kinds of networks of other frameworks: those whose best we compare with, and others."""


class Job(NamedTuple):
    """The arrays that every competitor gets."""

    layers: Layers
    xs: Array  # [B, T, I]
    weights: Array  # [B, T, H or 2H]  of the outputs in the loss, the sum of weights · ys
    mode: str  # "forward", or "training": with gradients of all parameters and of xs


class Eager(NamedTuple):
    """A network outside of JAX, ready to run."""

    call: Callable[[], Any]  # returns its result when it is computed
    to_ours: Callable[[Any], Any]  # result -> ys; in training (gradients of the layers in our form, that of xs)


@dataclass(frozen=True)
class Timed:
    """One row: a network of a framework that is timed; fields after `packages` say where it does not take part."""

    name: str
    build: Callable[[Job], OnJax | Eager]
    packages: tuple[str, ...] = ()
    kind: str = JAX_PEER
    trains: bool = True
    pairs: bool = True  # two directions
    dtypes: tuple[str, ...] = ("float32", "bfloat16")
    platforms: tuple[str, ...] = ("cpu", "gpu", "tpu")
