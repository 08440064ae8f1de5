"""Write the numbers of a run where others show them: TensorBoard, or anything with the two methods of `Writer`."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

from lstmjax.config import Config, ConfigError, flat
from lstmjax.runs import RunFolder
from lstmjax.training.hooks import Training


class Writer(Protocol):
    """What numbers are written to. One for MLflow is two lines: `mlflow.log_metrics(values, step)`, `end_run()`."""

    def write(self, values: Mapping[str, float], step: int) -> None:
        """Write numbers by name, such as "validation/loss", of a step."""

    def close(self) -> None:
        """Write what is still to be written."""


class Writing:
    """A hook that writes the numbers of each evaluation to a writer.

    Args:
        writer: any object with the methods of `Writer`.
    """

    def __init__(self, writer: Writer):
        self.writer = writer

    def on_evaluate(self, training: Training) -> None:
        """Write the numbers of the evaluation."""
        self.writer.write(dict(numbers(training.record or {})), training.step)

    def on_step(self, training: Training) -> None:
        """Do nothing."""

    def on_end(self, training: Training) -> None:
        """Close the writer."""
        self.writer.close()


def numbers(record: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """Yield the finite numbers of a record with their names, except for its step.

    >>> dict(numbers({"step": 3, "train": {"loss": 0.5}, "gradient": {"noise": None}, "steps_per_second": 8.0}))
    {'train/loss': 0.5, 'steps_per_second': 8.0}
    """
    for key, value in flat(record, separator="/").items():
        if isinstance(value, int | float) and math.isfinite(value) and key != "step":
            yield key, float(value)


class TensorBoard:
    """Write event files of TensorBoard by tensorboardX; see `Writer`.

    Args:
        folder: folder of the event files.
        start: step from which training goes on; events after it are void.
    """

    def __init__(self, folder: Path, start: int = 0):
        # A suffix, since a file is called by the second in which it was begun, and another one would replace it.
        self._writer = _tensorboard()(str(folder), purge_step=start + 1 if start else None, filename_suffix=f".{start}")

    def write(self, values: Mapping[str, float], step: int) -> None:
        """Write numbers, and wait until they are in the file."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def close(self) -> None:
        """Close the file."""
        self._writer.close()


def _tensorboard() -> Callable[..., Any]:
    try:
        from tensorboardX import SummaryWriter
    except ImportError:
        raise ConfigError(
            "writers has tensorboard, which needs tensorboardX; pip install 'lstmjax[tensorboard]'"
        ) from None
    return SummaryWriter


WRITERS: MappingProxyType[str, Callable[[Path, int], Writer]] = MappingProxyType({"tensorboard": TensorBoard})
"""What makes a writer, by its name in `writers` of the configuration, of a folder and the step to go on from."""
NEEDS: MappingProxyType[str, Callable[[], Any]] = MappingProxyType({"tensorboard": _tensorboard})
"""What imports the package of a writer."""


def check_writers(config: Config) -> None:
    """Refuse a writer whose package is not installed, before anything is written.

    Raises:
        ConfigError: it is not; the message names the extra.
    """
    for name in config.writers:
        NEEDS[name]()


def writer_hooks(run: RunFolder, start: int) -> list[Writing]:
    """Return the hooks of the writers that the configuration of a run names; each has a folder in that of the run."""
    return [Writing(WRITERS[name](run.path / name, start)) for name in run.config.writers]
