"""The command line: reads words, calls a function, prints what it gives. No JAX until it is needed."""

from __future__ import annotations

import dataclasses
import logging
import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from difflib import get_close_matches
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any

import tyro

from lstmjax.commands import (
    ARGUMENTS,
    Bench,
    Convert,
    Evaluate,
    Export,
    Inspect,
    Options,
    Predict,
    Reading,
    Shapes,
    Train,
    Verify,
    options_of,
)
from lstmjax.config import ConfigError, load_config, parse_config
from lstmjax.errors import UserError, message_of
from lstmjax.signals import interruptible, quitting
from lstmjax.writing import WriteError, named, reason_of


def _with_values(options: Any, values: dict[str, Any]) -> Any:
    """Gives the options with the values of a configuration as their defaults."""
    known = {name: getattr(options, name) for name in values}
    return dataclasses.replace(
        options,
        **{n: _with_values(known[n], v) if dataclasses.is_dataclass(known[n]) else v for n, v in values.items()},
    )


def _print(lines: Iterable[str], flush: bool = False) -> None:
    """Print lines as they come: here the work of a command is done, after everything that it imports is loaded."""
    with interruptible():
        for line in lines:
            with named("standard output"):
                print(line, flush=flush)


def _train(command: Train) -> None:
    from lstmjax.runs import RunFolder

    if command.resume is not None:
        RunFolder.open(command.resume)  # what is wrong with it is said before JAX is loaded
        from lstmjax.training import resume

        result = resume(command.resume)
    else:
        assert command.config_file is not None
        config = parse_config(dataclasses.asdict(command.values), "command line")
        from lstmjax.training import train

        result = train(config, command.run_dir, name=command.config_file.stem)
    metric = next(name for name in result.validation if name != "loss")
    _print(
        [
            f"run folder {result.run_dir}",
            f"parameters {result.parameters}",
            f"best step {result.step}, validation {metric} {result.validation[metric]:.4f}",
            result.last_line,
        ]
    )


def _evaluate(command: Evaluate) -> None:
    from lstmjax.runs import RunFolder

    RunFolder.open(command.run)
    from lstmjax.training import evaluate_run

    _print(evaluate_run(command.run, command.part, command.data))


def _predict(command: Predict) -> None:
    from lstmjax.runs import RunFolder

    RunFolder.open(command.run)
    from lstmjax.training import predict_file

    _print(predict_file(command.run, command.input, command.out))


def _export(command: Export) -> None:
    from lstmjax.runs import RunFolder

    RunFolder.open(command.run)
    from lstmjax.training import export_run

    _print(export_run(command.run, command.out, command.lengths))


def _inspect(command: Inspect) -> None:
    from lstmjax.runs import RunFolder

    RunFolder.open(command.run)
    from lstmjax.report.commands import inspect_run

    _print(inspect_run(command.run, command.input, command.out, command.examples))


def _reading(command: Reading) -> dict[str, Any]:
    """Return what a command says of a weights file, as functions take it."""
    names = [field.name for field in dataclasses.fields(Reading)]
    values = {ARGUMENTS.get(name, name): getattr(command, name) for name in names}
    return values | {"names": command.names or None}


def _convert(command: Convert) -> None:
    from lstmjax.convert.commands import convert_file

    files: dict[str, Any] = {"target_form": command.to, "sum_biases": command.sum_biases}
    _print(convert_file(command.source, command.target, **files, **_reading(command)))


def _shapes(command: Shapes) -> None:
    from lstmjax.dimensions import shapes

    try:
        print(shapes(**vars(command) | {"bias": None if command.bias == "none" else command.bias}))
    except ValueError as error:
        raise ConfigError(message_of(error)) from None


