"""The other side of `verify`, in whatever form it comes: its weights in our form, and what it computes."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from lstmjax.arguments import kind
from lstmjax.cells import VANILLA, Cell, identity
from lstmjax.convert.find import find as find_weights
from lstmjax.convert.find import has_pairs, listed
from lstmjax.convert.options import Selection
from lstmjax.errors import Either, Message, Named, message_of
from lstmjax.frameworks import FRAMEWORKS, PEERS, oracle
from lstmjax.frameworks.base.architecture import LOGITS, Architecture, assumptions, called, same_cell
from lstmjax.frameworks.base.contents import as_leaves, unread
from lstmjax.frameworks.base.framework import Peer
from lstmjax.frameworks.base.layouts import ConvertError, as_layers, numbers
from lstmjax.frameworks.base.model import Model
from lstmjax.frameworks.base.running import joined, made_by
from lstmjax.networks import Dense, NetworkParams
from lstmjax.oracle_cells import STEPS
from lstmjax.parameters import are_parameters, parameters_of
from lstmjax.replica.sides import Arrays
from lstmjax.stack import Layers
from lstmjax.types import Bidirectional, Step

Array = np.ndarray
RECORDED = Either("outputs of the other side, and params=load_model(path).", "--outputs of the other side.")
Call = Callable[[Array, Array | None], Any]
"""(xs `[B, T, I]`, lengths `[B]` or None) -> ys `[B, T, P]`."""


PLAIN = Architecture()


@dataclass(frozen=True)
class Theirs:
    """The other side before it has run.

    `calls` are its layers, each of which runs on what the one below computed; or there is `model`, a function that
    returns what was recorded, or what a model computes as its file describes it. `head_call` runs the head of an
    object on the outputs of its last layer; None: the head is computed here. `precision` is the dtype that its
    numbers are good to. `architecture` is how our side runs, and `unchecked` says what a verdict does not cover.
    """

    who: str
    layers: Layers
    head: Dense | None
    precision: str
    calls: tuple[Call, ...] = ()
    model: Call | None = None
    head_call: Callable[[Array], Array] | None = None
    architecture: Architecture = PLAIN
    unchecked: tuple[str, ...] = ()

    @property
    def dtype(self) -> str:
        """Dtype of the weights."""
        return str(jax.tree.leaves(self.layers)[0].dtype)

    @property
    def our_model(self) -> Model:
        """Our side as the source describes it."""
        params = self.layers if self.head is None else NetworkParams(self.layers, self.head)
        return Model(params, self.architecture)


def find(theirs: Any, params: Any, cell: Cell | None, merge: str | None, selection: Selection) -> Theirs:
    """Return the other side with its weights in our form; see `verify`.

    Raises:
        ConvertError: the weights cannot be carried over.
        ValueError: there are options of a file, and theirs is none.
        TypeError: it is nothing that can be verified.
    """
    is_path = params is None and isinstance(theirs, str | Path)
    for name, value in selection._asdict().items():
        if not is_path and value != Selection._field_defaults[name]:
            what = "with params= theirs is what was recorded" if params is not None else f"theirs is {kind(theirs)}"
            raise ValueError(
                Message(
                    Named(name), f" is {value!r}, which is for the path of a weights file, but {what}. Leave it out."
                )
            )
    architecture = Architecture(cell or VANILLA, merge or "concat")
    with jax.enable_x64(True):  # float64 weights stay float64
        if params is not None:
            return _recorded(theirs, params, cell, merge, architecture)
        if is_path:
            return _of_file(Path(theirs), selection, cell, merge)
        if are_parameters(theirs):
            return _rebuilt(theirs, PEERS["oracle"], "", architecture)
        if isinstance(theirs, Mapping):
            return _of_mapping(theirs, architecture)
        first = theirs[0] if isinstance(theirs, list | tuple) and theirs else theirs
        for peer in PEERS.values():
            if (peer.parts is not None or peer.itself is not None) and made_by(first, peer.package):
                return _itself(peer, theirs, cell, merge) or _of_object(peer, theirs, type(first).__name__, cell, merge)
    raise TypeError(
        f"theirs is {kind(theirs)}, expected the path of a weights file, a module of PyTorch, Keras, NNX or Equinox, a "
        "mapping of weights; or, with params=, recorded outputs or a function of xs."
    )


def _recorded(theirs: Any, params: Any, cell: Cell | None, merge: str | None, architecture: Architecture) -> Theirs:
    """Return recorded outputs, or a function of xs, as a side that is said to have these parameters."""
    if isinstance(params, Model):
        fault = params.architecture.mismatch(cell, merge, has_pairs(params.params))
        if fault is not None:
            raise ValueError(Message("params is a Model: ", fault))
        architecture = params.architecture
        params = params.params
    layers, head = _split(params)
    precision = str(layers_dtype(layers))
    who = "the recorded outputs"
    if callable(theirs):
        who = f"the function {theirs.__name__}" if hasattr(theirs, "__name__") else f"{kind(theirs)} that was called"

    def model(xs: Array, lengths: Array | None) -> Any:
        return theirs(xs) if callable(theirs) else theirs

    return Theirs(who, layers, head, precision, model=model, architecture=architecture)


def _of_mapping(weights: Mapping, architecture: Architecture) -> Theirs:
    """Return a mapping of weights as the framework runs them whose names it has."""
    keys = [str(key) for key in weights or [""]]
    rows = [(*peer.mapping, peer) for peer in PEERS.values() if peer.mapping is not None]
    rows.sort(key=lambda row: row[0] == "")  # an empty pattern matches any name
    reader, peer = next(row[1:] for row in rows if any(re.search(row[0], key) for key in keys))
    leaves = as_leaves(weights)
    layers = reader(leaves)
    others = [leaf.name for leaf in unread(leaves)]
    omissions = (f"left out on both sides: {listed(others)}",) if others else ()
    assumed = ", ".join(assumptions(has_pairs(layers), False, architecture.cell, architecture.merge))
    words = "nothing of the architecture was checked: these are weights alone. Assumed on both sides: " + assumed
    return _rebuilt(layers, peer, " with these weights", architecture, (words, *omissions))


class Read(NamedTuple):
    """What a file holds."""

    model: Model
    peer: Peer  # that runs its layers
    dropped: tuple[str, ...]  # what else is in it


def model_of_file(path: Path, selection: Selection, cell: Cell | None = None, merge: str | None = None) -> Read:
    """Return the model in a weights file, the peer that runs its layers, and what was dropped on request.

    Raises:
        ConvertError: it cannot be read, or says more than a `Model` does, so that another one would be verified.
    """
    with jax.enable_x64(True):  # float64 weights stay float64
        contents = find_weights(path, selection, cell=cell, merge=merge)
    model = Model(contents.params, contents.architecture)
    row = FRAMEWORKS.get(contents.form)
    peer = PEERS["oracle"] if row is None or row.peer is None else row.peer
    return Read(model, peer, contents.others)


def _of_file(path: Path, selection: Selection, cell: Cell | None, merge: str | None) -> Theirs:
    """Return what runs a file: its framework as the file says, else layer by layer with its weights."""
    model, peer, dropped = model_of_file(path, selection, cell, merge)
    architecture = model.architecture
    omissions = (f"left out on both sides: {listed(dropped)}",) if dropped else ()
    weights = f" with the weights of {path}"
    if not architecture.stated:
        holds = "was read as weights alone" if dropped else "holds weights alone"
        words = f"nothing of the architecture was checked: {path.name} {holds}. "
        words += f"Assumed on both sides: {', '.join(architecture.assumed)}"
        return _rebuilt(model.params, peer, weights, architecture, (words, *omissions))
    layers, head = _split(model.params)
    dtype = str(layers_dtype(layers))
    obstacle = "a part of it was dropped" if dropped else peer.missing
    if peer.load is not None and obstacle is None:
        try:
            loaded = peer.load(path)
        except ConvertError as error:
            obstacle = str(error)
        else:
            return Theirs(
                f"the model in {path}, as {peer.title} builds it",
                layers,
                head,
                "float32" if dtype in dict(peer.narrow) else dtype,
                model=partial(_batched, loaded),
                architecture=architecture,
                unchecked=getattr(loaded, "unchecked", ()),
            )
    reason = f" ({obstacle})" if obstacle else ""
    words = f"nothing of the architecture was checked: both sides ran as lstmjax reads {path.name}{reason}"
    try:
        return _rebuilt(model.params, PEERS["oracle"], weights, architecture, (words, *omissions))
    except ValueError as error:
        raise ValueError(message_of(error, f"{path} cannot be run by {peer.name}{reason}, and ")) from None


def _batched(model: Call, xs: Array, lengths: Array | None) -> Array:
    """Return what a model that takes batches computes of xs, `[B, T, I]` or `[T, I]`."""
    return model(xs, lengths) if xs.ndim == 3 else model(xs[None], lengths)[0]


def outputs(theirs: Theirs, xs: Array, lengths: Array | None, batched: bool) -> tuple[list[Arrays | None], bool]:
    """Return what each layer of theirs computes, and the head; None where that is not known.

    Args:
        theirs: the other side.
        xs: inputs `[B, T, I]` in the dtype of the weights.
        lengths: `[B]` or None.
        batched: whether what is recorded has a batch axis.

    Returns:
        (arrays, last): `[B, T, ...]`, or `[B, 1, ...]` and last=True if only the last step is known.
    """
    if theirs.model is not None:
        recorded = theirs.model(xs if batched else xs[0], lengths)
        return _by_layers(recorded, len(theirs.layers), theirs.head is not None, batched)
    computed: list[Arrays | None] = []
    for call in theirs.calls:
        ys = np.asarray(call(xs, lengths))
        computed.append({"h": ys})
        xs = ys.astype(xs.dtype)
    if theirs.head_call is not None:
        computed.append({"y": theirs.head_call(xs)})
    elif theirs.head is not None:
        w, b = (np.asarray(a, np.float64) for a in theirs.head)
        computed.append({"y": xs.astype(np.float64) @ w + b})
    return computed, False


def layers_dtype(layers: Layers) -> np.dtype:
    """Return the dtype of the weights, which is one for all."""
    dtypes = {a.dtype for a in jax.tree.leaves(layers)}
    if len(dtypes) > 1:
        raise ValueError(f"the weights are {', '.join(sorted(map(str, dtypes)))}; cast them to one dtype.")
    return dtypes.pop()


def _split(params: Any) -> tuple[Layers, Dense | None]:
    """Return layers and head, None if there is none, as NumPy arrays of one dtype."""
    layers, head = parameters_of(params)[:2]
    layers, head = jax.tree.map(np.asarray, (as_layers(layers), head))
    layers_dtype(layers)
    return layers, head


def _rebuilt(
    params: Any, peer: Peer, weights: str, architecture: Architecture, unchecked: tuple[str, ...] = ()
) -> Theirs:
    """Return the layers of a file or of a mapping, each run by the framework they are from, or else by the oracle."""
    layers, head = _split(params)
    dtype, cell, merge = str(layers_dtype(layers)), architecture.cell, architecture.merge
    obstacle = peer.missing or dict(peer.narrow).get(dtype)
    if peer.run is not oracle.run and not same_cell(cell, VANILLA):
        obstacle = obstacle or "it is asked for plain layers only"
    if obstacle is None and peer.run is not oracle.run:

        def call(layer: Any, xs: Array, lengths: Array | None) -> Array:
            # A framework without lengths has no reverse direction, which alone would depend on them.
            return joined(peer.run((layer,), xs, lengths if peer.lengths else None).ys, layer, merge)

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
    if architecture.readout is not identity:  # both sides are compared before it
        unchecked = (*unchecked, f"{called(architecture.readout)} after the head was not checked")
        architecture = replace(architecture, readout=identity)
    ways = architecture.directions or ("forward",) * len(layers)
    calls = tuple(
        partial(oracle.run_layer, layer, cell.name, merge, way) for layer, way in zip(layers, ways, strict=True)
    )
    reason = f" (in the place of {peer.name}: {obstacle})" if obstacle else ""
    who = f"the NumPy oracle{reason}{weights}"
    return Theirs(who, layers, head, dtype, calls, architecture=architecture, unchecked=unchecked)


def _itself(peer: Peer, theirs: Any, cell: Cell | None, merge: str | None) -> Theirs | None:
    """Return an object that is run as it is, as one function; None: it is not, or the caller says how to run ours."""
    run_by = None if peer.itself is None else peer.itself(theirs)
    if run_by is None:
        return None
    source, call = run_by
    if isinstance(source, Model):
        model, unchecked = source, ()
        if model.architecture.mismatch(cell, merge, has_pairs(model.params)) is not None:
            return None
    else:
        model, unchecked = Model(source, Architecture(cell or VANILLA, merge or "concat")), _beyond(peer, theirs)
    layers, head = _split(model.params)
    dtype = str(layers_dtype(layers))
    return Theirs(
        f"the {type(theirs).__name__} of {peer.title}",
        layers,
        head,
        "float32" if dtype in dict(peer.narrow) else dtype,
        model=partial(_batched, call),
        architecture=model.architecture,
        unchecked=unchecked,
    )


def _of_object(peer: Peer, source: Any, name: str, cell: Cell | None, merge: str | None) -> Theirs:
    """Return the layers of a framework's object, each run by itself; ours run as it says, or as the caller says."""
    assert peer.parts is not None
    parts = peer.parts(source)
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
    architecture = Architecture(cell, merge, directions=ways if any(way != "forward" for way in ways) else ())
    head = None if peer.head is None else peer.head(source)
    return Theirs(
        f"the {name} of {peer.title}",
        layers,
        None if head is None else jax.tree.map(np.asarray, head.weights),
        precision,
        calls=tuple(part.call for part in parts),
        head_call=None if head is None else head.call,
        architecture=architecture if head is None else replace(architecture, readout=head.readout),
        unchecked=_beyond(peer, source),
    )


