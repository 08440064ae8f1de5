"""The command line: reads words, calls a function, prints what it gives. No JAX until it is needed."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal

import tyro
from pydantic import ValidationError

from lstmjax.config import Config, ConfigError, UserError, explain, load_config, with_absolute_paths


@dataclass(frozen=True)
class Train:
    """Train a network on the data that a YAML file names, and say how good it is."""

    config_file: Annotated[Path | None, tyro.conf.Positional, tyro.conf.arg(name="CONFIG")] = None
    """What to train; every value in it can be overridden below."""
    run_dir: Path | None = None
    """Folder for everything that is written; new or empty. None: one under runs/."""
    resume: Path | None = None
    """Run folder to go on with, exactly as if it had not been stopped; no CONFIG then."""
    config: Annotated[Config, tyro.conf.arg(name="")] = Config(epochs=1)


@dataclass(frozen=True)
class Evaluate:
    """Say how good the best checkpoint of a run is."""

    run: tyro.conf.Positional[Path]
    """Run folder."""
    part: Literal["test", "validation", "train"] = "test"
    """Part of the run's own data."""
    data: Path | None = None
    """A file of labelled sequences instead, NPZ or CSV."""


@dataclass(frozen=True)
class Predict:
    """Print the class and the probabilities, or the numbers of a regression, of each sequence."""

    run: tyro.conf.Positional[Path]
    """Run folder."""
    input: tyro.conf.Positional[Path]
    """NPZ (x and, if ragged, lengths), NPY (x) or CSV (sequence, step, features), in the units of the training data."""
    out: Path | None = None
    """CSV or NPZ file to write to; None: CSV on the terminal."""


@dataclass(frozen=True)
class Shapes:
    """Explain every array of a network: its shape, and how many parameters it holds and why."""

    input: int
    """I, features of one step."""
    hidden: int
    """H, units."""
    output: int | None = None
    """O, outputs of the Dense head; None: no head."""
    time: int | None = None
    """T, time steps."""
    batch: int | None = None
    """B, sequences."""
    layers: int = 1
    """L, layers."""
    bidirectional: bool = False
    """Both directions."""
    projection: int | None = None
    """P, width of h if it is a projection."""
    bias: Literal["single", "double", "none"] = "single"
    """Biases of each gate."""


def _train(command: Train) -> None:
    from lstmjax.runs import default_folder
    from lstmjax.train import resume, train

    if command.resume is not None:
        result = resume(command.resume)
    else:
        assert command.config_file is not None
        run_dir = command.run_dir or default_folder(command.config_file.stem)
        result = train(with_absolute_paths(command.config), run_dir)
    metric = next(name for name in result.validation if name != "loss")
    print(f"run folder {result.run_dir}")
    print(f"parameters {result.parameters}")
    print(f"best step {result.step}, validation {metric} {result.validation[metric]:.4f}")
    print(result.last_line)


def _evaluate(command: Evaluate) -> None:
    from lstmjax.commands import evaluate_run

    for line in evaluate_run(command.run, command.part, command.data):
        print(line)


def _predict(command: Predict) -> None:
    from lstmjax.commands import predict_file

    for line in predict_file(command.run, command.input, command.out):
        print(line)


def _shapes(command: Shapes) -> None:
    from lstmjax.dimensions import shapes  # type: ignore[import-not-found, unused-ignore]

    print(shapes(**vars(command) | {"bias": None if command.bias == "none" else command.bias}))


COMMANDS: MappingProxyType[type, Callable[[Any], None]] = MappingProxyType(
    {Train: _train, Evaluate: _evaluate, Predict: _predict, Shapes: _shapes}
)
HELP = """usage: lstmjax COMMAND ...

Train LSTM networks on sequences, and use them.

commands:
  train CONFIG                    train; the last line says how good it is
  train --resume RUN              go on with a run that was stopped
  evaluate RUN                    say how good a run's network is
  predict RUN INPUT               print classes and probabilities
  shapes --input I --hidden H     explain every array of a network

options:
  --version                       print the version
  COMMAND --help                  all options of a command
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Gives the exit code: 0 done, 1 failed, 2 asked wrongly, 130 or 143 stopped by a signal."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        return _run(words)
    except UserError as error:
        print(f"lstmjax: {error}", file=sys.stderr)
        return 1 if type(error).__name__ == "Diverged" else 2
    except OSError as error:
        print(f"lstmjax: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("lstmjax: stopped", file=sys.stderr)
        return 128 + signal.SIGINT


def _run(words: list[str]) -> int:
    names = {kind.__name__.lower(): kind for kind in COMMANDS}
    if not words or words[0] in ("-h", "--help"):
        print(HELP, end="")
        return 0 if words else 2
    if words[0] == "--version":
        from lstmjax import __version__

        print(f"lstmjax {__version__}")
        return 0
    if words[0] not in names:
        from difflib import get_close_matches

        near = get_close_matches(words[0], names, 1)
        hint = f"did you mean {near[0]}?" if near else f"expected one of {', '.join(names)}"
        raise ConfigError(f"unknown command {words[0]!r}; {hint}")
    kind, rest = names[words[0]], words[1:]
    command = _parse_train(rest) if kind is Train else _parse(kind, words[0], rest)
    try:
        COMMANDS[kind](command)
    except Exception as error:
        if type(error).__name__ != "Interrupted":
            raise
        print(f"lstmjax: {error}", file=sys.stderr)
        return 128 + error.signum  # type: ignore[attr-defined]
    return 0


def _parse(kind: type, name: str, words: list[str], **options: Any) -> Any:
    try:
        return tyro.cli(kind, prog=f"lstmjax {name}", args=words, **options)
    except ValidationError as error:
        raise ConfigError(explain(error, "command line")) from None


def _parse_train(words: list[str]) -> Train:
    """Reads CONFIG or the resumed run's configuration first, since it is what the options override."""
    # Every option takes one value, so that the positional word can be found without knowing them.
    after_option = [before.startswith("--") and "=" not in before for before in ["", *words[:-1]]]
    files = [w for w, value in zip(words, after_option, strict=True) if not value and not w.startswith("-")]
    resumed = _value_of("--resume", words)
    if {"-h", "--help"} & set(words):
        return _parse(Train, "train", words, config=(tyro.conf.FlagConversionOff,))
    if (len(files) == 1) == (resumed is not None) or len(files) > 1:
        raise ConfigError("train takes a CONFIG file, such as configs/digits.yaml, or --resume RUN, one of the two")
    if resumed is not None:
        from lstmjax.runs import RunFolder

        config = RunFolder.open(resumed).config
    else:
        config = load_config(files[0])
    command = _parse(Train, "train", words, default=Train(config=config), config=(tyro.conf.FlagConversionOff,))
    if resumed is not None and (command.config != config or command.run_dir is not None):
        raise ConfigError("--resume goes on exactly as the run began; for other values start a new run")
    return command


def _value_of(option: str, words: list[str]) -> str | None:
    for n, word in enumerate(words):
        if word == option and n + 1 < len(words):
            return words[n + 1]
        if word.startswith(f"{option}="):
            return word.partition("=")[2]
    return None