def _verify(command: Verify) -> int:
    files = command.weights, command.input
    if command.grid == any(files) or (not command.grid and None in files):
        raise ConfigError("verify takes WEIGHTS and --input X.npy, or --grid: one of the two")
    reading = tuple(field.name for field in dataclasses.fields(Reading))
    unused = ("lengths", "outputs", *reading) if command.grid else ("against", "cases", "seed", "dtypes")
    options = options_of(Verify)
    for field in dataclasses.fields(command):
        if field.name in unused and getattr(command, field.name) != field.default:
            owner = "WEIGHTS and --input" if command.grid else "--grid"
            raise ConfigError(f"{options[ARGUMENTS.get(field.name, field.name)]} is for {owner}; leave it out")
    from lstmjax.replica.commands import verify_files, verify_grid

    if command.grid:
        with interruptible():
            report = verify_grid(command.against, command.cases, command.seed, command.dtypes)
        print(report)
        return 0 if report.passed else 1
    assert command.weights is not None
    assert command.input is not None
    with interruptible():
        verdict = verify_files(command.weights, command.input, command.lengths, command.outputs, **_reading(command))
    print(verdict)
    return 0 if verdict else 1


def _bench(command: Bench) -> None:
    from lstmjax.bench.commands import bench

    _print(bench(**vars(command)), flush=True)


COMMANDS: MappingProxyType[type, Callable[[Any], int | None]] = MappingProxyType(
    {
        Train: _train,
        Evaluate: _evaluate,
        Predict: _predict,
        Export: _export,
        Inspect: _inspect,
        Convert: _convert,
        Shapes: _shapes,
        Verify: _verify,
        Bench: _bench,
    }
)
"""What each command does, and its exit code if that is not 0."""

HELP = """usage: lstmjax COMMAND ...

Train LSTM networks on sequences, and use them.

commands:
  train CONFIG                    train; the last line says how good it is
  train --resume RUN              go on with a run that was stopped
  evaluate RUN                    say how good a run's network is
  predict RUN INPUT               print classes and probabilities
  export RUN OUT                  write a run's network to .onnx or .stablehlo
  inspect RUN                     write a page that shows what happens inside a run's network
  convert IN OUT                  carry weights to another framework's file
  shapes --input I --hidden H     explain every array of a network
  verify WEIGHTS --input X.npy    say whether a framework and we compute the same with these weights
  verify --grid                   the same for random networks and every framework that is installed
  bench                            time us beside every peer that is installed

options:
  --version                       print the version
  COMMAND --help                  all options of a command
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Return the exit code: 0 done, 1 failed, 2 asked wrongly, 128 + N stopped by signal N, 141 nobody reads."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # None if closed; a terminal without umlauts is no reason to fail
            stream.reconfigure(errors="backslashreplace")
    for chatty in ("absl", "asyncio"):  # orbax tells how it goes about; what matters is raised, too
        logging.getLogger(chatty).setLevel(logging.CRITICAL)
    sys.excepthook = _without_late_callbacks
    with quitting():
        with _plain_warnings():
            code = _guarded(words)
        try:
            if sys.stdout is not None:
                sys.stdout.flush()  # here, where a reader that went away can be told from a failure
        except BrokenPipeError:
            return _drop_output(128 + 13)  # as SIGPIPE would have it
        except OSError as error:
            if not code:
                _say(str(WriteError("standard output", reason_of(error))))
            return _drop_output(code or 1)
        return code


def _guarded(words: list[str]) -> int:
    """Run a command; what a user can put right is a line, and no traceback."""
    try:
        return _run(words)
    except BrokenPipeError:
        return 128 + 13
    except UserError as error:
        kind = _kinds().get(words[0]) if words else None
        _say(message_of(error).for_command({} if kind is None else options_of(kind)))
        return error.code
    except OSError as error:
        if error.errno is not None and error.filename is None:  # files are named where they are written: it is print
            error = WriteError("standard output", reason_of(error))
        _say(f"{error}")
        return 1
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "RESOURCE_EXHAUSTED" not in str(error):  # of JAX
            raise
        _say("there is not enough memory; give less data, smaller batches or a smaller model")
        return 1
    except KeyboardInterrupt:
        _say("stopped")
        return 128 + signal.SIGINT


def _kinds() -> dict[str, type]:
    return {kind.__name__.lower(): kind for kind in COMMANDS}


@contextmanager
def _plain_warnings() -> Iterator[None]:
    """Print warnings as a line each, without the place in our source."""

    def show(message: Warning | str, *place: Any, **more: Any) -> None:
        _say(f"warning: {message}")

    with warnings.catch_warnings():
        warnings.showwarning = show
        yield


def _without_late_callbacks(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print an exception that nobody caught, but not what threads of orbax print behind a save that has failed."""
    if not (kind is RuntimeError and str(error) == "Event loop is closed"):
        sys.__excepthook__(kind, error, trace)


