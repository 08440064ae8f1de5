"""What is known of a framework: how its weights are laid out and named, its files, how it is run, and its card."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from lstmjax.draws import Preset
from lstmjax.frameworks.base.card import Card
from lstmjax.frameworks.base.contents import Contents, Leaf
from lstmjax.frameworks.base.layouts import Layout
from lstmjax.frameworks.base.model import Model
from lstmjax.frameworks.base.running import Head, Outcome, Part
from lstmjax.frameworks.base.timing import Stepped, Timed
from lstmjax.networks import Dense, NetworkParams
from lstmjax.stack import Layers

Leaves = Mapping[str, Leaf]
Order = Sequence[str] | None
Pairs = Mapping[str, str] | None


@dataclass(frozen=True)
class Framework:
    """One row: a framework, and what it has; None or empty: it has no such thing.

    Attributes:
        name: of the framework, and of its form in messages and on the command line.
        layout: the layout of its arrays.
        form: the names of its arrays in files.
        files: the kinds of files that are its own.
        runs: what its LSTM can do beyond running vanilla layers forward, some of `architecture.SETTINGS`.
        title: how messages call its LSTM; "": by its name.
        fold: replaces arrays of a file that stand for a weight by that weight.
        peer: how it is run.
        cards: what its LSTM is, and how to build it here.
        initial: the distributions of its initial values.
        timed: its networks that take part in the benchmark.
        stepped: those that are timed one step after the other.
    """

    name: str
    layout: Layout | None = None
    form: Form | None = None
    files: tuple[Container, ...] = ()
    runs: tuple[str, ...] = ()
    title: str = ""
    fold: Callable[[Leaves], dict[str, Leaf]] | None = None
    peer: Peer | None = None
    cards: tuple[Card, ...] = ()
    initial: tuple[Preset, ...] = ()
    timed: tuple[Timed, ...] = ()
    stepped: tuple[Stepped, ...] = ()


def unchanged(leaves: Leaves) -> Leaves:
    """Return the leaves under the names that they have."""
    return leaves


@dataclass(frozen=True)
class Form:
    """The names of the arrays of one framework.

    Attributes:
        mark: a pattern of a name that no other form has.
        read: returns the layers, or the network if its head has a reserved name; takes the arrays, the order of the
            layers and the pairs of `Contents`.
        write: takes layers, the head or None, and sum_biases.
        dense: the ends of the names of the weights and the bias of a Dense layer.
        normal: renames arrays if a framework has two kinds of names.
        state: a pattern of names of state of optimizers and of random numbers, which is left out.
        modules: the order of layers is that of modules, of which each may have several layers; a file lists arrays in
            the order in which their modules were made.
        assumed: what is assumed of bare weights, in words, where neither activations nor merges are open.
    """

    mark: str
    read: Callable[[Leaves, Order, Pairs], Layers | NetworkParams]
    write: Callable[[Layers, Dense | None, bool], Contents]
    dense: tuple[str, str] | None = None
    normal: Callable[[Leaves], Leaves] = unchanged
    state: str = r"(?!)"
    modules: bool = False
    assumed: tuple[str, ...] = ()


@dataclass(frozen=True)
class Container:
    """A kind of file. Messages call it by `words`; `forms` are those that it can be written in, the default first.

    `parts` is the end of the name of each part of a model that is stored in several such files, with an index of them.
    """

    ends: tuple[str, ...]
    words: str
    read: Callable[[Path], Contents]
    write: Callable[[Contents, Path], None] | None = None
    forms: tuple[str, ...] = ()
    parts: str = ""


@dataclass(frozen=True)
class Peer:
    """How a framework runs its LSTM on our weights, and what that LSTM can do.

    `run(layers, xs [B, T, I], lengths [B] or None, d_ys [B, T, P] or None) -> Outcome` builds the framework's
    module with these weights and runs it; with cotangents d_ys the framework also computes the gradient.
    `package` is the module that must be installed, `also` what it needs beside, `distribution` its name for pip.
    `biases`: how many it keeps. `narrow`: dtypes that it cannot compute in, and why. `parts(source)` takes an
    object of the framework apart, layer by layer; None: it has none that hold weights. `load(path)` builds
    the model in a file that describes it, as the framework does, and returns a function of (xs `[B, T, I]`, lengths
    `[B]` or None); it raises `ConvertError` where the framework would run another model or code. An attribute
    `unchecked` of that function says in words which outputs and inputs of the file it leaves out. None: it has no
    such files.
    `itself(source)` returns an object of the framework as a `Model`, or the only LSTM in it as layers, and a function
    of (xs `[B, T, I]`, lengths `[B]` or None) that runs the object, or that LSTM in it; or None, if no `Model` can say
    what it computes. None: objects are taken apart instead.
    `beyond(source)` says what an object of the framework does beside its recurrent layers and
    its head, and `head(source)` returns that head, or None; None: heads are not read.
    `mapping`: a pattern of the names in a mapping of its weights, and the function that reads the layers of one; an
    empty pattern is for mappings that no other row recognises.
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
    itself: Callable[[Any], tuple[Layers | Model, Callable[[Any, Any], Any]] | None] | None = None
    beyond: Callable[[Any], tuple[str, ...]] | None = None
    head: Callable[[Any], Head | None] | None = None
    also: tuple[str, ...] = ()
    mapping: tuple[str, Callable[[Any], Layers]] | None = None

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
