"""Checkpoints through orbax: whole, verified, and the best of them kept."""

from __future__ import annotations

import json
import logging
import re
import shutil
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import jax
import numpy as np
import orbax.checkpoint as ocp

from lstmjax.errors import UserError
from lstmjax.types import PyTree

log = logging.getLogger("lstmjax")
policies = ocp.checkpoint_managers
TRASH, SUMS = ".trash", ".sums"


class CheckpointError(UserError):
    """No checkpoint that can be used."""


class Damaged(Exception):
    """A checkpoint whose bytes are not what was saved."""


class Checkpoints:
    """The checkpoints of a run: the last two, the best one, and those of certain steps.

    `max_to_keep` and `best_fn` alone would delete the newest one, and a kill during the deletion
    makes orbax fail at the next start: hence the two policies, and deletion as a rename.

    Args:
        folder: where they lie.
        fingerprint: of the configuration; a checkpoint of another one is refused.
        keep_every: keep those of the steps that this divides, too; None: no others.
        read_only: change nothing, create nothing.
    """

    def __init__(self, folder: str | Path, fingerprint: str, *, keep_every: int | None = None, read_only: bool = False):
        self.folder = Path(folder).absolute()
        self.fingerprint = fingerprint
        self._read_only = read_only
        if read_only and not self.folder.is_dir():
            raise CheckpointError(f"{self.folder}: no such folder, so there are no checkpoints to read")
        if not read_only:
            self._empty_trash()
        with _silent_absl() if read_only else nullcontext():  # it warns that what is only read is only read
            self._manager = ocp.CheckpointManager(
                self.folder,
                options=ocp.CheckpointManagerOptions(
                    max_to_keep=None,
                    best_fn=_score,
                    preservation_policy=policies.AnyPreservationPolicy(
                        [
                            policies.LatestN(2),
                            policies.BestN(get_metric_fn=_score, n=1, keep_checkpoints_without_metrics=False),
                            *([] if keep_every is None else [policies.EveryNSteps(keep_every)]),
                        ]
                    ),
                    todelete_subdir=None if read_only else TRASH,
                    cleanup_tmp_directories=not read_only,
                    # A full disk shows at the save that failed, not at the next one.
                    enable_async_checkpointing=False,
                    read_only=read_only,
                ),
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._manager.close()

    def steps(self) -> list[int]:
        """Gives the steps that have a checkpoint, the latest one last."""
        return sorted(self._manager.all_steps())

    def save(self, step: int, tree: PyTree, score: float | None = None) -> None:
        """Saves a tree of arrays; `score` is how good it is on the validation part, None if unknown.

        Raises:
            OSError: it could not be written; earlier checkpoints are untouched.
        """
        leaves = _leaves(tree)
        about = {"fingerprint": self.fingerprint, "crc": {name: _crc(leaf) for name, leaf in leaves.items()}}
        try:
            saved = self._manager.save(
                step,
                args=ocp.args.Composite(state=ocp.args.StandardSave(leaves), about=ocp.args.JsonSave(about)),
                metrics={"score": float("-inf") if score is None else score},
            )
        except Exception as error:  # tensorstore raises ValueError for a full disk, with pages of text
            raise OSError(
                f"{self.folder}: step {step} could not be saved ({_short(error)}); the steps before are whole: put it "
                f"right, then lstmjax train --resume {self.folder.parent}"
            ) from None
        if not saved:
            raise OSError(f"{self.folder}: step {step} was not saved, a later one is there: {self.steps()}")
        self._write_sums(step)
        self._empty_trash()

    def latest(self, like: PyTree) -> tuple[int, PyTree]:
        """Gives the latest step whose checkpoint is whole, and its tree; later ones are removed.

        Args:
            like: a tree with the structure, shapes and dtypes that are expected.
        """
        step, tree = self._first_whole(reversed(self.steps()), like)
        for later in self.steps():
            if later > step and not self._read_only:
                self._manager.delete(later)
        return step, tree

    def best(self, like: PyTree) -> tuple[int, PyTree]:
        """Gives the step with the best score whose checkpoint is whole, and its tree."""
        scores = {step: self._score_of(step) for step in self.steps()}
        validated = [step for step in scores if scores[step] > float("-inf")] or list(scores)
        return self._first_whole(sorted(validated, key=lambda step: (scores[step], step), reverse=True), like)

    def each(self, like: PyTree) -> Iterator[tuple[int, PyTree]]:
        """Gives the steps whose checkpoints are whole, the latest one last, each with its tree."""
        return self._whole(self.steps(), like)

    def _first_whole(self, steps: Iterable[int], like: PyTree) -> tuple[int, PyTree]:
        for found in self._whole(steps, like):
            return found
        raise CheckpointError(f"{self.folder}: no checkpoint that can be read; start the run anew")

    def _whole(self, steps: Iterable[int], like: PyTree) -> Iterator[tuple[int, PyTree]]:
        for step in steps:
            try:
                tree = self._read(step, like)
            except Damaged as error:
                log.warning("%s: checkpoint of step %d is damaged (%s); trying another one", self.folder, step, error)
            else:
                yield step, tree

    def _read(self, step: int, like: PyTree) -> PyTree:
        self._check_sums(step)  # before orbax sees the files: its readers leave pages of text behind
        try:
            about = self._manager.restore(step, args=ocp.args.Composite(about=ocp.args.JsonRestore()))["about"]
            found, expected = about["fingerprint"], about["crc"]
        except Exception as error:  # orbax raises whatever its layers raise
            raise Damaged(_short(error)) from None
        if found != self.fingerprint:
            raise CheckpointError(
                f"{self.folder}: step {step} was saved with another configuration ({found}) than config.yaml has now "
                f"({self.fingerprint}); undo the change there, or start a new run"
            )
        target = {
            name: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype)
            for name, leaf in zip(_names(like), jax.tree.leaves(like), strict=True)
        }
        if set(target) != set(expected):
            missing = ", ".join(sorted(set(target) ^ set(expected)))
            raise CheckpointError(f"{self.folder}: step {step} was saved by another version (differs in {missing})")
        try:
            restored = self._manager.restore(step, args=ocp.args.Composite(state=ocp.args.StandardRestore(target)))
            leaves = {name: np.asarray(leaf) for name, leaf in restored["state"].items()}
        except Exception as error:  # as above
            raise Damaged(_short(error)) from None
        for name, crc in expected.items():
            if _crc(leaves[name]) != crc:
                raise Damaged(f"the checksum of {name} is wrong")
        return jax.tree.unflatten(jax.tree.structure(like), [leaves[name] for name in target])

    def _score_of(self, step: int) -> float:
        try:
            return _score(self._manager.metrics(step) or {})
        except (OSError, ValueError, KeyError) as error:
            log.warning("%s: the score of step %d cannot be read (%s)", self.folder, step, _short(error))
            return float("-inf")

    def _write_sums(self, step: int) -> None:
        """Keeps the checksum of each file; a kill just before leaves none, then those of the leaves must do."""
        sums = self.folder / SUMS
        sums.mkdir(exist_ok=True)
        draft = sums / "new"
        draft.write_text(json.dumps(_file_sums(self.folder / str(step))), encoding="utf-8")
        draft.replace(sums / f"{step}.json")
        kept = {f"{step}.json" for step in self.steps()}
        for path in sums.iterdir():
            if path.name not in kept:
                path.unlink(missing_ok=True)

    def _check_sums(self, step: int) -> None:
        path = self.folder / SUMS / f"{step}.json"
        try:
            expected = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return
        found = _file_sums(self.folder / str(step))
        for name, crc in expected.items():
            if found.get(name) != crc:
                raise Damaged(f"{name} {'is not what was saved' if name in found else 'is missing'}")

    def _empty_trash(self) -> None:
        shutil.rmtree(self.folder / TRASH, ignore_errors=True)


