"""Whether another LSTM computes what ours does with the same weights, and if not, where and why."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Unpack

import jax
import numpy as np

from lstmjax import checks
from lstmjax.arguments import check_lengths, one_of
from lstmjax.convert.find import find as find_weights
from lstmjax.convert.options import ReadOptions, Selection, selected
from lstmjax.keywords import takes
from lstmjax.published import find_cell
from lstmjax.replica import diagnosis
from lstmjax.replica.diagnosis import Compared, Finding, Place, Search, Span, check_shape, compare_arrays
from lstmjax.replica.not_finite import OUTPUTS, in_arrays, in_weights_and_inputs
from lstmjax.replica.sides import Arrays, Side, valid
from lstmjax.replica.theirs import Theirs, find, outputs
from lstmjax.stack import as_states, directions
from lstmjax.types import GATE_WORDS

if TYPE_CHECKING:
    from jax.typing import ArrayLike


@dataclass(frozen=True)
class Verdict:
    """Whether both sides agree, and where and why not; true if they do. `str` of it is the report.

    A verdict that is neither, because our side itself rounds by more than a bound with a meaning, is false, too; its
    `undecided` says so.
    """

    agree: bool
    who: str
    sizes: str
    compared: tuple[Compared, ...]
    place: Place | None = None
    search: Search | None = None
    unchecked: tuple[str, ...] = ()
    """What the verdict does not cover, in sentences."""
    outputs_only: bool = False
    """Whether the outputs alone were compared, of a model that is more than a stack of layers."""
    not_finite: str = ""
    """Weights with NaN or infinity, and where xs has them; else where the arrays of theirs have them, or ours."""
    finite_agree: bool | None = None
    """Where arrays have NaN or infinity, and weights and xs have none: whether all other numbers agree."""

    @property
    def undecided(self) -> bool:
        """Whether the sides neither agree nor are further apart than rounding alone could bring them."""
        return not self.agree and not self.not_finite and not any(array.differs for array in self.compared)

    @property
    def cause(self) -> Finding | None:
        """The cause, if one was proven."""
        if self.search is None or self.search.finding is None or not self.search.finding.proven:
            return None
        return self.search.finding

    def __bool__(self) -> bool:
        return self.agree

    def __str__(self) -> str:
        array = diagnosis.worst(list(self.compared))
        word = "agree" if self.agree else "cannot tell" if self.undecided else "differ"
        lines = [
            f"{word}: lstmjax and {self.who}, {self.sizes}",
            f"largest difference of {OUTPUTS.get(array.name, array.name)}: {array.difference}; bound {array.bound:.1e}",
        ]
        if not self.agree:
            lines += self._reason()
        return "\n".join([*lines, *self.unchecked])

    def _reason(self) -> list[str]:
        """Return the lines that say where and why the sides differ, or why that cannot be told."""
        if self.undecided:
            error = max(array.error.relative for array in self.compared)
            return [
                f"reason: lstmjax in this dtype is {error:.1e} (relative) away from itself in float64, so that "
                "rounding alone may be the difference; compare weights and inputs of float64, or shorter sequences"
            ]
        if self.not_finite and self.cause is None:
            first = [f"first: {_words(self.place)}"] if self.place else []
            others = {True: "; all other numbers agree", False: "; other numbers differ, too", None: ""}
            return [
                *first,
                f"cause: NaN or infinity in {self.not_finite}; NaN agrees with nothing{others[self.finite_agree]}",
            ]
        if self.outputs_only:
            return ["first: not looked for; a model that is more than a stack of layers is compared as a whole"]
        if self.place is None or self.search is None:
            return ["first: no single layer; each agrees on what theirs computed below it, and the differences add up"]
        first = [f"first: {_words(self.place)}"]
        if self.cause is not None:
            where = f", in {self.cause.where}" if self.cause.where else ""
            return [
                *first,
                f"cause: {self.cause.name}{where}: {self.cause.sentence}",
                f"with that, both sides agree to {self.cause.difference}",
            ]
        lines = [*first, f"cause: not found; tried {', '.join(self.search.tried)}"]
        closest = self.search.finding
        if closest is not None:
            lines.append(f"closest: {closest.name}: {closest.sentence}; that leaves {closest.difference}")
        return lines


def _words(place: Place) -> str:
    if place.what == "y":
        layer = "the head or a layer below it" if place.layer is None else "the head"
    else:
        layer = "below the last outputs, in one of several layers" if place.layer is None else f"layer {place.layer}"
    direction = f", {place.direction} direction" if place.direction else ""
    what = f"{GATE_WORDS[place.what]} {place.what}" if place.what in GATE_WORDS else place.what
    step = "the last step (others are not recorded)" if place.step is None else f"step {place.step}"
    return (
        f"{layer}{direction}, {step} of sequence {place.sequence}, {what}, "
        f"unit {place.unit}: theirs {place.theirs:.6g}, ours {place.ours:.6g}"
    )


@takes(ReadOptions, Selection, find_weights)
def verify(
    theirs: Any,
    xs: ArrayLike,
    *,
    params: Any = None,
    lengths: ArrayLike | None = None,
    state: tuple | None = None,
    **options: Unpack[ReadOptions],
) -> Verdict:
    """Return the verdict on whether another LSTM computes what ours does: the same, or where and why not.

    Weights are carried over by `lstmjax.convert`, both sides run on xs, and outputs are compared against a
    stated bound (`lstmjax.replica.bounds.of_a_pair`). If they differ, our side runs layer by layer on what
    theirs computed below, and with each of the likely causes in turn (`lstmjax.replica.causes.CAUSES`): the one
    that yields their numbers is what they do.

    Args:
        theirs: a module of PyTorch, Keras, NNX or Equinox, which runs itself; the path of a file that describes its
            model (`.keras`, whole `.h5`), which its framework builds and runs as the file says; the path of a weights
            file, or a mapping of weights (a state_dict of PyTorch, variables of linen, parameters of Haiku), run by
            that framework; or our own parameters, run by the NumPy oracle, which also stands in for a framework
            that is not installed. With `params`: outputs that were recorded, `[B, T, P]` or those of the last
            step `[B, P]`; or a mapping or `Step` of recorded gates and states, by the names of `Step`; or a
            list of these, one for each layer from the bottom up (None: not recorded); or a function of xs that
            returns one of these.
        xs: inputs `[B, T, I]` or `[T, I]`, cast to the dtype of the weights.
        params: `NetworkParams`, layers, `LSTMParams`, or a `Model` of `load_model` that theirs is said to have.
            Outputs of a network are those of its head.
        lengths: valid steps of each sequence `[B]`; padding is not compared.
        state: the state that theirs began with, as `stacked` takes it; with `params` only.
        cell, merge: how our side runs; None: as the file states, else the vanilla cell and "concat".
        form, prefix, names, head, extra: what to read of a weights file, as for `load_weights`; with a path only.

    Returns:
        A `Verdict`: true if both agree; it prints as a few lines, which say what was not checked: of bare weights
        nothing of the architecture is, and both sides run as it was assumed.

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
    cell, merge = options["cell"], options["merge"]
    row = None if cell is None else find_cell(cell)
    one_of("merge", merge, (None, "concat", "sum"))
    if state is not None and params is None:
        raise ValueError("state is given, but without params= theirs runs itself, and begins with zeros. Leave it out.")
    other = find(theirs, params, row, merge, selected(options))
    for layer in other.layers:
        for direction in directions(layer):
            checks.check_params(direction, other.architecture.cell)
    inputs, valid_steps, batched = _inputs(other, xs, lengths)
    if valid_steps is not None and (params is None or callable(theirs)):
        inputs = _masked(inputs, valid_steps, other.architecture.mask_value)
    state = as_states(other.layers, "state", state)
    if state is not None and not batched:
        state = jax.tree.map(lambda a: np.asarray(a)[None], state)
    with jax.enable_x64(other.dtype == "float64"):
        computed, last = outputs(other, inputs, valid_steps, batched)
    if other.architecture.is_plain:
        cell, merge = other.architecture.cell, other.architecture.merge
        side = Side(other.layers, cell, inputs, valid_steps, state, other.head, last, merge=merge)
        verdict = _judge_layers(side, computed, other.who, other.precision)
    elif state is not None:
        raise ValueError("state is given, but a model that its file describes begins with zeros. Leave it out.")
    else:
        verdict = _judge_model(other, inputs, valid_steps, computed[-1] or {}, last)
    verdict = replace(verdict, unchecked=other.unchecked)
    not_finite = ", ".join(in_weights_and_inputs(other.layers, other.head, inputs, valid_steps))
    if not_finite:  # what both sides compute of them is a consequence
        return replace(verdict, not_finite=not_finite, finite_agree=None)
    return verdict


