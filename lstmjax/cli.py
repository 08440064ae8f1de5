"""The command line: parse the arguments, call a function, print its lines. JAX is imported only when needed."""

from __future__ import annotations

import dataclasses
import itertools
import logging
import os
import re
import signal
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from difflib import get_close_matches
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any

import tyro

from lstmjax.commands import (
    ARGUMENTS,
    Backtest,
    Bench,
    Convert,
    Data,
    Evaluate,
    Export,
    Forecast,
    Inspect,
    LrFind,
    Options,
    Predict,
    Reading,
    Runs,
    Sample,
    Shapes,
    Sweep,
    Train,
    Verify,
    options_of,
)
from lstmjax.config import ConfigError, load_config, parse_config
from lstmjax.errors import UserError, message_of
from lstmjax.launch import LOST, hosts_of, is_watched, watch
from lstmjax.signals import interruptible, quitting
from lstmjax.writing import WriteError, named, reason_of


def _with_values(options: Any, values: dict[str, Any]) -> Any:
    """Return options whose defaults are the values of a configuration."""
    replaced = {}
    for name, value in values.items():
        default = getattr(options, name)
        replaced[name] = _with_values(default, value) if dataclasses.is_dataclass(default) else value
    return dataclasses.replace(options, **replaced)


def _print(lines: Iterable[str], flush: bool = False) -> None:
    """Print lines as they come. The work of a command happens here, as its lines are generated."""
    with interruptible():
        for line in lines:
            with named("standard output"):
                print(line, flush=flush)


def _train(command: Train) -> int | None:
    hosts = hosts_of(command.coordinator, command.processes, command.process)
    if hosts is None:
        return _train_here(command)
    from lstmjax.training.hosts import join, leave

    join(hosts)
    return leave(_of_several(command))


def _of_several(command: Train) -> int:
    """Train with other processes, and return the exit code."""
    from lstmjax.training.hosts import is_first, is_loss, reason_of_loss

    try:
        with suppress_output(not is_first()):
            return _train_here(command) or 0
    except UserError as error:
        _say(f"{error}")
        return error.code
    except Exception as error:
        if type(error).__name__ == "Interrupted":
            if is_first():
                _say(f"{error}")
            return 128 + error.signum  # type: ignore[attr-defined]
        if is_loss(error):
            _say(f"another process of this training is lost ({reason_of_loss(error)})")
            return LOST
        sys.excepthook(type(error), error, error.__traceback__)
        return 1


@contextmanager
def suppress_output(quiet: bool) -> Iterator[None]:
    """Print nothing to standard output."""
    if not quiet:
        yield
        return
    with open(os.devnull, "w", encoding="utf-8") as nowhere, redirect_stdout(nowhere):
        yield


def _train_here(command: Train) -> int | None:
    from lstmjax.runs import SEEDS, RunFolder

    if command.resume is not None and (command.resume / SEEDS).is_file():
        from lstmjax.training.seeds import resume_seeds

        _print(resume_seeds(command.resume).lines())
        return None
    if command.resume is not None:
        if not is_watched():
            RunFolder.open(command.resume)  # reports faults of the folder before JAX is loaded
        from lstmjax.training import resume

        result = resume(command.resume, mesh=command.resumed_mesh)
    else:
        assert command.config_file is not None
        config = parse_config(dataclasses.asdict(command.values), "command line")
        if command.dry_run:
            from lstmjax.training.dry_run import dry_run

            _print(dry_run(config, command.seeds))
            return None
        if command.seeds is not None:
            from lstmjax.training.seeds import train_seeds

            _print(train_seeds(config, command.seeds, command.run_dir, name=command.config_file.stem).lines())
            return None
        from lstmjax.training import train

        result = train(config, command.run_dir, name=command.config_file.stem)
    metric = result.last_line.split()[1]
    _print(
        [
            f"run folder {result.run_dir}",
            f"parameters {result.parameters}",
            f"best step {result.step}, validation {metric} {result.validation[metric]:.4f}",
            result.last_line,
        ]
    )
    return None


def _runs(command: Runs) -> None:
    from lstmjax.training.compare import compare_runs

    _print(compare_runs(command.folder, command.metric, command.plot))


