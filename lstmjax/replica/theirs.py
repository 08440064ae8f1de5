"""The other side of `verify`: whatever it is given as, its weights in our form and what it computes."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import numpy as np

from lstmjax.arguments import kind
from lstmjax.cells import VANILLA, Cell, identity
from lstmjax.convert import from_haiku, from_linen, from_torch
from lstmjax.convert.architecture import LOGITS, Architecture, assumptions, called, same_cell
from lstmjax.convert.find import find as find_weights
from lstmjax.convert.find import has_pairs, listed
from lstmjax.convert.layouts import ConvertError, as_layers, numbers
from lstmjax.convert.model import Model
from lstmjax.errors import Either, Message, message_of
from lstmjax.networks import Dense, NetworkParams
from lstmjax.oracle_cells import STEPS
from lstmjax.replica.peers import PEERS, Part, Peer, made_by, oracle
from lstmjax.replica.sides import Arrays
from lstmjax.stack import Layers
from lstmjax.types import Bidirectional, LSTMParams, Step

Array = np.ndarray
RECORDED = Either("outputs of the other side, and params=load_model(path).", "--outputs of the other side.")
Call = Callable[[Array, Array | None], Any]
"""(xs `[B, T, I]`, lengths `[B]` or None) -> ys `[B, T, P]`."""


PLAIN = Architecture()


@dataclass(frozen=True)
class Theirs:
    """The other side before it has run.

    `calls` are its layers, each run on what the one below gave; or there is `whole`, which gives what was
    recorded, or what a model computes as its file describes it. `precision` is the dtype that its numbers are good
    to. `architecture` is how our side is run, and `unchecked` says what a verdict does not cover.
    """

    who: str
    layers: Layers
    head: Dense | None
    precision: str
    calls: tuple[Call, ...] = ()
    whole: Callable[[Array, Array | None], Any] | None = None
    architecture: Architecture = PLAIN
    unchecked: tuple[str, ...] = ()

    @property
    def dtype(self) -> str:
        """That of the weights."""
        return str(jax.tree.leaves(self.layers)[0].dtype)

    @property
    def model(self) -> Model:
        """Our side as the source describes it."""
        params = self.layers if self.head is None else NetworkParams(self.layers, self.head)
        return Model(params, self.architecture)


def find(theirs: Any, params: Any, cell: Cell | None, merge: str | None) -> Theirs:
    """Return the other side as it was given, its weights carried over; see `verify`.

    Raises:
        ConvertError: the weights cannot be carried over.
        TypeError: it is nothing that can be verified.
    """
    row = Architecture(cell or VANILLA, merge or "concat")
    with jax.enable_x64(True):  # float64 weights stay float64
        if params is not None:
            weights = params
            if isinstance(params, Model):
                fault = params.architecture.mismatch(cell, merge, has_pairs(params.params))
                if fault is not None:
                    raise ValueError(Message("params is a Model: ", fault))
                weights, row = params.params, params.architecture
            layers, head = _split(weights)
            name = getattr(theirs, "__name__", None) or f"a {kind(theirs)}"
            who = f"the function {name}" if callable(theirs) else "the recorded outputs"
            whole = (lambda xs, lengths: theirs(xs)) if callable(theirs) else lambda xs, lengths: theirs
            return Theirs(who, layers, head, str(layers_dtype(layers)), whole=whole, architecture=row)
        if isinstance(theirs, str | Path):
            theirs = File(Path(theirs))
        if isinstance(theirs, File):
            return _of_file(theirs, cell, merge)
        if isinstance(theirs, LSTMParams | Bidirectional | NetworkParams) or _is_layers(theirs):
            return _rebuilt(theirs, PEERS["oracle"], "", row)
        if isinstance(theirs, Mapping):
            name, reader = next(
                (n, r) for pattern, n, r in MAPPINGS if any(re.search(pattern, str(k)) for k in theirs or [""])
            )
            layers = reader(theirs)
            assumed = ", ".join(assumptions(has_pairs(layers), False, row.cell, row.merge))
            words = (
                "nothing of the architecture was checked: these are weights alone. Assumed on both sides: " + assumed
            )
            return _rebuilt(layers, PEERS[name], " with these weights", row, (words,))
        first = theirs[0] if isinstance(theirs, list | tuple) and theirs else theirs
        for peer in PEERS.values():
            if peer.parts is not None and made_by(first, peer.package):
                side = _own(peer, peer.parts(theirs), type(first).__name__, cell, merge)
                more = () if peer.beyond is None else peer.beyond(theirs)
                words = f"its recurrent layers alone were compared, not {', '.join(more)}"
                return replace(side, unchecked=(*side.unchecked, words)) if more else side
    raise TypeError(
        f"theirs is {kind(theirs)}, expected the path of a weights file, a module of PyTorch, Keras, NNX or Equinox, a "
        "mapping of weights; or, with params=, recorded outputs or a function of xs."
    )


MAPPINGS: tuple[tuple[str, str, Callable[[Any], Layers]], ...] = (
    (r"weight_ih(_l0)?$", "torch", from_torch),
    (r"(^|/)linear$", "haiku", from_haiku),
    (r"", "linen", from_linen),
)
"""Of a mapping of weights: what stands in its names, whose it is, and what reads it."""


@dataclass(frozen=True)
class File:
    """A weights file, and what to read of it, as `load_weights` takes it."""

    path: Path
    form: str | None = None
    prefix: str | None = None
    names: Sequence[str] | None = None
    head: str | None = None
    extra: str = "refuse"


class Read(NamedTuple):
    """What a file holds."""

    model: Model
    runner: str  # the peer that runs its layers
    left: tuple[str, ...]  # what else there is in it, and was dropped


def model_of_file(file: File, cell: Cell | None = None, merge: str | None = None) -> Read:
    """Return the model in a weights file, the peer that runs its layers, and what was dropped on request.

    Raises:
        ConvertError: it cannot be read, or says more than a `Model` does, so that another one would be verified.
    """
    with jax.enable_x64(True):  # float64 weights stay float64
        found = find_weights(
            file.path,
            form=file.form,
            prefix=file.prefix,
            names=file.names,
            head=file.head,
            extra=file.extra,
            cell=cell,
            merge=merge,
        )
    return Read(Model(found.params, found.architecture), RUNS.get(found.form, "oracle"), found.left)


def _of_file(file: File, cell: Cell | None, merge: str | None) -> Theirs:
    """Return what a file is run by: by its framework as the file says, else layer by layer with its weights."""
    model, name, left = model_of_file(file, cell, merge)
    path = file.path
    peer, row = PEERS[name], model.architecture
    dropped = (f"left out on both sides: {listed(left)}",) if left else ()
    if not row.stated:
        holds = "was read as weights alone" if left else "holds weights alone"
        words = f"nothing of the architecture was checked: {path.name} {holds}. "
        words += f"Assumed on both sides: {', '.join(row.assumed)}"
        return _rebuilt(model.params, peer, f" with the weights of {path}", row, (words, *dropped))
    layers, head = _split(model.params)
    dtype = str(layers_dtype(layers))
    why = "a part of it was dropped" if left else peer.missing
    if peer.load is not None and why is None:
        try:
            whole = peer.load(path)
        except ConvertError as error:
            why = str(error)
        else:
            precision = "float32" if dtype in dict(peer.narrow) else dtype
            who = f"the model in {path}, as {peer.title} builds it"
            left = getattr(whole, "unchecked", ())
            return Theirs(
                who, layers, head, precision, whole=partial(_batched, whole), architecture=row, unchecked=left
            )
    reason = f" ({why})" if why else ""
    words = f"nothing of the architecture was checked: both sides ran as lstmjax reads {path.name}{reason}"
    try:
        return _rebuilt(model.params, PEERS["oracle"], f" with the weights of {path}", row, (words, *dropped))
    except ValueError as error:
        raise ValueError(message_of(error, f"{path} cannot be run by {peer.name}{reason}, and ")) from None


def _batched(whole: Call, xs: Array, lengths: Array | None) -> Array:
    """Return what a model that takes batches gives of xs, `[B, T, I]` or `[T, I]`."""
    return whole(xs, lengths) if xs.ndim == 3 else whole(xs[None], lengths)[0]


RUNS = MappingProxyType({name: name for name in PEERS} | {"onnx": "onnxruntime"})
"""Whose names a file has, and who runs it."""


def outputs(theirs: Theirs, xs: Array, lengths: Array | None, batched: bool) -> tuple[list[Arrays | None], bool]:
    """Gives what each layer of theirs computes, and the head; None where that is not known.

    Args:
        theirs: the other side.
        xs: inputs `[B, T, I]` in the dtype of the weights.
        lengths: `[B]` or None.
        batched: whether what is recorded has a batch axis.

    Returns:
        (arrays, last): `[B, T, ...]`, or `[B, 1, ...]` and last=True if only the last step is known.
    """
    if theirs.whole is not None:
        return _recorded(theirs, xs, lengths, batched)
    found: list[Arrays | None] = []
    for call in theirs.calls:
        ys = np.asarray(call(xs, lengths))
        found.append({"h": ys})
        xs = ys.astype(xs.dtype)
    if theirs.head is not None:
        w, b = (np.asarray(a, np.float64) for a in theirs.head)
        found.append({"y": xs.astype(np.float64) @ w + b})
    return found, False


def layers_dtype(layers: Layers) -> np.dtype:
    """Gives the dtype of the weights, which is one for all."""
    kinds = {a.dtype for a in jax.tree.leaves(layers)}
    if len(kinds) > 1:
        raise ValueError(f"the weights are {', '.join(sorted(map(str, kinds)))}; cast them to one dtype.")
    return kinds.pop()


def _split(params: Any) -> tuple[Layers, Dense | None]:
    head = params.head if isinstance(params, NetworkParams) else None
    layers = as_layers(params.layers if isinstance(params, NetworkParams) else params)
    layers, head = jax.tree.map(np.asarray, (layers, head))
    layers_dtype(layers)
    return layers, head


def _is_layers(theirs: Any) -> bool:
    return isinstance(theirs, tuple | list) and bool(theirs) and isinstance(theirs[0], LSTMParams | Bidirectional)


def _rebuilt(
    params: Any, peer: Peer, weights: str, architecture: Architecture, unchecked: tuple[str, ...] = ()
) -> Theirs:
    """Return the layers of a file or of a mapping, each run by the framework they are from, or else by the oracle."""
    layers, head = _split(params)
    dtype, cell, merge = str(layers_dtype(layers)), architecture.cell, architecture.merge
    cannot = peer.missing or dict(peer.narrow).get(dtype)
    if peer.run is not oracle.run and not same_cell(cell, VANILLA):
        cannot = cannot or "it is asked for plain layers only"
    if cannot is None and peer.run is not oracle.run:
        knows = peer.lengths  # without them a framework has no reverse direction that they would matter to

        def call(layer: Any, xs: Array, lengths: Array | None) -> Array:
            return joined(peer.run((layer,), xs, lengths if knows else None).ys, layer, merge)

        calls = tuple(partial(call, layer) for layer in layers)
        return Theirs(
            f"{peer.title}{weights}", layers, head, dtype, calls, architecture=architecture, unchecked=unchecked
        )
    if cell.name not in STEPS:
        raise ValueError(Message(f"the oracle has no cell {cell.name!r}; pass ", RECORDED))
    if architecture.mask_value is not None:
        raise ValueError(Message("the oracle computes no masks of its own; pass ", RECORDED))
    if architecture.readout not in LOGITS:
        raise ValueError(f"the oracle has no head with {called(architecture.readout)}; pass outputs of the other side.")
    if architecture.readout is not identity:  # both sides are looked at before it
        unchecked = (*unchecked, f"{called(architecture.readout)} after the head was not checked")
        architecture = replace(architecture, readout=identity)
    why = f" (in the place of {peer.name}: {cannot})" if cannot else ""
    ways = architecture.directions or ("forward",) * len(layers)
    calls = tuple(
        partial(oracle.run_layer, layer, cell.name, merge, way) for layer, way in zip(layers, ways, strict=True)
    )
    who = f"the NumPy oracle{why}{weights}"
    return Theirs(who, layers, head, dtype, calls, architecture=architecture, unchecked=unchecked)


def joined(ys: Array, layer: Any, merge: str) -> Array:
    """Return what a layer gives of its directions side by side."""
    if merge == "concat" or not isinstance(layer, Bidirectional):
        return ys
    half = ys.shape[-1] // 2
    return ys[..., :half] + ys[..., half:]


def _own(peer: Peer, parts: list[Part], name: str, cell: Cell | None, merge: str | None) -> Theirs:
    """Return the layers of a framework's object, each run by itself; ours run as it says, or as the caller says."""
    layers = _split(tuple(part.layer for part in parts))[0]
    dtype = str(layers_dtype(layers))
    precision = "float32" if dtype in dict(peer.narrow) else dtype
    if merge is None:
        merges = {part.merge for part in parts if isinstance(part.layer, Bidirectional)} or {"concat"}
        if len(merges) > 1:
            raise ValueError(
                "theirs joins directions by 'concat' in one layer and by 'sum' in another; pass one layer."
            )
        merge = merges.pop()
    if cell is None:
        cell = parts[0].cell
        other = next((part.cell for part in parts if not same_cell(part.cell, cell)), None)
        if other is not None:
            raise ValueError(f"theirs has layers of the cells {cell.name!r} and {other.name!r}; pass one layer.")
    ways = tuple(part.direction for part in parts)
    row = Architecture(cell, merge, directions=ways if any(way != "forward" for way in ways) else ())
    calls = tuple(part.call for part in parts)
    unchecked = tuple(dict.fromkeys(words for part in parts for words in part.unchecked))
    return Theirs(f"the {name} of {peer.title}", layers, None, precision, calls, architecture=row, unchecked=unchecked)