def _say(message: str) -> None:
    with suppress(OSError, ValueError, AttributeError):  # the terminal may be gone, or the stream closed
        print(f"lstmjax: {message}", file=sys.stderr, flush=True)


def _drop_output(code: int) -> int:
    """Send what is in the buffer of stdout nowhere, as it would fail once more at exit."""
    with suppress(OSError, ValueError, AttributeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return code


def _run(words: list[str]) -> int:
    names = _kinds()
    if not words or words[0] in ("-h", "--help"):
        print(HELP, end="")
        return 0 if words else 2
    if words[0] == "--version":
        from lstmjax import __version__

        print(f"lstmjax {__version__}")
        return 0
    if words[0] not in names:
        near = get_close_matches(words[0], names, 1)
        hint = f"did you mean {near[0]}?" if near else f"expected one of {', '.join(names)}"
        raise ConfigError(f"unknown command {words[0]!r}; {hint}")
    kind, rest = names[words[0]], words[1:]
    command = _parse_train(rest) if kind is Train else _parse(kind, words[0], rest)
    try:
        return COMMANDS[kind](command) or 0
    except Exception as error:
        if type(error).__name__ != "Interrupted":
            raise
        _say(f"{error}")
        return 128 + error.signum  # type: ignore[attr-defined]


def _parse(kind: type, name: str, words: list[str], **options: Any) -> Any:
    return tyro.cli(kind, prog=f"lstmjax {name}", args=words, **options)


def _parse_train(words: list[str]) -> Train:
    """Reads CONFIG or the resumed run's configuration first, since it is what the options override."""
    one_value = (tyro.conf.FlagConversionOff,)  # --model.bidirectional True, as in the file
    if {"-h", "--help"} & set(words):
        return _parse(Train, "train", words, config=one_value)
    # As every option takes one value, the word that is none can be told without knowing them.
    before = ["", *words][: len(words)]
    files = [w for w, b in zip(words, before, strict=True) if w[:2] != "--" and (b[:2] != "--" or "=" in b)]
    resumed = _value_of("--resume", words)
    if len(files) > 1 or (len(files) == 1) == (resumed is not None):
        raise ConfigError("train takes a CONFIG file, such as configs/digits.yaml, or --resume RUN: one of the two")
    if resumed is not None:
        if len(words) > 2:
            raise ConfigError("--resume goes on exactly as the run began; for other values start a new run")
        return Train(resume=Path(resumed))
    values = load_config(files[0]).model_dump()
    for given, other in (("steps", "epochs"), ("epochs", "steps")):
        if _value_of(f"--{given}", words) is not None and _value_of(f"--{other}", words) is None:
            values[other] = None  # what is given here takes the place of the other in the file
    words = [_as_in_python(word) for word in words]
    return _parse(Train, "train", words, default=Train(values=_with_values(Options(), values)), config=one_value)


def _as_in_python(word: str) -> str:
    """Gives true, false and null of the file as tyro wants them."""
    option, equals, value = word.rpartition("=")
    return option + equals + {"true": "True", "false": "False", "null": "None"}.get(value, value)


def _value_of(option: str, words: list[str]) -> str | None:
    for n, word in enumerate(words):
        if word == option and n + 1 < len(words):
            return words[n + 1]
        if word.startswith(f"{option}="):
            return word.partition("=")[2]
    return None
