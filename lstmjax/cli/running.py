"""What each command runs. JAX is imported only when needed."""

from __future__ import annotations

import dataclasses
import itertools
import sys
from collections.abc import Callable
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

from lstmjax.cli.commands import (
    ARGUMENTS,
    Backtest,
    Bench,
    Convert,
    Data,
    Evaluate,
    Export,
    Forecast,
    Hydrology,
    Inspect,
    LrFind,
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
from lstmjax.cli.terminal import print_lines, say, suppress_output
from lstmjax.config import ConfigError, Section, load_config, parse_config
from lstmjax.errors import UserError, message_of
from lstmjax.launch import LOST, hosts_of, is_watched
from lstmjax.signals import interruptible
from lstmjax.writing import named

_Config = TypeVar("_Config", bound=Section)


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
        say(f"{error}")
        return error.code
    except Exception as error:
        if type(error).__name__ == "Interrupted":
            if is_first():
                say(f"{error}")
            return 128 + error.signum  # type: ignore[attr-defined]
        if is_loss(error):
            say(f"another process of this training is lost ({reason_of_loss(error)})")
            return LOST
        sys.excepthook(type(error), error, error.__traceback__)
        return 1


def _train_here(command: Train) -> int | None:
    from lstmjax.runs import SEEDS, RunFolder

    if command.resume is not None and (command.resume / SEEDS).is_file():
        from lstmjax.training.seeds import resume_seeds

        print_lines(resume_seeds(command.resume).lines())
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

            print_lines(dry_run(config, command.seeds))
            return None
        if command.seeds is not None:
            from lstmjax.training.seeds import train_seeds

            print_lines(train_seeds(config, command.seeds, command.run_dir, name=command.config_file.stem).lines())
            return None
        from lstmjax.training import train

        result = train(config, command.run_dir, name=command.config_file.stem)
    metric = result.last_line.split()[1]
    print_lines(
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

    print_lines(compare_runs(command.folder, command.metric, command.plot))


def _sweep(command: Sweep) -> None:
    from lstmjax.training.sweep import resume_sweep, sweep
    from lstmjax.training.sweep_space import load_space

    files = command.config_file, command.space
    if command.resume is not None:
        if any(file is not None for file in (*files, command.run_dir)):
            raise ConfigError("sweep --resume DIR goes on as it began; leave out CONFIG, SPACE and --run-dir")
        return print_lines(resume_sweep(command.resume, trials=command.trials), flush=True)
    if command.config_file is None or command.space is None:
        raise ConfigError("sweep takes CONFIG and SPACE, two YAML files, or --resume DIR")
    config, space = load_config(command.config_file), load_space(command.space)
    name = command.config_file.stem
    return print_lines(sweep(config, space, command.run_dir, name=name, trials=command.trials), flush=True)


def _lr_find(command: LrFind) -> None:
    config = load_config(command.config_file)
    from lstmjax.training.lr_find import lr_find

    print_lines(lr_find(config, command.low, command.high, command.steps, command.out))


def _with_seeds(config: _Config, seeds: int | None) -> _Config:
    """Return a configuration of several networks with the number that --seeds asks for; None: its own."""
    if seeds is None:
        return config
    if not 1 <= seeds <= 100:
        raise ConfigError(f"--seeds is {seeds}, expected 1 to 100")
    return config.model_copy(update={"seeds": seeds})


def _config_of(command: Forecast, load: Callable[[Path], _Config], name: str) -> _Config:
    """Return the configuration of CONFIG, or that of the folder which --resume continues."""
    if command.resume is None:
        if command.config_file is None:
            raise ConfigError(f"{name} takes CONFIG, a YAML file, or --resume DIR")
        return _with_seeds(load(command.config_file), command.seeds)
    if any(value is not None for value in (command.config_file, command.run_dir, command.seeds)):
        raise ConfigError(f"{name} --resume DIR goes on as it began; leave out CONFIG, --run-dir and --seeds")
    if not (command.resume / "config.yaml").is_file():
        raise ConfigError(f"{command.resume}: has no config.yaml; lstmjax {name} CONFIG writes such a folder")
    return load(command.resume / "config.yaml")


def _forecast(command: Forecast) -> None:
    from lstmjax.forecast.config import load_forecast_config

    config = _config_of(command, load_forecast_config, "forecast")
    from lstmjax.forecast.run_forecast import run_forecast

    name = "" if command.config_file is None else command.config_file.stem
    print_lines(run_forecast(config, command.run_dir, name=name, resume=command.resume), flush=True)


def _hydrology(command: Hydrology) -> None:
    from lstmjax.hydrology.config import load_hydrology_config

    config = _config_of(command, load_hydrology_config, "hydrology")
    from lstmjax.hydrology.run_hydrology import run_hydrology

    name = "" if command.config_file is None else command.config_file.stem
    print_lines(run_hydrology(config, command.run_dir, name=name, resume=command.resume), flush=True)


def _backtest(command: Backtest) -> None:
    if not (command.run / "config.yaml").is_file():
        raise ConfigError(f"{command.run}: has no config.yaml; lstmjax forecast CONFIG writes such a folder")
    for option, value in (("--origins", command.origins), ("--stride", command.stride)):
        if value < 1:
            raise ConfigError(f"{option} is {value}, expected at least 1")
    from lstmjax.forecast.run_forecast import run_backtest

    lines = run_backtest(command.run, command.origins, command.stride, refit=command.refit, out=command.out)
    print_lines(lines, flush=True)


def _evaluate(command: Evaluate) -> None:
    from lstmjax.runs import RunFolder

    RunFolder.open(command.run)
    from lstmjax.training import evaluate_run

    print_lines(evaluate_run(command.run, command.part, command.data))


def _predict(command: Predict) -> None:
    from lstmjax.runs import RunFolder

    RunFolder.open(command.run)
    from lstmjax.training import predict_file

    print_lines(predict_file(command.run, command.input, command.out))


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

    print_lines(export_run(command.run, command.out, command.lengths))


def _inspect(command: Inspect) -> None:
    from lstmjax.forecast.config import is_forecast
    from lstmjax.hydrology.config import is_hydrology
    from lstmjax.runs import RunFolder

    if is_forecast(command.run):
        from lstmjax.report.inspect_forecast import inspect_forecast

        options = {"--input": command.input, "--compare": command.compare}
        for option in (name for name, value in options.items() if value is not None):
            raise ConfigError(f"{option} is for runs of lstmjax train; {command.run} is the folder of a forecast")
        print_lines(inspect_forecast(command.run, command.out, command.examples, open_page=command.open))
        return

    if is_hydrology(command.run):
        from lstmjax.report.inspect_basins import inspect_basins

        options = {"--input": command.input, "--compare": command.compare}
        for option in (name for name, value in options.items() if value is not None):
            raise ConfigError(
                f"{option} is for runs of lstmjax train; {command.run} is the folder of lstmjax hydrology"
            )
        print_lines(inspect_basins(command.run, command.out, command.examples, open_page=command.open))
        return
    RunFolder.open(command.run)
    from lstmjax.report.inspect_run import inspect_run

    print_lines(
        inspect_run(
            command.run, command.input, command.out, command.examples, open_page=command.open, compare=command.compare
        )
    )


def _data(command: Data) -> None:
    config = None if command.config is None else load_config(command.config)
    from lstmjax.data.describe import describe

    print_lines(describe(command.file, config))


def _reading(command: Reading) -> dict[str, Any]:
    """Return the options of reading a weights file as keyword arguments."""
    names = [field.name for field in dataclasses.fields(Reading)]
    values = {ARGUMENTS.get(name, name): getattr(command, name) for name in names}
    return values | {"names": command.names or None}


def _convert(command: Convert) -> None:
    from lstmjax.convert.convert_file import convert_file

    files: dict[str, Any] = {"target_form": command.to, "sum_biases": command.sum_biases}
    print_lines(convert_file(command.source, command.target, **files, **_reading(command)))


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

    print_lines(bench(**vars(command)), flush=True)


COMMANDS: MappingProxyType[type, Callable[[Any], int | None]] = MappingProxyType(
    {
        Train: _train,
        Runs: _runs,
        Sweep: _sweep,
        LrFind: _lr_find,
        Data: _data,
        Forecast: _forecast,
        Backtest: _backtest,
        Hydrology: _hydrology,
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
