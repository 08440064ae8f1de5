"""The command `lstmjax inspect`, as a function that yields lines of text."""

from __future__ import annotations

import webbrowser
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lstmjax.claims import counted
from lstmjax.data import About, Sequences, load, unlabelled
from lstmjax.errors import UserError, message_of
from lstmjax.report.choose import choose
from lstmjax.report.collect import PREDICTED, Ends, Settings, compute_ends
from lstmjax.report.details import details_of
from lstmjax.report.outcome import Outcome
from lstmjax.report.page import report
from lstmjax.report.questions import Known, remembered
from lstmjax.report.texts import AS_ONE_HOT, Part, shown_as_one_hot, text_to_show
from lstmjax.runs import RunError, RunFolder
from lstmjax.training.forward import Trained, predicting, wrappers_of
from lstmjax.training.inference import outputs_of
from lstmjax.training.metrics import metrics_of
from lstmjax.training.reading import load_run

MAX_SEQUENCES = 512  # more of them would not change what is seen of the gates


class InspectError(UserError):
    """A page that cannot be written."""


def inspect_run(
    run: str | Path,
    path: str | Path | None = None,
    out: str | Path | None = None,
    examples: int = 4,
    *,
    open_page: bool = False,
    compare: str | Path | None = None,
) -> Iterator[str]:
    """Write the page that shows what happens inside a run's network, and yield lines about it.

    Args:
        run: the folder of the run.
        path: a file or folder of sequences, as for `lstmjax predict`; its labels are not used. For a language model a
            text, whose pieces are the sequences, with a token at each step. None: the test part of the run's data, or
            the validation part if there is no test part.
        out: the page, .html. None: report.html in the run's folder, or that of the file with sequences, such as
            report-new.html for new.npz.
        examples: the number of sequences that are shown step by step: of different classes, and the one with the
            largest loss.
        open_page: open the page in the browser.
        compare: the folder of another run on the same data, which is shown beside the first one.

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
    if trained.about.is_stream:
        trained, part = text_to_show(trained, run, path)
    else:
        trained = predicting(trained)
        part = _part_of_run(run, trained) if path is None else _part_of_file(path, trained.about)
    other = None if compare is None else _opened(compare, run, trained.about, trained.config.loss.name)
    both = [trained] if other is None else [trained, other[1]]
    with jax.enable_x64(any(one.config.model.needs_x64 for one in both)):
        yield from _write(folder, trained, part, out, examples, other)
    if open_page and not webbrowser.open(out.as_uri()):
        yield "no browser could be opened; open the file by hand"


def _part_of_run(run: str | Path, trained: Trained) -> Part:
    """Return the test part of the run's data, or the validation part if there is no test part."""
    parts, about = load(trained.config.data, trained.config.loss.name)
    if not about.has_same_data(trained.about):
        raise RunError(f"{run}: the data have changed since this run began; name a file by --input")
    name, data = ("validation", parts.validation) if parts.test is None else ("test", parts.test)
    if data.y is not None:  # what the page shows is in the units of the data
        data = data._replace(y=about.unscaled_targets(data.y))
    data = _named(data, name)
    looked_at = data.few(MAX_SEQUENCES, per_step=about.per_step)
    shown = about.unscaled(looked_at).array
    return Part(len(data.x), looked_at, shown, f"the {name} part", data, data.rows_of_few(MAX_SEQUENCES))


def _part_of_file(path: str | Path, about: About) -> Part:
    """Return the sequences of a file."""
    data = unlabelled(path, about)
    looked_at = _named(data, "sequence").few(MAX_SEQUENCES, per_step=False)  # without labels
    return Part(len(data.x), about.scaled(looked_at, str(path)), looked_at.array, Path(path).name)


def _named(data: Sequences, word: str) -> Sequences:
    """Return the sequences with names: those of the file, or a word with their numbers."""
    return data if data.names else data._replace(names=tuple(f"{word} {n}" for n in range(len(data.x))))


