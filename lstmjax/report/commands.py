"""The command `lstmjax inspect`, as a function that yields lines of text."""

from __future__ import annotations

import webbrowser
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lstmjax.data import About, Sequences, load, read
from lstmjax.errors import UserError, message_of
from lstmjax.report.choose import choose
from lstmjax.report.collect import PREDICTED, Ends, Settings, compute_ends
from lstmjax.report.outcome import Outcome
from lstmjax.report.page import report
from lstmjax.report.questions import Known, remembered
from lstmjax.runs import RunError, RunFolder
from lstmjax.training.inference import Trained, outputs_of, wrappers_of
from lstmjax.training.loop import load_run
from lstmjax.training.losses import LOSSES

MAX_SEQUENCES = 512  # more of them would not change what is seen of the gates


class InspectError(UserError):
    """A page that cannot be written."""


class Part(NamedTuple):
    """The sequences of a page."""

    name: str  # the name of a sequence without a name, before its number
    scaled: Sequences  # as the network sees them
    shown: np.ndarray  # [N, T, I] in the units of the training data
    description: str  # "the test part"


def inspect_run(
    run: str | Path,
    path: str | Path | None = None,
    out: str | Path | None = None,
    examples: int = 4,
    *,
    open_page: bool = False,
) -> Iterator[str]:
    """Write the page that shows what happens inside a run's network, and yield lines about it.

    Args:
        run: the folder of the run.
        path: a file of sequences, NPZ, NPY or CSV; its labels are not used. None: the test part of the run's data, or
            the validation part if there is no test part.
        out: the page, .html. None: report.html in the run's folder, or that of the file with sequences, such as
            report-new.html for new.npz.
        examples: the number of sequences that are shown step by step: of different classes, and the one with the
            largest loss.
        open_page: open the page in the browser.

    Raises:
        UserError: there is no such run, the data cannot be used, or the page would be too large.
    """
    if out is None:
        out = RunFolder.open(run).path / ("report.html" if path is None else f"report-{Path(path).stem}.html")
    out = Path(out)
    if out.suffix.lower() not in (".html", ".htm"):
        raise InspectError(f"{out}: unknown kind of file to write; expected a name that ends in .html")
    if not out.parent.is_dir() or out.is_dir():
        reason = "is a folder" if out.is_dir() else f"there is no folder {out.parent}"
        raise InspectError(f"{out}: {reason}; name a file in a folder that is there")
    if examples < 1:
        raise InspectError(f"--examples is {examples}; expected 1 or more")
    out = out.absolute()
    trained, folder = load_run(run), RunFolder.open(run)
    part = _part_of_run(run, trained) if path is None else _part_of_file(path, trained.about)
    with jax.enable_x64(trained.config.model.needs_x64):
        yield from _write(folder, trained, part, out, examples)
    if open_page and not webbrowser.open(out.as_uri()):
        yield "no browser could be opened; open the file by hand"


def _part_of_run(run: str | Path, trained: Trained) -> Part:
    """Return the test part of the run's data, or the validation part if there is no test part."""
    parts, about = load(trained.config.data, trained.config.loss.name)
    if about != trained.about:
        raise RunError(f"{run}: the data have changed since this run began; name a file by --input")
    name, data = ("validation", parts.validation) if parts.test is None else ("test", parts.test)
    shown = data.x * np.array(about.scale, np.float32) + np.array(about.offset, np.float32)
    return Part(name, data, shown, f"the {name} part")


def _part_of_file(path: str | Path, about: About) -> Part:
    """Return the sequences of a file."""
    data = read(path, labels=False)
    return Part("sequence", about.scaled(data, str(path)), data.x, Path(path).name)


def _write(folder: RunFolder, trained: Trained, part: Part, out: Path, examples: int) -> Iterator[str]:
    params, config, about = trained
    model, loss = config.model, config.loss.name
    settings = Settings(
        loss, about.per_step, model.merge, model.residual, wrappers_of(model), model.cell, jnp.dtype(model.dtype)
    )
    count = len(part.scaled.x)
    outcome = None
    if part.scaled.y is not None:
        names = part.scaled.names or [f"{part.name} {n}" for n in range(count)]
        outcome = Outcome(outputs_of(trained, part.scaled), part.scaled.y, part.scaled.lengths, names, part.description)
    data = part.scaled.take(slice(MAX_SEQUENCES))
    lengths, labels = (None if a is None else jnp.asarray(a) for a in (data.lengths, data.y))
    ends = compute_ends(params, jnp.asarray(data.x), lengths, labels, settings=settings)
    if not np.isfinite(ends.logits).all():
        raise InspectError(
            f"{folder.path}: the network gives NaN or infinity for {part.description}, which no page can show"
        )
    reasons = _choose(data, ends, settings, examples)
    try:
        page = report(
            params,
            data.x,
            lengths=data.lengths,
            examples=tuple(reasons),
            labels=data.y,
            loss=loss,
            per_step=about.per_step,
            classes=about.classes,
            features=about.features,
            names=data.names or [f"{part.name} {n}" for n in range(len(data.x))],
            reasons=reasons,
            shown=part.shown[:MAX_SEQUENCES],
            records=folder.records(LOSSES[loss].metric),
            outcome=outcome,
            remembers=remembered(Known(params, data, ends, settings), about.classes, config.data.source),
            merge=model.merge,
            residual=model.residual,
            wrappers=settings.wrappers,
            cell=model.cell,
            dtype=settings.dtype,
            title=folder.path.name,
            facts=_facts(folder, part, LOSSES[loss].metric),
            notes=[f"Looked at: {len(data.x)} of {count} sequences of {part.description}."],
            path=out,
        )
    except UserError:  # its message names the file
        raise
    except ValueError as error:
        raise InspectError(message_of(error, f"{folder.path}: ")) from None
    yield f"{len(reasons)} of {count} sequences of {part.description} shown"
    yield f"{len(page.html.encode()) / 1e6:.2f} MB written to {out}"


def _choose(data: Sequences, ends: Ends, settings: Settings, count: int) -> dict[int, str]:
    """Return the rows to show, with the reason for each."""
    labels = np.asarray(PREDICTED[settings.loss](ends.logits)) if data.y is None else data.y
    classes = labels if labels.ndim == 1 else np.zeros(len(data.x), int)
    return choose(classes, np.asarray(ends.losses), count, known=data.y is not None)


def _facts(folder: RunFolder, part: Part, metric: str) -> list[str]:
    """Return what is known of the run, for the head of the page."""
    facts = [f"looked at: {part.description}"]
    result = folder.read_result(metric)
    if result is not None:
        facts.append(f"best step {result['step']}, validation {metric} {result['validation'][metric]:.4f}")
        if result["test"]:
            facts.append(f"test {metric} {result['test'][metric]:.4f}")
    return facts