def _inputs(other: Theirs, xs: Any, lengths: Any) -> tuple[np.ndarray, np.ndarray | None, bool]:
    """Return xs `[B, T, I]` in the dtype of the weights, lengths `[B]` or None, and whether xs had a batch axis."""
    xs = np.asarray(xs)
    if xs.ndim not in (2, 3):
        raise ValueError(f"xs has shape {xs.shape}, expected [B, T, I] or [T, I].")
    if xs.dtype.kind not in "biu" and not jax.numpy.issubdtype(xs.dtype, np.floating):
        raise ValueError(f"xs is {xs.dtype}, expected real numbers.")
    batched = xs.ndim == 3
    inputs: Any = xs.astype(other.dtype)
    if not batched:
        inputs = inputs[None]
    checks.check_features("xs", inputs, directions(other.layers[0])[0], "[B, T, I] or [T, I]")
    if lengths is not None:
        lengths = np.asarray(lengths).reshape(-1)
        check_lengths(lengths, inputs.shape[:1], inputs.shape[1])
    if not (inputs.size if lengths is None else lengths.any()):
        raise ValueError(f"xs has shape {xs.shape}, and lengths leave nothing to compare; give one step at least.")
    return inputs, lengths, batched


def _masked(inputs: np.ndarray, lengths: np.ndarray, mask_value: float | None) -> np.ndarray:
    """Return inputs whose padding has the value of steps that a model skips, if it skips any.

    Such a model computes its mask from the inputs, in the place of lengths: it would run over other padding.
    """
    if mask_value is None:
        return inputs
    steps = np.arange(inputs.shape[1]) < lengths[:, None]
    return np.where(steps[..., None], inputs, np.asarray(mask_value, inputs.dtype))