def _beyond(peer: Peer, source: Any) -> tuple[str, ...]:
    """Return the sentence on what an object does beside its recurrent layers, if it does more."""
    beyond = () if peer.beyond is None else peer.beyond(source)
    return (f"its recurrent layers alone were compared, not {', '.join(beyond)}",) if beyond else ()


def _by_layers(recorded: Any, count: int, head: bool, batched: bool) -> tuple[list[Arrays | None], bool]:
    """Return recorded arrays by layer and name, `[B, T, ...]` or `[B, 1, ...]`, and whether they are the last step.

    Args:
        recorded: as `verify` takes it: the outputs, arrays by name, or a list of these.
        count: how many layers there are below the head.
        head: whether there is a head.
        batched: whether the arrays have a batch axis.
    """
    total = count + head
    each = list(recorded) if isinstance(recorded, list) else [None] * (total - 1) + [recorded]
    if len(each) != total:
        raise ValueError(
            f"theirs is a list of {len(each)}, expected what each of {total} layers gives, from the bottom."
        )
    layers = [_by_name(arrays, is_head=n == count) for n, arrays in enumerate(each)]
    if not batched:
        layers = [{name: a[None] for name, a in arrays.items()} for arrays in layers]
    ranks = {a.ndim for arrays in layers for a in arrays.values()}
    if ranks not in ({2}, {3}):
        raise ValueError(f"theirs has arrays of {ranks} axes; expected outputs of all steps, or of the last one.")
    last = ranks == {2}
    if last:
        layers = [{name: a[:, None] for name, a in arrays.items()} for arrays in layers]
    return [arrays or None for arrays in layers], last


def _by_name(recorded: Any, *, is_head: bool) -> dict[str, Array]:
    """Return the recorded arrays of a layer by name, of None none; an array without a name is the outputs."""
    if recorded is None:
        return {}
    if isinstance(recorded, Step):
        recorded = recorded._asdict()
    known = ("y",) if is_head else Step._fields
    if not isinstance(recorded, Mapping):
        recorded = {known[-1]: recorded}
    unknown = [name for name in recorded if name not in known]
    if unknown:
        raise ValueError(f"theirs has {', '.join(map(repr, unknown))}; known names are {', '.join(known)}.")
    return {name: numbers(a) for name, a in recorded.items() if a is not None}
