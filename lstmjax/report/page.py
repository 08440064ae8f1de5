"""The page: everything that it needs in one HTML text, and nothing from anywhere else."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import os
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any

from lstmjax.arguments import one_of
from lstmjax.cells import Cell
from lstmjax.networks import NetworkParams
from lstmjax.report.collect import How, as_whole
from lstmjax.report.given import given
from lstmjax.report.pack import NOTHING, choose_plan, packed
from lstmjax.report.tree import Ranking, tree_of
from lstmjax.stack import Layers
from lstmjax.training.losses import LOSSES
from lstmjax.types import Bidirectional, LSTMParams, PyTree
from lstmjax.wrappers import Wrapper
from lstmjax.writing import write_text

if TYPE_CHECKING:
    from jax.typing import ArrayLike, DTypeLike

SCRIPTS = (
    "data", "state", "colours", "draw", "order", "timeline", "input", "map", "tracks", "predictions", "panels",
    "saturation", "curves", "model", "main",
)  # fmt: skip
"""The files of the page's program, in the order in which they are read."""


def report(
    params: LSTMParams | Bidirectional | Layers | NetworkParams,
    xs: ArrayLike,
    *,
    lengths: ArrayLike | None = None,
    examples: Sequence[int] | None = None,
    labels: ArrayLike | None = None,
    loss: str = "softmax",
    per_step: bool = False,
    classes: Sequence[str] | None = None,
    features: Sequence[str] | None = None,
    names: Sequence[str] | None = None,
    reasons: Mapping[int, str] | None = None,
    shown: ArrayLike | None = None,
    records: Sequence[Mapping[str, Any]] = (),
    remembers: Sequence[tuple[str, Ranking]] = (),
    merge: str = "concat",
    residual: bool = False,
    wrappers: tuple[Wrapper, ...] = (),
    cell: Cell | str | None = None,
    dtype: DTypeLike | None = None,
    title: str = "An LSTM, seen inside",
    facts: Sequence[str] = (),
    notes: Sequence[str] = (),
    max_bytes: int = 8_000_000,
    path: str | os.PathLike | None = None,
) -> str:
    """Gives one self-contained HTML page that shows what happens inside a network, and writes it if it has a path.

    It opens from the disk and loads nothing. On it: the model and its shapes, predictions, every gate of the
    examples over time with exact values under the cursor, the tracks of a pinned unit beside the input, the units that
    match a span that is marked, saturation, gradient flow, and training curves.

    Args:
        params: `NetworkParams`, or LSTM layers without a head: a tuple of them, a `Bidirectional` pair, or one.
        xs: inputs `[N, T, I]`, or one sequence `[T, I]`. Saturation is that of all N.
        lengths: valid steps `[N]`; None: all T.
        examples: rows of xs whose steps are on the page; None: the first four.
        labels: what is right, as the loss has it: whole numbers `[N]` for softmax, numbers `[N, O]` for sigmoid
            and linear; with `per_step` `[N, T]` and `[N, T, O]`; of one sequence without the N. None: unknown, and
            the gradient is that of the loss on what the network says.
        loss: what the logits mean: "softmax", "sigmoid" or "linear".
        per_step: a prediction at each step, or one of the last valid step.
        classes: names of the O outputs.
        features: names of the I features. Where each step has a 1 in one feature and 0 in the others, the names
            are shown as text.
        names: what the N sequences are called.
        reasons: why an example is shown, a few words by its row.
        shown: the inputs as a reader knows them, before they were scaled, as xs; None: xs.
        records: lines of a run's metrics.jsonl, for the training curves.
        remembers: for each question its name and its units from the best to the worst, as `rank_units` gives them:
            (layer, direction, unit, AUC, ...) each, direction "forward" or "reverse".
        merge, residual, wrappers, cell, dtype: as for `lstmjax.stacked`.
        title: above the page.
        facts: said below it.
        notes: said at the end.
        max_bytes: what the page may weigh; to stay below it, values are kept to 8 bit, then fields are left
            out, as the page says.
        path: file to write.

    Returns:
        The page as text.

    Raises:
        ValueError: an argument does not fit the others, values are not finite, or the page cannot be as small.
    """
    data = given(
        xs,
        lengths=lengths,
        examples=examples,
        labels=labels,
        features=features,
        names=names,
        reasons=reasons,
        shown=shown,
    )
    one_of("loss", loss, tuple(LOSSES))
    how = How(loss, per_step, merge, residual, tuple(wrappers), cell, dtype)
    tree = tree_of(as_whole(params), data, how, classes=classes, records=records, remembers=remembers)
    tree |= {"title": title, "facts": [*tree["facts"], *facts], "notes": [*notes, *tree["notes"]]}
    text = assemble(tree, max_bytes)
    if path is not None:
        write_text(Path(path), text)
    return text


def assemble(tree: dict[str, Any], max_bytes: int) -> str:
    """Gives the page of what `collect` gave, at most so many bytes.

    Raises:
        ValueError: it cannot be as small.
    """
    bare = len(_page(packed(tree, NOTHING)[0]))
    plan = choose_plan(tree, max_bytes - bare)
    small, error = packed(tree, plan)
    small["fields"] = [field for field in tree["fields"] if field["name"] in plan.bits]
    small["notes"].append(
        f"Of the numbers over time, {plan.says}: what is shown is within {error:.1e} of what was computed."
    )
    size, count = (len(_page(small)) + 80) / 1e6, len(tree["examples"])
    small["notes"].append(f"This page holds {count} example{'s' * (count > 1)} in {size:.2f} MB, and loads nothing.")
    return _page(small)


def _page(tree: dict[str, Any]) -> str:
    folder = files("lstmjax.report").joinpath("page")
    style = folder.joinpath("page.css").read_text("utf-8")
    program = "\n".join(folder.joinpath(f"{name}.js").read_text("utf-8") for name in SCRIPTS)
    script = f'(() => {{\n"use strict";\n{program}}})();\n'
    policy = f"default-src 'none'; style-src {_hash(style)}; script-src {_hash(script)}; base-uri 'none'"
    return Template(folder.joinpath("page.html").read_text("utf-8")).substitute(
        policy=f"{policy}; form-action 'none'",
        title=html.escape(tree["title"]),
        style=style,
        script=script,
        data=as_json(tree),
    )


def _hash(text: str) -> str:
    """Gives what a Content-Security-Policy calls the one text that it allows."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def as_json(tree: PyTree) -> str:
    r"""Gives JSON that cannot end the element in which it stands: its only "<" and "&" are escaped.

    >>> as_json({"name": "</script>"})
    '{"name":"\\u003c/script>"}'
    """
    text = json.dumps(tree, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace("&", "\\u0026")
