"""What is in a file: which form its arrays have, which of them are LSTM and head, and what is left over."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lstmjax import checks
from lstmjax.convert.containers import Container, container_of, open_file
from lstmjax.convert.forms import FORMS, Form
from lstmjax.convert.heads import candidates, dense, find_head
from lstmjax.convert.layouts import ConvertError, to_jax
from lstmjax.convert.names import Contents, Leaf
from lstmjax.convert.own import named
from lstmjax.networks import NetworkParams
from lstmjax.stack import Layers, directions


class Found(NamedTuple):
    """What was read from a file."""

    params: Layers | NetworkParams
    form: str  # whose names the arrays have
    left: tuple[str, ...]  # what is neither LSTM nor head
    state: tuple[str, ...] = ()  # of optimizers and of random numbers, and notes such as the epoch
    heads: tuple[str, ...] = ()  # Dense layers, where none is the head for sure
    not_finite: tuple[str, ...] = ()  # arrays with NaN or infinity
    no_bias: bool = False  # the head had none, and has one of zeros


def find(
    path: str | Path,
    *,
    container: Container | None = None,
    form: str | None = None,
    prefix: str | None = None,
    names: Sequence[str] | None = None,
    head: str | None = None,
    extra: str = "refuse",
) -> Found:
    """Gives what `load_weights` gives, and what stayed behind; `container`: as that kind of file, whatever its name."""
    path = Path(path)
    checks.one_of("extra", extra, ("refuse", "drop"))
    checks.one_of("form", form, (None, *FORMS))
    container = container or container_of(path)
    contents = open_file(path, container)
    with _naming(path):
        if contents.params is None:
            found = _of_arrays(contents, form, prefix, names, head)
        else:
            for name, value in {"form": form, "prefix": prefix, "names": names, "head": head}.items():
                if value is not None:
                    raise ConvertError(f"{name} is said, but a {container.words} has no named arrays to choose from")
            _check_fit(contents.params, "In an ONNX model read_onnx gives each of them")
            name = (*container.forms, container.words)[0]
            bad = tuple(_not_finite(named(contents.params)))
            found = Found(contents.params, name, contents.settings, not_finite=bad)
        if found.left and extra == "refuse":
            could = f"; if one of {listed(found.heads)} is the head, pass head=" if found.heads else ""
            raise ConvertError(
                f"holds more than LSTM layers and a head: {listed(found.left)}. Pass extra='drop' to leave it "
                f"behind{could}"
            )
    if found.not_finite:
        warnings.warn(
            f"{path}: NaN or infinity in {listed(found.not_finite)}; is the file damaged, or did training diverge?",
            stacklevel=2,
        )
    return found


def _not_finite(arrays: Mapping[str, Any]) -> Iterator[str]:
    """Yield the names of arrays with NaN or infinity, and how many numbers are."""
    for name, array in arrays.items():
        values = np.asarray(array)
        count = int((~np.isfinite(values.astype(np.float32) if values.dtype.itemsize < 4 else values)).sum())
        if count:
            yield f"{name} ({count} of {values.size} numbers)"


def _of_arrays(
    contents: Contents, form: str | None, prefix: str | None, names: Sequence[str] | None, head: str | None
) -> Found:
    leaves = {name: Leaf(name, value) for name, value in contents.arrays.items()}
    within = {name: leaf for name, leaf in leaves.items() if name.startswith(prefix or "")}
    if prefix is not None and not within:
        raise ConvertError(f"prefix is {prefix!r}, but no name begins so; there are {listed(leaves)}")
    row = _recognised(within) if form is None else FORMS[form]
    params = row.read(row.normal(within), names or contents.order)
    _check_fit(params, "Say by prefix= which is meant, or the order by names=")
    others: Mapping[str, Any] = {}
    chosen = None
    if not isinstance(params, NetworkParams):
        others = candidates(row, row.normal(leaves))
        chosen = find_head(others, params, head)
        params = params if chosen is None else NetworkParams(params, dense(row, chosen))
    rest = [name for name, leaf in leaves.items() if not leaf.used]
    state = tuple(name for name in rest if re.search(row.state, name) or leaves[name].is_note)
    left = *(name for name in rest if name not in set(state)), *contents.settings
    no_bias = chosen is not None and chosen.b is None
    bad = tuple(_not_finite({name: leaf for name, leaf in leaves.items() if leaf.used}))
    return Found(to_jax(params), row.name, left, state, () if chosen else tuple(others), bad, no_bias)


def _recognised(leaves: Mapping[str, Leaf]) -> Form:
    """Gives the form whose names these are."""
    rows = [row for row in FORMS.values() if any(re.search(row.mark, name) for name in row.normal(leaves))]
    if not rows:
        raise ConvertError(
            f"there is no LSTM in it by the names of {choice(FORMS)}; it holds {listed(leaves) or 'nothing'}"
        )
    if len(rows) > 1:
        raise ConvertError(f"there are names of {choice([row.name for row in rows])} in it; say which by form=")
    return rows[0]


def _check_fit(params: Layers | NetworkParams, remedy: str) -> None:
    """Refuses layers that cannot stand on top of each other, such as two LSTMs side by side."""
    layers = params.layers if isinstance(params, NetworkParams) else params
    for n, (below, layer) in enumerate(pairwise(layers), start=1):
        widths = [part.output_size for part in directions(below)]
        for part in directions(layer):
            if part.input_size not in (sum(widths), widths[0]):
                raise ConvertError(
                    f"layer {n} takes {part.input_size} numbers, but layer {n - 1} gives {sum(widths)}, so they do not "
                    f"stand on top of each other. {remedy}"
                )


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Puts the file's name before what is wrong with it."""
    try:
        yield
    except ConvertError as error:
        raise ConvertError(f"{path}: {error}") from None


def listed(words: Iterable[str]) -> str:
    """Gives the first of these words, and how many more there are."""
    words = list(words)
    return ", ".join(words[:8]) + (f" and {len(words) - 8} more" if len(words) > 8 else "")


def choice(words: Iterable[str]) -> str:
    """Gives words as a choice: a, b or c."""
    *most, last = words
    return f"{', '.join(most)} or {last}" if most else last
