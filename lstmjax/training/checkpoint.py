"""Checkpoints: whole, verified, and the best of them kept. Orbax writes and reads the arrays."""

from __future__ import annotations

import json
import logging
import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any, NamedTuple, Self

import jax
import numpy as np
import orbax.checkpoint as ocp

from lstmjax.errors import UserError
from lstmjax.sums import array_sum, broken_seal, file_sums, sealed
from lstmjax.types import PyTree
from lstmjax.writing import named

log = logging.getLogger("lstmjax")
TRASH, SUMS, DRAFT = ".trash", ".sums", ".orbax-checkpoint-tmp"
TRIES = 10  # to read the best one while others are saved
NEEDED = re.compile(r"state/(_METADATA|manifest\.ocdbt|d/.*)|metrics/metrics|about/metadata")
"""The files of a checkpoint that reading depends on; orbax writes others that only writing uses."""


class CheckpointError(UserError):
    """No checkpoint that can be used."""


class Damaged(Exception):
    """A checkpoint whose bytes are not what was saved, or that is not there any more."""


class Best(NamedTuple):
    """The checkpoint that validation chose. The larger one is the better one; of equal scores the later one."""

    score: float
    step: int


class Checkpoints:
    """The checkpoints of a run: the last two, the best one, and those of certain steps.

    Each has, beside its arrays, what it says of itself in `about/metadata`, under a checksum: the fingerprint of the
    configuration, the checksums of the arrays and of data.json, its score, and which step was the best up to there.
    Deletion is a rename, so that a kill never leaves a half of a checkpoint.

    Args:
        folder: where they lie.
        fingerprint: of the configuration; a checkpoint of another one is refused.
        data: checksum of what the run knows of its data, which is saved along; None: unknown.
        keep_every: keep those of the steps that this divides, too; None: no others.
        read_only: change nothing, create nothing.
        growing: another process saves in the folder meanwhile, and deletes what it does not keep.
    """

    def __init__(
        self,
        folder: str | Path,
        fingerprint: str,
        *,
        data: int | None = None,
        keep_every: int | None = None,
        read_only: bool = False,
        growing: bool = False,
    ):
        self.folder = Path(folder).absolute()
        self.fingerprint, self._data, self._keep_every, self._read_only = fingerprint, data, keep_every, read_only
        self._growing = growing
        self._abouts: dict[int, dict[str, Any]] = {}
        self._warned: set[str] = set()
        if read_only and not self.folder.is_dir():
            raise CheckpointError(f"{self.folder}: no such folder, so there are no checkpoints to read")
        if not read_only:
            with named(self.folder):
                self.folder.mkdir(parents=True, exist_ok=True)
            self._clean_up()
        self._orbax = ocp.Checkpointer(ocp.CompositeCheckpointHandler())
        self._arrays = ocp.Checkpointer(ocp.StandardCheckpointHandler())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._orbax.close()
        self._arrays.close()

    def steps(self) -> list[int]:
        """Return the steps that have a checkpoint, the latest one last."""
        if not self.folder.is_dir():
            return []
        return sorted(int(path.name) for path in self.folder.iterdir() if path.name.isdecimal() and path.is_dir())

    def save(self, step: int, tree: PyTree, score: float | None = None) -> None:
        """Save a tree of arrays; `score` is how good it is on the validation part, None if unknown.

        Raises:
            OSError: it could not be written; earlier checkpoints are untouched.
        """
        if self.steps()[-1:] >= [step]:
            raise OSError(f"{self.folder}: step {step} was not saved, a later one is there: {self.steps()}")
        leaves, best = _leaves(tree), self._chosen(self.steps())
        if score is not None and (best is None or Best(score, step) > best):
            best = Best(score, step)
        about = {
            "fingerprint": self.fingerprint,
            "crc": {name: array_sum(leaf) for name, leaf in leaves.items()},
            "data": self._data,
            "score": score,
            "best": best,
        }
        self._sums_of(step).unlink(missing_ok=True)  # of a checkpoint of this step that was damaged
        try:
            self._orbax.save(
                self.folder / str(step),
                args=ocp.args.Composite(state=ocp.args.StandardSave(leaves), about=ocp.args.JsonSave(sealed(about))),
            )
            self._write_sums(step)
        except Exception as error:  # tensorstore raises ValueError for a full disk, with pages of text
            self._clean_up()
            before = "the steps before are whole: " if self.steps() else ""
            raise OSError(
                f"{self.folder}: step {step} could not be saved ({_short(error)}); {before}put it right, then lstmjax "
                f"train --resume {self.folder.parent}"
            ) from None
        self._remove(set(self.steps()) - self._to_keep())

    def latest(self, like: PyTree) -> tuple[int, PyTree]:
        """Return the latest step whose checkpoint is whole, and its tree; later ones are removed.

        Args:
            like: a tree with the structure, shapes and dtypes that are expected.
        """
        step, tree = self._first_whole(lambda steps: steps[::-1], like)
        if not self._read_only:
            self._remove({later for later in self.steps() if later > step})
        return step, tree

    def best(self, like: PyTree, chosen: int | None = None) -> tuple[int, PyTree]:
        """Return the step with the best score whose checkpoint is whole, and its tree.

        It says so if this is not the step that validation chose.

        Args:
            like: a tree with the structure, shapes and dtypes that are expected.
            chosen: which step the result of the run names; None: as the checkpoints say.
        """
        for _ in range(TRIES):
            steps = self.steps()
            expected = self._expected(steps, chosen)
            step, tree = self._first_whole(lambda steps: self._best_first(steps, chosen), like)
            if step == expected or self.steps() == steps:
                break
        if expected not in (None, step):
            reason = "cannot be used" if expected in steps else "is gone"
            self._warn(
                f"{self.folder}: the checkpoint of step {expected}, which validation chose, {reason}; step {step} is "
                "used instead, the best one that is left"
            )
        return step, tree

    def each(self, like: PyTree) -> Iterator[tuple[int, PyTree]]:
        """Return the steps whose checkpoints are whole, the latest one last, each with its tree."""
        for step in self.steps():
            tree = self._read_or_warn(step, like)
            if tree is not None:
                yield step, tree

    def _chosen(self, steps: Iterable[int]) -> Best | None:
        """Return which step is the best so far, by what checkpoints say of themselves; None: none says it."""
        found = []
        for step in steps:
            score = self._score_of(step)
            found += [] if score is None else [Best(score, step)]
            recorded = self._about_or_empty(step).get("best")
            found += [] if recorded is None else [Best(*recorded)]
        return max(found, default=None)

    def data_sum(self) -> int | None:
        """Return the checksum of what the run knew of its data as it saved; None: no checkpoint says it."""
        sums = (self._about_or_empty(step).get("data") for step in reversed(self.steps()))
        return next((found for found in sums if found is not None), None)

    def _expected(self, steps: list[int], chosen: int | None) -> int | None:
        best = self._chosen(steps)
        return chosen if best is None or chosen is not None else best.step

    def _best_first(self, steps: list[int], chosen: int | None) -> list[int]:
        scores = {step: score for step in steps if (score := self._score_of(step)) is not None}
        order = sorted(scores or steps, key=lambda step: (scores.get(step, 0.0), step), reverse=True)
        expected = self._expected(steps, chosen)
        return [expected, *order] if expected in steps else order

    def _to_keep(self) -> set[int]:
        steps = self.steps()
        every = [] if self._keep_every is None else [step for step in steps if step % self._keep_every == 0]
        validated = any(self._score_of(step) is not None for step in steps)
        return {*steps[-2:], *every, *(self._best_first(steps, None)[:1] if validated else [])}

    def _first_whole(self, order: Callable[[list[int]], Iterable[int]], like: PyTree) -> tuple[int, PyTree]:
        """Return the first whole checkpoint in an order, which is asked again when others were saved meanwhile."""
        while True:
            steps = self.steps()
            for step in order(steps):
                tree = self._read_or_warn(step, like)
                if tree is not None:
                    return step, tree
                if self.steps() != steps:
                    break  # the run is being trained
            else:
                raise CheckpointError(f"{self.folder}: no checkpoint that can be read; start the run anew")

    def _read_or_warn(self, step: int, like: PyTree) -> PyTree | None:
        try:
            return self._read(step, like)
        except Damaged as error:
            if (self.folder / str(step)).is_dir():
                self._warn(f"{self.folder}: checkpoint of step {step} is damaged ({error}); trying another one")
            return None

    def _read(self, step: int, like: PyTree) -> PyTree:
        about = self._about(step)
        saved, expected = about["fingerprint"], about["crc"]
        if saved != self.fingerprint:
            raise CheckpointError(
                f"{self.folder}: step {step} was saved with another configuration ({saved}) than config.yaml has now "
                f"({self.fingerprint}); undo the change there, or start a new run"
            )
        target = {
            name: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype)
            for name, leaf in zip(leaf_names(like), jax.tree.leaves(like), strict=True)
        }
        if set(target) != set(expected):
            missing = ", ".join(sorted(set(target) ^ set(expected)))
            raise CheckpointError(f"{self.folder}: step {step} was saved by another version (differs in {missing})")
        self._check_files(step, "state/")  # before orbax sees them: its readers leave pages of text behind
        try:
            with _silent(), self._still(self.folder / str(step) / "state") as place:
                restored = self._arrays.restore(place, args=ocp.args.StandardRestore(target))
            leaves = {name: np.asarray(leaf) for name, leaf in restored.items()}
        except Exception as error:  # orbax raises whatever its layers raise
            raise Damaged(_short(error)) from None
        for name, crc in expected.items():
            if array_sum(leaves[name]) != crc:
                raise Damaged(f"the checksum of {name} is wrong")
        return jax.tree.unflatten(jax.tree.structure(like), [leaves[name] for name in target])

    @contextmanager
    def _still(self, folder: Path) -> Iterator[Path]:
        """Give a folder that stays while it is read: where files may vanish, readers of orbax go on in threads."""
        if not self._growing:
            yield folder
            return
        with TemporaryDirectory() as place:
            yield Path(shutil.copytree(folder, Path(place) / "state", ignore=shutil.ignore_patterns("ocdbt.process_*")))

    def _about(self, step: int) -> dict[str, Any]:
        """Return what a checkpoint says of itself, once it is known to be what was saved."""
        if step not in self._abouts:
            try:
                about = json.loads((self.folder / str(step) / "about" / "metadata").read_text(encoding="utf-8"))
            except (OSError, ValueError, RecursionError) as error:  # a UnicodeDecodeError is a ValueError
                raise Damaged(f"about/metadata: {_short(error)}") from None
            if not isinstance(about, dict) or broken_seal(about):
                raise Damaged("about/metadata is not what was saved")
            if "check" not in about:  # from before each had a checksum in itself
                self._check_files(step, "about/")
            if not isinstance(about.get("fingerprint"), str) or not isinstance(about.get("crc"), dict):
                raise Damaged("about/metadata is not what was saved")
            self._abouts[step] = about
        return self._abouts[step]

    def _about_or_empty(self, step: int) -> dict[str, Any]:
        try:
            return self._about(step)
        except Damaged:
            return {}

    def _score_of(self, step: int) -> float | None:
        about = self._about_or_empty(step)
        if "score" in about or not about:
            return about.get("score")
        try:  # where scores lay before
            text = (self.folder / str(step) / "metrics" / "metrics").read_text(encoding="utf-8")
            self._check_files(step, "metrics/")
            score = float(json.loads(text)["score"])
        except (OSError, ValueError, TypeError, KeyError, RecursionError, Damaged) as error:
            if (self.folder / str(step)).is_dir():
                self._warn(f"{self.folder}: the score of step {step} cannot be read ({_short(error)})")
            return None
        return None if score == float("-inf") else score

    def _sums_of(self, step: int) -> Path:
        return self.folder / SUMS / f"{step}.json"

    def _write_sums(self, step: int) -> None:
        """Keep the checksum of each file; a kill just before leaves none, then those of the arrays must do."""
        path = self._sums_of(step)
        path.parent.mkdir(exist_ok=True)
        draft = path.parent / "new"
        draft.write_text(json.dumps(sealed({"files": file_sums(self.folder / str(step))})), encoding="utf-8")
        draft.replace(path)

    def _check_files(self, step: int, part: str) -> None:
        """Compare the files of a part of a checkpoint, as far as reading needs them, with their checksums."""
        try:
            tree = json.loads(self._sums_of(step).read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            return
        if not isinstance(tree, dict) or broken_seal(tree):
            return  # damaged itself
        files = tree.get("files", tree)
        expected = {name: crc for name, crc in files.items() if name.startswith(part) and NEEDED.fullmatch(name)}
        try:
            found = file_sums(self.folder / str(step), expected)
        except OSError as error:
            raise Damaged(_short(error)) from None
        for name, crc in expected.items():
            if found.get(name) != crc:
                raise Damaged(f"{name} {'is not what was saved' if name in found else 'is missing'}")

    def _remove(self, steps: set[int]) -> None:
        trash = self.folder / TRASH
        for step in steps:
            trash.mkdir(exist_ok=True)
            self._sums_of(step).unlink(missing_ok=True)
            (self.folder / str(step)).rename(trash / str(step))
            self._abouts.pop(step, None)
        self._clean_up()

    def _clean_up(self) -> None:
        """Remove what kills have left, and checksums of checkpoints that are gone."""
        shutil.rmtree(self.folder / TRASH, ignore_errors=True)
        for path in self.folder.glob(f"*{DRAFT}*"):
            shutil.rmtree(path, ignore_errors=True)
        kept = {f"{step}.json" for step in self.steps()}
        for path in (self.folder / SUMS).glob("*"):
            if path.name not in kept:
                path.unlink(missing_ok=True)

    def _warn(self, message: str) -> None:
        if message not in self._warned:
            self._warned.add(message)
            log.warning("%s", message)


@contextmanager
def _silent() -> Iterator[None]:
    """Keep the words of orbax on what is missing or damaged to itself; they are said in one line."""
    loggers = [logging.getLogger(name) for name in ("absl", "asyncio")]
    levels = [logger.level for logger in loggers]
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(max(level, logging.CRITICAL))
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def leaf_names(tree: PyTree) -> list[str]:
    """Return the names of the leaves of a tree, such as "params.head.w"."""
    return [jax.tree_util.keystr(path, simple=True, separator=".") for path, _ in jax.tree.leaves_with_path(tree)]


def _leaves(tree: PyTree) -> dict[str, np.ndarray]:
    """Return the leaves by name, copied: what is saved must not change under a donated buffer."""
    return {name: np.array(leaf) for name, leaf in zip(leaf_names(tree), jax.tree.leaves(tree), strict=True)}


def _short(error: Exception) -> str:
    if system := re.search(r"([^:\[\]]+) \[os_error_code", str(error)):  # of pages, what the system said
        return system[1].strip()
    text = getattr(error, "strerror", None) or str(error).strip().split("\n")[0]
    return (text or type(error).__name__)[:200]
