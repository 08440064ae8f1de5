"""Turn a wide table, with a row for each sequence, into sequences: numbered columns, or columns of lists."""

from __future__ import annotations

import re

import numpy as np

from lstmjax import claims
from lstmjax.claims import counted
from lstmjax.data.columns import Source, features_of, listed, numbers_of, words_of
from lstmjax.data.form import Form, Table, optional
from lstmjax.data.long import _ordered, check_weights, target_of
from lstmjax.data.ragged import Ragged
from lstmjax.data.sequences import DataError, Sequences

NUMBERED = re.compile(r"(?P<feature>.*?)[\s_.\-\[]*(?P<step>\d+)\]?")
SINGLE = "x"  # name of the feature whose columns are mere numbers


def numbered(names: tuple[str, ...]) -> dict[str, list[str]] | None:
    """Return the columns of each feature in the order of their steps; None: they are not numbered alike.

    >>> numbered(("a_0", "b_0", "a_1", "b_1"))
    {'a': ['a_0', 'a_1'], 'b': ['b_0', 'b_1']}
    >>> numbered(("1", "2", "3")), numbered(("width", "height"))
    ({'x': ['1', '2', '3']}, None)
    """
    steps: dict[str, dict[int, str]] = {}
    for name in names:
        match = NUMBERED.fullmatch(name)
        if match is None:
            return None
        of_feature = steps.setdefault(match["feature"].strip() or SINGLE, {})
        if int(match["step"]) in of_feature:
            return None
        of_feature[int(match["step"])] = name
    for of_feature in steps.values():
        begin = min(of_feature)
        if begin not in (0, 1) or sorted(of_feature) != list(range(begin, begin + len(of_feature))):
            return None
    if len({tuple(sorted(of_feature)) for of_feature in steps.values()}) != 1:
        return None
    return {feature: [of_feature[n] for n in sorted(of_feature)] for feature, of_feature in steps.items()}


def is_wide(source: Source, form: Form) -> bool:
    """Return whether a row of the table is a sequence.

    Raises:
        DataError: this is not clear; the message names the option that says it.
    """
    if form.layout != "auto":
        return form.layout == "wide"
    names, columns = source.names, form.columns
    order = columns.step if columns.time is None else columns.time
    if columns.sequence in names and order in names:
        return False
    features = features_of(source, form)
    if any(_is_list(source, name) for name in features):
        return True
    groups = numbered(features)
    if groups is not None and len(next(iter(groups.values()))) > 1:
        return True
    lacking = [name for name in (columns.sequence, order) if name not in names]
    raise DataError(
        f"{source.name}: is a row a step or a sequence? There is no column "
        f"{' and no column '.join(map(repr, lacking))}, and the columns {listed(features)} are not numbered by steps, "
        "such as a_0, a_1. If a row is a step, name the columns by data.columns.sequence and data.columns.step (or "
        "data.columns.time); if it is a sequence, set data.layout: wide"
    )


def from_wide(source: Source, form: Form, *, labels: bool) -> Table:
    """Return the sequences of a wide table, a row each.

    Missing values at the end of a row are its end; those before it are missing.

    Raises:
        DataError: a column is missing or wrong; the message names the row, the column and the remedy.
    """
    columns, name = form.columns, source.name
    if not source.table.num_rows:
        raise DataError(f"{name}: has no rows")
    if columns.categorical:
        raise DataError(
            f"{name}: data.columns.categorical is for a row for each step; a wide table holds numbers, so leave "
            f"{listed(columns.categorical)} out by data.columns.ignore"
        )
    if columns.target_of == "step":
        raise DataError(
            f"{name}: data.columns.target_of is step, but a wide table has a label for each sequence; remove it"
        )
    features = features_of(source, form)
    x, lengths, feature_names = (
        _lists(source, features) if any(_is_list(source, one) for one in features) else _numbered(source, features)
    )
    if form.missing == "error":
        _refuse_gaps(source, x, lengths, feature_names)
    count = len(x)
    names = None
    if columns.sequence in source.names:
        words = words_of(source, columns.sequence, "data.columns.sequence").tolist()
        if len(set(words)) < count:
            raise DataError(
                f"{name}: column {columns.sequence!r} has names twice, but a row is a sequence; rename them"
            )
        names = tuple(words)
    y = None
    if labels:
        targets = [target_of(source, one) for one in columns.target]
        y = targets[0] if len(targets) == 1 else np.stack([column.astype(object) for column in targets], axis=1)
    weight = None
    if columns.weight is not None and labels:
        weight = numbers_of(source, columns.weight, "data.columns.weight", missing=False)
        check_weights(source, columns.weight, weight, list(names or map(str, range(count))))
    group = None
    if columns.group is not None and (labels or columns.group in source.names):
        group = words_of(source, columns.group, "data.columns.group")
    time = None
    if columns.time is not None and (labels or columns.time in source.names):
        time = _ordered(source, columns.time, source.column(columns.time, "data.columns.time"))
    valid = np.arange(x.shape[1]) < lengths[:, None]
    if (lengths == lengths[0]).all():
        data = Sequences(x[:, : lengths[0]], y, None, names, feature_names, weight)
    else:
        data = Sequences(Ragged(x[valid], lengths, int(lengths.max())), y, lengths, names, feature_names, weight)
    notes: tuple[str, ...] = ()
    if form.layout == "auto":  # what was guessed is said
        longest = counted(int(lengths.max()), "step")
        steps = longest if data.lengths is None else f"{lengths.min()} to {longest}"
        notes = (f"wide table: a row is a sequence of {steps} of {listed(feature_names)}",)
    return Table(data, group, time, time, notes)