def _sweep(command: Sweep) -> None:
    from lstmjax.training.sweep import resume_sweep, sweep
    from lstmjax.training.sweep_space import load_space

    files = command.config_file, command.space
    if command.resume is not None:
        if any(file is not None for file in (*files, command.run_dir)):
            raise ConfigError("sweep --resume DIR goes on as it began; leave out CONFIG, SPACE and --run-dir")
        return _print(resume_sweep(command.resume, trials=command.trials), flush=True)
    if command.config_file is None or command.space is None:
        raise ConfigError("sweep takes CONFIG and SPACE, two YAML files, or --resume DIR")
    config, space = load_config(command.config_file), load_space(command.space)
    name = command.config_file.stem
    return _print(sweep(config, space, command.run_dir, name=name, trials=command.trials), flush=True)


def _lr_find(command: LrFind) -> None:
    config = load_config(command.config_file)
    from lstmjax.training.lr_find import lr_find

    _print(lr_find(config, command.low, command.high, command.steps, command.out))


def _forecast(command: Forecast) -> None:
    from lstmjax.forecast.config import load_forecast_config

    config = load_forecast_config(command.config_file)
    if command.seeds is not None:
        if not 1 <= command.seeds <= 100:
            raise ConfigError(f"--seeds is {command.seeds}, expected 1 to 100")
        config = config.model_copy(update={"seeds": command.seeds})
    from lstmjax.forecast.run_forecast import run_forecast

    _print(run_forecast(config, command.run_dir, name=command.config_file.stem), flush=True)


def _backtest(command: Backtest) -> None:
    if not (command.run / "config.yaml").is_file():
        raise ConfigError(f"{command.run}: has no config.yaml; lstmjax forecast CONFIG writes such a folder")
    for option, value in (("--origins", command.origins), ("--stride", command.stride)):
        if value < 1:
            raise ConfigError(f"{option} is {value}, expected at least 1")
    from lstmjax.forecast.run_forecast import run_backtest

    _print(run_backtest(command.run, command.origins, command.stride), flush=True)


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


def _sample(command: Sample) -> None:
    from lstmjax.runs import RunFolder

    RunFolder.open(command.run)
    from lstmjax.training import sample_text

    options = {name: value for name, value in vars(command).items() if name not in ("run", "prompt")}
    pieces = sample_text(command.run, command.prompt, **options)
    with interruptible():
        for piece in itertools.chain([command.prompt], pieces):
            with named("standard output"):
                print(piece, end="", flush=True)
        with named("standard output"):
            print()


def _export(command: Export) -> None:
    from lstmjax.runs import RunFolder

    RunFolder.open(command.run)
    from lstmjax.training import export_run

    _print(export_run(command.run, command.out, command.lengths))


def _inspect(command: Inspect) -> None:
    from lstmjax.forecast.config import is_forecast
    from lstmjax.runs import RunFolder

    if is_forecast(command.run):
        from lstmjax.report.inspect_forecast import inspect_forecast

        options = {"--input": command.input, "--compare": command.compare}
        for option in (name for name, value in options.items() if value is not None):
            raise ConfigError(f"{option} is for runs of lstmjax train; {command.run} is the folder of a forecast")
        _print(inspect_forecast(command.run, command.out, command.examples, open_page=command.open))
        return

    RunFolder.open(command.run)
    from lstmjax.report.inspect_run import inspect_run

    _print(
        inspect_run(
            command.run, command.input, command.out, command.examples, open_page=command.open, compare=command.compare
        )
    )


def _data(command: Data) -> None:
    config = None if command.config is None else load_config(command.config)
    from lstmjax.data.describe import describe

    _print(describe(command.file, config))


def _reading(command: Reading) -> dict[str, Any]:
    """Return the options of reading a weights file as keyword arguments."""
    names = [field.name for field in dataclasses.fields(Reading)]
    values = {ARGUMENTS.get(name, name): getattr(command, name) for name in names}
    return values | {"names": command.names or None}


def _convert(command: Convert) -> None:
    from lstmjax.convert.convert_file import convert_file

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
    unused = ("lengths", "outputs", *reading) if command.grid else ("against", "exhaustive", "cases", "seed", "dtypes")
    options = options_of(Verify)
    for field in dataclasses.fields(command):
        if field.name in unused and getattr(command, field.name) != field.default:
            owner = "WEIGHTS and --input" if command.grid else "--grid"
            raise ConfigError(f"{options[ARGUMENTS.get(field.name, field.name)]} is for {owner}; leave it out")
    from lstmjax.replica.verify_files import verify_files, verify_grid

    if command.grid:
        with interruptible():
            report = verify_grid(
                command.against, command.cases, command.seed, command.dtypes, exhaustive=command.exhaustive
            )
        print(report)
        return 0 if report.passed else 1
    assert command.weights is not None
    assert command.input is not None
    with interruptible():
        verdict = verify_files(command.weights, command.input, command.lengths, command.outputs, **_reading(command))
    print(verdict)
    return 0 if verdict else 1


