"""Words of the command line as a command, one of the dataclasses of `commands`."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import tyro

from lstmjax.cli.commands import Train
from lstmjax.cli.sections import Options
from lstmjax.config import ConfigError, load_config, parse_config

OF_HOSTS = ("mesh", "coordinator", "processes", "process")
"""The options that a run can be continued with."""


def parse(kind: type, name: str, words: list[str]) -> Any:
    """Return the command that words describe.

    Args:
        kind: the dataclass of the command.
        name: the command as it is typed.
        words: what follows it.

    Raises:
        ConfigError: the words of train, or a value in its configuration.
        SystemExit: the words of another command, after tyro has printed why; or --help.
    """
    return _parse_train(words) if kind is Train else _parse(kind, name, words)


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
    if len(files) > 1:
        raise ConfigError(
            "train takes a CONFIG file or --resume RUN, one of the two, but "
            f"{', '.join(map(repr, files[:3]))} stand beside the options; an option has one value, so write "
            "several with commas: --metrics accuracy,macro_f1"
        )
    if (len(files) == 1) == (resumed is not None):
        raise ConfigError("train takes a CONFIG file, such as configs/digits.yaml, or --resume RUN: one of the two")
    if resumed is not None:
        return _parse_resumed(Path(resumed), words)
    values = load_config(files[0]).model_dump()
    for name, other in (("steps", "epochs"), ("epochs", "steps")):
        if _value_of(f"--{name}", words) is not None and _value_of(f"--{other}", words) is None:
            values[other] = None  # the option replaces the other one in the file
    words = [_as_in_python(word) for word in words]
    return _parse(Train, "train", words, default=Train(values=_with_values(Options(), values)), config=one_value)


def _parse_resumed(folder: Path, words: list[str]) -> Train:
    """Parse the arguments beside --resume, which are those of `OF_HOSTS` alone."""
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
        resume=folder,
        resumed_mesh=mesh,
        coordinator=values["coordinator"],
        processes=values["processes"],
        process=values["process"],
    )


def _with_values(options: Any, values: dict[str, Any]) -> Any:
    """Return options whose defaults are the values of a configuration."""
    replaced = {}
    for name, value in values.items():
        default = getattr(options, name)
        replaced[name] = _with_values(default, value) if dataclasses.is_dataclass(default) else value
    return dataclasses.replace(options, **replaced)


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
