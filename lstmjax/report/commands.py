"""What `lstmjax inspect` does, as a function that gives lines of text."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lstmjax.data import About, Sequences, load, read
from lstmjax.errors import UserError, message_of
from lstmjax.report.choose import choose
from lstmjax.report.collect import PREDICTED, Ends, How, compute_ends
from lstmjax.report.page import report
from lstmjax.report.questions import Known, remembered
from lstmjax.runs import RunError, RunFolder
from lstmjax.training.inference import Trained, wrappers_of
from lstmjax.training.loop import load_run
from lstmjax.training.losses import LOSSES

MOST = 512  # sequences that are looked at; gates over more of them tell the same


class InspectError(UserError):
    """A page that cannot be written as asked."""


class Part(NamedTuple):
    """Sequences to look at."""

    name: str  # what a sequence without a name is called, before its number
    scaled: Sequences  # as the network sees them
    shown: np.ndarray  # [N, T, I] in the units of the training data
    says: str  # "the test part"


def inspect_run(
    run: str | Path, path: str | Path | None = None, out: str | Path = "report.html", examples: int = 4
) -> Iterator[str]:
    """Gives lines on the page that shows what happens inside a run's network, once it is written.

    Args:
        run: the run's folder.
        path: sequences to look at, NPZ, NPY or CSV; labels in it are not looked at. None: the test part of the
            run's data, else the validation part.
        out: the page, .html.
        examples: how many sequences are shown step by step: of different classes, and the one with the largest loss.

    Raises:
        UserError: no such run, the data cannot be used, or the page would be too large.
    """
    out = Path(out)
    if out.suffix.lower() not in (".html", ".htm"):
        raise InspectError(f"{out}: unknown kind of file to write; expected a name that ends in .html")
    if not out.parent.is_dir() or out.is_dir():
        reason = "is a folder" if out.is_dir() else f"there is no folder {out.parent}"
        raise InspectError(f"{out}: {reason}; name a file in a folder that is there")
    if examples < 1:
        raise InspectError(f"--examples is {examples}; expected 1 or more")
    trained, folder = load_run(run), RunFolder.open(run)
    part = _own(run, trained) if path is None else _file(path, trained.about)
    with jax.enable_x64(trained.config.model.needs_x64):
        yield from _write(folder, trained, part, out, examples)


def _own(run: str | Path, trained: Trained) -> Part:
    parts, found = load(trained.config.data, trained.config.loss.name)
    if found != trained.about:
        raise RunError(f"{run}: the data have changed since this run began; name a file by --input")
    name, data = ("validation", parts.validation) if parts.test is None else ("test", parts.test)
    return Part(
        name, data, data.x * np.array(found.scale, np.float32) + np.array(found.offset, np.float32), f"the {name} part"
    )


def _file(path: str | Path, about: About) -> Part:
    data = read(path, labels=False)
    return Part("sequence", about.scaled(data, str(path)), data.x, Path(path).name)


def _write(folder: RunFolder, trained: Trained, part: Part, out: Path, examples: int) -> Iterator[str]:
    params, config, about = trained
    model, loss = config.model, config.loss.name
    how = How(loss, about.per_step, model.merge, model.residual, wrappers_of(model), model.cell, jnp.dtype(model.dtype))
    count = len(part.scaled.x)
    data = part.scaled.take(slice(MOST))
    lengths, labels = (None if a is None else jnp.asarray(a) for a in (data.lengths, data.y))
    ends = compute_ends(params, jnp.asarray(data.x), lengths, labels, how=how)
    if not np.isfinite(ends.logits).all():
        raise InspectError(f"{folder.path}: the network gives NaN or infinity for {part.says}, which no page can show")
    reasons = _choose(data, ends, how, examples)
    try:
        text = report(
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
            shown=part.shown[:MOST],
            records=folder.records(LOSSES[loss].metric),
            remembers=remembered(Known(params, data, ends, how), about.classes, config.data.source),
            merge=model.merge,
            residual=model.residual,
            wrappers=how.wrappers,
            cell=model.cell,
            dtype=how.dtype,
            title=folder.path.name,
            facts=_facts(folder, part, LOSSES[loss].metric),
            notes=[f"Looked at: {len(data.x)} of {count} sequences of {part.says}."],
            path=out,
        )
    except UserError:  # it names its file
        raise
    except ValueError as error:
        raise InspectError(message_of(error, f"{folder.path}: ")) from None
    yield f"{len(reasons)} of {count} sequences of {part.says} shown"
    yield f"{len(text) / 1e6:.2f} MB written to {out}"


def _choose(data: Sequences, ends: Ends, how: How, count: int) -> dict[int, str]:
    """Gives the rows to show, each with the reason."""
    labels = np.asarray(PREDICTED[how.loss](ends.logits)) if data.y is None else data.y
    classes = labels if labels.ndim == 1 else np.zeros(len(data.x), int)
    return choose(classes, np.asarray(ends.losses), count, known=data.y is not None)


def _facts(folder: RunFolder, part: Part, metric: str) -> list[str]:
    result, found = folder.read_result(metric), [f"looked at: {part.says}"]
    if result is not None:
        found.append(f"best step {result['step']}, validation {metric} {result['validation'][metric]:.4f}")
        found += [f"test {metric} {result['test'][metric]:.4f}"] if result["test"] else []
    return found