def _write(
    folder: RunFolder, trained: Trained, part: Part, out: Path, examples: int, other: tuple[RunFolder, Trained] | None
) -> Iterator[str]:
    params, config, about = trained
    loss = config.loss.name
    settings = _settings(trained)
    total, data = part.total, part.scaled
    lengths, labels = (None if a is None else jnp.asarray(a) for a in (data.lengths, data.y))
    ends = compute_ends(params, jnp.asarray(data.array), lengths, labels, settings=settings)
    if not np.isfinite(ends.logits).all():
        raise InspectError(
            f"{folder.path}: the network gives NaN or infinity for {part.description}, which no page can show"
        )
    reasons = _choose(data, ends, settings, examples)
    first = _arguments(folder, trained, part)
    second = None if other is None else _arguments(*other, _seen_by(other[1], part, about), learned=False)
    if other is not None and second is not None and first["title"] == second["title"]:
        for arguments, path in ((first, folder.path), (second, other[0].path)):
            arguments["title"] = str(path)  # the names of the folders do not tell them apart
    try:
        page = report(
            lengths=data.lengths,
            examples=tuple(reasons),
            labels=data.y,
            loss=loss,
            per_step=about.per_step,
            classes=about.target_names if about.classes is None else about.classes,
            features=about.features,
            names=data.names,
            reasons=reasons,
            shown=part.shown,
            remembers=remembered(Known(params, data, ends, settings), about.classes, config.data.source),
            notes=[_looked_at(part), *((AS_ONE_HOT,) if about.is_stream else ())],
            compare=second,
            path=out,
            **first,
        )
    except UserError:  # its message names the file
        raise
    except ValueError as error:
        raise InspectError(message_of(error, f"{folder.path}: ")) from None
    of_what = part.description if about.is_stream else f"{counted(total, 'sequence')} of {part.description}"
    yield f"{len(reasons)} of {of_what} shown"
    if other is not None:
        yield f"beside {other[0].path}"
    yield f"{len(page.html.encode()) / 1e6:.2f} MB written to {out}"


def _looked_at(part: Part) -> str:
    """Say how many sequences were looked at, and why those."""
    count = len(part.scaled.x)
    pieces = part.description.startswith(f"{part.total} pieces")
    of_what = part.description if pieces else f"{counted(part.total, 'sequence')} of {part.description}"
    note = f"Looked at: {count} of {of_what}"
    if count < min(part.total, MAX_SEQUENCES):
        note += (
            f", those of the first {MAX_SEQUENCES:,} that have at most {counted(part.scaled.x.shape[1], 'step', ',')}"
        )
    return f"{note}."


def _settings(trained: Trained) -> Settings:
    model = trained.config.model
    return Settings(
        trained.config.loss.name,
        trained.about.per_step,
        model.merge,
        model.residual,
        wrappers_of(model),
        model.cell,
        jnp.dtype(model.dtype),
        trained.about.target_scaling,
    )


def _arguments(folder: RunFolder, trained: Trained, part: Part, *, learned: bool = True) -> dict[str, Any]:
    """Return the arguments of `report` that differ between two runs on the same sequences.

    Args:
        folder, trained: the run.
        part: the sequences as its network sees them.
        learned: look at its checkpoints, too; the page shows those of the first run alone.
    """
    settings, metric = _settings(trained), metrics_of(folder.config)[0]
    data, outcome = part.labelled, None
    if data is not None and data.y is not None and data.names is not None:
        outputs = outputs_of(trained, data)
        outcome = Outcome(outputs, data.y, data.lengths, data.names, part.description, part.rows)
    return {
        "params": trained.params,
        "xs": part.scaled.array,
        "records": folder.records(metric),
        "outcome": outcome,
        "run": details_of(folder, learned=learned and trained.about.text is None),
        "title": folder.path.name,
        "facts": _facts(folder, part, metric),
        "target_scaling": settings.target_scaling,
        **settings.options,
    }


def _opened(compare: str | Path, run: str | Path, about: About, loss: str) -> tuple[RunFolder, Trained]:
    """Open a run to compare with.

    Raises:
        InspectError: its network is for other data.
    """
    folder, trained = RunFolder.open(compare), load_run(compare)
    trained = shown_as_one_hot(trained) if trained.about.is_stream else predicting(trained)
    for name, of_first, of_second in (
        ("features at each step", about.input_size, trained.about.input_size),
        ("names of features", about.features, trained.about.features),
        ("classes", about.classes, trained.about.classes),
        ("outputs", about.output_size, trained.about.output_size),
        ("a label at each step", about.per_step, trained.about.per_step),
        ("loss", loss, trained.config.loss.name),
    ):
        if of_first != of_second:
            raise InspectError(
                f"--compare {compare}: {name}: {_words(of_second)}, but {run} has {_words(of_first)}; compare runs on "
                "the same data"
            )
    return folder, trained


def _words(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _seen_by(trained: Trained, part: Part, about: About) -> Part:
    """Return the sequences as another network sees them, from those that the network of `about` sees."""
    labelled = None if part.labelled is None else trained.about.scaled(about.unscaled(part.labelled))
    return part._replace(scaled=trained.about.scaled(part.scaled._replace(x=part.shown)), labelled=labelled)


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
