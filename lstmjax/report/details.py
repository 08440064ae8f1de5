"""What is known of the run behind a network: its command and hyperparameters, and how its gates learned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lstmjax.config import Config, flat
from lstmjax.errors import UserError
from lstmjax.networks import NetworkParams
from lstmjax.report.collect import by_direction
from lstmjax.report.pack import PageArray
from lstmjax.runs import RunFolder
from lstmjax.training.learning import Learning, learning
from lstmjax.training.reading import load_checkpoints
from lstmjax.training.recipe import train_only

MAX_CHECKPOINTS = 40  # positions of a slider; of more, some are left out
MEASURES = ("mean", "left", "right")


class RunDetails(NamedTuple):
    """A run, as the page shows it."""

    command: str  # trains the same network again
    chosen: Mapping[str, Any]  # hyperparameters that differ from the defaults, by key, such as "optimizer.name"
    defaults: Mapping[str, Any]  # the others
    learning: Learning | None = None  # the gates at each checkpoint; None: too few checkpoints were kept
    train_only: Sequence[str] = ()  # what affects the numbers of training but not those of validation
    notes: Sequence[str] = ()  # what is left out, with the reason
    checkpoints: Sequence[tuple[int, NetworkParams]] = ()  # (training step, network), from the first step on


def details_of(folder: RunFolder, *, learned: bool = True) -> RunDetails:
    """Read what is known of a run from its folder.

    Args:
        folder: the folder of the run.
        learned: look at its checkpoints, too, where `keep_every` kept some.
    """
    values = flat(folder.config.model_dump(mode="json"))
    usual = flat(Config(steps=1).model_dump(mode="json"))
    usual |= {"steps": None}  # there is no default number
    chosen = {key: value for key, value in values.items() if value != usual.get(key)}
    defaults = {key: value for key, value in values.items() if key not in chosen}
    path = folder.path / "config.yaml"
    if path.is_relative_to(Path.cwd()):
        path = path.relative_to(Path.cwd())
    command = f"lstmjax train {path}"
    gates, notes, checkpoints = None, [], []
    if learned and folder.config.keep_every:
        checkpoints = [(step, trained.params) for step, trained in load_checkpoints(folder.path)]
        try:
            gates = learning(folder.path)
        except UserError as error:  # sequences of a file can be looked at without the data of the run
            notes.append(f"How the gates learned is left out: {error}.")
    return RunDetails(command, chosen, defaults, gates, train_only(folder.config), notes, checkpoints)


def details_tree(
    details: RunDetails | None, places: Sequence[tuple[int, str]], maps: Sequence[Mapping[str, Any]] = ()
) -> dict[str, Any]:
    """Return the parts of the page about a run.

    Args:
        details: the run; None: there is none.
        places: (layer, direction) of each part of the page.
        maps: what the map shows at some of the checkpoints.
    """
    if details is None:
        return {"run": None, "learning": None}
    run = {
        "command": details.command,
        "chosen": [[key, _text(value)] for key, value in details.chosen.items()],
        "defaults": [[key, _text(value)] for key, value in details.defaults.items()],
        "trainOnly": list(details.train_only),
    }
    if details.learning is None:
        return {"run": run, "learning": None}
    return {"run": run, "learning": _learning(details.learning, places) | {"maps": list(maps)}}


def _learning(learned: Learning, places: Sequence[tuple[int, str]]) -> dict[str, Any]:
    """Return the statistics of each gate at each checkpoint, `[S, H]` for each part of the page."""
    count = len(learned.steps)
    rows = np.unique(np.linspace(0, count - 1, min(count, MAX_CHECKPOINTS)).round().astype(int))
    statistics = by_direction(learned.statistics)
    parts = []
    for place in places:
        gates = statistics[place].mean._fields
        parts.append(
            {
                gate: {
                    name: PageArray(np.asarray(getattr(getattr(statistics[place], name), gate))[rows])
                    for name in MEASURES
                }
                for gate in gates
                if getattr(statistics[place].mean, gate) is not None
            }
        )
    return {"steps": learned.steps[rows].tolist(), "parts": parts}


def _text(value: Any) -> str:
    return "none" if value is None else str(value)