def _numbered(source: Source, features: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """Return x `[N, T, I]` with NaN where values are missing, lengths and names, from numbered columns."""
    groups = numbered(features)
    if groups is None:
        odd = [one for one in features if NUMBERED.fullmatch(one) is None]
        reason = (
            f"{odd[0]!r} has no number" if odd else "the steps are not 0, 1, 2, ... or 1, 2, 3, ... for each feature"
        )
        raise DataError(
            f"{source.name}: the columns of a wide table are numbered by steps, such as a_0, a_1, b_0, b_1, but "
            f"{reason}; leave out what is no feature by data.columns.ignore"
        )
    columns = [
        np.stack([numbers_of(source, one, "data.columns.features", missing=True) for one in names], axis=1)
        for names in groups.values()
    ]
    x = np.stack(columns, axis=2)
    return x, _lengths(source, ~np.isnan(x).all(axis=2)), tuple(groups)


def _lengths(source: Source, present: np.ndarray) -> np.ndarray:
    """Return the number of steps up to the last one with a value, `[N]`."""
    steps = np.arange(1, present.shape[1] + 1)
    lengths = np.where(present, steps, 0).max(axis=1).astype(np.int32)
    if (lengths == 0).any():
        raise DataError(f"{source.place(int((lengths == 0).argmax()))}: has no value at all; remove the row")
    return lengths


def _is_list(source: Source, name: str) -> bool:
    types = optional("pyarrow", source.name).types
    kind = source.table.schema.field(name).type
    return types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)


def _lists(source: Source, features: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """Return x `[N, T, I]`, lengths and names, from a column of lists for each feature."""
    arrow = optional("pyarrow", source.name)
    lengths: np.ndarray | None = None
    parts = []
    for name in features:
        if not _is_list(source, name):
            raise DataError(
                f"{source.name}: column {name!r} is no list, but {next(n for n in features if _is_list(source, n))!r} "
                "is; leave it out by data.columns.ignore"
            )
        column = source.column(name, "data.columns.features")
        sizes = np.asarray(arrow.compute.list_value_length(column).fill_null(0)).astype(np.int32)
        if (sizes == 0).any():
            raise DataError(f"{source.place(int((sizes == 0).argmax()))}: column {name!r} is empty; remove the row")
        if lengths is not None and (sizes != lengths).any():
            row = int((sizes != lengths).argmax())
            raise DataError(
                f"{source.place(row)}: column {name!r} has {counted(sizes[row], 'step')}, but {features[0]!r} has "
                f"{lengths[row]}"
            )
        lengths = sizes
        flat = Source(arrow.table({name: arrow.compute.list_flatten(column)}), f"{source.name}: lists")
        parts.append(numbers_of(flat, name, "data.columns.features", missing=True))
    assert lengths is not None
    longest = int(lengths.max())
    try:
        claims.check_memory(4 * len(lengths) * longest * len(parts), "x as float32", "give fewer or shorter sequences")
    except claims.ClaimError as error:
        raise DataError(f"{source.name}: {error}") from None
    x = np.zeros((len(lengths), longest, len(parts)), np.float32)
    x[np.arange(longest) < lengths[:, None]] = np.stack(parts, axis=1)
    return x, lengths, features


def _refuse_gaps(source: Source, x: np.ndarray, lengths: np.ndarray, features: tuple[str, ...]) -> None:
    """Refuse missing values before the end of a row."""
    gaps = np.isnan(x) & (np.arange(x.shape[1]) < lengths[:, None])[..., None]
    if gaps.any():
        row, step, feature = np.argwhere(gaps)[0].tolist()
        raise DataError(
            f"{source.place(row)}: step {step} of {features[feature]!r} is missing ({int(gaps.sum())} such values in "
            "all); fill them, or say how by data.missing: mask, forward or mean"
        )