def _bench(command: Bench) -> None:
    from lstmjax.bench.command import bench

    _print(bench(**vars(command)), flush=True)


COMMANDS: MappingProxyType[type, Callable[[Any], int | None]] = MappingProxyType(
    {
        Train: _train,
        Runs: _runs,
        Sweep: _sweep,
        LrFind: _lr_find,
        Data: _data,
        Forecast: _forecast,
        Backtest: _backtest,
        Evaluate: _evaluate,
        Predict: _predict,
        Sample: _sample,
        Export: _export,
        Inspect: _inspect,
        Convert: _convert,
        Shapes: _shapes,
        Verify: _verify,
        Bench: _bench,
    }
)
"""The function of each command; it returns an exit code, or None for 0."""

HELP = """usage: lstmjax COMMAND ...

Train LSTM networks on sequences, and use them.

commands:
  train CONFIG                    train a network; the last line shows its metric
  train --resume RUN              continue a run that was stopped
  train CONFIG --dry-run          print shapes, parameters, memory and steps, and train nothing
  train CONFIG --seeds N          train N networks, and print mean and spread
  runs [DIR]                      list and compare runs
  sweep CONFIG SPACE              search for the best values of a configuration
  lr-find CONFIG                  find a learning rate
  data describe FILE              say what is understood of a file of data, and what must be said
  evaluate RUN                    print the loss and the metric of a run's network
  predict RUN INPUT               print classes and probabilities
  sample RUN --prompt TEXT        write text by a network that has learned one
  export RUN OUT                  write a run's network to .onnx or .stablehlo
  inspect RUN                     write a page that shows what happens inside a run's network
  forecast CONFIG                 fit many time series, measure, forecast and draw
  backtest RUN                    measure the networks of a forecast at other origins
  convert IN OUT                  convert weights to another framework's file
  shapes --input I --hidden H     explain every array of a network
  verify WEIGHTS --input X.npy    tell whether a framework and lstmjax compute the same with these weights
  verify --grid                   the same for random networks and every installed framework
  bench                           time lstmjax and every installed peer

options:
  --version                       print the version
  COMMAND --help                  all options of a command
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code.

    0: done; 1: failed; 2: wrong arguments; 128 + N: stopped by signal N; 141: the reader of the output is gone.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a closed one is None; a terminal that cannot show ü or ∂ must not fail
            stream.reconfigure(errors="backslashreplace")
    for name in ("absl", "asyncio"):  # orbax logs every detail; what matters it also raises
        logging.getLogger(name).setLevel(logging.CRITICAL)
    sys.excepthook = _without_late_callbacks
    with quitting():
        with _plain_warnings():
            code = _guarded(words)
        try:
            if sys.stdout is not None:
                sys.stdout.flush()  # at exit Python would report a closed pipe as a failure
        except BrokenPipeError:
            return _drop_output(128 + 13)  # the exit code of SIGPIPE
        except OSError as error:
            if not code:
                _say(str(WriteError("standard output", reason_of(error))))
            return _drop_output(code or 1)
        return code


def _guarded(words: list[str]) -> int:
    """Run a command, and print an error that a user can put right as one line without a traceback."""
    try:
        return _run(words)
    except BrokenPipeError:
        return 128 + 13
    except UserError as error:
        kind = _kinds().get(words[0]) if words else None
        _say(message_of(error).for_command({} if kind is None else options_of(kind)))
        return error.code
    except OSError as error:
        if error.errno is not None and error.filename is None:  # errors of files have a name, so this is from print
            error = WriteError("standard output", reason_of(error))
        _say(f"{error}")
        return 1
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "RESOURCE_EXHAUSTED" not in str(error):  # JAX' word for no memory
            raise
        _say("there is not enough memory; give less data, smaller batches or a smaller model")
        return 1
    except KeyboardInterrupt:
        _say("stopped")
        return 128 + signal.SIGINT


def _kinds() -> dict[str, type]:
    """Return the commands by name: LrFind is lr-find."""
    return {re.sub(r"(?<=[a-z])(?=[A-Z])", "-", kind.__name__).lower(): kind for kind in COMMANDS}


@contextmanager
def _plain_warnings() -> Iterator[None]:
    """Print each warning as a line, without file and line number."""

    def show(message: Warning | str, *_: Any, **__: Any) -> None:
        _say(f"warning: {message}")

    with warnings.catch_warnings():
        warnings.showwarning = show
        yield


class _Log(logging.Handler):
    """Print what is logged as warnings are printed."""

    def emit(self, record: logging.LogRecord) -> None:
        _say(f"{record.levelname.lower()}: {record.getMessage()}")


def print_log() -> None:
    """Print what the library logs as lines of the command, whatever handlers other libraries set up."""
    log = logging.getLogger("lstmjax")
    log.addHandler(_Log(logging.WARNING))
    log.propagate = False


def _without_late_callbacks(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print an uncaught exception, except for those in threads of orbax after a failed save."""
    if not (kind is RuntimeError and str(error) == "Event loop is closed"):
        sys.__excepthook__(kind, error, trace)