@contextmanager
def _silent_absl() -> Iterator[None]:
    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(max(level, logging.ERROR))
    try:
        yield
    finally:
        logger.setLevel(level)


def _score(metrics: dict[str, Any]) -> float:
    return float(metrics.get("score", float("-inf")))


def _names(tree: PyTree) -> list[str]:
    return [jax.tree_util.keystr(path, simple=True, separator=".") for path, _ in jax.tree.leaves_with_path(tree)]


def _leaves(tree: PyTree) -> dict[str, np.ndarray]:
    """Gives the leaves by name, copied: what is saved must not change under a donated buffer."""
    return {name: np.array(leaf) for name, leaf in zip(_names(tree), jax.tree.leaves(tree), strict=True)}


def _crc(leaf: np.ndarray) -> int:
    head = json.dumps([str(leaf.dtype), leaf.shape]).encode()
    return zlib.crc32(np.ascontiguousarray(leaf).tobytes(), zlib.crc32(head))


def _file_sums(folder: Path) -> dict[str, int]:
    """Gives the checksum of each file in a folder, by its path there."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): zlib.crc32(path.read_bytes()) for path in files}


def _short(error: Exception) -> str:
    if system := re.search(r"([^:\[\]]+) \[os_error_code", str(error)):  # of pages, what the system said
        return system[1].strip()
    return (str(error).strip().split("\n")[0] or type(error).__name__)[:200]
