"""The frameworks that run their LSTM on our weights, one file each, and a table of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import Any

from lstmjax.replica.peers import equinox, flax, haiku, keras, onnxruntime, oracle, torch
from lstmjax.replica.peers.outcome import Head, Outcome, Part, made_by

__all__ = ["PEERS", "Outcome", "Part", "Peer", "made_by"]


@dataclass(frozen=True)
class Peer:
    """One row: a framework, and what its LSTM can do.

    `run(layers, xs [B, T, I], lengths [B] or None, d_ys [B, T, P] or None) -> Outcome` builds the framework's
    module with these weights and runs it; with cotangents d_ys the framework also computes the gradient.
    `package` is the module that must be installed, `also` what it needs beside, `distribution` its name for pip.
    `biases`: how many it keeps. `narrow`: dtypes that it cannot compute in, and why. `parts(source)` takes an
    object of the framework apart, layer by layer; None: it has none that hold weights. `load(path)` builds
    the model in a file that describes it, as the framework does, and returns a function of (xs `[B, T, I]`, lengths
    `[B]` or None); it raises `ConvertError` where the framework would run another model or code. An attribute
    `unchecked` of that function says in words which outputs and inputs of the file it leaves out. None: it has no
    such files.
    `beyond(source)` says what an object of the framework does beside its recurrent layers and
    its head, and `head(source)` returns that head, or None; None: heads are not read.
    """

    name: str
    package: str
    distribution: str
    run: Callable[..., Outcome]
    narrow: tuple[tuple[str, str], ...] = ()
    pairs: bool = True
    lengths: bool = True
    biases: int = 1
    parts: Callable[[Any], list[Part]] | None = None
    load: Callable[[Path], Callable[[Any, Any], Any]] | None = None
    beyond: Callable[[Any], tuple[str, ...]] | None = None
    head: Callable[[Any], Head | None] | None = None
    also: tuple[str, ...] = ()

    @property
    def missing(self) -> str | None:
        """Why it cannot be run at all, or None."""
        absent = [name for name in (self.package, *self.also) if find_spec(name) is None]
        return f"{' and '.join(absent)} not installed" if absent else None

    @property
    def title(self) -> str:
        """Name and version."""
        title = self.name if self.name == self.distribution else f"{self.name} of {self.distribution}"
        try:
            return f"{title} {version(self.distribution)}"
        except PackageNotFoundError:
            return title


TANH = "its tanh is float32, on all of its backends but TensorFlow"
GRAPH = "the exported graphs are float32 and float64"
PEERS = MappingProxyType(
    {
        row.name: row
        for row in (
            Peer("torch", "torch", "torch", torch.run, biases=2, parts=torch.parts),
            Peer(
                "keras",
                "keras",
                "keras",
                keras.run,
                (("float64", TANH),),
                parts=keras.parts,
                load=keras.load,
                beyond=keras.beyond,
            ),
            Peer("linen", "flax", "flax", flax.run_linen),
            Peer("nnx", "flax", "flax", flax.run_nnx, parts=flax.parts, beyond=flax.beyond, head=flax.head),
            Peer("haiku", "haiku", "dm-haiku", haiku.run, pairs=False, lengths=False),
            Peer("equinox", "equinox", "equinox", equinox.run, pairs=False, lengths=False, parts=equinox.parts),
            Peer(
                "onnxruntime",
                "onnxruntime",
                "onnxruntime",
                onnxruntime.run,
                (("bfloat16", GRAPH), ("float16", GRAPH)),
                biases=2,
                load=onnxruntime.load,
                also=("onnx",),
            ),
            Peer("oracle", "numpy", "numpy", oracle.run, biases=2),
        )
    }
)
"""All of them by name."""
