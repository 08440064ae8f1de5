"""Whether another LSTM computes what ours does with the same weights, and if not, where and why."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from lstmjax import checks
from lstmjax.arguments import one_of
from lstmjax.cells import Cell
from lstmjax.published import find_cell
from lstmjax.replica import bounds, diagnosis
from lstmjax.replica.compare import compare
from lstmjax.replica.diagnosis import Compared, Finding, Place, Search, Span
from lstmjax.replica.sides import Arrays, Side, valid
from lstmjax.replica.theirs import Theirs, find, outputs
from lstmjax.stack import as_states, directions

if TYPE_CHECKING:
    from jax.typing import ArrayLike


@dataclass(frozen=True)
class Verdict:
    """Whether both sides agree, and what was found; true if they do, and `str` of it says all."""

    agree: bool
    who: str
    sizes: str
    compared: tuple[Compared, ...]
    place: Place | None = None
    search: Search | None = None
    unchecked: tuple[str, ...] = ()
    """What the verdict does not cover, in sentences."""
    whole: bool = False
    """Whether the outputs alone were compared, of a model that is more than a stack of layers."""
    not_finite: str = ""
    """Weights with NaN or infinity, and where xs has it."""

    @property
    def cause(self) -> Finding | None:
        """The cause, if one was proven."""
        return self.search.finding if self.search and self.search.finding and self.search.finding.proven else None

    def __bool__(self) -> bool:
        return self.agree

    def __str__(self) -> str:
        return "\n".join([self._found(), *self.unchecked])

    def _found(self) -> str:
        one = diagnosis.worst(list(self.compared))
        lines = [
            f"{'agree' if self.agree else 'differ'}: lstmjax and {self.who}, {self.sizes}",
            f"largest difference of {NAMES.get(one.name, one.name)}: {one.difference}; bound {one.bound:.1e}",
        ]
        if self.agree:
            return "\n".join(lines)
        if self.not_finite and self.cause is None:
            lines += [f"first: {_words(self.place)}"] if self.place else []
            lines.append(f"cause: NaN or infinity in {self.not_finite}; NaN agrees with nothing")
            return "\n".join(lines)
        if self.whole:
            lines.append("first: not looked for; a model that is more than a stack of layers is compared as a whole")
            return "\n".join(lines)
        if self.place is None or self.search is None:
            lines.append("first: no layer alone, each fed with what theirs gave below; the differences add up")
            return "\n".join(lines)
        lines += [f"first: {_words(self.place)}"]
        if self.cause is not None:
            where = f", in {self.cause.where}" if self.cause.where else ""
            lines.append(f"cause: {self.cause.name}{where}: {self.cause.sentence}")
            lines.append(f"with that, both sides agree to {self.cause.difference}")
            return "\n".join(lines)
        lines.append(f"cause: not found; tried {', '.join(self.search.tried)}")
        if self.search.finding is not None:
            closest = self.search.finding
            lines.append(f"closest: {closest.name}: {closest.sentence}; that leaves {closest.difference}")
        return "\n".join(lines)


NAMES = {"h": "outputs", "y": "the head's outputs"}
GATES = {"i": "input gate i", "f": "forget gate f", "g": "candidate g", "o": "output gate o"}


def _words(at: Place) -> str:
    if at.what == "y":
        layer = "the head or a layer below it" if at.layer is None else "the head"
    else:
        layer = "below the last outputs, in one of several layers" if at.layer is None else f"layer {at.layer}"
    direction = f", {at.direction} direction" if at.direction else ""
    step = "the last step (others are not recorded)" if at.step is None else f"step {at.step}"
    return (
        f"{layer}{direction}, {step} of sequence {at.sequence}, {GATES.get(at.what, at.what)}, unit {at.unit}: "
        f"theirs {at.theirs:.6g}, ours {at.ours:.6g}"
    )


def verify(
    theirs: Any,
    xs: ArrayLike,
    *,
    params: Any = None,
    lengths: ArrayLike | None = None,
    state: tuple | None = None,
    cell: Cell | str | None = None,
    merge: str | None = None,
) -> Verdict:
    """Gives the verdict on whether another LSTM computes what ours does: the same, or where and why not.

    Weights are carried over by `lstmjax.convert`, both sides run on xs, and outputs are compared against a
    stated bound (`lstmjax.replica.bounds.of_a_pair`). If they differ, our side is run layer by layer on what
    theirs gives below, and with each of the likely causes in turn (`lstmjax.replica.causes.CAUSES`): the one
    that gives their numbers is what they do.

    Args:
        theirs: a module of PyTorch, Keras, NNX or Equinox, which runs itself; the path of a file that describes its
            model (`.keras`, whole `.h5`), which its framework builds and runs as the file says; the path of a weights
            file, or a mapping of weights (a state_dict of PyTorch, variables of linen, parameters of Haiku), run by
            that framework; or our own parameters, run by the NumPy oracle, which also stands in for a framework
            that is not installed. With `params`: outputs that were recorded, `[B, T, P]` or those of the last
            step `[B, P]`; or a mapping or `Step` of recorded gates and states, by the names of `Step`; or a
            list of these, one for each layer from the bottom up (None: not recorded); or a function of xs that
            gives one of these.
        xs: inputs `[B, T, I]` or `[T, I]`, cast to the dtype of the weights.
        params: `NetworkParams`, layers, `LSTMParams`, or a `Model` of `load_model` that theirs is said to have.
            Outputs of a network are those of its head.
        lengths: valid steps of each sequence `[B]`; padding is not compared.
        state: the state that theirs began with, as `stacked` takes it; with `params` only.
        cell, merge: how our side runs; None: as the file states, else the vanilla cell and "concat".

    Returns:
        A `Verdict`: true if both agree; it prints as a few lines, which say what was not checked: of bare weights
        nothing of the architecture is, and both sides are run as it was assumed.

    Raises:
        ValueError: weights cannot be carried over (`ConvertError`), or arguments do not fit each other.
        TypeError: theirs is nothing that can be verified.

    Example:
        >>> from lstmjax import init_params, lstm
        >>> params, xs = init_params(jax.random.key(0), 3, 4), jax.random.normal(jax.random.key(1), (2, 5, 3))
        >>> wrong = params._replace(b=params.b.at[1].add(1.0))
        >>> verdict = verify(lstm(wrong, xs)[1], xs, params=params)
        >>> verdict.agree, verdict.cause.name, verdict.place.layer, verdict.place.step, verdict.place.what
        (False, 'forget bias added twice', 0, 1, 'f')
    """
    row = None if cell is None else find_cell(cell)
    one_of("merge", merge, (None, "concat", "sum"))
    if state is not None and params is None:
        raise ValueError("state is given, but without params= theirs runs itself, and begins with zeros. Leave it out.")
    other = find(theirs, params, row, merge)
    cell, merge = other.architecture.cell, other.architecture.merge
    for layer in other.layers:
        for part in directions(layer):
            checks.check_params(part, cell)
    given = np.asarray(xs)
    if given.ndim not in (2, 3):
        raise ValueError(f"xs has shape {given.shape}, expected [B, T, I] or [T, I].")
    if given.dtype.kind not in "biu" and not jax.numpy.issubdtype(given.dtype, np.floating):
        raise ValueError(f"xs is {given.dtype}, expected real numbers.")
    batched = given.ndim == 3
    arrays: Any = given.astype(other.dtype)[... if batched else None]
    checks.check_features("xs", arrays, directions(other.layers[0])[0], "[B, T, I] or [T, I]")
    if lengths is not None:
        lengths = np.asarray(lengths).reshape(-1)
        checks.check_lengths(lengths, arrays.shape[:1], arrays.shape[1])
    if not (arrays.size if lengths is None else lengths.any()):
        raise ValueError(f"xs has shape {given.shape}, and lengths leave nothing to compare; give one step at least.")
    state = as_states(other.layers, "state", state)
    if state is not None and not batched:
        state = jax.tree.map(lambda a: np.asarray(a)[None], state)
    with jax.enable_x64(other.dtype == "float64"):
        found, last = outputs(other, arrays, lengths, batched)
    if other.architecture.is_plain:
        side = Side(other.layers, cell, arrays, lengths, state, other.head, last, merge=merge)
        verdict = replace(_judge(side, found, other.who, other.precision), unchecked=other.unchecked)
        return replace(verdict, not_finite=", ".join(_not_finite(other, arrays, lengths)))
    if state is not None:
        raise ValueError("state is given, but a model that its file describes begins with zeros. Leave it out.")
    verdict = _judge_model(other, arrays, lengths, found[-1] or {}, last)
    return replace(verdict, not_finite=", ".join(_not_finite(other, arrays, lengths)))


def _judge_model(other: Theirs, xs: Any, lengths: Any, theirs: Arrays, last: bool) -> Verdict:
    """Compare the outputs of a model that no plain stack of layers is, as a whole."""
    if any(way == "turned" for way in other.architecture.directions) and lengths is not None:
        raise ValueError(
            "lengths are given, but the model runs backwards, which frameworks do over padding. Leave it out."
        )
    (name,) = theirs
    ours, exact = (_outputs(other, xs, lengths, dtype, not last) for dtype in (other.dtype, "float64"))
    b = theirs[name][:, 0] if last else theirs[name]
    if ours.shape != b.shape:
        raise ValueError(f"theirs has {name} of shape {b.shape}, expected {ours.shape}.")
    if lengths is not None and not last:
        ours, exact, b = (valid(a, lengths) for a in (ours, exact, b))
    bound = bounds.of_a_pair(other.precision, compare(ours, exact).relative)
    one = Compared(name, compare(ours, b), bound)
    sizes = f"{_kinds(other.layers, other.head)}, xs {xs.shape}, {other.dtype}"
    return Verdict(one.agrees, other.who, sizes, (one,), unchecked=other.unchecked, whole=True)


def _outputs(other: Theirs, xs: Any, lengths: Any, dtype: str, sequences: bool) -> np.ndarray:
    """Return what our side computes of a model in a dtype."""

    def cast(tree: Any) -> Any:
        return jax.tree.map(lambda a: np.asarray(a).astype(dtype), tree)

    with jax.enable_x64(dtype == "float64"), jax.default_matmul_precision("highest"):
        model = replace(other.model, params=cast(other.model.params))
        return np.asarray(model(cast(xs), lengths=lengths, return_sequences=sequences))


def _kinds(layers: Any, head: Any) -> str:
    return f"{len(layers)} layer{'s' * (len(layers) > 1)}{' and a head' * (head is not None)}"


def _not_finite(other: Theirs, xs: np.ndarray, lengths: np.ndarray | None) -> Iterator[str]:
    """Yield the names of weights with NaN or infinity, and where inputs `[B, T, I]` have it first at a valid step."""
    for at, a in jax.tree.leaves_with_path({"layers": other.layers, "head": other.head}):
        if not np.isfinite(np.asarray(a, np.float64)).all():
            yield jax.tree_util.keystr(at, simple=True, separator=".")
    finite = np.isfinite(np.asarray(xs, np.float64)).all(-1)
    if lengths is not None:
        finite |= np.arange(xs.shape[1]) >= lengths[:, None]
    if not finite.all():
        n, t = np.argwhere(~finite)[0].tolist()
        yield f"xs, at {int((~finite).sum())} of {finite.size} steps, first at step {t} of sequence {n}"


def _judge(side: Side, found: list[Arrays | None], who: str, precision: str) -> Verdict:
    ours, exact = side.run(), side.run("float64")
    known = [n for n, one in enumerate(found) if one is not None]
    compared: list[Compared] = []
    for n in known:
        whole = Span(0, _layers(side, 0, n), found[n] or {}, precision)
        compared += whole.compared(ours[: n + 1], exact[: n + 1])
    sizes = f"{_kinds(side.layers, side.head)}, xs {side.xs.shape}, {side.dtype}"
    if all(one.agrees for one in compared):
        return Verdict(True, who, sizes, tuple(compared))
    start = 0
    for n in known:
        part = _layers(side, start, n)
        if start:
            part = replace(part, xs=np.asarray((found[start - 1] or {})["h"], side.xs.dtype))
        span = Span(start, part, found[n] or {}, precision)
        if not all(one.agrees for one in span.compared(part.run(), part.run("float64"))):
            search = diagnosis.search(span)
            return Verdict(False, who, sizes, tuple(compared), search.place or diagnosis.place(span), search)
        if "h" in (found[n] or {}) and not side.last:
            start = n + 1
    return Verdict(False, who, sizes, tuple(compared))


def _layers(side: Side, first: int, end: int) -> Side:
    """Gives the side with the layers from `first` to `end` only; the head counts as the layer after the last."""
    state = None if side.state is None else side.state[first : end + 1]
    head = side.head if end == len(side.layers) else None
    return replace(side, layers=side.layers[first : end + 1], state=state, head=head)
