"""The page: one HTML text with everything that it needs, so that it loads nothing."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any

from lstmjax.arguments import one_of
from lstmjax.cells import Cell
from lstmjax.networks import NetworkParams
from lstmjax.report.collect import Settings, with_layer_tuple
from lstmjax.report.details import RunDetails
from lstmjax.report.inputs import report_inputs
from lstmjax.report.outcome import Outcome
from lstmjax.report.pack import NOTHING, choose_plan, packed
from lstmjax.report.tree import Ranking, other_tree, tree_of
from lstmjax.stack import Layers
from lstmjax.training.losses import LOSSES
from lstmjax.types import Bidirectional, LSTMParams, PyTree
from lstmjax.wrappers import Wrapper
from lstmjax.writing import write_text

if TYPE_CHECKING:
    from jax.typing import ArrayLike, DTypeLike

SCRIPTS = (
    "data", "state", "theme", "colours", "draw", "order", "timeline", "input", "saliency", "map", "tracks",
    "predictions", "overtime", "panels", "curves", "results", "details", "compare", "learning", "saturation", "model",
    "main",
)  # fmt: skip
"""The files of the page's program, in their order."""


FRAME_HEIGHT = 820
"""Pixels of the frame in which a notebook shows the page."""


@dataclass(frozen=True, repr=False)
class Page:
    """A page that a notebook shows in a frame, and that prints as the path of its file."""

    html: str
    """The page as text, complete."""
    path: Path | None = None
    """The file that it was written to, if any."""

    def __str__(self) -> str:
        return "a page that is in no file yet; call .save(path)" if self.path is None else str(self.path)

    def __repr__(self) -> str:
        return f"<Page of {len(self.html.encode()) / 1e6:.2f} MB, {self}>"

    def _repr_html_(self) -> str:
        # The sandbox lets the page run its program and nothing else: it cannot reach the notebook around it.
        return (
            f'<iframe sandbox="allow-scripts" srcdoc="{html.escape(self.html)}" width="100%" height="{FRAME_HEIGHT}" '
            'style="border: 0"></iframe>'
        )

    def save(self, path: str | os.PathLike) -> Page:
        """Write the page to a file, and return the page with the file's absolute path."""
        path = Path(path).absolute()
        write_text(path, self.html)
        return Page(self.html, path)


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
    outcome: Outcome | None = None,
    run: RunDetails | None = None,
    compare: Mapping[str, Any] | None = None,
    merge: str = "concat",
    residual: bool = False,
    wrappers: tuple[Wrapper, ...] = (),
    cell: Cell | str | None = None,
    dtype: DTypeLike | None = None,
    target_scaling: tuple[Sequence[float], Sequence[float]] | None = None,
    title: str = "An LSTM, seen inside",
    facts: Sequence[str] = (),
    notes: Sequence[str] = (),
    max_bytes: int = 8_000_000,
    path: str | os.PathLike | None = None,
) -> Page:
    """Return one self-contained HTML page that shows what happens inside a network, and write it if there is a path.

    The page opens from the disk and loads nothing. It shows the model and its shapes, predictions at every step, every
    gate of the examples over time with exact values under the cursor, the curves of a pinned unit, the input with its
    saliency, the units that match a marked span, results over all sequences, saturation, gradient flow, training
    curves, and a second network beside the first one.

    Args:
        params: `NetworkParams`, or LSTM layers without a head: a tuple of them, a `Bidirectional` pair, or one.
        xs: inputs `[N, T, I]`, or one sequence `[T, I]`. Saturation is computed over all N.
        lengths: valid steps `[N]`; None: all T.
        examples: rows of xs whose steps are on the page; None: the first four.
        labels: the labels for the loss: whole numbers `[N]` for softmax, numbers `[N, O]` for sigmoid and linear; with
            `per_step` `[N, T]` and `[N, T, O]`; of one sequence without the N. None: unknown, and the gradient is that
            of the loss on the predictions.
        loss: the meaning of the logits: "softmax", "sigmoid" or "linear".
        per_step: there is a prediction at each step, not only at the last valid step.
        classes: names of the O outputs.
        features: names of the I features. For one-hot inputs the names are shown as text.
        names: names of the N sequences.
        reasons: a few words on why an example is shown, by its row.
        shown: the inputs in the units of the reader, before they were scaled, in the shape of xs; None: xs.
        records: lines of a run's metrics.jsonl, for the training curves.
        remembers: for each question its name and its units from the best to the worst, as `rank_units` returns them:
            (layer, direction, unit, AUC, ...) each, direction "forward" or "reverse".
        outcome: predictions and labels for the results; None: those of xs, if there are labels and a head.
        run: the command and the hyperparameters of the run behind the network.
        compare: arguments of this function for a second network, which is shown beside the first one: `params`,
            `title`, and others where they differ, such as `xs`, scaled as it needs the same sequences.
        merge, residual, wrappers, cell, dtype: as for `lstmjax.stacked`.
        target_scaling: for numbers: offset `[O]` and scale `[O]` of the targets that the network learned; what it
            predicts, times scale plus offset, is in the units of the labels. None: it learned the labels.
        title: the title of the page.
        facts: lines below the title.
        notes: lines at the end.
        max_bytes: the largest size of the page; to stay below it, values are stored in 8 bit, and then fields are left
            out, as the page says.
        path: the file to write.

    Returns:
        A `Page`: a notebook shows it in a frame, `print` shows the path, and `.html` is the text.

    Raises:
        ValueError: an argument does not fit the others, values are not finite, or the page cannot be so small.
    """
    arguments: dict[str, Any] = {
        "params": params, "xs": xs, "lengths": lengths, "examples": examples, "labels": labels, "loss": loss,
        "per_step": per_step, "classes": classes, "features": features, "names": names, "reasons": reasons,
        "shown": shown, "records": records, "remembers": remembers, "outcome": outcome, "run": run, "merge": merge,
        "residual": residual, "wrappers": wrappers, "cell": cell, "dtype": dtype,
        "target_scaling": target_scaling, "facts": facts,
    }  # fmt: skip
    tree = _tree(**arguments)
    other = None
    if compare is not None:
        for name in compare.keys() - {*arguments, "title"}:
            raise ValueError(f"compare has {name!r}, expected arguments of report: {', '.join(arguments)} or title.")
        if "params" not in compare:
            raise ValueError("compare has no 'params'; pass those of the second network.")
        # What belongs to one network is not taken over from the first one.
        fresh = {"records": (), "remembers": (), "outcome": None, "run": None, "facts": ()}
        given = {name: value for name, value in compare.items() if name != "title"}
        other = other_tree(_tree(**arguments | fresh | given), str(compare.get("title", "the other network")))
    tree |= {"title": title, "notes": [*notes, *tree["notes"]], "other": other}
    page = Page(assemble(tree, max_bytes))
    return page if path is None else page.save(path)


