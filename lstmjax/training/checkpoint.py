"""Save checkpoints with checksums, and return only intact ones. Orbax writes and reads the arrays."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import jax
import numpy as np
import orbax.checkpoint as ocp

from lstmjax.errors import UserError
from lstmjax.sums import array_sum, broken_seal, sealed
from lstmjax.training.checkpoint_files import (
    SUMS,
    Damaged,
    check_files,
    short_reason,
    silent,
    sums_path,
    unchanging,
    write_sums,
)
from lstmjax.training.paths import leaf_names
from lstmjax.types import PyTree
from lstmjax.writing import named

log = logging.getLogger("lstmjax")
TRASH, DRAFT = ".trash", ".orbax-checkpoint-tmp"
TRIES = 10  # attempts to read the best checkpoint while training saves others


class CheckpointError(UserError):
    """There is no checkpoint that can be used."""


class Best(NamedTuple):
    """The best checkpoint on validation. Tuples compare as checkpoints do: by score, then the later step wins."""

    score: float
    step: int


class Checkpoints:
    """The checkpoints of a run: the last two, the best one, and optionally one every so many steps.

    Beside its arrays, each checkpoint has metadata in `about/metadata`, protected by a checksum: the fingerprint of
    the configuration, the checksums of the arrays and of data.json, its score, and the best step so far.
    A checkpoint is renamed before it is deleted, so that a killed process never leaves half of one behind.

    Args:
        folder: folder of the checkpoints.
        fingerprint: of the configuration; checkpoints of another configuration are refused.
        data: checksum of the run's data.json, saved with each checkpoint; None: unknown.
        keep_every: also keep the checkpoint of every step that this number divides; None: no others.
        read_only: change nothing, create nothing.
        growing: another process is saving to the folder and deleting old checkpoints.
        unused: do not touch the folder, as another process of the same training does.
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
        unused: bool = False,
    ):
        self.folder = Path(folder).absolute()
        self.fingerprint, self.data, self._keep_every, self._read_only = fingerprint, data, keep_every, read_only
        self._growing = growing
        self._abouts: dict[int, dict[str, Any]] = {}
        self._warned: set[str] = set()
        self._orbax: Any = None
        self._arrays: Any = None
        if unused:
            return
        if read_only and not self.folder.is_dir():
            raise CheckpointError(f"{self.folder}: no such folder, so there are no checkpoints to read")
        if not read_only:
            with named(self.folder):
                self.folder.mkdir(parents=True, exist_ok=True)
            self._clean_up()
        # Of several processes this one alone saves, so that orbax must not wait for the others.
        alone = ocp.options.MultiprocessingOptions(
            primary_host=jax.process_index(),
            active_processes=None if jax.process_count() == 1 else {jax.process_index()},
            barrier_sync_key_prefix="lstmjax",
        )
        many = ocp.CompositeOptions(multiprocessing_options=alone)
        self._orbax = ocp.Checkpointer(
            ocp.CompositeCheckpointHandler(composite_options=many), multiprocessing_options=alone
        )
        self._arrays = ocp.Checkpointer(
            ocp.StandardCheckpointHandler(multiprocessing_options=alone), multiprocessing_options=alone
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for checkpointer in (self._orbax, self._arrays):
            if checkpointer is not None:
                checkpointer.close()

    def steps(self) -> list[int]:
        """Return the steps that have a checkpoint, in ascending order."""
        if not self.folder.is_dir():
            return []
        return sorted(int(path.name) for path in self.folder.iterdir() if path.name.isdecimal() and path.is_dir())

    def save(self, step: int, tree: PyTree, score: float | None = None) -> None:
        """Save a tree of arrays, and delete the checkpoints that are no longer needed.

        Args:
            step: number of training steps done.
            tree: arrays to save.
            score: score on the validation part, higher is better; None: not validated.

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
            "data": self.data,
            "score": score,
            "best": best,
        }
        sums_path(self.folder, step).unlink(missing_ok=True)  # left by a damaged checkpoint of the same step
        try:
            self._orbax.save(
                self.folder / str(step),
                args=ocp.args.Composite(state=ocp.args.StandardSave(leaves), about=ocp.args.JsonSave(sealed(about))),
            )
            write_sums(self.folder, step)
        except Exception as error:  # on a full disk tensorstore raises ValueError, with pages of text
            self._clean_up()
            before = "earlier steps are intact; " if self.steps() else ""
            raise OSError(
                f"{self.folder}: step {step} could not be saved ({short_reason(error)}); {before}put it right, then "
                f"lstmjax train --resume {self.folder.parent}"
            ) from None
        self._remove(set(self.steps()) - self._to_keep())

    def latest(self, like: PyTree) -> tuple[int, PyTree]:
        """Return the latest intact checkpoint, as its step and its tree, and remove any later ones.

        Args:
            like: a tree with the expected structure, shapes and dtypes.
        """
        step, tree = self._first_intact(lambda steps: steps[::-1], like)
        if not self._read_only:
            self._remove({later for later in self.steps() if later > step})
        return step, tree

    def best(self, like: PyTree, chosen: int | None = None) -> tuple[int, PyTree]:
        """Return the intact checkpoint with the best score, as its step and its tree.

        Warns if this is not the step that validation chose.

        Args:
            like: a tree with the expected structure, shapes and dtypes.
            chosen: the step that the run's result names; None: take it from the checkpoints.
        """
        for _ in range(TRIES):
            steps = self.steps()
            expected = self._expected(steps, chosen)
            step, tree = self._first_intact(lambda steps: self._best_first(steps, chosen), like)
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
        """Yield each intact checkpoint, as its step and its tree, in ascending order of steps."""
        for step in self.steps():
            tree = self._read_or_warn(step, like)
            if tree is not None:
                yield step, tree

    def _chosen(self, steps: Iterable[int]) -> Best | None:
        """Return the best score and step that the metadata record; None: they record none.

        The best checkpoint itself may be gone, so the record of it in the others counts, too.
        """
        candidates = []
        for step in steps:
            score = self._score_of(step)
            if score is not None:
                candidates.append(Best(score, step))
            recorded = self._about_or_empty(step).get("best")
            if recorded is not None:
                candidates.append(Best(*recorded))
        return max(candidates, default=None)

    def data_sum(self) -> int | None:
        """Return the checksum of data.json that the latest checkpoints record; None: they record none."""
        for step in reversed(self.steps()):
            recorded: int | None = self._about_or_empty(step).get("data")
            if recorded is not None:
                return recorded
        return None

    def _expected(self, steps: list[int], chosen: int | None) -> int | None:
        """Return the step that should be the best: `chosen`, or else the one that the metadata record."""
        if chosen is not None:
            return chosen
        best = self._chosen(steps)
        return None if best is None else best.step

    def _best_first(self, steps: list[int], chosen: int | None) -> list[int]:
        """Return the steps to try: the expected one, then by score; without any scores, the latest first."""
        scores = {step: score for step in steps if (score := self._score_of(step)) is not None}
        order = sorted(scores or steps, key=lambda step: (scores.get(step, 0.0), step), reverse=True)
        expected = self._expected(steps, chosen)
        return [expected, *order] if expected in steps else order

    def _to_keep(self) -> set[int]:
        steps = self.steps()
        every = [] if self._keep_every is None else [step for step in steps if step % self._keep_every == 0]
        validated = any(self._score_of(step) is not None for step in steps)
        best = self._best_first(steps, None)[:1] if validated else []
        first = [step for step in steps if step == 0]  # where a run began that did not begin at random values
        return {*steps[-2:], *every, *best, *first}

    def _first_intact(self, order: Callable[[list[int]], Iterable[int]], like: PyTree) -> tuple[int, PyTree]:
        """Return the first intact checkpoint in the order given; start again if training saved or deleted some."""
        while True:
            steps = self.steps()
            for step in order(steps):
                tree = self._read_or_warn(step, like)
                if tree is not None:
                    return step, tree
                if self.steps() != steps:
                    break  # training goes on in another process
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
        check_files(self.folder, step, "state/")  # first, because orbax prints pages of text about damaged files
        try:
            with silent(), unchanging(self.folder / str(step) / "state", self._growing) as place:
                restored = self._arrays.restore(place, args=ocp.args.StandardRestore(target))
            leaves = {name: np.asarray(leaf) for name, leaf in restored.items()}
        except Exception as error:  # orbax raises whatever its layers raise
            raise Damaged(short_reason(error)) from None
        for name, crc in expected.items():
            if array_sum(leaves[name]) != crc:
                raise Damaged(f"the checksum of {name} is wrong")
        return jax.tree.unflatten(jax.tree.structure(like), [leaves[name] for name in target])

    def _about(self, step: int) -> dict[str, Any]:
        """Return the metadata of a checkpoint once its checksum is verified."""
        if step not in self._abouts:
            try:
                about = json.loads((self.folder / str(step) / "about" / "metadata").read_text(encoding="utf-8"))
            except (OSError, ValueError, RecursionError) as error:  # a UnicodeDecodeError is a ValueError
                raise Damaged(f"about/metadata: {short_reason(error)}") from None
            if not isinstance(about, dict) or broken_seal(about):
                raise Damaged("about/metadata is not what was saved")
            if "check" not in about:  # saved by an earlier version, without a checksum inside
                check_files(self.folder, step, "about/")
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
        try:  # where earlier versions saved the score
            text = (self.folder / str(step) / "metrics" / "metrics").read_text(encoding="utf-8")
            check_files(self.folder, step, "metrics/")
            score = float(json.loads(text)["score"])
        except (OSError, ValueError, TypeError, KeyError, RecursionError, Damaged) as error:
            if (self.folder / str(step)).is_dir():
                self._warn(f"{self.folder}: the score of step {step} cannot be read ({short_reason(error)})")
            return None
        return None if score == float("-inf") else score

    def forget_after(self, step: int) -> None:
        """Remove the checkpoints after a step, from which training continues."""
        self._remove({later for later in self.steps() if later > step})

    def _remove(self, steps: set[int]) -> None:
        trash = self.folder / TRASH
        for step in steps:
            trash.mkdir(exist_ok=True)
            sums_path(self.folder, step).unlink(missing_ok=True)
            (self.folder / str(step)).rename(trash / str(step))
            self._abouts.pop(step, None)
        self._clean_up()

    def _clean_up(self) -> None:
        """Remove what killed processes left behind, and the checksums of deleted checkpoints."""
        shutil.rmtree(self.folder / TRASH, ignore_errors=True)
        for path in self.folder.glob(f"*{DRAFT}*"):
            shutil.rmtree(path, ignore_errors=True)
        current = {f"{step}.json" for step in self.steps()}
        for path in (self.folder / SUMS).glob("*"):
            if path.name not in current:
                path.unlink(missing_ok=True)

    def _warn(self, message: str) -> None:
        if message not in self._warned:
            self._warned.add(message)
            log.warning("%s", message)


def _leaves(tree: PyTree) -> dict[str, np.ndarray]:
    """Return copies of the leaves by name: what is saved must not change when its buffer is donated."""
    return {name: np.array(leaf) for name, leaf in zip(leaf_names(tree), jax.tree.leaves(tree), strict=True)}