def _recorded(theirs: Theirs, xs: Array, lengths: Array | None, batched: bool) -> tuple[list[Arrays | None], bool]:
    assert theirs.whole is not None
    given = theirs.whole(xs if batched else xs[0], lengths)
    count = len(theirs.layers) + (theirs.head is not None)
    each = list(given) if isinstance(given, list) else [None] * (count - 1) + [given]
    if len(each) != count:
        raise ValueError(
            f"theirs is a list of {len(each)}, expected what each of {count} layers gives, from the bottom."
        )
    named = [None if one is None else _named(one, n == len(theirs.layers)) for n, one in enumerate(each)]
    if not batched:
        named = [None if one is None else {name: a[None] for name, a in one.items()} for one in named]
    ranks = {a.ndim for one in named if one is not None for a in one.values()}
    if ranks not in ({2}, {3}):
        raise ValueError(f"theirs has arrays of {ranks} axes; expected outputs of all steps, or of the last one.")
    last = ranks == {2}
    found: list[Arrays | None] = [
        None if one is None else {k: a[:, None] if last else a for k, a in one.items()} for one in named
    ]
    return found, last


def _named(one: Any, head: bool) -> dict[str, Array]:
    """Gives recorded arrays by name; one array alone is the outputs."""
    if isinstance(one, Step):
        one = one._asdict()
    known = ("y",) if head else Step._fields
    if not isinstance(one, Mapping):
        one = {known[-1]: one}
    unknown = [name for name in one if name not in known]
    if unknown:
        raise ValueError(f"theirs has {', '.join(map(repr, unknown))}; known names are {', '.join(known)}.")
    return {name: numbers(a) for name, a in one.items() if a is not None}