def _say(message: str) -> None:
    with suppress(OSError, ValueError, AttributeError):  # the terminal may be gone, or the stream closed or None
        print(f"lstmjax: {message}", file=sys.stderr, flush=True)


def _drop_output(code: int) -> int:
    """Discard the buffer of stdout, which would fail again at exit, and return `code`."""
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
    name, *options = words
    kind = names[name]
    command = _parse_train(options) if kind is Train else _parse(kind, name, options)
    several = isinstance(command, Train) and hosts_of(command.coordinator, command.processes, command.process)
    if several and not is_watched():
        return watch(words)
    try:
        return COMMANDS[kind](command) or 0
    except Exception as error:
        if type(error).__name__ != "Interrupted":  # by name, as importing the class would load JAX
            raise
        _say(f"{error}")
        return 128 + error.signum  # type: ignore[attr-defined]


def _parse(kind: type, name: str, words: list[str], **options: Any) -> Any:
    return tyro.cli(kind, prog=f"lstmjax {name}", args=words, **options)


def _parse_train(words: list[str]) -> Train:
    """Parse the arguments of train; CONFIG is read first, as its values are the defaults of the options."""
    one_value = (tyro.conf.FlagConversionOff,)  # --model.bidirectional True, as in the file
    if {"-h", "--help"} & set(words):
        return _parse(Train, "train", words, config=one_value)
    words = ["--dry-run=True" if word == "--dry-run" else word for word in words]
    # Every other option takes exactly one value, so a word that is neither an option nor behind one is a file.
    files = []
    previous = ""
    for word in words:
        is_value = previous.startswith("--") and "=" not in previous
        if not word.startswith("--") and not is_value:
            files.append(word)
        previous = word
    resumed = _value_of("--resume", words)
    if len(files) > 1 or (len(files) == 1) == (resumed is not None):
        raise ConfigError("train takes a CONFIG file, such as configs/digits.yaml, or --resume RUN: one of the two")
    if resumed is not None:
        values = {name: _value_of(f"--{name}", words) for name in OF_HOSTS}
        count = 0
        for word in words:
            if word.partition("=")[0].removeprefix("--") in ("resume", *OF_HOSTS) and word.startswith("--"):
                count += 1 if "=" in word else 2
        if len(words) > count:
            raise ConfigError("--resume goes on exactly as the run began; for other values start a new run")
        mesh = values.pop("mesh")
        if mesh is not None:
            parse_config({"steps": 1, "mesh": mesh}, "command line")
        return Train(
            resume=Path(resumed),
            resumed_mesh=mesh,
            coordinator=values["coordinator"],
            processes=values["processes"],
            process=values["process"],
        )
    values = load_config(files[0]).model_dump()
    for name, other in (("steps", "epochs"), ("epochs", "steps")):
        if _value_of(f"--{name}", words) is not None and _value_of(f"--{other}", words) is None:
            values[other] = None  # the option replaces the other one in the file
    words = [_as_in_python(word) for word in words]
    return _parse(Train, "train", words, default=Train(values=_with_values(Options(), values)), config=one_value)


OF_HOSTS = ("mesh", "coordinator", "processes", "process")
"""The options that a run can be continued with."""


def _as_in_python(word: str) -> str:
    """Return a word with a value of true, false or null, as in YAML, spelt as tyro reads it."""
    spellings = {"true": "True", "false": "False", "null": "None"}
    option, equals, value = word.rpartition("=")
    return option + equals + spellings.get(value, value)


def _value_of(option: str, words: list[str]) -> str | None:
    for n, word in enumerate(words):
        if word == option and n + 1 < len(words):
            return words[n + 1]
        if word.startswith(f"{option}="):
            return word.partition("=")[2]
    return None