def _sizes(layers: Any, head: Any, xs: np.ndarray, dtype: str) -> str:
    plural = "s" if len(layers) > 1 else ""
    and_head = "" if head is None else " and a head"
    return f"{len(layers)} layer{plural}{and_head}, xs {xs.shape}, {dtype}"


def _judge_model(other: Theirs, xs: Any, lengths: Any, theirs: Arrays, last: bool) -> Verdict:
    """Compare the outputs of a model that no plain stack of layers is, as a whole."""
    if any(direction == "turned" for direction in other.architecture.directions) and lengths is not None:
        raise ValueError(
            "lengths are given, but the model runs backwards, which frameworks do over padding. Leave it out."
        )
    (name,) = theirs
    ours, exact = (_outputs(other, xs, lengths, dtype, not last) for dtype in (other.dtype, "float64"))
    b = theirs[name][:, 0] if last else theirs[name]
    check_shape(name, b, ours)
    if lengths is not None and not last:
        ours, exact, b = (valid(a, lengths) for a in (ours, exact, b))
    arrays = {name: ours}, {name: exact}, {name: b}
    compared = compare_arrays(*arrays, other.precision)
    sizes = _sizes(other.layers, other.head, xs, other.dtype)
    verdict = Verdict(compared[0].agrees, other.who, sizes, tuple(compared), outputs_only=True)
    if last:
        ours, b = ours[:, None], b[:, None]
    not_finite = in_arrays("theirs", {name: b}, last=last) or in_arrays("ours", {name: ours}, last=last)
    if not not_finite:
        return verdict
    finite = compare_arrays(*arrays, other.precision, finite=True)
    return replace(verdict, not_finite=not_finite, finite_agree=finite[0].agrees)


def _outputs(other: Theirs, xs: Any, lengths: Any, dtype: str, sequences: bool) -> np.ndarray:
    """Return what our side computes of a model in a dtype."""

    def cast(tree: Any) -> Any:
        return jax.tree.map(lambda a: np.asarray(a).astype(dtype), tree)

    with jax.enable_x64(dtype == "float64"), jax.default_matmul_precision("highest"):
        model = other.our_model
        architecture = model.architecture.rounded(other.dtype)  # so that both runs leave out the same steps
        model = replace(model, params=cast(model.params), architecture=architecture)
        return np.asarray(model(cast(xs), lengths=lengths, return_sequences=sequences))


def _judge_layers(side: Side, theirs: list[Arrays | None], who: str, precision: str) -> Verdict:
    """Compare what is known of each layer, and look for the first layers that do not agree, and for the cause."""
    ours, exact = side.run(), side.run("float64")
    known = {n: arrays for n, arrays in enumerate(theirs) if arrays is not None}

    def compared(*, finite: bool = False) -> list[Compared]:
        results: list[Compared] = []
        for n, arrays in known.items():
            span = Span(0, _layers(side, 0, n), arrays, precision)
            results += span.compared(ours[: n + 1], exact[: n + 1], finite=finite)
        return results

    results = compared()
    sizes = _sizes(side.layers, side.head, side.xs, side.dtype)
    verdict = Verdict(all(array.agrees for array in results), who, sizes, tuple(results))
    if verdict.agree or not any(array.differs for array in results):
        return verdict
    start = 0
    for n, arrays in known.items():
        part = _layers(side, start, n)
        if start:
            part = replace(part, xs=np.asarray(known[start - 1]["h"], side.xs.dtype))
        span = Span(start, part, arrays, precision)
        part_ours = part.run()
        if all(array.agrees for array in span.compared(part_ours, part.run("float64"))):
            if "h" in arrays and not side.last:
                start = n + 1
            continue
        not_finite = in_arrays("theirs", span.valid(), last=side.last)
        search = None if not_finite else diagnosis.search(span)  # no cause explains NaN
        not_finite = not_finite or in_arrays("ours", span.shown(part_ours[-1]), last=side.last)
        finite_agree = all(array.agrees for array in compared(finite=True)) if not_finite else None
        place = None if search is None else search.place
        verdict = replace(verdict, place=place or diagnosis.place(span), search=search)
        return replace(verdict, not_finite=not_finite, finite_agree=finite_agree)
    return verdict


def _layers(side: Side, first: int, end: int) -> Side:
    """Return the side with the layers from `first` to `end` only; the head counts as the layer after the last."""
    state = None if side.state is None else side.state[first : end + 1]
    head = side.head if end == len(side.layers) else None
    return replace(side, layers=side.layers[first : end + 1], state=state, head=head)