def _tree(
    *,
    params: LSTMParams | Bidirectional | Layers | NetworkParams,
    xs: ArrayLike,
    lengths: ArrayLike | None,
    examples: Sequence[int] | None,
    labels: ArrayLike | None,
    loss: str,
    per_step: bool,
    classes: Sequence[str] | None,
    features: Sequence[str] | None,
    names: Sequence[str] | None,
    reasons: Mapping[int, str] | None,
    shown: ArrayLike | None,
    records: Sequence[Mapping[str, Any]],
    remembers: Sequence[tuple[str, Ranking]],
    outcome: Outcome | None,
    run: RunDetails | None,
    merge: str,
    residual: bool,
    wrappers: tuple[Wrapper, ...],
    cell: Cell | str | None,
    dtype: DTypeLike | None,
    target_scaling: tuple[Sequence[float], Sequence[float]] | None,
    facts: Sequence[str],
) -> dict[str, Any]:
    """Return everything that the page shows of one network; arguments as for `report`."""
    data = report_inputs(
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
    scaling = None
    if target_scaling is not None:
        network = params if isinstance(params, NetworkParams) else None
        width = None if network is None else network.head.b.shape[0]
        offset, scale = (tuple(map(float, part)) for part in target_scaling)
        if loss in ("softmax", "sigmoid") or not len(offset) == len(scale) == width:
            raise ValueError(
                f"target_scaling has {len(offset)} offsets and {len(scale)} scales for loss {loss!r}, expected those "
                "of each of the O outputs of a regression; leave it out otherwise."
            )
        scaling = (offset, scale)
    tree = tree_of(
        with_layer_tuple(params),
        data,
        Settings(loss, per_step, merge, residual, tuple(wrappers), cell, dtype, scaling),
        classes=classes,
        records=records,
        remembers=remembers,
        outcome=outcome,
        run=run,
    )
    return tree | {"facts": [*tree["facts"], *facts]}


def assemble(tree: dict[str, Any], max_bytes: int) -> str:
    """Return the page of a tree, in at most `max_bytes`.

    Raises:
        ValueError: the page cannot be so small.
    """
    bare = len(_page(packed(tree, NOTHING)[0]))
    plan = choose_plan(tree, max_bytes - bare)
    small, error = packed(tree, plan)
    for shown in (small, small["other"] or {}):
        shown["fields"] = [field for field in shown.get("fields", ()) if field["name"] in plan.bits]
    small["notes"].append(
        f"Of the numbers over time, {plan.note}: what is shown is within {error:.1e} of what was computed."
    )
    size, count = (len(_page(small)) + 80) / 1e6, len(tree["examples"])
    small["notes"].append(f"This page holds {count} example{'s' * (count > 1)} in {size:.2f} MB, and loads nothing.")
    return _page(small)


def _page(tree: dict[str, Any]) -> str:
    """Return the HTML with a tree in it."""
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
    """Return the source expression by which a Content-Security-Policy allows this text alone."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def as_json(tree: PyTree) -> str:
    r"""Return JSON that cannot end the HTML element around it: every "<" and "&" is escaped.

    >>> as_json({"name": "</script>"})
    '{"name":"\\u003c/script>"}'
    """
    text = json.dumps(tree, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace("&", "\\u0026")
