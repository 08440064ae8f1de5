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
from typing import TYPE_CHECKING, Any, Unpack

from lstmjax.keywords import takes
from lstmjax.networks import NetworkParams
from lstmjax.report.inputs import report_inputs
from lstmjax.report.pack import NOTHING, choose_plan, packed
from lstmjax.report.shown import NetworkOptions, network_tree, settings_of
from lstmjax.report.tree import other_tree, tree_of
from lstmjax.stack import Layers
from lstmjax.types import Bidirectional, LSTMParams, PyTree
from lstmjax.writing import write_text

if TYPE_CHECKING:
    from jax.typing import ArrayLike

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


@takes(NetworkOptions, report_inputs, tree_of, settings_of)
def report(
    params: LSTMParams | Bidirectional | Layers | NetworkParams,
    xs: ArrayLike,
    *,
    compare: Mapping[str, Any] | None = None,
    title: str = "An LSTM, seen inside",
    notes: Sequence[str] = (),
    max_bytes: int = 8_000_000,
    path: str | os.PathLike | None = None,
    **options: Unpack[NetworkOptions],
) -> Page:
    """Return one self-contained HTML page that shows what happens inside a network, and write it if there is a path.

    The page opens from the disk and loads nothing. It shows the model and its shapes, predictions at every step, every
    gate of the examples over time with exact values under the cursor, the curves of a pinned unit, the input with its
    saliency, the units that match a marked span, results over all sequences, saturation, gradient flow, training
    curves, and a second network beside the first one.

    Args:
        params: `NetworkParams`, or LSTM layers without a head: a tuple of them, a `Bidirectional` pair, or one.
        xs: inputs `[N, T, I]`, or one sequence `[T, I]`. Saturation is computed over all N.
        compare: arguments of this function for a second network, which is shown beside the first one: `params`,
            `title`, and others where they differ, such as `xs`, scaled as it needs the same sequences.
        title: the title of the page.
        notes: lines at the end.
        max_bytes: the largest size of the page; to stay below it, values are stored in 8 bit, and then fields are left
            out, as the page says.
        path: the file to write.
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
        times: names of the valid steps of each of the N sequences, such as dates, for the time axis.
        reasons: a few words on why an example is shown, by its row.
        shown: the inputs in the units of the reader, before they were scaled, in the shape of xs; None: xs.
        records: lines of a run's metrics.jsonl, for the training curves.
        remembers: for each question its name and its units from the best to the worst, as `rank_units` returns them:
            (layer, direction, unit, AUC, ...) each, direction "forward" or "reverse".
        outcome: predictions and labels for the results; None: those of xs, if there are labels and a head.
        run: the command and the hyperparameters of the run behind the network.
        facts: lines below the title.
        merge, residual, wrappers, cell, dtype: as for `lstmjax.stacked`.

    Returns:
        A `Page`: a notebook shows it in a frame, `print` shows the path, and `.html` is the text.

    Raises:
        ValueError: an argument does not fit the others, values are not finite, or the page cannot be so small.
    """
    tree = network_tree(params, xs, options)
    other = None if compare is None else other_tree(*_compared(compare, params, xs, options))
    tree |= {"title": title, "notes": [*notes, *tree["notes"]], "other": other}
    page = Page(assemble(tree, max_bytes))
    return page if path is None else page.save(path)


def _compared(
    compare: Mapping[str, Any], params: Any, xs: ArrayLike, options: NetworkOptions
) -> tuple[dict[str, Any], str]:
    """Return everything that the page shows of the second network, and its title.

    Args:
        compare: as for `report`.
        params, xs, options: those of the first network, which hold for the second one where it has no others.

    Raises:
        ValueError: compare has no parameters, or what is no argument.
    """
    names = ("params", "xs", *options)
    for name in compare.keys() - {*names, "title"}:
        raise ValueError(f"compare has {name!r}, expected arguments of report: {', '.join(names)} or title.")
    if "params" not in compare:
        raise ValueError("compare has no 'params'; pass those of the second network.")
    # What belongs to one network is not taken over from the first one.
    fresh = {"records": (), "remembers": (), "outcome": None, "run": None, "facts": ()}
    second: Any = options | fresh | {name: value for name, value in compare.items() if name in options}
    tree = network_tree(compare["params"], compare.get("xs", xs), second)
    return tree, str(compare.get("title", "the other network"))


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
