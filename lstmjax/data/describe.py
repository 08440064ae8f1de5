"""Say what is understood of a data file, and ask for what is ambiguous: `lstmjax data describe`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from lstmjax.claims import counted
from lstmjax.config import BUILT_IN, Config, Data
from lstmjax.data.about import About
from lstmjax.data.columns import Source
from lstmjax.data.form import Form, form_of, optional
from lstmjax.data.load import load
from lstmjax.data.sequences import DataError, Parts, Sequences
from lstmjax.data.tables import open_table
from lstmjax.data.texts import BUILT_IN as BUILT_IN_TEXTS
from lstmjax.data.wide import is_wide

TABLES = (".csv", ".parquet", ".arrow", ".feather")
CODES = 12  # different whole numbers of a feature, up to which they may be codes
CLASSES = 20  # of them, that many are listed
MANY = 30  # different whole numbers as labels, from which on they may be targets of a regression


def describe(path: str | Path, config: Config | None = None) -> Iterator[str]:
    """Yield lines about a file of data: what its columns are, what is missing, its sequences, classes and parts.

    Lines that begin with "?" ask for what the file alone does not say, and name the option.

    Args:
        path: a file or a folder that can be trained on, or the name of a source in the package.
        config: a configuration whose sections `data` and `loss` are used; None: the defaults.

    Raises:
        DataError: the file cannot be read at all.
    """
    name = str(path) if str(path) in BUILT_IN else str(Path(path).absolute())
    data = Data() if config is None else config.data
    loss = "softmax" if config is None else config.loss.name
    if name in BUILT_IN_TEXTS and data.text is None:
        yield f"{path}: {_kind(name)}"
        yield "? it is a text: say data.text: characters, bytes or words"
        return
    data = _of(data, name)
    if name not in BUILT_IN and not Path(name).exists():
        raise DataError(f"{path}: no such file; relative paths are read from the folder in which the command runs")
    yield f"{path}: {_kind(name)}"
    questions: list[str] = []
    if Path(name).suffix.lower() in TABLES and Path(name).is_file():
        yield from _columns(Path(name), form_of(data), questions)
    try:
        parts, about = load(data, loss)
    except DataError as error:
        if config is None and not questions and _are_numbers(error):
            questions.append("are the labels numbers to be predicted? Then set loss.name: linear")
        if data.text is None and "has no label; write" in str(error):
            questions.append(
                f"{error}; or is it a text whose next characters or words are to be learned? Then set data.text: "
                "characters, bytes or words"
            )
        if not questions and "data." not in str(error):  # no option helps
            raise
        if not questions:
            questions.append(str(error))
        yield from (f"? {question}" for question in questions)
        return
    if about.is_stream:
        yield from parts.notes
        yield from _vocabulary(about)
        return
    yield from _sequences(parts)
    yield from _labels(parts, about.classes, about.per_step, loss, questions)
    yield from parts.notes
    yield from (f"? {question}" for question in questions)


def _of(data: Data, name: str) -> Data:
    """Return the section with another source; a file that is also validation or test keeps no other parts."""
    update: dict[str, Any] = {"source": name}
    if data.text is not None and name not in ("digits", "order"):
        of_text = {key: getattr(data, key) for key in ("text", "window", "segment", "vocabulary")}
        return Data(source=name, **of_text) if data.source in BUILT_IN else data.model_copy(update=update)
    if data.source in BUILT_IN or name in BUILT_IN:
        return Data(source=name)
    return data.model_copy(update=update)


def _kind(name: str) -> str:
    path = Path(name)
    if name in BUILT_IN:
        return "a source in the package"
    if path.is_dir():
        return "a folder with a file for each sequence"
    return f"{path.suffix.lower()[1:].upper() or 'no known kind'}, {path.stat().st_size:,} bytes"


def _columns(path: Path, form: Form, questions: list[str]) -> Iterator[str]:
    """Yield a line for each column, and collect what must be asked."""
    source = open_table(path, form)
    table, columns = source.table, form.columns
    roles: dict[str | None, str] = {columns.sequence: "the sequence", columns.weight: "weight", columns.group: "group"}
    roles.update(dict.fromkeys(columns.target, "target"))
    roles.update(dict.fromkeys(columns.ignore, "left out"))
    roles.update({columns.time: "time"} if columns.time is not None else {columns.step: "step"})
    yield f"{counted(table.num_rows, 'row', ',')}, {counted(table.num_columns, 'column')}:"
    wide = None
    try:
        wide = is_wide(source, form)
    except DataError as error:
        questions.append(str(error))
    for name in source.names:
        role = roles.get(name) or _feature(name, form)
        column = source.column(name, "data.columns")
        yield f"  {name}: {_type(column)}, {role}{_content(source, name, column, form)}"
        if role.startswith("feature") and name not in columns.categorical:
            questions.extend(_questions_about(source, name, column))
        if column.null_count and form.missing == "error" and role.startswith("feature") and wide is False:
            questions.append(
                f"column {name!r} has {column.null_count:,} missing values; fill them, or say how by data.missing: "
                "mask, forward or mean"
            )
    for name in columns.target:
        if name not in source.names:
            questions.append(f"which column is the label? There is no {name!r}; name it by data.columns.target")
    if wide is not None:
        yield f"layout: {'wide, a row is a sequence' if wide else 'long, a row is a step'}"


def _feature(name: str, form: Form) -> str:
    if form.columns.features and name not in form.columns.features:
        return "not used"
    return "feature, categorical" if name in form.columns.categorical else "feature"


def _type(column: Any) -> str:
    arrow = optional("pyarrow", "a table")
    kind = column.type
    for test, word in (
        (arrow.types.is_boolean, "yes or no"),
        (arrow.types.is_integer, "whole numbers"),
        (arrow.types.is_floating, "numbers"),
        (arrow.types.is_string, "words"),
        (arrow.types.is_large_string, "words"),
        (arrow.types.is_temporal, "times"),
    ):
        if test(kind):
            return word
    return str(kind)


def _content(source: Source, name: str, column: Any, form: Form) -> str:
    """Return the range of numbers or the number of different words, and what is missing."""
    arrow, compute = optional("pyarrow", "a table"), optional("pyarrow.compute", "a table")
    missing = column.null_count
    text = ""
    if arrow.types.is_floating(column.type):
        missing += int(compute.sum(compute.is_nan(column)).as_py() or 0)
        column = column.filter(compute.invert(compute.fill_null(compute.is_nan(column), True)))
    if arrow.types.is_string(column.type) or arrow.types.is_large_string(column.type):
        text = f", {len(column.unique().drop_null()):,} different"
    elif not arrow.types.is_nested(column.type) and len(column) > column.null_count:
        ends = compute.min_max(column).as_py()
        low, high = (f"{end:.4g}" if isinstance(end, float) else str(end) for end in (ends["min"], ends["max"]))
        text = f", {low} to {high}"
    if missing:
        text += f", {missing:,} missing ({100 * missing / source.table.num_rows:.2g}%)"
    return text


def _questions_about(source: Source, name: str, column: Any) -> Iterator[str]:
    """Yield what must be asked of a feature."""
    kind = _type(column)
    if kind == "words":
        words = [word for word in column.unique().to_pylist() if word is not None]
        shown = ", ".join(map(repr, sorted(words)[:4]))
        yield (
            f"column {name!r} holds {len(words):,} different words such as {shown}; is it categorical (data.columns."
            f"categorical: [{name}]), or to be left out (data.columns.ignore: [{name}])?"
        )
    elif kind == "times":
        yield (
            f"column {name!r} holds times; are the rows ordered by it (data.columns.time: {name}), or is it to be left "
            f"out (data.columns.ignore: [{name}])?"
        )
    elif kind == "whole numbers":
        different = column.unique().drop_null().to_pylist()
        if 2 < len(different) <= CODES and set(different) <= set(range(100)):
            yield (
                f"column {name!r} has {len(different)} different whole numbers; if they are codes and not amounts, say "
                f"so by data.columns.categorical: [{name}]"
            )


def _sequences(parts: Parts) -> Iterator[str]:
    lengths = np.concatenate([_lengths(part) for part in parts[:3] if part is not None])
    steps = f"{counted(lengths.min(), 'step', ',')} each"
    if lengths.min() != lengths.max():
        steps = (
            f"{lengths.min():,} to {lengths.max():,} steps (median {int(np.median(lengths)):,}); what follows is masked"
        )
    yield f"{counted(len(lengths), 'sequence', ',')} of {steps}"
    features = parts.train.x.shape[-1]
    names = f": {', '.join(parts.train.features[:12])}" if parts.train.features else ""
    yield counted(features, "input feature") + names


def _vocabulary(about: About) -> Iterator[str]:
    """Yield the most frequent tokens of a text; bytes are in the order of their numbers, and are not shown."""
    if about.text == "bytes" or about.classes is None:
        return
    shown = ", ".join(map(repr, about.classes[:CLASSES]))
    more = len(about.classes) - CLASSES
    yield f"most frequent {about.text}: {shown}" + (f" and {more:,} more" if more > 0 else "")


def _lengths(part: Sequences) -> np.ndarray:
    return np.full(len(part.x), part.x.shape[1]) if part.lengths is None else part.lengths


def _labels(
    parts: Parts, classes: tuple[str, ...] | None, per_step: bool, loss: str, questions: list[str]
) -> Iterator[str]:
    y = parts.train.y
    assert y is not None
    of = "step" if per_step else "sequence"
    if classes is None:
        yield f"a target of {y.shape[-1]} numbers for each {of}" if y.shape[-1] > 1 else f"a number for each {of}"
        return
    values = y[parts.train.valid()] if per_step else y
    counts = np.bincount(values, minlength=len(classes))
    shown = ", ".join(
        f"{name} {100 * n / counts.sum():.3g}%" for name, n in list(zip(classes, counts, strict=True))[:CLASSES]
    )
    more = f" and {len(classes) - CLASSES} more" if len(classes) > CLASSES else ""
    yield f"{len(classes)} classes, one for each {of}; of the training part {shown}{more}"
    if np.min(counts) * len(classes) < 0.2 * counts.sum():
        rare = classes[int(np.argmin(counts))]
        yield f"the classes are not balanced: {rare} has {np.min(counts):,} of {counts.sum():,} labels"
    if loss == "softmax" and len(classes) >= MANY and all(name.lstrip("-").isdigit() for name in classes):
        questions.append(
            f"the labels are {len(classes)} different whole numbers; if they are amounts to be predicted, set "
            "loss.name: linear"
        )


def _are_numbers(error: DataError) -> bool:
    return "For numbers say loss.name: linear" in str(error)
