"""Load the arrays to train on, as the `data` section of a configuration describes them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from lstmjax.config import Columns, Data
from lstmjax.data.about import About
from lstmjax.data.digits import INK, digits
from lstmjax.data.disk import OnDisk
from lstmjax.data.files import finite, read_as
from lstmjax.data.form import Form, Table, form_of
from lstmjax.data.missing import described as missing_described
from lstmjax.data.missing import filled, fitted
from lstmjax.data.order import SAMPLE, SYMBOLS, TESTED, VALIDATED, order
from lstmjax.data.scaling import (
    Moments,
    Scaling,
    described,
    described_alike,
    merged_moments,
    moments,
    on_unit_scale,
    standardising,
)
from lstmjax.data.sequences import DataError, Parts, Sequences, fingerprint
from lstmjax.data.splits import check_groups, listed, split
from lstmjax.data.splits import described as split_described
from lstmjax.data.stream import is_streamed, streamed
from lstmjax.data.texts import load_stream, windows
from lstmjax.limits import check_order


class BuiltIn(NamedTuple):
    """A row of `SOURCES`: a source of data in the package."""

    parts: Callable[[Data], Parts]
    scale: float  # every feature is divided by it


def _order(data: Data) -> Parts:
    check_order(data, "data.length", SAMPLE + VALIDATED + TESTED, len(SYMBOLS))
    return order(data.length or 100)


SOURCES: MappingProxyType[str, BuiltIn] = MappingProxyType(
    {"digits": BuiltIn(lambda data: digits(), INK), "order": BuiltIn(_order, 1.0)}
)
"""The sources in the package, by `data.source`; its keys and `TEXTS` are those of `BUILT_IN` in lstmjax.config."""


def load(data: Data, loss: str = "softmax") -> tuple[Parts, About]:
    """Return the parts of the data, scaled and with y in the form of the loss, and what a run remembers of them.

    The parts of a text for a language model are `Tokens` in place of sequences.

    Args:
        data: the source, and how it is split and scaled.
        loss: "softmax": y becomes the index of the class, int32 `[N]` or, with a label at each
            step, `[N, T]`; "sigmoid" (zeros and ones) and "linear": float32 `[N, O]` or `[N, T, O]`.

    Raises:
        DataError: the files do not contain what is needed.
    """
    if data.is_stream:
        return load_stream(data)
    built_in, form, classes = SOURCES.get(data.source), None, None
    if built_in:
        raw = built_in.parts(data)
    elif data.text is not None:
        raw, classes = windows(data)
    else:
        raw, form = _from_files(data, loss)
    name = data.source
    names = (name, data.validation or name, data.test or name)
    if loss == "softmax" and classes is None:
        classes = _classes(raw, names)
    targets = TARGETS[loss]
    parts = _each(lambda p, n: p._replace(y=targets(p, classes, n)), raw, names)
    y = parts.train.y
    assert y is not None
    per_step = y.ndim == (2 if loss == "softmax" else 3)
    known = moments(parts.train)
    offset, scale = _scaling(data, parts.train, known)
    targets_scaled, lines = _target_scaling(data, loss, parts.train, per_step=per_step)
    about = About(
        input_size=parts.train.x.shape[-1],
        output_size=len(classes) if classes else y.shape[-1],
        per_step=per_step,
        classes=classes,
        offset=offset,
        scale=scale,
        features=parts.train.features,
        fingerprint=fingerprint(parts.train, parts.validation),
        target_offset=None if targets_scaled is None else targets_scaled.offset,
        target_scale=None if targets_scaled is None else targets_scaled.scale,
        form=form,
        text=data.text,
        window=data.window,
    )
    if data.shift and (parts.train.lengths is not None or min(parts.train.x.shape[1:]) <= data.shift or per_step):
        raise DataError(
            f"data.shift is {data.shift}, but {name} does not hold images larger than that with one label each; "
            "set data.shift to 0"
        )
    notes = (*raw.notes, *_described(data, known, Scaling(offset, scale), parts.train.features), *lines)
    parts = _each(lambda p, n: _scaled(_as_learned(p, about, loss, n), about, n), parts, names)
    return parts._replace(notes=notes), about


def labelled(path: str, about: About, loss: str) -> Sequences:
    """Read the sequences of a file, scaled and labelled like those that a network was trained on."""
    form = about.form or Form()
    data = about.prepared(_numbered_targets(read_as(path, form).data, form, loss), path)
    data = data._replace(y=TARGETS[loss](data, about.classes, path))
    return _scaled(_as_learned(data, about, loss, path), about, path)


def _scaled(part: Sequences, about: About, name: str) -> Sequences:
    """Return a labelled part with x and y on the scale of training."""
    part = about.scaled(part, name)
    if about.target_scale is None or part.y is None:
        return part
    y = about.scaled_targets(part.y)
    if about.per_step:  # nothing may depend on what stands in the padding
        y = np.where(part.valid()[..., None], y, np.float32(0))
    return part._replace(y=y)


def _as_learned(part: Sequences, about: About, loss: str, name: str) -> Sequences:
    """Return the part if the rank and width of its y are those of training; others would broadcast in the loss."""
    y = part.y
    assert y is not None
    per_step = y.ndim == (2 if loss == "softmax" else 3)
    actual = "step" if per_step else "sequence"
    learned = "step" if about.per_step else "sequence"
    if actual != learned:
        raise DataError(f"{name}: y is for each {actual}, but the network learns it for each {learned}")
    if loss != "softmax" and y.shape[-1] != about.output_size:
        raise DataError(
            f"{name}: y is {y.shape[-1]} wide, but the network learns {about.output_size} for each {learned}"
        )
    return part


def _each(change: Callable[[Sequences, str], Sequences], parts: Parts, names: tuple[str, str, str]) -> Parts:
    """Apply `change(part, name of its file)` to each part, and to each batch as it is drawn."""
    test = None if parts.test is None else change(parts.test, names[2])
    draw = parts.draw

    def drawn(count: int, *, seed: int, step: int) -> Sequences:
        assert draw is not None
        return change(draw(count, seed=seed, step=step), names[0])._replace(features=None)

    return parts._replace(
        train=change(parts.train, names[0]),
        validation=change(parts.validation, names[1]),
        test=test,
        draw=drawn if draw else None,
    )


def unlabelled(path: str | Path, about: About) -> Sequences:
    """Read the sequences of a file as those that a network was trained on, without labels and not scaled yet."""
    return about.prepared(read_as(path, about.form or Form(), labels=False).data, str(path))


def _from_files(data: Data, loss: str) -> tuple[Parts, Form | None]:
    """Return the parts of the files, and how they were read; None: as without any option."""
    form = form_of(data)
    source = streamed(data, form) if is_streamed(data) else None
    source = _read(data.source, form, loss, data.table) if source is None else _checked(source, data.source, form, loss)
    form = form.model_copy(update={"categories": source.categories})
    files = {"validation": data.validation, "test": data.test}
    others = {
        part: _read(path, form, loss, data.table if Path(path).is_dir() else None)
        for part, path in files.items()
        if path is not None
    }
    if data.columns.group is not None:
        named = {path: others[part] for part, path in files.items() if path is not None}
        check_groups({data.source: source} | named)
    rows = split(source, data)
    parts: dict[str, Sequences | None] = {"train": source.take(rows.train), "validation": None, "test": None}
    for part, chosen in (("validation", rows.validation), ("test", rows.test)):
        if part in others:
            parts[part] = others[part].data
        elif len(chosen):
            parts[part] = source.take(chosen)
    train, validation, test = parts.values()
    assert train is not None
    assert validation is not None
    for part, name in ((validation, data.validation), (test, data.test)):
        if part is not None and part.x.shape[-1] != source.data.x.shape[-1]:
            raise DataError(f"{name}: {part.x.shape[-1]} features, but {data.source} has {source.data.x.shape[-1]}")
    form = fitted(form, train, (train, validation))
    notes = (*source.notes, *missing_described(train, form, train.features))
    sizes = {part: len(sequences.x) for part, sequences in parts.items() if sequences is not None}
    if rows.about["by"] != "files":
        notes = (split_described(rows.about, sizes), *notes)
    about = rows.about | {"counts": sizes}
    of_source = {"train": rows.train, "validation": rows.validation, "test": rows.test}
    about["sequences"] = listed(source, {part: those for part, those in of_source.items() if len(those)})
    train, validation = filled(train, form, data.source), filled(validation, form, data.validation or data.source)
    test = None if test is None else filled(test, form, data.test or data.source)
    return Parts(train, validation, test, None, notes, about), None if form.is_plain else form


def _read(path: str, form: Form, loss: str, table: str | None) -> Table:
    """Read a file and check its y before it is split, so that messages name the place in the file."""
    return _checked(read_as(path, form, table=table), path, form, loss)


def _checked(read: Table, path: str, form: Form, loss: str) -> Table:
    data = _numbered_targets(read.data, form, loss)
    if loss != "softmax":
        data = data._replace(y=TARGETS[loss](data, None, path))
    return read._replace(data=data)


def _numbered_targets(data: Sequences, form: Form, loss: str) -> Sequences:
    """Return the sequences with a single number of each step as `[N, T, 1]`: as `[N, T]` they would be T numbers."""
    if loss == "softmax" or form.columns.target_of == "sequence" or data.y is None or data.y.ndim != 2:
        return data
    y = data.y
    if y.dtype.kind in "UO":  # a CSV file has words, and an empty one in the padding, which is no number
        y = np.where(data.valid(), y, "0")
    return data._replace(y=y[..., None])


def _scaling(data: Data, train: Sequences, known: Moments) -> Scaling:
    size = train.x.shape[-1]
    if data.source in SOURCES:
        return Scaling((0.0,) * size, (SOURCES[data.source].scale,) * size)
    if data.normalize == "none":
        return Scaling((0.0,) * size, (1.0,) * size)
    if data.normalize == "standardize" and isinstance(train.x, OnDisk):
        return standardising(known, np.ones(size, bool))
    if data.normalize == "auto":
        return standardising(known, ~on_unit_scale(known))
    steps = train.valid_steps().astype(np.float64)  # [all steps, I]
    deviation = steps.std(axis=0)
    return Scaling(tuple(map(float, steps.mean(axis=0))), tuple(float(d) or 1.0 for d in deviation))


def _target_scaling(
    data: Data, loss: str, train: Sequences, *, per_step: bool
) -> tuple[Scaling | None, tuple[str, ...]]:
    """Return the scaling of the targets of a regression, and lines about it; None: they are learned as they are."""
    if TARGETS[loss] is not _as_numbers:
        return None, ()
    assert train.y is not None
    known = merged_moments([train.y[train.valid()] if per_step else train.y], train.y.shape[-1])
    names = [f"y_{n}" for n in range(train.y.shape[-1])]
    if data.columns.target != Columns().target and len(data.columns.target) == len(names):
        names = list(data.columns.target)
    if data.normalize_targets == "none":
        nothing = Scaling((0.0,) * len(names), (1.0,) * len(names))
        return None, tuple(described("targets", known, nothing, names))
    scaling = standardising(known, np.ones(len(names), bool))
    return scaling, tuple(described("targets", known, scaling, names))


def _described(data: Data, known: Moments, scaling: Scaling, features: tuple[str, ...] | None) -> list[str]:
    """Return lines for the log on the ranges of the features, and on their scale."""
    names = features or tuple(f"feature {n}" for n in range(len(scaling.scale)))
    if data.source in SOURCES:
        return [described_alike("inputs", known, names, scaling.scale[0])]
    return described("inputs", known, scaling, names)


def _classes(parts: Parts, names: tuple[str, ...]) -> tuple[str, ...]:
    """Return the names of the classes in training and validation: in numerical order, or in alphabetical order."""
    train, validation = (
        set(map(str, np.unique(_class_labels(part, name)).tolist()))
        for part, name in zip((parts.train, parts.validation), names, strict=False)
    )
    if names[1] != names[0] and {_is_number(w) for w in train}.isdisjoint(_is_number(w) for w in validation):
        raise DataError(
            f"{names[1]}: labels such as {min(validation)!r}, but {names[0]} has labels such as {min(train)!r}; "
            "name the classes in all files alike"
        )
    labels = train | validation
    classes = sorted(labels, key=int) if all(_is_number(label) for label in labels) else sorted(labels)
    if len(classes) < 2:
        raise DataError(f"{names[0]}: all labels are {classes[0]!r}; a classification needs two classes at least")
    return tuple(classes)


def _class_labels(part: Sequences, name: str) -> np.ndarray:
    """Return the labels, those of valid steps if each step has one, as a flat array."""
    y = part.y
    assert y is not None
    if y.ndim not in (1, 2) or (y.ndim == 2 and y.shape[1] != part.x.shape[1]):
        raise DataError(
            f"{name}: y is {_letters(y)}; classes are [sequences], or [sequences, steps] with "
            f"{part.x.shape[1]} steps. For several labels at once say loss.name: sigmoid, for numbers linear"
        )
    if not (np.issubdtype(y.dtype, np.integer) or y.dtype.kind in "UOb"):
        raise DataError(
            f"{name}: y is {y.dtype}; classes are whole numbers or words. For numbers say loss.name: linear"
        )
    return y if y.ndim == 1 else y[part.valid()]


def _as_classes(part: Sequences, classes: tuple[str, ...] | None, name: str) -> np.ndarray:
    assert classes is not None
    assert part.y is not None
    valid_labels = set(map(str, np.unique(_class_labels(part, name)).tolist()))
    unknown = sorted(valid_labels - set(classes))
    if unknown:
        raise DataError(f"{name}: label {unknown[0]!r} is none of the {len(classes)} classes in training")
    index_of = {word: n for n, word in enumerate(classes)}
    labels, positions = np.unique(part.y, return_inverse=True)
    # Labels in the padding may be unknown. They become 0, and have no weight in the loss.
    indices = np.array([index_of.get(str(label), 0) for label in labels.tolist()], np.int32)
    return indices[positions.reshape(part.y.shape)]


def _as_numbers(part: Sequences, classes: tuple[str, ...] | None, name: str) -> np.ndarray:
    y = part.y
    assert y is not None
    if y.dtype.kind not in "biufUO":
        raise DataError(f"{name}: y is {y.dtype}, expected real numbers")
    if y.ndim not in (1, 2, 3) or (y.ndim == 3 and y.shape[1] != part.x.shape[1]):
        raise DataError(f"{name}: y is {_letters(y)}, expected [sequences, O] or [sequences, steps, O]")
    try:
        y = finite("y", y, part, name)
    except DataError:
        raise
    except ValueError as error:
        raise DataError(f"{name}: y holds no numbers ({error}); for classes say loss.name: softmax") from None
    if y.ndim == 3:
        return np.where(part.valid()[..., None], y, np.float32(0))
    return y[:, None] if y.ndim == 1 else y


def _as_switches(part: Sequences, classes: tuple[str, ...] | None, name: str) -> np.ndarray:
    y = _as_numbers(part, classes, name)
    if wrong := sorted(set(np.unique(y).tolist()) - {0.0, 1.0}):
        raise DataError(f"{name}: y holds {wrong[0]:g}; labels that may hold together are 0 or 1 each")
    return y


TARGETS: MappingProxyType[str, Callable[[Sequences, tuple[str, ...] | None, str], np.ndarray]] = MappingProxyType(
    {
        "softmax": _as_classes,
        "sigmoid": _as_switches,
        "linear": _as_numbers,
        "absolute": _as_numbers,
        "huber": _as_numbers,
        "quantile": _as_numbers,
    }
)
"""The function that brings y into the form that each loss takes."""


def _letters(y: np.ndarray) -> str:
    """Return the shape of y as text, with a word for the number of sequences, which may be that of a part."""
    return f"[{', '.join(['sequences', *map(str, y.shape[1:])])}]"


def _is_number(word: object) -> bool:
    try:
        return str(int(str(word))) == str(word)
    except ValueError:
        return False
